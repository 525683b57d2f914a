"""Rankings without code: a table of scores per neuron, and the card that says what they claim."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nibench.errors import InputError
from nibench.given import Key, declared
from nibench.record import Card

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("task", "model", "neuron", "score")
MOST_ROWS = 10_000_000
OWN = (
    "family",
    "claims",
    "direction",
    "needs",
    "shares_estimand",
    "scope",
    "scalability",
    "human_in_the_loop",
)
TOLD = ("complexity", "limits", "paper", "summary")
BATCH = 65_536  # rows at a time


def read_card(path: Path) -> Card:
    """The card of rankings, from the JSON that ``nibench new card NAME`` starts.

    Raises
    ------
    InputError
        Naming the field that is missing, unknown or not of the contract.
    """
    from nibench.check import card_problem

    try:
        raw: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        raise InputError(f"No card {path}. Make one: nibench new card {path.stem}") from None
    except ValueError as error:
        raise InputError(f"{path} is not JSON ({error}).") from None
    if not isinstance(raw, dict) or set(raw) - {*OWN, *TOLD} or {"claims", "needs", "family"} - set(raw):
        raise InputError(
            f"{path}: expected the fields {', '.join((*OWN, *TOLD))}; the first three named are needed."
        )
    try:
        card = Card(**{"direction": "concept->neurons", "scope": "global", "scalability": "high", **raw})
    except ValueError:
        raise InputError(
            f"{path}: needs and shares_estimand are lists, human_in_the_loop true or false, the rest text."
        ) from None
    kind = declared(card)
    problem = card_problem(kind())
    if problem is not None:
        raise InputError(f"{path}: {problem}")
    return card.model_copy(update=kind.criteria())


def read_rankings(path: Path) -> "dict[Key, dict[str, float]]":
    """Task, model and seed -> neuron -> score, of a CSV or parquet table.

    Raises
    ------
    InputError
        For another shape, scores that are no numbers, or a neuron that is scored twice.
    """
    found: dict[Key, dict[str, float]] = {}
    try:
        for batch in _batches(path):
            columns = {name: batch.column(name).to_pylist() for name in batch.schema.names}
            seeds = columns.get("seed", [0] * batch.num_rows)
            for task, model, neuron, score, seed in zip(
                *(columns[name] for name in COLUMNS), seeds, strict=True
            ):
                if score is None:
                    raise InputError(
                        f"{path}: {neuron} of {task} has no score, or NaN; -inf says 'cannot tell'."
                    )
                of_cell = found.setdefault((str(task), str(model or ""), int(seed)), {})
                if neuron in of_cell:
                    raise InputError(
                        f"{path}: {neuron} is scored twice for {task} {model or ''}; score each once."
                    )
                of_cell[str(neuron)] = float(score)
    except (TypeError, ValueError, OSError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path}: {error}. Expected the columns {', '.join(COLUMNS)}; seed is optional."
        ) from None
    if not found:
        raise InputError(f"{path} has no rows; expected the columns {', '.join(COLUMNS)}.")
    return found


def _batches(path: Path) -> "Iterator[pa.RecordBatch]":
    """The table a batch at a time; text of a parquet file stays encoded until a batch is read."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    if path.suffix == ".csv":
        text = {name: pa.string() for name in COLUMNS[:3]}
        convert = csv.ConvertOptions(column_types={**text, "score": pa.float64(), "seed": pa.int64()})
        reader = csv.open_csv(path, convert_options=convert)
        _require_columns(path, reader.schema.names)
        yield from reader
        return
    table = parquet.ParquetFile(path, read_dictionary=list(COLUMNS[:3]))
    names = table.schema_arrow.names
    _require_columns(path, names)
    if table.metadata.num_rows > MOST_ROWS:
        raise InputError(f"{path} has {table.metadata.num_rows:,} rows; at most {MOST_ROWS:,}.")
    yield from table.iter_batches(BATCH, columns=[name for name in names if name in (*COLUMNS, "seed")])


def _require_columns(path: Path, names: list[str]) -> None:
    if missing := [name for name in COLUMNS if name not in names]:
        raise InputError(
            f"{path} has no column {missing[0]}; expected {', '.join(COLUMNS)}, and seed if several."
        )
