"""Boards: records -> one board per axis, never averaged across axes.

A method's value on a board is the mean of its normalised scores (0 = random rankings, 1 = the ceiling)
over tasks within a model, then over models. Nothing here depends on which other methods were submitted,
except the two things that compare them: bands and P(first). A failed cell counts as 0 (a random
ranking); a cell that is not applicable is in no mean; a method that does not cover all cells of a board
keeps its value and is not compared.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nibench.axes import AXES, ORDER, Axis
from nibench.levels import Estimate, Level, Means, Spread, estimate, mean_over_blocks, means, spread
from nibench.metric_cards import tracks
from nibench.metric_cards import words as metric_words
from nibench.record import Card
from nibench.resampling import MIN_LINEAGES, interval
from nibench.results import Place, Results
from nibench.stored import Stored
from nibench.verdicts import Verdict, verdict
from nibench.wording import fine, number

NULL_SHARE = 0.05  # of the margin: more is too much where no neuron is right


@dataclass(frozen=True)
class Row:
    """One method on one board."""

    method: str
    card: Card
    value: float | None  # None: covers no cell of this board
    ci95: tuple[float, float] | None
    beside: Mapping[str, Estimate]  # name -> mean of what the axis shows beside the value
    covered: int
    failed: int
    not_applicable: int
    missing: int
    home: str | None  # why this column favours this method
    own: bool | None  # on an axis of truth: whether this is the claim its card makes
    level: Level = "nothing"  # what varies under the interval
    se: float | None = None  # of the value, from the same draws as the interval
    seed_se: float = 0.0  # what the seeds alone make of it; 0 with fewer than three
    gain: Estimate | None = None  # over the best ranking that looks at no label, on the same cells
    band: int | None = None  # 1 = cannot be told apart from the first; None where rows are not compared
    p_first: float | None = None
    ranks: tuple[int, int] | None = None  # 95 % of its ranks

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
    resampled: Level  # what the intervals rest on
    n_lineages: int = 0  # how many truth models (worlds) were planted independently
    oracle: Estimate | None = None  # what the exact oracle itself scores
    blind: str | None = None  # the best method that looks at no label
    verdict: Verdict | None = None  # None where fewer than two methods are compared

    @property
    def empty(self) -> bool:
        return not self.places


def boards(results: Results, places: Sequence[Place] | None = None) -> tuple[Board, ...]:
    """One board per axis that has values, in the order of ``AXES``; of some places only, if they are given."""
    chosen = results.places if places is None else places
    if not chosen:
        return ()
    found = (_board(results, axis, chosen) for axis in AXES)
    return tuple(board for board in found if not board.empty)


def default_axis(boards: Sequence[Board]) -> str:
    """The axis that orders the table when the reader has not chosen one: never by a metric that tracks no truth."""
    there = [board.axis.id for board in boards if tracks(board.axis.metric) is not False]
    return next((axis for axis in ORDER if axis in there), there[0] if there else ORDER[0])


def _board(results: Results, axis: Axis, places: Sequence[Place]) -> Board:
    known = {s: results.known(s, axis.metric) for s in places}
    scaled = tuple(s for s in places if known[s] == "scaled")
    left_out = tuple(s for s in places if known[s] == "unscaled")
    found = spread(results, axis.metric, scaled, of_truth=axis.of_truth)
    rows = [_row(results, axis, method, scaled, found) for method in results.cards]
    rows.sort(key=lambda row: (not row.complete, -np.inf if row.value is None else -row.value, row.method))
    rows.sort(key=lambda row: row.value is None)
    rows, judged = _compare(rows, found)
    n_lineages = len({results.lineage(place) for place in scaled})
    board = Board(axis, tuple(rows), scaled, left_out, found.level, n_lineages, verdict=judged)
    if not axis.of_truth:
        return board
    blind = next((row.method for row in rows if row.value is not None and looks_at_no_label(row.card)), None)
    gains = {row.method: _gain(results, axis, row.method, blind, scaled, found) for row in rows}
    return replace(
        board,
        rows=tuple(replace(row, gain=gains[row.method]) for row in rows),
        oracle=_oracle(results, axis, scaled),
        blind=blind,
    )


def looks_at_no_label(card: Card) -> bool:
    """Whether a method cannot know the concept: it sees neither labels nor what the model does."""
    return not {"LABELS", "MODEL", "PAIRS"} & {need.upper() for need in card.needs}


def _gain(
    results: Results, axis: Axis, method: str, blind: str | None, places: Sequence[Place], found: Spread
) -> Estimate | None:
    """How far a method's value lies above that of a method that looks at no label, on the cells of both."""
    if blind is None:
        return None
    pairs = {
        p: (results.normalised(method, p, axis.metric), results.normalised(blind, p, axis.metric))
        for p in places
    }
    both = {place: a - b for place, (a, b) in pairs.items() if a is not None and b is not None}
    if not both:
        return None
    paired = len(both) == len(places) and {method, blind} <= set(found.draws)
    ends = interval(found.draws[method] - found.draws[blind], found.n_units) if paired else None
    return Estimate(mean_over_blocks(both), ends, found.level)


def _oracle(results: Results, axis: Axis, places: Sequence[Place]) -> Estimate | None:
    """The exact oracle's own value, on the scale of the methods'; None where the truth has none."""
    known = {place: value for place in places if (value := results.oracle(place, axis.metric)) is not None}
    if not known:
        return None
    found = means(results, tuple(known), np.array(list(known.values())), of_truth=True)
    ends = None if np.isnan(found.low) else (float(found.low), float(found.high))
    return Estimate(float(found.values), ends, found.level)


def _row(results: Results, axis: Axis, method: str, places: Sequence[Place], found: Spread) -> Row:
    status = {s: results.status(method, s) for s in places}
    values = {s: results.normalised(method, s, axis.metric) for s in places}
    covered = {s: value for s, value in values.items() if value is not None}
    beside = {
        name: one
        for name, metric in axis.beside
        if (one := estimate(results, method, metric, tuple(covered), of_truth=axis.of_truth)) is not None
    }
    draws = found.draws.get(method)
    missing = sum(status[s] == "missing" for s in places)
    card = results.cards[method]
    return Row(
        method=method,
        card=card,
        value=mean_over_blocks(covered) if covered else None,
        ci95=interval(draws, found.n_units) if draws is not None else None,
        level=found.level if draws is not None else "nothing",
        se=float(np.nanstd(draws, ddof=1)) if draws is not None else None,
        seed_se=found.seed_se(method) if covered else 0.0,
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


def _compare(rows: Sequence[Row], found: Spread) -> tuple[list[Row], Verdict | None]:
    """Add bands, ranks and P(first) to the complete rows, best first."""
    compared = [row.method for row in rows if row.complete and row.method in found.draws]
    if len(compared) < 2:
        return list(rows), None
    judged = verdict(np.stack([found.draws[method] for method in compared]), found.shares(compared))
    at = {method: i for i, method in enumerate(compared)}
    return [
        replace(
            row,
            band=judged.bands[at[row.method]],
            p_first=judged.p_first[at[row.method]],
            ranks=judged.ranks[at[row.method]],
        )
        if row.method in at
        else row
        for row in rows
    ], judged


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


def interval_words(board: Board) -> str:
    """How many cells a board has and what its intervals rest on, as a reader should know it."""
    few = ", rough with so few" if len(board.places) < 10 else ""
    cells = f"{len(board.places)} cell{'s' if len(board.places) != 1 else ''}"
    planted = f"{board.n_lineages} models" if board.n_lineages > 1 else "one model"
    if board.axis.of_truth and board.resampled == "nothing":
        return f"{cells}, {planted}: no interval (it takes {MIN_LINEAGES} planted independently)"
    truth = "truth models" if board.axis.of_truth else "models"
    return {
        "models": f"{cells}, 95 % intervals from resampled {truth} ({planted})",
        "sentences": f"{cells}, 95 % intervals from resampled sentences, tasks held fixed",
        "tasks": f"{cells}, 95 % intervals from resampled tasks{few}",
        "nothing": f"{cells}, no interval: too few tasks",
    }[board.resampled]


def certified_words(board: Board) -> str | None:
    """What is known of the board's metric itself, where it is not the truth; None where nothing is."""
    return None if board.axis.of_truth else metric_words(board.axis.metric)


def truth_words(board: Board) -> str | None:
    """What a truth score is to be read against: a ranking that looks at no label, and the exact oracle."""
    words = []
    if board.blind is not None:
        value = next(row.value for row in board.rows if row.method == board.blind)
        words.append(f"without a label {board.blind} scores {number(value)}: read the gain over it")
    if board.oracle is not None:
        words.append(f"the exact oracle itself scores {number(board.oracle.value)}")
    text = "; ".join(words)
    return f"{text[0].upper()}{text[1:]}." if text else None


def bands_words(board: Board) -> str | None:
    """What the bands of a board rest on, and how many pairs of methods its units could tell apart."""
    if board.verdict is None:
        return None
    found = board.verdict
    what = {"models": "model", "sentences": "sentence", "tasks": "task"}.get(board.resampled, "unit")
    units = f"{found.n_units} {what}{'s' if found.n_units != 1 else ''}"
    if found.by == "flips":
        most = f" of the {found.most_pairs} that so many can tell apart" if found.most_pairs < 10_000 else ""
        return f"bands by sign flips of {units}, Holm over {found.n_pairs} pairs{most}"
    most = f"at most {found.most_pairs} of {found.n_pairs} pairs" if found.most_pairs else "no pair"
    return f"sign flips of {units} can tell {most} of methods apart, so bands are by paired intervals"


def verdict_words(board: Board) -> str | None:
    """The same, and the smallest difference that the board can resolve."""
    if board.verdict is None or board.verdict.resolvable is None:
        return bands_words(board)
    least = fine(board.verdict.resolvable)
    return f"{bands_words(board)}; the smallest difference it resolves is {least} (of typical neighbours)"


def overlap(results: Results) -> tuple[list[str], Means]:
    """How far the methods agree: methods, and (M, M) chance-corrected overlap of their top neurons.

    0 at chance, 1 for equal sets; ties count by expectation; mean over the cells both methods have, NaN
    where there is none. Descriptive: agreement is not correctness.
    """
    from nibench.metrics.overlap import overlap_matrix
    from nibench.ranking import Ranking

    methods = [m for m in results.cards if any(s.arrays.get("scores") is not None for s in _of(results, m))]
    index = {method: i for i, method in enumerate(methods)}
    found = np.full((len(results.places), len(methods), len(methods)), np.nan)
    for matrix, place in zip(found, results.places, strict=True):
        there = {m: results.cells.get((m, place), ()) for m in methods}
        first = {m: seeds[0].arrays.get("scores") for m, seeds in there.items() if seeds}
        rankings = {m: Ranking.from_scores(scores) for m, scores in first.items() if scores is not None}
        if len(rankings) > 1:
            rows = [index[m] for m in rankings]
            matrix[np.ix_(rows, rows)] = overlap_matrix(rankings)
    return methods, means(results, results.places, found, of_truth=False)


def _of(results: Results, method: str) -> Iterable[Stored]:
    return (stored for (name, _), seeds in results.cells.items() if name == method for stored in seeds)
