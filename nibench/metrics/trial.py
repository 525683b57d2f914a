"""Score, Setting, Trial: what a metric gets and what it returns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import numpy as np

from nibench.activations import SplitData
from nibench.neurons import Neurons
from nibench.ranking import Ranking
from nibench.suites import Metrics
from nibench.task import Split, Truth

if TYPE_CHECKING:
    from nibench.interventions import Behaviour
    from nibench.reruns import Reruns

Shared = TypeVar("Shared")


@dataclass(frozen=True, eq=False)
class Score:
    """One metric's value for one ranking, with what is needed to recompute and compare it.

    ``direction``: 1 higher is better, -1 lower is better, 0 descriptive (never sorted). ``normalised``:
    0 = random rankings shared by all methods, 1 = the ceiling; None where there is no ceiling or it is
    not above random. ``curve`` holds the value at each ``k``. ``clusters`` are sufficient
    statistics (arrays, first axis = cluster, or division of the sentences); ``details`` is plain JSON: numbers,
    strings, lists, dicts.
    """

    id: str
    value: float
    unit: str
    direction: Literal[-1, 0, 1]
    se: float | None = None
    ci95: tuple[float, float] | None = None
    n_items: int | None = None
    n_clusters: int | None = None
    chance: float | None = None
    ceiling: float | None = None
    normalised: float | None = None
    k: tuple[int, ...] = ()
    curve: tuple[float, ...] = ()
    tie_fraction: float | None = None
    flags: tuple[str, ...] = ()
    clusters: Mapping[str, np.ndarray] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Setting:
    """What all methods share on one task in one model; computed once, never changed.

    Attributes
    ----------
    splits : the items of ``rank``, ``probe`` and ``eval``.
    controls : list of label sets, each split -> (n,) int: the control task, one per control seed.
    truth : what is known of the neurons, or None.
    behaviour : on the ``eval`` prompts, means taken from ``probe``; None where nothing is ablated.
    probe_behaviour : the same on prompts of ``probe``, for what is chosen by its effect; None where there is none.
    other_behaviours : of the model's other concepts, by name, those declared related left out.
    output_norms : (D,) norms of the neurons' output weights; None where they have none of their own.
    null_ks, null_sets, null_prompts : see ``nibench.suites.Budget``; no ks: no matched random sets.
    ks : the k-grid; n_random : how many random rankings the zero of a normalised score rests on.
    n_halves : how often the ``rank`` split is divided in two, for metrics that call a method again.
    metrics : how much is measured (see ``nibench.suites.Budget``).
    """

    neurons: Neurons
    n_classes: int
    splits: Mapping[Split, SplitData]
    controls: tuple[Mapping[Split, np.ndarray], ...]
    truth: Truth | None
    behaviour: "Behaviour | None"
    ks: tuple[int, ...]
    ablation_ks: tuple[int, ...]
    seed: int
    n_random: int = 20
    n_halves: int = 5
    metrics: Metrics = "headline"
    probe_behaviour: "Callable[[], Behaviour | None]" = lambda: None
    other_behaviours: "Callable[[], Mapping[str, Behaviour]]" = dict
    output_norms: Callable[[], np.ndarray | None] = lambda: None
    null_ks: tuple[int, ...] = ()
    null_sets: int = 100
    null_prompts: int = 30
    _made: dict[Callable[["Setting"], Any], Any] = field(default_factory=dict, init=False, repr=False)

    @cached_property
    def random_orders(self) -> np.ndarray:
        """(R, D) int: the nested random rankings that all methods are measured against."""
        rng = np.random.default_rng([self.seed, 7])
        return np.stack([rng.permutation(len(self.neurons)) for _ in range(self.n_random)])

    def once(self, make: Callable[["Setting"], Shared]) -> Shared:
        """``make(self)``, computed for the first method that asks and shared with all others."""
        if make not in self._made:
            self._made[make] = make(self)
        return self._made[make]


@dataclass(frozen=True, eq=False)
class Trial:
    """One method's ranking on one setting, and the method to be called again: what a metric gets.

    Without ``reruns`` (a ranking from elsewhere) the metrics that need them do not apply.
    """

    setting: Setting
    ranking: Ranking
    reruns: "Reruns | None" = None
    _made: dict[Callable[["Trial"], Any], Any] = field(default_factory=dict, init=False, repr=False)

    def once(self, make: Callable[["Trial"], Shared]) -> Shared:
        """``make(self)``, computed for the first metric that asks and shared with all others."""
        if make not in self._made:
            self._made[make] = make(self)
        return self._made[make]
