"""Assembly: what was designated and does not hold is dropped, pruned or left out, by name and number."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from nibench.errors import InputError
from nibench.truth import confinement as cf
from nibench.truth import files
from nibench.truth.assembly import assemble
from nibench.truth.exhaustive import one_thread
from nibench.truth.rows import Effort

MODELS = Path(__file__).parents[1] / "tasks" / "models"
SHIPPED = MODELS / "glass1"
HEADER = {"seed": 1, "split": "test", "twin": "glass1-natural"}
LEAST = Effort(
    pairs=64, single_pairs=4, probe_pairs=100, shapley_pairs=32, free_sentences=10, halves=1, resamples=0
)


def shipped_designations():
    """What `truth.json` says, as it was designated."""
    found = []
    for concept, known in files.read_truth(SHIPPED).concepts.items():
        parts = []
        for group in known.groups():
            places = [files.parse_neuron(name) for name in group]
            decoys = [files.parse_neuron(known.neurons[name].decoy or "")[1] for name in group]
            units = tuple(unit for _, unit in places)
            equal = (1 / len(units),) * len(units)
            parts.append(cf.Part(places[0][0], units, equal, tuple(decoys), (False,) * len(units)))
        found.append(cf.Designation(concept, known.motif, tuple(parts)))  # pyright: ignore[reportArgumentType]
    return found


def run(tmp_path, designations, concepts):
    shutil.copytree(SHIPPED, tmp_path / "glass1")
    shutil.copytree(MODELS / "pairs-english", tmp_path / "pairs-english")
    known = files.read_truth(SHIPPED).concepts
    pairs = {
        (concept, behaviour): files.read_pairs(SHIPPED, concept, behaviour)
        for concept in concepts
        for behaviour in list(known[concept].behaviours)[:2]
    }
    with one_thread():
        chosen = [one for one in designations if one.concept in concepts]
        assemble(tmp_path / "glass1", chosen, pairs, header=HEADER, notes={}, effort=LEAST)
    return files.read_truth(tmp_path / "glass1"), json.loads(
        (tmp_path / "glass1" / "certificate.json").read_text()
    )


def test_a_free_rider_is_pruned_and_a_decoy_that_is_none_is_dropped(tmp_path):
    one, two, *_ = shipped_designations()
    part = one.parts[0]
    taken = {unit for other in (one, two) for p in other.parts for unit in p.used + p.decoys}
    idle, unlike = [unit for unit in range(192) if unit not in taken][:2]
    spoiled = replace(
        part,
        used=(*part.used, idle),
        decoys=(unlike, *part.decoys),
        weights=(*part.weights, 0.1),
        exchanged=(*part.exchanged, False),
    )
    # every decoy but the first now stands beside another neuron; only distances tell which are alike
    truth, certificate = run(tmp_path, [replace(one, parts=(spoiled,)), two], (one.concept, two.concept))
    assert certificate["pruned"] == [files.neuron_name(part.layer, idle)]
    assert files.neuron_name(part.layer, unlike) in certificate["decoys_dropped"]
    known = truth.concept(one.concept)
    assert set(known.carriers()) == {files.neuron_name(part.layer, unit) for unit in part.used}
    assert sum(known.neurons[name].weight or 0 for name in known.carriers()) == pytest.approx(1, abs=0.1)
    assert files.read_effects(tmp_path / "glass1").keys() >= {
        f"{one.concept}.{behaviour}.mean" for behaviour in known.behaviours
    }


def test_a_concept_on_the_wrong_neurons_is_left_out_and_too_few_refuse_the_model(tmp_path):
    one, two, *_ = shipped_designations()
    wrong = replace(one, parts=(replace(one.parts[0], used=one.parts[0].decoys, decoys=one.parts[0].used),))
    with pytest.raises(InputError, match=rf"certified 1 concepts.*left out {one.concept}.*--seed 2"):
        run(tmp_path, [wrong, two], (one.concept, two.concept))
    assert not (tmp_path / "glass1" / "certificate.json").exists()
