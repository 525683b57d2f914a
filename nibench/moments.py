"""Moments: what one activation matrix says with and without labels, each computed once and shared by all methods."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nibench.order_statistics import SortedColumns, sort_columns

ROW_BLOCK = 4096  # rows taken to float64 at a time
KEEP_SORTED = 32_000_000  # entries: up to here the sorted columns stay in memory (four bytes each)


@dataclass(frozen=True, eq=False)
class Columns:
    """What one activation matrix says without labels; a task and its control share it.

    Attributes
    ----------
    activations : float (N, D)
        Never copied as a whole into float64: the passes below go over it in blocks.
    """

    activations: np.ndarray

    @cached_property
    def single(self) -> np.ndarray:
        """float32 (N, D), read-only: the activations themselves, or a copy where they are half precision."""
        if self.activations.dtype != np.float16:
            return self.activations
        wide = self.activations.astype(np.float32)
        wide.flags.writeable = False
        return wide

    @cached_property
    def mean(self) -> np.ndarray:
        """(D,) float64: each neuron's mean."""
        return self.activations.mean(axis=0, dtype=np.float64)

    @cached_property
    def range(self) -> tuple[np.ndarray, np.ndarray]:
        """(D,) and (D,) float64: each neuron's smallest and largest activation."""
        low, high = self.activations.min(axis=0), self.activations.max(axis=0)
        return low.astype(np.float64), high.astype(np.float64)

    @cached_property
    def variance(self) -> np.ndarray:
        """(D,) float64: each neuron's variance (divided by N); exactly 0 for constant neurons."""
        squares = np.zeros(self.activations.shape[1])
        for start in range(0, len(self.activations), ROW_BLOCK):
            squares += np.square(self.activations[start : start + ROW_BLOCK] - self.mean).sum(axis=0)
        low, high = self.range
        return np.where(low == high, 0.0, squares / max(1, len(self.activations)))

    @cached_property
    def _sorted(self) -> list[SortedColumns]:
        return list(sort_columns(self.activations))

    def sorted_blocks(self) -> Iterable[SortedColumns]:
        """Every column sorted, a block of columns at a time; kept for the next caller unless it is large."""
        small = self.activations.size <= KEEP_SORTED
        return self._sorted if small else sort_columns(self.activations)


@dataclass(frozen=True, eq=False)
class Statistics:
    """Per-class moments of one activation matrix: one pass in float64, shared by every method."""

    activations: np.ndarray  # (N, D)
    labels: np.ndarray  # (N,)
    n_classes: int

    @cached_property
    def columns(self) -> Columns:
        """What needs no labels: mean, variance, the sort."""
        return Columns(self.activations)

    def relabel(self, labels: np.ndarray, n_classes: int) -> "Statistics":
        """The same activations under other labels (a control task), sharing all that needs no labels."""
        other = Statistics(self.activations, labels, n_classes)
        other.__dict__["columns"] = self.columns  # fills the cache of the frozen copy
        return other

    @cached_property
    def counts(self) -> np.ndarray:
        """(C,) int: items per class."""
        return np.bincount(self.labels, minlength=self.n_classes)

    def _class_rows(self) -> Iterator[tuple[int, np.ndarray]]:
        """Each class's rows, a block of rows at a time, in the order of the array (which may lie on disk)."""
        for start in range(0, len(self.labels), ROW_BLOCK):
            rows, labels = self.activations[start : start + ROW_BLOCK], self.labels[start : start + ROW_BLOCK]
            for label in np.unique(labels):
                yield int(label), rows[labels == label]

    @cached_property
    def class_means(self) -> np.ndarray:
        """(C, D) float64; zero for a class without items."""
        sums = np.zeros((self.n_classes, self.activations.shape[1]))
        for label, rows in self._class_rows():
            sums[label] += rows.sum(axis=0, dtype=np.float64)
        return sums / np.maximum(self.counts, 1)[:, None]

    @cached_property
    def rest_means(self) -> np.ndarray:
        """(C, D) float64: the mean of all items outside each class; the grand mean where there are none."""
        outside = (len(self.labels) - self.counts)[:, None]
        totals = len(self.labels) * self.mean - self.counts[:, None] * self.class_means
        return np.where(outside > 0, totals / np.maximum(outside, 1), self.mean)

    @cached_property
    def correlations(self) -> np.ndarray:
        """(C, D) float64: Pearson's correlation of each neuron with being in each class (point-biserial).

        0 for constant neurons and for a class that has no items or all of them.
        """
        share = (self.counts / len(self.labels))[:, None]
        spread = np.sqrt(np.where(self.variance > 0, self.variance, np.inf))
        gaps = (self.class_means - self.rest_means) / spread
        return np.clip(gaps * np.sqrt(share * (1 - share)), -1, 1)

    @property
    def mean(self) -> np.ndarray:
        """(D,) float64: the grand mean."""
        return self.columns.mean

    @property
    def variance(self) -> np.ndarray:
        """(D,) float64: the total variance (divided by N); exactly 0 for constant neurons."""
        return self.columns.variance

    def mean_over_classes(self, per_class: np.ndarray) -> np.ndarray:
        """(C, D) -> (D,): the mean over the classes that have items, all weighted alike."""
        return per_class[self.counts > 0].mean(axis=0)
