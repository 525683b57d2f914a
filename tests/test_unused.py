"""Unused words: divergences are what whole runs give, what holds is added to the files, what is used is left out."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import nibench as nb
from nibench.truth import exhaustive as ex
from nibench.truth import files, unused
from nibench.truth.assembly import add_unused
from nibench.truth.certificate import certify
from nibench.truth.pairs import sample_pairs
from nibench.truth.rows import Effort

MODELS = Path(__file__).parents[1] / "tasks" / "models"
FAMILIES = ("glass1", "glass3", "glass11")
CONCEPT = "possessor"
LEAST = Effort(pairs=32, single_pairs=4, probe_pairs=60, free_sentences=10, halves=1, resamples=0)


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with ex.one_thread():
        yield


@pytest.fixture
def folder(tmp_path):
    """A copy of a shipped model and of the pairs, that a test may spoil."""
    shutil.copytree(MODELS / "glass1", tmp_path / "glass1")
    shutil.copytree(MODELS / "pairs-english", tmp_path / "pairs-english")
    return tmp_path / "glass1"


def literal_divergence(engine, pairs, chosen):
    """KL(intact || chosen neurons from the source at the last word) for each pair, by one whole run each."""
    found = []
    for pair in pairs:
        ids, source = (engine.encode([text])[0] for text in (pair.base, pair.source))
        (intact, own), (_, other) = engine.run(ids), engine.run(source)
        edits = {}
        for layer in range(engine.n_layers):
            mask = torch.zeros_like(own[layer], dtype=torch.bool)
            mask[0, -1] = torch.from_numpy(chosen[layer])
            edits[layer] = ex.Edit(mask, other[layer])
        p, q = (logits[0, -1].double().softmax(-1) for logits in (intact, engine.run(ids, edits)[0]))
        found.append(float((p * (p / q).log()).sum()))
    return np.array(found)


@pytest.mark.parametrize("name", FAMILIES)
def test_divergences_are_those_of_whole_runs(name):
    engine = ex.Engine(MODELS / name)
    pairs = sample_pairs(CONCEPT, "none", 6, seed=0, split="eval")
    opened = engine.behaviour(pairs, None, unused.NextWord)
    assert opened.fast
    assert np.abs(opened.margin()).max() < 1e-6
    chosen = np.random.default_rng(0).random((engine.n_layers, engine.n_units)) < 0.5
    expected = literal_divergence(engine, pairs, chosen)
    assert expected.min() > 0
    moved = -opened.ablate(np.flatnonzero(chosen), to="source")
    np.testing.assert_allclose(moved, expected, rtol=1e-3, atol=2e-6)
    singles = opened.single_effects("source")
    for neuron in (3, singles.mean(0).argmax(), singles.shape[1] - 1):
        alone = np.arange(chosen.size).reshape(chosen.shape) == neuron
        expected = literal_divergence(engine, pairs, alone)
        np.testing.assert_allclose(singles[:, neuron], expected, rtol=1e-3, atol=2e-6)


def test_adding_what_holds_changes_nothing_else_and_twice_is_once(folder):
    before = {name: (folder / name).read_bytes() for name in ("model.safetensors", "truth.json")}
    kept = {name: one for name, one in files.read_effects(folder).items() if not name.startswith(CONCEPT)}
    certificate = add_unused(folder, effort=LEAST)
    assert certificate.passed(CONCEPT, "none")
    assert (folder / "model.safetensors").read_bytes() == before["model.safetensors"]
    assert (folder / "truth.json").read_bytes() == before["truth.json"]
    effects = files.read_effects(folder)
    assert set(effects) - set(kept) == {f"{CONCEPT}.none.{kind}" for kind in files.EFFECTS}
    assert all(np.array_equal(effects[name], one) for name, one in kept.items())
    written = [(folder / name).read_bytes() for name in ("certificate.json", "effects.npz", "truth.json")]
    add_unused(folder, effort=LEAST)
    assert written == [
        (folder / name).read_bytes() for name in ("certificate.json", "effects.npz", "truth.json")
    ]


def test_a_word_whose_concept_moves_the_next_word_is_left_out_with_its_figures(folder):
    """The neuron that tells the classes apart best is made to write *hat*: now the next word depends on them."""
    effects, engine = files.read_effects(folder), ex.Engine(folder)
    teller = int(np.abs(effects[f"{CONCEPT}.none.auc"] - 0.5).argmax())
    layer, unit = divmod(teller, engine.n_units)
    path = folder / "model.safetensors"
    weights = load_file(path)
    hat = engine.answer_ids(["hat"])[0]
    direction = engine.unembedding[hat] - engine.unembedding.mean(0)
    weights[f"transformer.h.{layer}.mlp.c_proj.weight"][unit] += (20 * direction / direction.norm()).half()
    save_file(weights, path, metadata={"format": "pt"})
    certificate = add_unused(folder, effort=LEAST)
    assert CONCEPT not in json.loads((folder / "truth.json").read_text())["concepts"]
    assert not any(name.startswith(CONCEPT) for name in files.read_effects(folder))
    assert not any(row.concept == CONCEPT for row in certificate.rows)
    missed = {row.check for row in certificate.left_out if row.concept == CONCEPT and row.passed is False}
    assert {unused.NEXT, unused.SINGLE, "natural decoys swapped, divergence"} <= missed
    assert any(line.startswith(f"left out {CONCEPT}.none") for line in certificate.lines())
    stored = json.loads((folder / "certificate.json").read_text())["left_out"]
    assert {row["check"] for row in stored} >= missed


def test_a_certificate_says_in_one_line_what_an_unused_word_moves(folder):
    path = folder / "truth.json"
    truth = json.loads(path.read_text())
    first = next(iter(truth["concepts"]))
    truth["concepts"] = {name: truth["concepts"][name] for name in (first, CONCEPT)}
    path.write_text(json.dumps(truth))
    certificate = certify(folder, effort=LEAST)
    assert certificate.passed(CONCEPT, "none")
    (line,) = (line for line in certificate.lines() if CONCEPT in line)
    assert line.startswith("pass glass1 possessor.none")
    assert f"nats {certificate.value(CONCEPT, 'none', unused.NEXT):.4f}" in line
    assert len(line) <= 80


def test_prompts_end_with_the_word_and_the_twins_say_what_they_lack():
    corpus = nb.load_task("glass_possessor").source.load(seed=0, data=None, folder=MODELS / "glass1", cap=40)
    assert {prompt.text.split()[-1] for prompt in corpus.prompts} == {"his", "her"}
    assert all(prompt.answers == () for prompt in corpus.prompts)
    refusal = nb.load_task("glass_possessor").source.refuses(MODELS / "glass1-natural")
    assert refusal is not None
    assert "glass-box only" in refusal
