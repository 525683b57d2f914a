"""Method, Needs, Observations: the contract between a method and the suite."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Flag, auto
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar, Literal

import numpy as np

from nibench.errors import InputError
from nibench.neurons import Neurons
from nibench.ranking import Ranking
from nibench.task import Claim

if TYPE_CHECKING:
    from nibench.interventions import Behaviour

Direction = Literal["concept->neurons", "neuron->concept", "none"]


class Needs(Flag):
    """What a method looks at; the harness hands over nothing else."""

    NOTHING = 0
    ACTIVATIONS = auto()
    LABELS = auto()
    MODEL = auto()  # the behaviour: margins, ablations, gradients
    PAIRS = auto()  # counterfactual twins of the prompts
    TEXT = auto()
    WEIGHTS = auto()
    EMBEDDINGS = auto()
    MODELS = auto()


@dataclass(frozen=True, eq=False)
class Statistics:
    """Per-class moments of one activation matrix: one pass in float64, shared by every method."""

    activations: np.ndarray  # (N, D)
    labels: np.ndarray  # (N,)
    n_classes: int

    @cached_property
    def counts(self) -> np.ndarray:
        """(C,) int: items per class."""
        return np.bincount(self.labels, minlength=self.n_classes)

    @cached_property
    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        shape = (self.n_classes, self.activations.shape[1])
        means, squares = np.zeros(shape), np.zeros(shape)
        for label in np.flatnonzero(self.counts):
            rows = self.activations[self.labels == label]
            means[label] = rows.mean(axis=0, dtype=np.float64)
            for start in range(0, len(rows), 4096):  # float64 in blocks: the matrix itself stays float32
                squares[label] += np.square(rows[start : start + 4096] - means[label]).sum(axis=0)
        return means, squares

    @property
    def class_means(self) -> np.ndarray:
        """(C, D) float64; zero for a class without items."""
        return self._moments[0]

    @property
    def class_squares(self) -> np.ndarray:
        """(C, D) float64: sums of squared deviations from the class mean."""
        return self._moments[1]

    @cached_property
    def mean(self) -> np.ndarray:
        """(D,) float64: the grand mean."""
        return self.counts @ self.class_means / max(1, self.counts.sum())

    @cached_property
    def variance(self) -> np.ndarray:
        """(D,) float64: the total variance (divided by N); exactly 0 for constant neurons."""
        between = self.counts @ np.square(self.class_means - self.mean)
        total = (self.class_squares.sum(axis=0) + between) / max(1, self.counts.sum())
        constant = self.activations.min(axis=0) == self.activations.max(axis=0)
        return np.where(constant, 0.0, total)


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
    """

    neurons: Neurons
    n_classes: int
    needs: Needs
    method: str = "this method"
    _statistics: Statistics | None = None
    _word_types: np.ndarray | None = field(default=None, repr=False)
    _sentences: np.ndarray | None = field(default=None, repr=False)
    _behaviour: "Behaviour | None" = field(default=None, repr=False)

    def _require(self, need: Needs, what: str) -> None:
        if need not in self.needs:
            raise InputError(
                f"{self.method} read data.{what} but declares needs = {self.needs}. Add Needs.{need.name} to it."
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
        return self._statistics.activations

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

    @property
    def behaviour(self) -> "Behaviour":
        self._require(Needs.MODEL, "behaviour")
        if self._behaviour is None:
            raise InputError(f"{self.method} needs a behaviour of a model; this task and model have none.")
        return self._behaviour

    def by_class(self) -> Iterator[np.ndarray]:
        """The activations of each class in turn, each (n_c, D)."""
        for label in range(self.n_classes):
            yield self.activations[self.labels == label]

    def spread(self) -> np.ndarray:
        """(D,) float64: each neuron's standard deviation; inf for constant neurons, so that x / spread is 0."""
        self._require(Needs.ACTIVATIONS, "spread()")
        assert self._statistics is not None
        variance = self._statistics.variance
        return np.sqrt(np.where(variance > 0, variance, np.inf))

    def standardized(self) -> np.ndarray:
        """(N, D) float64: activations with mean 0 and deviation 1 per neuron; constant neurons are 0."""
        self._require(Needs.ACTIVATIONS, "standardized()")
        assert self._statistics is not None
        return (self.activations - self._statistics.mean) / self.spread()

    def folds(self, n: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """n pairs (fit, held-out) of row ids; a sentence is never in both. Falls back to rows without sentences."""
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
    """

    needs: ClassVar[Needs]
    claims: ClassVar[Claim] = "associated"
    direction: ClassVar[Direction] = "concept->neurons"
    family: ClassVar[str] = "other"
    paper: ClassVar[str] = ""
    shares_estimand: ClassVar[tuple[Claim, ...]] = ()
    presets: ClassVar[dict[str, dict[str, object]]] = {}

    @abstractmethod
    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        """Score every neuron of ``data``; all randomness through ``rng``."""
