"""Tidy: every score of every cell as one row, for your own analysis; as CSV, Parquet and for pandas."""

import csv
import io
from typing import TYPE_CHECKING, Any

from nibench.record import Record
from nibench.results import Results

if TYPE_CHECKING:
    import pyarrow

COLUMNS = (
    *(
        "method",
        "preset",
        "task",
        "concept",
        "model",
        "site",
        "layers",
        "aggregation",
        "cap",
        "seed",
        "others",
    ),
    *("family", "claims", "needs", "status", "reason"),
    *(
        "metric",
        "value",
        "unit",
        "direction",
        "normalised",
        "se",
        "ci95_low",
        "ci95_high",
        "chance",
        "ceiling",
    ),
    *("n_items", "n_clusters", "tie_fraction", "flags", "command"),
)
COUNTS = ("cap", "seed", "direction", "n_items", "n_clusters")
NUMBERS = ("value", "normalised", "se", "ci95_low", "ci95_high", "chance", "ceiling", "tie_fraction")


def rows(results: Results) -> list[dict[str, Any]]:
    """One row per cell and metric (cost included), a row without metric for a cell that has none."""
    ordered = sorted(results.stored, key=lambda stored: stored.record.cell.stem)
    return [row for stored in ordered for row in _rows(stored.record)]


def to_csv(results: Results) -> str:
    """The rows as text; what is not known is empty."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows(results):
        writer.writerow({name: _plain(row.get(name)) for name in COLUMNS})
    return out.getvalue()


def to_arrow(results: Results) -> "pyarrow.Table":
    """The rows with their types, text as it stands in the records; what is not known is null."""
    import pyarrow

    types = dict.fromkeys(COLUMNS, pyarrow.string())
    types |= dict.fromkeys(COUNTS, pyarrow.int64()) | dict.fromkeys(NUMBERS, pyarrow.float64())
    schema = pyarrow.schema(list(types.items()))
    return pyarrow.Table.from_pylist(rows(results), schema)


def to_parquet(results: Results) -> bytes:
    """The same as a file; equal records make equal bytes."""
    import pyarrow.parquet

    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(to_arrow(results), sink, compression="zstd")
    return sink.getvalue().to_pybytes()


def _rows(record: Record) -> list[dict[str, Any]]:
    """The rows of one cell."""
    cell = {**record.cell.model_dump(exclude={"parameters"}), "others": " ".join(record.cell.others)}
    about = {
        "concept": record.concept,
        "status": record.status,
        "reason": record.reason,
        "command": record.command,
    }
    card = {"family": record.card.family, "claims": record.card.claims, "needs": " ".join(record.card.needs)}
    key = {**cell, **about, **card}
    found: list[dict[str, Any]] = []
    for score in record.scores:
        low, high = score.ci95 or (None, None)
        numbers = {name: value for name, value in score.model_dump().items() if name in COLUMNS}
        row = {**key, "metric": score.id, **numbers, "ci95_low": low, "ci95_high": high}
        found.append({**row, "flags": "; ".join(score.flags)})
    if record.cost is not None:
        cost = record.cost
        measured = {
            "cost.seconds": (cost.seconds, "seconds"),
            "cost.feq": (cost.forward + 2 * cost.backward, "forward passes"),
            "cost.peak_memory_mb": (cost.peak_memory_mb, "MB"),
        }
        for name, (value, unit) in measured.items():
            found.append({**key, "metric": name, "value": value, "unit": unit, "direction": -1})
    return found or [key]


def _plain(value: object) -> object:
    """A CSV value; text that a spreadsheet would take for a formula is quoted."""
    if value is None:
        return ""
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return value
