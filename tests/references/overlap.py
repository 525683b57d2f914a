"""Slow, literal twins of nibench.metrics.overlap: sets, depth by depth."""

import numpy as np

from tests.references.truth_metrics import tie_breaks


def shared(order_a, order_b, k):
    return len(set(order_a[:k].tolist()) & set(order_b[:k].tolist()))


def rbo(order_a, order_b, p):
    """Webber et al. 2010, equation 32: extrapolated from the last depth, where two full lists agree."""
    depth = len(order_a)
    agreement = [shared(order_a, order_b, d) / d for d in range(1, depth + 1)]
    head = sum(a * p**d for d, a in enumerate(agreement, start=1))
    return (1 - p) / p * head + agreement[-1] * p**depth


def mean_over_tie_breaks(measure, scores_a, scores_b, *arguments):
    values = [measure(a, b, *arguments) for a in tie_breaks(scores_a) for b in tie_breaks(scores_b)]
    return np.mean(values)
