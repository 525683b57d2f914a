"""Method, Needs, Observations: the contract between a method and the suite."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Flag, auto
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np

from nibench.errors import InputError
from nibench.neurons import Neurons
from nibench.order_statistics import SortedColumns, sort_columns
from nibench.ranking import Ranking
from nibench.task import Claim

if TYPE_CHECKING:
    from nibench.interventions import Behaviour
    from nibench.texts import Text
    from nibench.weights import Weights

Direction = Literal["concept->neurons", "neuron->concept", "none"]
Scope = Literal["global", "local", "both"]
Scalability = Literal["high", "medium", "low"]
Scale = Literal["z", "raw"]  # each neuron in standard deviations, or as it comes

ROW_BLOCK = 4096  # rows taken to float64 at a time
KEEP_SORTED = 32_000_000  # entries: up to here the sorted columns stay in memory (four bytes each)


class Needs(Flag):
    """What a method looks at; the harness hands over nothing else."""

    NOTHING = 0
    ACTIVATIONS = auto()
    LABELS = auto()
    MODEL = auto()  # the behaviour: margins, ablations, gradients
    PAIRS = auto()  # counterfactual twins of the prompts
    TEXT = auto()  # the items' words, and what the model's neurons answer to other words
    WEIGHTS = auto()  # of the feed-forward layers: what each neuron reads and writes
    EMBEDDINGS = auto()
    MODELS = auto()  # other models' activations on the same items


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
    def class_squares(self) -> np.ndarray:
        """(C, D) float64: sums of squared deviations from the class mean."""
        squares = np.zeros_like(self.class_means)
        for label, rows in self._class_rows():
            squares[label] += np.square(rows - self.class_means[label]).sum(axis=0)
        return squares

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


@dataclass(frozen=True, eq=False)
class Observations:
    """What a method gets to see: the ``rank`` split of one task in one model, read-only.

    Every property checks that the method declared the need for it.

    Attributes
    ----------
    activations : float32 (N, D)
    labels : int (N,)
        Class of each item, 0..n_classes-1.
    word_types, sentences : int (N,)
        Ids of the word and of the sentence of each item.
    neurons : Neurons
        The D names.
    behaviour : Behaviour
        With ``Needs.MODEL``: the model's answers and what ablations do to them.
    text : Text
        With ``Needs.TEXT``: the words of the items, and a reader of other text.
    weights : Weights
        With ``Needs.WEIGHTS``: the rows each neuron reads the stream by, and the column it writes.
    others : tuple of float32 (N, D')
        With ``Needs.MODELS``: what other models' neurons do on the same items, one array a model.
    covariates : float64 (N, K)
        What every model shares: where the item stands in its sentence and how long that is; K = 0 if unknown.
    """

    neurons: Neurons
    n_classes: int
    needs: Needs
    method: str = "this method"
    _statistics: Statistics | None = None
    _word_types: np.ndarray | None = field(default=None, repr=False)
    _sentences: np.ndarray | None = field(default=None, repr=False)
    _behaviour: "Behaviour | None" = field(default=None, repr=False)
    _weights: "Weights | None" = field(default=None, repr=False)
    _text: "Text | None" = field(default=None, repr=False)
    _others: tuple[np.ndarray, ...] = field(default=(), repr=False)
    _covariates: np.ndarray | None = field(default=None, repr=False)

    def _require(self, need: Needs, what: str) -> None:
        if need not in self.needs:
            raise InputError(
                f"{self.method} read data.{what} but declares needs = {self.needs}. "
                f"Add Needs.{need.name} to it."
            )

    @property
    def statistics(self) -> Statistics:
        """Class means, counts and variances, computed once for all methods. Needs ACTIVATIONS and LABELS."""
        self._require(Needs.ACTIVATIONS, "statistics")
        self._require(Needs.LABELS, "statistics")
        assert self._statistics is not None
        return self._statistics

    @property
    def activations(self) -> np.ndarray:
        self._require(Needs.ACTIVATIONS, "activations")
        assert self._statistics is not None
        return self._statistics.columns.single

    @property
    def labels(self) -> np.ndarray:
        self._require(Needs.LABELS, "labels")
        assert self._statistics is not None
        return self._statistics.labels

    @property
    def word_types(self) -> np.ndarray:
        self._require(Needs.LABELS, "word_types")
        return self._group(self._word_types, "word_types")

    @property
    def sentences(self) -> np.ndarray:
        self._require(Needs.LABELS, "sentences")
        return self._group(self._sentences, "sentences")

    def _group(self, ids: np.ndarray | None, what: str) -> np.ndarray:
        if ids is None:
            raise InputError(f"{self.method} reads data.{what}, which were not given: pass {what}= (N,) ids.")
        return ids

    def given(self, what: Literal["word_types", "sentences"]) -> np.ndarray | None:
        """These ids (N,), or None where arrays came without them."""
        self._require(Needs.LABELS, what)
        return self._word_types if what == "word_types" else self._sentences

    @property
    def behaviour(self) -> "Behaviour":
        self._require(Needs.MODEL, "behaviour")
        if self._behaviour is None:
            raise InputError(f"{self.method} needs a behaviour of a model; this task and model have none.")
        return self._behaviour

    @property
    def text(self) -> "Text":
        self._require(Needs.TEXT, "text")
        if self._text is None:
            raise InputError(f"{self.method} needs text and a model that reads it; arrays have none.")
        return self._text

    @property
    def weights(self) -> "Weights":
        self._require(Needs.WEIGHTS, "weights")
        if self._weights is None:
            raise InputError(f"{self.method} needs the weights of a model; arrays have none.")
        return self._weights

    @property
    def others(self) -> tuple[np.ndarray, ...]:
        self._require(Needs.MODELS, "others")
        if not self._others:
            raise InputError(f"{self.method} compares several models; there is only one.")
        return self._others

    @property
    def covariates(self) -> np.ndarray:
        self._require(Needs.ACTIVATIONS, "covariates")
        return np.zeros((len(self.activations), 0)) if self._covariates is None else self._covariates

    def by_class(self) -> Iterator[np.ndarray]:
        """The activations of each class in turn, each (n_c, D)."""
        for label in range(self.n_classes):
            yield self.activations[self.labels == label]

    def sorted_blocks(self, floor: float = 0.0) -> Iterable[SortedColumns]:
        """Every neuron's items sorted by activation, block by block; sorted once for all methods.

        Activations of a magnitude below ``floor`` count as 0; with one they are sorted anew.
        """
        self._require(Needs.ACTIVATIONS, "sorted_blocks()")
        assert self._statistics is not None
        columns = self._statistics.columns
        return sort_columns(columns.activations, floor) if floor > 0 else columns.sorted_blocks()

    def variance(self) -> np.ndarray:
        """(D,) float64: each neuron's variance (divided by N); exactly 0 for constant neurons."""
        self._require(Needs.ACTIVATIONS, "variance()")
        assert self._statistics is not None
        return self._statistics.columns.variance

    def mean(self) -> np.ndarray:
        """(D,) float64: each neuron's mean."""
        self._require(Needs.ACTIVATIONS, "mean()")
        assert self._statistics is not None
        return self._statistics.mean

    def range(self) -> tuple[np.ndarray, np.ndarray]:
        """(D,) and (D,) float64: each neuron's smallest and largest activation."""
        self._require(Needs.ACTIVATIONS, "range()")
        assert self._statistics is not None
        return self._statistics.columns.range

    def spread(self) -> np.ndarray:
        """(D,) float64: each neuron's standard deviation; inf for constant ones, so that x / spread is 0."""
        variance = self.variance()
        return np.sqrt(np.where(variance > 0, variance, np.inf))

    def standardized(self, scale: Scale = "z") -> np.ndarray:
        """(N, D) float64: activations with mean 0 per neuron and, unless ``scale`` is raw, deviation 1.

        Constant neurons are 0.
        """
        self._require(Needs.ACTIVATIONS, "standardized()")
        assert self._statistics is not None
        whole = np.empty(self._statistics.activations.shape)
        for rows, block in self.standardized_blocks(scale):
            whole[rows] = block
        return whole

    def standardized_blocks(self, scale: Scale = "z") -> Iterator[tuple[slice, np.ndarray]]:
        """What ``standardized`` gives, a block of rows at a time: (rows, float64 (n, D)). Nothing large is held."""
        self._require(Needs.ACTIVATIONS, "standardized_blocks()")
        assert self._statistics is not None
        unit = self.spread() if scale == "z" else np.where(self.variance() > 0, 1.0, np.inf)
        for start in range(0, len(self._statistics.activations), ROW_BLOCK):
            rows = slice(start, start + ROW_BLOCK)
            block = self._statistics.activations[rows] - self._statistics.mean
            block /= unit
            yield rows, block

    @property
    def n_items(self) -> int:
        """N."""
        self._require(Needs.ACTIVATIONS, "n_items")
        assert self._statistics is not None
        return len(self._statistics.activations)

    def part(self, rows: Any, columns: Any) -> np.ndarray:
        """float32: ``activations[rows, columns]``, without widening half-precision activations as a whole."""
        self._require(Needs.ACTIVATIONS, "part()")
        assert self._statistics is not None
        return self._statistics.activations[rows, columns].astype(np.float32)

    def folds(self, n: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """n pairs (fit, held-out) of row ids, split by sentence (by row where no sentences were given)."""
        self._require(Needs.LABELS, "folds()")
        ids = np.arange(len(self.labels)) if self._sentences is None else self._sentences
        groups, inverse = np.unique(ids, return_inverse=True)
        fold = np.random.default_rng(0).permutation(len(groups))[inverse] % n
        for held_out in range(n):
            yield np.flatnonzero(fold != held_out), np.flatnonzero(fold == held_out)


class Method(ABC):
    """A way to rank neurons. Subclass as a frozen dataclass: its fields are the hyper-parameters.

    Class variables are the card: ``needs``, ``claims`` (what it says of the neurons ranked first),
    ``direction``, ``paper``, ``family``; ``presets`` names published settings of the fields.

    ``scope`` (about neurons over all items, single items or both), ``scalability`` and
    ``human_in_the_loop`` are criteria of Sajjad, Durrani & Dalvi's survey (TACL 2022, section 3); its other four follow
    from ``direction`` and ``needs``. ``complexity`` says what a ranking costs in N items, D neurons and C
    classes, ``limits`` what it cannot see.
    """

    needs: ClassVar[Needs]
    claims: ClassVar[Claim] = "associated"
    direction: ClassVar[Direction] = "concept->neurons"
    family: ClassVar[str] = "other"
    paper: ClassVar[str] = ""
    scope: ClassVar[Scope] = "global"
    scalability: ClassVar[Scalability] = "high"
    human_in_the_loop: ClassVar[bool] = False
    complexity: ClassVar[str] = ""
    limits: ClassVar[str] = ""
    shares_estimand: ClassVar[tuple[Claim, ...]] = ()
    presets: ClassVar[dict[str, dict[str, object]]] = {}

    @classmethod
    def criteria(cls) -> dict[str, str | bool]:
        """The survey's seven criteria, in its order."""
        given, found = ("neurons", "neurons") if cls.direction == "none" else cls.direction.split("->")
        return {
            "scope": cls.scope,
            "input": given,
            "output": found,
            "scalability": cls.scalability,
            "human_in_the_loop": cls.human_in_the_loop,
            "supervision": Needs.LABELS in cls.needs,
            "causation": Needs.MODEL in cls.needs,
        }

    @abstractmethod
    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        """Score every neuron of ``data``; all randomness through ``rng``."""
