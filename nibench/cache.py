"""A content-keyed cache of activation matrices on disk, opened memory-mapped.

An entry is a folder named by its key, `activations.npy` and `entry.json`, written under a temporary name
and renamed when whole. What does not check out is thrown away and computed again.
"""

import json
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

BLOCK = 1 << 24  # bytes read at a time for the checksum


def cache_folder() -> Path:
    """`NIBENCH_CACHE`, else the platform's user cache folder."""
    chosen = os.environ.get("NIBENCH_CACHE")
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_cache_path

    return user_cache_path("nibench", appauthor=False)


class ActivationCache:
    """Activation matrices by key; the oldest go when together they exceed ``max_bytes``."""

    def __init__(self, folder: Path | None = None, max_bytes: int = 5_000_000_000) -> None:
        self.folder = (folder or cache_folder()) / "activations"
        self.max_bytes = max_bytes

    def get(self, key: str) -> tuple[np.ndarray, dict[str, Any]] | None:
        """The matrix (read-only, memory-mapped) and what was noted with it; None if absent or damaged."""
        entry = self.folder / key
        if not entry.is_dir():
            return None
        try:
            about = json.loads((entry / "entry.json").read_text(encoding="utf-8"))
            array = np.load(entry / "activations.npy", mmap_mode="r")
            whole = array.dtype == np.float32 and array.shape == tuple(about["shape"])
            if whole and _checksum(entry / "activations.npy") == about["crc32"]:
                os.utime(entry)
                return array, about["about"]
        except (OSError, ValueError, KeyError, TypeError, EOFError):
            pass  # damaged: as good as absent
        shutil.rmtree(entry, ignore_errors=True)
        return None

    def compute(
        self, key: str, shape: tuple[int, int], fill: Callable[[np.ndarray], dict[str, Any]]
    ) -> tuple[np.ndarray, dict[str, Any], str | None]:
        """Let ``fill`` write a new matrix and keep it.

        Returns
        -------
        array, about : as `get`.
        problem : why it could not be kept (full or read-only disk), or None; the matrix is good either way.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            draft = Path(tempfile.mkdtemp(dir=self.folder, prefix="draft-"))
        except OSError as error:
            array = np.empty(shape, dtype=np.float32)
            return array, fill(array), _problem(self.folder, error)
        try:
            return self._compute(key, shape, fill, draft)
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    def _compute(
        self, key: str, shape: tuple[int, int], fill: Callable[[np.ndarray], dict[str, Any]], draft: Path
    ) -> tuple[np.ndarray, dict[str, Any], str | None]:
        try:
            array = _reserve(draft / "activations.npy", shape)
        except OSError as error:
            array = np.empty(shape, dtype=np.float32)
            return array, fill(array), _problem(self.folder, error)
        about = fill(array)
        array.flush()
        try:
            check = {"shape": list(shape), "crc32": _checksum(draft / "activations.npy"), "about": about}
            (draft / "entry.json").write_text(json.dumps(check), encoding="utf-8")
            draft.rename(self.folder / key)
        except OSError as error:
            if not (self.folder / key).is_dir():  # else another run was faster with the same content
                return array, about, _problem(self.folder, error)
        self._evict(keep=key)
        return np.load(self.folder / key / "activations.npy", mmap_mode="r"), about, None

    def _evict(self, keep: str) -> None:
        """Remove the entries used longest ago until the rest fits; open memory maps stay valid.

        Drafts that a killed run left behind a day ago go too.
        """
        sizes = {}
        for entry in self.folder.iterdir():
            try:
                if entry.name.startswith("draft-"):
                    if time.time() - entry.stat().st_mtime > 86_400:
                        shutil.rmtree(entry, ignore_errors=True)
                else:
                    sizes[entry] = (entry.stat().st_mtime, (entry / "activations.npy").stat().st_size)
            except OSError:
                continue  # another run removed it
        total = sum(size for _, size in sizes.values())
        for entry in sorted(sizes, key=lambda entry: sizes[entry]):
            if total <= self.max_bytes:
                return
            if entry.name != keep:
                shutil.rmtree(entry, ignore_errors=True)
                total -= sizes[entry][1]


def _reserve(file: Path, shape: tuple[int, int]) -> np.memmap:
    """A writable matrix on disk whose space is granted: a full disk says so here, not by a crash later."""
    array = np.lib.format.open_memmap(file, mode="w+", dtype=np.float32, shape=shape)
    if hasattr(os, "posix_fallocate"):
        with file.open("r+b") as stream:
            os.posix_fallocate(stream.fileno(), 0, file.stat().st_size)
    return array


def _checksum(file: Path) -> int:
    value = 0
    with file.open("rb") as stream:
        while block := stream.read(BLOCK):
            value = zlib.crc32(block, value)
    return value


def _problem(folder: Path, error: OSError) -> str:
    return f"activations were not cached: {folder}: {error.strerror or error}"
