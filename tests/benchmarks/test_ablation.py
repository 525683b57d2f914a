"""How fast exact single-neuron ablation is beside one whole forward pass per neuron."""

import time

import numpy as np
import pytest
import torch

from nibench.interventions import Behaviour
from nibench.model import LanguageModel, load_model
from nibench.task import Prompt
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
