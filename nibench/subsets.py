"""The best few neurons for telling one class: exhaustive up to two, then swaps until none helps.

Judged by the share of the label's variance that a least-squares fit on the neurons explains, which comes from
correlations alone: no item is looked at twice.
"""

from itertools import combinations

import numpy as np


def explained(correlation: np.ndarray, target: np.ndarray, subset: np.ndarray, ridge: float) -> float:
    """Share of the label's variance that a ridge fit on a subset explains, less its penalty."""
    own = target[subset]
    block = correlation[np.ix_(subset, subset)] + ridge * np.eye(len(subset))
    return float(own @ np.linalg.solve(block, own))


def best_subsets(
    correlation: np.ndarray, target: np.ndarray, largest: int, ridge: float
) -> tuple[list[np.ndarray], np.ndarray]:
    """The best subset of each size 1..largest, and the share of variance it explains.

    Parameters
    ----------
    correlation : float64 (F, F)
        Between the candidate neurons; a constant one has zeros, also on the diagonal.
    target : float64 (F,)
        Correlation of each with the label.
    largest : int
        At most F sizes are made.
    ridge : float
        Added to the diagonal; above 0, so that copies do not matter.

    Returns
    -------
    subsets : list of int (k,), ids ascending
        Sizes 1 and 2 are the best there are. A larger one starts from the one before and the neuron that adds
        most, or from what swaps made of it: no exchange of one neuron improves it.
    shares : float64 (largest,)
    """
    n = len(target)
    subsets: list[np.ndarray] = []
    shares: list[float] = []
    for size in range(1, min(largest, n) + 1):
        if size <= 2:
            tried = [np.array(pair) for pair in combinations(range(n), size)]
            values = [explained(correlation, target, subset, ridge) for subset in tried]
            best = int(np.argmax(values))
            subset, value = tried[best], values[best]
        else:
            subset, value = _improve(correlation, target, subsets[-1], None, ridge)
            while True:
                swaps = [_improve(correlation, target, subset, place, ridge) for place in range(size)]
                swapped, reached = max(swaps, key=lambda swap: swap[1])
                if reached <= value * (1 + 1e-12):
                    break
                subset, value = swapped, reached
        subsets.append(np.sort(subset))
        shares.append(value)
    return subsets, np.array(shares)


def _improve(
    correlation: np.ndarray, target: np.ndarray, subset: np.ndarray, place: int | None, ridge: float
) -> tuple[np.ndarray, float]:
    """The best subset that adds one neuron, in the stead of the one at ``place`` if that is given."""
    kept = subset if place is None else np.delete(subset, place)
    block = correlation[np.ix_(kept, kept)] + ridge * np.eye(len(kept))
    solved = np.linalg.solve(block, np.column_stack([correlation[kept], target[kept]]))
    across, fit = solved[:, :-1], solved[:, -1]  # (k, F), (k,)
    left = np.diag(correlation) + ridge - (correlation[kept] * across).sum(axis=0)
    gain = np.square(target - correlation[kept].T @ fit) / np.maximum(left, ridge)
    gain[kept] = -np.inf
    added = int(np.argmax(gain))
    return np.append(kept, added), float(target[kept] @ fit + gain[added])
