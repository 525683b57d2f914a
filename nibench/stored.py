"""Stored: records as they lie on disk, each with its arrays, of results folders, archives and submissions."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nibench.archive import archives_in, read_archive
from nibench.record import Record, read_arrays, read_record, record_paths
from nibench.submitted import Standing, standing_of


@dataclass(frozen=True)
class Stored:
    """A record with the arrays beside it (the ranking's scores, the per-cluster statistics).

    ``standing`` says how far the record of a submission was checked; None for one that was made here.
    """

    record: Record
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)
    standing: Standing | None = None


def read_results(places: Sequence[Path], named: str = "") -> list[Stored]:
    """The records of results folders, submissions and archives whose file names hold ``named``, with their arrays.

    Raises
    ------
    InputError
        If one of them holds no records, a file is not whole, or a submission was changed since it was made.
    """
    return [stored for place in places for stored in _read_place(place, named)]


def _read_place(place: Path, named: str) -> list[Stored]:
    standing = standing_of(place)
    found: list[Stored] = []
    for path in files_of(place):
        if path.suffix == ".json" and named not in path.name:
            continue
        if path.suffix == ".json":
            found.append(Stored(read_record(path), read_arrays(path), standing))
        else:
            found += [Stored(record, arrays) for record, arrays in read_archive(path, named)]
    return found


def files_of(place: Path) -> list[Path]:
    """The archives and the record files of a results folder, archives first; of an archive itself."""
    if place.is_file():
        return [place]
    archives = archives_in(place)
    plain = any((place / "records").glob("*.json"))
    return [*archives, *(record_paths(place) if plain or not archives else ())]


def with_arrays(records: Iterable[Record], folder: Path) -> list[Stored]:
    """Records of a results folder with the arrays that lie beside them."""
    return [Stored(r, read_arrays(folder / "records" / f"{r.cell.stem}.json")) for r in records]
