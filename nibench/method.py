"""Method, Needs, Observations: the contract between a method and the suite."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Flag, auto
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, get_args

import numpy as np

from nibench.errors import InputError
from nibench.moments import ROW_BLOCK, Statistics
from nibench.neurons import Neurons
from nibench.order_statistics import SortedColumns, sort_columns
from nibench.ranking import Ranking
from nibench.task import Claim

if TYPE_CHECKING:
    from nibench.interventions import Behaviour
    from nibench.soft_inputs import SoftInputs
    from nibench.texts import Text
    from nibench.weights import Weights

Direction = Literal["concept->neurons", "neuron->concept", "none"]
Scope = Literal["global", "local", "both"]
Scalability = Literal["high", "medium", "low"]
Given = TypeVar("Given")
Selects = Literal["nothing", "ranks", "means", "halves"]
CHOICES = {
    "claims": Claim,
    "direction": Direction,
    "scope": Scope,
    "scalability": Scalability,
    "selects_by": Selects,
}
Scale = Literal["z", "raw"]  # each neuron in standard deviations, or as it comes


class Needs(Flag):
    """What a method looks at; the harness hands over nothing else."""

    NOTHING = 0
    ACTIVATIONS = auto()
    LABELS = auto()
    MODEL = auto()  # the behaviour: margins, ablations, gradients
    PAIRS = auto()  # counterfactual twins of the prompts
    TEXT = auto()  # the items' words, and what the model's neurons answer to other words
    WEIGHTS = auto()  # of the feed-forward layers: what each neuron reads and writes
    EMBEDDINGS = auto()  # what a neuron answers to mixtures of words, with gradients
    MODELS = auto()  # other models' activations on the same items


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
    inputs : SoftInputs
        With ``Needs.EMBEDDINGS``: the neurons as differentiable functions of the input.
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
    _inputs: "SoftInputs | None" = field(default=None, repr=False)
    _others: tuple[np.ndarray, ...] = field(default=(), repr=False)
    _covariates: np.ndarray | None = field(default=None, repr=False)

    def _require(self, need: Needs, what: str) -> None:
        if need not in self.needs:
            raise InputError(
                f"{self.method} read data.{what} but declares needs = {self.needs}. "
                f"Add Needs.{need.name} to it."
            )

    def _of_activations(self, what: str) -> Statistics:
        self._require(Needs.ACTIVATIONS, what)
        assert self._statistics is not None
        return self._statistics

    @property
    def statistics(self) -> Statistics:
        """Class means, counts and variances, computed once for all methods. Needs ACTIVATIONS and LABELS."""
        statistics = self._of_activations("statistics")
        self._require(Needs.LABELS, "statistics")
        return statistics

    @property
    def activations(self) -> np.ndarray:
        return self._of_activations("activations").columns.single

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
        lacking = "a behaviour of a model; this task and model have none"
        return self._of_model(Needs.MODEL, "behaviour", self._behaviour, lacking)

    @property
    def text(self) -> "Text":
        lacking = "text and a model that reads it; arrays have none"
        return self._of_model(Needs.TEXT, "text", self._text, lacking)

    @property
    def inputs(self) -> "SoftInputs":
        lacking = "a model that reads words; arrays have none"
        return self._of_model(Needs.EMBEDDINGS, "inputs", self._inputs, lacking)

    @property
    def weights(self) -> "Weights":
        lacking = "the weights of a model; arrays have none"
        return self._of_model(Needs.WEIGHTS, "weights", self._weights, lacking)

    def _of_model(self, need: Needs, what: str, given: Given | None, lacking: str) -> Given:
        self._require(need, what)
        if given is None:
            raise InputError(f"{self.method} needs {lacking}.")
        return given

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
        known = self._of_activations("sorted_blocks()")
        columns = known.columns
        return sort_columns(columns.activations, floor) if floor > 0 else columns.sorted_blocks()

    def variance(self) -> np.ndarray:
        """(D,) float64: each neuron's variance (divided by N); exactly 0 for constant neurons."""
        return self._of_activations("variance()").columns.variance

    def mean(self) -> np.ndarray:
        """(D,) float64: each neuron's mean."""
        return self._of_activations("mean()").mean

    def range(self) -> tuple[np.ndarray, np.ndarray]:
        """(D,) and (D,) float64: each neuron's smallest and largest activation."""
        return self._of_activations("range()").columns.range

    def spread(self) -> np.ndarray:
        """(D,) float64: each neuron's standard deviation; inf for constant ones, so that x / spread is 0."""
        variance = self.variance()
        return np.sqrt(np.where(variance > 0, variance, np.inf))

    def standardized(self, scale: Scale = "z") -> np.ndarray:
        """(N, D) float64: activations with mean 0 per neuron and, unless ``scale`` is raw, deviation 1.

        Constant neurons are 0.
        """
        whole = np.empty(self._of_activations("standardized()").activations.shape)
        for rows, block in self.standardized_blocks(scale):
            whole[rows] = block
        return whole

    def standardized_blocks(self, scale: Scale = "z") -> Iterator[tuple[slice, np.ndarray]]:
        """What ``standardized`` gives, a block of rows at a time: (rows, float64 (n, D)). Nothing large is held."""
        known = self._of_activations("standardized_blocks()")
        unit = self.spread() if scale == "z" else np.where(self.variance() > 0, 1.0, np.inf)
        for start in range(0, len(known.activations), ROW_BLOCK):
            rows = slice(start, start + ROW_BLOCK)
            block = known.activations[rows] - known.mean
            block /= unit
            yield rows, block

    @property
    def n_items(self) -> int:
        """N."""
        known = self._of_activations("n_items")
        return len(known.activations)

    def part(self, rows: Any, columns: Any) -> np.ndarray:
        """float32: ``activations[rows, columns]``, without widening half-precision activations as a whole."""
        known = self._of_activations("part()")
        return known.activations[rows, columns].astype(np.float32)

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

    ``selects_by``: how ``Ranking.select`` makes the ranking a set; ``error_rate``: its measured error, or why not.
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
    selects_by: ClassVar[Selects] = "nothing"
    error_rate: ClassVar[str] = ""
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


def choice_problem(method: Method) -> str | None:
    """Which class variable of a method is none of its choices, in words; None where all are."""
    for name, kind in CHOICES.items():
        value = getattr(method, name)
        if value not in get_args(kind):
            return f"{name} = {value!r}; expected one of {', '.join(get_args(kind))}."
    return None
