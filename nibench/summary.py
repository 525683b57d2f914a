"""Summary: the page in a few sentences."""

from collections.abc import Sequence

from nibench.boards import Board, Row, default_axis, mean_cost
from nibench.results import TIERS, Results
from nibench.wording import count, listed, number, seconds

NEAR = 0.05  # of the scale from random rankings to the ceiling
FINDS = {
    "truth.carries": "are known to carry a concept",
    "carries": "carry a concept",
    "required": "a behaviour requires",
    "encodes": "tell a probe the concept",
    "truth.required": "are known to be required",
    "truth.responds": "are known to respond to a concept",
    "truth.associated": "are known to vary with the label",
    "truth.model": "matter to the model as a whole",
}


def summary(results: Results, overall: Sequence[Board]) -> list[str]:
    """The page in a few sentences: who finds the neurons, how sure that is, whose claim is true, what it costs."""
    return [line for _, lines in answers(results, overall) for line in lines]


def answers(results: Results, overall: Sequence[Board]) -> list[tuple[str, list[str]]]:
    """A reader's questions, each with its answer in a few sentences."""
    if not overall:
        return [("", ["No cell has a score yet."])]
    board = next(board for board in overall if board.axis.id == default_axis(overall))
    complete = [row for row in board.rows if row.complete]
    if not complete:
        return [("", ["No method covers all cells yet, so none is compared."])]
    best = complete[0]
    value = f"{number(best.value)}{_in_brackets(best)}"
    finds = f"{best.method} best finds the neurons that {FINDS[board.axis.id]}: {value}."
    which = [f"{finds} Its card claims something else: {best.card.claims}." if best.own is False else finds]
    which += _beside_the_definition(complete) + _yardstick(board) + _of_those_that_claim_it(overall)
    which += _reads(board, best, overall)
    return [
        ("Which method?", which),
        ("How sure?", _sure(board, complete, overall) + _known_from(results, board)),
        ("At what cost?", _cost(results, complete)),
    ]


def _beside_the_definition(complete: Sequence[Row]) -> list[str]:
    """Of a first that computes what its board is defined by: that it does, and who comes next."""
    if complete[0].home != "shares the estimand":
        return []
    line = "It computes the very thing that this board measures, so it marks the ceiling"
    other = next((row for row in complete if row.home != "shares the estimand"), None)
    if other is None:
        return [f"{line}."]
    return [f"{line}. The best that does not: {other.method}, {number(other.value)}{_in_brackets(other)}."]


def _yardstick(board: Board) -> list[str]:
    """What a ranking reaches that looks at no label: less than that is no finding."""
    blind = next((row for row in board.rows if row.method == board.blind and row.complete), None)
    if blind is None or blind.method == board.rows[0].method:
        return []
    return [
        f"Without a look at any label, {blind.method} scores {number(blind.value)}: read the others over it."
    ]


def _of_those_that_claim_it(overall: Sequence[Board]) -> list[str]:
    claimed = [
        f"{row.method} ({b.axis.claim}, {number(row.value)})" for b in overall if (row := best_of_claim(b))
    ]
    if not claimed:
        return []
    return [
        f"A card says what its method claims of the neurons. First by the truth of their claim: {listed(claimed)}."
    ]


def _reads(board: Board, best: Row, overall: Sequence[Board]) -> list[str]:
    reads = next((b.rows[0] for b in overall if b.axis.id == "encodes" and b.rows[0].complete), None)
    if board.axis.id == "encodes" or reads is None or reads.method == best.method:
        return []
    return [
        f"Of the methods that cover every cell, {reads.method} best finds neurons a probe can read: "
        f"{number(reads.value)}."
    ]


def _sure(board: Board, complete: Sequence[Row], overall: Sequence[Board]) -> list[str]:
    """How far the first can be told apart from the rest; where the truth cannot say, on the board that can."""
    best = complete[0]
    if best.band is not None and best.p_first is not None:
        tied = [row.method for row in complete[1:] if row.band == 1]
        of = {"models": f"{board.n_lineages} models planted independently", "tasks": "the tasks"}.get(
            board.resampled, board.resampled
        )
        sure = f"It is first in {100 * best.p_first:.0f} % of resamples of {of}"
        if not tied:
            return [f"{sure}; every other method can be told apart from it."]
        return [f"{sure}; it cannot be told apart from {listed(tied)}."]
    lines = [
        f"There are too few {'truth models' if board.axis.of_truth else 'tasks'} to say how sure that is."
    ]
    other = next((b for b in overall if b.axis.id in ("carries", "required") and b.axis != board.axis), None)
    row = next((row for row in other.rows if row.method == best.method and row.ci95), None) if other else None
    if other is not None and row is not None and row.ci95:
        lines.append(
            f"On other {other.resampled}, {other.axis.title.lower()} alone: {number(row.value)}{_in_brackets(row)}."
        )
    return lines


def _known_from(results: Results, board: Board) -> list[str]:
    """Whose neurons are known: the models by their kind, and their size."""
    if not board.axis.of_truth:
        return []
    kinds: dict[str, set[str]] = {}
    for place in board.places:
        kinds.setdefault(results.tier(place), set()).add(place.model or place.task)
    worlds = len(kinds.pop("world", ()))
    counts = [f"{len(kinds[tier])} {tier}" for tier in TIERS if tier in kinds]
    n_models = sum(map(len, kinds.values()))
    parts = [f"{listed(counts)} model{'s' if n_models > 1 else ''}"] if counts else []
    parts += [f"{worlds} sampled world{'s' if worlds > 1 else ''}"] if worlds else []
    there = set(board.places)
    sizes = [
        one.record.n_neurons for (_, place), seeds in results.cells.items() if place in there for one in seeds
    ]
    least, most = min(sizes), max(sizes)
    size = f", of {least:,} to {most:,} neurons" if least < most else f", of {most:,} neurons" if most else ""
    cells = f"{len(board.places)} cell{'s' if len(board.places) > 1 else ''} (one task in one model)"
    return [
        f"The answer is known in {cells}: {' and '.join(parts)}{size}. Nobody knows it of a large "
        "language model."
    ]


def _cost(results: Results, complete: Sequence[Row]) -> list[str]:
    """What the first takes, and the cheapest of those that score nearly the same, where it takes half as long."""
    near = [row for row in complete if (row.value or 0) > (complete[0].value or 0) - NEAR]
    costs = {row.method: cost for row in near if (cost := mean_cost(results, row.method, results.places))}
    best = complete[0].method
    if best not in costs:
        return []
    took, passes = costs[best]
    how = f"{count(passes)} forward passes (a backward pass counts two)" if passes else "no pass of the model"
    lines = [f"{best} takes {seconds(took)} s for one task in one model, and {how}."]
    cheapest = min(costs, key=lambda method: costs[method][0])
    if costs[cheapest][0] < took / 2:
        value = next(row.value for row in near if row.method == cheapest)
        less, fewer = costs[cheapest]
        also = f" and {count(fewer)} passes" if fewer else ""
        lines.append(f"{cheapest}, at {number(value)}, takes {seconds(less)} s{also}.")
    return lines


def best_of_claim(board: Board) -> Row | None:
    """The first of the methods whose card makes the board's claim and that cover all of it."""
    return next((row for row in board.rows if row.own and row.complete), None)


def _in_brackets(row: Row) -> str:
    return f" ({words_of_range(row.ci95)})" if row.ci95 else ""


def words_of_range(ends: tuple[float, float] | None) -> str:
    return f"{number(ends[0])} to {number(ends[1])}" if ends else "–"
