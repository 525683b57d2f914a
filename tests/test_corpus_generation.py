"""Inputs made for a neuron: mixtures of tokens that are exact and have gradients, and searches with known optima."""

from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.functional import gelu, one_hot
from transformers import GPT2Config, GPT2LMHeadModel

import nibench as nb
from nibench import Needs, Observations, SoftInputs
from nibench.ground import Ground, Options
from nibench.model import LanguageModel
from nibench.moments import Statistics
from nibench.submissions import find_method
from tests.references import corpus_generation as slow
from tests.tiny import SPECIAL, WORDS, network, piece_tokenizer, rng, tiny, word_tokenizer

CLASSED = np.arange(12) % 2  # of the first twelve tokens; the others are in no item
HEIGHT = 3.0  # what a tuned neuron answers to its token, before the GELU


@pytest.fixture(scope="module")
def tuned() -> LanguageModel:
    """Two layers without attention; unit j of the first is tuned to token j, the second reads it at random."""
    width, n_words = 16, len(WORDS)
    config = GPT2Config(
        vocab_size=len(SPECIAL) + n_words, n_positions=12, n_embd=width, n_layer=2, n_head=2, n_inner=n_words
    )
    torch.manual_seed(0)
    net = GPT2LMHeadModel(config)
    with torch.no_grad():
        blocks: Any = net.transformer.h
        net.transformer.wpe.weight.zero_()
        net.transformer.wte.weight.normal_(std=1)
        for block in blocks:
            block.attn.c_proj.weight.zero_()
            block.mlp.c_fc.weight.normal_(std=0.3)
        table = net.transformer.wte.weight[len(SPECIAL) :]
        blocks[0].mlp.c_fc.weight.copy_(HEIGHT / width * blocks[0].ln_1(table).T)
    return LanguageModel.from_network(net, word_tokenizer())


def observed(model: LanguageModel, texts: np.ndarray, labels: np.ndarray, n_classes: int = 2) -> Observations:
    inputs = SoftInputs(model, "mlp_post")
    return Observations(
        model.neurons("mlp_post"),
        n_classes,
        Needs.ACTIVATIONS | Needs.LABELS | Needs.EMBEDDINGS,
        "corpus_generation",
        Statistics(inputs.read(texts), labels, n_classes),
        _inputs=inputs,
    )


@pytest.fixture(scope="module")
def single_words(tuned: LanguageModel) -> Observations:
    """Items are the twelve tokens that have a class, each the last word after one of the others."""
    texts = np.array([[first, last] for first in range(12, 20) for last in range(12)])
    return observed(tuned, texts, np.tile(CLASSED, 8))


def rank(data: Observations, seed: int = 0, **parameters: object) -> nb.Ranking:
    return find_method("corpus_generation", parameters).load().rank(data, np.random.default_rng(seed))


# ---------------------------------------------------------------- soft inputs


@pytest.mark.parametrize("site", ["mlp_post", "residual"])
@pytest.mark.parametrize(
    "kind", ["gpt2", "gpt_neox", "llama", "gemma2", "opt_post", "bert", "bert_mlm", "distilbert"]
)
def test_all_of_one_token_is_the_token(kind, site):
    model = LanguageModel.from_network(network(kind, 64), piece_tokenizer())  # with [SEP] behind the text
    inputs = SoftInputs(model, site)
    texts = rng().integers(0, len(inputs.tokens), (5, 4))
    seen: list[torch.Tensor] = []
    handles = [
        tap.attach(lambda values: seen.append(values.reshape(5, 6, -1)[:, 4])) for tap in model.taps(site)
    ]
    before, after = model.frame
    ids = model.tokenizer.convert_tokens_to_ids(inputs.tokens)
    model.run([[*before, *(ids[place] for place in text), *after] for text in texts])
    for handle in handles:
        handle.remove()
    expected = torch.cat(seen, dim=1).numpy()
    np.testing.assert_allclose(inputs.read(texts), expected, atol=1e-5)
    mixtures = one_hot(torch.from_numpy(texts), len(inputs.tokens)).float()
    for neurons in (np.arange(5), np.arange(5) + expected.shape[1] - 5):  # of the first layer, of the last
        found = inputs.answer(mixtures, neurons).numpy()
        np.testing.assert_allclose(found, expected[np.arange(5), neurons], atol=1e-5)


@pytest.mark.parametrize("kind", ["gpt2", "bert"])  # llama norms in single precision
def test_slopes_are_those_of_finite_differences(kind):
    model = tiny(kind)
    model.network.double()
    inputs = SoftInputs(model, "mlp_post")
    generator = torch.Generator().manual_seed(0)
    mixtures = torch.rand(3, 2, len(inputs.tokens), generator=generator, dtype=torch.float64).softmax(-1)
    assert torch.autograd.gradcheck(
        lambda mixed: inputs.answer(mixed, [1, 30, 60]), mixtures.requires_grad_(), eps=1e-5, atol=1e-6
    )


def test_a_pass_ends_at_the_neurons_layer_and_leaves_the_model_alone():
    model = tiny("gpt2")
    inputs, sequence = SoftInputs(model, "mlp_post"), [[2, 5, 6, 7]]
    whole = model.run(sequence).last_hidden_state
    model.passes.reset()
    mixtures = torch.full((6, 3, len(inputs.tokens)), 1 / len(inputs.tokens), requires_grad=True)
    for neurons, share in ((range(6), 1 / 3), (range(20, 26), 2 / 3), (range(66, 72), 1)):
        model.passes.reset()
        found = inputs.answer(mixtures, np.array(neurons))
        assert model.passes.forward == pytest.approx(6 * share)
        assert model.passes.backward == 0
        found.sum().backward()
        assert model.passes.backward == pytest.approx(6 * share)
    assert torch.equal(model.run(sequence).last_hidden_state, whole)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.network.modules())


def test_special_tokens_and_long_texts_are_left_out():
    inputs = SoftInputs(tiny("gpt2"), "mlp_post")
    assert inputs.tokens == tuple(WORDS)
    assert inputs.longest == 31  # 32 less the one in front
    assert inputs.write(np.array([[1, 5]])) == (f"{WORDS[1]} {WORDS[5]}",)
    with pytest.raises(nb.InputError, match="A text of 32 tokens; this model takes 31"):
        inputs.read(np.zeros((1, 32), dtype=int))


def test_without_a_model_there_is_nothing_to_search():
    with pytest.raises(nb.InputError, match="corpus_generation needs EMBEDDINGS: arrays are not enough"):
        nb.rank("corpus_generation", rng().normal(size=(20, 3)), np.arange(20) % 2)
    world = Ground(nb.load_task("graded_noise_world"), None, Options())
    lacking = world.lacks(find_method("corpus_generation").load())
    assert lacking == "needs EMBEDDINGS: there is no model to give words to"


# ---------------------------------------------------------------- the method


def test_the_search_ends_at_the_token_a_neuron_is_tuned_to(tuned, single_words):
    ranking = rank(single_words, random=8, steps=100)  # eight random inputs: few start at the optimum
    found = ranking.evidence
    n_words = len(WORDS)
    best = found.activations[:n_words].argmax(axis=1)
    last = [found.texts[unit, best[unit]].split()[-1] for unit in range(n_words)]
    assert last == WORDS
    peak = float(gelu(torch.tensor(HEIGHT), approximate="tanh"))
    np.testing.assert_allclose(found.activations[:n_words].max(axis=1), peak, atol=1e-3)


def test_a_neuron_is_named_by_the_class_of_its_token_or_not_at_all(single_words):
    found = rank(single_words)
    named, n_words = found.evidence.named[:12], len(WORDS)
    assert (named >= 0).sum() >= 8
    assert (named[named >= 0] == CLASSED[named >= 0]).all()
    assert found.scores[:12].mean() > 1.5 * found.scores[12:n_words].mean()  # tuned to words of no class


def test_the_batch_is_the_search_of_one_neuron_at_a_time(tuned, single_words):
    method: Any = find_method("corpus_generation", {"steps": 12, "every": 5, "inputs": 2}).load()
    inputs, generator = single_words.inputs, rng(3)
    neurons = np.array([0, 7, 15, 25, 40])
    starts = generator.integers(0, len(WORDS), (5, 2, 3))
    found, reached = method._climb(inputs, neurons, starts, np.random.default_rng(9))
    noises = np.random.default_rng(9).gumbel(size=(12, 2, 3, len(WORDS))).astype(np.float32)
    ids = torch.arange(len(SPECIAL), len(SPECIAL) + len(WORDS))
    for row, neuron in enumerate(neurons):
        layer, unit = divmod(int(neuron), len(WORDS))
        for start in range(2):
            text, value = slow.climb(
                tuned.network, ids, tuned.frame[0], layer, unit, starts[row, start].tolist(),
                torch.from_numpy(noises[:, start]), method,
            )  # fmt: skip
            assert found[row, start].tolist() == text
            assert reached[row, start] == pytest.approx(value, abs=1e-5)


def test_how_many_are_searched_at_once_does_not_matter(single_words, monkeypatch):
    method: Any = find_method("corpus_generation", {"steps": 10}).load()
    together = method.rank(single_words, np.random.default_rng(0))
    monkeypatch.setitem(method.rank.__globals__, "ENTRIES", 1)
    monkeypatch.setitem(method.rank.__globals__, "FEWEST", 5)
    apart = method.rank(single_words, np.random.default_rng(0))
    np.testing.assert_allclose(apart.scores, together.scores, atol=1e-5)
    assert (apart.evidence.texts == together.evidence.texts).all()


def test_a_reading_is_that_of_the_other_neurons_and_random_inputs_read_nothing(single_words):
    method: Any = find_method("corpus_generation").load()
    inputs, labels = single_words.inputs, single_words.labels
    pool = rng(1).integers(0, len(WORDS), (60, 3))
    random, neurons = inputs.read(pool), np.array([2, 30])
    readings, typical = method._readings(single_words, neurons, np.stack([pool, pool]), random)
    np.testing.assert_allclose(readings.mean(axis=1), 0, atol=1e-6)
    np.testing.assert_allclose(readings.std(axis=1), 1, atol=1e-6)
    items = single_words.activations
    for row, neuron in enumerate(neurons):
        expected = slow.readings(random, items, labels == 1, random, neuron)
        np.testing.assert_allclose(readings[row, :, 1], expected, atol=1e-4)
        mine = slow.readings(items[labels == 1], items, labels == 1, random, neuron)
        assert typical[row, 1] == pytest.approx(mine.mean(), abs=1e-4)


def test_neurons_that_are_not_searched_are_last_and_it_is_said(single_words):
    ranking = rank(single_words, candidates=10, steps=5)
    searched = np.isfinite(ranking.scores)
    assert searched.sum() == 10
    assert ranking.flags == ("10 of 44 neurons searched",)
    told = np.abs(single_words.statistics.correlations).max(axis=0)
    assert told[searched].min() >= told[~searched].max()
    assert (ranking.evidence.texts[~searched] == "").all()
    assert np.isnan(ranking.evidence.activations[~searched]).all()
    assert (ranking.evidence.named[~searched] == -1).all()
    assert rank(single_words, steps=5).flags == ()


def test_a_constant_neuron_scores_zero_and_a_model_of_them_too(tuned, single_words):
    inputs = single_words.inputs
    constant = np.tile(single_words.activations[:1], (24, 1))
    labels = np.arange(24) % 2
    only = constant.copy()
    only[:, 3] += labels
    for matrix in (constant, only):
        data = Observations(
            single_words.neurons, 2, single_words.needs, "", Statistics(matrix, labels, 2), _inputs=inputs
        )
        ranking = rank(data, steps=3)
        assert np.isfinite(ranking.scores).all()
        assert not np.delete(ranking.scores, 3).any()


def test_the_seed_fixes_the_inputs(single_words):
    first, same, other = (rank(single_words, seed, steps=10) for seed in (0, 0, 1))
    assert np.array_equal(first.scores, same.scores)
    assert (first.evidence.texts == same.evidence.texts).all()
    assert (first.evidence.texts != other.evidence.texts).any()


@pytest.mark.parametrize("kind", ["bert", "bert_mlm", "llama"])
def test_encoders_and_other_decoders_are_searched_alike(kind):
    model = LanguageModel.from_network(network(kind, 64), piece_tokenizer())
    inputs = SoftInputs(model, "mlp_post")
    texts = rng().integers(0, len(inputs.tokens), (80, 5))
    data = observed(model, texts, texts[:, -1] % 3, 3)
    ranking = rank(data, steps=20)
    assert np.isfinite(ranking.scores).all()
    assert ranking.per_class is not None
    assert ranking.per_class.shape == (3, 72)
    assert (ranking.evidence.activations.max(axis=1) > ranking.evidence.most).mean() > 0.9


def test_what_is_found_is_above_all_of_a_corpus(shared):
    model = nb.load_model(shared / "models" / "stories260K", device="cpu")
    task = nb.load_task("number_ewt")
    data = nb.extract(model, task, site="mlp_post", data=shared / "data", cap=2500, cache=False).split("rank")
    observations = Observations(
        model.neurons("mlp_post"),
        2,
        Needs.ACTIVATIONS | Needs.LABELS | Needs.EMBEDDINGS,
        "",
        Statistics(data.activations, data.labels, 2),
        _inputs=SoftInputs(model, "mlp_post"),
    )
    found = rank(observations, candidates=24).evidence
    searched = np.isfinite(found.activations[:, 0])
    assert searched.sum() == 24
    above = found.activations[searched].max(axis=1) > found.most[searched]
    assert above.mean() > 0.7
