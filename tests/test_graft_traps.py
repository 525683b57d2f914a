"""Traps: what each moves is measured literally, what it hides from is shown not to see it, and the other view does."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from nibench.ground import Ground, Options
from nibench.harness import load_task, run_method
from nibench.model import load_model
from nibench.neurons import Block, Neurons
from nibench.ranking import Ranking
from nibench.submissions import find_method, resolve_model
from nibench.truth.graft_inputs import Instead, ffn_inputs
from nibench.truth.graft_outputs import mixing_direction
from nibench.truth.graft_scene import Scene, make_scene
from nibench.truth.graft_scores import score_traps
from nibench.truth.graft_traps import PLAIN, Trap, TrapPanel, _reading_of, draw_traps, trap_panel
from tests.test_grafts import literal_margin
from tests.tiny import tiny


def test_a_mixing_direction_has_large_effects_that_cancel() -> None:
    rng = np.random.default_rng(0)
    deviations = rng.normal(size=400)
    gradients = rng.normal(size=(400, 6))
    gradients[:, 1] += 3 * np.sign(deviations)  # always for the answer
    gradients[:, 4] += 2 * rng.choice([-1, 1], 400)  # for it and against it
    direction, size = mixing_direction(deviations, gradients)
    effects = deviations * (gradients @ direction)
    assert abs(direction[4]) > 0.9
    assert abs(effects.mean()) < 0.15 * np.abs(effects).mean()
    assert size == pytest.approx(np.abs(effects).mean())


def test_a_reader_reads_what_was_shuffled_and_not_what_came_with_it() -> None:
    """The concept stands in coordinate 0; the source writes 1; shuffled, the two have nothing to do with each other."""
    rng = np.random.default_rng(0)
    concept, source = rng.choice([-1.0, 1.0], 800), rng.choice([-1.0, 1.0], 800)
    x = 0.2 * rng.normal(size=(800, 5))
    x[:, 0] += concept
    x[:, 1] += source
    reading = _reading_of(source, x, 0.2 * rng.normal(size=(300, 5)))
    assert np.corrcoef(reading(x), source)[0, 1] > 0.95
    assert abs(reading.weight[0]) < 0.05 * abs(reading.weight[1])


@pytest.mark.parametrize("kind", ["gpt2", "llama"])
def test_what_a_unit_is_set_to_is_what_later_blocks_get(kind: str) -> None:
    """Literal: one sequence at a time, the unit's value set by a hook of its own."""
    model = tiny(kind)
    sequences = [[2, 4, 5, 9], [2, 7, 8], [2, 9, 4, 6]]
    values, places = np.array([1.5, -2.0, 0.25]), np.array([3, 2, 1])
    found = ffn_inputs(model, sequences, [2], [Instead(1, 3, values, places)])[0]
    for ids, value, place, got in zip(sequences, values, places, found, strict=True):

        def put(seen: torch.Tensor, value: float = value, place: int = place) -> torch.Tensor:
            changed = seen.clone()
            changed[0, place, 3] = value
            return changed

        handle = model.taps("mlp_post", 1)[0].attach(put)
        (expected,) = ffn_inputs(model, [ids], [2])[0]
        handle.remove()
        np.testing.assert_allclose(got, expected, atol=1e-5)
        assert not np.allclose(got, ffn_inputs(model, [ids], [2])[0][0], atol=1e-4)


def test_a_trap_holds_only_if_much_is_moved_and_little_seen() -> None:
    for dose, seen, holds in [(0.5, 0.01, True), (0.3, 0.14, True), (0.29, 0.0, False), (0.5, 0.15, False)]:
        assert Trap("saturated", ("L1.mlp_post.0",), dose, seen).holds is holds


def test_the_share_found_is_counted_against_the_plain_grafts_median() -> None:
    neurons = Neurons((Block("L0.mlp_post", 0, 8),))
    traps = (
        Trap("saturated", ("L0.mlp_post.0",), 0.5, 0.0),
        Trap("saturated", ("L0.mlp_post.1",), 0.5, 0.0),
        Trap("saturated", ("L0.mlp_post.7",), 0.5, 0.3),  # does not hold: not counted
        Trap("redundant", ("L0.mlp_post.2", "L0.mlp_post.3"), 0.5, 0.0),
        Trap("sign_mixed", ("L0.mlp_post.7",), 0.1, 0.0),
    )
    panel: Any = SimpleNamespace(traps=traps, plain=tuple(f"L0.mlp_post.{unit}" for unit in (4, 5, 6)))
    scores = [0.9, 0.1, 0.5, 0.6, 0.5, 0.2, 0.8, 0.0]  # the plain ones' median is .5
    assert score_traps(Ranking.from_scores(scores), neurons, panel) == {"saturated": 0.5, "redundant": 0.75}


# ---------------------------------------------------------------- panels in real models


def make(model: str, task: str) -> tuple[Ground, Scene, TrapPanel]:
    opened = load_model(resolve_model(model), device="cpu")
    ground = Ground(load_task(task), opened, Options(cap=200))
    behaviour = ground.behaviour("rank")
    assert behaviour is not None
    observed, fit = (ground.data.split_prompts(split) for split in ("rank", "probe"))
    scene = make_scene(opened, behaviour, observed, fit)
    panel = trap_panel(scene, 0)
    assert panel is not None
    return ground, scene, panel


@pytest.fixture(scope="module")
def ungated() -> tuple[Ground, Scene, TrapPanel]:
    return make("glass3", "glass_number")


@pytest.fixture(scope="module")
def gated(shared) -> tuple[Ground, Scene, TrapPanel]:
    return make(str(shared / "models" / "stories260K"), "she_he")


@pytest.fixture(params=["ungated", "gated"])
def made(request: pytest.FixtureRequest) -> tuple[Ground, Scene, TrapPanel]:
    return request.getfixturevalue(request.param)


def test_traps_of_every_kind_hold_and_the_model_stays_what_it_is(
    made: tuple[Ground, Scene, TrapPanel],
) -> None:
    _, _, panel = made
    assert panel.moved.refusals() == []
    assert {trap.kind for trap in panel.traps if trap.holds} == {"saturated", "redundant", "sign_mixed"}
    assert panel.passes > 0
    lengths = {graft.plan.pair: [] for graft in panel.spliced.grafts}
    for graft in panel.spliced.grafts:
        lengths[graft.plan.pair].append(float(np.linalg.norm(graft.column)))
    for pair in lengths.values():  # length tells nothing
        assert max(pair) == pytest.approx(min(pair), rel=1e-6)


def test_what_traps_move_is_what_plain_passes_find(made: tuple[Ground, Scene, TrapPanel]) -> None:
    """Slow and literal: values set by a hook at the last token of one prompt after the other."""
    _, scene, panel = made
    model, behaviour = panel.spliced.model, scene.reopen(panel.spliced.model)
    assert behaviour.means is not None
    prompts = behaviour.prompts[::6]
    for kind in ("saturated", "sign_mixed", "redundant"):
        trap = next(trap for trap in panel.traps if trap.kind == kind and trap.holds)
        flat = [behaviour.neurons.index(name) for name in trap.neurons]
        fast = behaviour.margin() - behaviour.ablate(flat, "source" if kind == "saturated" else "mean")
        shown = np.abs(fast).mean() if kind == "sign_mixed" else abs(fast.mean())
        assert shown == pytest.approx(trap.dose, abs=1e-4)
        slow = []
        for prompt in prompts:
            assert prompt.source is not None
            twin = activations(model, prompt.source, trap.neurons)
            set_to = twin if kind == "saturated" else behaviour.means[flat]
            handles = [
                model.taps("mlp_post", int(name[1]))[0].attach(
                    setter(int(name.rpartition(".")[2]), float(value))
                )
                for name, value in zip(trap.neurons, set_to, strict=True)
            ]
            changed = literal_margin(model, prompt)
            for handle in handles:
                handle.remove()
            slow.append(literal_margin(model, prompt) - changed)
        np.testing.assert_allclose(slow, fast[::6], atol=2e-3)


def setter(unit: int, value: float) -> Any:
    def put(seen: torch.Tensor) -> torch.Tensor:
        changed = seen.clone()
        changed[:, -1, unit] = value
        return changed

    return put


def activations(model: Any, text: str, names: tuple[str, ...]) -> list[float]:
    """The values of neurons at the last token of a text."""
    seen: dict[str, float] = {}
    handles = []
    for name in names:

        def keep(values: torch.Tensor, name: str = name) -> None:
            seen[name] = float(values[0, -1, int(name.rpartition(".")[2])])

        handles.append(model.taps("mlp_post", int(name[1]))[0].attach(keep))
    model.run([model.tokenizer(text)["input_ids"]])
    for handle in handles:
        handle.remove()
    return [seen[name] for name in names]


def test_each_trap_hides_from_one_view_and_not_from_the_other(made: tuple[Ground, Scene, TrapPanel]) -> None:
    ground, _, panel = made
    widened = Ground(ground.task, panel.spliced.model, ground.options)
    behaviour = widened.behaviour("rank")
    assert behaviour is not None
    neurons = widened.data.neurons

    def found(scores: np.ndarray) -> dict[str, float]:
        return score_traps(Ranking.from_scores(scores), neurons, panel)

    def of(name: str) -> dict[str, float]:
        file = find_method(name).load()
        return score_traps(run_method(file, widened.observe(file, name), name, 0), neurons, panel)

    slopes = of("gradient_activation")
    assert slopes["saturated"] < 0.3
    assert slopes["sign_mixed"] > 0.7  # it looks at the size on each prompt
    assert found(np.abs(behaviour.single_effects("source").mean(axis=0)))["saturated"] > 0.9
    single = of("neuron_ablation")
    assert single["sign_mixed"] < 0.3
    assert single["redundant"] < 0.3
    assert (
        single["saturated"] > slopes["saturated"]
    )  # the mean lies between the clips: half of the way is seen
    for trap in panel.traps:
        if trap.kind == "redundant" and trap.holds:
            ids = [neurons.index(name) for name in trap.neurons]
            joint = abs((behaviour.margin() - behaviour.ablate(ids)).mean())
            assert joint > 2 * PLAIN


def test_models_with_one_block_of_grafts_get_no_traps(ungated: tuple[Ground, Scene, TrapPanel]) -> None:
    from dataclasses import replace

    _, scene, _ = ungated
    last = max(scene.readings)
    assert trap_panel(replace(scene, readings={last: scene.readings[last]}), 0) is None


def test_every_trap_has_a_plain_partner_in_its_block_before_the_readers(
    ungated: tuple[Ground, Scene, TrapPanel],
) -> None:
    _, scene, _ = ungated
    plans = draw_traps(scene, 3)
    for trap, plain in zip(plans[::2], plans[1::2], strict=True):
        assert trap.pair == plain.pair
        assert trap.layer == plain.layer < max(scene.readings)
        assert abs(plain.use) == PLAIN
