"""Page: boards -> one HTML file that needs no server and asks for nothing outside itself.

The table stands in the HTML; scripts sort, filter and redraw it from the JSON that the page carries. What only a
choice or a click needs (the views of other places, every cell) is packed: JSON, gzip, base64.
Text of records is escaped on both roads: jinja2 escapes the HTML, the JSON holds no ``<``, and the scripts
set text, never HTML. A content security policy lets only the page's own scripts run, by their digests.
"""

import base64
import gzip
import hashlib
import json
import re
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from markupsafe import Markup

from nibench import gap
from nibench.appendix import correctness, wins
from nibench.axes import headline
from nibench.boards import Board, boards, default_axis, null_words
from nibench.cards import TRACKS, method_cards, metric_cards_of, task_cards
from nibench.chart_specs import plane_spec, wins_spec
from nibench.charts import javascript, page_spec, section
from nibench.difficulty import curves, drawn
from nibench.drilldown import cells_of
from nibench.rendering import environment
from nibench.results import Results
from nibench.summary import answers
from nibench.views import BESIDE, place_rows, row_order, view, views
from nibench.wording import count, fine, number, seconds

STYLES = ("page", "figures")
SCRIPTS = (
    "base",
    "state",
    "table",
    "plane",
    "wins",
    "figures",
    "drilldown",
    "export",
    "start",
)  # run in this order
JSON = {"sort_keys": False, "allow_nan": False, "separators": (",", ":")}


def render(results: Results, digest: str) -> str:
    """The page as one HTML text; ``digest`` says of which records it is made."""
    templates = files("nibench") / "templates"
    style = "".join((templates / f"{name}.css").read_text(encoding="utf-8") for name in STYLES)
    own = [(templates / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS]
    scripts = [javascript(), *own]
    made = environment(number=number, count=count, seconds=seconds, fine=fine)
    made.policies["json.dumps_kwargs"] = JSON
    made.globals["pairs"] = lambda values: [(value, value) for value in values]
    made.filters["anchor"] = anchor
    overall = boards(results)
    return made.get_template("page.html.j2").render(
        data=page_data(results, overall),
        packed=packed({"views": views(results), "cells": {m: cells_of(results, m) for m in results.cards}}),
        order=row_order(overall, results),
        answers=answers(results, overall),
        tasks=task_cards(results),
        metrics=metric_cards_of(results),
        tracks=_tracks(results),
        difficulty=drawn(curves(results)),
        style=Markup(style),
        scripts=[Markup(text) for text in scripts],
        policy=_policy(scripts),
        inputs=digest,
    )


def page_data(results: Results, overall: Sequence[Board]) -> dict[str, Any]:
    """What the page shows as it opens, as plain JSON; numbers rounded, none of them NaN."""
    axes = [board.axis for board in overall]
    first = headline({axis.id for axis in axes})
    opened = view(results, overall, results.places)
    return {
        "axes": [
            {
                "id": axis.id,
                "metric": axis.metric,
                "title": axis.title,
                "question": axis.question,
                "headline": axis.id in first,
                "truth": axis.of_truth,
            }
            for axis in axes
        ],
        "beside": [name for name in BESIDE if any(values[name] for values in opened["beside"].values())],
        "order": default_axis(overall),
        "methods": method_cards(results),
        "places": place_rows(results),
        "view": opened,
        "plane": page_spec(plane_spec()),
        "wins_plot": page_spec(wins_spec()),
        "wins": {board.axis.id: wins(results, board) for board in overall},
        "correctness": correctness(results),
        "figures": section(results),
        "hidden": gap.section(results),
        "left_out": [
            {
                "axis": board.axis.title,
                "places": [place.label for place in board.left_out],
                "why": _why_left_out(results, board),
            }
            for board in overall
            if board.left_out
        ],
        "failed": [
            {"method": s.record.cell.label, "task": s.record.cell.task, "reason": s.record.reason}
            for s in results.stored
            if s.record.status == "failed"
        ],
        "notes": [*null_words(results), *results.notes],
        "records": sum(1 for _ in results.stored),
        "dates": _dates(results),
    }


def _dates(results: Results) -> list[str]:
    """The first and the last day on which a record was made; one where they are the same."""
    days = sorted({stored.record.environment.date[:10] for stored in results.stored})
    return sorted({*days[:1], *days[-1:]})


def _tracks(results: Results) -> list[tuple[str, str]]:
    """The tracks that are there, from planted to natural, and what each is."""
    there = {row["tier"] for row in place_rows(results)}
    return [(tier, TRACKS.get(tier, "")) for tier in (*TRACKS, *sorted(there - set(TRACKS))) if tier in there]


def packed(value: Any) -> str:
    """JSON, gzip, base64: a tenth of the size, and no text that could be markup."""
    return base64.b64encode(gzip.compress(json.dumps(value, **JSON).encode(), mtime=0)).decode()


def anchor(name: str) -> str:
    """A name as the end of an element's id: no white space."""
    return re.sub(r"\s+", "_", name)


def _why_left_out(results: Results, board: Board) -> str:
    """The first flag on a score that has no scale, as its metric worded it."""
    scores = (
        score
        for place in board.left_out
        for method in results.cards
        for score in results.scores(method, place, board.axis.metric)
    )
    flags = [
        flag for score in scores for flag in score.flags if "ceiling" in flag or "no rankings apart" in flag
    ]
    return flags[0] if flags else "random and ceiling are too close there"


def _policy(scripts: Sequence[str]) -> str:
    """A content security policy: these scripts, inline style, nothing from outside."""
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:"
