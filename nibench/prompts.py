"""Encoded prompts: the token ids of a behaviour, where the answer is read and which tokens it is."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from nibench.errors import InputError
from nibench.model import LanguageModel
from nibench.task import Prompt
from nibench.words import place_of, prompt_ids


@dataclass(frozen=True, eq=False)
class EncodedPrompts:
    """M prompts of one behaviour, ready for the model.

    Attributes
    ----------
    ids, sources : tuples of token ids
        Each prompt and its counterfactual twin (None: it has none), of equal length.
    read : int (M,)
        The position whose logits hold the answer.
    correct : int (M,)
        The token that the margin adds.
    wrong : int (M, A)
        The tokens that it subtracts (by log-sum-exp): the twin's answer, or all others; -1 where unused.
    """

    ids: tuple[tuple[int, ...], ...]
    sources: tuple[tuple[int, ...] | None, ...]
    read: np.ndarray
    correct: np.ndarray
    wrong: np.ndarray


def by_length(sequences: Sequence[Sequence[int]]) -> Iterator[np.ndarray]:
    """The rows of each length in turn: no batch needs padding."""
    lengths = np.array([len(ids) for ids in sequences])
    for length in np.unique(lengths):
        yield np.flatnonzero(lengths == length)


def encode_prompts(model: LanguageModel, prompts: Sequence[Prompt]) -> EncodedPrompts:
    """Tokenise prompts, their twins and their answers.

    An answer is the one token that follows the prompt; it is looked up in its place, since alone it may be
    cut otherwise. A masked model reads at a mask after the prompt (or at the mask in the text).

    Raises
    ------
    InputError
        Naming the prompt, if an answer is not one token, a twin is not as long as its prompt, the prompt
        does not fit the model's window, or the model has no head.
    """
    if model.has_head is None:
        raise InputError(f"{model.name} has no language model head, so it has no behaviour to intervene on.")
    if not prompts:
        raise InputError("No prompt: a behaviour needs at least one.")
    rows = [_encode(model, prompt) for prompt in prompts]
    wrong = np.full((len(rows), max(len(row[4]) for row in rows)), -1)
    for line, row in zip(wrong, rows, strict=True):
        line[: len(row[4])] = row[4]
    return EncodedPrompts(
        ids=tuple(row[0] for row in rows),
        sources=tuple(row[1] for row in rows),
        read=np.array([row[2] for row in rows]),
        correct=np.array([row[3] for row in rows]),
        wrong=wrong,
    )


def _encode(
    model: LanguageModel, prompt: Prompt
) -> tuple[tuple[int, ...], tuple[int, ...] | None, int, int, list[int]]:
    ids, read = read_ids(model, prompt.text, prompt.word)
    if len(ids) > model.window:
        raise InputError(f"The prompt {prompt.text!r} has {len(ids)} tokens; the model takes {model.window}.")
    tokens = list(range(len(prompt.answers)))  # of a readout: the classes
    if model.has_head != "readout":
        tokens = [_answer_token(model, prompt.text, ids, read, answer) for answer in prompt.answers]
    if len(set(tokens)) != len(tokens) or len(tokens) < 2:
        raise InputError(
            f"The prompt {prompt.text!r} has answers {prompt.answers}; expected two or more tokens."
        )
    wrong = [token for number, token in enumerate(tokens) if number != prompt.answer]
    if prompt.source is None:
        return ids, None, read, tokens[prompt.answer], wrong
    source, source_read = read_ids(model, prompt.source, prompt.word)
    if len(source) != len(ids) or source_read != read:
        raise InputError(
            f"The twin {prompt.source!r} has {len(source)} tokens, its prompt {prompt.text!r} has {len(ids)}"
            "; expected the same number."
        )
    if prompt.source_answer is None or prompt.source_answer == prompt.answer:
        raise InputError(
            f"The twin {prompt.source!r} needs an answer of its own, not {prompt.source_answer}."
        )
    return ids, source, read, tokens[prompt.answer], [tokens[prompt.source_answer]]


def read_ids(model: LanguageModel, text: str, word: int | None = None) -> tuple[tuple[int, ...], int]:
    """The token ids of a prompt and the position at which the answer is read.

    A readout sees the whole text and is read at the last token of its ``word``-th word, or of the text.
    """
    if model.has_head == "readout":
        whole, place = place_of(model, text, word)
        return tuple(whole), place
    if model.has_head == "masked":
        mask = model.tokenizer.mask_token
        ids = prompt_ids(model, text if mask in text else f"{text} {mask}")
        places = [place for place, token in enumerate(ids) if token == model.tokenizer.mask_token_id]
        if len(places) != 1:
            raise InputError(f"The prompt {text!r} has {len(places)} masks; expected one {mask}.")
        return tuple(ids), places[0]
    ids = prompt_ids(model, text)
    ids = ids[: len(ids) - len(model.frame[1])]  # nothing follows the answer's place
    return tuple(ids), len(ids) - 1


def _answer_token(model: LanguageModel, text: str, ids: tuple[int, ...], read: int, answer: str) -> int:
    """The one token that ``answer`` is after the prompt."""
    if model.has_head == "masked":
        mask = model.tokenizer.mask_token
        whole = prompt_ids(model, text.replace(mask, answer) if mask in text else f"{text} {answer}")
        place = read
        fits = len(whole) == len(ids) and (*whole[:read], *whole[read + 1 :]) == (
            *ids[:read],
            *ids[read + 1 :],
        )
    else:
        whole = prompt_ids(model, f"{text} {answer}")
        whole = whole[: len(whole) - len(model.frame[1])]
        place = len(ids)
        fits = len(whole) == len(ids) + 1 and tuple(whole[:place]) == ids
    if not fits or whole[place] == model.tokenizer.unk_token_id:
        pieces = model.tokenizer.convert_ids_to_tokens(whole[place:])
        raise InputError(
            f"The answer {answer!r} after {text!r} is {' '.join(pieces) or 'nothing'}; expected one token."
        )
    return whole[place]
