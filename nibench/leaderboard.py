"""Leaderboard: results folders -> static page, Markdown table, CSV and Parquet."""

import hashlib
import html
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from nibench import gap
from nibench.boards import (
    Board,
    Row,
    boards,
    certified_words,
    interval_words,
    mean_cost,
    null_words,
    truth_words,
    verdict_words,
)
from nibench.disk import write_atomic
from nibench.errors import InputError
from nibench.levels import Estimate, estimate
from nibench.results import Results, collect
from nibench.stored import files_of, read_results
from nibench.submitted import standing_of
from nibench.tables import ordering, row_of
from nibench.tidy import to_csv, to_parquet
from nibench.wording import count, number, seconds

PAGE, MARKDOWN, CSV, PARQUET = "index.html", "leaderboard.md", "leaderboard.csv", "leaderboard.parquet"
FILES = (PAGE, MARKDOWN, CSV, PARQUET)
CODE = (
    "appendix.py",
    "archive.py",
    "axes.py",
    "boards.py",
    "cards.py",
    "chart_specs.py",
    "charts.py",
    "comparison.py",
    "difficulty.py",
    "drilldown.py",
    "figures.py",
    "gap.py",
    "leaderboard.py",
    "levels.py",
    "metric_cards.py",
    "page.py",
    "passages.py",
    "rendering.py",
    "resampling.py",
    "results.py",
    "stored.py",
    "submitted.py",
    "summary.py",
    "tables.py",
    "tidy.py",
    "tournament.py",
    "uncertainty.py",
    "verdicts.py",
    "views.py",
    "wording.py",
)


def build(results: Sequence[Path], out: Path, read: Callable[[], Results] | None = None) -> Path:
    """Write the page, the Markdown table, CSV and Parquet of some results folders; returns the page's path.

    Nothing is done where the page in ``out`` was already made from these very records by this very code.
    ``read``: how to read them where the caller wants what is read, too.

    Raises
    ------
    InputError
        If there are no records, they must not share a board, or ``out`` cannot be written.
    """
    page, made_from = out / PAGE, _inputs_digest(results)
    if _is_made_from(made_from, out):
        return page
    from nibench.page import render  # jinja2 and altair load only when a page is made

    found = read() if read else collect(read_results(results))
    if found.hidden is not None and not found.cells:
        raise InputError("These records are all of hidden rounds; give the public ones, too: --results DIR.")
    write_atomic(out / CSV, to_csv(found).encode())
    write_atomic(out / PARQUET, to_parquet(found))
    write_atomic(out / MARKDOWN, to_markdown(found).encode())
    write_atomic(page, render(found, made_from).encode())
    return page


def is_current(results: Sequence[Path], out: Path) -> bool:
    """Whether the files in ``out`` were made from these very records by this very code."""
    return _is_made_from(_inputs_digest(results), out)


def _is_made_from(inputs: str, out: Path) -> bool:
    return _stored_digest(out / PAGE) == inputs and all((out / name).exists() for name in FILES)


def to_markdown(results: Results) -> str:
    """One table for a README: a row per method in the default order, a column per axis, then the small print."""
    found = boards(results)
    if not found:
        return "No cell has a score yet.\n\n" + "\n".join(_small_print(results, found)) + "\n"
    order = ordering(found).rows
    columns = {
        "method": [_named(results, row.method) for row in order],
        "claims": [_escape(row.card.claims) for row in order],
    }
    columns["rank"] = [_rank(row) for row in order]
    for board in found:
        columns[board.axis.title.lower()] = [_with_interval(row_of(board, row.method)) for row in order]
    for title, metric in (
        *(("decoy rate", "gt.decoy"), ("selective", "sel.kappa")),
        *(("specific", "abl.spec"), ("stable", "stab.data")),
    ):
        truth = metric.startswith("gt.")
        flags = [estimate(results, row.method, metric, results.places, of_truth=truth) for row in order]
        columns[title] = [_in_brackets(flag) for flag in flags]
    costs = [mean_cost(results, row.method, results.places) or (None, None) for row in order]
    columns["seconds"], columns["passes"] = [seconds(c[0]) for c in costs], [count(c[1]) for c in costs]
    shown = {title: cells for title, cells in columns.items() if set(cells) != {"–"}}
    lines = [_line(list(shown)), _line(["---", "---"] + ["--:"] * (len(shown) - 2))]
    lines += [_line(cells) for cells in zip(*shown.values(), strict=True)]
    lines += ["", *_small_print(results, found), *gap.markdown(results, _escape)]
    return "\n".join(lines) + "\n"


def _small_print(results: Results, found: Sequence[Board]) -> list[str]:
    """What one must know to read the table."""
    lines = ["0 = random rankings, 1 = ceiling; every axis has its own board, there is no mean across axes."]
    if found:
        lines.append(f"Ordered by *{ordering(found).axis.title.lower()}*.")
        for board in found:
            words = [interval_words(board), *filter(None, [verdict_words(board), certified_words(board)])]
            lines.append(f"*{board.axis.title}*: {'; '.join(words)}.")
        lines += [
            f"*{board.axis.title}*: {_escape(words)}" for board in found if (words := truth_words(board))
        ]
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
    return [f"- {line}" for line in (*lines, *map(_escape, results.notes))]


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


def _inputs_digest(results: Sequence[Path]) -> str:
    """Of every record file and of the code that makes the page."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for path in [here / name for name in CODE] + sorted((here / "templates").iterdir()):
        digest.update(path.read_bytes())
    for place in results:
        digest.update((standing_of(place) or "").encode())
        for path in files_of(place):
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
