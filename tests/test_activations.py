"""Extraction: which sub-word is whose, what is dropped and said, and the cache."""

import json
import resource
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from nibench.activations import Activations, extract
from nibench.cache import ActivationCache
from nibench.errors import InputError
from nibench.model import LanguageModel, load_model
from nibench.task import SPLITS, Prompt, PromptCorpus, Sentence, Split, Task, TextCorpus, Truth, World
from nibench.words import align_words
from tests.tiny import byte_tokenizer, network, piece_tokenizer, tiny


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NIBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "activations"


@pytest.fixture(scope="module")
def encoder() -> LanguageModel:
    return LanguageModel.from_network(network("bert", 64), piece_tokenizer())


@pytest.fixture(scope="module")
def byte_model() -> LanguageModel:
    tokenizer = byte_tokenizer()
    return LanguageModel.from_network(network("gpt2", len(tokenizer)), tokenizer)


def text(*sentences: tuple[str, list[int]], split: Split = "rank") -> TextCorpus:
    classes = ("A", "B")
    return TextCorpus(
        tuple(Sentence(tuple(words.split()), tuple(labels), split) for words, labels in sentences),
        classes,
        digest=repr((sentences, split, classes)),
    )


TWO = text(("the dogs run", [0, 1, -1]), ("running cat .", [0, 1, 1]))


def hidden(model: LanguageModel, ids: list[int]) -> np.ndarray:
    """(T, L + 1, d): the residual stream, by transformers' own road; the last one before the final norm."""
    seen = []
    handle = model.architecture.blocks[-1].register_forward_hook(
        lambda _, args, out: seen.append(out[0] if isinstance(out, tuple) else out)
    )
    states = model.architecture.base(torch.tensor([ids]), output_hidden_states=True).hidden_states
    handle.remove()
    return torch.stack([*states[:-1], seen[0]], dim=2)[0].numpy()


def test_every_labelled_word_is_one_item_with_its_names(encoder: LanguageModel) -> None:
    found = extract(encoder, TWO, site="residual")
    assert isinstance(found, Activations)
    assert found.activations.shape == (5, 4 * 16)
    assert found.activations.dtype == np.float32
    assert [found.words[word] for word in found.word_types] == ["the", "dogs", "running", "cat", "."]
    assert found.labels.tolist() == [0, 1, 0, 1, 1]
    assert found.sentences.tolist() == [0, 0, 1, 1, 1]
    assert found.splits.tolist() == ["rank"] * 5
    assert found.neurons[0] == "embed.0"
    assert found.prompts is None


@pytest.mark.parametrize("aggregation", ["first", "last", "mean"])
def test_sub_words_are_aggregated_as_asked(encoder: LanguageModel, aggregation: str) -> None:
    ids = encoder.tokenizer("running cat .")["input_ids"]
    assert encoder.tokenizer.convert_ids_to_tokens(ids) == ["[CLS]", "run", "##ning", "cat", ".", "[SEP]"]
    states = hidden(encoder, ids)
    expected = {"first": states[1], "last": states[2], "mean": (states[1] + states[2]) / 2}[aggregation]
    found = extract(encoder, TWO, site="residual", aggregation=aggregation)  # type: ignore[arg-type]
    np.testing.assert_allclose(found.activations[2].reshape(4, 16), expected, atol=1e-5)
    np.testing.assert_allclose(found.activations[3].reshape(4, 16), states[3], atol=1e-5)


def test_byte_level_words_keep_the_space_before_them(byte_model: LanguageModel) -> None:
    corpus = text(("dog a cat dog", [0, -1, 1, 0]))
    ids = byte_model.tokenizer("dog a cat dog")["input_ids"]
    assert byte_model.tokenizer.convert_ids_to_tokens(ids) == ["dog", "Ġa", "Ġ", "cat", "Ġdog"]
    states = hidden(byte_model, ids)
    first, last = (
        extract(byte_model, corpus, site="residual", aggregation=a).activations for a in ("first", "last")
    )
    np.testing.assert_allclose(last.reshape(3, 4, 16), states[[0, 3, 4]], atol=1e-5)
    np.testing.assert_allclose(first.reshape(3, 4, 16), states[[0, 2, 4]], atol=1e-5)  # "Ġ" belongs to "cat"


def test_a_letter_of_several_bytes_is_one_word(byte_model: LanguageModel) -> None:
    windows, dropped, _ = align_words(byte_model, [["a", "é→", "b"]], [[(0, 0), (1, 1), (2, 2)]])
    assert dropped == []
    assert windows[0].starts.tolist() == [0, 1, 7]  # a; space, two bytes and three; space and b
    assert windows[0].stops.tolist() == [1, 7, 9]


@pytest.mark.parametrize("kind", ["bert", "gpt2", "gpt_neox", "llama", "distilbert"])
def test_the_batch_around_a_sentence_does_not_change_it(kind: str) -> None:
    model = tiny(kind)
    sentences = [("the dog", [0, 1]), ("a man sees two big dogs near the park", [0, 1, 0, 1, 0, 1, 0, 1, 0])]
    together = extract(model, text(*sentences), site="mlp_post", cache=False).activations
    alone = extract(model, text(sentences[0]), site="mlp_post", cache=False).activations
    np.testing.assert_allclose(together[:2], alone, atol=1e-5)


@pytest.mark.parametrize("kind", ["gpt2", "bert"])
def test_sentences_beyond_the_window_are_split_at_word_borders_and_counted(kind: str) -> None:
    model = tiny(kind)
    words = ["dog", "cat"] * 40
    corpus = text((" ".join(words), [0, 1] * 40), ("the dog", [0, 1]))
    found = extract(model, corpus, site="residual", cache=False)
    assert len(found.labels) == 82
    assert found.notes == ("1 sentences longer than the model's 32 tokens were split at word borders",)
    states = hidden(model, [2, *model.tokenizer.convert_tokens_to_ids(words[31:62])])
    np.testing.assert_allclose(found.activations[31:62].reshape(31, 4, 16), states[1:], atol=1e-5)


def test_a_word_beyond_the_window_is_cut_and_counted(encoder: LanguageModel) -> None:
    found = extract(encoder, text(("the " + "z" * 90 + " cat", [0, 1, 0])), site="residual")
    assert len(found.labels) == 3
    assert found.notes == (
        "1 sentences longer than the model's 32 tokens were split at word borders",
        "1 words longer than the model's 32 tokens were cut",
    )


def test_words_without_sub_words_are_dropped_and_counted(encoder: LanguageModel) -> None:
    corpus = text(("the \u200b dog", [0, 1, 1]), ("cat \u200e", [0, 1]))
    found = extract(encoder, corpus, site="residual")
    again = extract(encoder, corpus, site="residual")
    assert found.labels.tolist() == again.labels.tolist() == [0, 1, 0]
    assert [found.words[word] for word in again.word_types] == ["the", "dog", "cat"]
    assert found.notes == again.notes == ("2 words without any sub-word were dropped",)
    alone = extract(encoder, text(("cat", [0]), ("dog", [1])), site="residual")
    np.testing.assert_allclose(found.activations[2], alone.activations[0], atol=1e-5)


def test_items_are_ordered_by_split_so_that_a_split_is_a_view() -> None:
    sentences = [Sentence(("dog", "cat"), (0, 1), split) for split in ("eval", "rank", "probe", "rank")]
    found = extract(tiny("gpt2"), TextCorpus(tuple(sentences), ("A", "B"), "mixed"))
    assert found.splits.tolist() == ["rank"] * 4 + ["probe"] * 2 + ["eval"] * 2
    assert found.sentences.tolist() == [1, 1, 3, 3, 2, 2, 0, 0]
    part = found.split("rank")
    assert np.shares_memory(part.activations, found.activations)
    assert (part.labels.tolist(), part.sentences.tolist()) == ([0, 1, 0, 1], [1, 1, 3, 3])
    with pytest.raises(InputError, match="No split named 'test'"):
        found.split("test")  # type: ignore[arg-type]


class GivenCorpus:
    """A source that has its corpus already."""

    def __init__(self, corpus: TextCorpus | PromptCorpus | World) -> None:
        self.corpus = corpus

    def load(self, **_: object) -> TextCorpus | PromptCorpus | World:
        return self.corpus

    def refuses(self, folder: Path | None) -> str | None:
        return None

    def truth(self, neurons: object, folder: Path | None) -> Truth | None:
        return None


def task_of(corpus: TextCorpus | PromptCorpus | World, min_class: int) -> Task:
    control = lambda labels, words, n, rng: labels  # noqa: E731
    return Task("test", corpus.classes, GivenCorpus(corpus), control, site="residual", min_class=min_class)


def three_splits(labels: tuple[int, ...], words: str = "dog cat man") -> list[Sentence]:
    return [Sentence(tuple(words.split()), labels, split) for split in SPLITS]


def test_small_classes_are_dropped_for_everybody_and_listed() -> None:
    sentences = [*three_splits((0, 1, 2)), *three_splits((0, 1, 1))[:2], *three_splits((2, 0, 0))[2:]]
    corpus = TextCorpus(tuple(sentences), ("A", "B", "C"), "small")
    found = extract(tiny("gpt2"), task_of(corpus, min_class=1))
    assert found.classes == ("A", "B", "C")
    dropped = extract(
        tiny("gpt2"), task_of(TextCorpus((*sentences, *three_splits((0, 2, 2))), corpus.classes, "b"), 2)
    )
    assert dropped.classes == ("A", "C")
    assert dropped.notes == ("class B dropped: 1 items in split eval, needs 2",)
    assert set(dropped.labels) == {0, 1}
    assert len(dropped.activations) == len(dropped.labels) == len(dropped.word_types)


def test_a_class_missing_from_a_split_is_an_error_that_says_so() -> None:
    sentences = (*three_splits((0, 1, 1))[:2], Sentence(("dog",), (0,), "eval"))
    with pytest.raises(
        InputError, match="Fewer than two classes are left of 2: class B dropped: 0 items in split eval"
    ):
        extract(tiny("gpt2"), task_of(TextCorpus(sentences, ("A", "B"), "gap"), 1))


def test_a_split_without_items_is_an_error() -> None:
    with pytest.raises(
        InputError, match=r"Split 'eval' has no labelled item; expected items in rank, probe, eval"
    ):
        extract(tiny("gpt2"), task_of(TextCorpus(tuple(three_splits((0, 1, 1))[:2]), ("A", "B"), "none"), 1))


def test_misaligned_labels_name_the_sentence() -> None:
    with pytest.raises(InputError, match=r"Sentence 1 \(a cat runs ...\) has 3 words but 2 labels"):
        extract(tiny("gpt2"), text(("the dog", [0, 1]), ("a cat runs", [0, 1])))


def test_text_without_labels_is_refused() -> None:
    with pytest.raises(InputError, match="No labelled item"):
        extract(tiny("gpt2"), text(("the dog", [-1, -1])))
    with pytest.raises(InputError, match="A label is 5, but there are 2 classes"):
        extract(tiny("gpt2"), text(("the dog", [0, 5])))


def test_nan_activations_name_the_neuron_and_the_word(own_cache: Path) -> None:
    model = tiny("gpt2")
    with torch.no_grad():
        model.network.transformer.h[1].mlp.c_fc.bias[7] = torch.nan
    with pytest.raises(InputError, match=r"Neuron L1.mlp_post.7 is nan at the word 'the'"):
        extract(model, text(("the dog", [0, 1])))
    assert list(own_cache.iterdir()) == []


def test_text_needs_a_model() -> None:
    with pytest.raises(InputError, match="which a model must read"):
        extract(None, TWO)


def test_prompts_are_read_at_their_last_token(encoder: LanguageModel) -> None:
    prompts = [
        Prompt("the dog", 0, "rank", "verb", ("runs", "run"), 0, group="x"),
        Prompt("big dogs", 1, "eval", "verb", ("runs", "run"), 1, group="y"),
        Prompt("a red dog", 0, "rank", "verb", ("runs", "run"), 0, group="x"),
        Prompt("two dogs", 1, "rank", "verb", ("runs", "run"), 1),
        Prompt("the dog", 0, "eval", "verb", ("runs", "run"), 0, group="z"),
    ]
    for model, last in ((tiny("gpt2"), -1), (encoder, -2)):  # the encoder's last token is [SEP]
        found = extract(model, PromptCorpus(tuple(prompts), ("Sing", "Plur"), "p"), site="residual")
        assert found.prompts == (prompts[0], prompts[2], prompts[3], prompts[1], prompts[4])
        assert found.labels.tolist() == [0, 0, 1, 1, 0]
        assert [found.words[word] for word in found.word_types] == ["dog", "dog", "dogs", "dogs", "dog"]
        assert found.sentences[0] == found.sentences[1]
        assert len(set(found.sentences.tolist())) == 4
        states = hidden(model, model.tokenizer("a red dog")["input_ids"])
        np.testing.assert_allclose(found.activations[1].reshape(4, 16), states[last], atol=1e-5)
        assert found.split_prompts("eval") == (prompts[1], prompts[4])


def test_prompts_beyond_the_window_are_cut_on_the_left_and_counted() -> None:
    model = tiny("gpt2")
    long = Prompt("cat " * 50 + "dog", 0, "rank", "b", ("runs", "run"), 0)
    corpus = PromptCorpus((long, replace(long, text="dog", label=1)), ("A", "B"), "long")
    found = extract(model, corpus, site="residual")
    assert found.notes == ("1 prompts longer than the model's 32 tokens were cut on the left",)
    ids = [2, *model.tokenizer.convert_tokens_to_ids(["cat"] * 30 + ["dog"])]
    np.testing.assert_allclose(found.activations[0].reshape(4, 16), hidden(model, ids)[-1], atol=1e-5)


def test_a_world_brings_its_own_activations() -> None:
    labels, splits = np.tile([0, 1], 6), np.repeat(SPLITS, 4)
    values = np.arange(24, dtype=np.float32).reshape(12, 2)
    truth = Truth({}, {}, np.array(["used", "background"]))
    world = World(values, labels, np.arange(12) // 2, np.arange(12), splits, ("A", "B"), truth, "w")
    found = extract(None, task_of(world, 1))
    assert (found.activations == values).all()
    assert list(found.neurons) == ["neuron.0", "neuron.1"]
    assert found.split("eval").labels.tolist() == [0, 1, 0, 1]
    assert values.flags.writeable


def test_the_second_time_activations_come_from_the_disk(own_cache: Path) -> None:
    model = tiny("gpt2")
    first = extract(model, TWO)
    passes = model.passes.forward
    second = extract(model, TWO)
    assert model.passes.forward == passes == 2
    assert isinstance(second.activations, np.memmap)
    assert not second.activations.flags.writeable
    assert (first.activations == second.activations).all()
    assert first.digest == second.digest
    assert [entry.name for entry in own_cache.iterdir()] == [first.digest]


def test_the_cache_goes_by_content() -> None:
    model = tiny("gpt2")
    digests = [
        extract(model, TWO).digest,
        extract(model, replace(TWO, digest="other")).digest,
        extract(model, TWO, site="mlp_pre").digest,
        extract(model, TWO, layers="1:").digest,
        extract(model, TWO, aggregation="mean").digest,
        extract(tiny("llama"), TWO).digest,
    ]
    assert len(set(digests)) == 6
    assert extract(model, TWO, layers=[0, 1, 2]).digest == digests[0]
    assert extract(model, TWO, cache=False).digest == digests[0]


@pytest.mark.parametrize("damage", ["truncate", "flip", "json", "no json", "empty"])
def test_damaged_entries_are_computed_again(own_cache: Path, damage: str) -> None:
    model = tiny("gpt2")
    first = np.array(extract(model, TWO).activations)
    (entry,) = own_cache.iterdir()
    file, about = entry / "activations.npy", entry / "entry.json"
    content = bytearray(file.read_bytes())
    if damage == "truncate":
        file.write_bytes(content[:-40])
    elif damage == "flip":
        content[-9] ^= 0x40
        file.write_bytes(content)
    elif damage == "empty":
        file.write_bytes(b"")
    elif damage == "json":
        about.write_text(about.read_text()[:-10])
    else:
        about.unlink()
    assert (extract(model, TWO).activations == first).all()
    assert json.loads((next(own_cache.iterdir()) / "entry.json").read_text())["shape"] == [5, 72]


def test_no_place_for_the_cache_is_a_note_not_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny("gpt2")
    expected = extract(model, TWO, cache=False).activations
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NIBENCH_CACHE", str(tmp_path / "file" / "cache"))
    found = extract(model, TWO)
    assert (found.activations == expected).all()
    assert len(found.notes) == 1
    assert "activations were not cached" in found.notes[0]


def test_a_full_disk_is_a_note_not_a_failure(own_cache: Path) -> None:
    model = tiny("gpt2")
    expected = extract(model, TWO, cache=False).activations
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (500, hard))  # bytes a file may grow to
    try:
        found = extract(model, TWO)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (found.activations == expected).all()
    assert "activations were not cached" in found.notes[0]
    assert list(own_cache.iterdir()) == []


def test_the_cache_keeps_to_its_size_and_drops_the_oldest(tmp_path: Path) -> None:
    cache = ActivationCache(tmp_path, max_bytes=3000)

    def fill(array: np.ndarray) -> dict[str, object]:
        array[:] = 1
        return {}

    for key in ("first", "second"):
        cache.compute(key, (10, 30), fill)  # 1,200 bytes and a header each
    import os

    os.utime(cache.folder / "second", (1, 1))
    cache.compute("third", (10, 30), fill)
    assert sorted(entry.name for entry in cache.folder.iterdir()) == ["first", "third"]
    assert cache.get("second") is None


def test_two_runs_that_compute_the_same_keep_one(tmp_path: Path) -> None:
    cache = ActivationCache(tmp_path)

    def slow_fill(array: np.ndarray) -> dict[str, object]:
        array[:] = 2
        if not (cache.folder / "key").exists():  # the other run is faster
            cache.compute("key", (3, 3), lambda other: other.fill(2) or {})
        return {}

    array, _, problem = cache.compute("key", (3, 3), slow_fill)
    assert problem is None
    assert (array == 2).all()
    assert [entry.name for entry in cache.folder.iterdir()] == ["key"]


def test_progress_counts_items() -> None:
    seen: list[tuple[int, int]] = []
    extract(tiny("gpt2"), TWO, cache=False, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (5, 5)


@pytest.mark.parametrize("which", ["minilm", "stories260K"])
def test_real_tokenizers_agree_with_their_own_word_alignment(
    which: str, request: pytest.FixtureRequest
) -> None:
    conllu = pytest.importorskip("conllu")
    shared = request.getfixturevalue("shared")
    model = load_model(request.getfixturevalue("minilm") if which == "minilm" else shared / "models" / which)
    lines = (shared / "data" / "ud" / "en_ewt-ud-dev.conllu").read_text(encoding="utf-8")
    sentences = [
        [token["form"] for token in sentence if isinstance(token["id"], int)]
        for sentence in conllu.parse(lines)[:300]
    ]
    wanted, row = [], 0
    for words in sentences:
        wanted.append([(row + i, i) for i in range(len(words))])
        row += len(words)
    windows, dropped, notes = align_words(model, sentences, wanted)
    assert (dropped, notes) == ([], [])
    for words, window in zip(sentences, windows, strict=True):
        own = model.tokenizer(words, is_split_into_words=True)
        assert list(window.ids) == own["input_ids"]
        for word, (start, stop) in enumerate(zip(window.starts, window.stops, strict=True)):
            assert own.word_ids()[start:stop] == [word] * (stop - start)
