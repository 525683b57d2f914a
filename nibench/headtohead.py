"""A comparison in the terminal, 80 columns wide."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from nibench.axes import headline
from nibench.comparison import BoardComparison, Comparison, Pair, Wins
from nibench.wording import count, fine, listed, number, seconds

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("", "A", "B", "A − B", "95 %", "p", "Holm", "won–tied–lost")


def shown(found: Comparison) -> Iterator[Any]:
    """A table for each pair, where each wins, and for three or more methods who beats whom."""
    from rich.text import Text

    first = headline({board.axis for board in found.boards})
    pairs = dict.fromkeys((pair.first, pair.second) for board in found.boards for pair in board.pairs)
    for a, b in pairs:
        mine = [
            (board, pair)
            for board in found.boards
            for pair in board.pairs
            if (pair.first, pair.second) == (a, b)
        ]
        yield Text(f"A {a}, B {b}", style="bold")
        yield _differences(mine)
        for board, pair in mine:
            if board.axis in first:
                yield from (Text(line) for line in _places(board, pair))
        yield Text(_costs(found, a, b))
        yield Text()
    wins = next((board.wins for board in found.boards if board.axis == found.order), None)
    if wins is not None and len(wins.methods) > 2:
        title = next(board.title for board in found.boards if board.axis == found.order)
        yield Text(f"{title}: share of {len(wins.blocks)} models and worlds in which the row wins, ties half")
        yield _matrix(wins)
    yield from (Text(line, style="dim") for line in _small_print(found))


def _differences(mine: list[tuple[BoardComparison, Pair]]) -> "Table":
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    for name in COLUMNS:
        table.add_column(name, justify="right" if name else "left", no_wrap=True)
    for board, pair in mine:
        ends = "–" if pair.ci95 is None else f"{number(pair.ci95[0])} to {number(pair.ci95[1])}"
        sign = "+" if pair.difference >= 0.005 else ""
        table.add_row(
            board.title.lower(),
            *(number(value) for value in pair.values),
            f"{sign}{number(pair.difference)}",
            ends,
            *(fine(p) for p in (pair.p, pair.p_holm)),
            "–".join(map(str, pair.tally)),
        )
    return table


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


def _matrix(wins: Wins) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("", overflow="fold")
    for i in range(len(wins.methods)):
        table.add_column(str(i + 1), justify="right", no_wrap=True)
    for i, (method, row) in enumerate(zip(wins.methods, wins.shares, strict=True)):
        table.add_row(Text(f"{i + 1} {method}"), *("" if x is None else number(x) for x in row))
    return table


def _small_print(found: Comparison) -> list[str]:
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
