"""Surgery leaves a network's output as it is, to rounding, and moves a ranker's answer with the neurons."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import nibench as nb
from nibench.architecture import Architecture
from nibench.catalogue import truth_models
from nibench.errors import InputError
from nibench.model import LanguageModel, load_model
from nibench.truth import surgery
from tests.tiny import network, tiny

KINDS = ["gpt2", "llama", "bert", "distilbert", "gpt_neox", "opt_post", "gemma2"]
TOLERANCE = 1e-4  # of float32 logits


def output(model: LanguageModel) -> Tensor:
    """Logits (or hidden states, where there is no head) of eight fixed sentences of 12 tokens."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(4, min(150, model.network.config.vocab_size), (8, 12), generator=generator)
    with torch.no_grad():
        found = model.network(input_ids=ids)
    return found.logits if "logits" in found else found.last_hidden_state


@pytest.fixture(params=["stories260K", "minilm", "glass-box"])
def real(request: pytest.FixtureRequest) -> LanguageModel:
    if request.param == "glass-box":
        return load_model(next(iter(truth_models().values())), device="cpu")
    if request.param == "minilm":
        return load_model(request.getfixturevalue("minilm"), device="cpu")
    return load_model(request.getfixturevalue("shared") / "models" / "stories260K", device="cpu")


def operate(model: LanguageModel, layer: int) -> dict[str, float]:
    """Every operation in turn on one model: the largest change of the output after each."""
    net, rng = model.network, np.random.default_rng(0)
    before, changes = output(model), {}

    def note(name: str) -> None:
        changes[name] = float((output(model) - before).abs().max())

    n_units = surgery.ffn(net, layer).n_units
    surgery.permute(net, layer, rng.permutation(n_units))
    note("permute")
    new = surgery.widen(net, layer, 6)
    note("widen")
    surgery.split(net, layer, 3, [new[0], new[1]])
    note("split")
    surgery.decoy(net, layer, 4, new[2], noise=0.5)
    note("decoy")
    surgery.cancelled_pair(net, layer, 5, (new[3], new[4]))
    note("cancelled pair")
    wide = surgery.ffn(net, layer)
    if wide.gated or wide.activation == "relu":
        surgery.rescale(net, layer, rng.uniform(0.5, 2, wide.n_units))
        note("rescale")
    return changes


def test_real_models_answer_as_before(real: LanguageModel) -> None:
    changes = operate(real, 1)
    assert max(changes.values()) < TOLERANCE, changes


@pytest.mark.parametrize("kind", KINDS)
def test_every_architecture_answers_as_before(kind: str) -> None:
    changes = operate(tiny(kind), 1)
    assert max(changes.values()) < TOLERANCE, changes


def test_the_operations_change_weights_that_count() -> None:
    """The proof above could pass on weights that nothing reads: the same places, done wrongly, show."""
    for wrong in (
        lambda net: surgery.ffn(net, 1).output[3].div_(2),
        lambda net: surgery.ffn(net, 1).inputs[0][3].mul_(2),
        lambda net: surgery.ffn(net, 1).inputs[-1][3].mul_(2),
    ):
        model = tiny("llama")
        before = output(model)
        wrong(model.network)
        assert (output(model) - before).abs().max() > 1e-2


@pytest.mark.parametrize("kind", ["opt_post", "llama"])
def test_rescaling_scales_the_activation_and_nothing_else(kind: str) -> None:
    model = tiny(kind)
    before, factors = output(model), np.linspace(0.25, 4, 24)
    seen: list[Tensor] = []
    tap = model.taps("mlp_post", 1)[0]
    handle = tap.attach(lambda values: seen.append(values.reshape(-1, 24).clone()))
    model.run([[2, 4, 5, 9]])
    surgery.rescale(model.network, 1, factors)
    model.run([[2, 4, 5, 9]])
    handle.remove()
    torch.testing.assert_close(seen[1], seen[0] * torch.tensor(factors, dtype=torch.float32))
    assert (output(model) - before).abs().max() < TOLERANCE


@pytest.mark.parametrize("kind", KINDS)
def test_the_views_are_the_block_s_own_arithmetic(kind: str) -> None:
    """act(W x + b) (times up) through the views is what the tap reads; W_out and its bias what the block writes."""
    model = tiny(kind)
    target = surgery.ffn(model.network, 1)
    inner, outer = model.architecture.ffn_modules(1)
    seen: dict[str, Tensor] = {}
    inner[0].register_forward_hook(lambda _, args, __: seen.update(x=args[0].reshape(-1, 16)))
    outer.register_forward_hook(
        lambda _, args, out: seen.update(a=args[0].reshape(-1, 24), y=out.reshape(-1, 16))
    )
    model.run([[2, 4, 5, 9]])
    pre = [
        seen["x"] @ weight.T + (0 if bias is None else bias)
        for weight, bias in zip(target.inputs, target.biases, strict=True)
    ]
    act: Any = {
        "relu": nn.functional.relu,
        "gelu": nn.functional.gelu,
        "silu": nn.functional.silu,
    }.get(target.activation, lambda x: nn.functional.gelu(x, approximate="tanh"))
    values = act(pre[0]) * (pre[1] if target.gated else 1)
    torch.testing.assert_close(seen["a"], values, atol=1e-5, rtol=1e-5)
    written = values @ target.output + (0 if target.output_bias is None else target.output_bias)
    torch.testing.assert_close(seen["y"], written, atol=1e-5, rtol=1e-5)


def activations(model: LanguageModel) -> np.ndarray:
    seen: list[np.ndarray] = []
    handle = model.taps("mlp_post", 1)[0].attach(
        lambda v: seen.append(v.reshape(-1, v.shape[-1]).numpy().copy())
    )
    model.run([[2, 4, 5, 9, 7, 6]])
    handle.remove()
    return seen[0]


def test_each_operation_does_what_its_name_says() -> None:
    model = tiny("gpt2")
    net, plain = model.network, activations(tiny("gpt2"))
    order = np.random.default_rng(0).permutation(24)
    surgery.permute(net, 1, order)
    np.testing.assert_allclose(activations(model), plain[:, order], atol=1e-6)
    new = surgery.widen(net, 1, 5)
    assert list(new) == [24, 25, 26, 27, 28]
    assert [b.width for b in model.neurons("mlp_post").blocks] == [24, 29, 24]
    written = surgery.ffn(net, 1).output[3].clone()
    surgery.split(net, 1, 3, [24, 25])
    surgery.decoy(net, 1, 4, 26)
    surgery.cancelled_pair(net, 1, 5, (27, 28))
    after, target = activations(model), surgery.ffn(net, 1)
    np.testing.assert_allclose(after[:, 24:], after[:, [3, 3, 4, 5, 5]], atol=1e-6)
    torch.testing.assert_close(target.output[[3, 24, 25]], written.repeat(3, 1) / 3)
    assert not target.output[26].any()
    torch.testing.assert_close(target.output[27], -target.output[28])
    assert target.output[27].norm() > 0.1


def test_the_cancelled_pair_moves_the_output_one_at_a_time() -> None:
    model = tiny("gpt2")
    new = surgery.widen(model.network, 1, 2)
    surgery.cancelled_pair(model.network, 1, 5, (new[0], new[1]))
    before = output(model)
    surgery.ffn(model.network, 1).output[new[1]] = 0
    assert (output(model) - before).abs().max() > 1e-2


def test_what_cannot_be_done_is_said_by_name() -> None:
    net = network("bert")
    for call, message in [
        (lambda: surgery.rescale(net, 0, np.ones(24)), "non-linearity 'gelu'"),
        (lambda: surgery.permute(net, 0, np.zeros(24, int)), "no permutation of the 24 units"),
        (lambda: surgery.split(net, 0, 3, [24]), "No unit 24 in block 0"),
        (lambda: surgery.split(net, 0, 3, [3]), "expected other units"),
        (lambda: surgery.decoy(net, 0, 3, 3), "expected another unit"),
        (lambda: surgery.cancelled_pair(net, 0, 3, (4, 4)), "two other units"),
        (lambda: surgery.widen(net, 3, 1), "No block 3"),
        (lambda: surgery.widen(net, 0, 0), "expected 1 or more"),
        (lambda: surgery.rescale(network("opt_post"), 0, -np.ones(24)), "above 0"),
        (lambda: surgery.rescale(network("llama"), 0, np.zeros(24)), "no 0"),
        (lambda: surgery.rescale(network("llama"), 0, np.ones(3)), "expected 24 finite numbers"),
    ]:
        with pytest.raises(InputError, match=message):
            call()


class Adapter(nn.Module):
    """Stands for a quantised or low-rank adapted layer: it works, and is no plain linear map."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


def test_blocks_that_cannot_be_widened_are_refused_by_module_name() -> None:
    adapted = network("llama")
    adapted.model.layers[1].mlp.up_proj = Adapter(adapted.model.layers[1].mlp.up_proj)
    with pytest.raises(InputError, match=r"L1 mlp.up_proj is a Adapter; expected a plain linear layer"):
        surgery.widen(adapted, 1, 2)
    quantised = network("gpt2")
    bert = network("bert")
    integers = bert.encoder.layer[0].intermediate.dense
    integers.weight = nn.Parameter(integers.weight.to(torch.int8), requires_grad=False)
    with pytest.raises(InputError, match=r"L0 intermediate.dense is a Linear"):
        surgery.widen(bert, 0, 2)
    from transformers import Phi3Config, Phi3ForCausalLM

    fused = Phi3ForCausalLM(
        Phi3Config(
            vocab_size=32, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=24,
            pad_token_id=0,
        )
    )  # fmt: skip
    with pytest.raises(InputError, match=r"the modules gate_up_proj, down_proj.*no known input projection"):
        surgery.widen(fused, 0, 2)
    quantised.transformer.h[1].mlp.c_proj.weight = nn.Parameter(torch.zeros(20, 16))
    with pytest.raises(InputError, match=r"L1 mlp.c_proj is 20 x 16, mlp.c_fc 16 x 24"):
        surgery.widen(quantised, 1, 2)
    assert Architecture.of(network("gpt2")).activation == "gelu_new"


# ---------------------------------------------------------------- rankers move with the neurons


def one_layer(change: Any = None) -> tuple[np.ndarray, np.ndarray]:
    """Activations (N, 24) of L1 at 300 random tokens, whether the token's id is odd."""
    model = tiny("opt_post")
    if change is not None:
        change(model.network)
    rng = np.random.default_rng(0)
    rows: list[np.ndarray] = []
    handle = model.taps("mlp_post", 1)[0].attach(
        lambda v: rows.append(v.reshape(-1, v.shape[-1]).numpy().copy())
    )
    ids = rng.integers(4, 20, size=(60, 6))
    model.run(ids.tolist())
    handle.remove()
    return rows[0], (ids % 2).reshape(-1)


RANKERS = ["mean_difference", "probeless", "linear_l2", "expert_units", "variance"]


@pytest.mark.parametrize("method", RANKERS)
def test_a_permuted_network_gives_the_permuted_scores(method: str) -> None:
    order = np.random.default_rng(3).permutation(24)
    X, y = one_layer()
    moved, _ = one_layer(lambda net: surgery.permute(net, 1, order))
    plain, other = nb.rank(method, X, y).scores, nb.rank(method, moved, y).scores
    np.testing.assert_allclose(other, plain[order], rtol=2e-3, atol=1e-5)
    assert np.ptp(plain) > 0


@pytest.mark.parametrize("method", RANKERS)
def test_copies_score_alike(method: str) -> None:
    X, y = one_layer(lambda net: surgery.split(net, 1, int(net.config.ffn_dim) - 1, [0, 1]))
    scores = nb.rank(method, X, y).scores
    np.testing.assert_allclose(scores[[0, 1]], scores[23], rtol=2e-3, atol=1e-6)


def test_rescaling_moves_a_raw_ranker_and_not_one_of_ranks() -> None:
    factors = np.exp(np.random.default_rng(5).normal(size=24))
    X, y = one_layer()
    scaled, _ = one_layer(lambda net: surgery.rescale(net, 1, factors))
    variance = [nb.rank("variance", matrix, y).scores for matrix in (X, scaled)]
    np.testing.assert_allclose(variance[1], variance[0] * factors**2, rtol=1e-3, atol=1e-6)
    ranks = [nb.rank("expert_units", matrix, y).scores for matrix in (X, scaled)]
    np.testing.assert_allclose(ranks[1], ranks[0], rtol=1e-3)
