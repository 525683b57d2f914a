"""Slow, literal twins of nibench.metrics.truth: every way to break the ties, one after the other."""

from itertools import pairwise, permutations

import numpy as np


def tie_breaks(scores):
    """Every order of the neurons that the scores allow, best first."""
    for order in permutations(range(len(scores))):
        ranked = [scores[neuron] for neuron in order]
        if all(a >= b for a, b in pairwise(ranked)):
            yield np.array(order)


def average_precision(order, relevant):
    hits = np.cumsum(relevant[order])
    places = np.flatnonzero(relevant[order])
    return np.mean(hits[places] / (places + 1))


def ndcg(order, gains):
    discounts = 1 / np.log2(np.arange(2, len(gains) + 2))
    return gains[order] @ discounts / (np.sort(gains)[::-1] @ discounts)


def energy(order, gains):
    return np.cumsum(gains[order]) / gains.sum()


def cover_any(order, groups):
    found = [set(groups[order[: k + 1]]) for k in range(len(order))]
    every = set(groups[groups >= 0])
    return np.array([len(every & one) / len(every) for one in found])


def cover_all(order, groups):
    every = set(groups[groups >= 0])
    left = [set(groups[order[k + 1 :]]) for k in range(len(order))]
    return np.array([len(every - one) / len(every) for one in left])


def mean_over_tie_breaks(metric, scores, truth):
    return np.mean([metric(order, truth) for order in tie_breaks(scores)], axis=0)
