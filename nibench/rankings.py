"""Rankings as a table: scores of neurons in a file, without the code that made them.

One row per task, model and neuron, as parquet or CSV: columns ``task``, ``model`` (empty for a sampled world),
``neuron`` (a name such as ``L2.mlp_post.17``; ``neuron.17`` in a world), ``score`` (higher is more important,
``-inf``: cannot tell) and, where there are several runs of one method, ``seed``. Rows may stand in any order.
"""

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nibench.disk import write_atomic
from nibench.errors import InputError
from nibench.neurons import Neurons

if TYPE_CHECKING:
    from pyarrow import ChunkedArray, DataType, Table

Key = tuple[str, str, int]
"""Task, model ("" where there is none) and seed."""

COLUMNS = ("task", "model", "neuron", "score")
SEED = "seed"
MOST_ROWS = 10_000_000  # a parquet file unpacks to what it says it has: refuse before that
EXPECTED = (
    f"Expected the columns {', '.join(COLUMNS)} (and {SEED}, where there are several), one row per neuron."
)


@dataclass(frozen=True, eq=False)
class Scored:
    """The scores of one task in one model: names (n,) of neurons, all different, and float64 (n,) without NaN."""

    neurons: tuple[str, ...]
    scores: np.ndarray

    def aligned(self, neurons: Neurons, where: str) -> np.ndarray:
        """float64 (D,): the scores in the order of the neurons that there are.

        Raises
        ------
        InputError
            If it is not one score for each of them; ``where`` says which cell of which file.
        """
        place = {name: i for i, name in enumerate(neurons)}
        strange = next((name for name in self.neurons if name not in place), None)
        if strange is not None:
            raise InputError(
                f"{where}: there is no neuron {strange!r}; there are {len(neurons)}, {neurons[0]} to {neurons[-1]}."
            )
        if len(self.neurons) < len(neurons):
            missing = next(name for name in neurons if name not in set(self.neurons))
            raise InputError(
                f"{where}: scores for {len(self.neurons)} of {len(neurons)} neurons; {missing} has none. "
                "Score every neuron; -inf says 'cannot tell'."
            )
        values = np.empty(len(neurons))
        values[[place[name] for name in self.neurons]] = self.scores
        return values


def read_rankings(path: Path) -> dict[Key, Scored]:
    """Every ranking of a .parquet or .csv file, by task, model and seed (0 where the file has no seeds).

    Raises
    ------
    InputError
        If the file cannot be read, a column is missing or holds something else, a score is NaN, +inf or missing, or
        a neuron is scored twice.
    """
    path = Path(path)
    table = _read(path)
    if not table.num_rows:
        raise InputError(f"{path} has no rows. {EXPECTED}")
    columns = [_texts(table, name) for name in ("task", "model", "neuron")]
    columns.append(_seeds(table) if SEED in table.column_names else np.zeros(table.num_rows, dtype=np.int64))
    tasks, models, names, seeds = columns
    scores = table["score"].to_numpy(zero_copy_only=False)
    bad = np.flatnonzero(np.isnan(scores) | (scores == np.inf))
    if bad.size:
        first = f"row {bad[0] + 1}, {tasks[bad[0]]}, {names[bad[0]]}"
        raise InputError(
            f"{path}: {bad.size} scores are NaN, +inf or missing (first: {first}). "
            "Score every neuron; -inf says 'cannot tell'."
        )
    codes = np.stack([np.unique(one, return_inverse=True)[1] for one in (tasks, models, seeds)])
    cell_of = np.unique(codes, axis=1, return_inverse=True)[1].ravel()
    in_cells = np.argsort(cell_of, kind="stable")
    found: dict[Key, Scored] = {}
    for rows in np.split(in_cells, np.flatnonzero(np.diff(cell_of[in_cells])) + 1):
        key = str(tasks[rows[0]]), str(models[rows[0]]), int(seeds[rows[0]])
        mine = names[rows]
        unique, counts = np.unique(mine, return_counts=True)
        if len(unique) < len(mine):
            twice = unique[counts > 1][0]
            raise InputError(f"{path}: {' · '.join(filter(None, key[:2]))} scores {twice} twice. {EXPECTED}")
        found[key] = Scored(tuple(map(str, mine)), scores[rows].astype(np.float64) + 0.0)
    return found


def write_rankings(rankings: Mapping[Key, Scored], path: Path) -> None:
    """Write such a table, whole or not at all; ``read_rankings`` gives back the same."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    sizes = [len(one.neurons) for one in rankings.values()]
    keys = list(rankings)
    table = pa.table(
        {
            "task": np.repeat([key[0] for key in keys], sizes),
            "model": np.repeat([key[1] for key in keys], sizes),
            SEED: np.repeat([key[2] for key in keys], sizes),
            "neuron": [name for one in rankings.values() for name in one.neurons],
            "score": np.concatenate([one.scores for one in rankings.values()]),
        }
    )
    buffer = io.BytesIO()
    (parquet.write_table if path.suffix == ".parquet" else csv.write_csv)(table, buffer)
    write_atomic(path, buffer.getvalue())


def _read(path: Path) -> "Table":
    """The file's columns, and no others, as they should be typed."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    if path.suffix not in (".parquet", ".csv"):
        raise InputError(f"{path}: expected a table of scores, a name that ends in .parquet or .csv.")
    types = pa.schema(
        [(name, pa.string()) for name in COLUMNS[:3]] + [("score", pa.float64()), (SEED, pa.int64())]
    )
    try:
        if path.suffix == ".csv":
            options = csv.ConvertOptions(column_types=types)
            table = csv.read_csv(path, convert_options=options)
        else:
            there = parquet.read_schema(path).names
            file = parquet.ParquetFile(path, read_dictionary=[name for name in COLUMNS[:3] if name in there])
            if file.metadata.num_rows > MOST_ROWS:
                raise InputError(f"{path} has {file.metadata.num_rows:,} rows; at most {MOST_ROWS:,}.")
            table = file.read(columns=[name for name in types.names if name in file.schema_arrow.names])
        absent = [name for name in COLUMNS if name not in table.column_names]
        if absent:
            there = ", ".join(map(repr, table.column_names[:6]))
            raise InputError(f"{path} has no column {absent[0]!r}, but {there}. {EXPECTED}")
        return pa.table(
            {
                name: _typed(table[name], types.field(name).type)
                for name in types.names
                if name in table.column_names
            }
        )
    except (OSError, pa.ArrowException, ValueError) as error:
        if isinstance(error, InputError):
            raise
        if text := re.search(r"column #\d+:.*invalid value '(.*)'", str(error)):
            raise InputError(f"{path}: {text[1]!r} is no number. {EXPECTED}") from None
        raise InputError(f"{path} cannot be read ({str(error).splitlines()[0]}). {EXPECTED}") from None


def _typed(column: "ChunkedArray", kind: "DataType") -> "ChunkedArray":
    """The column as it should be typed; text that repeats stays encoded, however long it is."""
    import pyarrow as pa

    encoded = pa.types.is_dictionary(column.type) and column.type.value_type == kind
    return column if encoded else column.cast(kind)


def _texts(table: "Table", name: str) -> np.ndarray:
    """(rows,) str, each text held once; what is missing is empty."""
    column = table[name].dictionary_encode().unify_dictionaries()
    words = np.array([*next((chunk.dictionary.to_pylist() for chunk in column.chunks), []), ""], dtype=object)
    places = np.concatenate([chunk.indices.fill_null(len(words) - 1).to_numpy() for chunk in column.chunks])
    return words[places]


def _seeds(table: "Table") -> np.ndarray:
    return table[SEED].fill_null(0).to_numpy(zero_copy_only=False)
