"""Difficulty: how hard a world may get until a method breaks.

The cells of one world with one dial turned (``difficulty_world@snr=0.5,draw=3``) make a curve: the method's
true score, 0 for random rankings and 1 for a perfect one, against the dial. It breaks where the mean over
the draws first falls below ``FRACTION`` on the way from easy to hard, interpolated between the values.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from nibench.results import Results
from nibench.submissions import split_dials
from nibench.uncertainty import MIN_CLUSTERS, cluster_weights
from nibench.wording import number

if TYPE_CHECKING:
    from rich.console import Group

METRIC = "gt.ndcg[associated]"
FRACTION = 0.5
WIDTH, HEIGHT = 88.0, 30.0  # of a drawn curve


@dataclass(frozen=True)
class Breakdown:
    """Where a curve breaks, as a value of the dial.

    ``inf``: nowhere up to the hardest value; ``-inf``: it is below from the easiest on. ``low`` and ``high``
    are the 95 % interval over draws in the order of hardness; None with fewer than ten draws.
    """

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True, eq=False)
class Curve:
    """One method on one world with one dial turned.

    Attributes
    ----------
    values : (V,) the dial, from easy to hard.
    scores : (V, R) normalised true scores, one column per draw.
    """

    method: str
    world: str
    dial: str
    harder: Literal["more", "less"]
    scale: Literal["log", "linear"]
    about: str
    values: np.ndarray
    scores: np.ndarray

    @property
    def means(self) -> np.ndarray:
        """(V,): mean over draws."""
        return self.scores.mean(axis=1)

    @cached_property
    def breakdown(self) -> Breakdown:
        """Where the mean over draws falls below ``FRACTION``; interval from resampled draws."""
        sign = 1.0 if self.harder == "more" else -1.0
        places = sign * (np.log(self.values) if self.scale == "log" else self.values)

        def back(place: float) -> float:
            if not np.isfinite(place):
                return float(place)
            return float(np.exp(sign * place) if self.scale == "log" else sign * place)

        value = back(crossing(places, self.means[None], FRACTION)[0])
        n_draws = self.scores.shape[1]
        if n_draws < MIN_CLUSTERS:
            return Breakdown(value)
        means = cluster_weights(n_draws) @ self.scores.T / n_draws  # (B, V)
        drawn = crossing(places, means, FRACTION)
        low, high = np.quantile(drawn, 0.025, method="lower"), np.quantile(drawn, 0.975, method="higher")
        return Breakdown(value, back(low), back(high))


def crossing(places: np.ndarray, curves: np.ndarray, level: float) -> np.ndarray:
    """float64 (B,): where each curve (B, V) over ascending places (V,) first falls below a level.

    Linear between neighbours; inf where it never does, -inf where it starts below.
    """
    below = curves < level
    first = below.argmax(axis=1)
    rows, before = np.arange(len(curves)), np.maximum(first - 1, 0)
    top, bottom = curves[rows, before], curves[rows, first]
    drop = np.where(top > bottom, top - bottom, 1.0)
    found = places[before] + (places[first] - places[before]) * (top - level) / drop
    found = np.where(first == 0, -np.inf, found)
    return np.where(below.any(axis=1), found, np.inf)


def curves(results: Results, metric: str = METRIC) -> tuple[Curve, ...]:
    """Every curve that the records hold: methods by their mean score, dials as they were first turned.

    A failed cell counts as 0, a random ranking; methods that do not apply have no curve, and a draw without
    all values of its dial is left out. A curve has at least three values.
    """
    found: dict[tuple[str, str, str], dict[tuple[float, int], list[float]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for (method, _), seeds in results.cells.items():
        for stored in seeds:
            record = stored.record
            world, dials = split_dials(record.cell.task)
            draw = int(dials.pop("draw", 0))
            score = record.score(metric)
            if len(dials) != 1 or record.status == "not_applicable":
                continue
            if record.status == "ok" and (score is None or score.normalised is None):
                continue
            ((dial, value),) = dials.items()
            known = score is not None and score.normalised is not None
            found[method, world, dial][value, draw].append(score.normalised if known else 0.0)  # type: ignore
    made = [_curve(*key, cells) for key, cells in found.items()]
    whole = [curve for curve in made if curve is not None]
    overall = {
        m: np.mean([c.means.mean() for c in whole if c.method == m]) for m in {c.method for c in whole}
    }
    order = _dial_order()
    return tuple(sorted(whole, key=lambda c: (c.world, order.index(c.dial), -overall[c.method], c.method)))


def _dial_order() -> list[str]:
    from nibench.truth.dials import DIALS

    return list(DIALS)


def _curve(method: str, world: str, dial: str, cells: dict[tuple[float, int], list[float]]) -> Curve | None:
    from nibench.truth.dials import DIALS

    if dial not in DIALS:
        return None
    turned = DIALS[dial]
    values = sorted({value for value, _ in cells}, reverse=turned.harder == "less")
    draws = sorted({draw for _, draw in cells})
    whole = [draw for draw in draws if all((value, draw) in cells for value in values)]
    if len(values) < 3 or not whole:
        return None
    scores = np.array([[np.mean(cells[value, draw]) for draw in whole] for value in values])
    about, harder, scale = turned.about, turned.harder, turned.scale
    return Curve(method, world, dial, harder, scale, about, np.array(values), scores)


# ---------------------------------------------------------------- shown


def tables(found: Sequence[Curve]) -> "list[Group]":
    """A table per world and dial, 80 columns wide: the curve, and where it breaks."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    made = []
    for world, dial in dict.fromkeys((curve.world, curve.dial) for curve in found):
        mine = [curve for curve in found if (curve.world, curve.dial) == (world, dial)]
        title = Text(f"\n{dial}: {mine[0].about} ({mine[0].scores.shape[1]} draws of {world})")
        table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
        table.add_column("method", overflow="fold", min_width=14)
        for value in mine[0].values:
            table.add_column(short(value), justify="right", no_wrap=True)
        table.add_column("breaks at", justify="right", no_wrap=True)
        for curve in mine:
            table.add_row(curve.method, *(number(mean) for mean in curve.means), words(curve))
        made.append(Group(title, table))
    return made


def words(curve: Curve) -> str:
    """Where a curve breaks: ``.52 (.45 to .61)``, ``< .35`` (it holds all the way), ``–`` (it never held)."""
    at = curve.breakdown
    if at.value == -np.inf:
        return "–"
    text = _end(curve, at.value)
    ends = [_end(curve, end) for end in (at.low, at.high) if end is not None]
    return f"{text} ({' to '.join(ends)})" if len(set(ends)) == 2 else text


def _end(curve: Curve, value: float) -> str:
    """A value of the dial; beyond the values that were tried, the last one with the sign of what is beyond."""
    if np.isfinite(value):
        return short(value)
    hard, easy = (">", "<") if curve.harder == "more" else ("<", ">")
    sign, last = (hard, curve.values[-1]) if value > 0 else (easy, curve.values[0])
    return f"{sign}\u00a0{short(last)}"


def short(value: float) -> str:
    """A value of a dial in few figures: 1800, 45, 4.2, .35, 0."""
    text = f"{value:.0f}" if abs(value) >= 10 or value == int(value) else f"{value:.2g}"
    return text.removeprefix("0") if text.startswith("0.") else text


def drawn(found: Sequence[Curve]) -> list[dict[str, Any]]:
    """What the page draws: per world its dials and, for each method, a small curve for every dial.

    ``line`` and ``level`` are in a box of ``WIDTH`` x ``HEIGHT``, easy on the left; ``mark`` and ``span``
    are where it breaks and the interval, None where it does not break inside.
    """
    made = []
    for world in dict.fromkeys(curve.world for curve in found):
        mine = [curve for curve in found if curve.world == world]
        dials = {curve.dial: curve for curve in mine}
        heads = [
            {
                "dial": dial.replace("_", " "),
                "about": curve.about,
                "easy": short(curve.values[0]),
                "hard": short(curve.values[-1]),
            }
            for dial, curve in dials.items()
        ]
        rows = [
            {
                "method": method,
                "cells": [
                    next((_sketch(c) for c in mine if (c.method, c.dial) == (method, dial)), None)
                    for dial in dials
                ],
            }
            for method in dict.fromkeys(curve.method for curve in mine)
        ]
        made.append({"world": world, "dials": heads, "rows": rows, "draws": mine[0].scores.shape[1]})
        made[-1] |= {"width": WIDTH, "height": HEIGHT}
    return made


def _sketch(curve: Curve) -> dict[str, Any]:
    sign = 1.0 if curve.harder == "more" else -1.0

    def across(value: float) -> float:
        ends = np.array([curve.values[0], value, curve.values[-1]], dtype=np.float64)
        easy, here, hard = sign * (np.log(ends) if curve.scale == "log" else ends)
        return float(round(WIDTH * (here - easy) / (hard - easy), 1))

    def up(score: float) -> float:
        return float(round(HEIGHT * (1 - min(max(score, 0.0), 1.0)), 1))

    line = " ".join(f"{across(v)},{up(m)}" for v, m in zip(curve.values, curve.means, strict=True))
    at = curve.breakdown
    inside = np.isfinite(at.value)
    ends = None
    if inside and at.low is not None and at.high is not None:
        ends = [across(e) if np.isfinite(e) else (WIDTH if e > 0 else 0.0) for e in (at.low, at.high)]
    return {
        "line": line,
        "level": up(FRACTION),
        "mark": across(at.value) if inside else None,
        "span": ends,
        "words": words(curve),
    }
