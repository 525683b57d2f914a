"""Levels: what varies under a mean over cells, and how much: sentences, tasks or truth models.

An interval rests on one level and says so. Sentences: other text of the same tasks in the same models. Tasks,
where records hold no sums per sentence: other concepts in the same models. Models: truth planted anew, or
another model; the levels below are part of it. Seeds are a level of their own, added where there are three.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Literal

import numpy as np

from nibench.axes import FLAGGING
from nibench.resampling import MIN_LINEAGES, MIN_TASKS, interval, lineage_weights, task_weights
from nibench.results import Place, Results
from nibench.uncertainty import tails

Level = Literal["sentences", "tasks", "models", "nothing"]
MIN_FLIPS = 6  # so many models can tell a pair of methods apart by sign flips; fewer cannot


@dataclass(frozen=True)
class Estimate:
    """A mean over cells with its 95 % interval and what that rests on."""

    value: float
    ci95: tuple[float, float] | None = None
    level: Level = "nothing"


@dataclass(frozen=True, eq=False)
class Spread:
    """How the means of methods over the same cells vary, together.

    Attributes
    ----------
    draws : method -> (N_DRAWS,)
        Paired draws of the mean over the method's cells; methods for which there are none are left out.
    """

    results: Results
    metric: str
    places: tuple[Place, ...]
    level: Level
    draws: Mapping[str, np.ndarray]

    def shares(self, methods: Sequence[str]) -> np.ndarray:
        """float64 (U, M): what each sentence, task or model adds to the mean of each method; columns sum to it.

        All methods must have a value on all places. Whole columns may be swapped unit by unit: under "no
        difference" a unit is as likely to favour the one as the other.
        """
        weight = dict(zip(self.places, usual_weights(self.places), strict=True))
        if self.level == "sentences":
            return self._sentence_shares(methods, weight)
        units = [
            place.label if self.level == "tasks" else self.results.lineage(place) for place in self.places
        ]
        names, unit_of = np.unique(units, return_inverse=True)
        table = np.zeros((len(names), len(methods)))
        for place, unit in zip(self.places, unit_of, strict=True):
            values = [self.results.normalised(method, place, self.metric) for method in methods]
            table[unit] += weight[place] * np.array(values, dtype=np.float64)
        return table

    def _sentence_shares(self, methods: Sequence[str], weight: Mapping[Place, float]) -> np.ndarray:
        found = {
            (place, column): effects
            for place in self.places
            for column, method in enumerate(methods)
            if (effects := self.results.effects(method, place, self.metric)) is not None
        }
        ids = np.unique(np.concatenate([ids for ids, _ in found.values()]))
        table = np.zeros((len(ids), len(methods)))
        for (place, column), (mine, effects) in found.items():
            np.add.at(table[:, column], np.searchsorted(ids, mine), weight[place] * effects)
        return table

    @cached_property
    def n_units(self) -> int:
        """How many sentences, tasks or models there are."""
        if self.level == "sentences":
            ids = [
                found[0]
                for place in self.places
                for method in self.draws
                if (found := self.results.effects(method, place, self.metric)) is not None
            ]
            return len(np.unique(np.concatenate(ids))) if ids else 0
        if self.level == "models":
            return len({self.results.lineage(place) for place in self.places})
        return len(self.places)

    def seed_se(self, method: str) -> float:
        """Standard error of the method's mean that its seeds alone make; 0 with fewer than three."""
        there = [p for p in self.places if self.results.normalised(method, p, self.metric) is not None]
        of_each = np.array([self.results.seed_se(method, place, self.metric) for place in there])
        return float(np.sqrt(np.square(usual_weights(there) * of_each).sum()))


def spread(
    results: Results,
    metric: str,
    places: Sequence[Place],
    *,
    of_truth: bool,
    methods: Sequence[str] | None = None,
) -> Spread:
    """How the methods' means over these cells vary; of all methods, or of some.

    The level is that of models where the answer is known (four planted independently), or where there are six
    or more models; else that of sentences where every record holds their sums; else that of tasks (three).
    """
    values = {m: [results.normalised(m, p, metric) for p in places] for m in methods or results.cards}
    scored = {m: found for m, found in values.items() if any(x is not None for x in found)}
    n_lineages = len({results.lineage(place) for place in places})
    if n_lineages >= (MIN_LINEAGES if of_truth else MIN_FLIPS):
        return Spread(results, metric, tuple(places), "models", _over_models(results, places, scored))
    if of_truth:
        return Spread(results, metric, tuple(places), "nothing", {})
    over_sentences = _over_sentences(results, metric, places, scored)
    if over_sentences:
        return Spread(results, metric, tuple(places), "sentences", over_sentences)
    if len(places) < MIN_TASKS:
        return Spread(results, metric, tuple(places), "nothing", {})
    return Spread(results, metric, tuple(places), "tasks", _over_tasks(places, scored))


def estimate(
    results: Results, method: str, metric: str, places: Sequence[Place], *, of_truth: bool
) -> Estimate | None:
    """Mean of one method over the cells where it has the metric, with its interval; None where it has none."""
    if metric not in FLAGGING and metric not in results.metrics[method]:
        return None
    there = [p for p in places if results.known(p, metric) != "unknown"]
    values = {p: x for p in there if (x := results.normalised(method, p, metric)) is not None}
    if not values:
        return None
    alone = spread(results, metric, tuple(values), of_truth=of_truth, methods=[method])
    draws = alone.draws.get(method)
    ends = interval(draws, alone.n_units) if draws is not None else None
    return Estimate(mean_over_blocks(values), ends, alone.level)


@dataclass(frozen=True, eq=False)
class Means:
    """Means over cells of many things at once, with 95 % intervals, NaN where there is none.

    Attributes
    ----------
    values, low, high : float64, any one shape.
    level : what varies under the intervals.
    """

    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    level: Level


def means(results: Results, places: Sequence[Place], values: np.ndarray, *, of_truth: bool) -> Means:
    """Means over the tasks of each model, then over models, of what no sums per sentence are kept of.

    Over models where there are as many as ``spread`` asks for, else over tasks (three); a thing known in fewer of
    them has no interval.

    Parameters
    ----------
    values : (S, ...)
        Of each cell; NaN where it has none.
    """
    shape = np.shape(values)[1:]
    flat = np.asarray(values, dtype=np.float64).reshape(len(places), prod(shape))
    there = ~np.isnan(flat)
    filled = np.where(there, flat, 0.0)

    def weighted(weights: np.ndarray) -> np.ndarray:  # (B, S) -> (B, Q)
        total = weights @ there
        return np.divide(weights @ filled, total, out=np.full(total.shape, np.nan), where=total > 1e-12)

    value = weighted(usual_weights(places)[None])[0] if places else np.full(flat.shape[1], np.nan)
    lineages, blocks = [results.lineage(place) for place in places], [place.model for place in places]
    level: Level = "models" if len(set(lineages)) >= (MIN_LINEAGES if of_truth else MIN_FLIPS) else "tasks"
    units = lineages if level == "models" else [place.label for place in places]
    least = MIN_LINEAGES if level == "models" else MIN_TASKS
    n_units = sum(there[[one == unit for one in units]].any(axis=0) for unit in set(units))
    known = n_units >= least
    low, high = np.full((2, flat.shape[1]), np.nan)
    if not np.any(known):
        return Means(value.reshape(shape), low.reshape(shape), high.reshape(shape), "nothing")
    weights = lineage_weights(lineages, blocks) if level == "models" else task_weights(blocks)
    drawn = weighted(weights)
    for number in np.unique(np.asarray(n_units)[known]):
        these = n_units == number
        low[these], high[these] = np.nanquantile(drawn[:, these], tails(int(number)), axis=0)
    return Means(value.reshape(shape), low.reshape(shape), high.reshape(shape), level)


def usual_weights(places: Sequence[Place]) -> np.ndarray:
    """(S,): what each cell weighs in a mean over the tasks of each model, then over models; sums to 1."""
    sizes = Counter(place.model for place in places)
    return np.array([1 / sizes[place.model] / len(sizes) for place in places])


def mean_over_blocks(values: Mapping[Place, float]) -> float:
    """Mean over the tasks of each model, then over models, each model weighing the same."""
    return float(usual_weights(list(values)) @ np.array(list(values.values())))


def _over_models(
    results: Results, places: Sequence[Place], scored: Mapping[str, list[float | None]]
) -> dict[str, np.ndarray]:
    lineages = np.array([results.lineage(place) for place in places])
    weights = lineage_weights(lineages.tolist(), [place.model for place in places])
    return {
        method: _weighted(weights, values)
        for method, values in scored.items()
        if len(set(lineages[[x is not None for x in values]])) >= MIN_LINEAGES
    }


def _over_sentences(
    results: Results, metric: str, places: Sequence[Place], scored: Mapping[str, list[float | None]]
) -> dict[str, np.ndarray]:
    """Empty unless every cell with a value has draws over its sentences."""
    drawn = {}
    for method, values in scored.items():
        there = [place for place, x in zip(places, values, strict=True) if x is not None]
        draws = [results.draws(method, place, metric) for place in there]
        known = [one for one in draws if one is not None]
        if len(known) < len(there):
            return {}
        drawn[method] = usual_weights(there) @ np.stack(known)
    return drawn


def _over_tasks(places: Sequence[Place], scored: Mapping[str, list[float | None]]) -> dict[str, np.ndarray]:
    weights = task_weights([place.model for place in places])  # (N_DRAWS, S), blocks weighted alike
    return {
        method: _weighted(weights, values)
        for method, values in scored.items()
        if sum(x is not None for x in values) >= MIN_TASKS
    }


def _weighted(weights: np.ndarray, values: Sequence[float | None]) -> np.ndarray:
    """(B,) weighted means of the values that are there; NaN in a draw that has none of them."""
    there = np.array([x is not None for x in values])
    known = np.array([x for x in values if x is not None])
    total = weights[:, there].sum(axis=1)
    return np.where(total > 0, weights[:, there] @ known / np.where(total > 0, total, 1.0), np.nan)
