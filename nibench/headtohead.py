"""A comparison in the terminal, 80 columns wide."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nibench.axes import headline
from nibench.comparison import BoardComparison, Comparison, Pair
from nibench.wording import count, fine, listed, number, printable, seconds

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("", "A", "B", "A − B", "95 %", "p", "Holm", "won–tied–lost")


@dataclass(frozen=True)
class Part:
    """One pair: a row of text for each board, then where each wins and what they cost."""

    first: str
    second: str
    rows: tuple[tuple[str, ...], ...]
    lines: tuple[str, ...]


def parts(found: Comparison) -> Iterator[Part]:
    """The pairs, in the order in which they were asked for."""
    headlines = headline({board.axis for board in found.boards})
    for a, b in dict.fromkeys((pair.first, pair.second) for board in found.boards for pair in board.pairs):
        mine = [
            (board, pair)
            for board in found.boards
            for pair in board.pairs
            if (pair.first, pair.second) == (a, b)
        ]
        lines = [line for board, pair in mine if board.axis in headlines for line in _places(board, pair)]
        rows = tuple(_row(board, pair) for board, pair in mine)
        yield Part(a, b, rows, (*lines, _costs(found, a, b)))


def matrix(found: Comparison) -> tuple[str, list[list[str]]] | None:
    """Who beats whom on the board that orders: what it says, and a row of text per method; None for two."""
    board = next((board for board in found.boards if board.axis == found.order), None)
    if board is None or board.wins is None or len(board.wins.methods) < 3:
        return None
    wins = board.wins
    said = f"{board.title}: share of {len(wins.blocks)} models and worlds in which the row wins, ties half"
    rows = zip(wins.methods, wins.shares, strict=True)
    return said, [
        [f"{i} {method}", *("" if x is None else number(x) for x in row)]
        for i, (method, row) in enumerate(rows, start=1)
    ]


def shown(found: Comparison) -> Iterator[Any]:
    """A table for each pair, where each wins, and for three or more methods who beats whom."""
    from rich.text import Text

    for part in parts(found):
        yield Text(printable(f"A {part.first}, B {part.second}"), style="bold")
        yield _table(COLUMNS, part.rows)
        yield from (Text(printable(line)) for line in part.lines)
        yield Text()
    if (wins := matrix(found)) is not None:
        said, rows = wins
        yield Text(said)
        yield _table(["", *map(str, range(1, len(rows) + 1))], rows)
    yield from (Text(line, style="dim") for line in small_print(found))


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> "Table":
    """Words in the first column, numbers in the others."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for i, name in enumerate(columns):
        table.add_column(name, justify="right" if i else "left", no_wrap=bool(i), overflow="fold")
    for row in rows:
        table.add_row(*(Text(printable(text)) for text in row))
    return table


def _row(board: BoardComparison, pair: Pair) -> tuple[str, ...]:
    """The cells of ``COLUMNS``."""
    return (
        board.title.lower(),
        *(number(value) for value in pair.values),
        f"{'+' if pair.difference >= 0.005 else ''}{number(pair.difference)}",
        "–" if pair.ci95 is None else f"{number(pair.ci95[0])} to {number(pair.ci95[1])}",
        *(fine(p) for p in (pair.p, pair.p_holm)),
        "–".join(map(str, pair.tally)),
    )


def _places(board: BoardComparison, pair: Pair) -> list[str]:
    """Where each is ahead on one board, the largest differences first."""
    lines = []
    for name, sign in (("A", 1), ("B", -1)):
        ahead = sorted((c for c in pair.cells if c.winner == sign), key=lambda c: -abs(c.difference))
        if ahead:
            words = [f"{cell.place} +{number(abs(cell.difference))}" for cell in ahead]
            lines.append(f"{board.title}, {name} wins: {listed(words)}.")
    return lines


def _costs(found: Comparison, a: str, b: str) -> str:
    costs = [found.cost[method] or (None, None) for method in (a, b)]
    time, passes = ([one[i] for one in costs] for i in (0, 1))
    return (
        f"Cost a cell: A {seconds(time[0])} s, {count(passes[0])} passes; "
        f"B {seconds(time[1])} s, {count(passes[1])} passes."
    )


def small_print(found: Comparison) -> list[str]:
    """What the intervals and p-values rest on; boards that rest on the same are named together."""
    said: dict[str, list[str]] = {}
    for board in found.boards:
        said.setdefault(_rests_on(board), []).append(board.title.lower())
    lines = [f"{', '.join(titles).capitalize()}: {words}." for words, titles in said.items()]
    return [
        *lines,
        "0 = random rankings, 1 = ceiling. Holm over the pairs of a board. A cell is won where its own interval "
        "leaves out 0, or without one by more than .005.",
    ]


def _rests_on(board: BoardComparison) -> str:
    tested = [pair for pair in board.pairs if pair.p is not None]
    if not tested:
        return "too few models or tasks for an interval"
    pair = min(tested, key=lambda pair: pair.n_units)
    what = {"models": "models", "sentences": "sentences, tasks and models held fixed", "tasks": "tasks"}
    most = f"; so many tell apart {board.most_pairs} pairs at the most" if board.most_pairs < 1000 else ""
    return f"intervals and sign flips over {pair.n_units} {what[pair.level]}{most}"
