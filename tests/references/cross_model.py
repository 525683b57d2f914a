"""Slow, literal versions of the cross-model scores: one neuron at a time, by what numpy and scikit-learn offer."""

import numpy as np


def residuals(x, covariates):
    """Each column less its least-squares fit on an intercept and the covariates."""
    design = np.column_stack([np.ones(len(x)), covariates])
    x = x.astype(np.float64)
    return x - design @ np.linalg.lstsq(design, x, rcond=None)[0]


def best_correlations(x, other):
    """(D,): the largest |Pearson correlation| of each column of x with any column of the other."""
    return np.array(
        [
            max(abs(np.corrcoef(x[:, j], other[:, i])[0, 1]) for i in range(other.shape[1]))
            for j in range(x.shape[1])
        ]
    )


def r_squared(x, other):
    """(D,): the share of each column's variance that least squares on all columns of the other explains."""
    design = np.column_stack([np.ones(len(x)), other])
    found = []
    for column in x.T:
        fit = design @ np.linalg.lstsq(design, column, rcond=None)[0]
        found.append(1 - np.square(column - fit).sum() / np.square(column - column.mean()).sum())
    return np.array(found)


def components(x, variance):
    """(N, K): scores on the fewest principal components that hold this share of the variance."""
    left, sizes, _ = np.linalg.svd(x - x.mean(axis=0), full_matrices=False)
    held = np.cumsum(sizes**2) / np.sum(sizes**2)
    n = next(k + 1 for k, share in enumerate(held) if share >= variance)
    return left[:, :n] * sizes[:n]
