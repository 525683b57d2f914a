"""Text: the words that a task's items stand for, and how the model's neurons answer to words of one's own."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from nibench.activations import read_windows
from nibench.errors import InputError
from nibench.model import LanguageModel, Layers, Passes
from nibench.task import Site
from nibench.words import Window


@dataclass(frozen=True, eq=False)
class Text:
    """The text of N items, and a reader of other text.

    Attributes
    ----------
    words : N tuples of str
        The words of each item's sentence or prompt.
    places : int (N,)
        Which of them the item is; -1 where it is the whole text.
    """

    words: tuple[tuple[str, ...], ...]
    places: np.ndarray
    _model: LanguageModel = field(repr=False)
    _site: Site
    _layers: Layers = None

    def phrases(self, longest: int) -> list[list[str]]:
        """For each item the phrases of up to so many words that it ends, or that its whole text holds."""
        found = []
        for words, place in zip(self.words, self.places.tolist(), strict=True):
            ends = range(len(words)) if place < 0 else (place,)
            spans = [(end - size + 1, end + 1) for end in ends for size in range(1, longest + 1)]
            found.append(sorted({" ".join(words[start:stop]) for start, stop in spans if start >= 0}))
        return found

    def read(self, texts: Sequence[str]) -> np.ndarray:
        """float32 (M, D): the neurons' mean activation over the tokens of each text; one pass each, counted.

        What does not fit into the model's window is cut.
        """
        prefix, suffix = self._model.frame
        room = self._model.window - len(prefix) - len(suffix)
        windows = []
        encoded = self._model.tokenizer(list(texts), add_special_tokens=False, verbose=False)["input_ids"]
        for row, (text, ids) in enumerate(zip(texts, encoded, strict=True)):
            if not ids:
                raise InputError(f"The text {text!r} has no token; expected some words.")
            stop = len(prefix) + min(len(ids), room)
            chosen = (*prefix, *ids[:room], *suffix)
            windows.append(Window(chosen, np.array([row]), np.array([len(prefix)]), np.array([stop])))
        array = np.zeros((len(windows), len(self._model.neurons(self._site, self._layers))), dtype=np.float32)
        read_windows(self._model, windows, self._site, self._layers, "mean", array, np.array(texts))
        return array

    @property
    def passes(self) -> Passes:
        """Passes made through the model."""
        return self._model.passes
