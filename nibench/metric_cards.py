"""Metric cards: what the study of metrics found of each, as it comes with the package.

``metrics/cards.json`` is what ``nibench study metrics --out`` wrote from the records of the suite ``metrics``.
"""

import json
from functools import cache
from pathlib import Path
from typing import Any

from nibench.wording import number

FILE = Path(__file__).parent / "metrics" / "cards.json"


@cache
def shipped() -> dict[str, dict[str, Any]]:
    """Metric -> its card; empty where the package has none."""
    if not FILE.exists():
        return {}
    return {card["metric"]: card for card in json.loads(FILE.read_text(encoding="utf-8"))["cards"]}


def tracks(metric: str) -> bool | None:
    """Whether the metric was seen to follow the truth it is about; None where that is not known."""
    return shipped().get(metric, {}).get("tracks")


def words(metric: str) -> str | None:
    """That verdict with its figure; None where there is none."""
    card = shipped().get(metric, {})
    found = card.get("truth", {}).get(card.get("claim"))
    if found is None or found["ci95"] is None:
        return None
    low, high = found["ci95"]
    verb = "tracks" if card["tracks"] else "does not track"
    return f"{verb} the truth of {card['claim']}: correlation {number(found['value'])} [{number(low)}, {number(high)}]"
