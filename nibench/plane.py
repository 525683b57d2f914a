"""The page's figures as Vega-Lite charts: the plane of *encodes* against *carries*, and who beats whom.

They are described with altair and drawn by the page from the rows that are shown, so that they follow the page's
filters; the JavaScript that draws them is inlined.
"""

import re
from contextlib import suppress
from importlib.metadata import version
from typing import Any

from nibench.cache import cache_folder
from nibench.disk import write_atomic
from nibench.errors import InputError

ACROSS, UP = "encodes →", "carries →"
CLAIM_SHAPES = {
    "associated": "circle",
    "responds": "diamond",
    "carries": "triangle-up",
    "required": "square",
    "none": "cross",
}


def plane_spec() -> dict[str, Any]:
    """The chart without data: the page fills the datasets ``points`` and ``labels``, scales and colours."""
    import altair as alt

    x = alt.X("encodes:Q", title=ACROSS)
    y = alt.Y("carries:Q", title=UP)
    points = alt.Chart(alt.NamedData("points"))
    claims = list(CLAIM_SHAPES)
    legend = alt.Legend(title="claims", orient="top", direction="horizontal", columns=3)
    scale = alt.Scale(domain=claims, range=claims)  # the page puts its colours here
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
    layers = [
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
    ]
    return alt.layer(*layers).to_dict()


def wins_spec() -> dict[str, Any]:
    """Who beats whom, a heat map without data: the page fills ``wins``, sizes and colours."""
    import altair as alt

    names = alt.Axis(labelLimit=180, domain=False, ticks=False)
    x = alt.X("column:N", sort=None, title=None, axis=names)
    y = alt.Y("row:N", sort=None, title=None, axis=names)
    words = [alt.Tooltip("words:N", title="row against column")]
    cells = alt.Chart(alt.NamedData("wins")).encode(x=x, y=y, tooltip=words)
    scale = alt.Scale(domain=[0, 0.5, 1])
    share = alt.Color("share:Q", scale=scale, title="row wins", legend=alt.Legend(gradientLength=120))
    shown = alt.condition("datum.shown", alt.value(1), alt.value(0))
    layers = [
        cells.mark_rect(opacity=0.65).encode(color=share),
        cells.mark_text(fontSize=10).encode(text="text:N", opacity=shown),
    ]
    return alt.layer(*layers).to_dict()


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
