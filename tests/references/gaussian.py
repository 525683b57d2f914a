"""Slow and literal: fit a Gaussian per class to every candidate set, pick the best, start over."""

import numpy as np
from scipy.special import logsumexp
from scipy.stats import multivariate_normal


def covariances(x, labels, shrinkage):
    """Shrunk class covariances, (C, D, D); without shrinkage the maximum a posteriori ones of Hennigen et al."""
    scatters, counts = [], []
    for label in np.unique(labels):
        rows = x[labels == label] - x[labels == label].mean(axis=0)
        scatters.append(rows.T @ rows)
        counts.append(len(rows))
    if shrinkage is None:
        prior = [np.diag(np.diag(s) / n) for s, n in zip(scatters, counts, strict=True)]
        dof = 2 * x.shape[1] + 4
        return np.stack([(p + s) / (n + dof) for p, s, n in zip(prior, scatters, counts, strict=True)])
    pooled = sum(scatters) / sum(counts)
    return np.stack(
        [(s + shrinkage * pooled) / (n + shrinkage) for s, n in zip(scatters, counts, strict=True)]
    )


def information(x, labels, folds, neurons, shrinkage):
    """Held-out bits about the class in a set of neurons, over all folds."""
    total, n = 0.0, 0
    for fit, held_out in folds:
        classes = np.unique(labels[fit])
        sigma = covariances(x[fit], labels[fit], shrinkage)
        prior = np.array([(labels[fit] == c).mean() for c in classes])
        joint = np.stack(
            [
                multivariate_normal(
                    x[fit][labels[fit] == c][:, neurons].mean(axis=0), sigma[i][np.ix_(neurons, neurons)]
                ).logpdf(x[held_out][:, neurons])
                + np.log(prior[i])
                for i, c in enumerate(classes)
            ]
        ).reshape(len(classes), -1)
        own = np.searchsorted(classes, labels[held_out])
        total += (joint[own, np.arange(len(own))] - logsumexp(joint, axis=0) - np.log(prior[own])).sum()
        n += len(own)
    return total / n / np.log(2)


def greedy(x, labels, folds, steps, shrinkage):
    """The picks and the information after each."""
    picked, path = [], []
    for _ in range(steps):
        rest = [j for j in range(x.shape[1]) if j not in picked]
        values = [information(x, labels, folds, [*picked, j], shrinkage) for j in rest]
        picked.append(rest[int(np.argmax(values))])
        path.append(max(values))
    return picked, path
