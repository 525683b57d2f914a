"""Leaderboard: results folders -> Markdown table, CSV, static page, and the table in the terminal."""

import csv
import hashlib
import html
import io
import re
from collections.abc import Sequence
from pathlib import Path

from rich.table import Table

from nibench.axes import AXES, headline
from nibench.boards import (
    Board,
    Row,
    bands_words,
    boards,
    certified_words,
    default_axis,
    interval_words,
    mean_cost,
    null_words,
    verdict_words,
)
from nibench.disk import write_atomic
from nibench.levels import Estimate, estimate
from nibench.record import Record, record_paths
from nibench.results import Results, Stored, collect, read_results
from nibench.submitted import standing_of
from nibench.wording import count, fine, listed, number, seconds

COLUMNS = (
    *(
        "method",
        "preset",
        "task",
        "concept",
        "model",
        "site",
        "layers",
        "aggregation",
        "cap",
        "seed",
        "others",
    ),
    *("family", "claims", "needs", "status", "reason"),
    *(
        "metric",
        "value",
        "unit",
        "direction",
        "normalised",
        "se",
        "ci95_low",
        "ci95_high",
        "chance",
        "ceiling",
    ),
    *("n_items", "n_clusters", "tie_fraction", "flags", "command"),
)
PAGE, MARKDOWN, CSV = "index.html", "leaderboard.md", "leaderboard.csv"
CODE = (
    "appendix.py",
    "axes.py",
    "boards.py",
    "comparison.py",
    "difficulty.py",
    "leaderboard.py",
    "levels.py",
    "page.py",
    "plane.py",
    "resampling.py",
    "results.py",
    "submitted.py",
    "summary.py",
    "tournament.py",
    "uncertainty.py",
    "verdicts.py",
    "wording.py",
)


def build(results: Sequence[Path], out: Path) -> Path:
    """Write the page, the Markdown table and the CSV of some results folders; returns the page's path.

    Nothing is done where the page in ``out`` was already made from these very records by this very code.

    Raises
    ------
    InputError
        If there are no records, they must not share a board, or ``out`` cannot be written.
    """
    digest = _inputs_digest(results)
    page = out / PAGE
    if _stored_digest(page) == digest and all((out / name).exists() for name in (MARKDOWN, CSV)):
        return page
    from nibench.page import render  # jinja2 and altair load only when a page is made

    found = collect(read_results(results))
    write_atomic(out / CSV, to_csv(found).encode())
    write_atomic(out / MARKDOWN, to_markdown(found).encode())
    write_atomic(page, render(found, digest).encode())
    return page


def to_markdown(results: Results) -> str:
    """One table for a README: a row per method in the default order, a column per axis, then the small print."""
    found = boards(results)
    if not found:
        return "No cell has a score yet.\n\n" + "\n".join(_small_print(results, found)) + "\n"
    order = _in_order(found)
    columns = {
        "method": [_named(results, row.method) for row in order],
        "claims": [row.card.claims for row in order],
    }
    columns["rank"] = [_rank(row) for row in order]
    for board in found:
        columns[board.axis.title.lower()] = [_with_interval(_row_of(board, row.method)) for row in order]
    for title, metric in (("decoy rate", "gt.decoy"), ("selective", "sel.kappa")):
        truth = metric.startswith("gt.")
        flags = [estimate(results, row.method, metric, results.places, of_truth=truth) for row in order]
        columns[title] = [_in_brackets(flag) for flag in flags]
    costs = [mean_cost(results, row.method, results.places) or (None, None) for row in order]
    columns["seconds"], columns["passes"] = [seconds(c[0]) for c in costs], [count(c[1]) for c in costs]
    shown = {title: cells for title, cells in columns.items() if set(cells) != {"–"}}
    lines = [_line(list(shown)), _line(["---", "---"] + ["--:"] * (len(shown) - 2))]
    lines += [_line(cells) for cells in zip(*shown.values(), strict=True)]
    return "\n".join([*lines, "", *_small_print(results, found)]) + "\n"


def to_csv(results: Results) -> str:
    """Tidy: one row per cell and metric (cost included), a row without metric for a cell that has none."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n", restval="")
    writer.writeheader()
    for stored in sorted(results.stored, key=lambda s: s.record.cell.stem):
        for row in _tidy_rows(stored.record):
            writer.writerow({name: _plain(value) for name, value in row.items() if value is not None})
    return out.getvalue()


def _tidy_rows(record: Record) -> list[dict[str, object]]:
    """The CSV rows of one cell."""
    cell = {**record.cell.model_dump(exclude={"parameters"}), "others": " ".join(record.cell.others)}
    about = {
        "concept": record.concept,
        "status": record.status,
        "reason": record.reason,
        "command": record.command,
    }
    card = {"family": record.card.family, "claims": record.card.claims, "needs": " ".join(record.card.needs)}
    key = {**cell, **about, **card}
    rows: list[dict[str, object]] = []
    for score in record.scores:
        low, high = score.ci95 or (None, None)
        numbers = {name: value for name, value in score.model_dump().items() if name in COLUMNS}
        row = {**key, "metric": score.id, **numbers, "ci95_low": low, "ci95_high": high}
        rows.append({**row, "flags": "; ".join(score.flags)})
    if record.cost is not None:
        cost = record.cost
        measured = {
            "cost.seconds": (cost.seconds, "seconds"),
            "cost.feq": (cost.forward + 2 * cost.backward, "forward passes"),
            "cost.peak_memory_mb": (cost.peak_memory_mb, "MB"),
        }
        for name, (value, unit) in measured.items():
            rows.append({**key, "metric": name, "value": value, "unit": unit, "direction": -1})
    return rows or [key]


def terminal_table(records: Sequence[Record | Stored]) -> Table:
    """The boards side by side, 80 columns wide: what ``nibench run`` ends with.

    Raises
    ------
    InputError
        If the records must not share a board.
    """
    results = collect(records)
    found = {board.axis.id: board for board in boards(results)}
    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold", caption_justify="left")
    table.add_column("method", overflow="fold", min_width=14)
    table.add_column("claims")
    first = headline(found)
    shown = [axis for axis in AXES if axis.id in first]
    one_truth = sum(axis.of_truth for axis in shown) == 1
    for axis in shown:
        title = "truth" if axis.of_truth and one_truth else axis.title.lower().removeprefix("truth: ")
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("decoys", justify="right", no_wrap=True)
    table.add_column("sec", justify="right", no_wrap=True)
    for row in _in_order(tuple(found.values())):
        cells = [_with_half_width(_row_of(found.get(axis.id), row.method)) for axis in shown]
        cost = mean_cost(results, row.method, results.places)
        decoys = _plus_minus(estimate(results, row.method, "gt.decoy", results.places, of_truth=True))
        failed = any(results.status(row.method, place) == "failed" for place in results.places)
        standing = f" [dim]{found_as}[/dim]" if (found_as := results.standing(row.method)) else ""
        name = f"{_terminal_text(row.method)}{standing}{' [red]failed*[/red]' if failed else ''}"
        table.add_row(name, row.card.claims, *cells, decoys, seconds(cost[0] if cost else None))
    table.caption = _terminal_caption(results, tuple(found.values()))
    return table


def _terminal_caption(results: Results, found: Sequence[Board]) -> str:
    lines = ["0 = random rankings, 1 = ceiling."]
    if any(board.axis.of_truth for board in found):
        lines[0] += " Truth: in bold what the method claims, dim what it does not."
    if found:
        order = next(board for board in found if board.axis.id == default_axis(found))
        lines.append(f"In the order of {order.axis.title.lower()}: {interval_words(order)}.")
        first = [row.method for row in order.rows if row.band == 1]
        if len(first) > 1:
            lines.append(f"Cannot be told apart at the top: {', '.join(map(_terminal_text, first))}.")
        lines += [f"{words[0].upper()}{words[1:]}."] if (words := bands_words(order)) else []
        lines += [_terminal_text(words)] if (words := truth_words(order)) else []
        lines += _resolved(found) + _uncovered(found)
    lines += [_terminal_text(line) for line in null_words(results)]
    failed = [s.record.cell for s in results.stored if s.record.status == "failed"]
    if failed:
        lines.append(f"* {len(failed)} failed cells count as random: {_terminal_text(failed[0].stem)} ...")
    return "\n".join(lines)


def _resolved(found: Sequence[Board]) -> list[str]:
    """The smallest difference that each board of the table can resolve."""
    first = headline({board.axis.id for board in found})
    smallest = [
        f"{board.axis.title.lower()} {fine(board.verdict.resolvable)}"
        for board in found
        if board.axis.id in first and board.verdict is not None and board.verdict.resolvable is not None
    ]
    return [f"Smallest difference resolved: {', '.join(smallest)}."] if smallest else []


def _uncovered(found: Sequence[Board]) -> list[str]:
    """Who is grey: covers only some of the cells of a board of the table."""
    first = headline({board.axis.id for board in found})
    partly: dict[str, list[str]] = {}
    for board in found:
        for row in board.rows if board.axis.id in first else ():
            if row.value is not None and not row.complete:
                covered = f"{row.covered} of {len(board.places)} cells of {board.axis.title.lower()}"
                partly.setdefault(covered, []).append(row.method)
    return [
        _terminal_text(f"Grey, not compared: {listed(methods)} ({covered}).")
        for covered, methods in partly.items()
    ]


def truth_words(board: Board) -> str | None:
    """What a truth score is to be read against: a ranking that looks at no label, and the exact oracle."""
    words = []
    if board.blind is not None:
        value = next(row.value for row in board.rows if row.method == board.blind)
        words.append(f"without a label {board.blind} scores {number(value)}: read the gain over it")
    if board.oracle is not None:
        words.append(f"the exact oracle itself scores {number(board.oracle)}")
    text = "; ".join(words)
    return f"{text[0].upper()}{text[1:]}." if text else None


def _in_order(found: Sequence[Board]) -> tuple[Row, ...]:
    """The rows of the board that orders the table."""
    chosen = default_axis(found)
    return next((board.rows for board in found if board.axis.id == chosen), ())


def _row_of(board: Board | None, method: str) -> Row | None:
    return next((row for row in board.rows if row.method == method), None) if board else None


def _small_print(results: Results, found: Sequence[Board]) -> list[str]:
    """What one must know to read the table."""
    lines = ["0 = random rankings, 1 = ceiling; every axis has its own board, there is no mean across axes."]
    if found:
        order = next(board for board in found if board.axis.id == default_axis(found))
        lines.append(f"Ordered by *{order.axis.title.lower()}*.")
        for board in found:
            words = [interval_words(board), *filter(None, [verdict_words(board), certified_words(board)])]
            lines.append(f"*{board.axis.title}*: {'; '.join(words)}.")
        lines += [f"*{board.axis.title}*: {words}" for board in found if (words := truth_words(board))]
        lines.append("= shares the estimand of the column; ^ shares its machinery; n/m: covers n of m cells.")
        if any(board.axis.of_truth for board in found):
            lines.append(
                "(In parentheses): the method does not claim that its first neurons are of this kind."
            )
    for board in found:
        if board.left_out:
            names = ", ".join(_escape(place.label) for place in board.left_out)
            lines.append(
                f"Left out of *{board.axis.title.lower()}* for every method, no scale there: {names}."
            )
    lines += [_escape(line) for line in null_words(results)]
    for stored in results.stored:
        if stored.record.status == "failed":
            cell = stored.record.cell
            where = " on ".join(_escape(part) for part in (cell.label, cell.task))
            lines.append(f"Failed, counts as random: {where} ({_escape(stored.record.reason)}).")
    return [f"- {line}" for line in (*lines, *results.notes)]


def _with_interval(row: Row | None) -> str:
    if row is None or row.value is None:
        return "–"
    text = _in_brackets(Estimate(row.value, row.ci95))
    if not row.complete:
        text += f" {row.covered}/{row.covered + row.not_applicable + row.missing}"
    if row.band == 1:
        text = f"**{text}**"
    if row.own is False:
        text = f"({text})"
    return text + {"shares the estimand": " =", "home advantage": " ^"}.get(row.home or "", "")


def _rank(row: Row) -> str:
    """The 95 % of its ranks on the board that orders the table."""
    low, high = row.ranks or (None, None)
    return "–" if low is None else f"{low}" if low == high else f"{low} to {high}"


def _in_brackets(found: Estimate | None) -> str:
    if found is None or found.ci95 is None:
        return number(found.value if found else None)
    return f"{number(found.value)} [{number(found.ci95[0])}, {number(found.ci95[1])}]"


def _with_half_width(row: Row | None) -> str:
    if row is None or row.value is None:
        return "[dim]–[/dim]"
    text = _plus_minus(Estimate(row.value, row.ci95))
    if row.own and row.complete:
        return f"[bold]{text}[/bold]"
    return f"[dim]{text}[/dim]" if row.own is False or not row.complete else text


def _plus_minus(found: Estimate | None) -> str:
    if found is None or found.ci95 is None:
        return number(found.value if found else None)
    return f"{number(found.value)}±{number((found.ci95[1] - found.ci95[0]) / 2)}"


def _named(results: Results, method: str) -> str:
    """A method, and of a submission its standing."""
    standing = results.standing(method)
    return _escape(method) + (f" ({standing})" if standing else "")


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _escape(text: str) -> str:
    """Text of a record inside a Markdown table: no markup, one line."""
    flat = html.escape(" ".join(text.split()), quote=False)
    return re.sub(r"([\\`*_\[\]|~])", r"\\\1", flat)


def _terminal_text(text: str) -> str:
    return "".join(c for c in text if c.isprintable()).replace("[", r"\[")


def _plain(value: object) -> object:
    """A CSV value; text that a spreadsheet would take for a formula is quoted."""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value


def _inputs_digest(results: Sequence[Path]) -> str:
    """Of every record file and of the code that makes the page."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for path in [here / name for name in CODE] + sorted((here / "templates").iterdir()):
        digest.update(path.read_bytes())
    for folder in results:
        digest.update((standing_of(folder) or "").encode())
        for path in record_paths(folder):
            digest.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _stored_digest(page: Path) -> str | None:
    """The digest that an existing page carries in its head."""
    try:
        with page.open(encoding="utf-8") as file:
            head = file.read(4000)
    except (OSError, UnicodeDecodeError):
        return None
    found = re.search(r'<meta name="nibench-inputs" content="([0-9a-f]{64})">', head)
    return found.group(1) if found else None
