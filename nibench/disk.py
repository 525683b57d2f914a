"""Writing to disk: a file is whole or not there."""

import hashlib
import os
from pathlib import Path

from nibench.errors import InputError


def digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_atomic(path: Path, payload: bytes) -> None:
    """Write bytes under a temporary name, then rename: the file is whole or not there."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_bytes(payload)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True) if os.access(path.parent, os.W_OK) else None
        raise InputError(
            f"Cannot write {path}: {error.strerror or error}. Choose a folder with --out, or free some space."
        ) from None
