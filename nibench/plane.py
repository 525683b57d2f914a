"""The plane: *encodes* against *carries*, the page's main figure, as a Vega-Lite chart.

The chart is described with altair and drawn by the page from the rows that are shown, so that it follows
the page's filters; the JavaScript that draws it is inlined.
"""

import os
import re
from pathlib import Path
from typing import Any

from platformdirs import user_cache_path

from nibench.errors import InputError
from nibench.record import write_atomic

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

    x = alt.X("encodes:Q", title="encodes: a probe can read the concept →")
    y = alt.Y("carries:Q", title="carries: the model acts through them →")
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
        zero.mark_rule(strokeDash=[3, 3]).encode(x=alt.X("x:Q", title=None)),
        zero.mark_rule(strokeDash=[3, 3]).encode(y=alt.Y("y:Q", title=None)),
        alt.Chart(alt.NamedData("labels"))
        .mark_rule(opacity=0.45, strokeWidth=0.7)
        .encode(x="x0:Q", y="y0:Q", x2="x1:Q", y2="y1:Q"),
        points.mark_rule(opacity=0.55, strokeWidth=1.3).encode(
            x="encodes_low:Q", x2="encodes_high:Q", y="carries:Q", stroke=colour
        ),
        points.mark_rule(opacity=0.55, strokeWidth=1.3).encode(
            x="encodes:Q", y="carries_low:Q", y2="carries_high:Q", stroke=colour
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
        .encode(x="x:Q", y="y:Q", text="method:N"),
    ]
    return alt.layer(*layers).to_dict()


def javascript() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, without a ``</script`` that would end its element.

    Bundling takes seconds, so the result is kept in the user's cache folder, by version.
    """
    import vl_convert

    cache = Path(os.environ.get("NIBENCH_CACHE") or user_cache_path("nibench"))
    path = cache / f"vega-{vl_convert.__version__}.js"
    if path.exists():
        return path.read_text(encoding="utf-8")
    script = re.sub("</(?=script)", r"<\\/", vl_convert.javascript_bundle(), flags=re.IGNORECASE)
    try:
        write_atomic(path, script.encode())
    except InputError:
        pass  # no cache: bundle again next time
    return script
