"""Order statistics: one sort of the activations gives AP, AUC, KS, information and IoU for every class.

Sorting costs O(N log N) per neuron. After it, one stable sort of the labels in sorted order lists the
positions of each class's items, and all classes together cost O(N) per neuron. Ties are exact: a position
stands for the whole group of equal values it lies in.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import xlogy
from scipy.stats import rankdata

COLUMN_BLOCK = 1 << 20  # entries sorted at a time
NARROWEST = 32  # columns at a time, however many items: a row of a file on disk is read a stretch at a time


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

    def by_class(self, labels: np.ndarray, n_classes: int) -> Iterator["ClassPositions"]:
        """For each class in turn, where its items stand."""
        narrow = np.min_scalar_type(max(n_classes - 1, 0))  # small integers: numpy sorts them by radix
        by_class = np.argsort(labels.astype(narrow)[self.order], axis=1, kind="stable")
        ends = np.cumsum(np.bincount(labels, minlength=n_classes))
        first, last = (None, None) if self.ties is None else self.groups()
        rows = np.arange(len(self.order))[:, None] * self.order.shape[1]
        for start, end in zip([0, *ends[:-1]], ends, strict=True):
            at = by_class[:, start:end]
            if first is None or last is None:
                yield ClassPositions(self.order.shape[1], at, at)
            else:
                flat = at + rows
                yield ClassPositions(self.order.shape[1], first.take(flat), last.take(flat))


@dataclass(frozen=True, eq=False)
class ClassPositions:
    """Where the n items of one class stand among all N, for B neurons; ascending, 0 is the lowest activation.

    Attributes
    ----------
    n_items : int
        N.
    first, last : int (B, n)
        First and last position of the tie group of each item; the same array where nothing is tied.
    """

    n_items: int
    first: np.ndarray
    last: np.ndarray

    @property
    def n(self) -> int:
        """How many items the class has."""
        return self.first.shape[1]

    def peers(self) -> tuple[np.ndarray, np.ndarray]:
        """Index among the class's items of the first and of the last one in each tie group: (n,) or (B, n)."""
        index = np.arange(self.n)
        same = self.first[:, 1:] == self.first[:, :-1]
        if self.first is self.last or not same.any():
            return index, index
        edge = np.ones(self.first.shape, dtype=bool)
        edge[:, 1:] = ~same
        start = np.maximum.accumulate(np.where(edge, index, 0), axis=1)
        edge[:, :-1], edge[:, -1] = ~same, True
        end = np.minimum.accumulate(np.where(edge, index, self.n)[:, ::-1], axis=1)[:, ::-1]
        return start, end


def sort_columns(activations: np.ndarray, floor: float = 0.0) -> Iterator[SortedColumns]:
    """Sort every column of (N, D) activations, a block of columns at a time; below ``floor`` in size they are 0."""
    n_items, n_neurons = activations.shape
    width = max(NARROWEST, COLUMN_BLOCK // max(1, n_items))
    precision = np.promote_types(activations.dtype, np.float32)
    for start in range(0, n_neurons, width):
        columns = slice(start, min(start + width, n_neurons))
        values = np.ascontiguousarray(activations[:, columns].T, dtype=precision)  # (B, N)
        if floor > 0:
            values = np.where(np.abs(values) < floor, 0, values)
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
    high, low = np.zeros((2, n_classes, len(block.order)))
    for label, items in enumerate(block.by_class(labels, n_classes)):
        if items.n == 0:
            continue
        before, through = items.peers()
        high[label] = ((items.n - before) / (items.n_items - items.first)).mean(axis=1)
        low[label] = ((through + 1) / (items.last + 1)).mean(axis=1)
    return high, low


def roc_auc(block: SortedColumns, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Area under the ROC curve of each neuron as a detector of each class; ties count half.

    Returns
    -------
    float64 (C, B)
        Below 1/2 where small activations tell the class. 1/2 for constant neurons, and for a class that has
        no items or all of them.
    """
    areas = np.full((n_classes, len(block.order)), 0.5)
    for label, items in enumerate(block.by_class(labels, n_classes)):
        rest = items.n_items - items.n
        if items.n and rest:
            twice = items.first.sum(axis=1, dtype=np.int64) + items.last.sum(axis=1, dtype=np.int64)
            areas[label] = (twice - items.n * (items.n - 1)) / (2 * items.n * rest)
    return areas


def kolmogorov_smirnov(block: SortedColumns, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """Largest distance between the distribution functions of a class and of the rest, for each neuron.

    Returns
    -------
    float64 (C, B)
        In [0, 1]; 0 for constant neurons, and for a class that has no items or all of them.
    """
    distances = np.zeros((n_classes, len(block.order)))
    for label, items in enumerate(block.by_class(labels, n_classes)):
        rest = items.n_items - items.n
        if items.n and rest:
            before, through = items.peers()
            ahead = (through + 1) / items.n - (items.last + 1) / items.n_items  # just after a tie group
            behind = items.first / items.n_items - before / items.n  # just before it
            widest = np.maximum(ahead.max(axis=1), behind.max(axis=1))
            distances[label] = np.maximum(widest, 0) * (items.n_items / rest)
    return distances


def binned_information(
    block: SortedColumns, labels: np.ndarray, n_classes: int, n_bins: int
) -> tuple[np.ndarray, np.ndarray]:
    """Mutual information of each neuron's quantile bin and the class, in bits, corrected for chance.

    Bins hold equally many items but for ties: a tie group lies in one bin, the one of its middle. From the plug-in
    estimate the bias to first order is taken off, (bins - 1)(classes - 1) / 2N nats (Miller 1955), counting bins
    and classes that have items.

    Returns
    -------
    float64 (C, B)
        Of the bin and one class against the rest.
    float64 (B,)
        Of the bin and the class. Either may be slightly negative where there is nothing; 0 for constant neurons.
    """
    n_neurons, n_items = block.order.shape
    offsets = np.arange(n_neurons)[:, None] * n_bins
    counts = np.zeros((n_classes, n_neurons, n_bins))
    for label, items in enumerate(block.by_class(labels, n_classes)):
        bins = (items.first.astype(np.int64) + items.last + 1) * n_bins // (2 * n_items)
        counts[label] = np.bincount((bins + offsets).ravel(), minlength=offsets.size * n_bins).reshape(
            n_neurons, n_bins
        )
    whole = counts.sum(axis=0)  # (B, bins)
    bins, classes = (whole > 0).sum(axis=1), (counts.sum(axis=2) > 0).any(axis=1).sum()
    per_class = np.array([_information(np.array([one, whole - one])) for one in counts])
    some = counts[:, 0].sum(axis=1)
    split = ((some > 0) & (some < n_items))[:, None] & (bins > 1)
    bias = (bins - 1) / (2 * n_items * np.log(2))
    joint = np.where((classes > 1) & (bins > 1), _information(counts) - bias * (classes - 1), 0.0)
    return np.where(split, per_class - bias, 0.0), joint


def _information(counts: np.ndarray) -> np.ndarray:
    """Plug-in mutual information in bits, (C, B, bins) counts -> (B,)."""
    n_items = counts.sum(axis=(0, 2))[:, None]
    return (
        xlogy(counts, counts).sum(axis=(0, 2))
        - xlogy(counts.sum(axis=0), counts.sum(axis=0)).sum(axis=1)
        - xlogy(counts.sum(axis=2), counts.sum(axis=2)).sum(axis=0)
        + xlogy(n_items, n_items)[:, 0]
    ) / (n_items[:, 0] * np.log(2))


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
    for label, items in enumerate(block.by_class(labels, n_classes)):
        n = items.n
        if n in (0, n_items):
            continue
        above = last[:, n_items - n - 1 : n_items - n]  # (B, 1): the last position that is off
        below = first[:, n : n + 1]  # (B, 1): the first position that is off, counting from the bottom
        high[label] = excess_iou((items.first > above).sum(axis=1), n_items - 1 - above[:, 0], n, n_items)
        low[label] = excess_iou((items.last < below).sum(axis=1), below[:, 0], n, n_items)
    return high, low


def excess_iou(hits: Any, n_on: Any, n: Any, n_items: int) -> Any:
    """IoU minus chance, from counts (numbers or arrays) of items that are on and in the class, on, in the class."""
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
