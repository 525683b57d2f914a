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

from nibench.disk import digest
from nibench.errors import InputError
from nibench.truth import certificate as ct
from nibench.truth import exhaustive as ex
from nibench.truth import files, grammar, shares
from nibench.truth.pairs import sample_pairs

MODELS = Path(__file__).parents[1] / "tasks" / "models"
BOXES = sorted(path.parent for path in MODELS.glob("*/truth.json"))
SHIPPED = MODELS / "glass1"
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
    loaded = modules_after("import nibench.truth.grammar, nibench.truth.pairs, nibench.truth.files")
    assert not loaded & {"torch", "transformers"}


def test_the_shipped_model_passes(certificate):
    assert [(row.behaviour, row.check, row.value) for row in certificate.failures()] == []
    assert certificate.ok()
    for concept, known in files.read_truth(SHIPPED).concepts.items():
        for behaviour in known.behaviours:
            assert certificate.passed(concept, behaviour)
    assert not certificate.passed("tense", "mood")


def one_of_each_motif():
    """A shipped model for every motif that any has."""
    found = {}
    for box in BOXES:
        trained = {name: one for name, one in files.read_truth(box).concepts.items() if not one.is_unused}
        for concept, known in trained.items():
            found.setdefault(known.motif, (box, concept))
    return [pytest.param(box, concept, id=f"{motif}-{box.name}") for motif, (box, concept) in found.items()]


@pytest.mark.parametrize(("box", "concept"), one_of_each_motif())
def test_every_motif_holds_on_fresh_rows(box, concept):
    known, engine = files.read_truth(box).concept(concept), ex.Engine(box)
    pairs = {name: files.read_pairs(box, concept, name) for name in known.behaviours}
    cells = {(concept, name): some for name, some in pairs.items()}
    measured = ex.effects(engine, cells, n=LEAST.single_pairs, n_probe=LEAST.probe_pairs)
    rows = ct.concept_rows(engine, concept, known, pairs, measured, LEAST)
    assert [(row.behaviour, row.check, row.value) for row in rows if row.passed is False] == []
    checks = {row.check for row in rows}
    expected = {
        "relay": "carried by part 2",
        "backup": "carried by part 2 alone",
        "conjunctive": "part 2 to the second class",
    }
    assert expected.get(known.motif, "everything else") in checks
    assert ("carried by used" in checks) == (not known.is_null)


def test_the_shipped_models_hold_what_they_should():
    truths = [files.read_truth(box) for box in BOXES]
    concepts = {concept for truth in truths for concept in truth.concepts}
    assert len(concepts) >= 8
    for truth in truths:
        trained = {name: one for name, one in truth.concepts.items() if not one.is_unused}
        assert len(trained) >= 2 or all(known.is_null for known in trained.values())
        for concept, known in trained.items():
            assert len(known.behaviours) >= min(2, len(grammar.CONCEPTS[concept].behaviours))


@pytest.mark.parametrize("box", BOXES, ids=lambda box: box.name)
def test_what_was_designated_is_certified_or_listed_as_left_out(box):
    stored = json.loads((box / "certificate.json").read_text())
    certified = {(row["concept"], row["behaviour"]) for row in stored["rows"]}
    left_out = {(row["concept"], row["behaviour"]) for row in stored["left_out"]}
    for concept in stored["recipe"]["concepts"]:
        for behaviour in grammar.CONCEPTS[concept].behaviours:
            assert (concept, behaviour) in certified | left_out or concept in {name for name, _ in left_out}
    for concept in grammar.UNUSED:
        assert ((concept, "none") in certified) == (concept in files.read_truth(box).concepts)
        assert ((concept, "none") in certified) != ((concept, "none") in left_out)
    assert stored["model_sha256"] == digest(box / "model.safetensors")
    assert all(row["passed"] is not False for row in stored["rows"])
    assert stored["surgery_max_logit_change"] < 1e-4


def test_lines_fit_a_terminal_and_name_every_behaviour(certificate):
    lines = list(certificate.lines())
    assert all(len(line) <= 80 for line in lines)
    for concept, behaviour in certificate.behaviours():
        assert sum(f"{concept}.{behaviour} " in line and line.startswith("pass") for line in lines) == 1


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
            n for u in range(192) if (n := files.neuron_name(layer, (unit + u) % 192)) not in neurons
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
    edit(folder, lambda content: content.update(model_sha256=digest(path)))
    certificate = ct.certify(folder, effort=LEAST)
    assert "stated weights" in {row.check for row in certificate.failures()}


def test_a_wrong_weight_is_caught(folder):
    def change(truth):
        neurons = only(truth)["neurons"]
        used = next(name for name in neurons if neurons[name]["role"] == "used")
        neurons[used]["weights"] = dict.fromkeys(neurons[used]["weights"], 0.9)

    edit(folder, change)
    assert "stated weights" in {row.check for row in ct.certify(folder, effort=LEAST).failures()}


def test_a_behaviour_that_training_left_out_is_caught(folder):
    """Declared for the neurons of another concept, it is carried elsewhere."""

    def change(truth):
        known = only(truth)
        places = {
            name: {
                **next(iter(known["behaviours"].values())),
                "pairs": f"../pairs-english/sentiment.{name}.jsonl",
            }
            for name in ("verdict", "face")
        }
        weights = dict.fromkeys(places, 0.2)
        neurons = {
            name: {**one, "weights": weights} if one["role"] != "decoy" else one
            for name, one in known["neurons"].items()
        }
        truth["concepts"] = {
            "sentiment": {**known, "classes": ["Good", "Bad"], "behaviours": places, "neurons": neurons}
        }

    edit(folder, change)
    certificate = ct.certify(folder, effort=LEAST)
    assert not certificate.ok()
    for behaviour in ("verdict", "face"):
        assert not certificate.passed("sentiment", behaviour)
        assert certificate.value("sentiment", behaviour, "everything else") > 0.5


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

    handle = engine.projections[layer].register_forward_pre_hook(put)
    with torch.no_grad():
        logits = engine.model(ids, attention_mask=torch.ones_like(ids)).logits
    handle.remove()
    return (logits[rows, last, right] - logits[rows, last, wrong]).double().numpy()


FAMILIES = {  # a model with carriers of each
    json.loads((box / "config.json").read_text())["model_type"]: box
    for box in BOXES
    if any(known.carriers() for known in files.read_truth(box).concepts.values())
}


@pytest.mark.parametrize("box", FAMILIES.values(), ids=FAMILIES)
def test_exhaustive_effects_are_those_of_one_hook_a_neuron(box):
    engine = ex.Engine(box)
    concept, known = next(iter(files.read_truth(box).concepts.items()))
    behaviour = next(iter(known.behaviours))
    some = sample_pairs(concept, behaviour, 20, seed=0, split="eval")
    right = engine.answer_ids([pair.answers[pair.base_answer] for pair in some])
    wrong = engine.answer_ids([pair.answers[pair.source_answer] for pair in some])
    base, source = [pair.base for pair in some], [pair.source for pair in some]
    taken = engine.last_activations(source)
    means = ex.concept_means(engine, concept, [behaviour], 20)
    found = ex.effects(engine, {(concept, behaviour): some}, n=20, n_probe=20)
    layer, unit = files.parse_neuron(known.carriers()[0])
    own = engine.last_activations(base)[:, layer, unit]
    intact = literal_margin(engine, base, right, wrong, known.carriers()[0], own)
    own = engine.last_activations(source)[:, layer, unit]
    whole = (intact - literal_margin(engine, source, right, wrong, known.carriers()[0], own)).mean()
    for neuron in [*known.carriers()[:2], "L0.mlp_post.7", "L1.mlp_post.100", "L2.mlp_post.20"]:
        layer, unit = files.parse_neuron(neuron)
        place = engine.neurons.index(neuron)
        swapped = literal_margin(engine, base, right, wrong, neuron, taken[:, layer, unit])
        ablated = literal_margin(engine, base, right, wrong, neuron, means[layer, unit])
        share = found[f"{concept}.{behaviour}.interchange"][place]
        assert share == pytest.approx((intact - swapped).mean() / whole, abs=1e-4)
        assert found[f"{concept}.{behaviour}.mean"][place] == pytest.approx(
            (intact - ablated).mean(), abs=1e-4
        )


def planted_boxes():
    """Every concept of a shipped model whose carriers can be told by their single effects."""
    return [
        pytest.param(box, concept, id=f"{box.name}-{concept}")
        for box in BOXES
        for concept, known in files.read_truth(box).concepts.items()
        if known.motif in files.SINGLE_MOTIFS
    ]


@pytest.mark.parametrize(("box", "concept"), planted_boxes())
def test_the_exhaustive_interchange_oracle_finds_the_used_neurons(box, concept):
    known, effects = files.read_truth(box).concept(concept), files.read_effects(box)
    effect = np.abs(np.mean([effects[f"{concept}.{b}.interchange"] for b in known.behaviours], axis=0))
    relevant = np.isin(effects["neurons"], known.carriers())[np.argsort(-effect, kind="stable")]
    precision = np.cumsum(relevant) / np.arange(1, len(relevant) + 1)
    assert precision[relevant].mean() >= 0.95


@pytest.mark.parametrize(("box", "concept"), planted_boxes())
def test_natural_effects_are_spread_over_many_neurons(box, concept):
    """A few neurons hold most of the single-effect mass in the glass-box, and less of it in its twin."""
    truth, share = files.read_truth(box), []
    known = truth.concept(concept)
    for folder in (box, box.parent / str(truth.twin)):
        effects = files.read_effects(folder)
        effect = np.abs(np.mean([effects[f"{concept}.{b}.interchange"] for b in known.behaviours], axis=0))
        share.append(np.sort(effect)[::-1][: len(known.carriers())].sum() / effect.sum())
    assert share[0] > 0.3
    assert share[1] < share[0]


def test_shapley_shares_sum_to_what_the_set_moves(engine):
    concept, known = next(iter(files.read_truth(SHIPPED).concepts.items()))
    pairs = files.read_pairs(SHIPPED, concept, next(iter(known.behaviours)))[:24]
    bench = shares.Bench(engine, pairs, shares.mask_of(engine, known.carriers()))
    worth = shares.interchange_worth(engine, pairs, shares.coalitions(known.carriers()))
    found = shares.shapley(known.carriers(), worth)
    assert sum(found.values()) == pytest.approx(
        bench.moved(bench.carriers).mean() / bench.whole.mean(), abs=1e-5
    )
    for group in list(worth)[::7]:
        moved = bench.moved(shares.mask_of(engine, sorted(group))).mean() / bench.whole.mean()
        assert worth[group] == pytest.approx(moved, abs=1e-5)


def test_shapley_shares_by_hand():
    """Two that do it only together, and one that does a quarter by itself: 3/8, 3/8, 1/4."""

    def worth(group):
        return 0.75 * ({"a", "b"} <= group) + 0.25 * ("c" in group)

    sets = shares.coalitions(["a", "b", "c"])
    assert len(sets) == 8
    assert shares.shapley(["a", "b", "c"], {one: worth(one) for one in sets}) == pytest.approx(
        {"a": 0.375, "b": 0.375, "c": 0.25}
    )
    many = [f"n{i}" for i in range(12)]
    additive = {one: sum(int(name[1:]) for name in one) / 66 for one in shares.coalitions(many)}
    assert shares.shapley(many, additive) == pytest.approx({name: int(name[1:]) / 66 for name in many})
