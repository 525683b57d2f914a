"""Behaviour against the literal loop of `tests/references/ablation.py`, and on a real model."""

import copy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from nibench.errors import InputError
from nibench.interventions import Behaviour
from nibench.means import reference_means
from nibench.model import LanguageModel, load_model
from nibench.task import Prompt
from nibench.truth.surgery import ffn, widen
from tests.references.ablation import ablated_margin, margin, values_of
from tests.tiny import network, piece_tokenizer, tiny

CAUSAL = ["gpt2", "gpt_neox", "gpt_neox_sequential", "llama", "gemma2", "opt_post"]
PLACES = {  # where the reference finds the FFN's hidden values: apart from the engine's own table
    "gpt2": lambda net, layer: net.transformer.h[layer].mlp.c_proj,
    "gpt_neox": lambda net, layer: net.gpt_neox.layers[layer].mlp.dense_4h_to_h,
    "gpt_neox_sequential": lambda net, layer: net.gpt_neox.layers[layer].mlp.dense_4h_to_h,
    "llama": lambda net, layer: net.model.layers[layer].mlp.down_proj,
    "gemma2": lambda net, layer: net.model.layers[layer].mlp.down_proj,
    "opt_post": lambda net, layer: net.model.decoder.layers[layer].fc2,
    "bert_mlm": lambda net, layer: net.bert.encoder.layer[layer].output.dense,
    "distilbert": lambda net, layer: net.distilbert.transformer.layer[layer].ffn.lin2,
}
PAIRS = (
    Prompt("the dog near a cat", 0, "rank", "verb", ("runs", "run"), 0, "the dogs near a cat", 1, "a"),
    Prompt("the dogs near a cat", 1, "rank", "verb", ("runs", "run"), 1, "the dog near a cat", 0, "b"),
    Prompt("a man", 0, "rank", "be", ("was", "were"), 0, "two men", 1, "c"),
    Prompt(
        "in the park one big red ball", 0, "rank", "be", ("was", "were"), 0, "in the park two big red ball", 1
    ),
)
SINGLES = (
    Prompt("the dog", 0, "rank", "verb", ("runs", "run", "sees"), 0),
    Prompt("the red dogs in", 1, "rank", "verb", ("run", "runs"), 0),
    Prompt("a cat", 0, "rank", "verb", ("sees", "see", "was"), 2),
)
FFN, LAYERS = 24, 3


def ids_of(model: LanguageModel, text: str) -> list[int]:
    return model.tokenizer(text)["input_ids"]


def token(model: LanguageModel, word: str) -> int:
    return model.tokenizer.convert_tokens_to_ids(word)


def answers(model: LanguageModel, prompt: Prompt) -> tuple[int, list[int]]:
    tokens = [token(model, answer) for answer in prompt.answers]
    if prompt.source_answer is not None:
        return tokens[prompt.answer], [tokens[prompt.source_answer]]
    return tokens[prompt.answer], [t for i, t in enumerate(tokens) if i != prompt.answer]


def literal(model: LanguageModel, kind: str, prompt: Prompt, sets, value, at: str) -> float:
    """The margin with the neurons of ``sets`` replaced by ``value(neuron, position)``, the slow way."""
    ids = ids_of(model, prompt.text)
    positions = [len(ids) - 1] if at == "last" else list(range(1, len(ids)))
    changes = []
    for neuron in sets:
        layer, unit = divmod(int(neuron), FFN)
        values = np.array([value(int(neuron), position) for position in range(len(ids))])
        changes.append((PLACES[kind](model.network, layer), "input", unit, values))
    return ablated_margin(model.network, changes, positions, ids, len(ids) - 1, *answers(model, prompt))


@pytest.mark.parametrize("at", ["last", "all"])
@pytest.mark.parametrize("kind", CAUSAL)
def test_single_effects_equal_one_full_pass_per_neuron(kind: str, at: str) -> None:
    model = tiny(kind)
    behaviour = Behaviour.from_prompts(model, PAIRS, "mlp_post", reference=PAIRS, intervene_at=at)
    means = behaviour.means
    assert means is not None
    of_source = [
        [values_of(model.network, PLACES[kind](model.network, layer), "input", ids_of(model, p.source or ""))
         for layer in range(LAYERS)]
        for p in PAIRS
    ]  # fmt: skip
    effects = {to: behaviour.single_effects(to) for to in ("mean", "zero", "source")}
    base = [
        margin(model.network, ids_of(model, p.text), len(ids_of(model, p.text)) - 1, *answers(model, p))
        for p in PAIRS
    ]
    np.testing.assert_allclose(behaviour.margin(), base, rtol=1e-5, atol=1e-4)
    for item, prompt in enumerate(PAIRS):
        replacement = {
            "mean": lambda neuron, position: means[neuron],
            "zero": lambda neuron, position: 0.0,
            "source": lambda neuron, position, item=item: of_source[item][neuron // FFN][
                position, neuron % FFN
            ],
        }
        for to, value in replacement.items():
            for neuron in range(0, LAYERS * FFN, 5):
                expected = base[item] - literal(model, kind, prompt, [neuron], value, at)
                np.testing.assert_allclose(effects[to][item, neuron], expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("at", ["last", "all"])
@pytest.mark.parametrize("kind", CAUSAL)
def test_joint_ablation_equals_hooks_in_one_full_pass(kind: str, at: str) -> None:
    model = tiny(kind)
    behaviour = Behaviour.from_prompts(model, SINGLES, "mlp_post", reference=PAIRS, intervene_at=at)
    means = behaviour.means
    assert means is not None
    sets = [[], [0], [FFN, FFN + 3], [1, 30, 50, 71], range(2 * FFN, 3 * FFN), range(LAYERS * FFN)]
    margins = behaviour.ablate_sets([np.array(chosen, dtype=int) for chosen in sets], "mean")
    for chosen, row in zip(sets, margins, strict=True):
        expected = [literal(model, kind, p, chosen, lambda n, _: means[n], at) for p in SINGLES]
        np.testing.assert_allclose(row, expected, rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(behaviour.ablate(list(chosen)), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox", "gpt_neox_sequential", "llama"])
@pytest.mark.parametrize("at", ["last", "all"])
def test_these_architectures_take_the_fast_road(kind: str, at: str) -> None:
    behaviour = Behaviour.from_prompts(tiny(kind), PAIRS, "mlp_post", reference=PAIRS, intervene_at=at)
    assert behaviour.fast


@pytest.mark.parametrize("at", ["last", "all"])
@pytest.mark.parametrize("site", ["residual", "mlp_pre", "attn_out"])
@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox", "llama", "gemma2"])
def test_every_site_single_and_joint_agree(kind: str, site: str, at: str) -> None:
    behaviour = Behaviour.from_prompts(tiny(kind), PAIRS, site, reference=PAIRS, intervene_at=at)
    effects = behaviour.single_effects("source")
    some = range(0, len(behaviour.neurons), 7)
    margins = behaviour.ablate_sets([[neuron] for neuron in some], "source")
    np.testing.assert_allclose(effects[:, ::7], behaviour.margin()[:, None] - margins.T, rtol=1e-5, atol=1e-4)
    if at == "last" and site == "residual":  # the last block's output is all that the answer is read from
        last = behaviour.neurons.index("L2.residual.0")
        swapped = behaviour.ablate(range(last, last + 16), "source")
        np.testing.assert_allclose(swapped, behaviour.source_margin(), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize(
    ("site", "module", "end"),
    [
        ("residual", lambda net, layer: net.transformer.h[layer], "output"),
        ("mlp_pre", lambda net, layer: net.transformer.h[layer].mlp.c_fc, "output"),
        ("attn_out", lambda net, layer: net.transformer.h[layer].attn.c_proj, "output"),
    ],
)
@pytest.mark.parametrize("at", ["last", "all"])
def test_other_sites_equal_the_literal_loop(site: str, module, end: str, at: str) -> None:
    model = tiny("gpt2")
    behaviour = Behaviour.from_prompts(model, PAIRS, site, reference=PAIRS, intervene_at=at)
    assert behaviour.means is not None
    effects = behaviour.single_effects("mean")
    for item, prompt in enumerate(PAIRS):
        ids = ids_of(model, prompt.text)
        positions = [len(ids) - 1] if at == "last" else list(range(1, len(ids)))
        for neuron in range(0, len(behaviour.neurons), 11):
            block = behaviour.neurons.blocks[np.searchsorted(behaviour.neurons.offsets, neuron, "right") - 1]
            unit = int(behaviour.neurons[neuron].rpartition(".")[2])
            place = model.network.transformer.drop if block.layer < 0 else module(model.network, block.layer)
            change = (place, end, unit, np.full(len(ids), behaviour.means[neuron]))
            new = ablated_margin(
                model.network, [change], positions, ids, len(ids) - 1, *answers(model, prompt)
            )
            np.testing.assert_allclose(
                effects[item, neuron], behaviour.margin()[item] - new, rtol=1e-5, atol=1e-4
            )


@pytest.mark.parametrize("kind", ["bert_mlm", "distilbert"])
def test_masked_models_are_read_at_a_mask_after_the_prompt(kind: str) -> None:
    model = tiny(kind)
    prompts = SINGLES
    behaviour = Behaviour.from_prompts(model, prompts, "mlp_post", reference=prompts, intervene_at="all")
    assert behaviour.fast
    assert behaviour.means is not None
    effects = behaviour.single_effects("mean")
    for item, prompt in enumerate(prompts):
        ids = ids_of(model, f"{prompt.text} <mask>")
        read = len(ids) - 1
        base = margin(model.network, ids, read, *answers(model, prompt))
        np.testing.assert_allclose(behaviour.margin()[item], base, rtol=1e-5, atol=1e-4)
        for neuron in range(0, LAYERS * FFN, 9):
            values = np.full(len(ids), behaviour.means[neuron])
            change = (PLACES[kind](model.network, neuron // FFN), "input", neuron % FFN, values)
            new = ablated_margin(
                model.network, [change], range(1, len(ids)), ids, read, *answers(model, prompt)
            )
            np.testing.assert_allclose(effects[item, neuron], base - new, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("kind", ["bert_mlm", "distilbert"])
def test_of_an_encoder_s_last_block_what_follows_attention_runs_where_answers_are_read(kind: str) -> None:
    model = tiny(kind)
    behaviour = Behaviour.from_prompts(model, SINGLES, "mlp_post", reference=SINGLES, intervene_at="last")
    assert behaviour.means is not None
    rows: list[int] = []
    last = PLACES[kind](model.network, LAYERS - 1)
    handle = last.register_forward_pre_hook(lambda _, args: rows.append(args[0].shape[-2]))
    inside = [2 * FFN + 3, 2 * FFN + 7]
    margins = behaviour.ablate_sets([[1, 30], inside])
    handle.remove()
    assert set(rows) == {1}
    for item, prompt in enumerate(SINGLES):
        ids = ids_of(model, f"{prompt.text} <mask>")
        read = len(ids) - 1
        changes = [
            (last, "input", neuron % FFN, np.full(len(ids), behaviour.means[neuron])) for neuron in inside
        ]
        expected = ablated_margin(model.network, changes, [read], ids, read, *answers(model, prompt))
        np.testing.assert_allclose(margins[1, item], expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("at", ["last", "all"])
@pytest.mark.parametrize("kind", ["llama", "bert_mlm", "distilbert", "opt_post"])
def test_what_was_proven_of_one_model_serves_another_of_other_weights_and_widths(kind: str, at: str) -> None:
    model = tiny(kind)
    first = Behaviour.from_prompts(model, SINGLES, "mlp_post", reference=SINGLES, intervene_at=at)
    network = copy.deepcopy(model.network)
    if kind != "opt_post":
        added = widen(network, 1, 2)
        ffn(network, 1).output[list(added)] = 1.0
    with torch.no_grad():
        for parameter in network.parameters():
            parameter *= 1.1
    other = replace(model, network=network)
    neurons = other.neurons("mlp_post", [1, 2])
    means = np.linspace(-1, 1, len(neurons))
    fresh, taken = (
        Behaviour(other, SINGLES, neurons, means=means, intervene_at=at, proven=proven)
        for proven in (None, first)
    )
    assert fresh.fast == taken.fast == first.fast
    np.testing.assert_array_equal(taken.margin(), fresh.margin())
    assert np.abs(taken.margin() - first.margin()).max() > 0.01
    np.testing.assert_allclose(taken.single_effects(), fresh.single_effects(), atol=1e-5)
    sets = [[0], [3, 30], range(len(neurons))]
    np.testing.assert_allclose(taken.ablate_sets(sets), fresh.ablate_sets(sets), atol=1e-5)
    slopes = [one.contributions("integrated_gradients") for one in (taken, fresh)]
    np.testing.assert_allclose(*slopes, atol=1e-4)


def test_a_neuron_set_to_its_own_value_has_effect_zero() -> None:
    model = tiny("gpt2")
    same = [Prompt("a dog", 0, "rank", "b", ("runs", "run"), 0, source="a dog", source_answer=1)]
    behaviour = Behaviour.from_prompts(model, same, "mlp_post", reference=same, intervene_at="all")
    assert (behaviour.single_effects("source") == 0).all()


def test_means_at_the_last_token_weigh_behaviours_and_classes_alike() -> None:
    model = tiny("gpt2")
    texts = [("the dog", "verb", 0), ("the red dog", "verb", 0), ("the dogs", "verb", 1), ("a man", "be", 0)]
    prompts = [Prompt(text, label, "probe", name, ("runs", "run"), 0) for text, name, label in texts]
    means = reference_means(model, prompts, model.neurons("mlp_post"), "last")
    last = [
        np.concatenate(
            [values_of(model.network, PLACES["gpt2"](model.network, layer), "input", ids_of(model, text))[-1]
             for layer in range(LAYERS)]
        )
        for text, _, _ in texts
    ]  # fmt: skip
    np.testing.assert_allclose(means, ((last[0] + last[1]) / 2 + last[2] + last[3]) / 3, atol=1e-6)


def test_means_everywhere_leave_special_tokens_out() -> None:
    model = tiny("llama")
    prompts = SINGLES[:2]
    means = reference_means(model, prompts, model.neurons("mlp_post", "0"), "all")
    module = PLACES["llama"](model.network, 0)
    tokens = [values_of(model.network, module, "input", ids_of(model, p.text))[1:] for p in prompts]
    np.testing.assert_allclose(means, np.concatenate(tokens).mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("at", ["last", "all"])
def test_resample_is_seeded_and_averages_other_items(at: str) -> None:
    model = tiny("gpt2")
    two = (PAIRS[0], PAIRS[2])
    behaviour = Behaviour(model, two, model.neurons("mlp_post"), means=None, intervene_at=at)
    again = Behaviour(model, two, model.neurons("mlp_post"), means=None, intervene_at=at)
    effects = behaviour.single_effects("resample")
    assert (effects == again.single_effects("resample")).all()
    np.testing.assert_allclose(
        effects[:, 5], behaviour.margin() - behaviour.ablate([5], "resample"), rtol=1e-5, atol=1e-4
    )
    if at == "last":  # of two items the other one is the only donor
        for item, other in ((0, 1), (1, 0)):
            ids = ids_of(model, two[other].text)
            module = PLACES["gpt2"](model.network, 0)
            donor = values_of(model.network, module, "input", ids)[-1, 5]
            new = literal(model, "gpt2", two[item], [5], lambda n, p, donor=donor: donor, "last")
            np.testing.assert_allclose(effects[item, 5], behaviour.margin()[item] - new, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("at", ["last", "all"])
@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert_mlm"])
def test_integrated_gradients_of_a_layer_sum_to_its_joint_effect(kind: str, at: str) -> None:
    model = tiny(kind)
    behaviour = Behaviour.from_prompts(model, SINGLES, "mlp_post", reference=PAIRS, intervene_at=at)
    parts = behaviour.contributions("integrated_gradients", nodes=60)
    for start, stop in pairwise(behaviour.neurons.offsets):
        joint = behaviour.margin() - behaviour.ablate(range(start, stop), "mean")
        np.testing.assert_allclose(parts[:, start:stop].sum(axis=1), joint, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("at", ["last", "all"])
@pytest.mark.parametrize("kind", ["gpt2", "gpt_neox", "llama", "distilbert"])
def test_gradients_equal_small_differences(kind: str, at: str) -> None:
    model = tiny(kind)
    model.network.double()
    behaviour = Behaviour.from_prompts(model, SINGLES[:1], "mlp_post", reference=SINGLES, intervene_at=at)
    gradient = behaviour.contributions("gradient")
    ids = ids_of(model, SINGLES[0].text + (" <mask>" if kind == "distilbert" else ""))
    positions = [len(ids) - 1] if at == "last" else range(1, len(ids))
    for neuron in range(0, LAYERS * FFN, 10):
        module = PLACES[kind](model.network, neuron // FFN)
        values = values_of(model.network, module, "input", ids)[:, neuron % FFN]
        around = [
            ablated_margin(
                model.network,
                [(module, "input", neuron % FFN, values + step)],
                positions,
                ids,
                len(ids) - 1,
                *answers(model, SINGLES[0]),
            )
            for step in (3e-3, -3e-3)
        ]
        np.testing.assert_allclose(gradient[0, neuron], (around[0] - around[1]) / 6e-3, rtol=1e-3, atol=1e-3)


def test_gradient_times_activation_is_taken_from_the_baseline() -> None:
    model = tiny("gpt2")
    behaviour = Behaviour.from_prompts(model, PAIRS, "mlp_post", reference=PAIRS, intervene_at="last")
    gradient = behaviour.contributions("gradient")
    from_zero = behaviour.contributions("gradient_activation", baseline="zero")
    from_mean = behaviour.contributions("gradient_activation", baseline="mean")
    np.testing.assert_allclose(from_zero - from_mean, gradient * behaviour.means, rtol=1e-4, atol=1e-5)


def test_passes_count_parts_of_a_pass_as_parts() -> None:
    behaviour = Behaviour.from_prompts(
        tiny("gpt2"), SINGLES[:1], "mlp_post", reference=SINGLES, intervene_at="last"
    )
    behaviour.passes.reset()
    behaviour.single_effects("mean")
    # a prompt of two tokens and BOS: 24 neurons times (2 + 1 + 0 of 3) blocks, one token of three
    assert behaviour.passes.forward == pytest.approx(24 * (2 + 1 + 0) / 3 / 3)
    assert behaviour.passes.backward == 0
    behaviour.passes.reset()
    behaviour.contributions("gradient")
    assert (behaviour.passes.forward, behaviour.passes.backward) == (pytest.approx(1 / 3), 1)


def test_wrong_prompts_are_refused_by_name() -> None:
    model = tiny("gpt2")
    good = Prompt("the dog", 0, "rank", "b", ("runs", "run"), 0)

    def open_with(**changes: object) -> None:
        prompt = Prompt(**{**{name: getattr(good, name) for name in good.__slots__}, **changes})
        Behaviour(model, [prompt], model.neurons("mlp_post"), means=None, intervene_at="last")

    with pytest.raises(InputError, match=r"'runs big' after 'the dog' is runs big; expected one token"):
        open_with(answers=("runs big", "run"))
    with pytest.raises(InputError, match=r"'barks' after 'the dog' is <unk>"):
        open_with(answers=("barks", "run"))
    with pytest.raises(InputError, match=r"twin 'the red dogs' has 4 tokens, its prompt 'the dog' has 3"):
        open_with(source="the red dogs", source_answer=1)
    with pytest.raises(InputError, match="expected two or more"):
        open_with(answers=("runs",))
    with pytest.raises(InputError, match="has no token of its own"):
        open_with(text="")
    with pytest.raises(InputError, match=r"has 41 tokens; the model takes 32"):
        open_with(text="the dog " * 20)
    behaviour = Behaviour(model, [good], model.neurons("mlp_post"), means=None, intervene_at="last")
    with pytest.raises(InputError, match="has no means"):
        behaviour.single_effects("mean")
    with pytest.raises(InputError, match=r"'the dog' has no twin"):
        behaviour.ablate([0], "source")
    with pytest.raises(InputError, match="expected two prompts or more"):
        behaviour.ablate([0], "resample")
    with pytest.raises(InputError, match=r"No neuron 72; expected flat ids 0..71"):
        behaviour.ablate([72], "zero")
    with pytest.raises(InputError, match=r"No replacement named 'meen'. Did you mean 'mean'\?"):
        behaviour.ablate([0], "meen")  # type: ignore[arg-type]


def test_an_encoder_without_a_head_has_no_behaviour() -> None:
    model = LanguageModel.from_network(network("bert", 64), piece_tokenizer())
    with pytest.raises(InputError, match="has no language model head"):
        Behaviour(model, SINGLES, model.neurons("mlp_post"), means=None, intervene_at="all")


TEMPLATES = (
    "Once upon a time, there was a little {child} named {n}.",
    "{n} was very happy.",
    "{n} went to the park.",
    "One day, {n} saw a big dog.",
    "{n} had a red ball.",
    "{n} was sad.",
    "There was a {child} named {n}.",
    "{n} wanted to play.",
)
NAMES = {
    "girl": ("Lily", "Sara", "Anna", "Mia", "Lucy", "Amy", "Sue", "Emma", "Jane", "Molly"),
    "boy": ("Tim", "Tom", "Ben", "Max", "Jack", "Sam", "Bob", "John", "Timmy", "Billy"),
}


def stories_prompts() -> list[Prompt]:
    return [
        Prompt(
            template.format(child=child, n=name), label, "rank", "pronoun", ("She", "He"), label, group=name
        )
        for template in TEMPLATES
        for label, (child, names) in enumerate(NAMES.items())
        for name in names
    ]


def test_a_real_model_hangs_its_pronouns_on_one_neuron(shared: Path) -> None:
    model = load_model(shared / "models" / "stories260K")
    prompts = stories_prompts()
    behaviour = Behaviour.from_prompts(model, prompts, "mlp_post", reference=prompts, intervene_at="all")
    assert behaviour.fast
    margins = behaviour.margin()
    assert (margins > 0).mean() == pytest.approx(155 / 160)  # .969
    assert margins.mean() == pytest.approx(3.92, abs=0.005)
    candidates = [
        behaviour.neurons.index(name) for name in ("L2.mlp_post.15", "L3.mlp_post.7", "L4.mlp_post.96")
    ]
    drops = margins.mean() - behaviour.ablate_sets([[neuron] for neuron in candidates]).mean(axis=1)
    assert drops[0] == pytest.approx(1.86, abs=0.005)
    assert drops[1] == pytest.approx(0.63, abs=0.005)


@pytest.mark.slow
def test_exact_ablation_of_a_real_model_puts_that_neuron_first(shared: Path) -> None:
    model = load_model(shared / "models" / "stories260K")
    prompts = stories_prompts()
    behaviour = Behaviour.from_prompts(model, prompts, "mlp_post", reference=prompts, intervene_at="all")
    drops = behaviour.single_effects("mean").mean(axis=0)
    first, second = np.argsort(-np.abs(drops))[:2]
    assert behaviour.neurons[int(first)] == "L2.mlp_post.15"
    assert drops[first] == pytest.approx(1.86, abs=0.005)
    assert behaviour.neurons[int(second)] == "L3.mlp_post.7"
    assert drops[second] == pytest.approx(0.63, abs=0.005)


def test_answers_are_looked_up_where_they_stand(shared: Path) -> None:
    model = load_model(shared / "models" / "stories260K")
    assert len(model.tokenizer(" She", add_special_tokens=False)["input_ids"]) == 2  # the trap
    behaviour = Behaviour.from_prompts(
        model, stories_prompts()[:2], "mlp_post", reference=stories_prompts()[:2], intervene_at="last"
    )
    assert model.tokenizer.convert_ids_to_tokens(int(behaviour._encoded.correct[0])) == "▁She"
