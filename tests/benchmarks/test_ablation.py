"""How fast exact single-neuron ablation is beside one whole forward pass per neuron."""

import time

import numpy as np
import pytest
import torch

from nibench import load_task
from nibench.interventions import Behaviour
from nibench.model import LanguageModel, load_model
from nibench.readout import readout_task, with_readout
from nibench.task import Prompt
from tests.references.ablation import ablated_margin
from tests.test_interventions import stories_prompts
from tests.tiny import WORDS, network, word_tokenizer

pytest.importorskip("pytest_benchmark")


def one_pass_per_neuron(behaviour: Behaviour, neurons: range) -> np.ndarray:
    """(M, len(neurons)): the plain loop. All prompts padded to one batch, a hook, one pass per neuron."""
    model, means = behaviour.model, behaviour.means
    assert means is not None
    encoded = behaviour._encoded
    longest = max(len(ids) for ids in encoded.ids)
    ids = torch.zeros(len(encoded.ids), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(encoded.ids):
        ids[row, : len(prompt)] = torch.tensor(prompt)
        mask[row, : len(prompt)] = 1
    acts = mask.bool() & ~torch.isin(ids, torch.tensor(sorted(model.special_ids)))
    rows, read = torch.arange(len(ids)), torch.from_numpy(encoded.read)
    right, wrong = torch.from_numpy(encoded.correct), torch.from_numpy(encoded.wrong[:, 0])
    margins = np.empty((len(ids), len(neurons)))
    for column, neuron in enumerate(neurons):
        layer, unit = divmod(neuron, behaviour.neurons.blocks[0].width)

        def replace(_, args, unit=unit, value=float(means[neuron])):
            values = args[0].clone()
            values[..., unit] = torch.where(acts, value, values[..., unit])
            return (values,)

        projection = model.network.model.layers[layer].mlp.down_proj
        handle = projection.register_forward_pre_hook(replace)
        with torch.no_grad():
            logits = model.network(input_ids=ids, attention_mask=mask).logits[rows, read]
        handle.remove()
        margins[:, column] = (logits[rows, right] - logits[rows, wrong]).numpy()
    return behaviour.margin()[:, None] - margins


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_all_positions_at_least_four_times_the_speed_of_whole_passes(benchmark, shared) -> None:
    """860 neurons x 160 prompts of a real model, by processor time; the plain loop is timed on every 20th."""
    model = load_model(shared / "models" / "stories260K", device="cpu")
    prompts = stories_prompts()
    behaviour = Behaviour.from_prompts(model, prompts, "mlp_post", reference=prompts, intervene_at="all")
    some = range(0, 860, 20)
    start = time.process_time()
    expected = one_pass_per_neuron(behaviour, some)
    plain = (time.process_time() - start) * 860 / len(some)
    start = time.process_time()
    effects = benchmark.pedantic(behaviour.single_effects, rounds=1)
    ratio = plain / (time.process_time() - start)
    np.testing.assert_allclose(effects[:, ::20], expected, rtol=1e-5, atol=1e-4)
    benchmark.extra_info["times the speed of whole passes"] = ratio
    assert ratio >= 4


@pytest.mark.parametrize("to", ["mean", "source"])
@pytest.mark.usefixtures("one_thread")
def test_the_last_position_of_a_small_gpt2(benchmark, to: str) -> None:
    """1,536 neurons x 150 prompts of about 10 tokens: seconds on one thread (aim: 3 on an idle core)."""
    model = LanguageModel.from_network(
        network("gpt2", n_embd=96, n_layer=4, n_head=4, n_inner=384), word_tokenizer(), "small gpt2"
    )
    rng = np.random.default_rng(0)
    prompts = []
    for number in range(150):
        words = rng.choice(WORDS, rng.integers(7, 13))
        twin = [rng.choice(WORDS), *words[1:]]
        text, source = " ".join(words), " ".join(twin)
        prompts.append(
            Prompt(text, number % 2, "rank", "b", ("run", "runs"), number % 2, source, 1 - number % 2)
        )
    behaviour = Behaviour.from_prompts(model, prompts, "mlp_post", reference=prompts, intervene_at="last")
    assert behaviour.fast
    effects = benchmark.pedantic(behaviour.single_effects, args=(to,), rounds=2)
    assert effects.shape == (150, 1536)


def processor_seconds(call):
    """Of all threads, and what the call returns."""
    start = time.process_time()
    result = call()
    return time.process_time() - start, result


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_real_encoder_with_a_frozen_readout(benchmark, minilm, shared) -> None:
    """MiniLM-L6, 40 words in their sentences of UD English-EWT, every 384th of 9,216 neurons set to its mean.

    Beside them the 50 neurons with the largest first-order estimates, taken of all neurons and all prompts.
    What 200 prompts would take is five times as much.
    """
    task = readout_task(load_task("part_of_speech_ewt"))
    corpus = task.source.load(seed=0, data=shared / "data", folder=None, cap=16_000)
    probe, rank = ([p for p in corpus.prompts if p.split == split] for split in ("probe", "rank"))
    model = with_readout(load_model(minilm, device="cpu"), tuple(probe))
    prompts = rank[:: len(rank) // 40][:40]
    behaviour = Behaviour.from_prompts(model, prompts, "mlp_post", reference=prompts, intervene_at="last")
    assert behaviour.fast
    n_neurons, chosen = len(behaviour.neurons), np.arange(192, 9216, 384)
    exact, effects = processor_seconds(
        lambda: benchmark.pedantic(behaviour.single_effects, kwargs={"neurons": chosen}, rounds=1)
    )
    one = exact / len(chosen)
    estimate, slopes = processor_seconds(lambda: behaviour.contributions("gradient_activation"))
    first = np.argsort(-np.abs(slopes.mean(axis=0)))[:50]
    verified, _ = processor_seconds(lambda: behaviour.single_effects(neurons=first))

    encoded, means, worst, literal = behaviour._encoded, behaviour.means, 0.0, 0.0
    assert means is not None
    for item in range(0, len(prompts), 10):
        ids, read = list(encoded.ids[item]), int(encoded.read[item])
        correct, wrong = int(encoded.correct[item]), [int(i) for i in encoded.wrong[item] if i >= 0]
        for column in range(0, len(chosen), 4):
            layer, unit = divmod(int(chosen[column]), 1536)
            place = model.network.base_model.encoder.layer[layer].output.dense
            change = (place, "input", unit, np.full(len(ids), means[chosen[column]]))
            spent, margin = processor_seconds(
                lambda ids=ids, read=read, change=change, correct=correct, wrong=wrong: ablated_margin(
                    model.network, [change], [read], ids, read, correct, wrong
                )
            )
            literal += spent
            worst = max(worst, abs(behaviour.margin()[item] - margin - effects[item, column]))
    literal *= len(prompts) / (len(range(0, len(prompts), 10)) * len(range(0, len(chosen), 4)))
    benchmark.extra_info.update(
        {
            "prompts": len(prompts),
            "seconds a neuron, exact": round(one, 3),
            "seconds a neuron, one literal pass a prompt": round(literal, 3),
            "minutes for all neurons and 200 prompts, exact, by extension": round(
                one * n_neurons / 60 * 5, 1
            ),
            "seconds for the estimates of all neurons": round(estimate, 2),
            "seconds to verify the first 50": round(verified, 2),
            "times the speed of exact ablation": round(one * n_neurons / (estimate + verified), 1),
            "largest difference to the literal passes": float(f"{worst:.1e}"),
        }
    )
    print(benchmark.extra_info)
    assert worst < 1e-4
    assert literal > one


def products(config, n_tokens: int, start: int) -> float:
    """Multiplications and additions of one prompt's run from block ``start`` on, all positions, as matrix products.

    Of the last block only the keys and values of all positions are needed; the rest, and the answers, at one.
    """
    d, kept = config.hidden_size, config.num_key_value_heads / config.num_attention_heads
    keys, queries = 2 * 2 * d * d * kept, 2 * 2 * d * d
    feed_forward, attention = 3 * 2 * d * config.intermediate_size, 2 * 2 * d * n_tokens
    whole = keys + queries + feed_forward + attention
    blocks = config.num_hidden_layers - start
    if blocks == 0:
        return 0.0
    return (blocks - 1) * n_tokens * whole + n_tokens * keys + queries + feed_forward + attention


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_exact_ablation_beside_the_arithmetic_it_cannot_do_without(benchmark, shared) -> None:
    """860 neurons x 160 prompts of a real model, beside its products at the rate of one product of such a shape."""
    model = load_model(shared / "models" / "stories260K", device="cpu")
    prompts = stories_prompts()
    behaviour = Behaviour.from_prompts(model, prompts, "mlp_post", reference=prompts, intervene_at="all")
    config = model.network.config
    needed = config.intermediate_size * sum(
        products(config, len(ids) - 1, layer + 1)  # the first position never changes
        for ids in behaviour._encoded.ids
        for layer in range(config.num_hidden_layers)
    )
    many, d, f = 8192, config.hidden_size, config.intermediate_size
    left, right = torch.randn(many, d), torch.randn(d, f)
    ratios = []

    def both() -> None:
        rates = []
        for _ in range(2):  # before and after: the machine is not alone
            spent, _ = processor_seconds(lambda: [left @ right for _ in range(50)])
            rates.append(50 * 2 * many * d * f / spent)
            if len(rates) == 1:
                taken, _ = processor_seconds(behaviour.single_effects)
        ratios.append((taken / (needed / np.mean(rates)), taken, np.mean(rates) / 1e9))

    benchmark.pedantic(both, rounds=1)
    ((ratio, taken, rate),) = ratios
    benchmark.extra_info.update(
        {
            "times the time of the products": round(float(ratio), 2),
            "seconds": round(taken, 2),
            "GFLOP needed": round(needed / 1e9, 1),
            "GFLOP/s of a product": round(float(rate), 1),
        }
    )
    print(benchmark.extra_info)
    assert ratio > 1
