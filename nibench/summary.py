"""Summary: the page in a few sentences."""

from collections.abc import Sequence

from nibench.boards import Board, Row, default_axis, mean_cost
from nibench.results import Results
from nibench.wording import count, listed, number, seconds

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
    if not overall:
        return ["No cell has a score yet."]
    board = next(board for board in overall if board.axis.id == default_axis(overall))
    complete = [row for row in board.rows if row.complete]
    if not complete:
        return ["No method covers all cells yet, so none is compared."]
    best = complete[0]
    lines = [
        f"{best.method} best finds the neurons that {FINDS[board.axis.id]}: {number(best.value)}{_in_brackets(best)}."
    ]
    if best.own is False:
        lines[0] += f" Its card claims something else: {best.card.claims}."
    cells = f"{len(board.places)} cell{'s' if len(board.places) != 1 else ''}"
    tied = [row.method for row in complete[1:] if row.band == 1]
    if best.band is None or best.p_first is None:
        few = "truth models" if board.axis.of_truth else "tasks"
        lines.append(f"There are too few {few} to say how sure that is.")
    elif tied:
        sure = f"it is first in {100 * best.p_first:.0f} % of resamples"
        lines.append(f"On {cells} it cannot be told apart from {listed(tied)}; {sure}.")
    else:
        lines.append(f"On {cells} every other method can be told apart from it.")
    claimed = [
        f"{row.method} ({b.axis.claim}, {number(row.value)})" for b in overall if (row := best_of_claim(b))
    ]
    if claimed:
        lines.append(f"Of those that claim it, first by the truth: {listed(claimed)}.")
    reads = next((b.rows[0] for b in overall if b.axis.id == "encodes" and b.rows[0].complete), None)
    if board.axis.id != "encodes" and reads is not None and reads.method != best.method:
        lines.append(
            f"Of the methods that cover every cell, {reads.method} best finds neurons a probe can read: "
            f"{number(reads.value)}."
        )
    cost = mean_cost(results, best.method, results.places)
    if cost:
        passes = (
            f"{count(cost[1])} forward passes (a backward pass counts two)"
            if cost[1]
            else "no pass of the model"
        )
        lines.append(f"{best.method} takes {seconds(cost[0])} s a cell and {passes}.")
    return lines


def best_of_claim(board: Board) -> Row | None:
    """The first of the methods whose card makes the board's claim and that cover all of it."""
    return next((row for row in board.rows if row.own and row.complete), None)


def _in_brackets(row: Row) -> str:
    return f" ({words_of_range(row.ci95)})" if row.ci95 else ""


def words_of_range(ends: tuple[float, float] | None) -> str:
    return f"{number(ends[0])} to {number(ends[1])}" if ends else "–"
