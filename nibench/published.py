"""Tasks that are data, not code: a world's activations in a file, or a model's prompts, without their truth.

What whoever knows the answer hands out, so that others can rank. ``world.npz`` holds arrays and nothing else;
``prompts.jsonl`` a first line that names concept, classes and the model by its digest, then one prompt a line.
"""

import io
import json
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from nibench.control import random_label_per_word_type
from nibench.disk import digest, write_atomic
from nibench.errors import InputError
from nibench.neurons import Neurons
from nibench.task import SPLITS, Prompt, PromptCorpus, Task, Truth, World

ENDINGS = WORLD, PROMPTS = ".npz", ".jsonl"
ARRAYS = ("activations", "labels", "word_types", "sentences", "splits", "classes")
PROMPT = tuple(one.name for one in fields(Prompt) if one.name != "word")
HEADER = ("concept", "classes", "model", "model_sha256")


def read_task(path: Path) -> Task:
    """The task that a data file holds, ``.npz`` or ``.jsonl``.

    Raises
    ------
    InputError
        If the file is not whole or not of its form.
    """
    if path.suffix == WORLD:
        concept, classes = path.stem, tuple(map(str, _arrays(path)["classes"]))
        source: PublishedWorld | PublishedPrompts = PublishedWorld(path)
    else:
        header = _header(path)
        concept, classes, source = header["concept"], tuple(header["classes"]), PublishedPrompts(path)
    return Task(concept, classes, source, random_label_per_word_type(), min_class=1)


@dataclass(frozen=True)
class PublishedWorld:
    """Activations from a file; what is known of its neurons is not in it."""

    path: Path

    def load(self, *, seed: int, data: Path | str | None, folder: Path | None, cap: int | None) -> World:
        arrays: dict[str, Any] = _arrays(self.path)
        classes = tuple(map(str, arrays.pop("classes")))
        return World(**arrays, classes=classes, truth=None, digest=digest(self.path))

    def fingerprint(self, data: Path | str | None, folder: Path | None) -> str:
        return digest(self.path)

    def refuses(self, folder: Path | None) -> str | None:
        return None if folder is None else "it is sampled: it takes no model"

    def truth(self, neurons: Neurons, folder: Path | None) -> Truth | None:
        return None


@dataclass(frozen=True)
class PublishedPrompts:
    """Prompts of one model from a file, read at their last word; what is known of the model is not in it."""

    path: Path
    kept: ClassVar[bool] = True  # somebody has the truth: nothing is measured in its place

    def load(
        self, *, seed: int, data: Path | str | None, folder: Path | None, cap: int | None
    ) -> PromptCorpus:
        prompts = _prompts(self.path)
        if cap is not None:
            kinds = {prompt.behaviour for prompt in prompts}
            share, seen = max(2, cap // len(kinds)), dict.fromkeys(((k, s) for k in kinds for s in SPLITS), 0)
            kept = []
            for prompt in prompts:
                seen[prompt.behaviour, prompt.split] += 1
                if prompt.split == "eval" or seen[prompt.behaviour, prompt.split] <= share:
                    kept.append(prompt)
            prompts = kept
        return PromptCorpus(tuple(prompts), tuple(_header(self.path)["classes"]), digest(self.path))

    def fingerprint(self, data: Path | str | None, folder: Path | None) -> str:
        return digest(self.path)

    def refuses(self, folder: Path | None) -> str | None:
        header = _header(self.path)
        named = f"these prompts go with the model {header['model']}"
        if folder is None:
            return f"{named}: --model {self.path.parent / header['model']}"
        weights = folder / "model.safetensors"
        own = weights.is_file() and digest(weights) == header["model_sha256"]
        return None if own else f"{named} and no other"

    def truth(self, neurons: Neurons, folder: Path | None) -> Truth | None:
        return None


# ---------------------------------------------------------------- files


def world_bytes(world: World) -> bytes:
    """A world as a file, without what is known of its neurons; the same bytes for the same arrays."""
    arrays = {name: getattr(world, name) for name in ARRAYS if name != "classes"}
    arrays |= {"classes": np.array(world.classes), "splits": world.splits.astype("U5")}
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def write_prompts(path: Path, corpus: PromptCorpus, concept: str, folder: Path) -> None:
    """The prompts of one concept of the model in ``folder``."""
    header = (concept, corpus.classes, folder.name, digest(folder / "model.safetensors"))
    rows = [dict(zip(HEADER, header, strict=True))]
    rows += [{name: getattr(prompt, name) for name in PROMPT} for prompt in corpus.prompts]
    write_atomic(path, "".join(json.dumps(row) + "\n" for row in rows).encode())


def _arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (
        Exception
    ) as error:  # a damaged archive fails in zipfile, zlib, struct or numpy, whichever comes first
        raise InputError(
            f"{path} cannot be read as a world ({_first_line(error)}). Fetch it again."
        ) from None
    if set(arrays) != set(ARRAYS):
        raise InputError(f"{path} holds {', '.join(sorted(arrays))}; a world has {', '.join(ARRAYS)}.")
    n_items = {len(arrays[name]) for name in ARRAYS if name != "classes"}
    if len(n_items) > 1 or arrays["activations"].ndim != 2:
        raise InputError(f"{path}: its arrays do not go together; expected one row per item. Fetch it again.")
    return arrays


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({_first_line(error)}). Fetch it again.") from None


def _header(path: Path) -> dict[str, Any]:
    first = next(iter(_rows(path)), None)
    if not isinstance(first, dict) or set(first) != set(HEADER):
        raise InputError(
            f"{path}, line 1: expected a file of prompts, which begins with {', '.join(HEADER)}."
        )
    return first


def _prompts(path: Path) -> list[Prompt]:
    found = []
    for number, row in enumerate(_rows(path)[1:], 2):
        if not isinstance(row, dict) or set(row) != set(PROMPT):
            raise InputError(
                f"{path}, line {number} is no prompt; expected {', '.join(PROMPT)}. Fetch it again."
            )
        given: dict[str, Any] = row | {"answers": tuple(row["answers"])}
        found.append(Prompt(**given))
    return found


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
