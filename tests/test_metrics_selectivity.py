"""Selectivity: skill on the concept minus skill on labels that belong to words."""

from dataclasses import replace

import numpy as np
import pytest

from nibench.metrics import Trial
from nibench.metrics.curves import set_size
from nibench.metrics.selectivity import selectivity, skill
from nibench.ranking import Ranking
from nibench.truth.worlds import WorldSpec, sample
from tests.references import probes as slow
from tests.settings import setting_of

WORLD = sample(WorldSpec(n_items=2400, n_background=80, type_effect=1.5, n_types=30), 0)


@pytest.fixture(scope="module")
def setting():
    return setting_of(WORLD, n_controls=4)


def score(setting, scores):
    found = selectivity(Trial(setting, Ranking.from_scores(scores)))
    assert found is not None
    return found


def test_skill_is_corrected_for_each_label_sets_own_majority():
    concept, control = skill(np.array([0.92, 0.70]), np.array([0.60, 0.50]))  # oracle 10
    assert (concept, control) == (pytest.approx(0.80), pytest.approx(0.40))


def test_it_is_the_difference_of_the_probes_own_accuracies(setting):
    found = score(setting, setting.truth.gains["associated"])
    accuracy, majority = (
        np.array(found.details["control_accuracy"]),
        np.array(found.details["control_majority"]),
    )
    concept = (found.details["concept_accuracy"] - 0.5) * 0  # spelt out below
    largest = np.bincount(setting.splits["eval"].labels).max() / len(setting.splits["eval"].labels)
    concept = (found.details["concept_accuracy"] - largest) / (1 - largest)
    assert found.value == pytest.approx(concept - np.mean((accuracy - majority) / (1 - majority)))


def test_accuracies_are_those_of_textbook_probes_on_the_same_neurons(setting):
    scores = setting.truth.gains["associated"]
    found = score(setting, scores)
    top, k = Ranking.from_scores(scores).order, set_size(WORLD.activations.shape[1])
    probe, held_out = setting.splits["probe"], setting.splits["eval"]
    for number, control in enumerate(setting.controls):
        joint = slow.lda_log_joint(probe.activations, control["probe"], held_out.activations, top, (k,))
        want = (joint[0].argmax(axis=-1) == control["eval"]).mean()
        assert found.details["control_accuracy"][number] == pytest.approx(want)


def test_neurons_of_the_concept_are_selective_and_neurons_of_words_are_not(setting):
    activations, types = WORLD.activations, WORLD.word_types
    between = np.stack([activations[types == t].mean(axis=0) for t in range(30)]).std(axis=0)
    spread = activations.std(axis=0)
    of_words = np.where(WORLD.truth.sets["associated"] | (spread == 0), 0, between / np.maximum(spread, 1e-9))
    concept, words = score(setting, setting.truth.gains["associated"]), score(setting, of_words)
    assert concept.value > 0.3
    assert words.value < 0.05
    assert concept.value - 2 * concept.se > words.value


def test_the_error_adds_the_spread_of_control_seeds(setting):
    found = score(setting, setting.truth.gains["associated"])
    seeds = np.var(found.details["control_kappa"], ddof=1) / len(found.details["control_kappa"])
    assert found.se > np.sqrt(seeds)
    assert found.ci95 == pytest.approx((found.value - 1.96 * found.se, found.value + 1.96 * found.se))


def test_no_control_task_no_score(setting):
    assert selectivity(Trial(replace(setting, controls=()), Ranking.from_scores(np.arange(260.0)))) is None


def test_the_set_is_one_percent_of_the_neurons_and_at_least_ten():
    assert [set_size(n) for n in (4, 100, 1536, 12_000)] == [4, 10, 15, 120]
