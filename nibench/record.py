"""Record: the JSON contract of one cell (method x task x model x seed), and its file.

A cell is two files with one stem: ``.json`` (everything a reader wants) and ``.npz`` (the ranking's
scores and the per-cluster statistics behind every interval). Both are written under a temporary name
and renamed, arrays first; the JSON names the digest of the arrays, so a half-written pair is never
taken for a result. Everything but the ``cost`` and ``environment`` blocks is the same byte for byte
for the same seed, versions and device.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from nibench.disk import digest, write_atomic
from nibench.errors import InputError

SCHEMA_VERSION = 1


class Frozen(BaseModel):
    """A read-only block of a record; unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Cell(Frozen):
    """What was asked: the key of a record."""

    method: str
    preset: str | None = None
    parameters: dict[str, Any] = {}
    task: str
    model: str | None = None
    site: str | None = None
    layers: str | None = None
    aggregation: str = "last"
    cap: int | None = None
    control: str | None = None  # where the chain is broken on purpose: nothing is to be found then
    seed: int = 0
    others: tuple[str, ...] = ()  # the models it is compared with, for methods that take several
    round: str | None = None  # the hidden round against whose kept truth it was scored

    @property
    def label(self) -> str:
        """The method as people write it: ``lca`` or ``lca@dalvi2019``."""
        return f"{self.method}@{self.preset}" if self.preset else self.method

    @property
    def stem(self) -> str:
        """The record's file name without its ending: readable, and unique by the digest of the key."""
        model = Path(self.model).name if self.model else "no-model"
        control = f"--{self.control}" if self.control else ""
        readable = f"{self.label}--{self.task}--{model}{control}--s{self.seed}"
        safe = "".join(c if c.isalnum() or c in "-_.@" else "-" for c in readable)
        key = self.model_dump(
            exclude={name for name in ("others", "control", "round") if not getattr(self, name)}
        )
        return f"{safe}-{digest_of(key)[:8]}"


class Card(Frozen):
    """What a method says of itself, as shown on the board."""

    family: str
    claims: str
    direction: str
    needs: list[str]
    shares_estimand: list[str] = []
    scope: str = ""  # this and the next six: the criteria of ``Method.criteria``
    input: str = ""
    output: str = ""
    scalability: str = ""
    human_in_the_loop: bool = False
    supervision: bool = False
    causation: bool = False
    complexity: str = ""
    limits: str = ""
    paper: str = ""
    summary: str = ""


class ScoreRecord(Frozen):
    """One metric's value (see ``nibench.metrics.Score``)."""

    id: str
    value: float
    unit: str
    direction: Literal[-1, 0, 1]
    se: float | None = None
    ci95: tuple[float, float] | None = None
    n_items: int | None = None
    n_clusters: int | None = None
    chance: float | None = None
    ceiling: float | None = None
    normalised: float | None = None
    k: tuple[int, ...] = ()
    curve: tuple[float, ...] = ()
    tie_fraction: float | None = None
    flags: tuple[str, ...] = ()
    details: dict[str, Any] = {}  # plain numbers behind the value: random curve, per behaviour, per class


class Cost(Frozen):
    """What the ranking took; extraction is shared by all methods and not counted."""

    seconds: float
    forward: float  # item-forward equivalents
    backward: float
    peak_memory_mb: float


class Environment(Frozen):
    """Where and when the record was made."""

    date: str
    platform: str
    processor: str
    device: str
    threads: int
    versions: dict[str, str]


class Record(Frozen):
    """One cell of the leaderboard, with its provenance."""

    schema_version: Literal[1] = SCHEMA_VERSION
    cell: Cell
    status: Literal["ok", "failed", "not_applicable"]
    reason: str = ""
    card: Card
    concept: str
    classes: list[str] = []
    digests: dict[str, str]  # method, task, data, model, others: what the numbers rest on
    versions: dict[str, str]
    tier: str = ""  # world, glass-box, middle, twin ...; empty where nothing is known of the neurons
    lineage: str = ""  # what was planted once: a glass-box, its twin and its middle share it
    n_neurons: int = 0
    top: list[str] = []  # names of the top neurons, best first
    scores: list[ScoreRecord] = []
    flags: list[str] = []
    notes: list[str] = []
    command: str = ""
    arrays: str = ""  # sha256 of the .npz beside this file
    cost: Cost | None = None
    environment: Environment

    def score(self, metric: str) -> ScoreRecord | None:
        """The score with this id, or None where it does not apply."""
        return next((score for score in self.scores if score.id == metric), None)

    @property
    def anatomy(self) -> dict[str, dict[str, float]]:
        """k -> role -> expected number among the top k, where the task knows roles: the first n and ten."""
        score = self.score("gt.anatomy")
        return {} if score is None else score.details["anatomy"]

    @property
    def fingerprint(self) -> str:
        """What a cell's numbers depend on: equal fingerprints need no second computation."""
        return fingerprint(self.cell, self.digests, self.versions)


def digest_of(value: Any) -> str:
    """sha256 of a JSON value in canonical form."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def fingerprint(cell: Cell, digests: Mapping[str, str], versions: Mapping[str, str]) -> str:
    """Digest of everything that decides a cell's numbers."""
    return digest_of([SCHEMA_VERSION, cell.model_dump(), dict(digests), dict(versions)])


def write_record(record: Record, arrays: Mapping[str, np.ndarray], folder: Path) -> Path:
    """Write a record and its arrays into ``folder``; returns the path of the JSON.

    Raises
    ------
    InputError
        If the folder cannot be written (read-only, full disk).
    """
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **{name: arrays[name] for name in sorted(arrays)})
    payload = buffer.getvalue()
    record = record.model_copy(update={"arrays": hashlib.sha256(payload).hexdigest()})
    path = folder / f"{record.cell.stem}.json"
    write_atomic(path.with_suffix(".npz"), payload)
    write_atomic(path, (record.model_dump_json(indent=1) + "\n").encode())
    return path


def read_record(path: Path) -> Record:
    """Read one record and check it against the schema and against its arrays.

    Raises
    ------
    InputError
        Naming the file and what is wrong with it.
    """
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}). Delete it and run again.") from None
    record = parse_record(text, path)
    arrays = path.with_suffix(".npz")
    if not arrays.exists() or digest(arrays) != record.arrays:
        raise InputError(f"{arrays} is missing or does not belong to {path.name}. Delete both and run again.")
    return record


def parse_record(text: bytes, path: Path) -> Record:
    """The record in the text of a file, checked against the schema.

    Raises
    ------
    InputError
        Naming the file and what is wrong with it.
    """
    try:
        raw = json.loads(text)
    except ValueError as error:
        raise InputError(f"{path} is not a whole JSON file ({error}). Delete it and run again.") from None
    version = raw.get("schema_version") if isinstance(raw, dict) else None
    if version != SCHEMA_VERSION:
        raise InputError(f"{path} has record schema {version}; this nibench reads schema {SCHEMA_VERSION}.")
    try:
        return Record.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise InputError(f"{path}: field {where}: {first['msg']}. Delete the file and run again.") from None


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays beside a record: ``scores`` (D,) and per-cluster statistics ``{metric}/{name}``."""
    return parse_arrays(path.with_suffix(".npz").read_bytes())


def parse_arrays(payload: bytes) -> dict[str, np.ndarray]:
    """The arrays in the bytes of an .npz file."""
    with np.load(io.BytesIO(payload)) as arrays:
        return {name: arrays[name] for name in arrays.files}


def record_path(folder: Path, cell: Cell) -> Path:
    """Where the record of a cell lies in a results folder."""
    return folder / "records" / f"{cell.stem}.json"


def record_paths(folder: Path) -> list[Path]:
    """The record files of a results folder, sorted.

    Raises
    ------
    InputError
        If there are none.
    """
    paths = sorted((folder / "records").glob("*.json"))
    if not paths:
        raise InputError(f"No records in {folder}. Make some: nibench run --out {folder}")
    return paths
