"""A frozen linear readout of the last layer: a behaviour for models that have no head for the task.

What reaches the last layer is encoded there, not used by the model; so what interventions do to such a
behaviour is called *propagates*, never *uses*.
"""

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from nibench.errors import InputError
from nibench.model import LanguageModel
from nibench.neurons import Neurons
from nibench.prompts import by_length, read_ids
from nibench.task import SPLITS, UNLABELLED, Prompt, PromptCorpus, Task, TextCorpus, Truth

BEHAVIOUR = "readout"
SHORT, MAX_WORDS = 10, 16  # words of a sentence: longer ones cost more than they tell, short ones go first
PER_SPLIT = 192  # prompts
MIN_CLASS = 10  # prompts of a class in every split
NEVER = -1e4  # the logit of a class without prompts
PENALTY = 1.0  # of the logistic regression, inverse strength, on standardised states


def readout_task(task: Task) -> Task:
    """The same task as prompts that a readout answers: labelled words of short sentences, or its own prompts."""
    return replace(task, source=ReadoutPrompts(task), min_class=min(task.min_class, MIN_CLASS))


@dataclass(frozen=True)
class ReadoutPrompts:
    """A task's items as prompts whose answers are its classes (see ``readout_task``)."""

    task: Task
    loaded: dict[Any, PromptCorpus] = field(default_factory=dict, compare=False, repr=False)

    def load(
        self, *, seed: int, data: Path | str | None, folder: Path | None, cap: int | None
    ) -> PromptCorpus:
        asked = (seed, data, folder, cap)
        if asked not in self.loaded:  # one treebank, read once for many grounds
            self.loaded[asked] = self._load(*asked)
        return self.loaded[asked]

    def _load(self, seed: int, data: Path | str | None, folder: Path | None, cap: int | None) -> PromptCorpus:
        corpus = self.task.load(seed=seed, data=data, folder=folder, cap=cap)
        if isinstance(corpus, TextCorpus):
            prompts = _words(corpus)
        elif isinstance(corpus, PromptCorpus):
            prompts = [_asked_for_class(prompt, corpus.classes) for prompt in corpus.prompts]
        else:
            raise InputError(f"Task {self.task.concept!r} is sampled: there is no text to read out.")
        digest = hashlib.sha256(
            "\0".join(f"{prompt!r} {prompt.word}" for prompt in prompts).encode()
        ).hexdigest()
        return PromptCorpus(tuple(prompts), corpus.classes, digest, "last", corpus.notes)

    def fingerprint(self, data: Path | str | None, folder: Path | None) -> str:
        return hashlib.sha256(
            f"{BEHAVIOUR} {self.task.source.fingerprint(data, folder)}".encode()
        ).hexdigest()

    def refuses(self, folder: Path | None) -> str | None:
        return self.task.source.refuses(folder)

    def truth(self, neurons: Neurons, folder: Path | None) -> Truth | None:
        return None


def _asked_for_class(prompt: Prompt, classes: tuple[str, ...]) -> Prompt:
    """A prompt whose answer is its class; a twin keeps its own, where the answers are the classes' in their order."""
    twin = (
        prompt.source_answer
        if len(prompt.answers) == len(classes) and prompt.answer == prompt.label
        else None
    )
    return replace(
        prompt,
        behaviour=BEHAVIOUR,
        answers=classes,
        answer=prompt.label,
        source=None if twin is None else prompt.source,
        source_answer=twin,
    )


def _words(corpus: TextCorpus) -> list[Prompt]:
    """One labelled word of each short sentence, of the class that has fewest so far, up to ``PER_SPLIT`` a split."""
    prompts: list[Prompt] = []
    for split in SPLITS:
        counts = np.zeros(len(corpus.classes), dtype=int)
        for number, sentence in sorted(
            enumerate(corpus.sentences), key=lambda pair: len(pair[1].words) > SHORT
        ):
            places = [place for place, label in enumerate(sentence.labels) if label != UNLABELLED]
            if sentence.split != split or not places or len(sentence.words) > MAX_WORDS:
                continue
            if any(" " in word for word in sentence.words):
                continue  # words are found again by their number in the text
            place = min(places, key=lambda at: counts[sentence.labels[at]])
            label = sentence.labels[place]
            if counts[label] >= PER_SPLIT // len(corpus.classes):
                continue
            counts[label] += 1
            text = " ".join(sentence.words)
            prompts.append(
                Prompt(text, label, split, BEHAVIOUR, corpus.classes, label, group=str(number), word=place)
            )
    return prompts


class ReadoutNetwork(nn.Module):
    """A transformer whose logits are classes: a linear map of its last layer's states."""

    def __init__(self, network: Any, weight: np.ndarray, bias: np.ndarray) -> None:
        super().__init__()
        self.base_model = network.base_model
        self.config = network.config
        self.readout = nn.Linear(weight.shape[1], weight.shape[0])
        self.readout.weight.data = torch.from_numpy(weight).float()
        self.readout.bias.data = torch.from_numpy(bias).float()
        self.requires_grad_(False)
        self.eval().to(network.device)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.readout.weight.device

    def get_output_embeddings(self) -> nn.Linear:
        """What the last layer's states are multiplied with."""
        return self.readout

    def get_input_embeddings(self) -> nn.Module:
        """The word embeddings of the transformer."""
        return self.base_model.get_input_embeddings()

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> SimpleNamespace:
        """Logits (B, T, C) of the classes at every token."""
        states = self.base_model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return SimpleNamespace(logits=self.readout(states))


def with_readout(model: LanguageModel, prompts: tuple[Prompt, ...]) -> LanguageModel:
    """The model with a readout of the prompts' classes, trained once on their last states and then frozen.

    Logistic regression on standardised states; the scale is folded into the weights.
    """
    opened = replace(model, has_head="readout")
    asked = [read_ids(opened, prompt.text, prompt.word) for prompt in prompts]
    states = np.zeros((len(asked), model.architecture.width))
    for rows in by_length([ids for ids, _ in asked]):
        found = model.run([asked[row][0] for row in rows]).last_hidden_state
        places = [asked[row][1] for row in rows]
        states[rows] = found[np.arange(len(rows)), places].double().cpu().numpy()
    answers = np.array([prompt.answer for prompt in prompts])
    centre, spread = states.mean(axis=0), np.maximum(states.std(axis=0), 1e-8)
    fitted = LogisticRegression(C=PENALTY, max_iter=2000).fit((states - centre) / spread, answers)
    coefficients, offsets = fitted.coef_ / spread, fitted.intercept_
    if len(coefficients) == 1:  # two classes: one logit, shared out
        coefficients, offsets = coefficients * [[-0.5], [0.5]], offsets * [-0.5, 0.5]
    weight = np.zeros((len(prompts[0].answers), states.shape[1]))
    bias = np.full(len(weight), NEVER)
    weight[fitted.classes_], bias[fitted.classes_] = coefficients, offsets - coefficients @ centre
    digest = hashlib.sha256(model.digest.encode() + weight.tobytes() + bias.tobytes()).hexdigest()
    return replace(opened, network=ReadoutNetwork(model.network, weight, bias), digest=digest)
