"""From words to sub-words: which tokens of which window belong to which item."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nibench.errors import InputError
from nibench.model import LanguageModel
from nibench.task import Prompt


@dataclass(frozen=True, eq=False)
class Window:
    """The tokens of one pass and, for each item in it, where its sub-words stand.

    ``rows`` (n,) are the items; ``starts`` and ``stops`` (n,) delimit their tokens, special tokens counted.
    """

    ids: tuple[int, ...]
    rows: np.ndarray
    starts: np.ndarray
    stops: np.ndarray


def align_words(
    model: LanguageModel, sentences: Sequence[Sequence[str]], wanted: Sequence[Sequence[tuple[int, int]]]
) -> tuple[list[Window], list[int], list[str]]:
    """Tokenise sentences as running text and find the sub-words of the words asked for.

    The words are joined by single spaces and the tokenizer's character offsets say which word a token
    belongs to; so a byte-level tokenizer sees its spaces, and a leading space belongs to the word after it.

    Parameters
    ----------
    wanted : for each sentence, (row, word number) of its items.

    Returns
    -------
    windows : the passes to make; a sentence longer than the model's window is split at word borders.
    dropped : rows of words that have no sub-word at all.
    notes : what was split, cut or dropped, counted.
    """
    prefix, suffix = model.frame
    room = model.window - len(prefix) - len(suffix)
    encoded = _encode(model, sentences)
    windows: list[Window] = []
    dropped: list[int] = []
    n_split = n_cut = 0
    for words, ids, offsets, items in zip(
        sentences, encoded["input_ids"], encoded["offset_mapping"], wanted, strict=True
    ):
        owner = _word_of_token(words, offsets)
        numbers = np.arange(len(words))
        first, last = np.searchsorted(owner, numbers, "left"), np.searchsorted(owner, numbers, "right")
        borders = list(_borders(first, last, len(ids), room))
        n_split += len(borders) > 1
        n_cut += int((last - first > room).sum())
        rows = np.array([row for row, _ in items], dtype=np.int64)
        starts, stops = first[[word for _, word in items]], last[[word for _, word in items]]
        empty = starts == stops
        dropped += rows[empty].tolist()
        for start, stop in borders:
            inside = ~empty & (starts >= start) & (starts < stop)
            if inside.any():
                shift = len(prefix) - start
                chosen = (*prefix, *ids[start:stop], *suffix)
                windows.append(
                    Window(
                        chosen, rows[inside], starts[inside] + shift, np.minimum(stops[inside], stop) + shift
                    )
                )
    notes = []
    if n_split:
        notes.append(
            f"{n_split} sentences longer than the model's {model.window} tokens were split at word borders"
        )
    if n_cut:
        notes.append(f"{n_cut} words longer than the model's {model.window} tokens were cut")
    if dropped:
        notes.append(f"{len(dropped)} words without any sub-word were dropped")
    return windows, dropped, notes


@dataclass(frozen=True, eq=False)
class Tokens:
    """The tokens of one text: the characters ``spans`` (T, 2) of each, and the ``words`` (T,) it ends in."""

    spans: np.ndarray
    words: np.ndarray


def align_tokens(
    model: LanguageModel, sentences: Sequence[Sequence[str]]
) -> tuple[list[Window], list[Tokens]]:
    """As `align_words`, but every token is an item, numbered through; special tokens are none.

    A sentence longer than the model's window is split at word borders; of a word longer than that, the rest is
    left out.
    """
    prefix, suffix = model.frame
    room = model.window - len(prefix) - len(suffix)
    encoded = _encode(model, sentences)
    windows: list[Window] = []
    tokens: list[Tokens] = []
    row = 0
    for words, ids, offsets in zip(sentences, encoded["input_ids"], encoded["offset_mapping"], strict=True):
        owner = _word_of_token(words, offsets)
        numbers = np.arange(len(words))
        first, last = np.searchsorted(owner, numbers, "left"), np.searchsorted(owner, numbers, "right")
        read = [np.arange(*border) for border in _borders(first, last, len(ids), room) if ids]
        for inside in read:
            starts = np.arange(len(inside)) + len(prefix)
            chosen = (*prefix, *ids[inside[0] : inside[-1] + 1], *suffix)
            windows.append(Window(chosen, row + np.arange(len(inside)), starts, starts + 1))
            row += len(inside)
        kept = np.concatenate(read) if read else np.zeros(0, dtype=int)
        tokens.append(Tokens(np.asarray(offsets, dtype=int).reshape(-1, 2)[kept], owner[kept]))
    return windows, tokens


def _encode(model: LanguageModel, sentences: Sequence[Sequence[str]]) -> Any:
    return model.tokenizer(
        [" ".join(words) for words in sentences],
        add_special_tokens=False,
        return_offsets_mapping=True,
        return_attention_mask=False,
        verbose=False,
    )


def _word_of_token(words: Sequence[str], offsets: Sequence[tuple[int, int]]) -> np.ndarray:
    """(T,) the word each token ends in; the space before a word counts as the word's."""
    lengths = np.array([len(word) + 1 for word in words])  # each with the space before it
    owner = np.repeat(np.arange(len(words)), lengths)[1:]  # the first word has none
    if not offsets:
        return np.zeros(0, dtype=int)
    spans = np.asarray(offsets)
    ends = np.clip(np.maximum(spans[:, 1] - 1, spans[:, 0]), 0, len(owner) - 1)
    return np.maximum.accumulate(owner[ends])


def _borders(first: np.ndarray, last: np.ndarray, n_tokens: int, room: int) -> Iterator[tuple[int, int]]:
    """Token ranges of at most ``room`` tokens that break at word borders only."""
    if n_tokens <= room:
        yield 0, n_tokens
        return
    start = stop = 0
    for begin, end in zip(first, last, strict=True):
        if end - start > room and begin > start:
            yield start, stop
            start = int(begin)
        stop = min(int(end), start + room)
    if stop > start:
        yield start, stop


def prompt_ids(model: LanguageModel, text: str) -> list[int]:
    """The token ids of a prompt as the model gets them, its special tokens included."""
    ids = model.tokenizer(text, return_attention_mask=False, verbose=False)["input_ids"]
    if not any(i not in model.special_ids for i in ids):
        raise InputError(f"The prompt {text!r} has no token of its own; expected some text.")
    return ids


def place_of(model: LanguageModel, text: str, word: int | None) -> tuple[list[int], int]:
    """The token ids of a whole text and the last token of its ``word``-th word (None: of the text), not special."""
    if word is None:
        ids = prompt_ids(model, text)
        return ids, max(i for i, token in enumerate(ids) if token not in model.special_ids)
    windows, dropped, _ = align_words(model, [text.split(" ")], [[(0, word)]])
    if dropped or not windows:
        raise InputError(f"Word {word} of {text!r} has no token of its own; expected one.")
    return list(windows[0].ids), int(windows[0].stops[0]) - 1


def align_prompts(model: LanguageModel, prompts: Sequence[Prompt]) -> tuple[list[Window], list[str]]:
    """One window per prompt, read at its last token that is not special."""
    windows, n_cut = [], 0
    for row, prompt in enumerate(prompts):
        ids, last = place_of(model, prompt.text, prompt.word)
        prefix = len(model.frame[0])
        if len(ids) > model.window:  # what stands before the answer matters most: cut on the left
            surplus = len(ids) - model.window
            ids, last, n_cut = ids[:prefix] + ids[prefix + surplus :], last - surplus, n_cut + 1
        windows.append(Window(tuple(ids), np.array([row]), np.array([last]), np.array([last + 1])))
    notes = (
        [f"{n_cut} prompts longer than the model's {model.window} tokens were cut on the left"]
        if n_cut
        else []
    )
    return windows, notes


def batches(windows: Sequence[Window], n_tokens: int = 2048) -> Iterator[list[Window]]:
    """Windows sorted by length, longest first, in batches of at most ``n_tokens`` padded tokens."""
    batch: list[Window] = []
    for window in sorted(windows, key=lambda window: -len(window.ids)):
        if batch and (len(batch) + 1) * len(batch[0].ids) > n_tokens:
            yield batch
            batch = []
        batch.append(window)
    if batch:
        yield batch
