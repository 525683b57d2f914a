"""Boards and comparisons as HTML for a notebook: one small piece, no script, nothing from outside.

Text of records is escaped by the template. Colours are those of the notebook, so that it reads in the light
and in the dark.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from nibench.axes import AXES, Axis, headline
from nibench.boards import Board, Row, boards, mean_cost
from nibench.comparison import Comparison
from nibench.headtohead import COLUMNS, matrix, parts, small_print
from nibench.levels import Estimate, estimate
from nibench.rendering import environment
from nibench.results import Results
from nibench.summary import summary
from nibench.tables import has_failed, ordering, reading, row_of
from nibench.wording import count, number, seconds

HOME = {"shares the estimand": "=", "home advantage": "^"}
BESIDE = (
    ("decoys", "how often a neuron that only looks right comes before one that is: .5 is chance, 0 is best"),
    ("seconds", "mean of a cell"),
    ("passes", "of the model, mean of a cell; a backward pass counts two"),
)
MARKS = (
    "Small: 95 % interval. Raised: the band on the column's own board; the methods of a band cannot be told apart "
    "from its first. = the method computes what the column asks for; ^ it shares the column's machinery; "
    "n/m: covers n of m cells."
)


@dataclass(frozen=True)
class Shown:
    """A number as text, its interval, its band, how many cells it rests on, its mark, how it stands out."""

    text: str
    ends: str = ""
    band: int | None = None
    covers: str = ""
    mark: str = ""
    style: str = ""


def boards_html(results: Results, notes: Sequence[str] = ()) -> str:
    """The answer in a few sentences, the headline boards, the others folded, and what one must know to read them.

    ``notes``: further lines of small print.
    """
    found = boards(results)
    there = {board.axis.id for board in found}
    first = [axis for axis in AXES if axis.id in there and axis.id in headline(there)]
    others = [board.axis for board in found if board.axis not in first]
    failed = [
        f"Failed: {s.record.cell.label} on {s.record.cell.task} ({s.record.reason})."
        for s in results.stored
        if s.record.status == "failed"
    ]
    return _render(
        "boards",
        words=summary(results, found),
        tables=[_table(results, found, axes, beside=axes is first) for axes in (first, others) if axes],
        lines=[*reading(results, found), *[MARKS] * bool(found), *failed, *results.notes, *notes],
    )


def comparison_html(found: Comparison) -> str:
    """A table for each pair, where each wins, and for three or more methods who beats whom."""
    return _render(
        "comparison", columns=COLUMNS, parts=list(parts(found)), wins=matrix(found), lines=small_print(found)
    )


def _table(
    results: Results, found: Sequence[Board], shown: Sequence[Axis], *, beside: bool
) -> dict[str, Any]:
    """Columns with their questions, and a row per method in the default order.

    ``beside``: what orders nothing, too, and the methods without a value.
    """
    of = {board.axis.id: board for board in found}
    columns = [(axis.title.lower(), axis.question) for axis in shown]
    rows, above = [], None
    for row in ordering(found).rows:
        cells = [_cell(row_of(of[axis.id], row.method)) for axis in shown]
        if not beside and all(cell.text == "–" for cell in cells):
            continue
        if beside:
            decoys = estimate(results, row.method, "gt.decoy", results.places, of_truth=True)
            time, passes = mean_cost(results, row.method, results.places) or (None, None)
            cells += [_plain(decoys), Shown(seconds(time)), Shown(count(passes))]
        about = {"method": row.method, "claims": row.card.claims, "failed": has_failed(results, row.method)}
        rows.append({**about, "opens": above is not None and above.band != row.band, "cells": cells})
        above = row
    return {"columns": [*columns, *BESIDE[: len(BESIDE) * beside]], "rows": rows, "folded": not beside}


def _cell(row: Row | None) -> Shown:
    """A value with its interval and its band; bold: the method claims it, dim: it does not, or lacks cells."""
    if row is None or row.value is None:
        return Shown("–")
    return replace(
        _plain(Estimate(row.value, row.ci95)),
        band=row.band,
        covers="" if row.complete else f"{row.covered}/{row.covered + row.not_applicable + row.missing}",
        mark=HOME.get(row.home or "", ""),
        style="own" if row.own and row.complete else "dim" if row.own is False or not row.complete else "",
    )


def _plain(found: Estimate | None) -> Shown:
    if found is None or found.ci95 is None:
        return Shown(number(found.value if found else None))
    return Shown(number(found.value), f"{number(found.ci95[0])} to {number(found.ci95[1])}")


def _render(kind: str, **data: Any) -> str:
    return environment().get_template("notebook.html.j2").render(kind=kind, **data)
