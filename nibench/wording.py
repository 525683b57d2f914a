"""Wording: how numbers are written wherever a board is shown."""

import math
import re
from collections.abc import Sequence
from decimal import ROUND_HALF_UP, Decimal


def number(value: float | None) -> str:
    """Two decimals without a leading zero: .82, −.05, 1.00; a dash for nothing.

    Rounded from four decimals, halves away from zero: as the page's script does it.
    """
    if value is None:
        return "–"
    rounded = Decimal(round(value, 4)).quantize(Decimal("0.01"), ROUND_HALF_UP)
    text = re.sub(r"^(-?)0\.", r"\1.", str(rounded))
    return ".00" if text == "-.00" else text.replace("-", "−")


def plain(text: str) -> str:
    """A docstring's or note's text without its marks of code and emphasis; a product ``N*D`` keeps its sign."""
    return re.sub(r"(?<!\w)(\*{1,2}|`{1,2})(?=\S)([^*`]+?)(?<=\S)\1(?!\w)", r"\2", text)


def rounded(value: float | None, digits: int = 4) -> float | None:
    """For JSON that is only shown: few digits; None for nothing and for what is no number."""
    return None if value is None or not math.isfinite(value) else round(float(value), digits)


def fine(value: float | None) -> str:
    """The same with a third decimal where two would leave one figure or none: .34, .012, .004, <.001."""
    if value is None:
        return "–"
    if value < 0.0995:
        return "<.001" if value < 0.0005 else f"{value:.3f}".removeprefix("0")
    return number(value)


def seconds(value: float | None) -> str:
    """A duration in seconds: <.01, .41, 2.8, 130."""
    if value is None:
        return "–"
    if value < 0.005:
        return "<.01"
    return number(value) if value < 1 else f"{value:.1f}" if value < 10 else f"{value:.0f}"


def count(value: float | None) -> str:
    """A count, thousands as k: 0, 999, 4.1k, 1235k."""
    if value is None:
        return "–"
    return f"{value / 1000:.{0 if value >= 1e5 else 1}f}k" if value >= 1000 else f"{value:.0f}"


def listed(names: Sequence[str], most: int = 4) -> str:
    """``a, b and c``; beyond ``most`` names, how many more."""
    shown = [*names[:most], f"{len(names) - most} more"] if len(names) > most else list(names)
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else "".join(shown)


def printable(text: str) -> str:
    """Without what would move a terminal's cursor or turn its text around."""
    return "".join(c for c in text if c.isprintable())
