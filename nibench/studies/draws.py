"""What the studies share: means over truth models, and what their intervals rest on."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from nibench.resampling import MIN_LINEAGES, MIN_TASKS, interval
from nibench.results import Place, Results
from nibench.uncertainty import cluster_weights


def truth_of(results: Results, method: str, place: Place, claim: str) -> float | None:
    """A method's graded score against the known answer for a claim: 0 = random, 1 = perfect."""
    return results.normalised(method, place, f"gt.ndcg[{claim}]")


def claimants(results: Results) -> list[str]:
    """The methods that claim something of the neurons they rank first."""
    return [method for method, card in results.cards.items() if card.claims != "none"]


def units(results: Results, places: Sequence[Place]) -> tuple[list[str], str]:
    """What is resampled for each place: its truth model where there are four or more, else itself."""
    lineages = [results.lineage(place) for place in places]
    if len(set(lineages)) >= MIN_LINEAGES:
        return lineages, "models"
    return [place.label for place in places], "tasks" if len(places) >= MIN_TASKS else "nothing"


def interval_over(names: Sequence[str], value: Callable[[np.ndarray], float]) -> tuple[float, float] | None:
    """95 % interval of ``value`` (weights (S,) of the places -> number) over resampled units; None for too few.

    Resamples in which the value is undefined (NaN) are left out.
    """
    distinct, unit_of = np.unique(names, return_inverse=True)
    if len(distinct) < MIN_TASKS:
        return None
    draws = np.array([value(weights[unit_of]) for weights in cluster_weights(len(distinct), n_draws=1000)])
    return interval(draws, len(distinct)) if np.isfinite(draws).any() else None


def plain(value: Any) -> Any:
    """A study's result as JSON: NaN becomes null."""
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    return [plain(one) for one in value] if isinstance(value, list | tuple) else value
