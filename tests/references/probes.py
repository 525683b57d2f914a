"""Slow, literal twins of nibench.probes: one textbook fit per k."""

import numpy as np
from scipy.stats import multivariate_normal
from sklearn.covariance import ledoit_wolf


def standardize(fit: np.ndarray, held_out: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    fit, held_out = fit.astype(np.float64), held_out.astype(np.float64)
    spread = fit.std(axis=0)
    spread[spread == 0] = np.inf
    return (fit - fit.mean(axis=0)) / spread, (held_out - fit.mean(axis=0)) / spread


def lda_log_joint(fit, labels, held_out, order, ks):
    """(K, M, C): pooled residuals, Ledoit-Wolf on all neurons, then cut to the first k."""
    x, z = standardize(fit, held_out)
    n_classes = labels.max() + 1
    means = np.stack([x[labels == c].mean(axis=0) for c in range(n_classes)])
    covariance, _ = ledoit_wolf(x - means[labels], assume_centered=True)
    return _densities(z, means, [covariance] * n_classes, labels, order, ks)


def qda_log_joint(fit, labels, held_out, order, ks):
    """(K, M, C): Ledoit-Wolf of each class on all neurons, then cut to the first k."""
    x, z = standardize(fit, held_out)
    n_classes = labels.max() + 1
    means = np.stack([x[labels == c].mean(axis=0) for c in range(n_classes)])
    covariances = [ledoit_wolf(x[labels == c] - means[c], assume_centered=True)[0] for c in range(n_classes)]
    return _densities(z, means, covariances, labels, order, ks)


def _densities(z, means, covariances, labels, order, ks):
    rows = []
    for k in ks:
        top = order[:k]
        columns = [
            multivariate_normal(means[c][top], covariances[c][np.ix_(top, top)]).logpdf(z[:, top])
            + np.log(np.mean(labels == c))
            for c in range(len(means))
        ]
        rows.append(np.stack(columns, axis=-1))
    return np.stack(rows)
