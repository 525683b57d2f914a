"""Chart specs: what each figure looks like, without its data, as altair charts.

The page fills the named datasets, sizes and colours; ``nibench.charts`` fills them for a notebook. A colour stands
for the variable of the page's style sheet that has its place in ``PALETTE``.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nibench.figures import KINDS, OTHER

if TYPE_CHECKING:
    import altair as alt

    Layered = alt.LayerChart | alt.FacetChart

PALETTE = {  # variable of the style sheet -> its light colour
    "paper": "#fbfaf6",
    "raised": "#f3f0e8",
    "ink": "#201e1b",
    "muted": "#69645b",
    "rule": "#dfdacf",
    "accent": "#1d5b79",
    "associated": "#2b6f93",
    "responds": "#7657a6",
    "carries": "#b24a22",
    "required": "#55772f",
    "none": "#85807a",
    "half": "#d9a07f",
    "rest": "#cfc9bc",
    "line-1": "#0072a8",
    "line-2": "#c8500f",
    "line-3": "#8d5aa8",
    "line-4": "#8a6a00",
    "line-5": "#00805f",
    "line-6": "#c05a8c",
    "line-7": "#454e57",
    "line-8": "#5f8fd0",
}
LINES = [colour for name, colour in PALETTE.items() if name.startswith("line-")]
SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "stroke")
CLAIM_SHAPES = {
    "associated": "circle",
    "responds": "diamond",
    "carries": "triangle-up",
    "required": "square",
    "none": "cross",
}
ACROSS, UP = "encodes →", "carries →"
COSTS = {
    "seconds": "seconds per cell (log scale)",
    "passes": "passes per cell (log scale; backward counts two)",
}
IN_WORDS = (
    "datum.value < 1000 ? format(datum.value, 'd') : datum.value < 1e6 ? format(datum.value / 1000, 'd') + 'k' : "
    "format(datum.value / 1e6, 'd') + 'M'"
)
PASSES = (0, 1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000)


def plane_spec() -> "Layered":
    """Datasets ``points``, ``labels`` and ``zero``."""
    import altair as alt

    x = alt.X("encodes:Q", title=ACROSS)
    y = alt.Y("carries:Q", title=UP)
    points = alt.Chart(alt.NamedData("points"))
    claims = list(CLAIM_SHAPES)
    legend = alt.Legend(title="claims", orient="top", direction="horizontal", columns=3)
    scale = alt.Scale(domain=claims, range=[PALETTE[claim] for claim in claims])
    colour = alt.Stroke("claims:N", scale=scale, legend=legend)
    shape = alt.Shape(
        "claims:N", scale=alt.Scale(domain=claims, range=list(CLAIM_SHAPES.values())), legend=legend
    )
    tooltip = [
        alt.Tooltip("method:N"),
        alt.Tooltip("family:N"),
        alt.Tooltip("claims:N"),
        alt.Tooltip("encodes_text:N", title="encodes"),
        alt.Tooltip("carries_text:N", title="carries"),
        alt.Tooltip("covers:N", title="covers"),
    ]
    zero = alt.Chart(alt.NamedData("zero"))
    return alt.layer(
        zero.mark_rule(strokeDash=[3, 3]).encode(x=alt.X("x:Q", title=ACROSS)),
        zero.mark_rule(strokeDash=[3, 3]).encode(y=alt.Y("y:Q", title=UP)),
        alt.Chart(alt.NamedData("labels"))
        .mark_rule(opacity=0.45, strokeWidth=0.7)
        .encode(x=alt.X("x0:Q", title=ACROSS), y=alt.Y("y0:Q", title=UP), x2="x1:Q", y2="y1:Q"),
        points.mark_rule(opacity=0.55, strokeWidth=1.3).encode(
            x=alt.X("encodes_low:Q", title=ACROSS), x2="encodes_high:Q", y=y, stroke=colour
        ),
        points.mark_rule(opacity=0.55, strokeWidth=1.3).encode(
            x=x, y=alt.Y("carries_low:Q", title=UP), y2="carries_high:Q", stroke=colour
        ),
        points.mark_point(size=70, opacity=1, strokeWidth=1.6).encode(
            x=x,
            y=y,
            fill=alt.Fill("claims:N", scale=scale, legend=legend),
            stroke=colour,
            shape=shape,
            tooltip=tooltip,
            fillOpacity=alt.condition("datum.complete", alt.value(1), alt.value(0)),
        ),
        alt.Chart(alt.NamedData("labels"))
        .mark_text(baseline="middle", align="center", fontSize=12)
        .encode(x=alt.X("x:Q", title=ACROSS), y=alt.Y("y:Q", title=UP), text="method:N"),
    )


def wins_spec() -> "Layered":
    """A heat map of shares; dataset ``cells`` with row, column, share, text and whether the text is shown."""
    return _heat_map("row wins", [PALETTE["carries"], PALETTE["raised"], PALETTE["accent"]], [0, 0.5, 1])


def agreement_spec() -> "Layered":
    """The same map for the overlap of the methods' top neurons."""
    return _heat_map("overlap", [PALETTE["paper"], PALETTE["accent"]], [0, 1])


def _heat_map(title: str, colours: Sequence[str], domain: Sequence[float]) -> "Layered":
    import altair as alt

    names = alt.Axis(labelLimit=180, domain=False, ticks=False)
    cells = alt.Chart(alt.NamedData("cells")).encode(
        x=alt.X("column:N", sort=None, title=None, axis=names),
        y=alt.Y("row:N", sort=None, title=None, axis=names),
        tooltip=[alt.Tooltip("row:N"), alt.Tooltip("column:N"), alt.Tooltip("text:N", title=title)],
    )
    scale = alt.Scale(domain=list(domain), range=list(colours), clamp=True)
    legend = alt.Legend(gradientLength=120, orient="top", direction="horizontal")
    return alt.layer(
        cells.mark_rect(opacity=0.65).encode(
            color=alt.Color("share:Q", scale=scale, title=title, legend=legend)
        ),
        cells.mark_text(fontSize=10, color=PALETTE["ink"]).encode(
            text="text:N", opacity=alt.condition("datum.shown", alt.value(1), alt.value(0))
        ),
    )


def cost_spec(cost: str) -> "Layered":
    """Quality against what it costs: dataset ``points``; the front and its labels are found by the chart.

    On the front: methods that cover all cells and that no cheaper one reaches. Labels stand to the upper left, where
    the front leaves room, and each at least ``step`` (a parameter, in units of y) above the last.
    """
    import altair as alt

    if cost == "seconds":
        scale, axis = alt.Scale(type="log", padding=16), alt.Axis(tickCount=5, format="~g")
        worth = "max(datum.seconds, 0.0001)"
    else:
        scale = alt.Scale(type="symlog", constant=1, padding=16)
        axis, worth = alt.Axis(values=PASSES, labelExpr=IN_WORDS), "datum.passes"
    x = alt.X("cost:Q", title=COSTS[cost], scale=scale, axis=axis)
    value = alt.Y("value:Q", title=None, scale=alt.Scale(zero=False))
    cheap_first: list[Any] = [
        alt.SortField("cost", order="ascending"),
        alt.SortField("held", order="descending"),
    ]
    points = (
        alt.Chart(alt.NamedData("points"))
        .transform_calculate(cost=worth, held="datum.complete ? datum.value : -1e9")
        .transform_window(best="max(held)", sort=cheap_first, frame=[None, 0])
        .transform_window(before="lag(best)", sort=cheap_first)
        .transform_calculate(
            front="datum.complete && !(isValid(datum.before) && datum.before >= datum.value)"
        )
    )
    front = points.transform_filter("datum.front")
    labels = (
        front.transform_window(row="row_number()", sort=[alt.SortField("cost", order="ascending")])
        .transform_calculate(above="datum.value - datum.row * step")
        .transform_window(top="max(above)", sort=[alt.SortField("row", order="ascending")], frame=[None, 0])
        .transform_calculate(label_y="datum.top + datum.row * step + 0.45 * step")
        .encode(
            x=x,
            y=alt.Y("label_y:Q", title=None),
            text="method:N",
        )
    )
    room = "scale('x', datum.cost) > 7 * length(datum.method)"
    side: dict[str, Any] = {
        "align": {"expr": f"{room} ? 'right' : 'left'"},
        "dx": {"expr": f"{room} ? -3 : 3"},
    }
    tooltip = [
        alt.Tooltip("method:N"),
        alt.Tooltip("claims:N"),
        alt.Tooltip("value_text:N", title="value"),
        alt.Tooltip("seconds:Q", format=".3~g"),
        alt.Tooltip("passes:Q", format=",.0f"),
    ]
    pale = alt.condition("datum.front", alt.value(1), alt.value(0.35))
    return alt.layer(
        front.mark_line(
            interpolate="step-after", color=PALETTE["accent"], strokeWidth=1.2, strokeDash=[4, 3]
        ).encode(x=x, y=value, order=alt.Order("cost:Q")),
        points.mark_rule(color=PALETTE["accent"], strokeWidth=1.4).encode(
            x=x, y=alt.Y("value_low:Q", title=None), y2="value_high:Q", opacity=pale
        ),
        points.mark_point(size=60, stroke=PALETTE["accent"], strokeWidth=1.5).encode(
            x=x,
            y=value,
            opacity=pale,
            fill=alt.condition("datum.complete", alt.value(PALETTE["accent"]), alt.value(PALETTE["paper"])),
            tooltip=tooltip,
        ),
        labels.mark_text(fontSize=12, stroke=PALETTE["paper"], strokeWidth=3, **side),
        labels.mark_text(fontSize=12, color=PALETTE["ink"], **side),
    ).add_params(alt.param(name="step", value=0.06))


def curves_spec(methods: Sequence[str] = ()) -> "Layered":
    """Datasets ``lines`` (method, k, value, low, high), ``null`` (k, value, low, high) and ``matched``.

    ``methods`` name the lines in the order of the legend; the page fills them in as the domain of both scales.
    """
    import altair as alt

    x = alt.X(
        "k:Q",
        title="k, first neurons of the ranking (log scale)",
        scale=alt.Scale(type="log", base=2, nice=False, padding=10),
        axis=alt.Axis(values=[2**power for power in range(14)], format="d", grid=False),
    )
    y = alt.Y("value:Q", title=None, scale=alt.Scale(zero=False))
    low, high = alt.Y("low:Q", title=None), alt.Y2("high:Q")
    legend = alt.Legend(
        title=None, orient="top", columns=3, symbolOpacity=1, symbolStrokeWidth=2, labelLimit=200
    )
    scale = alt.Scale(domain=list(methods), range=LINES)
    colour = alt.Color("method:N", scale=scale, legend=legend)
    shape = alt.Shape("method:N", scale=alt.Scale(domain=list(methods), range=list(SHAPES)), legend=legend)
    lines, null = alt.Chart(alt.NamedData("lines")), alt.Chart(alt.NamedData("null"))
    matched = alt.Chart(alt.NamedData("matched"))
    numbers = [alt.Tooltip(f"{name}:Q", format=".3f") for name in ("value", "low", "high")]
    tooltip = [alt.Tooltip("method:N"), alt.Tooltip("k:Q"), *numbers]
    of_null = [alt.Tooltip("words:N", title="null"), alt.Tooltip("k:Q"), *numbers]
    return alt.layer(
        null.mark_area(color=PALETTE["rest"], opacity=0.55).encode(x=x, y=low, y2=high),
        null.mark_line(color=PALETTE["muted"], strokeDash=[5, 3], strokeWidth=1.4).encode(x=x, y=y),
        null.mark_point(opacity=0, size=80).encode(x=x, y=y, tooltip=of_null),
        lines.mark_area(opacity=0.16).encode(x=x, y=low, y2=high, color=colour),
        lines.mark_line(strokeWidth=1.8).encode(x=x, y=y, color=colour),
        lines.mark_point(size=42, filled=True, opacity=1).encode(
            x=x, y=y, color=colour, shape=shape, tooltip=tooltip
        ),
        matched.mark_tick(orient="horizontal", size=16, thickness=2.5).encode(
            x=x,
            y=y,
            color=colour,
            tooltip=[
                alt.Tooltip("words:N", title="matched"),
                alt.Tooltip("k:Q"),
                alt.Tooltip("value:Q", format=".3f"),
            ],
        ),
    )


def anatomy_spec() -> "alt.Chart":
    """A bar for each method, dataset ``shares``: who fills the first n places."""
    import altair as alt

    kinds = [*KINDS, OTHER]
    range_ = [PALETTE[name] for name in ("accent", "half", "carries", "rest", "responds")]
    legend = alt.Legend(title=None, orient="top", columns=3)
    return (
        alt.Chart(alt.NamedData("shares"))
        .mark_bar(stroke=PALETTE["paper"], strokeWidth=0.7)
        .encode(
            x=alt.X(
                "share:Q",
                title="share of the first n neurons",
                scale=alt.Scale(domain=[0, 1], nice=False),
                axis=alt.Axis(format="%", tickCount=5),
            ),
            y=alt.Y(
                "method:N", sort=None, title=None, axis=alt.Axis(labelLimit=180, domain=False, ticks=False)
            ),
            color=alt.Color("kind:N", scale=alt.Scale(domain=kinds, range=range_), legend=legend),
            order=alt.Order("at:Q"),
            tooltip=[alt.Tooltip("method:N"), alt.Tooltip("role:N"), alt.Tooltip("share:Q", format=".0%")],
        )
    )


def orders_spec() -> "Layered":
    """A line for each method from tier to tier.

    Datasets ``ranks``, ``ranges``, ``starts`` and ``ends`` (names), ``tiers`` and ``taus``.
    """
    import altair as alt

    x = alt.X("at:Q", title=None, axis=None, scale=alt.Scale(padding=130, nice=False, zero=False))
    y = alt.Y(
        "rank:Q",
        title=None,
        axis=None,
        scale=alt.Scale(reverse=True, nice=False, zero=False, padding=10),
    )
    claims = list(CLAIM_SHAPES)
    colour = alt.Color(
        "claims:N",
        scale=alt.Scale(domain=claims, range=[PALETTE[claim] for claim in claims]),
        legend=alt.Legend(title="claims", orient="bottom", columns=3),
    )
    ranks = alt.Chart(alt.NamedData("ranks"))
    over = alt.selection_point(
        name="over", on="pointerover", fields=["method"], empty=False, clear="pointerout"
    )
    pointed = "(over.method && indexof(over.method, datum.method) >= 0)"
    strong = alt.condition(f"datum.own || {pointed}", alt.value(1), alt.value(0.4))
    ink = alt.condition("datum.own", alt.value(PALETTE["ink"]), alt.value(PALETTE["muted"]))
    tooltip = [
        alt.Tooltip("method:N"),
        alt.Tooltip("claims:N"),
        alt.Tooltip("tier:N"),
        alt.Tooltip("rank:Q", format="~g"),
        alt.Tooltip("low:Q", title="95 % from"),
        alt.Tooltip("high:Q", title="to"),
        alt.Tooltip("score:Q", format=".2f"),
    ]
    sides: Any = (("starts", "right", -9), ("ends", "left", 9))
    heads = alt.Chart(alt.NamedData("tiers")).encode(x=x, y=alt.Y("y:Q", title=None), text="text:N")
    return alt.layer(
        ranks.mark_line(strokeWidth=1.6).encode(
            x=x, y=y, color=colour, detail="method:N", order=alt.Order("at:Q"), opacity=strong
        ),
        alt.Chart(alt.NamedData("ranges"))
        .mark_rule(strokeWidth=4, strokeCap="round")
        .encode(
            x=x,
            y=alt.Y("low:Q", title=None),
            y2="high:Q",
            color=colour,
            opacity=alt.condition(f"datum.own || {pointed}", alt.value(0.35), alt.value(0)),
        ),
        ranks.mark_point(filled=True, size=46)
        .encode(x=x, y=y, color=colour, opacity=strong, tooltip=tooltip)
        .add_params(over),
        *(
            alt.Chart(alt.NamedData(name))
            .mark_text(align=align, dx=dx, fontSize=11)
            .encode(x=x, y=alt.Y("spot:Q", title=None), text="method:N", color=ink)
            for name, align, dx in sides
        ),
        heads.mark_text(fontSize=12, fontWeight="bold", color=PALETTE["ink"]),
        alt.Chart(alt.NamedData("taus"))
        .mark_text(fontSize=11, color=PALETTE["muted"])
        .encode(x=x, y=alt.Y("y:Q", title=None), text="text:N"),
    )
