"""Files of truth models: what was edited by hand or cut short is refused in one line that names the file."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from nibench.errors import InputError
from nibench.truth import files

MODELS = Path(__file__).parents[1] / "tasks" / "models"
SHIPPED = MODELS / "glass1"


@pytest.fixture
def folder(tmp_path):
    """A copy of the shipped models that a test may spoil."""
    shutil.copytree(MODELS, tmp_path / "models")
    return tmp_path / "models" / SHIPPED.name


def edit(folder, change):
    path = folder / "truth.json"
    truth = json.loads(path.read_text())
    change(truth)
    path.write_text(json.dumps(truth))


def refused(call, *named):
    with pytest.raises(InputError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    for name in named:
        assert name in message


def a_used(truth):
    concept = next(iter(truth["concepts"].values()))
    return concept, next(name for name, one in concept["neurons"].items() if one["role"] == "used")


def test_the_shipped_truth_names_neurons_that_sum_to_about_one():
    truth = files.read_truth(SHIPPED)
    for known in truth.concepts.values():
        weights = [known.neurons[name].weight for name in known.carriers()]
        assert sum(weight for weight in weights if weight is not None) == pytest.approx(1, abs=0.1)
        for name in known.carriers():
            one = known.neurons[name]
            assert one.weight == pytest.approx(np.mean(list(one.weights.values())), abs=1e-3)


def test_a_neuron_that_the_model_lacks_is_refused(folder):
    def change(truth):
        concept, name = a_used(truth)
        concept["neurons"]["L9.mlp_post.3"] = concept["neurons"].pop(name)

    edit(folder, change)
    refused(lambda: files.read_truth(folder), "truth.json", "L9.mlp_post.3", "3 layers of 192 FFN neurons")


def test_a_name_that_is_no_neuron_is_refused(folder):
    def change(truth):
        concept, name = a_used(truth)
        concept["neurons"]["L1.attn.3"] = concept["neurons"].pop(name)

    edit(folder, change)
    refused(lambda: files.read_truth(folder), "truth.json", "L1.attn.3", "L2.mlp_post.17")


def test_an_undeclared_decoy_is_refused(folder):
    def change(truth):
        concept, name = a_used(truth)
        concept["neurons"][name]["decoy"] = "L0.mlp_post.0"

    edit(folder, change)
    refused(lambda: files.read_truth(folder), "truth.json", "L0.mlp_post.0", "no decoy")


def test_a_truth_without_concepts_or_with_an_unknown_role_is_refused(folder):
    edit(folder, lambda truth: truth.pop("concepts"))
    refused(lambda: files.read_truth(folder), "truth.json", "concepts", "nibench build glassbox")
    shutil.copy(SHIPPED / "truth.json", folder)

    def change(truth):
        concept, name = a_used(truth)
        concept["neurons"][name]["role"] = "important"

    edit(folder, change)
    refused(lambda: files.read_truth(folder), "truth.json", "role")


def test_broken_json_is_refused_with_its_line(folder):
    path = folder / "truth.json"
    path.write_text(path.read_text()[:200])
    refused(lambda: files.read_truth(folder), "truth.json", "line ")


def test_weights_cut_short_are_refused(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refused(lambda: files.read_truth(folder), "model.safetensors", "changed or cut short")


def test_a_concept_the_model_lacks_is_refused_with_what_there_is(folder):
    refused(lambda: files.read_truth(folder).concept("field"), "field", "tense")
    refused(lambda: files.read_pairs(folder, "tense", "mood"), "mood", "It has:")


def test_a_line_that_is_no_pair_is_named(folder):
    truth = files.read_truth(folder)
    concept, known = next(iter(truth.concepts.items()))
    behaviour = next(iter(known.behaviours))
    path = folder / known.behaviours[behaviour].pairs
    lines = path.read_text().splitlines()
    lines[2] = lines[2].replace('"source"', '"sauce"')
    path.write_text("\n".join(lines))
    refused(lambda: files.read_pairs(folder, concept, behaviour), path.name, "line 3")
    path.unlink()
    refused(lambda: files.read_pairs(folder, concept, behaviour), path.name)


def test_a_damaged_archive_of_effects_is_refused(folder):
    path = folder / "effects.npz"
    path.write_bytes(path.read_bytes()[:1000])
    refused(lambda: files.read_effects(folder), "effects.npz", "damaged")
    np.savez(path, neurons=np.array(["L0.mlp_post.0"]))
    refused(lambda: files.read_effects(folder), "effects.npz", "576 FFN neurons")


def test_the_natural_twin_uses_the_pairs_of_its_glassbox(folder):
    twin = folder.parent / str(files.read_truth(folder).twin)
    assert not (twin / "truth.json").exists()
    assert files.glassbox_of(twin) == folder
    concept, known = next(iter(files.read_truth(folder).concepts.items()))
    for behaviour in known.behaviours:
        assert files.read_pairs(twin, concept, behaviour) == files.read_pairs(folder, concept, behaviour)
    (folder / "truth.json").unlink()
    refused(lambda: files.glassbox_of(twin), "twin.json", "not beside it")


def test_a_folder_that_is_no_truth_model_is_refused(tmp_path):
    refused(lambda: files.glassbox_of(tmp_path), "neither truth.json nor twin.json")


@pytest.mark.parametrize("folder_name", [SHIPPED.name, files.read_truth(SHIPPED).twin])
def test_effects_cover_every_neuron_and_every_certified_behaviour(folder_name):
    effects = files.read_effects(MODELS / folder_name)
    truth = files.read_truth(SHIPPED)
    expected = {
        f"{concept}.{behaviour}.{what}"
        for concept, known in truth.concepts.items()
        for behaviour in known.behaviours
        for what in files.EFFECTS
    }
    assert set(effects) == expected | {"neurons"}
    blocks, units = files.layer_sizes(MODELS / folder_name)
    assert len(effects["neurons"]) == blocks * units


def test_pairs_are_written_and_read_back(tmp_path):
    from nibench.truth.pairs import sample_pairs

    pairs = sample_pairs("tense", "modal", 20, seed=1, split="eval")
    files.write_pair_file(tmp_path / "tense.modal.jsonl", pairs)
    assert files.read_pair_file(tmp_path / "tense.modal.jsonl", "tense", "modal") == pairs
