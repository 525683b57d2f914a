"""What attribution costs beside bare passes, as ratios of processor time in one run."""

import time
from collections.abc import Callable

import numpy as np
import pytest
import torch

from nibench.interventions import Behaviour
from nibench.model import LanguageModel, load_model
from nibench.submissions import find_method
from nibench.task import Prompt
from tests.benchmarks.test_ablation import one_pass_per_neuron, one_thread  # noqa: F401
from tests.test_interventions import stories_prompts
from tests.tiny import WORDS, network, word_tokenizer

pytest.importorskip("pytest_benchmark")
NODES, LAYERS = 20, 6


def seconds(function: Callable[[], object], repeats: int = 3) -> float:
    """The least processor time of some calls."""
    taken = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        taken.append(time.process_time() - start)
    return min(taken)


def masked(n_prompts: int, n_words: int = 14) -> tuple[LanguageModel, list[Prompt]]:
    """A random masked language model as large as MiniLM-L6, and prompts of one length."""
    made = network(
        "bert_mlm", 30522, hidden_size=384, num_hidden_layers=LAYERS, num_attention_heads=12,
        intermediate_size=1536,
    )  # fmt: skip
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, n_words)) for _ in range(n_prompts)]
    prompts = [Prompt(text, 0, "rank", "b", ("run", "runs"), 0) for text in texts]
    return LanguageModel.from_network(made, word_tokenizer(), "as large as MiniLM"), prompts


def bare(model: LanguageModel, behaviour: Behaviour, layer: int) -> Callable[[], None]:
    """Forward and backward of 20 rows from the input of a block on, the head at the answer's place."""
    run = behaviour._runs[0]
    rows = run.hidden(layer).repeat(NODES, 1, 1)  # type: ignore[attr-defined]

    def call() -> None:
        hidden = start = rows.clone().requires_grad_()
        for block in model.network.bert.encoder.layer[layer:]:
            hidden = block(hidden)
        at = model.network.cls.predictions.transform(hidden[:, -1])
        logits = at @ model.network.get_output_embeddings().weight[run.group.tokens].T
        torch.autograd.grad((logits[:, 0] - logits[:, 1]).sum(), start)

    return call


@pytest.mark.usefixtures("one_thread")
def test_integrated_gradients_cost_no_more_than_bare_passes_from_the_layer_on(benchmark) -> None:
    model, prompts = masked(1)
    every = Behaviour.from_prompts(model, prompts, "mlp_post", reference=prompts, intervene_at="all")
    assert every.fast
    one, plain = [], []
    for layer in range(LAYERS):
        own = Behaviour.from_prompts(
            model, prompts, "mlp_post", str(layer), reference=prompts, intervene_at="all"
        )
        calls = (
            bare(model, every, layer),
            lambda own=own: own.contributions("integrated_gradients", nodes=NODES),
        )
        taken = [[seconds(call, 1) for call in calls] for _ in range(5)]  # in turn: both see the same machine
        plain.append(min(row[0] for row in taken))
        one.append(min(row[1] for row in taken))
    benchmark.pedantic(every.contributions, args=("integrated_gradients", NODES), rounds=1)
    together = seconds(lambda: every.contributions("integrated_gradients", nodes=NODES))
    conductance = seconds(lambda: every.contributions("conductance", nodes=NODES), 2)
    benchmark.extra_info["a layer beside bare passes"] = [
        round(a / b, 2) for a, b in zip(one, plain, strict=True)
    ]
    benchmark.extra_info["all layers beside bare passes of all"] = round(together / sum(plain), 2)
    benchmark.extra_info["conductance of all layers beside bare passes from the first"] = round(
        conductance / plain[0], 2
    )
    print(benchmark.extra_info)
    assert all(a <= b * 1.15 for a, b in zip(one, plain, strict=True))
    assert together <= 1.15 * sum(plain)
    assert conductance <= 1.6 * plain[0]


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_screening_finds_the_same_first_fifty_ten_times_as_fast_as_whole_passes(benchmark, shared) -> None:
    """860 neurons x 160 prompts of a real model; the plain loop is timed on every 40th neuron."""
    model = load_model(shared / "models" / "stories260K", device="cpu")
    prompts = stories_prompts()
    behaviour = Behaviour.from_prompts(model, prompts, "mlp_post", reference=prompts, intervene_at="all")
    method = find_method("neuron_ablation", {"screen": 100}).load()
    data = type("Data", (), {"behaviour": behaviour, "neurons": behaviour.neurons})
    loop = seconds(lambda: one_pass_per_neuron(behaviour, range(0, 860, 40)), 1) * 40
    exact = time.process_time()
    scores = np.abs(behaviour.single_effects().mean(axis=0))
    exact = time.process_time() - exact
    ranking = benchmark.pedantic(method.rank, args=(data, np.random.default_rng(0)), rounds=1)
    screened = seconds(lambda: method.rank(data, np.random.default_rng(0)), 1)  # type: ignore[arg-type]
    first = np.argsort(-scores)[:50]
    assert ranking.order[:50].tolist() == first.tolist()
    np.testing.assert_allclose(ranking.scores[first], scores[first], atol=1e-4)
    benchmark.extra_info["times the speed of whole passes"] = round(loop / screened, 1)
    benchmark.extra_info["times the speed of exact ablation in parts"] = round(exact / screened, 2)
    print(benchmark.extra_info, loop, exact, screened)
    assert loop >= 10 * screened


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_a_model_as_large_as_minilm_in_parts_beside_whole_passes(benchmark) -> None:
    """Every 384th of 9,216 neurons on 4 prompts; what all of them on 200 would take is in the extra figures."""
    model, prompts = masked(4)
    behaviour = Behaviour.from_prompts(model, prompts, "mlp_post", reference=prompts, intervene_at="all")
    chosen = np.arange(0, 9216, 384)
    whole = seconds(lambda: behaviour.ablate_sets([[chosen[0]]] * 8), 1) / 8
    effects = benchmark.pedantic(behaviour.single_effects, kwargs={"neurons": chosen}, rounds=1)
    parts = seconds(lambda: behaviour.single_effects(neurons=chosen), 1) / len(chosen)
    expected = behaviour.margin()[:, None] - behaviour.ablate_sets(chosen[::6, None]).T
    np.testing.assert_allclose(effects[:, ::6], expected, rtol=1e-4, atol=1e-3)
    benchmark.extra_info["times the speed of whole passes"] = round(whole / parts, 2)
    benchmark.extra_info["hours for 9,216 neurons on 200 prompts"] = round(parts * 9216 * 50 / 3600, 2)
    print(benchmark.extra_info)
    assert whole >= 1.8 * parts
