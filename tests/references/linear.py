"""Slow and literal: the linear probe's objective, and its minimum by plain proximal gradient descent."""

import numpy as np


def objective(z, labels, weights, bias, l1, l2):
    """Mean cross-entropy plus penalties, item by item, as written on paper."""
    total = 0.0
    for item, label in zip(z, labels, strict=True):
        logits = weights @ item + bias
        total += np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[label]
    return total / len(z) + l1 * np.abs(weights).sum() + l2 * np.square(weights).sum()


def solve(z, labels, n_classes, l1, l2, steps=5_000):
    """Proximal gradient descent with a fixed step from zero; no momentum, no working set, all C rows free."""
    hot = np.eye(n_classes)[labels]
    step = 1 / (np.linalg.eigvalsh(z.T @ z / len(z)).max() / 2 + 0.5)
    weights, bias = np.zeros((n_classes, z.shape[1])), np.zeros(n_classes)
    for _ in range(steps):
        logits = z @ weights.T + bias
        p = np.exp(logits - logits.max(axis=1, keepdims=True))
        residual = (p / p.sum(axis=1, keepdims=True) - hot) / len(z)
        moved = weights - step * (residual.T @ z)
        weights = np.sign(moved) * np.maximum(np.abs(moved) - step * l1, 0) / (1 + 2 * step * l2)
        bias = bias - step * residual.sum(axis=0)
    return weights, bias


def mass_ahead(weights):
    """For every class and neuron: the absolute weight on strictly heavier neurons, as a share of all."""
    size = np.abs(weights)
    ahead = np.ones_like(size)
    for row, out in zip(size, ahead, strict=True):
        for j, own in enumerate(row):
            if own > 0:
                out[j] = row[row > own].sum() / row.sum()
    return ahead
