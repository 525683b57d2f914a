"""Page: boards -> one HTML file that needs no server and asks for nothing outside itself.

The table stands in the HTML; a script sorts, filters and redraws it from the JSON that the page carries.
Text of records is escaped on both roads: jinja2 escapes the HTML, the JSON holds no ``<``, and the script
sets text, never HTML. A content security policy lets only the page's own scripts run, by their digests.
"""

import base64
import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from nibench.appendix import agreement, studies, wins
from nibench.axes import AXES, headline
from nibench.boards import (
    Board,
    Row,
    boards,
    certified_words,
    default_axis,
    interval_words,
    mean_cost,
    null_words,
    verdict_words,
)
from nibench.difficulty import curves, drawn
from nibench.levels import Estimate, estimate
from nibench.plane import javascript, plane_spec, wins_spec
from nibench.record import Card, Record
from nibench.resampling import slope
from nibench.results import Place, Results
from nibench.summary import summary
from nibench.wording import count, fine, number, rounded, seconds

ROLES = (
    *("used", "signal", "distributed", "relay", "shared", "conjunctive", "saturated", "sign_mixed", "copy"),
    *("backup", "enabler", "cancelled", "decoy", "correlate", "natural_decoy"),
)  # right ones first, then what takes their places
FLAGS = {  # columns that order nothing -> their metric
    "decoys": "gt.decoy",
    "natural": "gt.decoy[natural]",
    "any": "gt.cover_any",
    "whole": "gt.cover_all",
    "groups": "gt.group",
    "names": "gt.label",
    "selective": "sel.kappa",
}
BESIDE = ("decoys", "natural", "anatomy", "any", "whole", "groups", "names", "selective", "seconds", "passes")


def render(results: Results, digest: str) -> str:
    """The page as one HTML text; ``digest`` says of which records it is made."""
    templates = files("nibench") / "templates"
    style = (templates / "page.css").read_text(encoding="utf-8")
    script = (templates / "page.js").read_text(encoding="utf-8")
    scripts = [javascript(), script]
    environment = Environment(
        loader=PackageLoader("nibench"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {
        "sort_keys": False,
        "allow_nan": False,
        "separators": (",", ":"),
    }
    environment.globals |= {"number": number, "count": count, "seconds": seconds, "fine": fine}
    data = page_data(results)
    return environment.get_template("page.html.j2").render(
        data=data,
        view=data["views"][_key(None, None)],
        difficulty=drawn(curves(results)),
        style=Markup(style),
        scripts=[Markup(text) for text in scripts],
        policy=_policy(scripts),
        inputs=digest,
    )


def page_data(results: Results) -> dict[str, Any]:
    """Everything the page shows, as plain JSON; numbers rounded, none of them NaN."""
    overall = boards(results)
    axes = [board.axis for board in overall]
    first = headline({axis.id for axis in axes})
    models = [model for model in results.models if model]
    views = {}
    for task in (None, *results.tasks):
        for model in (None, *models):
            found = overall if task is model is None else boards(results, task, model)
            view = _view(results, found, task, model)
            if view is not None:
                views[_key(task, model)] = view
    return {
        "axes": [
            {
                "id": axis.id,
                "title": axis.title,
                "question": axis.question,
                "headline": axis.id in first,
                "truth": axis.of_truth,
            }
            for axis in axes
        ],
        "beside": [
            name
            for name in BESIDE
            if any(values[name] for values in views[_key(None, None)]["beside"].values())
        ],
        "order": default_axis(overall),
        "methods": {method: _card(results, method) for method in results.cards},
        "tasks": list(results.tasks),
        "models": models,
        "views": views,
        "cells": {method: _cells(results, method) for method in results.cards},
        "plane": plane_spec(),
        "wins_plot": wins_spec(),
        "wins": {board.axis.id: wins(results, board) for board in overall},
        "summary": summary(results, overall),
        "studies": studies(results),
        "agreement": agreement(results, views[_key(None, None)]["order"]),
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
    }


def _view(
    results: Results, found: Sequence[Board], task: str | None, model: str | None
) -> dict[str, Any] | None:
    """The table's numbers for one choice of task and model (None: all); None where there is no such cell."""
    places = [p for p in results.places if task in (None, p.task) and model in (None, p.model)]
    if not places:
        return None
    return {
        "boards": {board.axis.id: _estimates(board) for board in found},
        "words": {board.axis.id: _words(board) for board in found},
        "oracle": {board.axis.id: rounded(board.oracle) for board in found if board.oracle is not None},
        "blind": {board.axis.id: board.blind for board in found if board.blind is not None},
        "order": _row_order(found, results),
        "beside": {method: _beside(results, method, places) for method in results.cards},
    }


def _words(board: Board) -> str:
    return "; ".join(filter(None, [interval_words(board), verdict_words(board), certified_words(board)]))


def _row_order(found: Sequence[Board], results: Results) -> list[str]:
    chosen = default_axis(found)
    rows = next(([row.method for row in board.rows] for board in found if board.axis.id == chosen), [])
    return rows or list(results.cards)


def _estimates(board: Board) -> dict[str, Any]:
    """Per method [value, low, high, beside, covered, of, failed, band, P(first), mark, own, gain, ranks, errors]."""
    return {row.method: _estimate(row, board) for row in board.rows if row.value is not None}


def _estimate(row: Row, board: Board) -> list[Any]:
    low, high = row.ci95 or (None, None)
    beside = {name: _ends(one) for name, one in row.beside.items()}
    counts = [row.covered, len(board.places), row.failed, row.band]
    marks = [rounded(row.p_first), row.home or ("own claim" if row.own else None), row.own, _ends(row.gain)]
    errors = None if row.se is None else [row.level, rounded(row.se, 5), rounded(row.seed_se, 5)]
    return [rounded(row.value), rounded(low), rounded(high), beside, *counts, *marks, row.ranks, errors]


def _ends(found: Estimate | None) -> list[float | None] | None:
    """[value, low, high]; the ends are None where there is no interval."""
    if found is None or not math.isfinite(found.value):
        return None
    low, high = found.ci95 or (None, None)
    return [rounded(found.value), rounded(low), rounded(high)]


def _beside(results: Results, method: str, places: Sequence[Place]) -> dict[str, Any]:
    """The columns that order nothing: decoy rate, selectivity, anatomy, cost."""
    cost = mean_cost(results, method, places)
    return {
        **{
            key: _ends(estimate(results, method, metric, places, of_truth=metric.startswith("gt.")))
            for key, metric in FLAGS.items()
        },
        "anatomy": _anatomy(results, method, places),
        "seconds": rounded(cost[0]) if cost else None,
        "passes": rounded(cost[1], 0) if cost else None,
    }


def _anatomy(results: Results, method: str, places: Sequence[Place]) -> dict[str, float]:
    """Role -> its share of the top neurons, mean over the cells where roles are known."""
    shares: dict[str, list[float]] = {}
    n_cells = 0
    for place in places:
        for stored in results.cells.get((method, place), ()):
            roles = _roles(stored.record.anatomy)
            n_cells += bool(roles)
            for role, expected in roles.items():
                shares.setdefault(role, []).append(expected / sum(roles.values()))
    means = {role: sum(found) / n_cells for role, found in shares.items()}
    return {role: round(share, 3) for role, share in sorted(means.items(), key=_role_order) if share > 0.0005}


def _roles(anatomy: Mapping[str, Mapping[str, float]]) -> Mapping[str, float]:
    """Role -> expected number among the first n neurons, n as many as are right; empty where not known.

    Records count the first n and the first ten.
    """
    if not anatomy:
        return {}
    return anatomy[next((k for k in anatomy if k != "10"), "10")]


def _role_order(item: tuple[str, float]) -> tuple[int, str]:
    role = item[0]
    return (ROLES.index(role) if role in ROLES else len(ROLES) + (role == "background"), role)


def _card(results: Results, method: str) -> dict[str, Any]:
    card = results.cards[method]
    records = [s.record for (name, _), seeds in results.cells.items() if name == method for s in seeds]
    gradients = any(record.cost is not None and record.cost.backward > 0 for record in records)
    needs = [need.lower() for need in card.needs]
    link = re.search(r"https?://[^\s<>\"']+[^\s<>\"'.,;)]", card.paper)
    return {
        "family": card.family,
        "standing": results.standing(method),
        "claims": card.claims,
        "needs": needs,
        "runs": "gradients" if gradients else "model" if "model" in needs else "activations",
        "criteria": _criteria(card),
        "complexity": card.complexity,
        "limits": card.limits,
        "paper": card.paper,
        "link": link.group(0) if link else None,
        "summary": card.summary,
    }


def _criteria(card: Card) -> str:
    """The survey's seven criteria in one line; empty for a record that has none."""
    if not card.scope:
        return ""
    answers = {
        "human in the loop": card.human_in_the_loop,
        "supervised": card.supervision,
        "causal": card.causation,
    }
    yes_or_no = [f"{name}: {'yes' if value else 'no'}" for name, value in answers.items()]
    flow = f"{card.input} → {card.output}"
    return " · ".join([card.scope, flow, f"scalability {card.scalability}", *yes_or_no])


def _cells(results: Results, method: str) -> list[dict[str, Any]]:
    """The drill-down of one method: a row per cell and seed."""
    rows = []
    for place in results.places:
        for stored in results.cells.get((method, place), ()):
            record = stored.record
            rows.append(
                {
                    "task": place.task,
                    "model": place.model,
                    "detail": place.detail,
                    "seed": record.cell.seed,
                    "status": record.status,
                    "reason": record.reason,
                    "scores": {
                        axis.id: _cell_score(record, axis.metric)
                        for axis in AXES
                        if record.score(axis.metric)
                    },
                    "top": record.top[:5],
                    "anatomy": {
                        k: {role: rounded(n, 2) for role, n in sorted(roles.items(), key=_role_order)}
                        for k, roles in record.anatomy.items()
                    },
                    "flags": [*record.flags, *(flag for score in record.scores for flag in score.flags)][:6],
                    "seconds": rounded(record.cost.seconds) if record.cost else None,
                    "command": record.command,
                }
            )
    return rows


def _cell_score(record: Record, metric: str) -> list[Any]:
    """[normalised, low, high, plain value, its unit] of one cell."""
    score = record.score(metric)
    if score is None:
        return [None] * 5
    low = high = None
    scale = slope(score)
    if score.ci95 and score.normalised is not None and scale is not None:
        low, high = (score.normalised + scale * (end - score.value) for end in score.ci95)
    return [*(rounded(x) for x in (score.normalised, low, high, score.value)), score.unit]


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


def _key(task: str | None, model: str | None) -> str:
    return f"{task or ''}\t{model or ''}"


def _policy(scripts: Sequence[str]) -> str:
    """A content security policy: these scripts, inline style, nothing from outside."""
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts)
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:"
