"""Order statistics: one sort of the activations gives average precision and IoU for every class.

Sorting costs O(N log N) per neuron. After it, one stable sort of the labels in sorted order lists the
positions of each class's items, and a class of n items costs O(n) per neuron instead of another sort.
Ties are exact: a position stands for the whole group of equal values it lies in.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

COLUMN_BLOCK = 1 << 21  # entries sorted at a time


@dataclass(frozen=True, eq=False)
class SortedColumns:
    """A block of neurons with their items in ascending order of activation.

    Attributes
    ----------
    columns : slice
        Which neurons: B of the D columns.
    order : int32 (B, N)
        Items of each neuron, lowest activation first.
    ties : bool (B, N) or None
        True where a position has the value of the position before it; None if no two values are equal.
    """

    columns: slice
    order: np.ndarray
    ties: np.ndarray | None

    def groups(self) -> tuple[np.ndarray, np.ndarray]:
        """int32 (B, N) and (B, N): first and last position of the tie group at each position."""
        n_neurons, n_items = self.order.shape
        positions = np.broadcast_to(np.arange(n_items, dtype=np.int32), (n_neurons, n_items))
        if self.ties is None:
            return positions, positions
        first = np.maximum.accumulate(np.where(self.ties, 0, positions), axis=1)
        ends_here = np.ones_like(self.ties)
        ends_here[:, :-1] = ~self.ties[:, 1:]
        backwards = np.where(ends_here, positions, n_items)[:, ::-1]
        return first, np.minimum.accumulate(backwards, axis=1)[:, ::-1]

    def positions(self, labels: np.ndarray, n_classes: int) -> Iterator[np.ndarray]:
        """For each class in turn, the (B, n_c) ascending positions of its items."""
        narrow = np.min_scalar_type(max(n_classes - 1, 0))  # small integers: numpy sorts them by radix
        by_class = np.argsort(labels.astype(narrow)[self.order], axis=1, kind="stable")
        ends = np.cumsum(np.bincount(labels, minlength=n_classes))
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            yield by_class[:, start:end]


def sort_columns(activations: np.ndarray) -> Iterator[SortedColumns]:
    """Sort every column of (N, D) activations, a block of columns at a time."""
    n_items, n_neurons = activations.shape
    width = max(1, COLUMN_BLOCK // max(1, n_items))
    for start in range(0, n_neurons, width):
        columns = slice(start, min(start + width, n_neurons))
        values = np.ascontiguousarray(activations[:, columns].T)  # (B, N)
        order = np.argsort(values, axis=1)
        ascending = np.take_along_axis(values, order, axis=1)
        ties = np.zeros(order.shape, dtype=bool)
        np.equal(ascending[:, 1:], ascending[:, :-1], out=ties[:, 1:])
        yield SortedColumns(columns, order.astype(np.int32), ties if ties.any() else None)


def average_precision(
    block: SortedColumns, labels: np.ndarray, n_classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Average precision of each neuron, and of each negated neuron, as a detector of each class.

    The threshold definition ``sum_k (R_k - R_{k-1}) P_k``: tied items enter together.

    Returns
    -------
    high, low : float64 (C, B)
        In (0, 1]. ``high`` takes large activations for the class, ``low`` small ones. A constant neuron
        gets the class's frequency in both; a class without items gets 0.
    """
    n_items = block.order.shape[1]
    first, last = block.groups()
    high, low = np.zeros((2, n_classes, len(block.order)))
    for label, at in enumerate(block.positions(labels, n_classes)):
        n = at.shape[1]
        if n == 0:
            continue
        from_here = np.take_along_axis(first, at, axis=1)  # (B, n): where each item's tie group starts
        up_to_here = np.take_along_axis(last, at, axis=1)
        before, through = _peers(from_here), _peers(up_to_here, backwards=True)
        high[label] = ((n - before) / (n_items - from_here)).mean(axis=1)
        low[label] = ((through + 1) / (up_to_here + 1)).mean(axis=1)
    return high, low


def _peers(group: np.ndarray, *, backwards: bool = False) -> np.ndarray:
    """Index of the first (backwards: last) item of the class in each tie group: (B, n) -> (B, n) or (n,)."""
    index = np.arange(group.shape[1])
    same = group[:, 1:] == group[:, :-1]
    if not same.any():
        return index
    edge = np.ones(group.shape, dtype=bool)
    if backwards:
        edge[:, :-1] = ~same
        return np.minimum.accumulate(np.where(edge, index, group.shape[1])[:, ::-1], axis=1)[:, ::-1]
    edge[:, 1:] = ~same
    return np.maximum.accumulate(np.where(edge, index, 0), axis=1)


def matched_iou(block: SortedColumns, labels: np.ndarray, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Intersection over union of each class with each neuron's most active items, minus chance.

    A neuron is on for a class of n items where its activation is strictly above the (n+1)-th largest, so
    that without ties exactly n items are on. Chance is the expected IoU of a random mask of that size,
    ``p q / (p + q - p q)`` for shares p of the class and q of the mask.

    Returns
    -------
    high, low : float64 (C, B)
        In (-1, 1), 0 at chance. ``high`` takes the largest activations, ``low`` the smallest. 0 where
        nothing is on (constant neurons) or the class has no items or all of them.
    """
    n_items = block.order.shape[1]
    first, last = block.groups()
    high, low = np.zeros((2, n_classes, len(block.order)))
    for label, at in enumerate(block.positions(labels, n_classes)):
        n = at.shape[1]
        if n in (0, n_items):
            continue
        above = last[:, n_items - n - 1 : n_items - n]  # (B, 1): the last position that is off
        below = first[:, n : n + 1]  # (B, 1): the first position that is off, counting from the bottom
        high[label] = _excess_iou((at > above).sum(axis=1), n_items - 1 - above[:, 0], n, n_items)
        low[label] = _excess_iou((at < below).sum(axis=1), below[:, 0], n, n_items)
    return high, low


def _excess_iou(hits: np.ndarray, n_on: np.ndarray, n: int, n_items: int) -> np.ndarray:
    """IoU minus chance from (B,) counts of items that are on and in the class, and on."""
    p, q = n / n_items, n_on / n_items
    return hits / (n_on + n - hits) - p * q / (p + q - p * q)


def auc(values: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Area under the ROC curve of each column of `values` (N, D); ties count half.

    Two classes: for label 1 against 0. More: 1/2 plus the mean over classes of the distance to 1/2 of one
    class against the rest, so at least 1/2.
    """
    classes = np.unique(labels)
    ranks = rankdata(values, axis=0)
    one_against_rest = []
    for one in classes:
        positive = labels == one
        n_positive, n_negative = int(positive.sum()), int((~positive).sum())
        wins = ranks[positive].sum(0) - n_positive * (n_positive + 1) / 2
        one_against_rest.append(wins / (n_positive * n_negative))
    if len(classes) == 2:
        return one_against_rest[1]
    return 0.5 + np.abs(np.array(one_against_rest) - 0.5).mean(0)
