"""What a truth model's files say of its neurons: every role, nulls, tiers; hand-made folders and the shipped ones."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from nibench.errors import InputError
from nibench.neurons import Block, Neurons
from nibench.task import Truth
from nibench.truth import files
from nibench.truth.known import known_truth, tier_of

MODELS = Path(__file__).parent.parent / "tasks" / "models"
NEURONS = Neurons((Block("L0.mlp_post", 0, 6), Block("L1.mlp_post", 1, 6)))
AUC = [1.0, 0.0, 0.97, 0.03, 0.5, 0.52, 0.96, 0.7, 0.5, 0.5, 0.5, 0.5]
DECLARED = {
    "L0.mlp_post.0": {"role": "used", "weight": 0.6},
    "L0.mlp_post.1": {"role": "backup", "group": 0},
    "L0.mlp_post.2": {"role": "backup", "group": 1},
    "L0.mlp_post.3": {"role": "copy", "weight": 0.2, "group": 0},
    "L0.mlp_post.4": {"role": "sign_mixed", "weight": 0.3},
    "L0.mlp_post.5": {"role": "cancelled"},
}


def folder(path: Path, *, motif="ensemble", neurons=None, twin=None, effects=True) -> Path:
    """A model folder of two layers with six neurons each, whose weights are never opened."""
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"n_layer": 2, "n_inner": 6}))
    (path / "model.safetensors").write_bytes(path.name.encode())
    digest = hashlib.sha256(path.name.encode()).hexdigest()
    if twin is not None:
        (path / "twin.json").write_text(json.dumps({"schema": 1, "model_sha256": digest, **twin}))
    else:
        concept = {
            "classes": ["Sing", "Plur"],
            "motif": motif,
            "behaviours": {"verb": {"pairs": "verb.jsonl", "observe_at": "last", "intervene_at": "last"}},
            "neurons": DECLARED if neurons is None else neurons,
        }
        truth = {
            "schema": 1,
            "model_sha256": digest,
            "seed": 1,
            "split": "dev",
            "concepts": {"number": concept},
        }
        (path / "truth.json").write_text(json.dumps(truth))
    if effects:
        values = {
            "auc": AUC,
            "responds": np.ones(12),
            "interchange": np.linspace(-1, 1, 12),
            "mean": -np.ones(12),
        }
        arrays = {f"number.verb.{name}": np.array(one, dtype=np.float32) for name, one in values.items()}
        files.write_effects(path / "effects.npz", {"neurons": np.array(list(NEURONS)), **arrays})
    else:
        files.write_effects(path / "effects.npz", {"neurons": np.array(list(NEURONS))})
    return path


def known(path: Path, neurons: Neurons = NEURONS) -> Truth:
    truth = known_truth(path, "number", ("verb",), neurons)
    assert truth is not None
    return truth


def test_roles_gains_groups_and_labels_of_a_glass_box(tmp_path: Path) -> None:
    truth = known(folder(tmp_path / "glass"))
    assert truth.roles.tolist() == [
        *("used", "backup", "backup", "copy", "sign_mixed", "cancelled"),
        *("natural_decoy", "background", "background", "background", "background", "background"),
    ]
    assert truth.gains["carries"].tolist() == [0.6, 0, 0, 0.2, 0.3, *[0] * 7]
    assert truth.gains["required"].tolist() == [1] * 12
    assert truth.gains["associated"] == pytest.approx(2 * np.abs(np.array(AUC) - 0.5), abs=1e-6)
    assert truth.sets["carries"].tolist() == [True] * 5 + [False] * 7
    assert truth.oracles["carries"] == pytest.approx(np.abs(np.linspace(-1, 1, 12)), abs=1e-6)
    assert truth.groups is not None
    assert truth.groups.tolist() == [-1, 0, 1, 2, *[-1] * 8]  # a copy's group 0 is not a backup's
    assert truth.neuron_labels is not None
    assert truth.neuron_labels.tolist() == [1, 0, 1, 0, 0, 1, 1, *[-1] * 5]
    assert (truth.tier, truth.lineage, truth.null) == ("glass-box", "glass", False)


def test_some_layers_only_keep_their_own_truth(tmp_path: Path) -> None:
    path = folder(tmp_path / "glass")
    later = known(path, Neurons((Block("L1.mlp_post", 1, 6),)))
    assert later.roles.tolist() == known(path).roles[6:].tolist()
    assert later.gains["associated"].tolist() == known(path).gains["associated"][6:].tolist()


def test_a_null_has_roles_and_no_answer(tmp_path: Path) -> None:
    decoy = {"L0.mlp_post.5": {"role": "decoy"}}
    truth = known(folder(tmp_path / "a", motif="null-word", neurons=decoy))
    assert (truth.null, truth.gains, truth.sets) == (True, {}, {})
    assert truth.roles[5] == "decoy"
    assert (truth.roles == "natural_decoy").sum() == 5
    bare = known(folder(tmp_path / "b", motif="null", neurons={}, effects=False))
    assert bare.null
    assert set(bare.roles) == {"background"}


def test_of_an_unused_word_what_encodes_it_is_known_and_no_neuron_carries(tmp_path: Path) -> None:
    path = folder(tmp_path / "a", motif="null_attention", neurons={})
    truth = json.loads((path / "truth.json").read_text())
    number = truth["concepts"]["number"]
    number |= {"motif": "null_unused", "behaviours": {"none": number["behaviours"]["verb"]}}
    (path / "truth.json").write_text(json.dumps(truth))
    effects = {name.replace(".verb.", ".none."): one for name, one in files.read_effects(path).items()}
    files.write_effects(path / "effects.npz", effects)
    found = known_truth(path, "number", ("none",), NEURONS)
    assert found is not None
    assert (found.null, found.sets) == (True, {})
    assert found.gains.keys() == {"associated", "responds"}
    assert found.gains["associated"] == pytest.approx(2 * np.abs(np.array(AUC) - 0.5), abs=1e-6)


@pytest.mark.parametrize(
    ("motif", "neurons", "problem"),
    [("null", None, "is a null but has neurons"), ("lone", {}, "no neuron whose role")],
)
def test_a_null_with_carriers_and_a_concept_without_are_refused(tmp_path, motif, neurons, problem) -> None:
    with pytest.raises(InputError, match=problem):
        known(folder(tmp_path / "glass", motif=motif, neurons=neurons))


@pytest.mark.parametrize(
    ("kind", "tier"), [({}, "twin"), ({"kind": "natural"}, "twin"), ({"kind": "middle"}, "middle")]
)
def test_twins_and_middles_have_graded_truth_of_the_same_lineage(tmp_path, kind, tier) -> None:
    folder(tmp_path / "glass")
    other = folder(tmp_path / "other", twin={"of": "glass", **kind})
    truth = known(other)
    assert (tier_of(other), truth.tier, truth.lineage) == (tier, tier, "glass")
    assert truth.sets == {}
    assert truth.gains["carries"] == pytest.approx(np.abs(np.linspace(-1, 1, 12)), abs=1e-6)
    assert set(truth.roles) == {"background"}


def test_a_twin_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    folder(tmp_path / "glass")
    with pytest.raises(InputError, match="kind"):
        tier_of(folder(tmp_path / "other", twin={"of": "glass", "kind": "cousin"}))


def test_a_twin_without_effects_for_the_concept_knows_nothing(tmp_path: Path) -> None:
    folder(tmp_path / "glass", motif="null", neurons={})
    other = folder(tmp_path / "other", twin={"of": "glass"}, effects=False)
    assert known_truth(other, "number", ("verb",), NEURONS) is None


def test_the_shipped_models_know_their_tier() -> None:
    found = {path.name: tier_of(path) for path in MODELS.iterdir() if (path / "effects.npz").is_file()}
    assert found["glass1"] == "glass-box"
    assert found["glass1-natural"] == "twin"
