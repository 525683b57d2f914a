"""Encodes: log-k area of closed-form probes, its anchors and its interval."""

from dataclasses import replace

import numpy as np
import pytest

from nibench.metrics import Trial
from nibench.metrics.curves import k_grid, log_auc, normalise, tie_report, usable_ks
from nibench.metrics.probing import encodes, fit_probes
from nibench.ranking import Ranking
from nibench.truth.worlds import WorldSpec, sample
from tests.references import probes as slow
from tests.settings import setting_of

WORLD = sample(WorldSpec(n_items=1800, n_background=80), 0)
N_NEURONS = WORLD.activations.shape[1]


@pytest.fixture(scope="module")
def setting():
    return setting_of(WORLD)


def by_id(setting, scores):
    return {score.id: score for score in encodes(Trial(setting, Ranking.from_scores(scores)))}


def test_area_over_log_k_of_a_worked_curve():
    assert log_auc([1, 2, 4, 8], np.array([0.5, 0.7, 0.8, 0.9])) == pytest.approx(
        0.7333333333, abs=1e-9
    )  # oracle 3
    assert log_auc([5], np.array([0.4])) == 0.4
    assert log_auc([1, 3, 10], np.full(3, 0.6)) == pytest.approx(0.6)


def test_the_default_grid_doubles_up_to_a_tenth_of_the_neurons():
    assert k_grid(1536) == (1, 2, 4, 8, 16, 32, 64, 128, 153)
    assert k_grid(600) == (1, 2, 4, 8, 16, 32, 64)
    assert k_grid(5) == (1, 2, 4, 5)
    assert usable_ks((1, 4, 4, 900), 10) == (1, 4, 10)


def test_a_normalised_score_needs_a_ceiling_above_random():
    assert normalise(0.8, 0.6, 0.9) == pytest.approx(2 / 3)
    assert normalise(0.95, 0.6, 0.9) > 1
    assert normalise(0.8, 0.6, None) is None
    assert normalise(0.8, 0.6, 0.63, uncertainty=0.02) is None


def test_the_curve_is_the_accuracy_of_a_textbook_probe_at_every_k(setting):
    scores = setting.truth.gains["associated"]
    found = by_id(setting, scores)
    probe, held_out = setting.splits["probe"], setting.splits["eval"]
    order, ks = Ranking.from_scores(scores).order, (1, 8, 64)
    for family, literal in (("lda", slow.lda_log_joint), ("qda", slow.qda_log_joint)):
        joint = literal(probe.activations, probe.labels, held_out.activations, order, ks)
        want = (joint.argmax(axis=-1) == held_out.labels).mean(axis=1)
        score = found[f"probe.auc[{family}]"]
        assert [score.curve[score.k.index(k)] for k in ks] == pytest.approx(want.tolist())


def test_encodes_is_the_mean_of_the_two_families(setting):
    found = by_id(setting, setting.truth.gains["associated"])
    families = [found["probe.auc[lda]"], found["probe.auc[qda]"]]
    assert found["encodes"].value == pytest.approx(np.mean([score.value for score in families]))
    assert found["encodes"].curve == pytest.approx(np.mean([score.curve for score in families], axis=0))
    for score in found.values():
        random = score.details["random"]
        assert score.normalised == pytest.approx((score.value - random) / (score.ceiling - random))


def test_the_true_neurons_encode_more_than_loud_ones_and_random_ones_score_zero(setting):
    truth = by_id(setting, setting.truth.gains["associated"])["encodes"]
    loud = by_id(setting, WORLD.activations.var(axis=0))["encodes"]
    random = [
        by_id(setting, np.random.default_rng([1, seed]).random(N_NEURONS))["encodes"].normalised
        for seed in range(20)
    ]
    assert truth.normalised > 0.5 > loud.normalised + 0.3
    assert np.mean(random) == pytest.approx(0, abs=4 * np.std(random) * np.sqrt(2 / 20))


def test_a_score_can_be_recomputed_from_its_clusters(setting):
    score = by_id(setting, setting.truth.gains["associated"])["probe.auc[lda]"]
    curve = score.clusters["hits"].sum(axis=0) / score.clusters["items"].sum()
    assert log_auc(score.k, curve) == pytest.approx(score.value)
    assert score.n_items == score.clusters["items"].sum() == len(setting.splits["eval"].labels)
    assert (
        score.n_clusters == len(score.clusters["items"]) == len(np.unique(setting.splits["eval"].sentences))
    )
    assert score.ci95[0] < score.value < score.ci95[1]


def test_chance_is_the_largest_class_and_the_ceiling_is_lda_on_all_neurons(setting):
    found = by_id(setting, setting.truth.gains["associated"])
    held_out, probe = setting.splits["eval"], setting.splits["probe"]
    everything = slow.lda_log_joint(
        probe.activations, probe.labels, held_out.activations, np.arange(N_NEURONS), (N_NEURONS,)
    )
    for score in found.values():
        assert score.chance == pytest.approx(1 - held_out.labels.mean())
        assert score.ceiling == pytest.approx((everything[0].argmax(axis=-1) == held_out.labels).mean())


def test_the_band_holds_the_middle_of_the_random_rankings(setting):
    each = [by_id(setting, -np.argsort(order)) for order in setting.random_orders]
    for metric in ("probe.auc[qda]", "encodes"):
        curves = [found[metric].curve for found in each]
        band = each[0][metric].details["random_band"]
        assert np.array(band) == pytest.approx(np.quantile(curves, [0.025, 0.975], axis=0))


def test_permuting_the_neurons_permutes_nothing_in_the_score(setting):
    order = np.random.default_rng(5).permutation(N_NEURONS)
    moved = replace(WORLD, activations=WORLD.activations[:, order])
    scores = np.random.default_rng(6).random(N_NEURONS)
    plain, permuted = by_id(setting, scores), by_id(setting_of(moved), scores[order])
    for name in plain:
        np.testing.assert_allclose(permuted[name].curve, plain[name].curve, atol=2 / 600)  # one flipped item


def test_a_grid_beyond_the_neurons_is_cut(setting):
    few = setting_of(replace(WORLD, activations=WORLD.activations[:, :5]))
    found = by_id(replace(few, ks=(1, 2, 4, 8, 64)), np.arange(5.0))
    assert found["encodes"].k == (1, 2, 4, 5)


def test_scores_that_rest_on_tie_breaks_say_so(setting):
    sparse = np.zeros(N_NEURONS)
    sparse[:10] = np.arange(10, 0, -1)
    found = by_id(setting, sparse)["encodes"]
    assert found.tie_fraction == pytest.approx(54 / 64)
    assert found.flags == ("ties decide 84% of the top 64",)
    assert tie_report(Ranking.from_scores(np.arange(20.0)), (1, 4)) == (0.0, ())


def test_a_task_in_which_nothing_is_encoded_is_not_normalised():
    rng = np.random.default_rng(0)
    noise = replace(WORLD, activations=rng.normal(size=WORLD.activations.shape).astype(np.float32))
    found = by_id(setting_of(noise), rng.random(N_NEURONS))["encodes"]
    assert found.normalised is None
    assert "tells no rankings apart" in found.flags[-1]


def test_probes_are_fitted_once_for_all_methods(setting):
    assert setting.once(fit_probes) is setting.once(fit_probes)
