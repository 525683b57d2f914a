"""Methods that compare models: exact against literal versions, planted matches, what is handed over and recorded."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import subspace_angles
from sklearn.cross_decomposition import CCA

import nibench as nb
from nibench import Task, control
from nibench.cross_model import Standardised, best_matches, chance_level, explained, shared_directions
from nibench.errors import InputError
from nibench.evaluation import evaluate
from nibench.ground import Ground, Options
from nibench.harness import load_task, rank_in_model
from nibench.model import load_model
from nibench.others import companions, kin
from nibench.record import Cell
from nibench.submissions import bundled_models, find_method
from nibench.suites import Budget
from nibench.task import UNLABELLED, Sentence, TextCorpus
from tests.references import cross_model as slow
from tests.tiny import network, piece_tokenizer, word_tokenizer

METHODS = ("max_correlation", "min_correlation", "linear_regression_across_models", "svcca")
NONE = np.zeros((400, 0))
TRUTH = Budget(metrics="truth")
each_method = pytest.mark.parametrize("method", METHODS)


def three_models(n=400, seed=0):
    """Three models: neurons 1 and 2 of the first are in the second, neuron 1 in the third as well, with noise."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(n, 2))
    first, second, third = (rng.normal(size=(n, width)) for width in (9, 14, 6))
    first[:, 1:3] = signal + 0.2 * first[:, 1:3]
    second[:, [7, 3]] = -4 * signal + second[:, [7, 3]]
    third[:, 5] = signal[:, 0] + 0.3 * third[:, 5]
    return first, second, third


def standard(x, covariates=None, **more):
    return Standardised(
        np.asarray(x, np.float32), NONE[: len(x)] if covariates is None else covariates, **more
    )


def labels(n):
    return np.arange(n) % 2


# ---------------------------------------------------------------- exactness


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_best_correlations_are_those_of_corrcoef(seed):
    first, second, third = three_models(90, seed)
    found = best_matches(standard(first), [standard(second), standard(third)])
    for row, other in zip(found.correlations, (second, third), strict=True):
        np.testing.assert_allclose(np.abs(row), slow.best_correlations(first, other), atol=1e-6)


def test_blocks_of_rows_change_nothing(monkeypatch):
    first, second, _ = three_models()
    whole = best_matches(standard(first), [standard(second)])
    monkeypatch.setattr("nibench.cross_model.ROW_BLOCK", 37)
    parts = best_matches(standard(first), [standard(second)])
    np.testing.assert_allclose(parts.correlations, whole.correlations, atol=1e-12)
    np.testing.assert_allclose(parts.null, whole.null, atol=1e-12)


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_the_share_explained_is_that_of_least_squares(seed):
    first, second, _ = three_models(120, seed)
    np.testing.assert_allclose(
        explained(standard(first), standard(second), 1e-9), slow.r_squared(first, second), atol=1e-5
    )


def test_collinear_neurons_do_no_harm_and_a_ridge_too_small_is_refused():
    first, second, _ = three_models()
    doubled = np.concatenate([second, second[:, :3]], axis=1)
    np.testing.assert_allclose(
        explained(standard(first), standard(doubled), 1e-6), slow.r_squared(first, second), atol=1e-4
    )
    constant = np.column_stack([second, np.ones(400)])
    with pytest.raises(InputError, match="ridge=0 is too small for neurons as collinear"):
        explained(standard(first), standard(constant), 0.0)


def test_covariates_are_taken_out_as_least_squares_would():
    first, second, _ = three_models()
    position = np.arange(400) % 9
    first[:, 4] += position
    second[:, 2] += 3 * position
    covariates = np.column_stack([position, 2 * position, np.full(400, 7)])  # collinear, and a constant
    raw = best_matches(standard(first), [standard(second)])
    assert raw.partners[0, 4] == 2
    assert abs(raw.correlations[0, 4]) > 0.8
    found = best_matches(standard(first, covariates), [standard(second, covariates)])
    expected = slow.best_correlations(slow.residuals(first, covariates), slow.residuals(second, covariates))
    np.testing.assert_allclose(np.abs(found.correlations[0]), expected, atol=1e-5)
    assert abs(found.correlations[0, 4]) < 0.2


def test_a_neuron_that_is_its_position_has_nothing_left():
    first, second, _ = three_models()
    first[:, 0] = 3.7 * (np.arange(400) % 9) + 0.1
    covariates = (np.arange(400) % 9)[:, None]
    found = best_matches(standard(first, covariates), [standard(second, covariates)])
    assert found.correlations[0, 0] == 0.0


def test_shared_directions_are_those_of_canonical_correlation_analysis():
    first, second, _ = three_models()
    z = [(x - x.mean(axis=0)) / x.std(axis=0) for x in (first, second)]
    found = shared_directions(standard(first), [standard(second)], variance=0.9)
    parts = [slow.components(x, 0.9) for x in z]
    n = min(part.shape[1] for part in parts)
    assert found.correlations.shape == (n,)
    np.testing.assert_allclose(found.correlations, np.sort(np.cos(subspace_angles(*parts)))[::-1], atol=1e-6)
    cca = CCA(n_components=3, scale=False, max_iter=10_000, tol=1e-12).fit(*parts)
    theirs = [
        np.corrcoef(a, b)[0, 1] for a, b in zip(*(part.T for part in cca.transform(*parts)), strict=True)
    ]
    np.testing.assert_allclose(found.correlations[:3], theirs, atol=1e-4)
    variates = z[0] @ found.directions
    np.testing.assert_allclose(variates.T @ variates / 400, np.eye(n), atol=1e-5)
    np.testing.assert_allclose(found.loadings, np.corrcoef(z[0].T, variates.T)[:9, 9:], atol=1e-5)


def test_unscaled_directions_have_loadings_that_are_correlations():
    first, second, _ = three_models()
    first[:, 2] *= 50
    found = shared_directions(standard(first, scaled=False), [standard(second, scaled=False)], 0.99)
    variates = (first - first.mean(axis=0)) @ found.directions
    n = len(found.correlations)
    np.testing.assert_allclose(found.loadings, np.corrcoef(first.T, variates.T)[:9, 9:], atol=1e-4)
    assert n < 3  # one loud neuron is nearly all of the variance


@pytest.mark.parametrize("run", [1, 10])
def test_the_level_of_chance_is_what_unrelated_neurons_reach(run):
    """Also where every item is followed by others like it: its level is then much higher."""
    rng = np.random.default_rng(0)
    n = 2000
    first, second = (np.repeat(rng.normal(size=(n // run, 60)), run, axis=0) for _ in range(2))
    mine, other = standard(first, np.zeros((n, 0))), standard(second, np.zeros((n, 0)))
    found = best_matches(mine, [other])
    ratio = np.abs(found.correlations[0]) / chance_level(
        mine, other, found.partners[0], found.correlations[0]
    )
    assert 0.75 < np.median(ratio) < 1.1


# ---------------------------------------------------------------- the methods


@each_method
def test_what_all_models_have_comes_first(method):
    first, second, third = three_models()
    ranking = nb.rank(method, first, labels(400), others=[second, third])
    expected = {1, 2} if method == "max_correlation" else {1}
    assert set(ranking.top(len(expected))) == expected
    assert 0 <= ranking.scores.min() <= ranking.scores.max() <= 1


def test_max_takes_the_best_model_and_min_and_regression_the_worst():
    first, second, third = three_models()
    y = labels(400)
    best, worst, told = (nb.rank(m, first, y, others=[second, third]).scores for m in METHODS[:3])
    one, other = (nb.rank("max_correlation", first, y, others=[x]).scores for x in (second, third))
    np.testing.assert_array_equal(best, np.maximum(one, other))
    np.testing.assert_array_equal(worst, np.minimum(one, other))
    alone = [nb.rank("linear_regression_across_models", first, y, others=[x]).scores for x in (second, third)]
    np.testing.assert_array_equal(told, np.minimum(*alone))


def test_the_score_of_svcca_is_what_its_docstring_says():
    first, second, third = three_models()
    ranking = nb.rank("svcca", first, labels(400), others=[second, third])
    found = ranking.evidence
    assert set(found.models) == {0, 1}
    assert (np.diff(found.correlations) <= 0).all()
    by_hand = [(found.correlations * found.loadings[j] ** 2).sum() / 2 for j in range(9)]
    np.testing.assert_allclose(ranking.scores, by_hand)


def test_a_combination_is_seen_by_regression_and_not_by_single_correlations():
    rng = np.random.default_rng(0)
    second = rng.normal(size=(2000, 40))
    first = rng.normal(size=(2000, 10))
    first[:, 6] = second.sum(axis=1)  # correlates .16 with each
    first[:, 3] = second[:, 0] + 1.5 * first[:, 3]
    y = labels(2000)
    assert nb.rank("linear_regression_across_models", first, y, others=[second]).order[0] == 6
    assert nb.rank("max_correlation", first, y, others=[second]).order[0] == 3


def test_more_neurons_than_items_explain_everything_and_the_ranking_says_so():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(30, 5)), rng.normal(size=(30, 50))
    for method, flag in (
        (METHODS[2], "noise alone explains over half"),
        ("svcca", "components outnumber items"),
    ):
        ranking = nb.rank(method, np.concatenate([first] * 6, axis=1), labels(30), others=[second])
        assert ranking.flags == (flag,)
    assert nb.rank(METHODS[2], first, labels(30), others=[second]).evidence.values.max() <= 1e-3


@each_method
@pytest.mark.parametrize("preset", ["", "@bau2019"])
def test_constant_and_negative_neurons_and_a_dead_model_give_finite_scores(method, preset):
    first, second, third = three_models(60)
    first[:, 0], first[:, 4] = 0.1, -np.abs(first[:, 4]) - 5
    second[:, 2] = -3.3
    for others in ([second, third], [np.full((60, 4), 0.7)], [second[:, :1]]):
        ranking = nb.rank(method + preset, first, labels(60), others=others)
        assert np.isfinite(ranking.scores).all()
        assert ranking.scores[0] == 0.0
    assert not nb.rank(method + preset, np.full((60, 3), 0.2), labels(60), others=[second]).scores.any()


def test_dalvi2019_is_a_preset_of_max_correlation():
    first, second, _ = three_models()
    a, b = (
        nb.rank(f"max_correlation@{p}", first, labels(400), others=[second]).scores
        for p in ("bau2019", "dalvi2019")
    )
    np.testing.assert_array_equal(a, b)


# ---------------------------------------------------------------- which models, and what is recorded


@each_method
def test_one_model_is_not_enough(method):
    first, second, _ = three_models()
    with pytest.raises(InputError, match=rf"{method} compares models: pass others="):
        nb.rank(method, first, labels(400))
    with pytest.raises(InputError, match=r"others\[0\] has 399 rows for 400 rows of X; give the same items"):
        nb.rank(method, first, labels(400), others=[second[1:]])
    second[3, 2] = np.nan
    with pytest.raises(InputError, match=r"others\[0\] holds NaN or infinity \(first: row 3, neuron 2\)"):
        nb.rank(method, first, labels(400), others=[second])


def test_kin_are_truth_models_of_the_same_kind_the_concept_first():
    models = bundled_models()
    found = kin(models["glass3"], "number")
    assert len(found) == 3
    assert "glass3" not in found
    truths = [json.loads((models[name] / "truth.json").read_text()) for name in found]
    assert all("number" in truth["concepts"] for truth in truths)
    distances = [(truth["seed"] - 3) % 1000 for truth in truths]
    assert distances == sorted(distances)
    assert kin(models["glass3-natural"], "number") == tuple(f"{name}-natural" for name in found)
    assert kin(models["glass3-middle"], "number") == kin(models["glass3-natural"], "number")


def test_companions_are_those_given_or_kin_or_the_rest_of_the_run(tmp_path: Path):
    glass = bundled_models()["glass3"]
    assert companions("glass3", glass, "number", ["glass1", "glass3", str(glass), "glass1"]) == ("glass1",)
    assert companions("glass3", glass, "number", (), ["glass3", "glass9-natural"]) == kin(glass, "number")
    assert companions("a", tmp_path, "number", (), ["a", "b", "c"]) == ("b", "c")
    assert companions(None, None, "number", ["b"]) == ()


def test_the_models_compared_are_part_of_the_key_and_of_the_record(tmp_path: Path):
    def run(*others):
        report = evaluate(
            ["max_correlation", "variance"],
            ["glass_number"],
            ["glass3"],
            others=others,
            out=tmp_path,
            cap=60,
            budget=TRUTH,
        )
        return {record.cell.method: record for record in report.records}, report.computed

    first, computed = run("glass9")
    assert computed == 2
    record = first["max_correlation"]
    assert (record.status, record.cell.others) == ("ok", ("glass9",))
    assert "--other glass9" in record.command
    assert record.digests["others"]
    assert first["variance"].cell.others == ()
    assert "others" not in first["variance"].digests
    assert run("glass9")[1] == 0
    second, computed = run("glass6")
    assert computed == 1
    assert second["max_correlation"].cell.stem != record.cell.stem


def test_cells_of_one_model_keep_their_names():
    cell = Cell(method="lca", task="t", model="m")
    assert cell.stem == cell.model_copy(update={"others": ()}).stem == "lca--t--m--s0-" + cell.stem[-8:]
    assert cell.stem != cell.model_copy(update={"others": ("a",)}).stem


def test_a_world_and_a_lonely_model_are_not_applicable():
    task = load_task("graded_noise_world")
    method = find_method("svcca").load()
    assert "no other model" in (Ground(task, None, Options()).lacks(method) or "")
    ground = Ground(load_task("glass_number"), load_model(bundled_models()["glass3"]), Options(cap=60))
    assert "no other model; name one with --other" in (ground.lacks(method) or "")


def test_a_glass_box_is_compared_with_its_kin_on_its_own_prompts():
    options = Options(cap=60)
    ranking, neurons, notes = rank_in_model("max_correlation@bau2019", "glass_number", "glass3", options)
    assert notes[-1] == f"compared with {', '.join(kin(bundled_models()['glass3'], 'number'))}"
    task = load_task("glass_number")
    ground = Ground(task, load_model(bundled_models()["glass3"]), options, others=["glass9"])
    corpus = ground.data.corpus
    other = nb.extract(load_model(bundled_models()["glass9"]), corpus, site="mlp_post", cache=False)
    np.testing.assert_array_equal(ground.beside[1][0], other.split("rank").activations)
    np.testing.assert_array_equal(ground.beside[0], np.arange(len(ground.statistics.labels)))
    mine = ground.data.split("rank").activations
    alone, _, _ = rank_in_model(
        "max_correlation@bau2019", "glass_number", "glass3", options, others=["glass9"]
    )
    live = mine.std(axis=0) > 0
    theirs = other.split("rank").activations
    np.testing.assert_allclose(
        alone.scores[live],
        slow.best_correlations(mine[:, live], theirs[:, theirs.std(axis=0) > 0]),
        atol=1e-5,
    )
    assert (ranking.scores >= 0).all()
    assert len(neurons) == len(ranking.scores)


@dataclass(frozen=True)
class Words:
    """A source of two kinds of words, among them one that a word-piece tokenizer drops."""

    def load(self, *, seed, data, folder, cap):
        words, classes = ("dog", "runs", "\u200b", "cats"), (0, 1, 0, 1)
        splits = ("rank", "probe", "eval")
        turned = [np.roll(np.arange(4), shift)[: 3 + shift % 2] for shift in range(8)]
        sentences = [
            Sentence(("the", *(words[i] for i in order)), (UNLABELLED, *(classes[i] for i in order)), split)
            for split in splits
            for order in turned
        ]
        return TextCorpus(tuple(sentences), ("noun", "other"), "words of the test")

    def fingerprint(self, data, folder):
        return ""

    def refuses(self, folder):
        return None

    def truth(self, neurons, folder):
        return None


def saved(kind, tokenizer, folder):
    network(kind, len(tokenizer)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def test_rows_are_the_same_words_in_all_models_however_they_are_cut(tmp_path: Path):
    """A word that one of them drops is left out of all."""
    pieces = saved("bert", piece_tokenizer(), tmp_path / "pieces")
    whole = saved("gpt2", word_tokenizer(), tmp_path / "whole")
    task = Task("kind", (), Words(), control.random_label_per_word_type(), min_class=1)
    method = find_method("max_correlation").load()
    ground = Ground(task, load_model(whole), Options(site="residual"), others=[pieces])
    everything = ground.data.split("rank")
    words = np.array(ground.data.words)[everything.word_types]
    readable = np.flatnonzero(words != "\u200b")
    assert 0 < len(readable) < len(words)
    rows, (other,) = ground.beside
    np.testing.assert_array_equal(rows, readable)
    theirs = nb.extract(load_model(pieces), ground.data.corpus, site="residual", cache=False)
    np.testing.assert_array_equal(np.array(theirs.words)[theirs.split("rank").word_types], words[rows])
    np.testing.assert_array_equal(other, theirs.split("rank").activations)
    seen = ground.observe(method, "max_correlation")
    np.testing.assert_array_equal(seen.activations, everything.activations[rows])
    assert (
        ground.notes(method)[-1]
        == f"{len(words) - len(rows)} words that not all models can read were left out"
    )
    assert ground.notes(find_method("variance").load()) == list(ground.data.notes)
    lengths = [3 + shift % 2 + 1 for shift in range(8)]
    expected = np.array([(place, n) for n in lengths for place in range(1, n)])[rows]
    np.testing.assert_array_equal(seen.covariates, expected)


def test_a_model_that_cannot_be_read_at_the_site_makes_the_cell_not_applicable():
    ground = Ground(
        load_task("glass_number"),
        load_model(bundled_models()["glass3"]),
        Options(cap=60),
        others=["nowhere/x"],
    )
    assert (ground.lacks(find_method("svcca").load()) or "").startswith("needs MODELS: ")
