"""Without the top k, on the last k: exact against fits to the neurons that are left."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nibench.metrics import Trial
from nibench.metrics.curves import log_auc
from nibench.metrics.probing import encodes, fit_probes
from nibench.metrics.removal import LdaWithout, QdaWithout, fit_removal, probe_curves
from nibench.probes import Lda, ProbeData, Qda
from nibench.ranking import Ranking
from nibench.truth.worlds import WorldSpec, sample
from tests.references import probes as slow
from tests.settings import setting_of
from tests.test_probes import gaussians, softmax_free

WORLD = sample(WorldSpec(n_items=1800, n_background=60), 0)
FOUND = Ranking.from_scores(WORLD.truth.gains["associated"])


@pytest.fixture(scope="module")
def setting():
    return setting_of(WORLD, n_random=8)


def by_id(setting, ranking):
    return {score.id: score for score in probe_curves(Trial(setting, ranking))}


@pytest.mark.parametrize(
    ("fit", "without", "literal"),
    [(Lda.fit, LdaWithout.of, slow.lda_log_joint), (Qda.fit, QdaWithout.of, slow.qda_log_joint)],
    ids=["lda", "qda"],
)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_without_the_first_k_is_a_textbook_fit_to_the_others(fit, without, literal, seed):
    items, labels = gaussians(seed=seed)
    held_out, _ = gaussians(seed=seed + 1)
    order = np.random.default_rng(seed).permutation(12)
    ks = (1, 2, 5, 11)
    got = without(fit(ProbeData(items), labels, 3), held_out).log_joint(order, ks)
    for row, k in zip(got, ks, strict=True):
        want = literal(items, labels, held_out, order[k:], (12 - k,))[0]
        np.testing.assert_allclose(softmax_free(row), softmax_free(want), atol=1e-6)


def test_without_any_neuron_the_frequencies_are_left():
    items, labels = gaussians(n_neurons=4)
    for fit, without in ((Lda.fit, LdaWithout.of), (Qda.fit, QdaWithout.of)):
        left = without(fit(ProbeData(items), labels, 3), items).log_joint(np.arange(4), (4,))[0]
        want = np.tile(np.log(np.bincount(labels) / len(labels)), (len(items), 1))
        np.testing.assert_allclose(softmax_free(left), want, atol=1e-6)


def test_the_last_k_are_the_first_of_the_reversed_ranking(setting):
    reverse = Ranking.from_order(FOUND.order[::-1], FOUND.n_neurons)
    bottom = by_id(setting, FOUND)["probe.curve[bottom]"]
    top = encodes(Trial(setting, reverse))[0]
    assert bottom.curve == pytest.approx(top.curve)
    assert bottom.value == pytest.approx(top.value)


def test_the_right_neurons_leave_little_behind_and_the_reverse_is_flagged(setting):
    found = by_id(setting, FOUND)
    keep = encodes(Trial(setting, FOUND))[0].value
    bottom, random, remove = (found[f"probe.curve[{name}]"] for name in ("bottom", "random", "remove"))
    assert (bottom.direction, random.direction, remove.direction) == (-1, 0, -1)
    assert bottom.details["keep_minus_bottom"] == pytest.approx(keep - bottom.value)
    assert random.details["keep_minus_random"] == pytest.approx(keep - random.value)
    assert bottom.details["keep_minus_bottom"] > random.details["keep_minus_random"] > 0.1
    assert remove.details["random_minus_remove"] > 0.1
    reverse = by_id(setting, Ranking.from_order(FOUND.order[::-1], FOUND.n_neurons))
    assert any("sign" in flag for flag in reverse["probe.curve[bottom]"].flags)
    assert not any("sign" in flag for flag in bottom.flags)


def test_random_rankings_lose_as_much_as_random_rankings(setting):
    rng = np.random.default_rng(3)
    values = np.array(
        [
            by_id(setting, Ranking.from_scores(rng.random(FOUND.n_neurons)))["probe.curve[remove]"].details[
                "random_minus_remove"
            ]
            for _ in range(12)
        ]
    )
    spread = log_auc(setting.once(fit_probes).ks, setting.once(fit_removal).random_curves["lda"]).std(ddof=1)
    assert abs(values.mean()) < 4 * (spread / np.sqrt(8) + values.std(ddof=1) / np.sqrt(12))


def test_every_curve_can_be_recomputed_from_its_clusters(setting):
    for score in by_id(setting, FOUND).values():
        families = [
            score.clusters[family].sum(axis=0) / score.clusters["items"].sum() for family in ("lda", "qda")
        ]
        for family, curve in zip(("lda", "qda"), families, strict=True):
            assert score.details[family] == pytest.approx(curve.tolist())
        assert log_auc(score.k, np.mean(families, axis=0)) == pytest.approx(score.value)
        assert score.ci95[0] < score.value < score.ci95[1]


def test_where_an_inverse_a_class_is_too_much_lda_stands_alone_and_says_so(monkeypatch):
    monkeypatch.setattr("nibench.metrics.removal.MAX_INVERTED", 10)
    setting = setting_of(replace(WORLD, activations=WORLD.activations[:, :20]), n_random=2)
    remove = by_id(setting, Ranking.from_scores(np.arange(20.0)))["probe.curve[remove]"]
    assert "qda" not in remove.clusters
    assert "lda only: too much for an inverse a class" in remove.flags
    monkeypatch.setattr("nibench.metrics.removal.MAX_NUMBERS", 10)
    setting = setting_of(replace(WORLD, activations=WORLD.activations[:, :20]), n_random=2)
    assert "probe.curve[remove]" not in by_id(setting, Ranking.from_scores(np.arange(20.0)))
