"""The certificate: the shipped model passes it, and a truth that is wrong in any way does not."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from nibench.errors import InputError
from nibench.truth import certificate as ct
from nibench.truth import exhaustive as ex
from nibench.truth import files, grammar, shares

MODELS = Path(__file__).parents[1] / "tasks" / "models"
SHIPPED = sorted(path.parent for path in MODELS.glob("*/truth.json"))[0]
LEAST = ct.Effort(
    pairs=64, single_pairs=4, probe_pairs=100, shapley_pairs=32, free_sentences=10, halves=1, resamples=0
)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with ex.one_thread():
        yield


@pytest.fixture(scope="module")
def engine():
    return ex.Engine(SHIPPED)


@pytest.fixture(scope="module")
def certificate():
    return ct.certify(SHIPPED, quick=True)


@pytest.fixture
def folder(tmp_path):
    """A copy of the shipped models, with one concept left in the truth, that a test may spoil."""
    shutil.copytree(MODELS, tmp_path / "models")
    copied = tmp_path / "models" / SHIPPED.name
    edit(copied, lambda truth: [truth["concepts"].pop(name) for name in list(truth["concepts"])[1:]])
    return copied


def edit(folder, change):
    path = folder / "truth.json"
    truth = json.loads(path.read_text())
    change(truth)
    path.write_text(json.dumps(truth))


def only(truth):
    return next(iter(truth["concepts"].values()))


def modules_after(statement):
    """Names of the modules that a fresh interpreter has loaded after a statement."""
    code = f"{statement}; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_certificate_shares_no_code_with_the_training():
    loaded = modules_after("import nibench.truth.certificate")
    assert "nibench.truth.grammar" in loaded
    assert not loaded & {
        f"nibench.truth.{name}" for name in ("training", "confinement", "recipe", "glassbox")
    }


def test_grammar_and_files_load_without_torch():
    loaded = modules_after("import nibench.truth.grammar, nibench.truth.files")
    assert not loaded & {"torch", "transformers"}


def test_the_shipped_model_passes(certificate):
    assert [(row.behaviour, row.check, row.value) for row in certificate.failures()] == []
    assert certificate.ok()
    for concept, known in files.read_truth(SHIPPED).concepts.items():
        for behaviour in known.behaviours:
            assert certificate.passed(concept, behaviour)
    assert not certificate.passed("number", "mood")


def test_enough_behaviours_are_certified():
    behaviours = {
        concept: set(known.behaviours) for concept, known in files.read_truth(SHIPPED).concepts.items()
    }
    assert len(behaviours["number"]) >= 2
    assert len(behaviours["tense"]) >= 2
    assert len(behaviours["gender"]) >= 1


def test_what_the_grammar_has_is_certified_or_listed_as_left_out(certificate):
    certified = set(certificate.behaviours())
    left_out = {(row.concept, row.behaviour) for row in certificate.left_out}
    for concept, one in grammar.CONCEPTS.items():
        for behaviour in one.behaviours:
            assert (concept, behaviour) in certified | left_out or (concept, ct.WHOLE) in left_out


def test_lines_fit_a_terminal_and_name_every_behaviour(certificate):
    lines = list(certificate.lines())
    assert all(len(line) <= 80 for line in lines)
    for concept, behaviour in certificate.behaviours():
        assert sum(f"{concept}.{behaviour} " in line and line.startswith("pass") for line in lines) == 1


def test_the_stored_certificate_is_of_these_weights_and_passed():
    stored = json.loads((SHIPPED / "certificate.json").read_text())
    assert stored["model_sha256"] == files.digest(SHIPPED / "model.safetensors")
    assert all(row["passed"] is not False for row in stored["rows"])
    assert stored["surgery_max_logit_change"] < 1e-4


def test_an_intact_copy_passes_and_a_background_neuron_called_used_does_not(folder):
    before = ct.certify(folder, effort=LEAST)
    assert before.value(*before.behaviours()[0], "carried by used") > 0.9

    def change(truth):
        neurons = only(truth)["neurons"]
        used = max(
            (name for name in neurons if neurons[name]["role"] == "used"), key=lambda n: neurons[n]["weight"]
        )
        layer, unit = files.parse_neuron(used)
        other = next(
            n for u in range(256) if (n := files.neuron_name(layer, (unit + u) % 256)) not in neurons
        )
        neurons[other] = neurons.pop(used)

    edit(folder, change)
    after = ct.certify(folder, effort=LEAST)
    assert not after.ok()
    assert all(not after.passed(*cell) for cell in after.behaviours())
    assert after.value(*after.behaviours()[0], "everything else") > 0.1


def test_reversed_roles_are_caught(folder):
    def change(truth):
        neurons = only(truth)["neurons"]
        couples = [(name, one["decoy"]) for name, one in neurons.items() if "decoy" in one]
        for used, decoy in couples:
            neurons[used], neurons[decoy] = {"role": "decoy"}, {**neurons[used], "decoy": used}

    edit(folder, change)
    certificate = ct.certify(folder, effort=LEAST)
    for concept, behaviour in certificate.behaviours():
        assert certificate.value(concept, behaviour, "carried by used") < 0.9
        assert not certificate.passed(concept, behaviour)


def test_a_free_rider_called_used_is_caught(folder):
    def change(truth):
        behaviours = only(truth)["behaviours"]
        free = {"role": "used", "weight": 0.0, "weights": dict.fromkeys(behaviours, 0.0)}
        only(truth)["neurons"]["L0.mlp_post.0"] = free

    edit(folder, change)
    certificate = ct.certify(folder, effort=LEAST)
    assert {row.check for row in certificate.failures()} >= {"smallest used share"}


def test_a_used_neuron_whose_output_was_negated_is_caught(folder):
    truth = files.read_truth(folder)
    known = next(iter(truth.concepts.values()))
    used = max(known.carriers(), key=lambda name: known.neurons[name].weight or 0)
    layer, unit = files.parse_neuron(used)
    path = folder / "model.safetensors"
    weights = load_file(path)
    weights[f"transformer.h.{layer}.mlp.c_proj.weight"][unit] *= -1
    save_file(weights, path, metadata={"format": "pt"})
    edit(folder, lambda content: content.update(model_sha256=files.digest(path)))
    certificate = ct.certify(folder, effort=LEAST)
    assert "stated weights" in {row.check for row in certificate.failures()}


def test_a_wrong_weight_is_caught(folder):
    def change(truth):
        neurons = only(truth)["neurons"]
        used = next(name for name in neurons if neurons[name]["role"] == "used")
        neurons[used]["weights"] = dict.fromkeys(neurons[used]["weights"], 0.9)

    edit(folder, change)
    assert "stated weights" in {row.check for row in ct.certify(folder, effort=LEAST).failures()}


def test_a_natural_twin_claims_nothing():
    twin = SHIPPED.parent / str(files.read_truth(SHIPPED).twin)
    with pytest.raises(InputError, match=f"certify {SHIPPED.name} instead"):
        ct.certify(twin)


def literal_margin(engine, prompts, right, wrong, neuron, values):
    """One hook for one neuron, at the last position."""
    layer, unit = files.parse_neuron(neuron)
    ids, last = engine.encode(prompts)
    rows = torch.arange(len(ids))

    def put(_module, inputs):
        changed = inputs[0].clone()
        changed[rows, last, unit] = values
        return (changed,)

    handle = engine.model.transformer.h[layer].mlp.c_proj.register_forward_pre_hook(put)
    with torch.no_grad():
        logits = engine.model(ids, attention_mask=torch.ones_like(ids)).logits
    handle.remove()
    return (logits[rows, last, right] - logits[rows, last, wrong]).double().numpy()


@pytest.mark.parametrize("cell", [("number", "attractor"), ("tense", "modal")])
def test_exhaustive_effects_are_those_of_one_hook_a_neuron(engine, cell):
    pairs = grammar.sample_pairs(cell[0], cell[1], 20, seed=0, split="eval")
    prompts = [pair.base for pair in pairs]
    right = engine.answer_ids([pair.answers[pair.base_answer] for pair in pairs])
    wrong = engine.answer_ids([pair.answers[pair.source_answer] for pair in pairs])
    taken = engine.last_activations([pair.source for pair in pairs])
    fast = ex.single_margins(engine, prompts, right, wrong, taken)
    used = files.read_truth(SHIPPED).concept(cell[0]).carriers()
    some = [*used[:2], "L0.mlp_post.7", "L1.mlp_post.100", "L3.mlp_post.200"]
    for neuron in some:
        layer, unit = files.parse_neuron(neuron)
        slow = literal_margin(engine, prompts, right, wrong, neuron, taken[:, layer, unit])
        np.testing.assert_allclose(fast[:, engine.neurons.index(neuron)], slow, atol=1e-4)
    intact = ex.margins(engine, prompts, right, wrong)
    assert np.abs(fast[:, engine.neurons.index(used[0])] - intact).mean() > 0.1


@pytest.mark.parametrize("concept", list(files.read_truth(SHIPPED).concepts))
def test_the_exhaustive_interchange_oracle_finds_the_used_neurons(concept):
    known = files.read_truth(SHIPPED).concept(concept)
    effects = files.read_effects(SHIPPED)
    effect = np.abs(np.mean([effects[f"{concept}.{b}.interchange"] for b in known.behaviours], axis=0))
    relevant = np.isin(effects["neurons"], known.carriers())[np.argsort(-effect, kind="stable")]
    precision = np.cumsum(relevant) / np.arange(1, len(relevant) + 1)
    assert precision[relevant].mean() >= 0.95


def test_natural_effects_are_spread_over_many_neurons():
    """A few neurons hold most of the single-effect mass in the glass-box, and nothing like it in its twin."""
    truth = files.read_truth(SHIPPED)
    for concept, known in truth.concepts.items():
        share = []
        for folder in (SHIPPED, SHIPPED.parent / str(truth.twin)):
            effects = files.read_effects(folder)
            effect = np.abs(
                np.mean([effects[f"{concept}.{b}.interchange"] for b in known.behaviours], axis=0)
            )
            share.append(np.sort(effect)[::-1][: len(known.carriers())].sum() / effect.sum())
        assert share[0] > 0.4
        assert share[1] < share[0] / 2


def test_auc_by_hand():
    values = np.array([[0.0, 3.0, 1.0], [1.0, 2.0, 1.0], [2.0, 1.0, 1.0], [3.0, 0.0, 1.0]])
    assert ex.auc(values, np.array([0, 0, 1, 1])).tolist() == [1.0, 0.0, 0.5]
    assert ex.auc(values, np.array([0, 1, 0, 1])).tolist() == [0.75, 0.25, 0.5]


def test_shapley_shares_sum_to_what_the_set_moves(engine):
    concept, known = next(iter(files.read_truth(SHIPPED).concepts.items()))
    behaviour = next(iter(known.behaviours))
    pairs = files.read_pairs(SHIPPED, concept, behaviour)[:24]
    mask = shares.mask_of(engine, known.carriers())
    bench = shares.Bench(engine, pairs, mask)
    found = shares.shapley(bench, known.carriers())
    assert sum(found.values()) == pytest.approx(bench.moved(mask).mean() / bench.whole.mean(), abs=1e-6)
