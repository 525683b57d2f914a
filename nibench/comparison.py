"""Comparison: methods head to head, board by board, from the records alone."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from nibench.axes import AXES, ORDER, Axis
from nibench.boards import mean_cost
from nibench.errors import InputError, unknown
from nibench.levels import Level, mean_over_blocks, spread
from nibench.resampling import interval
from nibench.results import Place, Results
from nibench.tournament import borda, bradley_terry, friedman, win_matrix
from nibench.uncertainty import holm, pairs_apart, sign_flip_ps
from nibench.verdicts import VISIBLE, flips_for

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult


@dataclass(frozen=True)
class CellDifference:
    """First minus second method in one cell; an interval where the records hold its sentences."""

    place: str
    difference: float
    ci95: tuple[float, float] | None

    @property
    def winner(self) -> int:
        """1: the first, -1: the second, 0: neither by more than its interval and two decimals show."""
        if abs(self.difference) <= VISIBLE or (self.ci95 and self.ci95[0] <= 0 <= self.ci95[1]):
            return 0
        return 1 if self.difference > 0 else -1


@dataclass(frozen=True)
class Pair:
    """First minus second method on one board, over the cells that both cover.

    ``p`` is two-sided, of sign flips of the units that ``level`` names, whole; ``p_holm`` is corrected over the
    pairs of the board. The interval rests on the same units. All None where there are too few.
    """

    first: str
    second: str
    values: tuple[float, float]
    difference: float
    ci95: tuple[float, float] | None
    level: Level
    n_units: int
    p: float | None
    p_holm: float | None
    cells: tuple[CellDifference, ...]

    @property
    def tally(self) -> tuple[int, int, int]:
        """Cells won, tied, lost by the first."""
        found = [cell.winner for cell in self.cells]
        return found.count(1), found.count(0), found.count(-1)


@dataclass(frozen=True)
class Wins:
    """Who beats whom in how many blocks, and the rank statistics over them; they order nothing.

    ``shares``: methods x methods, share of the blocks (models, worlds) in which the row beats the column, ties
    half, None on the diagonal. A tie is a difference within 1.96 of its own standard errors, or one that two
    decimals do not show.
    """

    methods: tuple[str, ...]
    blocks: tuple[str, ...]
    shares: tuple[tuple[float | None, ...], ...]
    borda: tuple[float, ...]
    bradley_terry: tuple[float, ...]
    friedman: dict[str, Any] | None


@dataclass(frozen=True)
class BoardComparison:
    """The pairs on one board; ``most_pairs``: how many its units could tell apart at the most, under Holm."""

    axis: str
    title: str
    pairs: tuple[Pair, ...]
    most_pairs: int
    wins: Wins | None


@dataclass(frozen=True)
class Comparison:
    """Methods head to head. Prints itself; ``as_dict()`` is what ``--json`` prints."""

    methods: tuple[str, ...]
    boards: tuple[BoardComparison, ...]
    order: str
    cost: Mapping[str, tuple[float, float] | None]  # seconds and passes a cell

    def as_dict(self) -> dict[str, Any]:
        """Plain data, complete."""
        found = asdict(self)
        found["cost"] = {
            method: None if cost is None else {"seconds": cost[0], "passes": cost[1]}
            for method, cost in self.cost.items()
        }
        return found

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        from nibench.headtohead import shown

        yield from shown(self)

    def __str__(self) -> str:
        from nibench.tables import as_text

        return as_text(self)

    def _repr_html_(self) -> str:
        from nibench.notebook import comparison_html

        return comparison_html(self)


def compare(results: Results, methods: Sequence[str]) -> Comparison:
    """Every pair of these methods on every board where both have a value.

    Each board is a question of its own: p-values are corrected by Holm over the pairs of that board.

    Raises
    ------
    InputError
        For fewer than two methods, a name that the records do not have, or methods that share no cell.
    """
    asked = tuple(dict.fromkeys(methods))
    for method in asked:
        if method not in results.cards:
            raise unknown("method", method, results.cards, "The records have no such row.")
    if len(asked) < 2:
        raise InputError(
            f"Got {len(asked)} method{'s' * (len(asked) != 1)} to compare; name two or more of: "
            f"{', '.join(results.cards)}."
        )
    boards = [found for axis in AXES if (found := _board(results, axis, asked)) is not None]
    if not boards:
        raise InputError(
            f"No cell where two of {', '.join(asked)} have a score: there is nothing to compare."
        )
    there = [board.axis for board in boards]
    order = next((axis for axis in ORDER if axis in there), there[0])
    return Comparison(asked, tuple(boards), order, {m: mean_cost(results, m, results.places) for m in asked})


def _board(results: Results, axis: Axis, methods: Sequence[str]) -> BoardComparison | None:
    places = [place for place in results.places if results.known(place, axis.metric) == "scaled"]
    covers = {m: _values(results, axis, m, places) for m in methods}
    groups: dict[tuple[Place, ...], list[tuple[str, str]]] = {}
    for a, b in combinations(methods, 2):
        shared = tuple(place for place in covers[a] if place in covers[b])
        if shared:
            groups.setdefault(shared, []).append((a, b))
    made = {(p.first, p.second): p for both in groups.items() for p in _pairs(results, axis, *both, methods)}
    pairs = [made[both] for both in combinations(methods, 2) if both in made]
    if not pairs:
        return None
    tested = [pair for pair in pairs if pair.p is not None]
    adjusted = dict(zip(map(id, tested), holm(np.array([pair.p for pair in tested])).tolist(), strict=True))
    most = min((pairs_apart(pair.n_units) for pair in tested), default=0)
    corrected = tuple(replace(pair, p_holm=adjusted.get(id(pair))) for pair in pairs)
    return BoardComparison(axis.id, axis.title, corrected, most, wins_of(results, axis, methods, places))


def _pairs(
    results: Results,
    axis: Axis,
    places: tuple[Place, ...],
    pairs: Sequence[tuple[str, str]],
    asked: Sequence[str],
) -> list[Pair]:
    """The pairs that share just these cells: one set of draws and of flips for all of them."""
    methods = [method for method in asked if any(method in pair for pair in pairs)]
    found = spread(results, axis.metric, places, of_truth=axis.of_truth, methods=methods)
    whole = set(methods) <= set(found.draws)
    shares = found.shares(methods) if whole else np.zeros((0, len(methods)))
    column = {method: i for i, method in enumerate(methods)}
    differences = np.stack([shares[:, column[a]] - shares[:, column[b]] for a, b in pairs], axis=1)
    p_values = sign_flip_ps(differences, flips_for(len(asked) * (len(asked) - 1) // 2)) if whole else []
    made = []
    for i, (a, b) in enumerate(pairs):
        mine, theirs = (_values(results, axis, method, places) for method in (a, b))
        means = mean_over_blocks(mine), mean_over_blocks(theirs)
        made.append(
            Pair(
                first=a,
                second=b,
                values=means,
                difference=means[0] - means[1],
                ci95=interval(found.draws[a] - found.draws[b], len(shares)) if whole else None,
                level=found.level,
                n_units=len(shares),
                p=float(p_values[i]) if whole else None,
                p_holm=None,
                cells=tuple(_cell(results, axis, (a, b), p, mine[p] - theirs[p]) for p in places),
            )
        )
    return made


def _values(results: Results, axis: Axis, method: str, places: Sequence[Place]) -> dict[Place, float]:
    """The method's values on the cells that it covers."""
    found = ((place, results.normalised(method, place, axis.metric)) for place in places)
    return {place: value for place, value in found if value is not None}


def _cell(
    results: Results, axis: Axis, methods: Sequence[str], place: Place, difference: float
) -> CellDifference:
    a, b = (results.draws(method, place, axis.metric) for method in methods)
    ids = [found[0] for m in methods if (found := results.effects(m, place, axis.metric)) is not None]
    ends = interval(a - b, len(np.unique(np.concatenate(ids)))) if a is not None and b is not None else None
    return CellDifference(place.label, difference, ends)


def wins_of(results: Results, axis: Axis, methods: Sequence[str], places: Sequence[Place]) -> Wins | None:
    """Wins, ties and the rank statistics over the blocks that all methods cover; None where there is no block.

    A block is a model, or a world: tasks in one model are no independent contests, so they are averaged first.
    """
    covers = [_values(results, axis, method, places) for method in methods]
    there = [place for place in places if all(place in covered for covered in covers)]
    blocks: dict[str, list[Place]] = {}
    for place in there:
        blocks.setdefault(place.model or place.label, []).append(place)
    if not blocks or len(methods) < 2:
        return None
    values, tolerance = zip(
        *(_in_block(results, axis, methods, inside) for inside in blocks.values()), strict=True
    )
    table = np.array(values)
    shares = win_matrix(table, np.array(tolerance))
    strengths = bradley_terry(np.nan_to_num(shares) * len(table))
    test = friedman(table)
    return Wins(
        methods=tuple(methods),
        blocks=tuple(blocks),
        shares=tuple(tuple(None if np.isnan(x) else float(x) for x in row) for row in shares),
        borda=tuple(borda(table).tolist()),
        bradley_terry=tuple(strengths.tolist()),
        friedman=None if test is None else asdict(test),
    )


def _in_block(
    results: Results, axis: Axis, methods: Sequence[str], places: Sequence[Place]
) -> tuple[np.ndarray, np.ndarray]:
    """(M,) means over the cells of a block, and (M, M) how large a difference is still a tie."""
    means = np.array([np.mean(list(_values(results, axis, m, places).values())) for m in methods])
    draws = [[results.draws(m, p, axis.metric) for p in places] for m in methods]
    if any(one is None for row in draws for one in row):
        return means, np.full((len(methods),) * 2, VISIBLE)
    covariance = np.cov(np.mean(np.array(draws), axis=1))
    variance = np.diag(covariance)
    spread_of = np.sqrt(np.maximum(variance[:, None] + variance - 2 * covariance, 0.0))
    return means, np.maximum(1.96 * spread_of, VISIBLE)
