"""Slow and literal: AUC pair by pair, the distance of two step functions, information cell by cell."""

from math import log2

import numpy as np


def roc_auc(scores, relevant):
    """Share of the pairs of an item of the class and one outside it in which the first is higher; ties half."""
    wins = [
        1.0 if one > other else 0.5 if one == other else 0.0
        for one in scores[relevant]
        for other in scores[~relevant]
    ]
    return sum(wins) / len(wins)


def smirnov(scores, relevant):
    """The largest gap between the shares of the class and of the rest that lie at or below a value."""
    return max(abs((scores[relevant] <= v).mean() - (scores[~relevant] <= v).mean()) for v in scores)


def information(scores, labels, n_bins):
    """Plug-in information in bits of label and bin, less its first-order bias.

    An item's bin is decided by the middle of the ranks that items of its value take.
    """
    n = len(scores)
    middles = [((scores < v).sum() + (scores <= v).sum()) / 2 for v in scores]
    bins = np.array([int(middle * n_bins // n) for middle in middles])
    total = 0.0
    for b in set(bins.tolist()):
        for c in set(labels.tolist()):
            joint = ((bins == b) & (labels == c)).mean()
            if joint:
                total += joint * log2(joint / ((bins == b).mean() * (labels == c).mean()))
    degrees = (len(set(bins.tolist())) - 1) * (len(set(labels.tolist())) - 1)
    return total - degrees / (2 * n) / np.log(2)
