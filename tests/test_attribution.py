"""Contributions against the literal loops of `tests/references/attribution.py`, Captum, and laws that hold."""

import warnings
from itertools import pairwise
from pathlib import Path as File

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nibench.attribution import Path
from nibench.errors import InputError
from nibench.interventions import Behaviour
from nibench.model import LanguageModel, load_model
from tests.references import attribution as literal
from tests.references.ablation import values_of
from tests.test_interventions import (
    FFN,
    LAYERS,
    PAIRS,
    PLACES,
    SINGLES,
    answers,
    ids_of,
    stories_prompts,
)
from tests.tiny import network, tiny, word_tokenizer


def opened(kind: str, at: str, prompts=PAIRS, site: str = "mlp_post") -> Behaviour:
    return Behaviour.from_prompts(tiny(kind), prompts, site, reference=prompts, intervene_at=at)  # type: ignore[arg-type]


def modules_of(behaviour: Behaviour, kind: str) -> list[torch.nn.Module]:
    return [PLACES[kind](behaviour.model.network, layer) for layer in range(LAYERS)]


def read_at(behaviour: Behaviour, kind: str, text: str) -> tuple[list[int], int]:
    ids = ids_of(behaviour.model, f"{text} <mask>" if kind in ("bert_mlm", "distilbert") else text)
    return ids, len(ids) - 1


# ---------------------------------------------------------------- paths


@given(nodes=st.integers(2, 12), rule=st.sampled_from(["gauss", "trapezoid", "left", "right", "ends"]))
def test_a_path_weighs_to_one_and_ascends_within_the_way(nodes: int, rule) -> None:
    path = Path.of(rule, nodes)
    assert path.weights.sum() == pytest.approx(1)
    assert (np.diff(path.at) > 0).all()
    assert 0 <= path.at[0] < path.at[-1] <= 1


@given(nodes=st.integers(1, 8))
def test_gauss_legendre_is_exact_for_polynomials_of_twice_its_nodes(nodes: int) -> None:
    path = Path.of("gauss", nodes)
    for power in range(2 * nodes):
        assert path.weights @ path.at**power == pytest.approx(1 / (power + 1), abs=1e-12)


def test_the_rules_by_hand() -> None:
    assert Path.of("left", 4).at.tolist() == [0, 0.25, 0.5, 0.75]
    assert Path.of("right", 4).at.tolist() == [0.25, 0.5, 0.75, 1]
    assert Path.of("ends", 5).at.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert Path.of("ends", 5).weights.tolist() == [0.2] * 5
    assert Path.of("trapezoid", 3).weights.tolist() == [0.25, 0.5, 0.25]
    with pytest.raises(InputError, match="A path has 1 nodes; expected 2 or more for the rule 'ends'"):
        Path.of("ends", 1)
    with pytest.raises(InputError, match=r"No rule named 'gaus'. Did you mean 'gauss'\?"):
        Path.of("gaus", 3)  # type: ignore[arg-type]


# ---------------------------------------------------------------- through the neurons


@pytest.mark.parametrize("at", ["last", "all"])
@pytest.mark.parametrize("kind", ["gpt2", "llama", "gemma2", "bert_mlm", "distilbert"])
def test_integrated_gradients_equal_one_pass_per_point(kind: str, at: str) -> None:
    behaviour = opened(kind, at)
    path = Path.of("gauss", 3)
    credits = behaviour.contributions("integrated_gradients", nodes=3)
    means = np.split(behaviour.means, LAYERS)  # type: ignore[arg-type]
    for item, prompt in enumerate(PAIRS[:3]):
        ids, read = read_at(behaviour, kind, prompt.text)
        positions = [read] if at == "last" else list(range(1, len(ids)))
        for layer, module in enumerate(modules_of(behaviour, kind)):
            values = values_of(behaviour.model.network, module, "input", ids)
            expected = literal.integrated_gradients(
                behaviour.model.network, module, ids, read, literal.margin_of(*answers(behaviour.model, prompt)),
                positions, values, np.broadcast_to(means[layer], values.shape), path.at, path.weights,  # type: ignore[arg-type]
            )  # fmt: skip
            found = credits[item, layer * FFN : (layer + 1) * FFN]
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("target", ["probability", "log_probability"])
@pytest.mark.parametrize(("kind", "at"), [("gpt2", "last"), ("llama", "all"), ("bert_mlm", "all")])
def test_the_answer_among_all_words_can_be_attributed(kind: str, at: str, target) -> None:
    behaviour = opened(kind, at)
    path = Path.of("left", 4)
    credits = behaviour.contributions(
        "integrated_gradients", nodes=4, baseline="zero", rule="left", target=target
    )
    prompt = PAIRS[0]
    ids, read = read_at(behaviour, kind, prompt.text)
    positions = [read] if at == "last" else list(range(1, len(ids)))
    correct, _ = answers(behaviour.model, prompt)
    score = (literal.probability_of if target == "probability" else literal.log_probability_of)(correct)
    for layer, module in enumerate(modules_of(behaviour, kind)):
        values = values_of(behaviour.model.network, module, "input", ids)
        expected = literal.integrated_gradients(
            behaviour.model.network, module, ids, read, score, positions, values, np.zeros_like(values),
            path.at, path.weights,  # type: ignore[arg-type]
        )  # fmt: skip
        np.testing.assert_allclose(
            credits[0, layer * FFN : (layer + 1) * FFN], expected, rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("site", ["residual", "mlp_pre", "attn_out"])
@pytest.mark.parametrize("kind", ["gpt2", "bert_mlm"])
def test_a_layer_of_any_site_adds_up_to_its_joint_effect(kind: str, site: str) -> None:
    behaviour = opened(kind, "all", site=site)
    credits = behaviour.contributions("integrated_gradients", nodes=40)
    for start, stop in pairwise(behaviour.neurons.offsets):
        joint = behaviour.margin() - behaviour.ablate(range(start, stop), "mean")
        np.testing.assert_allclose(credits[:, start:stop].sum(axis=1), joint, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("site", ["residual", "mlp_post", "attn_out"])
@pytest.mark.parametrize("kind", ["bert_mlm", "distilbert"])
def test_a_masked_model_runs_in_parts(kind: str, site: str) -> None:
    behaviour = opened(kind, "all", site=site)
    assert behaviour.fast
    some = range(0, len(behaviour.neurons), 7)
    margins = behaviour.ablate_sets([[neuron] for neuron in some], "source")
    effects = behaviour.single_effects("source", neurons=some)
    np.testing.assert_allclose(effects, behaviour.margin()[:, None] - margins.T, rtol=1e-5, atol=1e-4)
    behaviour.passes.reset()
    behaviour.single_effects("mean", neurons=range(len(behaviour.neurons) - 8, len(behaviour.neurons)))
    whole = 8 * len(PAIRS) / LAYERS  # a last block's neurons need no block at all, unless they are inside it
    assert behaviour.passes.forward == pytest.approx(whole if site == "attn_out" else 0)


# ---------------------------------------------------------------- through the words


@pytest.mark.parametrize("baseline", ["mean", "zero", "source"])
@pytest.mark.parametrize(("kind", "at"), [("gpt2", "last"), ("llama", "all"), ("bert_mlm", "all")])
def test_paths_of_words_equal_one_pass_per_point(kind: str, at: str, baseline) -> None:
    behaviour = opened(kind, at)
    network_, table = behaviour.model.network, behaviour.model.network.get_input_embeddings().weight.detach()
    found = {
        name: behaviour.contributions(name, nodes=5, rule=rule, baseline=baseline)  # type: ignore[arg-type]
        for name, rule in (("conductance", "trapezoid"), ("input_gradients", "right"))
    }
    left = behaviour.contributions("conductance", nodes=5, rule="left", baseline=baseline)
    every = [ids for prompt in PAIRS for ids in read_at(behaviour, kind, prompt.text)[0][1:]]
    for item, prompt in enumerate(PAIRS[:3]):
        ids, read = read_at(behaviour, kind, prompt.text)
        positions = [read] if at == "last" else list(range(1, len(ids)))
        start = table[ids].clone()
        if baseline == "source":
            start = table[read_at(behaviour, kind, prompt.source or "")[0]]
        else:
            start[1:] = table[every].mean(dim=0) if baseline == "mean" else 0
        score = literal.margin_of(*answers(behaviour.model, prompt))
        modules = modules_of(behaviour, kind)
        values, slopes = literal.along_words(
            network_, modules, ids, start, read, score, np.linspace(0, 1, 5).tolist()
        )
        steps = np.diff(values, axis=0)
        expected = ((slopes[1:] + slopes[:-1]) / 2 * steps).sum(axis=0)[:, positions].sum(axis=1)
        np.testing.assert_allclose(found["conductance"][item], expected.ravel(), rtol=1e-3, atol=1e-4)
        values, slopes = literal.along_words(
            network_, modules, ids, start, read, score, [0, 0.2, 0.4, 0.6, 0.8, 1]
        )
        expected = (slopes[:4] * np.diff(values[:5], axis=0)).sum(axis=0)[:, positions].sum(axis=1)
        np.testing.assert_allclose(left[item], expected.ravel(), rtol=1e-3, atol=1e-4)
        expected = (slopes[1:].mean(axis=0) * (values[-1] - values[0]))[:, positions].sum(axis=1)
        np.testing.assert_allclose(found["input_gradients"][item], expected.ravel(), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_conductance_of_a_whole_layer_adds_up_to_the_change_of_the_margin(kind: str) -> None:
    behaviour = opened(kind, "all", site="residual")
    credits = behaviour.contributions("conductance", nodes=200, baseline="source")
    change = behaviour.margin() - behaviour.source_margin()
    for start, stop in pairwise(behaviour.neurons.offsets):
        np.testing.assert_allclose(credits[:, start:stop].sum(axis=1), change, rtol=5e-3, atol=5e-3)


def test_one_step_at_the_prompt_is_the_gradient_there() -> None:
    behaviour = opened("gpt2", "last")
    np.testing.assert_allclose(
        behaviour.contributions("input_gradients", nodes=1, baseline="source"),
        behaviour.contributions("gradient_activation", baseline="source"),
        rtol=1e-3, atol=1e-5,
    )  # fmt: skip


# ---------------------------------------------------------------- secants


@pytest.mark.parametrize("at", ["last", "all"])
def test_deeplift_is_the_piecewise_linear_network_one_neuron_at_a_time(at: str) -> None:
    behaviour = opened("gpt2", at)
    found = behaviour.contributions("deeplift", baseline="source")
    slow = literal.LinearGPT2(behaviour.model.network)
    for item, prompt in enumerate(PAIRS):
        ids, source = (ids_of(behaviour.model, text) for text in (prompt.text, prompt.source or ""))
        correct, (wrong,) = answers(behaviour.model, prompt)
        positions = [len(ids) - 1] if at == "last" else list(range(1, len(ids)))
        for neuron in range(0, LAYERS * FFN, 5):
            expected = slow.contribution(ids, source, *divmod(neuron, FFN), positions, correct, wrong)
            np.testing.assert_allclose(found[item, neuron], expected, rtol=2e-3, atol=5e-4)


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_deeplift_is_complete_where_attention_and_norms_do_not_change(kind: str) -> None:
    made = network(kind)
    with torch.no_grad():
        for module in made.modules():
            if type(module).__name__.endswith(
                "Norm"
            ):  # a large epsilon: the scale is the same for every input
                name = "eps" if hasattr(module, "eps") else "variance_epsilon"
                setattr(module, name, 1e4)
                module.weight *= 100
        for name, weight in made.named_parameters():
            if "attn.c_proj" in name or "o_proj" in name:
                weight.zero_()
    model = LanguageModel.from_network(made, word_tokenizer())
    swapped = tuple(  # the concept's word last, for nothing passes between positions
        type(p)("the near cat", p.label, p.split, "verb", ("runs", "run"), 0, "the near men", 1, str(number))
        for number, p in enumerate(PAIRS[:2])
    )
    behaviour = Behaviour.from_prompts(model, swapped, "residual", reference=swapped, intervene_at="last")
    change = behaviour.margin() - behaviour.source_margin()
    assert (np.abs(change) > 0.05).all()
    found = behaviour.contributions("deeplift", baseline="source")
    plain = behaviour.contributions("gradient_activation", baseline="source")
    for start, stop in pairwise(behaviour.neurons.offsets):
        np.testing.assert_allclose(found[:, start:stop].sum(axis=1), change, rtol=2e-3, atol=1e-3)
    assert (
        np.abs(plain[:, :16].sum(axis=1) - change).max()
        > 10 * np.abs(found[:, :16].sum(axis=1) - change).max()
    )


# ---------------------------------------------------------------- another implementation


@pytest.fixture(scope="module")
def captum():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("captum.attr")


@pytest.mark.parametrize("rule", ["gauss", "trapezoid"])
def test_captum_agrees_on_conductance_and_integrated_gradients(captum, rule: str) -> None:
    behaviour = opened("gpt2", "all")
    net, prompt = behaviour.model.network, PAIRS[0]
    table = net.get_input_embeddings().weight.detach()
    ids, source = (ids_of(behaviour.model, text) for text in (prompt.text, prompt.source or ""))
    score = literal.margin_of(*answers(behaviour.model, prompt))

    def forward(words: torch.Tensor) -> torch.Tensor:
        return torch.stack([score(row) for row in net(inputs_embeds=words).logits[:, -1]])

    ours = behaviour.contributions("conductance", nodes=21, rule=rule, baseline="source")[0]  # type: ignore[arg-type]
    credits = behaviour.contributions("integrated_gradients", nodes=20, baseline="source")[0]
    for layer, module in enumerate(modules_of(behaviour, "gpt2")):
        columns = slice(layer * FFN, (layer + 1) * FFN)
        if rule == "gauss":  # n steps of the library are n + 1 points with the left slope
            theirs = captum.LayerConductance(forward, module).attribute(
                table[ids][None], baselines=table[source][None], n_steps=20, attribute_to_layer_input=True
            )
            np.testing.assert_allclose(ours[columns], theirs[0].sum(0).detach(), rtol=1e-3, atol=1e-4)
        else:
            theirs = captum.LayerIntegratedGradients(forward, module).attribute(
                table[ids][None], baselines=table[source][None], n_steps=20, attribute_to_layer_input=True
            )
            theirs = theirs[0] if isinstance(theirs, tuple) else theirs
            np.testing.assert_allclose(credits[columns], theirs[0].sum(0).detach(), rtol=1e-3, atol=1e-4)


# ---------------------------------------------------------------- a real model, screening, bad input


def test_a_real_model_in_parts_equals_one_pass_per_point(shared: File) -> None:
    model = load_model(shared / "models" / "stories260K")
    prompts = stories_prompts()[:2]
    behaviour = Behaviour.from_prompts(model, prompts, "mlp_post", reference=prompts, intervene_at="all")
    credits = behaviour.contributions("integrated_gradients", nodes=3, baseline="zero")
    path = Path.of("gauss", 3)
    ids = list(behaviour._encoded.ids[0])
    score = literal.margin_of(int(behaviour._encoded.correct[0]), behaviour._encoded.wrong[0].tolist())
    for layer in (0, 2, 4):
        module = PLACES["llama"](model.network, layer)
        values = values_of(model.network, module, "input", ids)
        expected = literal.integrated_gradients(
            model.network, module, ids, len(ids) - 1, score, range(1, len(ids)), values, np.zeros_like(values),
            path.at, path.weights,  # type: ignore[arg-type]
        )  # fmt: skip
        start, stop = behaviour.neurons.offsets[layer : layer + 2]
        np.testing.assert_allclose(credits[0, start:stop], expected, rtol=1e-3, atol=1e-4)


def test_what_cannot_be_attributed_is_said_in_one_line() -> None:
    behaviour = opened("gpt2", "last", prompts=SINGLES)
    with pytest.raises(InputError, match="has no twin; expected pairs"):
        behaviour.contributions("deeplift", baseline="source")
    with pytest.raises(InputError, match="has no twin; expected pairs"):
        behaviour.contributions("gradient_activation", baseline="source")
    with pytest.raises(InputError, match=r"No contribution named 'gradients'. Did you mean 'gradient'\?"):
        behaviour.contributions("gradients")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="No target named 'logit'"):
        behaviour.contributions("gradient", target="logit")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="No baseline named 'resample'"):
        behaviour.contributions("gradient_activation", baseline="resample")  # type: ignore[arg-type]


def test_a_block_without_a_module_for_its_non_linearity_is_refused_by_deeplift() -> None:
    behaviour = opened("gpt2", "last")
    block = behaviour.model.network.transformer.h[1].mlp
    block.act = torch.nn.Identity()
    with pytest.raises(InputError, match="Block 1 of a gpt2 has 0 modules that are an element-wise"):
        behaviour.contributions("deeplift", baseline="source")


@pytest.mark.parametrize("kind", ["gradient", "integrated_gradients", "conductance"])
def test_a_model_without_gradients_is_refused(kind) -> None:
    model = tiny("gpt2")
    block = model.network.transformer.h[1]
    block.forward = torch.no_grad()(block.forward)
    behaviour = Behaviour.from_prompts(model, PAIRS, "mlp_post", reference=PAIRS, intervene_at="last")
    assert np.isfinite(behaviour.single_effects("source")).all()
    with pytest.raises(InputError, match="tiny gpt2 gives no gradients"):
        behaviour.contributions(kind)
