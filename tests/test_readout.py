"""The readout: its margin against a literal computation, its prompts against the corpus they come from."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nibench import Task, control
from nibench.errors import InputError
from nibench.interventions import Behaviour
from nibench.model import LanguageModel
from nibench.neurons import Neurons
from nibench.prompts import encode_prompts, read_ids
from nibench.readout import MAX_WORDS, PER_SPLIT, SHORT, readout_task, with_readout
from nibench.task import SPLITS, Corpus, Prompt, PromptCorpus, Sentence, TextCorpus, Truth
from nibench.truth.graft_scene import make_scene
from tests.tiny import network, piece_tokenizer, tiny

CLASSES = ("one", "more", "other")


def prompts(labels: dict[str, int] | None = None) -> tuple[Prompt, ...]:
    """A noun, singular or plural, or a verb, in several places of a sentence; labelled by which it is."""
    known = labels or {"dog": 0, "cat": 0, "dogs": 1, "cats": 1, "runs": 2, "sees": 2}
    found = []
    for text in (
        "the dog runs near a big cat",
        "a cat sees the dogs in park",
        "two cats see one red ball",
        "dogs run",
    ):
        for place, word in enumerate(text.split()):
            if word in known:
                found.append(Prompt(text, known[word], "probe", "readout", CLASSES, known[word], word=place))
    return tuple(found)


def test_the_margin_is_the_readout_of_the_word_s_last_state_and_it_learns() -> None:
    model = with_readout(tiny("bert"), prompts())
    assert model.has_head == "readout"
    behaviour = Behaviour.from_prompts(model, prompts(), "mlp_post", reference=prompts(), intervene_at="last")
    head = model.network.readout
    for prompt, margin in zip(prompts(), behaviour.margin(), strict=True):
        ids = model.tokenizer(prompt.text)["input_ids"]
        assert prompt.word is not None
        place = prompt.word + 1  # a BOS in front, one token a word
        assert model.tokenizer.decode([ids[place]]) == prompt.text.split()[prompt.word]
        with torch.no_grad():
            state = model.architecture.base(input_ids=torch.tensor([ids])).last_hidden_state[0, place]
        logits = (head.weight @ state + head.bias).double().numpy()
        others = np.delete(logits, prompt.label)
        assert margin == pytest.approx(logits[prompt.label] - np.log(np.exp(others).sum()), abs=1e-4)
    loss = np.log1p(np.exp(-behaviour.margin())).mean()  # -log p of the right class
    shares = np.bincount([prompt.label for prompt in prompts()]) / len(prompts())
    assert loss < 0.8 * -(shares * np.log(shares)).sum()  # more is known than how frequent each class is


def test_ablation_and_gradients_go_through_the_readout() -> None:
    model = with_readout(tiny("bert"), prompts())
    behaviour = Behaviour.from_prompts(model, prompts(), "mlp_post", reference=prompts(), intervene_at="last")
    assert behaviour.means is not None
    prompt, unit = prompts()[0], 5
    ids, place = read_ids(model, prompt.text, prompt.word)

    def put(values: torch.Tensor) -> torch.Tensor:
        changed = values.clone()
        changed[0, place, unit] = float(behaviour.means[24 + unit])  # type: ignore[index]
        return changed

    handle = model.taps("mlp_post", 1)[0].attach(put)
    with torch.no_grad():
        logits = model.network(input_ids=torch.tensor([ids])).logits[0, place].double()
    handle.remove()
    expected = logits[prompt.label] - torch.cat(
        [logits[: prompt.label], logits[prompt.label + 1 :]]
    ).logsumexp(0)
    assert behaviour.ablate([24 + unit])[0] == pytest.approx(float(expected), abs=1e-4)
    assert np.abs(behaviour.contributions("gradient")).max() > 0


def test_two_classes_share_one_logit_and_a_prompt_without_a_word_is_read_at_its_end() -> None:
    asked = tuple(
        Prompt(text, label, "probe", "readout", ("one", "more"), label)
        for text, label in [("the dog", 0), ("a cat", 0), ("the dogs", 1), ("two cats", 1)]
    )
    model = with_readout(tiny("bert"), asked)
    np.testing.assert_allclose(model.network.readout.weight.sum(dim=0), np.zeros(16), atol=1e-6)
    encoded = encode_prompts(model, asked)
    assert encoded.read.tolist() == [2, 2, 2, 2]
    assert encoded.correct.tolist() == [0, 0, 1, 1]
    assert encoded.wrong[:, 0].tolist() == [1, 1, 0, 0]


def test_a_word_cut_into_pieces_is_read_at_its_last() -> None:
    tokenizer = piece_tokenizer()
    model = LanguageModel.from_network(network("bert", len(tokenizer)), tokenizer, "pieces")
    asked = tuple(
        Prompt("the dogs run", label, "probe", "readout", ("a", "b"), label, word=word)
        for word, label in [(1, 0), (2, 1)]
    )
    opened = with_readout(model, asked)
    ids, place = read_ids(opened, "the dogs run", 1)
    assert tokenizer.convert_ids_to_tokens(list(ids)) == ["[CLS]", "the", "dog", "##s", "run", "[SEP]"]
    assert place == 3


@dataclass(frozen=True)
class Words:
    """Sentences of the test's own."""

    corpus: Corpus

    def load(self, *, seed: int, data: Path | str | None, folder: Path | None, cap: int | None) -> Corpus:
        return self.corpus

    def fingerprint(self, data: Path | str | None, folder: Path | None) -> str:
        return "words"

    def refuses(self, folder: Path | None) -> str | None:
        return None

    def truth(self, neurons: Neurons, folder: Path | None) -> Truth | None:
        return None


def task_of(corpus: Corpus) -> Task:
    return Task("number", ("one", "more"), Words(corpus), control.random_label_per_word_type())


def test_words_become_prompts_one_a_short_sentence_and_classes_weigh_alike() -> None:
    sentences: list[Any] = []
    for split in SPLITS:
        for number in range(300):
            label = int(number % 3 == 0)
            sentences.append(Sentence(("a", f"w{number}", "ran"), (-1, label, -1), split))
        sentences.append(Sentence(("long",) * (MAX_WORDS + 1), (1,) * (MAX_WORDS + 1), split))
        sentences.append(Sentence(("none", "here"), (-1, -1), split))
        sentences.append(Sentence(("ice cream", "ran"), (1, -1), split))
    corpus = TextCorpus(tuple(sentences), ("one", "more"), "digest")
    made = readout_task(task_of(corpus)).load()
    assert isinstance(made, PromptCorpus)
    for split in SPLITS:
        mine = [prompt for prompt in made.prompts if prompt.split == split]
        assert [sum(p.label == label for p in mine) for label in (0, 1)] == [PER_SPLIT // 2, PER_SPLIT // 2]
        assert all(p.word == 1 and p.answer == p.label and p.answers == ("one", "more") for p in mine)
        assert len({p.group for p in mine}) == len(mine)


def test_short_sentences_go_first_and_the_text_is_read_once() -> None:
    sentences = [
        Sentence((*("a",) * (words - 1), f"w{number}"), (*(-1,) * (words - 1), number % 2), split)
        for split in SPLITS
        for words in (SHORT + 1, SHORT)
        for number in range(PER_SPLIT - 20)
    ]
    task = task_of(TextCorpus(tuple(sentences), ("one", "more"), "digest"))
    asked = readout_task(task)
    made = asked.load()
    assert isinstance(made, PromptCorpus)
    for split in SPLITS:
        words = [len(prompt.text.split()) for prompt in made.prompts if prompt.split == split]
        assert [words.count(SHORT), words.count(SHORT + 1)] == [PER_SPLIT - 20, 20]
    assert asked.load() is made
    assert readout_task(task).source == asked.source  # what was read is no part of what it is


def test_prompts_keep_their_twins_with_classes_as_answers() -> None:
    asked = tuple(
        Prompt("a dog", 0, split, "answer", ("It", "They"), 0, source="a dogs", source_answer=1)
        for split in SPLITS
    )
    made = readout_task(task_of(PromptCorpus(asked, ("one", "more"), "digest"))).load()
    assert isinstance(made, PromptCorpus)
    assert made.prompts[0].answers == ("one", "more")
    assert (made.prompts[0].answer, made.prompts[0].source, made.prompts[0].source_answer) == (0, "a dogs", 1)


def test_a_readout_that_cannot_tell_the_classes_is_refused_with_its_accuracy() -> None:
    known = prompts()
    model = with_readout(tiny("bert"), known)
    turned = tuple(
        replace(prompt, label=(prompt.label + 1) % 3, answer=(prompt.answer + 1) % 3) for prompt in known
    )
    behaviour = Behaviour.from_prompts(model, turned, "mlp_post", reference=turned, intervene_at="last")
    with pytest.raises(InputError, match=r"answers \d+% of the prompts rightly, guessing 33%.*Expected 53%"):
        make_scene(model, behaviour, turned, turned)
