"""Charts: each figure of a set of results as an altair chart, and what the page needs to draw the same.

``NAME(results)`` has its data in it, for a notebook or a file; a figure without data is an ``InputError``. The page
gets the same specs (``section``) and fills them with the rows that are shown.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal

from nibench import chart_specs as specs
from nibench import figures
from nibench.axes import AXES
from nibench.boards import Board, boards, default_axis
from nibench.cache import cache_folder
from nibench.chart_specs import PALETTE
from nibench.comparison import wins_of
from nibench.disk import write_atomic
from nibench.errors import InputError
from nibench.figures import CURVES
from nibench.results import Place, Results
from nibench.summary import words_of_range
from nibench.task import CLAIMS
from nibench.views import anatomy as of_method
from nibench.wording import number

if TYPE_CHECKING:
    import altair as alt

RANDOM = "random_ranking"
FLOOR = -0.25  # a value below stands at the edge of the plane; its tooltip says which it is
N_CURVES = 5  # shown before the reader has chosen


def plane(results: Results) -> "alt.LayerChart":
    """What the first neurons *encode* against what the model uses them for (*carries*), with 95 % intervals."""
    points = _some(figures.plane_points(results), "no method has a value on both encodes and carries")
    points = [{k: max(FLOOR, v) if isinstance(v, float) else v for k, v in p.items()} for p in points]
    labels = _apart(points)
    chart = _with(specs.plane_spec(), points=points, labels=labels, zero=[{"x": 0, "y": 0}])
    return chart.properties(width=620, height=420, title="What they encode against what the model uses")


def _apart(points: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A label above or below each point, the nearest spot that covers no other label or point, and a line to it."""
    taken = [(p["encodes"], p["carries"], 2) for p in points]
    labels: list[dict[str, Any]] = []
    across = 0.006 * max(1.2, max(p["encodes"] for p in points) - min(p["encodes"] for p in points))
    for p in sorted(points, key=lambda p: -p["carries"]):
        x, below, wide = p["encodes"], p["carries"], len(p["method"])
        for y in (below + away * side for away in (0.04, 0.08, 0.12, 0.16, 0.2) for side in (1, -1)):
            if not any(abs(b - y) < 0.033 and abs(a - x) < across * (wide + n) for a, b, n in taken):
                break
        taken.append((x, y, wide))
        ends = {"x0": x, "y0": below, "x1": x, "y1": y - (y - below) / 3}
        labels.append({"method": p["method"], "x": x, "y": y} | ends)
    return labels


def wins(results: Results, axis: str | None = None) -> "alt.LayerChart":
    """Who beats whom on a board: share of the models and worlds in which the row's method beats the column's."""
    board = board_of(results, axis)
    methods = [row.method for row in board.rows if row.complete]
    found = wins_of(results, board.axis, methods, board.places)
    if found is None:
        raise InputError(f"Nothing to draw: fewer than two methods cover all cells of {board.axis.title}.")
    chart = _with(specs.wins_spec(), cells=_cells(methods, found.shares))
    return chart.properties(width=_step(), height=_step(), title=f"Head to head on {board.axis.title}")


def agreement(results: Results) -> "alt.LayerChart":
    """Overlap of the methods' top 1 % of neurons, corrected for chance; methods that agree stand side by side."""
    rows = _some(figures.agreement(results)["rows"], "fewer than two methods kept their rankings")
    cells = _cells([row["method"] for row in rows], [row["values"] for row in rows])
    chart = _with(specs.agreement_spec(), cells=cells)
    return chart.properties(width=_step(), height=_step(), title="How far the methods agree")


def _cells(methods: Sequence[str], shares: Sequence[Sequence[float | None]] | Any) -> list[dict[str, Any]]:
    return [
        {
            "row": row,
            "column": column,
            "share": share,
            "text": number(share),
        }
        | {"shown": len(methods) <= 24}
        for row, of_row in zip(methods, shares, strict=True)
        for column, share in zip(methods, of_row, strict=True)
        if row != column and share is not None
    ]


def _step() -> Any:
    import altair as alt

    return alt.Step(24)


def pareto(
    results: Results, axis: str | None = None, cost: Literal["seconds", "passes"] = "seconds"
) -> "alt.LayerChart":
    """Quality against cost on one board, the front drawn and named; 95 % intervals.

    On the front are methods that cover all cells and that nothing cheaper reaches; the front goes through the
    values, so what the intervals leave open it does not decide.
    """
    if cost not in specs.COSTS:
        raise InputError(f"No cost {cost!r}. Choose: {', '.join(specs.COSTS)}.")
    board = board_of(results, axis)
    points = _some(figures.cost_points(results, board), f"no cost is known on {board.axis.title}")
    title = f"Which methods are worth their cost on {board.axis.title}?"
    return _with(specs.cost_spec(cost), points=points).properties(width=620, height=380, title=title)


def curves(
    results: Results,
    methods: Sequence[str] | None = None,
    place: Place | str | None = None,
    metric: str | None = None,
) -> "alt.LayerChart":
    """How a score grows with the first k neurons, beside what random rankings score; 95 % intervals.

    Parameters
    ----------
    methods
        Default: the best of each family on the metric's board, five at most, and ``random_ranking``.
    place
        A place of the results, or its label; default: the first that has the metric.
    metric
        One with a curve; default: the first of ``figures.CURVES`` that the records have.
    """
    metric = metric or next((m for m in CURVES if any(s.record.score(m) for s in results.stored)), "")
    found = {p: one for p in results.places if (one := figures.curves_of(results, p, metric))}
    _some(list(found), f"no record has a curve of {metric or 'any metric'}")
    labels = {p.label: p for p in found}
    label = place.label if isinstance(place, Place) else place or next(iter(labels))
    if label not in labels:
        raise InputError(f"No curve of {metric} in {label!r}. There is: {'; '.join(labels)}.")
    cells = found[labels[label]]
    chosen = list(methods) if methods is not None else first_methods(results, metric, list(cells))
    absent = [method for method in chosen if method not in cells]
    if absent:
        raise InputError(f"No curve of {metric} in {label} for: {', '.join(absent)}.")
    lines = [row for method in chosen for row in _points(method, cells[method])]
    anyone = next(iter(cells.values()))
    null = _null(anyone) if anyone["random"] else []
    matched = [
        {"method": m, "k": k, "value": value, "words": f"random sets like those of {m}"}
        for m in chosen
        for k, value in cells[m]["matched"]
    ]
    chart = _with(specs.curves_spec(chosen), lines=lines, null=null, matched=matched)
    title = CURVES.get(metric, metric)
    return chart.properties(width=560, height=340, title={"text": title, "subtitle": label})


def first_methods(results: Results, metric: str, there: Sequence[str]) -> list[str]:
    """The methods whose curves are shown before the reader chooses: the best of the first five families, and random."""
    axis = axis_of_metric(metric)
    rows = next((board.rows for board in boards(results) if board.axis.id == axis), ())
    ordered = [row.method for row in rows if row.method in there] or list(there)
    of_family = {results.cards[method].family: method for method in reversed(ordered) if method != RANDOM}
    best = [method for method in ordered if of_family.get(results.cards[method].family) == method]
    return best[:N_CURVES] + [RANDOM] * (RANDOM in there)


def axis_of_metric(metric: str) -> str:
    """The board that a curve belongs to."""
    if metric.startswith("probe"):
        return "encodes"
    return next((axis.id for axis in AXES if axis.metric == metric), "required")


def _points(method: str, cell: dict[str, Any]) -> list[dict[str, Any]]:
    halves = cell["half"] or [0.0] * len(cell["k"])
    return [
        {"method": method, "k": k, "value": value, "low": value - half, "high": value + half}
        for k, value, half in zip(cell["k"], cell["value"], halves, strict=True)
    ]


def _null(cell: dict[str, Any]) -> list[dict[str, Any]]:
    lows, highs = cell["band"] or (cell["random"], cell["random"])
    columns = zip(cell["k"], cell["random"], lows, highs, strict=True)
    return [{"k": k, "value": v, "low": a, "high": b, "words": "random rankings"} for k, v, a, b in columns]


def anatomy(results: Results) -> "alt.Chart":
    """Which roles fill the first n neurons, n as many as are right: a bar per method in the board's order."""
    there = boards(results)
    ordered = [row.method for row in board_of(results, None).rows] if there else list(results.cards)
    found = {m: of_method(results, m, results.places) for m in ordered}
    shares = {m: {role: one[0] or 0.0 for role, one in of.items()} for m, of in found.items() if of}
    rows = _some(figures.anatomy_rows(shares), "no record knows the roles of neurons")
    chart = _with(specs.anatomy_spec(), shares=rows)
    return chart.properties(width=520, height=_step(), title="Who fills the first n places?")


def orders(results: Results, claim: str | None = None) -> "alt.LayerChart":
    """How the order of the methods changes from planted to natural neurons, by the truth of one claim.

    Bars behind a method's points: 95 % of its ranks, where a tier has four truth models. Kendall's tau stands between
    neighbouring tiers. Full colour: methods that claim this.
    """
    found = figures.orders(results).claims
    if not found:
        raise InputError("Nothing to draw: it takes the truth of one claim in two tiers of models.")
    default = "carries" if "carries" in found else next(iter(found))
    claim = claim or default
    if claim not in found:
        known = ", ".join(found)
        raise InputError(
            f"No order for {claim!r} in two tiers. There is: {known} (claims: {', '.join(CLAIMS)})."
        )
    one, last = found[claim], len(found[claim]["tiers"]) - 1
    starts, ends = (
        [
            row | {"spot": spot}
            for spot, row in enumerate(sorted(_of_tier(one["rows"], at), key=_by_rank), start=1)
        ]
        for at in (0, last)
    )
    tiers = [{"at": at, "y": -1.4, "text": tier} for at, tier in enumerate(one["tiers"])]
    taus = [{"at": tau["at"], "y": -0.3, "text": f"τ {number(tau['value'])}"} for tau in one["taus"]]
    ranges = [row for row in one["rows"] if row["low"] is not None]
    chart = _with(
        specs.orders_spec(),
        ranks=one["rows"],
        ranges=ranges,
        starts=starts,
        ends=ends,
        tiers=tiers,
        taus=taus,
    )
    n_methods = len(one["rows"]) // len(one["tiers"])
    title = f"Does the order of the methods hold from planted to natural neurons? Truth: {claim}"
    return chart.properties(width=280 + 110 * last, height=18 * n_methods + 50, title=title)


def _of_tier(rows: Sequence[dict[str, Any]], at: int) -> list[dict[str, Any]]:
    return [row for row in rows if row["at"] == at]


def _by_rank(row: dict[str, Any]) -> tuple[float, str]:
    return row["rank"], row["method"]


FIGURES = {
    "plane": plane,
    "pareto": pareto,
    "curves": curves,
    "anatomy": anatomy,
    "orders": orders,
    "agreement": agreement,
    "wins": wins,
}


def board_of(results: Results, axis: str | None) -> Board:
    """The board of an axis by its id; the one that orders the table for None.

    Raises
    ------
    InputError
        Naming the axes that have values.
    """
    there = boards(results)
    wanted = axis or default_axis(there)
    found = next((board for board in there if board.axis.id == wanted), None)
    if found is None:
        ids = ", ".join(board.axis.id for board in there) or "none"
        raise InputError(f"No board {wanted!r} in these records. There is: {ids}.")
    return found


def _some(rows: list[Any], absent: str) -> list[Any]:
    if not rows:
        raise InputError(f"Nothing to draw: {absent}.")
    return rows


def _with(chart: Any, **datasets: list[dict[str, Any]]) -> Any:
    """The chart with its data; a layer that has none is left out, for it has no scale."""
    import altair as alt

    chart.datasets = datasets
    if isinstance(chart, alt.LayerChart) and not isinstance(chart.data, alt.NamedData):
        layers: list[Any] = chart.layer
        chart.layer = [one for one in layers if datasets[one.data.name]]
    return chart


# for the page


def section(results: Results) -> dict[str, Any]:
    """What the page's script draws from, as plain JSON: specs, curves in thousandths, orders, overlaps, roles."""
    agreeing, found = figures.agreement(results), figures.orders(results)
    return {
        "specs": {
            "seconds": page_spec(specs.cost_spec("seconds")),
            "passes": page_spec(specs.cost_spec("passes")),
            "curves": page_spec(specs.curves_spec()),
            "anatomy": page_spec(specs.anatomy_spec()),
            "agreement": page_spec(specs.agreement_spec()),
            "orders": page_spec(specs.orders_spec()),
        },
        "curves": _page_curves(results),
        "agreement": agreeing["rows"],
        "agreement_level": agreeing["level"],
        "orders": {claim: _page_order(one) for claim, one in found.claims.items()},
        "taus": [
            {"claim": t.claim, "tiers": f"{t.first} to {t.second}", "value": number(t.value)}
            | {"range": words_of_range(t.ci95)}
            for t in found.taus
        ],
        "missing": list(found.missing),
        "roles": _page_roles(results),
    }


def page_spec(chart: Any) -> dict[str, Any]:
    """A spec for the page: colours as ``--name`` of the style sheet's variable, without altair's own config."""
    names = {colour: f"--{name}" for name, colour in reversed(PALETTE.items())}

    def named(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: named(one) for key, one in value.items()}
        if isinstance(value, list):
            return [named(one) for one in value]
        return names.get(value, value) if isinstance(value, str) else value

    return {key: named(value) for key, value in chart.to_dict().items() if key not in ("config", "$schema")}


def _page_curves(results: Results) -> dict[str, Any]:
    """``cells``: [place, metric, k, random, low, high, method -> [values, halves, matched]], all in thousandths."""
    there = {score.id for s in results.stored for score in s.record.scores}
    metrics = [metric for metric in CURVES if metric in there]
    cells, places = [], []
    for place in results.places:
        for metric in metrics:
            found = figures.curves_of(results, place, metric)
            if not found:
                continue
            if place.label not in places:
                places.append(place.label)
            anyone = next(iter(found.values()))
            null = [_thousandths(one) for one in (anyone["random"], *(anyone["band"] or (None, None)))]
            of_each = {
                method: [_thousandths(one["value"]), _thousandths(one["half"])]
                + [[[k, round(1000 * value)] for k, value in one["matched"]]] * bool(one["matched"])
                for method, one in found.items()
                if one["k"] == anyone["k"]
            }
            cells.append([places.index(place.label), metrics.index(metric), anyone["k"], *null, of_each])
    shown = [[metric, CURVES[metric], axis_of_metric(metric)] for metric in metrics]
    return {"places": places, "metrics": shown, "cells": cells}


def _thousandths(values: Sequence[float] | None) -> list[int] | None:
    return None if values is None else [round(1000 * value) for value in values]


def _page_order(one: dict[str, Any]) -> dict[str, Any]:
    """The same with rows as [method, at, rank, low, high, score]."""
    keys = ("method", "at", "rank", "low", "high", "score")
    return one | {"rows": [[row[key] for key in keys] for row in one["rows"]]}


def _page_roles(results: Results) -> dict[str, list[Any]]:
    """Role -> [kind, place in a bar]."""
    there = {role for s in results.stored for roles in s.record.anatomy.values() for role in roles}
    rows = figures.anatomy_rows({"": dict.fromkeys(sorted(there), 0.0)})
    return {role: [row["kind"], row["at"]] for role, row in zip(sorted(there), rows, strict=True)}


def javascript() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, without a ``</script`` that would end its element.

    Bundling takes seconds, so the result is kept in the user's cache folder, by version.
    """
    import vl_convert

    path = cache_folder() / f"vega-{version('vl-convert-python')}.js"
    if path.exists():
        return path.read_text(encoding="utf-8")
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    script = re.sub("</(?=script)", r"<\\/", bundle, flags=re.IGNORECASE)
    with suppress(InputError):  # no cache: bundle again next time
        write_atomic(path, script.encode())
    return script
