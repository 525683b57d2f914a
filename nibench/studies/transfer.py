"""Does truth transfer? Whether the order of the methods on planted neurons is their order on natural ones."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from nibench.errors import InputError
from nibench.resampling import MIN_LINEAGES, interval
from nibench.results import TIERS, Place, Results
from nibench.studies.draws import plain, truth_of
from nibench.task import CLAIMS
from nibench.uncertainty import cluster_weights
from nibench.verdicts import rank_ranges

MIN_METHODS = 4
N_DRAWS = 1000


@dataclass(frozen=True)
class Tau:
    """Kendall's tau-b between the orders of the methods on two tiers, for one claim; 1 the same, -1 reversed."""

    claim: str
    first: str
    second: str
    value: float
    ci95: tuple[float, float] | None
    methods: int
    models: tuple[int, int]  # truth models behind each of the two orders


@dataclass(frozen=True)
class Study:
    """Whether the order of the methods carries over from tier to tier.

    Attributes
    ----------
    taus : every pair of tiers and every claim for which both have an order.
    orders : claim -> tier -> method -> mean score; the methods that ran everywhere in that tier.
    missing : tiers for which there are no records.
    ranks : claim -> tier -> method -> [lowest, highest], 95 % of its ranks over resampled truth models, among the
        methods that every tier of the claim has; only of tiers with four truth models or more.
    """

    taus: tuple[Tau, ...]
    orders: dict[str, dict[str, dict[str, float]]]
    missing: tuple[str, ...]
    ranks: dict[str, dict[str, dict[str, tuple[int, int]]]]

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        return plain(asdict(self))


def study(results: Results, calibrations: Sequence[Mapping[str, Any]] = ()) -> Study:
    """Compare the methods' orders between all tiers that the records hold.

    A method's place in an order is its mean graded truth score over the tasks of a model, then over models.
    Intervals come from resampled truth models, a glass-box together with its twin and its middle, and exist
    where both tiers have four or more. Neither random nor the label-free rankings are left out: they are methods
    with a place in the order.

    Parameters
    ----------
    calibrations
        Documents of ``nibench calibrate``: the tier ``graft``. What they know is which grafts are required, so
        they have an order for that claim only, by the recall of these; every draw is a model of its own.

    Raises
    ------
    InputError
        If no tier has a known answer.
    """
    places = {tier: [place for place in results.places if results.tier(place) == tier] for tier in TIERS}
    held = [one for one in calibrations if not one["refused"] and one.get("axis", "uses") == "uses"]
    missing = tuple(tier for tier, found in places.items() if not (held if tier == "graft" else found))
    if len(missing) == len(TIERS):
        raise InputError("No task in these records has a known answer. Make some: nibench run --suite truth")
    taus, orders, ranks = [], {}, {}
    for claim in CLAIMS:
        tables = {tier: _of_places(results, found, claim) for tier, found in places.items()}
        if claim == "required":
            tables["graft"] = _of_grafts(held)
        tables = {tier: table for tier, table in tables.items() if len(table.methods) >= MIN_METHODS}
        orders[claim] = {tier: table.order() for tier, table in tables.items()}
        everywhere = [m for m in results.cards if tables and all(m in t.methods for t in tables.values())]
        ranks[claim] = {tier: found for tier, table in tables.items() if (found := table.ranks(everywhere))}
        for first, second in combinations(tables, 2):
            taus += _tau(claim, first, second, tables[first], tables[second])
    return Study(tuple(taus), orders, missing, ranks)


@dataclass(frozen=True, eq=False)
class _Table:
    """The scores of the methods that ran on all of a tier, per truth model: ``values`` (M, L)."""

    methods: list[str]
    lineages: list[str]
    values: np.ndarray

    def order(self) -> dict[str, float]:
        """Method -> mean score, best first."""
        means = dict(zip(self.methods, self.values.mean(axis=1).tolist(), strict=True))
        return dict(sorted(means.items(), key=lambda item: (-item[1], item[0])))

    def ranks(self, methods: Sequence[str]) -> dict[str, tuple[int, int]]:
        """95 % of the ranks of these methods over resampled truth models; empty with fewer than four."""
        if len(self.lineages) < MIN_LINEAGES or len(methods) < 2:
            return {}
        weights = cluster_weights(len(self.lineages), n_draws=N_DRAWS)
        ranges = rank_ranges(self.of(methods) @ weights.T, len(self.lineages))
        return dict(zip(methods, ranges, strict=True))

    def of(self, methods: Sequence[str]) -> np.ndarray:
        return self.values[[self.methods.index(method) for method in methods]]


def _of_places(results: Results, places: Sequence[Place], claim: str) -> _Table:
    """From the records: the places of a tier that know the claim."""
    known = [p for p in places if results.known(p, f"gt.ndcg[{claim}]") == "scaled"]
    lineages = sorted({results.lineage(place) for place in known})
    rows = {}
    for method in results.cards:
        values = {place: truth_of(results, method, place, claim) for place in known}
        if not known or any(value is None for value in values.values()):
            continue
        per_model: dict[str, list[float]] = defaultdict(list)
        for place, value in values.items():
            per_model[results.lineage(place)].append(value or 0.0)
        rows[method] = [float(np.mean(per_model[name])) for name in lineages]
    return _Table(list(rows), lineages, np.array(list(rows.values())))


def _of_grafts(documents: Sequence[Mapping[str, Any]]) -> _Table:
    """From calibrations: the recall of the grafts in use, per draw, of the methods that every draw scored."""
    draws = {
        f"{d['model']} {d['task']} {draw['seed']}": draw["scores"] for d in documents for draw in d["draws"]
    }
    methods = [m for m in next(iter(draws.values()), {}) if all(m in scores for scores in draws.values())]
    values = [[scores[method]["recall"] for scores in draws.values()] for method in methods]
    return _Table(methods, list(draws), np.array(values))


def read_calibrations(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """The documents that ``nibench calibrate`` left in these results folders.

    Raises
    ------
    InputError
        If one is not whole.
    """
    documents = []
    for path in (path for folder in folders for path in sorted(Path(folder).glob("calibrations/*.json"))):
        try:
            documents.append(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError) as error:
            raise InputError(
                f"{path} is not a whole JSON file ({error}). Delete it and calibrate again."
            ) from None
    return documents


def _tau(claim: str, first: str, second: str, a: _Table, b: _Table) -> list[Tau]:
    methods = [method for method in a.methods if method in b.methods]
    if len(methods) < MIN_METHODS:
        return []
    x, y = a.of(methods), b.of(methods)
    value = float(kendall(x.mean(axis=1)[:, None], y.mean(axis=1)[:, None])[0])
    if not np.isfinite(value):
        return []
    ci95 = None
    if min(len(a.lineages), len(b.lineages)) >= MIN_LINEAGES:
        everyone = sorted({*a.lineages, *b.lineages})  # what both tiers have is drawn for both at once
        weights = cluster_weights(len(everyone), n_draws=N_DRAWS)
        of_a, of_b = (weights[:, [everyone.index(name) for name in t.lineages]] for t in (a, b))
        there = of_a.any(axis=1) & of_b.any(axis=1)
        draws = kendall(x @ of_a[there].T, y @ of_b[there].T)
        ci95 = interval(draws, len(everyone)) if np.isfinite(draws).any() else None
    return [Tau(claim, first, second, value, ci95, len(methods), (len(a.lineages), len(b.lineages)))]


def kendall(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Kendall's tau-b of the scores (M, B) of two orders, for each of B draws: (B,); NaN where one is all ties.

    References
    ----------
    Kendall, The treatment of ties in ranking problems, Biometrika 1945.
    """
    a, b = (np.sign(one[:, None] - one[None]) for one in (x, y))  # (M, M, B)
    above = np.einsum("mnb,mnb->b", a, b)
    untied = np.sqrt(np.einsum("mnb,mnb->b", a, a) * np.einsum("mnb,mnb->b", b, b))
    return np.divide(above, untied, out=np.full(above.shape, np.nan), where=untied > 0)
