"""A submission: one folder with a card, the source or the rankings, records and digests; read as a stranger's.

Nothing is opened before its kind, its size and, of an archive, what it expands to are known. The manifest,
``submission.json``, holds the digest of every other file; ``standing.json`` is written by ``nibench submit
--validate`` alone, and counts only while it belongs to this very manifest.
"""

import json
import math
import os
import re
import stat
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.lib import format as npy
from pydantic import ValidationError

from nibench.disk import digest
from nibench.errors import InputError
from nibench.record import Card, Environment, Frozen, Record, read_arrays, read_record

MANIFEST, STANDING = "submission.json", "standing.json"
RANKINGS = ("rankings.csv", "rankings.parquet")
COMMAND = re.compile(r"nibench (run|submit) [\w@./:~+=, -]+")  # readers copy it into their shells
Standing = Literal["verified", "rankings only", "self-reported"]
CHECKED: tuple[Standing, ...] = ("verified", "rankings only")

MiB = 2**20
LARGEST_FILE, LARGEST_FOLDER, MOST_FILES = 16 * MiB, 128 * MiB, 10_000
LARGEST_SOURCE = MiB // 4
LARGEST_ARRAYS, LARGEST_EXPANDED, MOST_ARRAYS = 64 * MiB, 1024 * MiB, 500


class Submission(Frozen):
    """The manifest: what is handed in, and the digests of all other files of the folder."""

    schema_version: Literal[1] = 1
    method: str  # the name on the board, and the folder's
    file: str  # the source, or rankings.csv or rankings.parquet
    suite: str
    models: tuple[str, ...] = ()  # where the suite names none
    seeds: int = 1
    cap: int | None = None  # training words that were read at most, where the suite reads text
    card: Card
    digests: dict[str, str]  # file -> sha256
    versions: dict[str, str]
    environment: Environment

    @property
    def has_source(self) -> bool:
        return self.file not in RANKINGS


def read_submission(folder: Path) -> Submission:
    """The manifest of a folder that holds exactly what it lists, each file of its digest.

    Raises
    ------
    InputError
        For what is no submission: links, folders of their own, paths out of it, files that are too large, missing,
        extra or changed.
    """
    sizes = _files(folder)
    if MANIFEST not in sizes:
        raise InputError(f"{folder} has no {MANIFEST}; make a submission: nibench submit FILE")
    try:
        found = Submission.model_validate(json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{folder / MANIFEST}: field {where}: {first['msg']}.") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{folder / MANIFEST} is no whole JSON file ({error}).") from None
    for name in (found.file, *found.digests):
        parts = Path(name).parts
        if name != "/".join(parts) or ".." in parts or Path(name).is_absolute():
            raise InputError(f"{folder / MANIFEST} names {name!r}, a path outside its folder.")
    if found.method != folder.resolve().name:
        raise InputError(f"{folder} holds the submission {found.method!r}; name the folder like it.")
    there = set(sizes) - {MANIFEST, STANDING}
    if missing := sorted({found.file, *found.digests} - there):
        raise InputError(f"{folder} lacks {_some(missing)}, which its {MANIFEST} lists.")
    if extra := sorted(there - set(found.digests)):
        raise InputError(f"{folder} holds {_some(extra)}, which its {MANIFEST} does not list.")
    for name, expected in found.digests.items():
        if digest(folder / name) != expected:
            raise InputError(
                f"{folder / name} is not the file that {MANIFEST} was made with. Make it anew: nibench submit FILE"
            )
    if found.has_source and found.file != f"{found.method.partition('@')[0]}.py":
        raise InputError(f"{folder / MANIFEST}: the source of {found.method!r} is no file {found.file!r}.")
    if found.has_source and sizes[found.file] > LARGEST_SOURCE:
        raise InputError(
            f"{folder / found.file} has {sizes[found.file]:,} bytes; at most {LARGEST_SOURCE:,}."
        )
    return found


def _files(folder: Path) -> dict[str, int]:
    """Path inside the folder -> bytes; refuses all that is no plain file of a submission's layout."""
    if folder.is_symlink() or not folder.is_dir():
        raise InputError(f"There is no folder {folder}. Make a submission: nibench submit FILE")
    sizes: dict[str, int] = {}
    for place, folders, names in os.walk(folder):
        inside = Path(place).relative_to(folder)
        for name in (*folders, *names):
            path = Path(place) / name
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode) and (inside / name) == Path("records"):
                continue
            if not stat.S_ISREG(mode):
                kind = (
                    "a link" if stat.S_ISLNK(mode) else "a folder" if stat.S_ISDIR(mode) else "no plain file"
                )
                raise InputError(f"{path} is {kind}; a submission holds plain files and the folder records.")
            sizes[(inside / name).as_posix()] = path.lstat().st_size
            if sizes[(inside / name).as_posix()] > LARGEST_FILE:
                raise InputError(f"{path} is larger than {LARGEST_FILE // MiB} MiB.")
        if len(sizes) > MOST_FILES or sum(sizes.values()) > LARGEST_FOLDER:
            raise InputError(
                f"{folder} holds more than {MOST_FILES:,} files or {LARGEST_FOLDER // MiB} MiB; that is no submission."
            )
    return sizes


def read_cells(folder: Path, submission: Submission) -> "dict[str, tuple[Record, dict[str, np.ndarray]]]":
    """Stem -> record and arrays, each archive measured before it is opened.

    Raises
    ------
    InputError
        For what no run writes: a record that is not whole, an archive that expands too far, scores that are not
        one number per neuron.
    """
    found: dict[str, tuple[Record, dict[str, np.ndarray]]] = {}
    expanded = 0
    names = {Path(name) for name in submission.digests if name != submission.file}
    for path in sorted(folder / name for name in names if name.suffix == ".json"):
        expanded += check_archive(path.with_suffix(".npz"))
        if expanded > LARGEST_EXPANDED:
            raise InputError(f"The archives of {folder} expand to more than {LARGEST_EXPANDED // MiB} MiB.")
        found[path.stem] = read_cell(path)
    if odd := sorted(str(n) for n in names if n.parent != Path("records") or n.stem not in found):
        raise InputError(f"{folder} holds {_some(odd)}; expected records/NAME.json, each with its NAME.npz.")
    return found


def read_cell(path: Path) -> tuple[Record, dict[str, np.ndarray]]:
    """One record and its arrays, already known to be of a size one can read."""
    try:
        record, arrays = read_record(path), read_arrays(path)
    except RecursionError:
        raise InputError(f"{path} is nested too deeply to be a record.") from None
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise InputError(str(error) if isinstance(error, InputError) else f"{path}: {error}") from None
    if record.cell.stem != path.stem:
        raise InputError(f"{path} holds the cell {record.cell.stem}; a record's name is that of its cell.")
    if not COMMAND.fullmatch(record.command):
        raise InputError(f"{path}: its command is no plain nibench command: {record.command[:80]!r}.")
    if record.status != "ok":
        if record.scores or arrays:
            raise InputError(f"{path} is {record.status} and holds scores all the same.")
        return record, arrays
    scores = arrays.get("scores", np.zeros(0))
    if scores.shape != (record.n_neurons,):
        raise InputError(
            f"{path} holds {scores.size} scores for {record.n_neurons} neurons; score each once."
        )
    if scores.dtype != np.float64 or np.isnan(scores).any() or (scores == np.inf).any():
        raise InputError(f"{path} holds scores that are NaN, +inf or no float64; -inf says 'cannot tell'.")
    return record, arrays


def check_archive(path: Path) -> int:
    """What an .npz expands to, in bytes, from its directory and the heads of its arrays.

    Raises
    ------
    InputError
        If that is too much, or the heads promise another size than the directory: nothing was expanded.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            total = sum(member.file_size for member in members)
            if total > LARGEST_ARRAYS or len(members) > MOST_ARRAYS:
                raise InputError(
                    f"{path} expands to {total / MiB:,.0f} MiB in {len(members)} arrays; at most "
                    f"{LARGEST_ARRAYS // MiB} MiB in {MOST_ARRAYS}."
                )
            for member in members:
                with archive.open(member) as stream:
                    version = npy.read_magic(stream)
                    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
                    shape, _, dtype = read(stream)
                    promised = math.prod(shape) * dtype.itemsize
                    if dtype.hasobject or promised != member.file_size - stream.tell():
                        raise InputError(f"{path}: {member.filename} is no plain array of its size.")
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"There is no {path}; a record has its arrays beside it.") from None
    except (zipfile.BadZipFile, ValueError, OSError, RuntimeError, EOFError) as error:
        raise InputError(f"{path} is no whole .npz archive ({error}).") from None
    return total


def standing_of(folder: Path) -> Standing | None:
    """How far the records of a folder were checked; None for a folder of results that is no submission.

    A ``standing.json`` that belongs to another manifest, or none, means ``self-reported``.

    Raises
    ------
    InputError
        If the folder is a submission that was changed since it was made.
    """
    if not (folder / MANIFEST).exists():
        return None
    read_submission(folder)
    try:
        found: Any = json.loads((folder / STANDING).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return "self-reported"
    if not isinstance(found, Mapping) or found.get("submission") != digest(folder / MANIFEST):
        return "self-reported"
    for standing in CHECKED:
        if found.get("standing") == standing:
            return standing
    return "self-reported"


def _some(names: "list[str]") -> str:
    return names[0] + (f" and {len(names) - 1} more files" if len(names) > 1 else "")
