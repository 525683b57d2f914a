"""Passages: the texts that one neuron is read on, from a file, from a task or from a truth model's own grammar.

Text is shown where it may be: what the grammar of a truth model or a task file writes is the project's own, everything
else is the user's file. nibench ships no text of others, so for a natural model there is none until one is given.
"""

import csv
import json
import shlex
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nibench.errors import InputError, unknown
from nibench.sources import GlassBox, WordLabels
from nibench.submissions import find_task
from nibench.task import UNLABELLED, PromptCorpus, Task, World
from nibench.treebank import ConlluFile

if TYPE_CHECKING:
    from nibench.record import Record

FORMATS = "Expected text with a passage on each line, .csv, .tsv or .jsonl with a column of text, or .conllu."
COLUMNS = ("text", "sentence")  # looked for where the user names none
LONGEST_FIELD = 1 << 24
OWN_TEXT = ("glass-box", "middle", "twin")  # tiers whose models bring the text they were made on
SHORT = 5  # words of a prompt, at least: what is drawn then fills the cap


@dataclass(frozen=True, slots=True)
class Label:
    """A word of a passage that stands for a class of a concept."""

    word: int
    concept: str
    name: str


@dataclass(frozen=True, slots=True)
class Passage:
    """Words that the model reads as one text, joined by single spaces, and what is known of them."""

    words: tuple[str, ...]
    labels: tuple[Label, ...] = ()


@dataclass(frozen=True)
class Passages:
    """Texts and where they are from.

    Attributes
    ----------
    source : str
        In words, as a page shows it.
    notes : tuple of str
        What was left out, counted.
    """

    items: tuple[Passage, ...]
    source: str
    notes: tuple[str, ...] = ()

    @property
    def n_words(self) -> int:
        return sum(len(passage.words) for passage in self.items)


def find_passages(
    folder: Path | None,
    *,
    task: str | None = None,
    data: Path | str | None = None,
    column: str | None = None,
    cap: int,
) -> Passages:
    """At most so many words of text: of a file, of a task (``data`` is then where its text is), or the model's own.

    Parameters
    ----------
    folder : Path or None
        The model's; a glass-box and its twin have a language of their own.
    column : str, optional
        Of a table, the one with the text; otherwise ``text``, ``sentence``, or the only one there is.

    Raises
    ------
    InputError
        If there is no text, or it cannot be read.
    """
    if column is not None and (task is not None or data is None):
        raise InputError(f"--column {column!r} names the text in a table; add --data FILE.csv or FILE.jsonl.")
    if task is not None:
        return _drawn(_of_task(find_task(task).load(), task, folder, data, cap), f"task {task}", cap)
    if data is not None:
        return _of_file(Path(data), column, cap)
    if folder is None or not any((folder / name).is_file() for name in ("truth.json", "twin.json")):
        raise InputError(
            f"No text to read: {folder.name if folder else 'this model'} ships none. Add --data FILE (a passage a "
            "line, .csv, .jsonl or .conllu), or --task T with the task's --data DIR."
        )
    from nibench.truth.files import glassbox_of, read_truth

    concepts = read_truth(glassbox_of(folder)).concepts
    known = [name for name in concepts if GlassBox(name).refuses(folder) is None]
    share = max(2, cap // (SHORT * len(known)))
    passages = [passage for name in known for passage in _of_prompts(name, folder, share)]
    return _drawn(passages, f"the grammar's own sentences ({', '.join(known)})", cap)


def ships_text(task: Task) -> bool:
    """Whether the task's text is the project's own, so that it may be shown; a treebank is the user's."""
    return not isinstance(task.source, WordLabels)


def inspect_command(record: "Record", neuron: str) -> str:
    """What to type to see a neuron of a cell on the cell's text; empty where there is no model or text to read.

    ``--data DIR`` stands for the user's own copy of a treebank, ``--data FILE`` for any text of theirs.
    """
    cell = record.cell
    if cell.model is None or cell.control:
        return ""
    parts = ["nibench", "inspect", neuron, "--model", cell.model]
    own = _ships_text(cell.task)
    if own is None:  # a task file of the user's own: its place is not in the cell
        return shlex.join(parts if record.tier in OWN_TEXT else [*parts, "--data", "FILE"])
    return shlex.join([*parts, "--task", cell.task, *([] if own else ["--data", "DIR"])])


@cache
def _ships_text(name: str) -> bool | None:
    try:
        return ships_text(find_task(name).load())
    except InputError:
        return None


# ---------------------------------------------------------------- labelled text


def _of_task(task: Task, name: str, folder: Path | None, data: Path | str | None, cap: int) -> list[Passage]:
    reason = task.source.refuses(folder)
    if reason is not None:
        raise InputError(f"Task {name!r} does not go with this model: {reason}.")
    corpus = task.load(data=data, folder=folder, cap=None if ships_text(task) else cap)
    if isinstance(corpus, World):
        raise InputError(f"Task {name!r} is sampled: it has no text. Choose another, or --data FILE.")
    concept = None if task.concept_free else task.concept
    if isinstance(corpus, PromptCorpus):
        found = []
        for prompt in corpus.prompts:
            words = tuple(prompt.text.split(" "))
            place = len(words) - 1 if prompt.word is None else prompt.word
            found.append(Passage(words, _labels(concept, corpus.classes, [(place, prompt.label)])))
        return found
    return [
        Passage(one.words, _labels(concept, corpus.classes, list(enumerate(one.labels))))
        for one in corpus.sentences
    ]


def _of_prompts(concept: str, folder: Path, share: int) -> list[Passage]:
    corpus = GlassBox(concept).load(seed=0, data=None, folder=folder, cap=share)
    found = [(tuple(prompt.text.split(" ")), prompt.label) for prompt in corpus.prompts]
    return [
        Passage(words, _labels(concept, corpus.classes, [(len(words) - 1, label)])) for words, label in found
    ]


def _labels(
    concept: str | None, classes: Sequence[str], labels: Sequence[tuple[int, int]]
) -> tuple[Label, ...]:
    if concept is None:
        return ()
    return tuple(Label(word, concept, classes[label]) for word, label in labels if label != UNLABELLED)


def _drawn(passages: Sequence[Passage], source: str, cap: int) -> Passages:
    """Distinct passages at random up to so many words; the same ones for the same input."""
    distinct = list(dict.fromkeys(passages))
    order = np.random.default_rng(0).permutation(len(distinct))
    ends = np.cumsum([len(distinct[i].words) for i in order])
    kept = order[: max(1, int(np.searchsorted(ends, cap, side="right")))]
    left = len(distinct) - len(kept)
    notes = (f"{len(kept):,} of {len(distinct):,}, drawn at random",) if left else ()
    return Passages(tuple(distinct[i] for i in sorted(kept.tolist())), source, notes)


# ---------------------------------------------------------------- a file


def _of_file(path: Path, column: str | None, cap: int) -> Passages:
    """The first words of a file."""
    if path.is_dir():
        raise InputError(
            f"{path} is a folder; --data takes a file of text, or with --task T the task's folder."
        )
    if not path.is_file():
        raise InputError(f"No file {str(path)!r}. {FORMATS}")
    if column is not None and path.suffix not in (".csv", ".tsv", ".jsonl"):
        raise InputError(f"{path.name} has no columns; leave --column {column} out. {FORMATS}")
    items: list[Passage] = []
    room = cap
    try:
        for words in _texts(path, column):
            if words:
                items.append(Passage(tuple(words[:room])))
                room -= min(room, len(words))
            if not room:
                break
    except UnicodeDecodeError:
        raise InputError(f"{path} is not text in UTF-8. {FORMATS}") from None
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from None
    if not items:
        raise InputError(f"{path} has no words. {FORMATS}")
    notes = () if room else (f"reading stopped after {cap:,} words",)
    return Passages(tuple(items), path.name, notes)


def _texts(path: Path, column: str | None) -> Iterator[Sequence[str]]:
    """The words of each passage; a file is read no further than it is asked for."""
    if path.suffix == ".conllu":
        treebank = ConlluFile(path)
        yield from ([token["form"] for token in treebank.tokens(i)] for i in range(len(treebank)))
        return
    with path.open(encoding="utf-8-sig", newline="") as lines:
        if path.suffix in (".csv", ".tsv"):
            yield from _table(path, _printable(path, lines), column)
        elif path.suffix == ".jsonl":
            yield from _objects(path, _printable(path, lines), column)
        else:
            yield from (line.split() for line in _printable(path, lines))


def _printable(path: Path, lines: Iterable[str]) -> Iterator[str]:
    for line in lines:
        if "\0" in line:
            raise InputError(f"{path} is a binary file. {FORMATS}")
        yield line


def _table(path: Path, lines: Iterator[str], column: str | None) -> Iterator[Sequence[str]]:
    csv.field_size_limit(LONGEST_FIELD)
    try:
        rows = csv.DictReader(lines, delimiter="\t" if path.suffix == ".tsv" else ",")
        place = _column(path, rows.fieldnames or [], column)
        for row in rows:
            yield (row[place] or "").split()
    except csv.Error as error:
        raise InputError(f"{path} is no table ({error}). {FORMATS}") from None


def _objects(path: Path, lines: Iterator[str], column: str | None) -> Iterator[Sequence[str]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            raise InputError(f"{path}, line {number} is no JSON; expected one object a line.") from None
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number} is {line.strip()[:20]!r}; expected an object.")
        texts = [key for key, value in row.items() if isinstance(value, str)]
        yield row[_column(path, texts, column)].split()


def _column(path: Path, there: Sequence[str], column: str | None) -> str:
    """The column that holds the text."""
    listed = f"It has {', '.join(there) or 'none'}; say which holds the text: --column NAME."
    if column is not None:
        if column not in there:
            raise unknown(f"column of {path.name}", column, there, listed)
        return column
    found = next((name for name in COLUMNS if name in there), there[0] if len(there) == 1 else None)
    if found is None:
        raise InputError(f"{path.name} has no column named text. {listed}")
    return found
