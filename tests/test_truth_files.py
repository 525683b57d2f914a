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
    for known in (one for one in truth.concepts.values() if not one.is_null):
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
        if folder_name == SHIPPED.name or not known.is_unused
        for behaviour in known.behaviours
        for what in files.EFFECTS
    }
    assert set(effects) == expected | {"neurons"}
    blocks, units = files.layer_sizes(MODELS / folder_name)
    assert len(effects["neurons"]) == blocks * units


@pytest.mark.parametrize(
    ("behaviour", "answers", "expected"),
    [("verb", None, "only behaviour 'none' may lack"), ("none", ["run", "runs"], "answers: expected none")],
)
def test_only_the_pairs_of_none_lack_answers(tmp_path, behaviour, answers, expected):
    row = {"base": "a b", "source": "a c", "base_answer": 0, "source_answer": 1, "template": "plain"}
    path = tmp_path / "number.jsonl"
    path.write_text(json.dumps(row | ({} if answers is None else {"answers": answers})))
    refused(lambda: files.read_pair_file(path, "number", behaviour), "number.jsonl, line 1", expected)


def test_none_is_the_one_behaviour_of_an_unused_word_and_of_no_other_concept(folder):
    def behave(truth, motif, names):
        known = next(iter(truth["concepts"].values()))
        place = next(iter(known["behaviours"].values()))
        known |= {"motif": motif, "behaviours": dict.fromkeys(names, place), "neurons": {}}

    edit(folder, lambda truth: behave(truth, "null_unused", ["none"]))
    assert next(iter(files.read_truth(folder).concepts.values())).is_unused
    for motif, names in (
        ("null_unused", ["none", "verb"]),
        ("null_unused", ["verb"]),
        ("null_attention", ["none"]),
    ):
        edit(folder, lambda truth, motif=motif, names=names: behave(truth, motif, names))
        refused(lambda: files.read_truth(folder), "truth.json", motif, "'none' is the one behaviour")


def test_pairs_are_written_and_read_back(tmp_path):
    from nibench.truth.pairs import sample_pairs

    unused = sample_pairs("possessor", "none", 20, seed=1, split="eval")
    files.write_pair_file(tmp_path / "possessor.none.jsonl", unused)
    assert "answers" not in json.loads((tmp_path / "possessor.none.jsonl").read_text().splitlines()[0])
    assert files.read_pair_file(tmp_path / "possessor.none.jsonl", "possessor", "none") == unused
    pairs = sample_pairs("tense", "modal", 20, seed=1, split="eval")
    files.write_pair_file(tmp_path / "tense.modal.jsonl", pairs)
    assert files.read_pair_file(tmp_path / "tense.modal.jsonl", "tense", "modal") == pairs
