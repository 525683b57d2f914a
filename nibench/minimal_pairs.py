"""Minimal pairs from templates: short prompts that differ in one word, and the answer each asks for."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nibench.errors import InputError
from nibench.neurons import Neurons
from nibench.task import SPLITS, Prompt, PromptCorpus, Split, Truth

BEHAVIOUR = "answer"


@dataclass(frozen=True)
class MinimalPairs:
    """Templates with one open place, and for each class the words that fill it and its answer.

    The k-th words of the classes are counterfactuals of each other: the twin of a prompt has the next class's
    word in the same template. Where the model's tokenizer cuts the two differently long, the pair is left out.
    """

    templates: tuple[str, ...]
    words: tuple[tuple[str, tuple[str, ...]], ...]  # class -> words
    answers: tuple[tuple[str, str], ...]  # class -> answer

    def __post_init__(self) -> None:
        classes = [name for name, _ in self.words]
        lengths = {len(words) for _, words in self.words}
        if len(classes) < 2 or len(lengths) != 1 or not lengths.pop():
            raise InputError(
                "minimal_pairs needs two classes or more with equally many words; "
                f"got {', '.join(f'{name}: {len(words)}' for name, words in self.words) or 'none'}."
            )
        if [name for name, _ in self.answers] != classes:
            raise InputError(
                f"minimal_pairs needs one answer per class, {', '.join(classes)}, in this order."
            )
        if len(self.templates) < len(SPLITS):
            raise InputError(
                f"minimal_pairs got {len(self.templates)} templates; expected one per split or more."
            )
        for template, times in Counter(self.templates).items():
            if template.count("{}") != 1 or times > 1:
                raise InputError(f"The template {template!r} must have one {{}} and stand there once.")

    def load(
        self, *, seed: int, data: Path | str | None, folder: Path | None, cap: int | None
    ) -> PromptCorpus:
        """Every template with every pair; whole templates make up the splits, dealt out by ``seed``."""
        length = _tokens(folder)
        order = np.random.default_rng([seed, 2]).permutation(len(self.templates))
        prompts: list[Prompt] = []
        n_left_out = 0
        for number, split in enumerate(SPLITS):
            mine = []
            for place in order[number :: len(SPLITS)]:
                for pair in range(len(self.words[0][1])):
                    made = list(self._pair(self.templates[place], pair, split))
                    if len({length(prompt.text) for prompt in made}) == 1:
                        mine += made
                    else:
                        n_left_out += 1
            prompts += mine[: cap - cap % len(self.words)] if cap is not None else mine
        if not prompts:
            raise InputError("No pair has words of equally many tokens in this model's tokenizer.")
        notes = (
            (f"{n_left_out} pairs differ in their number of tokens here and were left out",)
            if n_left_out
            else ()
        )
        digest = hashlib.sha256("\0".join(repr(prompt) for prompt in prompts).encode()).hexdigest()
        classes = tuple(name for name, _ in self.words)
        return PromptCorpus(tuple(prompts), classes, digest, intervene_at="last", notes=notes)

    def _pair(self, template: str, pair: int, split: Split) -> Iterator[Prompt]:
        """One prompt per class."""
        n_classes = len(self.words)
        for label, (_, words) in enumerate(self.words):
            twin = (label + 1) % n_classes
            yield Prompt(
                text=template.format(words[pair]),
                label=label,
                split=split,
                behaviour=BEHAVIOUR,
                answers=tuple(answer for _, answer in self.answers),
                answer=label,
                source=template.format(self.words[twin][1][pair]),
                source_answer=twin,
                group=f"{template}|{pair}",
            )

    def fingerprint(self, data: Path | str | None, folder: Path | None) -> str:
        tokenizer = _tokenizer_file(folder)
        content = tokenizer.read_bytes() if tokenizer is not None else b""
        return hashlib.sha256(repr(self).encode() + content).hexdigest()

    def refuses(self, folder: Path | None) -> str | None:
        return None if folder is not None else "it reads prompts: it needs a model"

    def truth(self, neurons: Neurons, folder: Path | None) -> Truth | None:
        return None


def _tokenizer_file(folder: Path | None) -> Path | None:
    path = None if folder is None else folder / "tokenizer.json"
    return path if path is not None and path.is_file() else None


def _tokens(folder: Path | None) -> Callable[[str], int]:
    """How many tokens a text has in the model's tokenizer; without one all texts count alike."""
    path = _tokenizer_file(folder)
    if path is None:
        return lambda text: 1
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))
    return lambda text: len(tokenizer.encode(text).ids)
