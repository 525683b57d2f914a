"""Drill-down: from a method to its tasks, models and first neurons, with the commands that show each again."""

from typing import Any

from nibench.axes import AXES
from nibench.record import Record
from nibench.resampling import slope
from nibench.results import Results
from nibench.views import role_order
from nibench.wording import rounded

N_NEURONS = 10


def cells_of(results: Results, method: str) -> list[dict[str, Any]]:
    """A row per cell and seed of one method; ``place`` is the position in ``Results.places``."""
    return [
        {"place": position, **_cell(stored.record)}
        for position, place in enumerate(results.places)
        for stored in results.cells.get((method, place), ())
    ]


def _cell(record: Record) -> dict[str, Any]:
    flags = [*record.flags, *record.notes, *(flag for score in record.scores for flag in score.flags)]
    return {
        "seed": record.cell.seed,
        "status": record.status,
        "reason": record.reason,
        "scores": {axis.id: found for axis in AXES if (found := _score(record, axis.metric))},
        "top": record.top[:N_NEURONS],
        "anatomy": {
            k: {role: rounded(roles[role], 2) for role in sorted(roles, key=role_order)}
            for k, roles in record.anatomy.items()
        },
        "flags": list(dict.fromkeys(flags))[:6],
        "seconds": rounded(record.cost.seconds) if record.cost else None,
        "command": record.command,
    }


def _score(record: Record, metric: str) -> list[Any] | None:
    """[normalised, low, high, plain value, its unit] of one cell; None where it has none."""
    score = record.score(metric)
    if score is None:
        return None
    low = high = None
    scale = slope(score)
    if score.ci95 and score.normalised is not None and scale is not None:
        low, high = (score.normalised + scale * (end - score.value) for end in score.ci95)
    return [*(rounded(x) for x in (score.normalised, low, high, score.value)), score.unit]
