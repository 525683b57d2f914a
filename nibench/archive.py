"""Archive: the records of a run in one file, ``.tar.xz``, as they are kept with the project.

In a results folder a record without its arrays is half-written. In an archive it is slim: arrays that hold
nothing but the ranking and the known truth, which are large and on which no interval rests, may be left out.
"""

import hashlib
import io
import lzma
import tarfile
from pathlib import Path, PurePosixPath

import numpy as np

from nibench.disk import write_atomic
from nibench.errors import InputError
from nibench.record import Record, parse_arrays, parse_record, read_arrays, record_paths

SUFFIX = ".tar.xz"
LIMIT = 2 << 30  # bytes unpacked: more is no run of this suite


def archives_in(folder: Path) -> list[Path]:
    """The archives among the records of a results folder, by name."""
    return sorted((folder / "records").glob(f"*{SUFFIX}"))


def pack(folder: Path, archive: Path) -> Path:
    """Write the records of a results folder into one file; the same records give the same bytes.

    Left out are arrays without per-sentence sums: of a run that measures against the known truth only they
    are nineteen parts in twenty of the size.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:xz", format=tarfile.USTAR_FORMAT) as tar:
        for path in record_paths(folder):
            files = [path]
            if any(_is_sum(name) for name in read_arrays(path)):
                files.append(path.with_suffix(".npz"))
            for file in files:
                payload = file.read_bytes()
                member = tarfile.TarInfo(f"records/{file.name}")
                member.size = len(payload)
                tar.addfile(member, io.BytesIO(payload))
    write_atomic(archive, buffer.getvalue())
    return archive


def _is_sum(name: str) -> bool:
    return "/" in name and not name.startswith(("truth/", "evidence/"))


def read_archive(archive: Path, named: str = "") -> list[tuple[Record, dict[str, np.ndarray]]]:
    """The records of an archive whose names hold ``named``, by name, with their arrays; a slim one has none.

    Raises
    ------
    InputError
        If the file is not such an archive, or a member is not a whole record.
    """
    try:
        with lzma.open(archive) as packed:
            payload = packed.read(LIMIT + 1)  # all of it: a cut file is told by its end only
        if len(payload) > LIMIT:
            raise InputError(f"{archive} unpacks to more than {LIMIT >> 30} GB; expected records only.")
        with tarfile.open(fileobj=io.BytesIO(payload)) as tar:
            files = _members(tar, archive)
    except (tarfile.TarError, lzma.LZMAError, OSError, EOFError) as error:
        raise InputError(f"{archive} is not a whole archive of records ({error}).") from None
    found = []
    records = sorted(name for name in files if name.endswith(".json"))
    for name in (one for one in records if named in one):
        record = parse_record(files[name], archive / name)
        beside = files.get(name.removesuffix(".json") + ".npz")
        if beside is not None and hashlib.sha256(beside).hexdigest() != record.arrays:
            raise InputError(f"{archive}: the arrays of {name} do not belong to it. Make the archive again.")
        found.append((record, parse_arrays(beside) if beside is not None else {}))
    if not records:
        raise InputError(f"No records in {archive}.")
    return found


def _members(tar: tarfile.TarFile, archive: Path) -> dict[str, bytes]:
    """Name -> bytes of the plain files under ``records/``."""
    files: dict[str, bytes] = {}
    for member in tar:
        at = PurePosixPath(member.name)
        if not member.isfile() or at.parts[:-1] != ("records",) or at.suffix not in (".json", ".npz"):
            raise InputError(
                f"{archive} holds {member.name!r}; expected records/*.json and records/*.npz only."
            )
        opened = tar.extractfile(member)
        assert opened is not None  # a plain file
        files[at.name] = opened.read()
    return files
