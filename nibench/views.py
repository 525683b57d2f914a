"""Views: the table's numbers for every choice of places that a reader can make, each computed once.

A choice is a track, a family of tasks, a task, a model, or several of these together. Many choices come to the same
places, so a view is named by its places, not by the choice: the page looks up those that its filters leave.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from nibench.boards import (
    Board,
    Row,
    boards,
    certified_words,
    default_axis,
    interval_words,
    mean_cost,
    verdict_words,
)
from nibench.levels import Estimate, estimate, means
from nibench.passages import inspect_command
from nibench.results import Place, Results
from nibench.wording import rounded

NATURAL = "natural"  # the track of a place of which nothing is known
ROLES = (
    *("used", "signal", "distributed", "relay", "shared", "conjunctive", "saturated", "sign_mixed", "copy"),
    *("backup", "enabler", "cancelled", "decoy", "correlate", "natural_decoy"),
)  # right ones first, then what takes their places
FLAGS = {  # columns that order nothing -> their metric
    "decoys": "gt.decoy",
    "natural": "gt.decoy[natural]",
    "any": "gt.cover_any",
    "whole": "gt.cover_all",
    "groups": "gt.group",
    "names": "gt.label",
    "selective": "sel.kappa",
    "specific": "abl.spec",
    "stable": "stab.data",
}
BESIDE = ("decoys", "natural", "anatomy", *list(FLAGS)[2:], "seconds", "passes")


def place_rows(results: Results) -> list[dict[str, str]]:
    """The places in the order of ``Results.places``, with what the filters choose by, and how to see a ``NEURON``."""
    records = {place: seeds[0].record for (_, place), seeds in results.cells.items()}
    return [
        {
            "tier": results.tier(place) or NATURAL,
            "concept": records[place].concept,
            "task": place.task,
            "model": place.model,
            "detail": place.detail,
            "inspect": inspect_command(records[place], "NEURON"),
        }
        for place in results.places
    ]


def choices(results: Results) -> list[tuple[int, ...]]:
    """Every set of places that some choice of track, family, task and model leaves, but for all of them; sorted."""
    rows = [(row["tier"], row["concept"], row["task"], row["model"]) for row in place_rows(results)]
    wanted = {
        tuple(value if keep else None for value, keep in zip(row, kept, strict=True))
        for row in rows
        for kept in product((False, True), repeat=4)
    }
    found = {
        tuple(i for i, row in enumerate(rows) if all(w in (None, x) for w, x in zip(want, row, strict=True)))
        for want in wanted
    }
    return sorted(found - {tuple(range(len(rows)))})


def views(results: Results) -> dict[str, dict[str, Any]]:
    """The view of each choice, by its places: their positions, joined by commas."""
    return {
        ",".join(map(str, chosen)): view(results, boards(results, places), places)
        for chosen in choices(results)
        if (places := [results.places[i] for i in chosen])
    }


def view(results: Results, found: Sequence[Board], places: Sequence[Place]) -> dict[str, Any]:
    """The table's numbers on some places, whose boards are given."""
    return {
        "boards": {board.axis.id: _estimates(board) for board in found},
        "words": {board.axis.id: _words(board) for board in found},
        "oracle": {board.axis.id: _ends(board.oracle) for board in found if board.oracle is not None},
        "blind": {board.axis.id: board.blind for board in found if board.blind is not None},
        "beside": {method: _beside(results, method, places) for method in results.cards},
        "plane": {
            point.method: [_ends(point.encodes), _ends(point.carries), point.cells, point.of]
            for point in on_the_plane(results, found)
        },
    }


@dataclass(frozen=True)
class Point:
    """A method on the plane: *encodes* and *carries* over the same cells, so many ``of`` those that know both."""

    method: str
    encodes: Estimate
    carries: Estimate
    cells: int
    of: int


def on_the_plane(results: Results, found: Sequence[Board]) -> list[Point]:
    """A point per method that has both; what it encodes elsewhere is on the board, not here."""
    there = {board.axis.id: board for board in found}
    if not {"encodes", "carries"} <= set(there):
        return []
    across, up = (there[name] for name in ("encodes", "carries"))
    known = set(across.places)
    both = [place for place in up.places if place in known]
    points = []
    for method in results.cards:
        cells = [
            place
            for place in both
            if all(results.normalised(method, place, b.axis.metric) is not None for b in (across, up))
        ]
        x, y = (estimate(results, method, board.axis.metric, cells, of_truth=False) for board in (across, up))
        if x is not None and y is not None:
            points.append(Point(method, x, y, len(cells), len(both)))
    return points


def row_order(found: Sequence[Board], results: Results) -> list[str]:
    """The methods in the order in which the page opens."""
    chosen = default_axis(found)
    rows = next(([row.method for row in board.rows] for board in found if board.axis.id == chosen), [])
    return rows or list(results.cards)


def _words(board: Board) -> str:
    return "; ".join(filter(None, [interval_words(board), verdict_words(board), certified_words(board)]))


def _estimates(board: Board) -> dict[str, Any]:
    """Per method [value, low, high, beside, covered, of, failed, band, P(first), mark, own, gain, ranks, errors]."""
    return {row.method: _estimate(row, board) for row in board.rows if row.value is not None}


def _estimate(row: Row, board: Board) -> list[Any]:
    low, high = row.ci95 or (None, None)
    beside = {name: _ends(one) for name, one in row.beside.items()}
    counts = [row.covered, len(board.places), row.failed, row.band]
    marks = [rounded(row.p_first), row.home or ("own claim" if row.own else None), row.own, _ends(row.gain)]
    errors = None if row.se is None else [row.level, rounded(row.se, 5), rounded(row.seed_se, 5)]
    return [rounded(row.value), rounded(low), rounded(high), beside, *counts, *marks, row.ranks, errors]


def _ends(found: Estimate | None) -> list[float | None] | None:
    """[value, low, high]; the ends are None where there is no interval."""
    if found is None or not math.isfinite(found.value):
        return None
    low, high = found.ci95 or (None, None)
    return [rounded(found.value), rounded(low), rounded(high)]


def _beside(results: Results, method: str, places: Sequence[Place]) -> dict[str, Any]:
    """The columns that order nothing: decoy rate, selectivity, anatomy, cost."""
    cost = mean_cost(results, method, places)
    return {
        **{
            key: _ends(estimate(results, method, metric, places, of_truth=metric.startswith("gt.")))
            for key, metric in FLAGS.items()
        },
        "anatomy": anatomy(results, method, places),
        "seconds": rounded(cost[0]) if cost else None,
        "passes": rounded(cost[1], 0) if cost else None,
    }


def anatomy(results: Results, method: str, places: Sequence[Place]) -> dict[str, list[float | None]]:
    """Role -> [its share of the top neurons, low, high], mean over the cells where roles are known."""
    found = {place: shares for place in places if (shares := _shares(results, method, place))}
    names = sorted({role for shares in found.values() for role in shares}, key=role_order)
    table = np.array([[shares.get(role, 0.0) for role in names] for shares in found.values()])
    mean = means(results, tuple(found), table.reshape(len(found), len(names)), of_truth=True)
    ends = zip(mean.values, mean.low, mean.high, strict=True)
    rows = {role: [rounded(float(x), 3) for x in three] for role, three in zip(names, ends, strict=True)}
    return {role: row for role, row in rows.items() if row[0] is not None and row[0] > 0.0005}


def _shares(results: Results, method: str, place: Place) -> dict[str, float]:
    """Role -> its share of one cell's top neurons, mean over seeds; empty where roles are not known."""
    seeds = [roles for s in results.cells.get((method, place), ()) if (roles := _roles(s.record.anatomy))]
    names = {role for roles in seeds for role in roles}
    return {r: sum(roles.get(r, 0.0) / sum(roles.values()) for roles in seeds) / len(seeds) for r in names}


def _roles(anatomy: Mapping[str, Mapping[str, float]]) -> Mapping[str, float]:
    """Role -> expected number among the first n neurons, n as many as are right; empty where not known.

    Records count the first n and the first ten.
    """
    if not anatomy:
        return {}
    return anatomy[next((k for k in anatomy if k != "10"), "10")]


def role_order(role: str) -> tuple[int, str]:
    """Sorts roles: right ones first, background last."""
    return (ROLES.index(role) if role in ROLES else len(ROLES) + (role == "background"), role)
