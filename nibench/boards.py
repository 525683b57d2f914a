"""Boards: records -> one board per axis, never averaged across axes.

A method's value on a board is the mean of its normalised scores (0 = random rankings, 1 = the ceiling)
over tasks within a model, then over models. Nothing here depends on which other methods were submitted,
except the two things that compare them: bands and P(first). A failed cell counts as 0 (a random
ranking); a cell that is not applicable is in no mean; a method that does not cover all cells of a board
keeps its value and is not compared.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from nibench.axes import AXES, ORDER, Axis
from nibench.record import Card
from nibench.resampling import MIN_LINEAGES, MIN_TASKS, interval, lineage_weights, task_weights
from nibench.results import Place, Results, Stored
from nibench.wording import number

Resampled = Literal["sentences", "tasks", "models", "nothing"]
VISIBLE = 0.005  # a difference that two decimals do not show tells nobody apart
NULL_SHARE = 0.05  # of the margin: more is too much where no neuron is right
FLAGGING = {"gt.decoy": 0.5, "gt.decoy[natural]": 0.5, "sel.kappa": 0.0}  # metric -> what random scores


@dataclass(frozen=True)
class Row:
    """One method on one board."""

    method: str
    card: Card
    value: float | None  # None: covers no cell of this board
    ci95: tuple[float, float] | None
    beside: Mapping[str, float]  # name -> mean of what the axis shows beside the value
    covered: int
    failed: int
    not_applicable: int
    missing: int
    home: str | None  # why this column favours this method
    own: bool | None  # on an axis of truth: whether this is the claim its card makes
    gain: float | None = None  # over the best ranking that looks at no label, on the same cells
    band: int | None = None  # 1 = cannot be told apart from the first; None where rows are not compared
    p_first: float | None = None

    @property
    def complete(self) -> bool:
        return self.value is not None and self.not_applicable + self.missing == 0


@dataclass(frozen=True)
class Board:
    """The methods on one axis: complete rows by value, then incomplete ones, then those without a value."""

    axis: Axis
    rows: tuple[Row, ...]
    places: tuple[Place, ...]
    left_out: tuple[Place, ...]  # no scale there (random and ceiling too close), for every method
    resampled: Resampled  # what the intervals rest on
    n_lineages: int = 0  # how many truth models (worlds) were planted independently
    oracle: float | None = None  # what the exact oracle itself scores
    blind: str | None = None  # the best method that looks at no label

    @property
    def empty(self) -> bool:
        return not self.places


def boards(results: Results, task: str | None = None, model: str | None = None) -> tuple[Board, ...]:
    """One board per axis that has values, in the order of ``AXES``; of one task or model only, if named."""
    places = tuple(
        s for s in results.places if (task is None or s.task == task) and (model is None or s.model == model)
    )
    found = (_board(results, axis, places) for axis in AXES)
    return tuple(board for board in found if not board.empty)


def default_axis(boards: Sequence[Board]) -> str:
    """The axis that orders the table when the reader has not chosen one."""
    there = [board.axis.id for board in boards]
    return next((axis for axis in ORDER if axis in there), there[0] if there else ORDER[0])


def _board(results: Results, axis: Axis, places: Sequence[Place]) -> Board:
    known = {s: results.known(s, axis.metric) for s in places}
    scaled = tuple(s for s in places if known[s] == "scaled")
    left_out = tuple(s for s in places if known[s] == "unscaled")
    draws, resampled = (_lineage_draws if axis.of_truth else _board_draws)(results, axis, scaled)
    rows = [_row(results, axis, method, scaled, draws.get(method)) for method in results.cards]
    rows.sort(key=lambda row: (not row.complete, -np.inf if row.value is None else -row.value, row.method))
    rows.sort(key=lambda row: row.value is None)
    rows = _compare(rows, draws)
    if not axis.of_truth:
        return Board(axis, tuple(rows), scaled, left_out, resampled)
    blind = next((row.method for row in rows if row.value is not None and looks_at_no_label(row.card)), None)
    gains = {row.method: _gain(results, axis, row.method, blind, scaled) for row in rows}
    return Board(
        axis,
        tuple(replace(row, gain=gains[row.method]) for row in rows),
        scaled,
        left_out,
        resampled,
        n_lineages=len({results.lineage(place) for place in scaled}),
        oracle=_oracle(results, axis, scaled),
        blind=blind,
    )


def looks_at_no_label(card: Card) -> bool:
    """Whether a method cannot know the concept: it sees neither labels nor what the model does."""
    return not {"LABELS", "MODEL", "PAIRS"} & {need.upper() for need in card.needs}


def _gain(
    results: Results, axis: Axis, method: str, blind: str | None, places: Sequence[Place]
) -> float | None:
    """How far a method's value lies above that of a method that looks at no label, on the cells of both."""
    if blind is None:
        return None
    found = {
        p: (results.normalised(method, p, axis.metric), results.normalised(blind, p, axis.metric))
        for p in places
    }
    both = {place: a - b for place, (a, b) in found.items() if a is not None and b is not None}
    return float(_mean_over_blocks(both)) if both else None


def _oracle(results: Results, axis: Axis, places: Sequence[Place]) -> float | None:
    """The exact oracle's own value, on the scale of the methods'; None where the truth has none."""
    known = {place: value for place in places if (value := results.oracle(place, axis.metric)) is not None}
    return float(_mean_over_blocks(known)) if known else None


def _lineage_draws(
    results: Results, axis: Axis, places: Sequence[Place]
) -> tuple[dict[str, np.ndarray], Resampled]:
    """Draws of every method's value over truth models, a model with its twin at once; none for few of them."""
    lineages = [results.lineage(place) for place in places]
    if len(set(lineages)) < MIN_LINEAGES:
        return {}, "nothing"
    weights = lineage_weights(lineages, [place.model for place in places])
    drawn = {}
    for method in results.cards:
        values = [results.normalised(method, place, axis.metric) for place in places]
        there = np.array([value is not None for value in values])
        if (
            len({lineage for lineage, is_there in zip(lineages, there, strict=True) if is_there})
            >= MIN_LINEAGES
        ):
            drawn[method] = _weighted(weights[:, there], np.array([x for x in values if x is not None]))
    return drawn, "models"


def _board_draws(
    results: Results, axis: Axis, places: Sequence[Place]
) -> tuple[dict[str, np.ndarray], Resampled]:
    """Draws of every method's value, (N_DRAWS,) each and paired; over sentences if all cells allow it."""
    values = {m: [results.normalised(m, s, axis.metric) for s in places] for m in results.cards}
    scored = {m: v for m, v in values.items() if any(x is not None for x in v)}
    per_cell = {
        (m, s): results.draws(m, s, axis.metric)
        for m, v in scored.items()
        for s, x in zip(places, v, strict=True)
        if x is not None
    }
    whole = {key: draws for key, draws in per_cell.items() if draws is not None}
    if whole and len(whole) == len(per_cell):
        cells = {m: {s: whole[m, s] for s in places if (m, s) in whole} for m in scored}
        return {m: np.asarray(_mean_over_blocks(found)) for m, found in cells.items()}, "sentences"
    if len(places) < MIN_TASKS:
        return {}, "nothing"
    weights = task_weights([s.model for s in places])  # (N_DRAWS, S), blocks weighted alike
    drawn = {}
    for method, found in scored.items():
        there = np.array([x is not None for x in found])
        if there.sum() >= MIN_TASKS:
            drawn[method] = _weighted(weights[:, there], np.array([x for x in found if x is not None]))
    return drawn, "tasks"


def _weighted(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    total = weights.sum(axis=1)
    return np.where(total > 0, weights @ values / np.where(total > 0, total, 1.0), np.nan)


def _row(results: Results, axis: Axis, method: str, places: Sequence[Place], draws: np.ndarray | None) -> Row:
    status = {s: results.status(method, s) for s in places}
    values = {s: results.normalised(method, s, axis.metric) for s in places}
    covered = {s: value for s, value in values.items() if value is not None}
    beside = {}
    for name, metric in axis.beside:
        other = {s: results.normalised(method, s, metric) for s in covered}
        known = {s: value for s, value in other.items() if value is not None}
        if known:
            beside[name] = float(_mean_over_blocks(known))
    missing = sum(status[s] == "missing" for s in places)
    card = results.cards[method]
    return Row(
        method=method,
        card=card,
        value=float(_mean_over_blocks(covered)) if covered else None,
        ci95=interval(draws) if draws is not None else None,
        beside=beside,
        covered=len(covered),
        failed=sum(status[s] == "failed" for s in places),
        not_applicable=len(places) - len(covered) - missing,
        missing=missing,
        home=home_advantage(card, axis),
        own=card.claims == axis.claim if axis.of_truth and axis.claim else None,
    )


def home_advantage(card: Card, axis: Axis) -> str | None:
    """Why a column favours a method: it computes the column's own definition, or shares its machinery."""
    if axis.claim is not None and (axis.claim in card.shares_estimand or axis.id in card.shares_estimand):
        return "shares the estimand"
    if card.family.casefold() in axis.families:
        return "home advantage"
    return None


def _compare(rows: Sequence[Row], draws: Mapping[str, np.ndarray]) -> list[Row]:
    """Add bands and P(first) to the complete rows: paired draws, best first."""
    compared = [row for row in rows if row.complete and row.method in draws]
    if len(compared) < 2:
        return list(rows)
    stacked = np.stack([draws[row.method] for row in compared])  # (M, N_DRAWS)
    first = stacked >= stacked.max(axis=0) - 1e-12
    p_first = (first / first.sum(axis=0)).mean(axis=1)
    extra: dict[str, tuple[int, float]] = {}
    band, leader = 1, stacked[0]
    for row, own, p in zip(compared, stacked, p_first, strict=True):
        low, _ = interval(leader - own)
        if low > VISIBLE:  # told apart from the band's first: opens the next band
            band, leader = band + 1, own
        extra[row.method] = band, float(p)
    return [
        replace(row, band=extra[row.method][0], p_first=extra[row.method][1]) if row.method in extra else row
        for row in rows
    ]


def _mean_over_blocks(values: Mapping[Place, float] | Mapping[Place, np.ndarray]) -> float | np.ndarray:
    """Mean over the tasks of each model, then over models, each model weighing the same."""
    blocks: dict[str, list] = defaultdict(list)
    for place, value in values.items():
        blocks[place.model].append(value)
    return sum(sum(block) / len(block) for block in blocks.values()) / len(blocks)


def mean_cost(results: Results, method: str, places: Iterable[Place]) -> tuple[float, float] | None:
    """(seconds, forward + 2 x backward passes), mean over the cells that ran; None without any."""
    costs = [
        (stored.record.cost.seconds, stored.record.cost.forward + 2 * stored.record.cost.backward)
        for place in places
        for stored in results.cells.get((method, place), ())
        if stored.record.cost is not None and stored.record.status == "ok"
    ]
    if not costs:
        return None
    seconds, passes = np.mean(costs, axis=0)
    return float(seconds), float(passes)


def mean_value(results: Results, method: str, places: Iterable[Place], metric: str) -> float | None:
    """Mean of a flagging metric's plain value, tasks within models first; a failed cell scores as random."""
    values: dict[Place, float] = {}
    for place in places:
        found = [score.value for score in results.scores(method, place, metric) if np.isfinite(score.value)]
        if results.status(method, place) == "failed":
            if results.known(place, metric) != "unknown":
                values[place] = FLAGGING[metric]
        elif found:
            values[place] = float(np.mean(found))
    return float(_mean_over_blocks(values)) if values else None


def null_words(results: Results) -> list[str]:
    """Where no neuron is right: a line for who claims some carry, or are required, and moves over .05 with eight."""
    return [
        f"No neuron is right in {place.label}, yet {method} claims {card.claims}: "
        f"its first eight move {number(score.value)} of the margin."
        for place in results.places
        for method, card in results.cards.items()
        if card.claims in ("carries", "required")
        for score in results.scores(method, place, "null.share")[:1]
        if score.value > NULL_SHARE
    ]


def mean_normalised(results: Results, method: str, places: Iterable[Place], metric: str) -> float | None:
    """Mean of a metric's normalised value, tasks within models first; None where the method has none."""
    found = (
        (place, results.normalised(method, place, metric))
        for place in places
        if results.scores(method, place, metric)
    )
    values = {place: value for place, value in found if value is not None}
    return float(_mean_over_blocks(values)) if values else None


def interval_words(board: Board) -> str:
    """How many cells a board has and what its intervals rest on, as a reader should know it."""
    few = ", rough with so few" if len(board.places) < 10 else ""
    cells = f"{len(board.places)} cell{'s' if len(board.places) != 1 else ''}"
    planted = f"{board.n_lineages} models" if board.n_lineages > 1 else "one model"
    if board.axis.of_truth and board.resampled == "nothing":
        return f"{cells}, {planted}: no interval (it takes {MIN_LINEAGES} planted independently)"
    return {
        "models": f"{cells}, 95 % intervals from resampled truth models ({planted})",
        "sentences": f"{cells}, 95 % intervals from resampled sentences, tasks held fixed",
        "tasks": f"{cells}, 95 % intervals from resampled tasks{few}",
        "nothing": f"{cells}, no interval: too few tasks",
    }[board.resampled]


def overlap(results: Results) -> tuple[list[str], np.ndarray]:
    """How far the methods agree: methods, and (M, M) chance-corrected overlap of their top neurons.

    0 at chance, 1 for equal sets; ties count by expectation; mean over the cells both methods have, NaN
    where there is none. Descriptive: agreement is not correctness.
    """
    from nibench.metrics.overlap import overlap_matrix
    from nibench.ranking import Ranking

    methods = [m for m in results.cards if any(s.arrays.get("scores") is not None for s in _of(results, m))]
    index = {method: i for i, method in enumerate(methods)}
    total, n_cells = np.zeros((2, len(methods), len(methods)))
    for place in results.places:
        there = {m: results.cells.get((m, place), ()) for m in methods}
        first = {m: seeds[0].arrays.get("scores") for m, seeds in there.items() if seeds}
        rankings = {m: Ranking.from_scores(scores) for m, scores in first.items() if scores is not None}
        if len(rankings) > 1:
            rows = [index[m] for m in rankings]
            total[np.ix_(rows, rows)] += overlap_matrix(rankings)
            n_cells[np.ix_(rows, rows)] += 1
    return methods, np.divide(total, n_cells, out=np.full_like(total, np.nan), where=n_cells > 0)


def _of(results: Results, method: str) -> Iterable[Stored]:
    return (stored for (name, _), seeds in results.cells.items() if name == method for stored in seeds)
