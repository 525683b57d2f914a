"""The boards in the terminal, 80 columns wide, and the sentences one needs to read them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nibench.axes import AXES, Axis, headline
from nibench.boards import (
    Board,
    Row,
    bands_words,
    boards,
    default_axis,
    interval_words,
    mean_cost,
    null_words,
    truth_words,
)
from nibench.levels import Estimate, estimate
from nibench.results import Results
from nibench.wording import fine, listed, number, printable, seconds

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text


def tables(results: Results) -> "list[Table]":
    """Every board: the headline ones with what is needed to read them, then the others."""
    found = boards(results)
    first = headline({board.axis.id for board in found})
    others = [board.axis for board in found if board.axis.id not in first]
    titles = [axis.title.lower().replace(": ", ":\n") for axis in others]
    return [headline_table(results)] + ([_table(results, found, others, titles)] if others else [])


def headline_table(results: Results) -> "Table":
    """The headline boards side by side: what ``nibench run`` ends with."""
    from rich.text import Text

    found = boards(results)
    first = headline({board.axis.id for board in found})
    shown = [axis for axis in AXES if axis.id in first]
    one_truth = sum(axis.of_truth for axis in shown) == 1
    titles = [
        "truth" if axis.of_truth and one_truth else axis.title.lower().removeprefix("truth: ")
        for axis in shown
    ]
    table = _table(results, found, shown, titles, beside=True)
    table.caption = Text("\n".join(map(printable, reading(results, found))))
    return table


def as_text(shown: Any) -> str:
    """What rich would print, 80 columns wide, without colours."""
    import io

    from rich.console import Console

    out = io.StringIO()
    Console(file=out, width=80, color_system=None, force_jupyter=False).print(shown)
    return out.getvalue()


def reading(results: Results, found: Sequence[Board]) -> list[str]:
    """What one must know to read the headline boards; text of records as it stands in them."""
    lines = ["0 = random rankings, 1 = ceiling."]
    if any(board.axis.of_truth for board in found):
        lines[0] += " Truth: in bold what the method claims, dim what it does not."
    if found:
        order = ordering(found)
        lines.append(f"In the order of {order.axis.title.lower()}: {interval_words(order)}.")
        first = [row.method for row in order.rows if row.band == 1]
        if len(first) > 1:
            lines.append(f"Cannot be told apart at the top: {', '.join(first)}.")
        lines += [f"{words[0].upper()}{words[1:]}."] if (words := bands_words(order)) else []
        lines += [words] if (words := truth_words(order)) else []
        lines += _resolved(found) + _uncovered(found)
    lines += null_words(results)
    failed = [s.record.cell for s in results.stored if s.record.status == "failed"]
    if failed:
        lines.append(f"* {len(failed)} failed cells count as random: {failed[0].stem} ...")
    return lines


def ordering(found: Sequence[Board]) -> Board:
    """The board that orders the table; there must be one."""
    chosen = default_axis(found)
    return next(board for board in found if board.axis.id == chosen)


def row_of(board: Board | None, method: str) -> Row | None:
    return next((row for row in board.rows if row.method == method), None) if board else None


def has_failed(results: Results, method: str) -> bool:
    return any(results.status(method, place) == "failed" for place in results.places)


def _table(
    results: Results,
    found: Sequence[Board],
    shown: Sequence[Axis],
    titles: Sequence[str],
    *,
    beside: bool = False,
) -> "Table":
    """A row per method in the default order, a column per axis.

    ``beside``: decoys and seconds, too, and the methods without a value.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold", caption_justify="left")
    table.add_column("method", overflow="fold", min_width=14)
    table.add_column("claims", overflow="fold")
    of = {board.axis.id: board for board in found}
    for title in (*titles, *["decoys", "sec"] * beside):
        table.add_column(title, justify="right", no_wrap=True)
    for row in ordering(found).rows if found else ():
        cells = [_value(row_of(of.get(axis.id), row.method)) for axis in shown]
        if not beside and all(cell.plain == "–" for cell in cells):
            continue
        if beside:
            cost = mean_cost(results, row.method, results.places)
            decoys = estimate(results, row.method, "gt.decoy", results.places, of_truth=True)
            cells += [Text(_plus_minus(decoys)), Text(seconds(cost[0] if cost else None))]
        failed = (" failed*", "red") if has_failed(results, row.method) else ""
        standing = (f" {found_as}", "dim") if (found_as := results.standing(row.method)) else ""
        table.add_row(
            Text.assemble(printable(row.method), standing, failed), Text(printable(row.card.claims)), *cells
        )
    alone = [] if found or not beside else [m for m in results.cards if has_failed(results, m)]
    for method in alone:  # nobody set a scale: nothing else was run
        dashes = [Text("–", style="dim")] * (len(table.columns) - 2)
        named = Text.assemble(printable(method), (" failed*", "red"))
        table.add_row(named, Text(printable(results.cards[method].claims)), *dashes)
    return table


def _value(row: Row | None) -> "Text":
    """Bold: the method claims it and covers every cell; dim: it does not claim it, or does not cover all."""
    from rich.text import Text

    if row is None or row.value is None:
        return Text("–", style="dim")
    text = _plus_minus(Estimate(row.value, row.ci95))
    if row.own and row.complete:
        return Text(text, style="bold")
    return Text(text, style="dim" if row.own is False or not row.complete else "")


def _plus_minus(found: Estimate | None) -> str:
    if found is None or found.ci95 is None:
        return number(found.value if found else None)
    return f"{number(found.value)}±{number((found.ci95[1] - found.ci95[0]) / 2)}"


def _resolved(found: Sequence[Board]) -> list[str]:
    """The smallest difference that each headline board can resolve."""
    first = headline({board.axis.id for board in found})
    smallest = [
        f"{board.axis.title.lower()} {fine(board.verdict.resolvable)}"
        for board in found
        if board.axis.id in first and board.verdict is not None and board.verdict.resolvable is not None
    ]
    return [f"Smallest difference resolved: {', '.join(smallest)}."] if smallest else []


def _uncovered(found: Sequence[Board]) -> list[str]:
    """Who is grey: covers only some of the cells of a headline board."""
    first = headline({board.axis.id for board in found})
    partly: dict[str, list[str]] = {}
    for board in found:
        for row in board.rows if board.axis.id in first else ():
            if row.value is not None and not row.complete:
                covered = f"{row.covered} of {len(board.places)} cells of {board.axis.title.lower()}"
                partly.setdefault(covered, []).append(row.method)
    return [f"Grey, not compared: {listed(methods)} ({covered})." for covered, methods in partly.items()]
