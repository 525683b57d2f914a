"""Figures: the numbers behind each chart, as rows of plain values; how they are drawn is in ``nibench.charts``.

A figure whose numbers the records do not hold is empty.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from nibench.boards import Board, Row, boards, mean_cost, overlap
from nibench.errors import InputError
from nibench.levels import Estimate
from nibench.results import MIN_SEEDS, Place, Results
from nibench.stored import Stored
from nibench.uncertainty import MIN_CLUSTERS, ratio_se
from nibench.views import ROLES, on_the_plane, role_order
from nibench.wording import number, rounded

if TYPE_CHECKING:
    from nibench.studies.transfer import Tau

KINDS = {  # what a role is taken for in a figure -> its roles; all others are "other"
    "right": ROLES[: ROLES.index("enabler")],
    "natural decoy": ("natural_decoy",),
    "decoy": ("decoy", "correlate"),
    "background": ("background",),
}
OTHER = "other"
CURVES = {  # metric -> what is seen in its curve
    "abl.auc[interchange]": "Share of the margin that swapping the first k neurons moves",
    "abl.auc[mean]": "Share of the margin lost with the first k neurons at their mean",
    "abl.auc[zero]": "Share of the margin lost with the first k neurons at zero",
    "abl.auc[resample]": "Share of the margin lost with the first k neurons as on other items",
    "probe.auc[lda]": "Accuracy of a linear probe on the first k neurons",
    "probe.auc[qda]": "Accuracy of a Gaussian probe on the first k neurons",
}
SUMS = {"probe": ("hits", "items"), "abl": ("moved", "at_stake")}
Z = 1.959964  # of a normal distribution's 95 %


# the plane, and cost against quality


def plane_points(results: Results) -> list[dict[str, Any]]:
    """A row per method with a value on both *encodes* and *carries*, over the cells where it has both."""
    return [
        {"method": one.method, "family": card.family, "claims": card.claims}
        | _on_axis("encodes", one.encodes)
        | _on_axis("carries", one.carries)
        | {"complete": one.cells == one.of, "covers": f"{one.cells} of {one.of} cells"}
        for one in on_the_plane(results, boards(results))
        for card in (results.cards[one.method],)
    ]


def _on_axis(name: str, row: Row | Estimate) -> dict[str, Any]:
    assert row.value is not None
    low, high = row.ci95 or (row.value, row.value)
    words = f" ({number(low)} to {number(high)})" if row.ci95 else ""
    return {
        name: row.value,
        f"{name}_low": low,
        f"{name}_high": high,
        f"{name}_text": f"{number(row.value)}{words}",
    }


def cost_points(results: Results, board: Board) -> list[dict[str, Any]]:
    """A row per method with a value on the board and a known cost: mean seconds and passes of its cells."""
    rows = []
    for row in board.rows:
        cost = mean_cost(results, row.method, board.places)
        if row.value is not None and cost is not None:
            rows.append(
                {"method": row.method, "claims": row.card.claims}
                | _on_axis("value", row)
                | {"seconds": cost[0], "passes": cost[1], "complete": row.complete}
            )
    return rows


# curves over k


def curve(seeds: Sequence[Stored], metric: str) -> dict[str, Any] | None:
    """One cell's curve over k; None where no seed has it.

    Returns
    -------
    dict
        ``k``; ``value`` per k, mean over seeds; ``half``, half of its 95 % interval, from the sums of each sentence
        (cluster-robust, the ranking held fixed) and, of three seeds or more, their spread: None where the sums are
        not known or the sentences fewer than ten; ``random``, what the shared random rankings score on average, and
        ``band``, the middle 95 % of them, both None where the record has none; ``matched``: [k, value] of random
        sets like this method's, in the same unit.
    """
    kept = [s for s in seeds if (score := s.record.score(metric)) is not None and score.curve]
    if not kept:
        return None
    scores = [score for s in kept if (score := s.record.score(metric)) is not None]
    first, curves = scores[0], np.array([score.curve for score in scores])
    return {
        "k": list(first.k),
        "value": curves.mean(axis=0).tolist(),
        "half": _half(kept, metric, curves),
        "random": first.details.get("random_curve"),
        "band": first.details.get("random_band"),
        "matched": _matched(first.details, first.k, first.curve),
    }


def _half(kept: Sequence[Stored], metric: str, curves: np.ndarray) -> list[float] | None:
    top, bottom = SUMS.get(metric.split(".")[0], ("", ""))
    sums = [s.arrays.get(f"{metric}/{top}") for s in kept]
    counts = [s.arrays.get(f"{metric}/{bottom}") for s in kept]
    known = [(a, b) for a, b in zip(sums, counts, strict=True) if a is not None and b is not None]
    shapes = {(a.shape, b.shape) for a, b in known}
    if len(known) < len(kept) or len(shapes) != 1 or len(known[0][1]) < MIN_CLUSTERS:
        return None
    above, below = np.mean([a for a, _ in known], axis=0), np.mean([b for _, b in known], axis=0)
    se = np.array([ratio_se(column, below) for column in above.T])
    if len(curves) >= MIN_SEEDS:
        se = np.hypot(se, curves.std(axis=0, ddof=1) / np.sqrt(len(curves)))
    return (Z * se).tolist()


def _matched(details: Mapping[str, Any], ks: Sequence[int], curve: Sequence[float]) -> list[list[float]]:
    """[k, share of the margin] that matched random sets move: their nats over the mean nats at stake."""
    found, nats = details.get("matched"), details.get("nats")
    if not found or not nats:
        return []
    largest = int(np.argmax(np.abs(curve)))
    at_stake = nats[largest] / curve[largest] if curve[largest] else 0.0
    pairs = zip(found["k"], found["matched"], strict=True)
    return [[k, value / at_stake] for k, value in pairs if value is not None and at_stake > 0]


def curves_of(results: Results, place: Place, metric: str) -> dict[str, dict[str, Any]]:
    """Method -> its curve in one place."""
    found = {m: curve(results.cells.get((m, place), ()), metric) for m in results.cards}
    return {method: one for method, one in found.items() if one is not None}


# what fills the first places


def kind_of(role: str) -> str:
    """What a role is taken for: right, natural decoy, decoy, background or other."""
    return next((kind for kind, roles in KINDS.items() if role in roles), OTHER)


def anatomy_rows(shares: Mapping[str, Mapping[str, float]]) -> list[dict[str, Any]]:
    """A row per method and role, of method -> role -> share."""
    kinds = [*KINDS, OTHER]
    return [
        {
            "method": method,
            "role": role.replace("_", " "),
            "kind": kind_of(role),
            "share": share,
            "at": kinds.index(kind_of(role)) * 100 + role_order(role)[0],
        }
        for method, roles in shares.items()
        for role, share in roles.items()
    ]


# how far methods agree


def agreement(results: Results) -> dict[str, Any]:
    """``rows``: a method and its overlap with each, ``values`` and ``ends``, like ones together; ``level``."""
    from scipy.cluster.hierarchy import leaves_list, linkage
    from scipy.spatial.distance import squareform

    methods, found = overlap(results)
    if len(methods) < 2:
        return {"rows": [], "level": "nothing"}
    apart = 1 - np.nan_to_num(np.clip(found.values, 0, 1))
    np.fill_diagonal(apart, 0)
    tree = linkage(squareform((apart + apart.T) / 2, checks=False), "average", optimal_ordering=True)
    order = leaves_list(tree).tolist()
    rows = [
        {
            "method": methods[i],
            "values": [rounded(float(found.values[i, j]), 3) for j in order],
            "ends": [[rounded(float(end[i, j]), 3) for end in (found.low, found.high)] for j in order],
        }
        for i in order
    ]
    return {"rows": rows, "level": found.level}


# how the order of the methods changes


@dataclass(frozen=True)
class Orders:
    """How the methods stand on each tier of neurons, from planted to natural, by the truth of each claim.

    Attributes
    ----------
    claims : dict
        Of each claim with two tiers or more, of the methods that all of them have: ``tiers``; ``rows`` with tier,
        at (0, 1 ...), method, claims, own, score, rank (ties on average), low and high; ``taus`` between neighbours,
        over all methods that both have, with at (.5, 1.5 ...), value, low, high and methods.
    taus : of every pair of tiers and every claim.
    missing : tiers without records.
    """

    claims: dict[str, dict[str, Any]]
    taus: "tuple[Tau, ...]" = ()
    missing: tuple[str, ...] = ()


def orders(results: Results) -> Orders:
    """From ``nibench study transfer``; nothing where no answer is known."""
    from nibench.studies import transfer

    try:
        study = transfer.study(results)
    except InputError:  # nothing is known of these neurons
        return Orders({})
    found = {}
    for claim, by_tier in study.orders.items():
        methods = [m for m in results.cards if by_tier and all(m in scores for scores in by_tier.values())]
        if len(by_tier) < 2 or len(methods) < 2:
            continue
        ranks = study.ranks[claim]
        rows = [
            row
            for at, (tier, scores) in enumerate(by_tier.items())
            for row in _rows_of_tier(results, claim, methods, (at, tier), scores, ranks.get(tier, {}))
        ]
        pairs = {(t.first, t.second): t for t in study.taus if t.claim == claim}
        taus = [
            {"at": at + 0.5, "value": rounded(t.value, 3), "methods": t.methods}
            | dict(zip(("low", "high"), map(rounded, t.ci95 or (None, None)), strict=True))
            for at, pair in enumerate(pairwise(by_tier))
            if (t := pairs.get(pair)) is not None
        ]
        found[claim] = {"tiers": list(by_tier), "rows": rows, "taus": taus}
    return Orders(found, study.taus, study.missing)


def _rows_of_tier(
    results: Results,
    claim: str,
    methods: Sequence[str],
    tier: tuple[int, str],
    scores: Mapping[str, float],
    ranges: Mapping[str, tuple[int, int]],
) -> list[dict[str, Any]]:
    from scipy.stats import rankdata

    ranks = rankdata(-np.array([scores[method] for method in methods]).round(9))
    rows = []
    for method, rank in zip(methods, ranks, strict=True):
        low, high = ranges.get(method, (None, None))
        claims = results.cards[method].claims
        rows.append(
            {"tier": tier[1], "at": tier[0], "method": method, "claims": claims, "own": claims == claim}
            | {"score": rounded(scores[method], 3), "rank": float(rank), "low": low, "high": high}
        )
    return rows
