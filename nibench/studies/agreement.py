"""Does agreement mean correctness? How far a method agrees with the others, against how right it is.

Where no answer is known, methods have been judged by the consensus of all. Here the answer is known as well.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nibench.errors import InputError
from nibench.metrics.agreement import Agreement, agreement
from nibench.ranking import Ranking
from nibench.results import TIERS, Place, Results
from nibench.studies.draws import claimants, interval_over, plain, truth_of, units
from nibench.task import CLAIMS

MIN_METHODS = 4  # fewer have no correlation worth the name
MEASURES = ("avg_overlap", "neuron_vote")


@dataclass(frozen=True)
class MethodRow:
    """One method: means over the places where the answer is known, and how right it is on its own claim."""

    method: str
    family: str
    claims: str
    avg_overlap: float
    neuron_vote: float
    published_overlap: float
    published_vote: float
    truth: float | None
    places: int


@dataclass(frozen=True)
class Correlation:
    """Spearman's correlation between a measure of agreement and truth across methods, mean over places.

    ``claim`` is what the truth is asked about; ``own``: each method about its own claim.
    """

    measure: str
    claim: str
    tier: str
    value: float
    ci95: tuple[float, float] | None
    resampled: str
    places: int


@dataclass(frozen=True)
class Study:
    """Whether agreement means correctness: the methods, the correlations, and each place's own."""

    methods: tuple[MethodRow, ...]
    correlations: tuple[Correlation, ...]
    per_place: Mapping[str, float]  # place -> correlation of avg_overlap with the truth of the own claim

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return plain(asdict(self))


def study(results: Results) -> Study:
    """Compare agreement with correctness on every place of the records whose answer is known.

    Only methods that claim something vote and are compared: label-free ones neither know the concept nor say so.

    Raises
    ------
    InputError
        If no place has four such methods that ran, or no truth.
    """
    chosen = claimants(results)
    found = {place: one for place in results.places if (one := _at(results, place, chosen)) is not None}
    if not found:
        raise InputError(
            f"No task in these records has a known answer and {MIN_METHODS} methods that claim something. "
            "Make some: nibench run --suite truth"
        )
    rows = [_row(results, method, found) for method in chosen]
    across = {
        (measure, claim): {
            place: _spearman(results, place, *one, measure, claim) for place, one in found.items()
        }
        for claim in ("own", *CLAIMS)
        for measure in MEASURES
    }
    correlations = [
        one
        for tier in ("all", *TIERS)
        for (measure, claim), values in across.items()
        if (one := _correlation(results, values, measure, claim, tier)) is not None
    ]
    per_place = {p.label: value for p, value in across["avg_overlap", "own"].items() if np.isfinite(value)}
    return Study(tuple(row for row in rows if row is not None), tuple(correlations), per_place)


def _at(results: Results, place: Place, chosen: Sequence[str]) -> tuple[list[str], Agreement] | None:
    """The methods compared on a place and their agreement; None where there are too few or no truth."""
    rankings = {}
    for method in chosen:
        seeds = results.cells.get((method, place), ())
        scores = seeds[0].arrays.get("scores") if seeds else None
        if scores is not None and any(
            truth_of(results, method, place, claim) is not None for claim in CLAIMS
        ):
            rankings[method] = Ranking.from_scores(scores)
    if len(rankings) < MIN_METHODS:
        return None
    return list(rankings), agreement(rankings, [results.cards[method].family for method in rankings])


def _own(results: Results, method: str, place: Place) -> float | None:
    return truth_of(results, method, place, results.cards[method].claims)


def _row(
    results: Results, method: str, found: Mapping[Place, tuple[list[str], Agreement]]
) -> MethodRow | None:
    places = [place for place, (methods, _) in found.items() if method in methods]
    if not places:
        return None
    names = ("avg_overlap", "neuron_vote", "published_overlap", "published_vote")
    means = {
        name: float(np.mean([getattr(found[p][1], name)[found[p][0].index(method)] for p in places]))
        for name in names
    }
    truths = [value for place in places if (value := _own(results, method, place)) is not None]
    card = results.cards[method]
    truth = float(np.mean(truths)) if truths else None
    return MethodRow(method, card.family, card.claims, **means, truth=truth, places=len(places))


def _spearman(
    results: Results, place: Place, methods: Sequence[str], agreed: Agreement, measure: str, claim: str
) -> float:
    """Across the methods whose truth is known here; NaN for fewer than four, or where all are alike."""
    from scipy.stats import rankdata

    right = [
        _own(results, m, place) if claim == "own" else truth_of(results, m, place, claim) for m in methods
    ]
    known = [i for i, value in enumerate(right) if value is not None]
    x, y = getattr(agreed, measure)[known], np.array([right[i] for i in known], dtype=np.float64)
    if len(known) < MIN_METHODS or not np.ptp(x) or not np.ptp(y):
        return float("nan")
    return float(np.corrcoef(rankdata(x), rankdata(y))[0, 1])


def _correlation(
    results: Results, values: Mapping[Place, float], measure: str, claim: str, tier: str
) -> Correlation | None:
    """The mean over the places of a tier (or all) where there is a correlation; None without any."""
    places = [p for p, value in values.items() if np.isfinite(value) and tier in ("all", results.tier(p))]
    if not places:
        return None
    numbers = np.array([values[place] for place in places])
    names, resampled = units(results, places)
    ci95 = interval_over(names, lambda weights: float(weights @ numbers / weights.sum()))
    return Correlation(measure, claim, tier, float(numbers.mean()), ci95, resampled, len(places))
