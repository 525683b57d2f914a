"""Grafts: rows of stated encoding dose, silent elsewhere; columns of stated use, measured in the model itself."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nibench.calibration import _Stage
from nibench.errors import InputError
from nibench.ground import Ground, Options
from nibench.harness import load_task, run_method
from nibench.interventions import Behaviour
from nibench.method import Observations
from nibench.model import load_model
from nibench.order_statistics import auc
from nibench.submissions import find_method
from nibench.task import Prompt
from nibench.truth import graft_inputs, graft_outputs
from nibench.truth.graft_doses import Graft, Moved, Panel, graft_panel
from nibench.truth.graft_inputs import Affine, Readings
from nibench.truth.graft_scene import Scene, graft_layers, make_scene
from nibench.truth.planted import planted_model
from nibench.truth.surgery import ffn, widen
from tests.tiny import tiny

WIDTH = 12


def readings(
    n: int = 300, gap: float = 2.0, induced: np.ndarray | None = None, *, told: bool = True
) -> Readings:
    """Two classes apart in coordinate 0, the position told by coordinate 1 (or only guessed), the rest noise."""
    rng = np.random.default_rng(0)
    labels = np.arange(2 * n) % 2 == 0
    read = rng.normal(size=(2 * n, WIDTH))
    read[:, 0] += gap * (labels - 0.5)
    read[:, 1] = 2 + 0.01 * rng.normal(size=2 * n)
    elsewhere = 3 * rng.normal(size=(500, WIDTH))
    elsewhere[:, 1] = -2 + 0.01 * rng.normal(size=500)
    if not told:
        read[:, 1], elsewhere[:, 1] = 1.5 + rng.normal(size=2 * n), -1.5 + rng.normal(size=500)
    nothing = np.zeros((WIDTH, WIDTH)) if induced is None else induced
    return Readings(0, read[:n], labels[:n], read[n:], labels[n:], elsewhere, nothing)


def test_the_position_gate_is_0_there_and_minus_1_elsewhere_and_deaf_to_other_grafts() -> None:
    plain = graft_inputs.position_gate(readings())
    assert np.abs(plain(readings().items)).max() < 0.1
    assert np.abs(plain(readings().elsewhere) + 1).max() < 0.1
    written = np.eye(WIDTH)[1]  # others write along the very coordinate that tells the position
    deaf = graft_inputs.position_gate(readings(induced=np.outer(written, written)))
    assert abs(deaf.weight @ written) < 0.2 * abs(plain.weight @ written)


def test_where_the_position_cannot_be_told_there_is_no_gate_and_nothing_is_closed() -> None:
    data = readings(told=False)
    gate = graft_inputs.position_gate(data)
    assert np.abs(gate(np.concatenate([data.items, data.elsewhere]))).max() == 0
    row = graft_inputs.concept_reading(data, "mean_difference")
    opened = graft_inputs.closed(row, gate, data.elsewhere)
    np.testing.assert_array_equal(opened(data.items), row(data.items))
    basis = graft_inputs.quiet_elsewhere(data, gate)  # quiet readings are still to be had
    assert np.isfinite(basis).all()


@pytest.mark.parametrize("reader", ["logistic", "mean_difference"])
def test_concept_rows_read_the_concept_and_unrelated_ones_do_not(reader: graft_inputs.Reader) -> None:
    data = readings()
    concept = graft_inputs.concept_reading(data, reader)
    values = concept(data.fit)
    assert values.mean() == pytest.approx(0, abs=1e-9)
    assert values.std() == pytest.approx(1)
    best = auc(data.items[:, 0], data.item_labels)  # the one coordinate that tells
    assert best - 0.05 < auc(concept(data.items), data.item_labels) < best + 0.03
    basis = graft_inputs.quiet_elsewhere(data, graft_inputs.position_gate(data))
    rng = np.random.default_rng(0)
    unrelated = graft_inputs.unrelated_reading(data.fit, data.fit_labels, concept, basis, rng)(data.fit)
    assert unrelated.std() == pytest.approx(1)
    assert unrelated[data.fit_labels].mean() == pytest.approx(unrelated[~data.fit_labels].mean(), abs=1e-8)
    assert np.corrcoef(unrelated, values)[0, 1] == pytest.approx(0, abs=1e-8)


def test_concept_rows_turn_away_from_what_other_grafts_write() -> None:
    written = np.eye(WIDTH)[0] + np.eye(WIDTH)[5]
    plain = graft_inputs.concept_reading(readings(), "logistic")
    deaf = graft_inputs.concept_reading(readings(induced=np.outer(written, written)), "logistic")
    assert abs(deaf.weight @ written) < 0.6 * abs(plain.weight @ written)
    assert auc(deaf(readings().items), readings().item_labels) > 0.8


@pytest.mark.parametrize(
    ("gated", "shape"),
    [(gated, shape) for gated in (True, False) for shape in ("linear", "half", "square", "constant")],
)
@pytest.mark.parametrize("function", ["silu", "gelu", "relu"])
def test_every_shape_follows_z_at_the_position_and_is_silent_elsewhere(
    gated: bool, shape: graft_inputs.Shape, function: str
) -> None:
    data = readings()
    act = {"silu": torch.nn.SiLU(), "gelu": torch.nn.GELU(), "relu": torch.nn.ReLU()}[function]
    z = graft_inputs.concept_reading(data, "mean_difference")
    gate = graft_inputs.position_gate(data)
    unit = graft_inputs.shaped(shape, z, gate, data.elsewhere, gated=gated, scale=0.5)
    there, elsewhere = unit.activation(data.items, act), unit.activation(data.elsewhere, act)
    size = there.std() if shape != "constant" else there.mean()
    assert np.abs(elsewhere).max() < 0.05 * size
    if shape == "constant":
        assert there.std() < 0.02 * size
    elif shape == "linear":
        assert np.corrcoef(there, z(data.items))[0, 1] > 0.98
    else:
        above = z(data.items) > 0
        assert there[above].std() > 1.4 * there[~above].std()


@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=2, max_size=40))
def test_auc_is_the_share_of_pairs_in_order(items: list[tuple[int, bool]]) -> None:
    values, labels = np.array([v for v, _ in items], dtype=float), np.array([b for _, b in items])
    if labels.all() or not labels.any():
        return
    pairs = [(a > b) + 0.5 * (a == b) for a in values[labels] for b in values[~labels]]
    assert auc(values, labels) == pytest.approx(np.mean(pairs))


@settings(deadline=None, max_examples=15)
@given(st.floats(0.55, 0.9), st.integers(0, 1000))
def test_the_angle_gives_the_encoding_dose(target: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.arange(400) % 2 == 0
    concept, other = rng.normal(size=400) + 2 * labels, rng.normal(size=400)

    def dose(angle: float) -> float:
        return auc(np.cos(angle) * concept + np.sin(angle) * other, labels)

    assert dose(graft_inputs.find_angle(target, dose)) == pytest.approx(target, abs=0.01)
    assert graft_inputs.find_angle(0.999, dose) == 0.0


# ---------------------------------------------------------------- columns


@pytest.fixture(scope="module")
def planted() -> Behaviour:
    made = planted_model()
    return Behaviour.from_prompts(
        made.model, made.prompts, "mlp_post", reference=made.prompts, intervene_at="last"
    )


def test_output_gradients_are_what_a_small_write_does(planted: Behaviour) -> None:
    """Slow and literal: the FFN's output bias moved by a little, one direction at a time, at the last token."""
    gradients = graft_outputs.output_gradients(planted)
    model = planted.model
    rng = np.random.default_rng(0)
    for layer in (0, 1):
        direction = rng.normal(size=gradients[layer].shape[1])
        outer = model.architecture.ffn_modules(layer)[1]
        margins = []
        for sign in (1, -1):
            step = torch.zeros(len(direction)) + sign * 1e-2 * torch.from_numpy(direction).float()

            def write(_: object, __: object, out: torch.Tensor, step: torch.Tensor = step) -> torch.Tensor:
                changed = out.clone()
                changed[:, -1] += step
                return changed

            handle = outer.register_forward_hook(write)
            margins.append([literal_margin(model, prompt) for prompt in planted.prompts])
            handle.remove()
        slopes = (np.array(margins[0]) - np.array(margins[1])) / 2e-2
        np.testing.assert_allclose(gradients[layer] @ direction, slopes, atol=2e-3, rtol=1e-2)


def literal_margin(model: object, prompt: Prompt) -> float:
    """The logit of the right answer minus that of the twin's, read after the prompt alone in a plain pass."""
    tokenizer, network = model.tokenizer, model.network  # type: ignore[attr-defined]
    ids = tokenizer(prompt.text)["input_ids"]
    right, wrong = (
        tokenizer(f"{prompt.text} {prompt.answers[number]}")["input_ids"][len(ids)]
        for number in (prompt.answer, prompt.source_answer)
    )
    with torch.no_grad():
        logits = network(torch.tensor([ids])).logits[0, -1]
    return float(logits[right] - logits[wrong])


def test_written_directions_have_the_slope_they_claim() -> None:
    rng = np.random.default_rng(0)
    gradients, last = rng.normal(size=(50, 8)) + 1, rng.normal(size=(50, 8)) + np.arange(8)
    deviations = rng.normal(size=50) + 0.5
    best = graft_outputs.write_direction("gradient", deviations, gradients, last)
    for write in ("direct", "gradient", "downstream"):
        direction, slope = graft_outputs.write_direction(write, deviations, gradients, last)  # type: ignore[arg-type]
        assert np.linalg.norm(direction) == pytest.approx(1)
        assert slope == pytest.approx(np.mean(deviations * (gradients @ direction)))
        assert 0 < slope <= best[1] + 1e-12
    downstream, _ = graft_outputs.write_direction("downstream", deviations, gradients, last)
    direct, _ = graft_outputs.write_direction("direct", deviations, gradients, last)
    assert downstream @ direct == pytest.approx(0, abs=1e-9)


def test_what_hardly_acts_is_replaced_by_the_steepest() -> None:
    gradients = np.tile(np.eye(6)[0], (20, 1))
    last = np.tile(np.eye(6)[1], (20, 1))  # the direct path leads nowhere here
    direction, slope = graft_outputs.write_direction("direct", np.ones(20), gradients, last)
    np.testing.assert_allclose(direction, np.eye(6)[0], atol=1e-12)
    assert slope == pytest.approx(1)


def test_padding_is_quiet_and_columns_have_their_length() -> None:
    rng = np.random.default_rng(0)
    gradients = rng.normal(size=(60, 16)) * np.linspace(3, 0.01, 16)
    quiet = graft_outputs.quiet_directions(gradients)
    np.testing.assert_allclose(quiet @ quiet.T, np.eye(len(quiet)), atol=1e-9)
    direction = graft_outputs.unit_vector(rng.normal(size=16))
    padding = graft_outputs.quiet_direction(direction, quiet, rng)
    assert padding @ direction == pytest.approx(0, abs=1e-9)
    written = graft_outputs.column(direction, 0.3, padding, 1.2)
    assert np.linalg.norm(written) == pytest.approx(1.2)
    assert written @ direction == pytest.approx(0.3)
    assert np.linalg.norm(graft_outputs.column(direction, 2.0, padding, 1.2)) == pytest.approx(2.0)
    loudest = max(np.linalg.norm(gradients @ one) for one in quiet)
    for other in rng.normal(size=(100, 16)):  # whatever else one writes acts more
        beside = graft_outputs.unit_vector(other - quiet.T @ (quiet @ other))
        assert np.linalg.norm(gradients @ beside) >= loudest


def test_an_enabler_has_a_mean_effect_without_a_class_gap() -> None:
    rng = np.random.default_rng(0)
    deviations = rng.normal(size=400)
    gradients = rng.normal(size=(400, 6))
    gradients[:, 2] += deviations  # needed where it is high, in the way where it is low
    direction, slope = graft_outputs.enabling_direction(deviations, gradients)
    assert slope == pytest.approx(np.mean(deviations * (gradients @ direction)))
    assert abs(direction[2]) > 0.9


# ---------------------------------------------------------------- verdicts


def test_a_graft_is_judged_by_its_measured_use() -> None:
    graft = Graft("L0.mlp_post.9", "used", 0, "linear", "logistic", "direct", 0.7, 0.7, 0.02, 0.02, None, 1.0)
    for use, kind in [(0.015, "used"), (-0.2, "used"), (0.012, None), (0.01, "decoy"), (0.0, "decoy")]:
        assert replace(graft, use=use).kind == kind
    for asked, use, landed in [
        (0.02, 0.0229, True),
        (0.02, 0.0232, False),
        (0.2, 0.209, True),
        (0.2, 0.2101, False),
    ]:
        assert replace(graft, use_asked=asked, use=use).landed is landed


def test_each_limit_refuses_with_its_figures() -> None:
    fine = Moved((1.0, 0.98), (3.4, 3.2), (1.5, 1.51), 0.75)
    assert fine.refusals() == []
    for change, words in [
        ({"accuracy": (1.0, 0.96)}, "accuracy fell from 1.000 to 0.960"),
        ({"margin": (3.4, 3.8)}, "the margin went from 3.40 to 3.80 nats"),
        ({"loss": (1.5, 1.53)}, "the loss on text rose from 1.500 to 1.530"),
        ({"landed": 0.7}, "70% of the use doses landed"),
    ]:
        (said,) = replace(fine, **change).refusals()
        assert words in said
    assert replace(fine, loss=None).refusals() == []


def test_grafts_go_to_up_to_four_blocks_from_the_second_on() -> None:
    assert graft_layers(1) == [0]
    assert graft_layers(2) == [1]
    assert graft_layers(5) == [1, 2, 3, 4]
    assert graft_layers(12) == [1, 4, 8, 11]


def test_a_model_that_cannot_do_the_task_is_refused_with_its_accuracy(planted: Behaviour) -> None:
    turned = [replace(p, answer=p.source_answer, source_answer=p.answer) for p in planted.prompts]  # type: ignore[arg-type]
    behaviour = Behaviour.from_prompts(
        planted.model, turned, "mlp_post", reference=turned, intervene_at="last"
    )
    with pytest.raises(InputError, match=r"answers 0% of the prompts rightly, guessing 50%.*Expected 70%"):
        make_scene(planted.model, behaviour, turned, turned)


def test_a_model_that_cannot_be_widened_is_refused_by_module_name(planted: Behaviour) -> None:
    model = planted.model
    plain = model.network.transformer.h[1].mlp.c_fc
    model.network.transformer.h[1].mlp.c_fc = torch.nn.Sequential(plain)
    try:
        with pytest.raises(InputError, match=r"L1 mlp.c_fc is a Sequential; expected a plain linear layer"):
            make_scene(model, planted, planted.prompts, planted.prompts)
    finally:
        model.network.transformer.h[1].mlp.c_fc = plain


def test_a_row_s_activation_is_the_network_s_own() -> None:
    for kind in ("gpt2", "llama"):
        model = tiny(kind)
        (unit,) = widen(model.network, 1, 1)
        rng = np.random.default_rng(0)
        target = ffn(model.network, 1)
        rows = tuple(Affine(rng.normal(size=16), float(rng.normal())) for _ in target.inputs)
        for matrix, offsets, row in zip(target.inputs, target.biases, rows, strict=True):
            assert offsets is not None
            matrix[unit], offsets[unit] = torch.from_numpy(row.weight), row.offset
        inputs = graft_inputs.ffn_inputs(model, [[2, 4, 5, 9]], [1])[0][0]
        seen: list[np.ndarray] = []
        handle = model.taps("mlp_post", 1)[0].attach(lambda v, seen=seen: seen.append(v[0, :, -1].numpy()))
        model.run([[2, 4, 5, 9]])
        handle.remove()
        act = torch.nn.SiLU() if kind == "llama" else torch.nn.GELU(approximate="tanh")
        np.testing.assert_allclose(
            graft_inputs.Reads(rows).activation(inputs, act), seen[0], rtol=1e-4, atol=1e-5
        )


# ---------------------------------------------------------------- a panel in a real model


@pytest.fixture(scope="module")
def real(shared) -> tuple[Ground, Scene, Panel]:
    model = load_model(shared / "models" / "stories260K", device="cpu")
    ground = Ground(load_task("she_he"), model, Options())
    behaviour = ground.behaviour("rank")
    assert behaviour is not None
    observed, fit = (ground.data.split_prompts(split) for split in ("rank", "probe"))
    scene = make_scene(model, behaviour, observed, fit)
    return ground, scene, graft_panel(scene, 0)


def test_the_panel_holds_and_its_decoys_are_matched(real: tuple[Ground, Scene, Panel]) -> None:
    _, scene, panel = real
    assert panel.moved.refusals() == []
    assert panel.moved.landed >= 0.75
    assert len(panel.grafts) >= 36  # 24 used, 12 decoys, and the movers that need not shout
    used = {graft.pair: graft for graft in panel.grafts if graft.role == "used"}
    decoys = [graft for graft in panel.grafts if graft.role == "decoy"]
    assert len(decoys) == 12
    for decoy in decoys:
        partner = used[decoy.pair]
        assert decoy.neuron.split(".")[0] == partner.neuron.split(".")[0]
        assert decoy.length == pytest.approx(partner.length, rel=1e-6)
        assert decoy.shape == partner.shape
    assert np.median([abs(decoy.use) for decoy in decoys]) < 0.003
    errors = [abs(graft.auc - graft.auc_asked) for graft in panel.grafts if graft.role != "mover"]
    assert np.median(errors) < 0.03
    assert panel.passes > 0
    before = scene.model.network.state_dict()
    for name, weight in panel.spliced.model.network.state_dict().items():
        own = before.get(name)
        if own is not None:
            there = weight[tuple(slice(0, size) for size in own.shape)]
            assert torch.equal(there, own), f"{name}: natural neurons must stay as they are"


def test_doses_are_what_a_plain_pass_with_a_hook_finds(real: tuple[Ground, Scene, Panel]) -> None:
    """Slow and literal: one neuron set to its mean at the last token of one prompt after the other."""
    _, scene, panel = real
    model = panel.spliced.model
    behaviour = scene.reopen(model)
    strongest = max(panel.grafts, key=lambda graft: abs(graft.use))
    flat = behaviour.neurons.index(strongest.neuron)
    assert behaviour.means is not None
    mean = float(behaviour.means[flat])
    layer, unit = int(strongest.neuron[1]), int(strongest.neuron.rpartition(".")[2])
    tap = model.taps("mlp_post", layer)[0]

    def ablate(values: torch.Tensor) -> torch.Tensor:
        changed = values.clone()
        changed[:, -1, unit] = mean
        return changed

    prompts = behaviour.prompts[::5]
    intact = np.array([literal_margin(model, prompt) for prompt in prompts])
    handle = tap.attach(ablate)
    ablated = np.array([literal_margin(model, prompt) for prompt in prompts])
    handle.remove()
    fast = (behaviour.margin() - behaviour.ablate([flat]))[::5]
    np.testing.assert_allclose(intact - ablated, fast, atol=1e-3)
    whole = behaviour.margin() - behaviour.ablate([flat])
    assert whole.mean() == pytest.approx(strongest.use, abs=1e-4)


@pytest.mark.slow
def test_a_panel_holds_behind_a_readout_of_an_encoder(shared: Path, minilm: Path) -> None:
    """Any word of a sentence may be the one that is read: no gate tells it, and the doses land all the same."""
    stage = _Stage(str(minilm), "number_ewt", Options(data=str(shared / "data")))
    assert stage.axis == "propagates"
    panel = graft_panel(stage.scene, 0)
    assert panel.moved.refusals() == []
    errors = [abs(graft.auc - graft.auc_asked) for graft in panel.grafts if graft.role != "mover"]
    assert np.median(errors) < 0.03
    flat = [stage.scene.reopen(panel.spliced.model).neurons.index(graft.neuron) for graft in panel.grafts]
    fresh = Behaviour.from_prompts(  # nothing taken as proven, and jointly, with hooks
        panel.spliced.model,
        stage.behaviour.prompts[:12],
        "mlp_post",
        sorted(stage.scene.readings),
        reference=stage.scene.observed,
        intervene_at="last",
    )
    slow = fresh.margin() - fresh.ablate_sets([[unit] for unit in flat])
    fast = stage.scene.reopen(panel.spliced.model).some(range(12)).single_effects(neurons=flat).T
    np.testing.assert_allclose(fast, slow, atol=1e-3)


def test_methods_of_each_axis_see_their_own_doses(real: tuple[Ground, Scene, Panel]) -> None:
    from nibench.truth.graft_scores import score_grafts

    ground, _, panel = real
    widened = Ground(ground.task, panel.spliced.model, ground.options)
    names = {name: place for place, name in enumerate(widened.data.neurons)}
    places = np.array([names[graft.neuron] for graft in panel.grafts])

    def figures(name: str) -> dict[str, float]:
        file = find_method(name)
        data: Observations = widened.observe(file.load(), name)
        return score_grafts(run_method(file.load(), data, name, 0), places, panel.grafts)

    causal, reader = figures("gradient_activation"), figures("expert_units")
    assert causal["recall"] > 0.9
    assert causal["rho_use"] > 0.8
    assert causal["decoy_first"] < 0.1
    assert reader["rho_encoding"] > 0.8
    assert abs(reader["rho_use"]) < 0.4
    assert reader["decoy_first"] > 0.25
