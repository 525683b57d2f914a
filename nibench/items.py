"""Items: the labelled words or prompts of a corpus, before any model has read them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nibench.errors import InputError, TooFewClasses
from nibench.task import SPLITS, UNLABELLED, PromptCorpus, TextCorpus


@dataclass(frozen=True, eq=False)
class Items:
    """The labelled items of a corpus, ordered by split, before any model has read them."""

    labels: np.ndarray
    splits: np.ndarray
    words: np.ndarray  # (N,) str
    sentences: np.ndarray
    places: np.ndarray  # (N, 2): sentence and word number; of a prompt, its number and 0

    def take(self, rows: np.ndarray) -> "Items":
        return Items(
            self.labels[rows], self.splits[rows], self.words[rows], self.sentences[rows], self.places[rows]
        )

    @cached_property
    def vocabulary(self) -> tuple[np.ndarray, np.ndarray]:
        return np.unique(self.words, return_inverse=True)


def text_items(corpus: TextCorpus) -> Items:
    """Every labelled word."""
    labels, splits, words, places = [], [], [], []
    for number, sentence in enumerate(corpus.sentences):
        if len(sentence.words) != len(sentence.labels):
            raise InputError(
                f"Sentence {number} ({' '.join(sentence.words[:6])} ...) has {len(sentence.words)} words but "
                f"{len(sentence.labels)} labels; expected one label per word ({UNLABELLED}: none)."
            )
        for position, label in enumerate(sentence.labels):
            if label != UNLABELLED:
                labels.append(label)
                splits.append(sentence.split)
                words.append(sentence.words[position])
                places.append((number, position))
    return _ordered(labels, splits, words, [place[0] for place in places], places)


def prompt_items(corpus: PromptCorpus) -> Items:
    """Every prompt; its word is its last."""
    groups = [prompt.group or f"#{number}" for number, prompt in enumerate(corpus.prompts)]
    return _ordered(
        [prompt.label for prompt in corpus.prompts],
        [prompt.split for prompt in corpus.prompts],
        [(prompt.text.split() or [""])[-1] for prompt in corpus.prompts],
        np.unique(np.array(groups, dtype=object).astype(str), return_inverse=True)[1],
        [(number, 0) for number in range(len(corpus.prompts))],
    )


def _ordered(
    labels: Sequence[int], splits: Sequence[str], words: Sequence[str], sentences: Any, places: Sequence[Any]
) -> Items:
    if not labels:
        raise InputError("No labelled item: expected at least one word with a label, or one prompt.")
    order = np.argsort([SPLITS.index(split) for split in splits], kind="stable")  # type: ignore[arg-type]
    return Items(
        np.array(labels), np.array(splits), np.array(words), np.asarray(sentences), np.array(places)
    ).take(order)


def drop_small_classes(
    labels: np.ndarray, splits: np.ndarray, classes: tuple[str, ...], min_class: int, needed: Sequence[str]
) -> tuple[np.ndarray, tuple[str, ...], list[str]]:
    """Rows of the classes with ``min_class`` items in every split, these classes, and who was dropped."""
    if labels.size and (labels.min() < 0 or labels.max() >= len(classes)):
        raise InputError(
            f"A label is {labels.max()}, but there are {len(classes)} classes: {', '.join(classes)}."
        )
    present = [split for split in SPLITS if split in needed or (splits == split).any()]
    for split in present:
        if not (splits == split).any():
            raise InputError(f"Split {split!r} has no labelled item; expected items in {', '.join(SPLITS)}.")
    counts = {split: np.bincount(labels[splits == split], minlength=len(classes)) for split in present}
    notes = []
    keep = np.ones(len(classes), dtype=bool)
    for label, name in enumerate(classes):
        fewest = min(present, key=lambda split: counts[split][label])
        n = int(counts[fewest][label])
        if n < min_class:
            keep[label] = False
            notes.append(f"class {name} dropped: {n} items in split {fewest}, needs {min_class}")
    if keep.sum() < 2:
        raise TooFewClasses(
            f"Fewer than two classes are left of {len(classes)}: {'; '.join(notes) or classes}. "
            "Expected two; give more text, or a task with a smaller min_class."
        )
    return np.flatnonzero(keep[labels]), tuple(c for c, ok in zip(classes, keep, strict=True) if ok), notes


def renumber(labels: np.ndarray, before: tuple[str, ...], after: tuple[str, ...]) -> np.ndarray:
    """Labels that index ``before`` made to index ``after``; -1 for a class that is gone."""
    return np.array([after.index(name) if name in after else UNLABELLED for name in before])[labels]


def by_sentence(items: Items) -> tuple[list[int], list[list[tuple[int, int]]]]:
    """The sentences that have items, and for each its (row, word number)."""
    wanted: dict[int, list[tuple[int, int]]] = {}
    for row, (sentence, word) in enumerate(items.places.tolist()):
        wanted.setdefault(sentence, []).append((row, word))
    return list(wanted), list(wanted.values())
