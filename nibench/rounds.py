"""A hidden round as it is published: tasks and models whose truth somebody keeps, and the hash of the secret.

``round.json`` lists every file by its digest. Nothing in the folder says which neurons are right: those were drawn
from a secret of which only the hash is told (a commitment), until it is revealed.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nibench.disk import digest
from nibench.errors import InputError
from nibench.published import PROMPTS, WORLD
from nibench.suites import SUITES, Suite

NAME = "round.json"
MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
TELLING_FILES = ("truth.json", "certificate.json", "effects.npz", "twin.json")  # they name neurons


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PublishedModel(_Strict):
    """One model of a round; ``attempt``: how many derived seeds before it did not certify."""

    attempt: int = Field(ge=0)
    concepts: tuple[str, ...] = Field(min_length=1)


class Manifest(_Strict):
    """The contents of ``round.json``."""

    schema_: int = Field(alias="schema", ge=1, le=1)
    commitment: str = Field(pattern="^[0-9a-f]{64}$")
    nibench: str
    worlds: tuple[str, ...]
    models: dict[str, PublishedModel]
    files: dict[str, str]


@dataclass(frozen=True)
class Round:
    """A published folder, checked."""

    folder: Path
    manifest: Manifest

    @property
    def id(self) -> str:
        """What names the round: the first eight digits of the commitment."""
        return round_id(self.manifest.commitment)

    @property
    def cells(self) -> tuple[tuple[str, str], ...]:
        """(task, model) of every cell, the model empty for a world."""
        return (
            *((name, "") for name in self.manifest.worlds),
            *((f"{name}.{c}", name) for name, one in self.manifest.models.items() for c in one.concepts),
        )

    def task_file(self, task: str, model: str) -> Path:
        """The file of a cell's task."""
        return self.folder / f"{task}{PROMPTS if model else WORLD}"

    @property
    def suite(self) -> Suite:
        """The round as ``nibench run --suite`` takes it: the budget of the truth suite, every bundled method."""
        tasks = (str(self.task_file(*cell)) for cell in self.cells)
        models = (str(self.folder / name) for name in self.manifest.models)
        return Suite(f"hidden round {self.id}", tuple(tasks), tuple(models), budget=SUITES["truth"].budget)


def round_id(commitment: str) -> str:
    return commitment[:8]


def is_round(folder: Path) -> bool:
    return (folder / NAME).is_file()


def read_round(folder: Path) -> Round:
    """The round in a published folder.

    Raises
    ------
    InputError
        If there is none, a file is missing or is not the one that was published, or the folder holds what tells the
        truth.
    """
    path = folder / NAME
    if not path.is_file():
        raise InputError(
            f"{folder} is no hidden round: it has no {NAME}. Make one: nibench build hidden --secret FILE --out DIR"
        )
    try:
        manifest = Manifest.model_validate(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, ValidationError) as error:
        reason = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise InputError(f"{path} is not whole ({reason}). Fetch the round again.") from None
    require_silent(folder)
    for name, expected in manifest.files.items():
        file = folder / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise InputError(f"{path} lists {name!r}, which is not in its folder. Fetch the round again.")
        if not file.is_file() or digest(file) != expected:
            raise InputError(f"{file} is missing or not the one that was published. Fetch the round again.")
    return Round(folder, manifest)


def require_silent(folder: Path) -> None:
    """Refuse a folder with files that name neurons.

    Raises
    ------
    InputError
        Naming the file.
    """
    for file in sorted(folder.rglob("*")):
        if file.name in TELLING_FILES:
            raise InputError(
                f"{file} tells the truth, in a folder that is to be published. Move it out; whoever fetched the folder "
                "knows it: make a new round with a new secret."
            )


def listed(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Name -> digest of files of a folder."""
    return {name: digest(folder / name) for name in sorted(names)}


def of_round(task: str) -> str | None:
    """The id of the round that a task's name belongs to, or None."""
    found = re.fullmatch(r"(?:world|model)\d+-([0-9a-f]{8})(?:\..*)?", task)
    return found[1] if found else None
