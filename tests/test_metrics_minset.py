"""The fewest neurons that know as much as all."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nibench.metrics import Trial
from nibench.metrics.minset import minimal, minimal_set, wide_grid
from nibench.metrics.probing import fit_probes
from nibench.probes import correct
from nibench.ranking import Ranking
from nibench.truth.worlds import WorldSpec, sample
from tests.settings import setting_of

WORLD = sample(WorldSpec(n_items=1800, n_background=60), 0)
FOUND = Ranking.from_scores(WORLD.truth.gains["associated"])


@pytest.fixture(scope="module")
def setting():
    return setting_of(WORLD)


def test_first_reached_and_reached_to_stay():
    ks, accuracies = np.array([1, 2, 4, 8, 16]), np.array([0.6, 0.80, 0.93, 0.92, 0.945])  # oracle 5
    first, stay = minimal(accuracies, 0.95 - 0.02)
    assert (ks[first], ks[stay]) == (4, 16)
    assert minimal(accuracies, 0.95) == (5, 5)  # never
    assert minimal(accuracies, 0.5) == (0, 0)  # at once


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=8), st.integers(0, 6))
def test_both_are_what_their_words_say(values, target):
    first, stay = minimal(np.array([values, values]), np.array([target, target]))
    reached = [i for i, value in enumerate(values) if value >= target]
    staying = [i for i in range(len(values)) if all(value >= target for value in values[i:])]
    assert first.tolist() == [min(reached, default=len(values))] * 2
    assert stay.tolist() == [min(staying, default=len(values))] * 2


def test_the_grid_doubles_up_to_all_neurons(setting):
    assert wide_grid(setting) == (1, 2, 4, 8, 16, 32, 64, 128, FOUND.n_neurons)
    eight = setting_of(replace(WORLD, activations=WORLD.activations[:, :8]))
    assert wide_grid(eight) == (1, 2, 4, 8)


def test_the_value_is_where_every_larger_k_of_the_grid_holds_tried_one_by_one(setting):
    score = minimal_set(Trial(setting, FOUND))
    probes, held_out = setting.once(fit_probes), setting.splits["eval"]
    every = range(1, FOUND.n_neurons + 1)
    joint = probes.fitted["lda"].log_joint(held_out.activations, FOUND.order, every)
    accuracy = correct(joint, held_out.labels).mean(axis=1)
    size, (before, at) = int(score.value), score.details["bracket"]
    assert at == size
    target = probes.ceiling - 0.01
    assert all(accuracy[k - 1] >= target for k in (size, *(k for k in score.details["grid"] if k > size)))
    assert accuracy[before - 1] < target
    assert before == size - 1
    assert score.details["log2"] == pytest.approx(np.log2(size))
    assert score.details["share"] == pytest.approx(size / FOUND.n_neurons)
    low, high = score.details["log2_interval"]
    assert 0 <= low <= high <= np.log2(FOUND.n_neurons)


def test_the_right_neurons_first_need_fewer_than_the_right_neurons_last(setting):
    right = minimal_set(Trial(setting, FOUND))
    wrong = minimal_set(Trial(setting, Ranking.from_order(FOUND.order[::-1], FOUND.n_neurons)))
    assert right.value < right.chance / 2
    assert right.value < wrong.value / 2
    assert right.direction == -1


def test_what_is_not_lost_at_five_percent_error_is_not_reached_sooner(setting):
    score = minimal_set(Trial(setting, FOUND))
    assert score.details["noninferior"] is None or score.details["noninferior"] >= score.details["bracket"][0]
    items, hits, whole = (score.clusters[name] for name in ("items", "hits", "all_hits"))
    assert whole.sum() / items.sum() == pytest.approx(setting.once(fit_probes).ceiling)
    curve = hits.sum(axis=0) / items.sum()
    stay = minimal(curve, whole.sum() / items.sum() - 0.01)[1]
    assert score.value <= score.details["grid"][stay]


def test_never_reached_is_all_neurons_and_says_so(monkeypatch, setting):
    monkeypatch.setattr("nibench.metrics.minset.MAX_NEURONS", 8)  # a grid that ends early
    last = Ranking.from_order(FOUND.order[::-1], FOUND.n_neurons)
    few = replace(setting_of(WORLD), ks=(1, 2, 4))
    score = minimal_set(Trial(few, last))
    assert score.value == FOUND.n_neurons
    assert "right-censored: not reached within the first 4 neurons" in score.flags


def test_where_all_neurons_know_nothing_any_set_would_do():
    rng = np.random.default_rng(0)
    noise = replace(WORLD, activations=np.ones_like(WORLD.activations))
    assert minimal_set(Trial(setting_of(noise), Ranking.from_scores(rng.random(FOUND.n_neurons)))) is None
