"""Prompts given in a task file: whole templates per split, twins of equal length, answers by class."""

from pathlib import Path

import pytest

from nibench import load_task, sources
from nibench.errors import InputError
from nibench.minimal_pairs import MinimalPairs
from nibench.model import load_model
from nibench.prompts import encode_prompts
from nibench.task import SPLITS, PromptCorpus
from tests.tiny import piece_tokenizer

TEMPLATES = ("{} ran", "the {} was", "a {} sees", "one {} in", "two {} near", "red {} was")


def source(**changes: object) -> MinimalPairs:
    given = {
        "templates": TEMPLATES,
        "words": {"one": ("dog", "cat"), "many": ("dogs", "cats")},
        "answers": {"one": "runs", "many": "run"},
        **changes,
    }
    return sources.minimal_pairs(**given)  # type: ignore[arg-type]


def load(
    made: MinimalPairs, folder: Path | None = None, cap: int | None = None, seed: int = 0
) -> PromptCorpus:
    return made.load(seed=seed, data=None, folder=folder, cap=cap)


def test_every_template_meets_every_pair_once_and_lies_in_one_split() -> None:
    corpus = load(source())
    assert corpus.classes == ("one", "many")
    assert len({prompt.text for prompt in corpus.prompts}) == len(corpus.prompts) == 6 * 2 * 2
    split_of: dict[str, set[str]] = {}
    for prompt in corpus.prompts:
        split_of.setdefault(prompt.group.partition("|")[0], set()).add(prompt.split)
        assert prompt.answers[prompt.answer] == {"one": "runs", "many": "run"}[corpus.classes[prompt.label]]
        assert prompt.source_answer == 1 - prompt.answer
    assert all(len(splits) == 1 for splits in split_of.values())
    assert {p.split for p in corpus.prompts} == set(SPLITS)
    texts = {(prompt.text, prompt.source) for prompt in corpus.prompts}
    assert ("the dog was", "the dogs was") in texts
    assert ("the dogs was", "the dog was") in texts
    assert load(source()).digest == corpus.digest != load(source(), seed=1).digest


def test_pairs_that_the_tokenizer_cuts_differently_long_are_left_out_and_counted(tmp_path: Path) -> None:
    piece_tokenizer().save_pretrained(tmp_path)  # dog is one piece, dogs two; cat and run are one each
    corpus = load(source(words={"one": ("dog", "cat"), "many": ("dogs", "run")}), tmp_path)
    assert {prompt.text.split()[-2 if prompt.text.endswith("was") else 0] for prompt in corpus.prompts} >= {
        "cat"
    }
    assert not any("dog" in prompt.text for prompt in corpus.prompts)
    assert corpus.notes == ("6 pairs differ in their number of tokens here and were left out",)
    with pytest.raises(InputError, match="No pair has words of equally many tokens"):
        load(source(words={"one": ("dog",), "many": ("dogs",)}), tmp_path)


def test_the_cap_keeps_pairs_whole() -> None:
    capped = load(source(), cap=3)
    for split in SPLITS:
        assert [prompt.label for prompt in capped.prompts if prompt.split == split] == [0, 1]


def test_wrong_declarations_are_refused() -> None:
    for changes, message in [
        ({"words": {"one": ("dog",), "many": ("dogs", "cats")}}, "equally many words; got one: 1, many: 2"),
        ({"words": {"one": ("dog",)}}, "two classes or more"),
        ({"answers": {"many": "run", "one": "runs"}}, "one answer per class, one, many, in this order"),
        ({"templates": TEMPLATES[:2]}, "got 2 templates"),
        ({"templates": ("no place", *TEMPLATES[:3])}, "'no place' must have one {}"),
        ({"templates": (TEMPLATES[0], TEMPLATES[0], *TEMPLATES[1:3])}, "stand there once"),
    ]:
        with pytest.raises(InputError, match=message):
            source(**changes)


def test_the_task_for_story_models_loads_and_their_model_can_do_it(shared: Path) -> None:
    from nibench.interventions import Behaviour

    model = load_model(shared / "models" / "stories260K", device="cpu")
    task = load_task("she_he")
    corpus = task.load(folder=model.folder)
    assert isinstance(corpus, PromptCorpus)
    assert corpus.notes == ()  # every name has as many tokens as its partner's
    counts = {split: sum(p.split == split for p in corpus.prompts) for split in SPLITS}
    assert counts == {"rank": 192, "probe": 192, "eval": 192}
    chosen = [prompt for prompt in corpus.prompts if prompt.split == "eval"][::4]
    assert len(encode_prompts(model, chosen).ids) == 48
    behaviour = Behaviour.from_prompts(model, chosen, "mlp_post", reference=chosen, intervene_at="last")
    assert (behaviour.margin() > 0).mean() > 0.9
    assert task.source.refuses(None) == "it reads prompts: it needs a model"
