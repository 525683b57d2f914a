"""Slow and literal: a softmax probe trained by Adam, gradients and moments written out."""

import numpy as np


def train(x, labels, start, bias, *, l1, l2, rate, batch, epochs):
    """Kingma & Ba 2015, algorithm 1, on the mean cross-entropy plus ``l1 |W|_1 + l2 |W|_F``."""
    values = [start.copy(), bias.copy()]
    first = [np.zeros_like(value) for value in values]
    second = [np.zeros_like(value) for value in values]
    step = 0
    for _ in range(epochs):
        for begin in range(0, len(x), batch):
            rows, own = x[begin : begin + batch], labels[begin : begin + batch]
            logits = rows @ values[0].T + values[1]
            p = np.exp(logits - logits.max(axis=1, keepdims=True))
            p /= p.sum(axis=1, keepdims=True)
            residual = (p - np.eye(len(start))[own]) / len(rows)
            penalty = l1 * np.sign(values[0]) + l2 * values[0] / np.sqrt(np.square(values[0]).sum())
            step += 1
            for i, gradient in enumerate((residual.T @ rows + penalty, residual.sum(axis=0))):
                first[i] = 0.9 * first[i] + 0.1 * gradient
                second[i] = 0.999 * second[i] + 0.001 * gradient**2
                mean, square = first[i] / (1 - 0.9**step), second[i] / (1 - 0.999**step)
                values[i] = values[i] - rate * mean / (np.sqrt(square) + 1e-8)
    return values
