"""A concept along directions: shares by hand, literal hooks, wrong directions are caught, the shipped model holds."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from nibench.cli import app
from nibench.errors import InputError
from nibench.model import load_model
from nibench.truth import assembly, confinement, files, glassbox, grammar, recipe, rotated
from nibench.truth import certificate as ct
from nibench.truth import exhaustive as ex
from nibench.truth.known import known_truth
from nibench.truth.pairs import Pair
from nibench.truth.rows import TOP, Effort
from nibench.truth.tapped import Along, TappedModel

MODELS = Path(__file__).parents[1] / "tasks" / "models"
SHIPPED = MODELS / "rotated1"
CONCEPT = "polarity"
LEAST = Effort(pairs=48, single_pairs=4, probe_pairs=80, free_sentences=10, halves=1, resamples=0)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with ex.one_thread():
        yield


@pytest.fixture
def folder(tmp_path):
    """A copy of the shipped model and of the pairs, that a test may spoil."""
    shutil.copytree(SHIPPED, tmp_path / SHIPPED.name)
    shutil.copytree(MODELS / "pairs-english", tmp_path / "pairs-english")
    path = tmp_path / SHIPPED.name / "truth.json"
    truth = json.loads(path.read_text())
    known = truth["concepts"] = {CONCEPT: truth["concepts"][CONCEPT]}
    first = next(iter(known[CONCEPT]["behaviours"]))
    known[CONCEPT]["behaviours"] = {first: known[CONCEPT]["behaviours"][first]}
    path.write_text(json.dumps(truth))
    return tmp_path / SHIPPED.name


def put(folder, basis):
    """Write other directions of the same layer."""
    layer = rotated.read(folder, CONCEPT).layer
    effects = files.read_effects(folder)
    kept = {name: one for name, one in effects.items() if f"{CONCEPT}.{rotated.DIRECTION}." not in name}
    files.write_effects(
        folder / "effects.npz", kept | rotated.as_effects(folder, CONCEPT, layer, np.asarray(basis))
    )


# ---------------------------------------------------------------- by hand

UNITS, WIDTH = 8, 16
READS = (0.4, 0.3, 0.2, 0.1, 0.5, -0.5, 0.0, 0.2)  # of the word's number; the first four write to the answer


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory):
    """Two blocks: in the second, eight neurons read a word's number and the first four add up to the answer.

    The concept lies along (1, 1, 1, 1, 0, 0, 0, 0) / 2, and neuron i of the four moves READS[i] of the way.
    Everything large is constant, so that layer norms are linear to a few parts in a thousand.
    """
    plan = replace(recipe.Recipe(("number",), (("null_rotated", 1),)), n_layers=2, width=WIDTH, n_units=UNITS)
    model = recipe.fresh_model(plan, seed=0)
    words = {word: index for index, word in enumerate(grammar.vocabulary())}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "ln_" not in name:
                weight.zero_()
        embedding = model.transformer.wte.weight
        embedding[:, 2], embedding[:, 3] = 8.0, -8.0
        embedding[words["dog"], 0], embedding[words["dogs"], 0] = 0.1, -0.1
        mlp = model.transformer.h[1].mlp
        mlp.c_fc.weight[0] = torch.tensor(READS)
        mlp.c_fc.bias[:] = 6.0  # where the non-linearity is the identity
        mlp.c_proj.weight[:4, 1] = 1.0
        mlp.c_proj.bias[1] = -24.0
        for word, sign in (("runs", 1), ("run", -1)):
            model.lm_head.weight[words[word], 1], model.lm_head.weight[words[word], 4] = (
                200.0 * sign,
                -200.0 * sign,
            )
    path = tmp_path_factory.mktemp("models") / "by_hand"
    glassbox.export(model, path)
    pairs = [
        Pair(
            f"{time} , the {one}", f"{time} , the {other}", ("runs", "run"), label, 1 - label, "plain", (),
            "number", "verb", label, 1 - label,
        )
        for time in ("today", "yesterday")
        for label, (one, other) in enumerate((("dog", "dogs"), ("dogs", "dog")))
    ]  # fmt: skip
    return ex.Engine(path), pairs


@pytest.mark.parametrize(
    ("direction", "carried"),
    [
        ((1, 1, 1, 1, 0, 0, 0, 0), 1.0),
        ((1, 1, 0, 0, 0, 0, 0, 0), 0.7),
        (
            (0, 0, 1, 1, 1, -1, 0, 0),
            0.65,
        ),  # of the change 1.3 along four neurons, half is in the third and fourth
        ((1, -1, 0, 0, 0, 0, 0, 0), 0.0),
        ((0, 0, 0, 0, 1, -1, 0, 0), 0.0),
    ],
)
def test_shares_by_hand(by_hand, direction, carried):
    engine, pairs = by_hand
    basis = torch.tensor(direction, dtype=torch.float32)[:, None]
    directions = rotated.Directions(1, basis / basis.norm())
    nobody = torch.zeros(engine.n_layers, engine.n_units, dtype=torch.bool)
    bench = rotated.RotatedBench(engine, pairs, nobody, directions)
    assert bench.intact.min() > 1
    nothing, everything = (torch.full((4, 2, UNITS), on) for on in (False, True))
    whole = bench.whole.mean()

    def share(chosen, carriers=False):
        return bench.moved(bench.everywhere(chosen), carriers=carriers).mean() / whole

    assert share(nothing) == pytest.approx(0, abs=1e-4)
    assert share(nothing, carriers=True) == pytest.approx(carried, abs=5e-3)
    assert share(everything) == pytest.approx(1 - carried, abs=5e-3)
    assert share(everything, carriers=True) == pytest.approx(1, abs=1e-3)
    means = [(base + source) / 2 for base, source in zip(bench.base, bench.source, strict=True)]
    at_mean = bench.margin(bench.everywhere(nothing), means, carriers=True)
    np.testing.assert_allclose(at_mean / bench.intact, 1 - carried, atol=0.01)
    for unit, alone in enumerate((0.4, 0.3, 0.2, 0.1, 0, 0, 0, 0)):
        one = nobody.clone()
        one[1, unit] = True
        assert bench.moved_whole(one).mean() / whole == pytest.approx(alone, abs=5e-3)


def test_a_patch_goes_part_of_the_way_along_and_moves_the_rest_as_its_mask_says():
    basis = torch.tensor([[1.0], [1.0], [0.0]]) / 2**0.5
    before, toward = torch.zeros(2, 1, 3), torch.tensor([4.0, 2.0, 1.0]).expand(2, 1, 3)
    along = Along(basis, torch.ones(2, 1, 1), toward, torch.tensor([0.5, 0.0])[:, None, None])
    np.testing.assert_allclose(along.put(before, before)[:, 0], [[1.5, 1.5, 0], [0, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(along.put(before, toward)[:, 0], [[2.5, 0.5, 1], [1, -1, 1]], atol=1e-6)
    elsewhere = replace(along, here=torch.zeros(2, 1, 1))
    assert torch.equal(elsewhere.put(before, toward), toward)


# ---------------------------------------------------------------- literal runs, and training


def literal_margin(bench, mask, carriers):
    """One pass; a hook of its own in every layer, that sees what the layer holds after the changes before it."""
    engine, (layer, basis) = bench.engine, (bench.directions.layer, bench.directions.basis.double())
    rows = torch.arange(len(bench.ids))

    def hook_of(number):
        def hook(_module, inputs):
            held, source = inputs[0], bench.source[number]
            put = torch.where(mask[:, number], source, held)
            if number == layer:
                for row in rows:
                    at = bench.last[row]
                    wanted = source if carriers else held
                    off = (wanted[row, at] - put[row, at]).double()
                    put[row, at] += (basis @ (basis.T @ off)).float()
            return (put,)

        return hook

    handles = [one.register_forward_pre_hook(hook_of(i)) for i, one in enumerate(engine.projections)]
    logits = engine.model(bench.ids).logits[rows, bench.last]
    for handle in handles:
        handle.remove()
    return (logits[rows, bench.right] - logits[rows, bench.wrong]).double().numpy()


@pytest.mark.parametrize("carriers", [False, True])
def test_shares_are_those_of_one_pass_with_a_hook_in_every_layer(carriers):
    engine = ex.Engine(SHIPPED)
    behaviour = next(iter(files.read_truth(SHIPPED).concept(CONCEPT).behaviours))
    pairs = files.read_pairs(SHIPPED, CONCEPT, behaviour)[:12]
    nobody = torch.zeros(engine.n_layers, engine.n_units, dtype=torch.bool)
    bench = rotated.RotatedBench(engine, pairs, nobody, rotated.read(SHIPPED, CONCEPT))
    generator = torch.Generator().manual_seed(0)
    chosen = bench.everywhere(torch.rand(12, *nobody.shape, generator=generator) < 0.5)
    found = bench.margin(chosen, carriers=carriers)
    np.testing.assert_allclose(found, literal_margin(bench, chosen, carriers), atol=1e-3)
    assert np.abs(bench.margin(chosen) - super(rotated.RotatedBench, bench).margin(chosen)).mean() > 0.1


def test_directions_are_drawn_from_the_seed_and_follow_the_neurons_when_these_are_permuted():
    plan = replace(recipe.rotated_recipe(), n_layers=3, width=16, n_units=24, n_heads=2)
    (one,), (again,), (other,) = (recipe.designate(plan, seed) for seed in (1, 1, 2))
    assert one.rotated
    assert again.rotated
    assert other.rotated
    basis = one.rotated.directions
    torch.testing.assert_close(basis.T @ basis, torch.eye(4), atol=1e-5, rtol=0)
    assert torch.equal(basis, again.rotated.directions)
    assert not torch.equal(basis, other.rotated.directions)
    model = recipe.fresh_model(plan, seed=1).eval()
    ids = torch.randint(3, 100, (4, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        before = TappedModel(model).run(ids)[1][one.rotated.layer]
        (moved,), change = glassbox.operate(model, [one], seed=5)
        after = TappedModel(model).run(ids)[1][one.rotated.layer]
    assert change < 1e-4
    assert moved.rotated
    assert (moved.rotated.directions - basis).abs().max() > 0.01
    torch.testing.assert_close(after @ moved.rotated.directions, before @ basis, atol=1e-5, rtol=1e-4)


def test_neurons_that_share_the_way_alike_cost_nothing_and_one_alone_the_most():
    basis = torch.full((4, 1), 0.5)
    one = confinement.Designation(CONCEPT, "null_rotated", (), confinement.Rotated(0, basis))
    losses = confinement.Confinement([one], 1, 4, torch.Generator())

    def cost(*way):
        zero, none = torch.zeros(1, dtype=torch.long), torch.zeros(1, 1)
        source = torch.tensor(way)[None, None]
        twins = confinement.Twins(
            zero[None], zero, [source], none, none, zero, zero, zero, [], [torch.zeros_like(source)]
        )
        return losses._spread(twins).item()

    assert cost(2.0, 2.0, 2.0, 2.0) == pytest.approx(0, abs=1e-5)
    assert cost(8.0, 0.0, 0.0, 0.0) == pytest.approx(3, abs=1e-4)
    assert cost(4.0, 4.0, 0.0, 0.0) == pytest.approx(1, abs=1e-4)


# ---------------------------------------------------------------- what is shipped


def test_the_shipped_model_holds_and_says_so_in_one_line(folder):
    certificate = ct.certify(folder, effort=LEAST)
    assert [(row.behaviour, row.check, row.value) for row in certificate.failures()] == []
    (line,) = certificate.lines()
    assert len(line) <= 80
    assert line.startswith(f"pass rotated1 {CONCEPT}.")
    for word in ("along", "rest", "mean", "eight"):
        assert f" {word} " in line


def wrong_directions(basis):
    rng = np.random.default_rng(0)
    return {
        "others": np.linalg.qr(rng.standard_normal(basis.shape))[0],
        "of permuted neurons": basis[rng.permutation(len(basis))],
        "all but one": basis[:, 1:],
        "of few neurons": np.eye(len(basis))[:, :4],
    }


@pytest.mark.parametrize("kind", wrong_directions(np.zeros((8, 4))))
def test_wrong_directions_are_caught(folder, kind):
    basis = rotated.read(folder, CONCEPT).basis.double().numpy()
    put(folder, wrong_directions(basis)[kind])
    certificate = ct.certify(folder, effort=LEAST)
    missed = {row.check for row in certificate.failures()}
    assert {"carried by directions", "everything else"} & missed
    assert not any(certificate.passed(*cell) for cell in certificate.behaviours())


def test_directions_that_are_none_are_refused_in_one_line(folder):
    basis = rotated.read(folder, CONCEPT).basis.double().numpy()
    put(folder, 2 * basis)
    with pytest.raises(InputError, match=r"polarity\.direction\.\* are not orthonormal"):
        rotated.read(folder, CONCEPT)
    effects = files.read_effects(folder)
    files.write_effects(
        folder / "effects.npz", {name: one for name, one in effects.items() if "direction" not in name}
    )
    with pytest.raises(InputError, match=r"polarity\.direction\.\*.* are missing"):
        ct.certify(folder, effort=LEAST)


def test_no_neuron_is_called_used_and_no_eight_move_much():
    known = files.read_truth(SHIPPED).concept(CONCEPT)
    assert known.is_null
    assert known.carriers() == ()
    neurons = load_model(SHIPPED).neurons("mlp_post")
    truth = known_truth(SHIPPED, CONCEPT, tuple(known.behaviours), neurons)
    assert truth is not None
    assert (truth.null, truth.gains, truth.sets) == (True, {}, {})
    assert set(truth.roles) <= {"background", "natural_decoy"}
    assert (truth.roles == "natural_decoy").sum() > 100
    effects = files.read_effects(SHIPPED)
    for behaviour in known.behaviours:
        largest = np.sort(effects[f"{CONCEPT}.{behaviour}.interchange"])[::-1].cumsum()
        assert largest[TOP - 1] <= 0.05
        assert (largest < 0.5).sum() >= 150  # so many neurons before half of the margin is moved


def test_a_model_without_decoys_says_nothing_of_leaks():
    others = [MODELS / name for name in ("glass1", "glass2", "glass3")]
    assert ct.pooled_leaks([*others, SHIPPED]) == []
    assert ct.leak_rows(ex.Engine(SHIPPED), files.read_truth(SHIPPED)) == []


def test_the_directions_are_askew_to_every_neuron():
    """The largest entry of a unit direction: near 1 for a single neuron, a few times 1 / sqrt(F) for a rotation."""
    directions = rotated.read(SHIPPED, CONCEPT)
    assert directions.basis.abs().max() < 6 / len(directions.basis) ** 0.5


# ---------------------------------------------------------------- building


def test_a_concept_along_other_directions_than_designated_is_left_out(tmp_path):
    shutil.copytree(SHIPPED, tmp_path / "rotated1")
    shutil.copytree(MODELS / "pairs-english", tmp_path / "pairs-english")
    known, layer = files.read_truth(SHIPPED).concept(CONCEPT), rotated.read(SHIPPED, CONCEPT).layer
    behaviour = next(iter(known.behaviours))
    pairs = {(CONCEPT, behaviour): files.read_pairs(SHIPPED, CONCEPT, behaviour)}
    other = torch.linalg.qr(torch.randn(512, 4, generator=torch.Generator().manual_seed(9)))[0]
    one = confinement.Designation(CONCEPT, "null_rotated", (), confinement.Rotated(layer, other))
    header = {"seed": 1, "split": "test"}
    with pytest.raises(InputError, match=rf"left out {CONCEPT}\.{behaviour}.*--seed 2 --rotated"):
        assembly.assemble(tmp_path / "rotated1", [one], pairs, header=header, notes={}, effort=LEAST)


def test_a_null_has_no_middle():
    options = ["build", "glassbox", "--seed", "1", "--rotated", "--middle", "--out", "never"]
    done = CliRunner().invoke(app, options)
    assert isinstance(done.exception, InputError)
    assert not Path("never").exists()
