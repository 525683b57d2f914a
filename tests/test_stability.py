"""Stability: the index against its definition, and the methods that must and must not have it."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nibench.ground import Ground, Options
from nibench.harness import load_task
from nibench.metrics import Trial
from nibench.metrics.overlap import kappa
from nibench.metrics.rank_selectivity import double_dissociation, rank_selectivity
from nibench.metrics.selectivity import skill
from nibench.metrics.stability import halves, nogueira, overlaps_of, places, stability
from nibench.ranking import Ranking
from nibench.reruns import Reruns, run_method
from nibench.submissions import find_method
from nibench.suites import Budget


def test_the_worked_index_and_its_interval():  # oracle 17
    sets = np.zeros((4, 10))
    for row, chosen in zip(sets, ([0, 1, 2], [0, 1, 3], [0, 2, 3], [0, 1, 2]), strict=True):
        row[chosen] = 1
    value, se = nogueira(sets)
    assert value == pytest.approx(0.6031746032, abs=1e-9)
    assert se**2 == pytest.approx(0.0035430839, abs=1e-9)
    assert value - 1.96 * se == pytest.approx(0.4865100803, abs=1e-5)


@given(st.integers(2, 6), st.integers(4, 20), st.data())
def test_sets_of_one_size_give_the_mean_of_kuncheva(n_runs: int, n_neurons: int, data: st.DataObject):
    k = data.draw(st.integers(1, n_neurons - 1))
    orders = [data.draw(st.permutations(range(n_neurons))) for _ in range(n_runs)]
    sets = np.zeros((n_runs, n_neurons))
    for row, order in zip(sets, orders, strict=True):
        row[list(order[:k])] = 1
    rankings = [Ranking.from_order(np.array(order), n_neurons=n_neurons) for order in orders]
    pairs = [kappa(a, b, k) for a, b in itertools.combinations(rankings, 2)]
    assert nogueira(sets)[0] == pytest.approx(np.mean(pairs), abs=1e-9)


@given(st.integers(2, 15), st.data())
def test_the_kept_places_give_the_overlap_with_ties_and_without(n_neurons: int, data: st.DataObject):
    k = data.draw(st.integers(1, n_neurons - 1))
    coarse = st.lists(st.integers(0, 4), min_size=n_neurons, max_size=n_neurons)
    pairs = [[Ranking.from_scores(data.draw(coarse)) for _ in range(2)] for _ in range(2)]
    kept = np.array([[places(half, k) for half in pair] for pair in pairs])
    assert kept.dtype == np.uint8
    assert overlaps_of(kept, k) == pytest.approx([kappa(a, b, k) for a, b in pairs], abs=1e-12)


def test_the_index_has_no_value_without_room_for_chance():
    assert np.isnan(nogueira(np.ones((3, 5)))[0])
    assert nogueira(np.tile(np.arange(6) < 2, (4, 1)))[0] == pytest.approx(1)


def test_the_worked_dissociation_and_skills():  # oracles 10 and 11
    assert double_dissociation(np.array([[0.90, 0.70], [0.55, 0.65]])) == pytest.approx(0.15)
    real, control = skill(np.array([0.92, 0.70]), np.array([0.60, 0.50]))
    assert (real, control, real - control) == pytest.approx((0.80, 0.40, 0.40))


@pytest.fixture(scope="module")
def ground() -> Ground:
    return Ground(load_task("graded_noise_world"), None, Options(budget=Budget(metrics="all")))


def trial_of(ground: Ground, name: str) -> Trial:
    file = find_method(name)
    method = file.load()

    def observe(labels=None, rows=None):
        return ground.observe(method, name, labels, rows)

    ranking = run_method(method, observe(), name, 0)
    return Trial(ground.setting(0), ranking, Reruns(method, name, 0, observe))


def test_halves_share_no_sentence_and_have_every_class(ground: Ground):
    setting = ground.setting(0)
    split = setting.splits["rank"]
    found = halves(setting)
    assert len(found) == 5
    for first, second in found:
        assert not set(split.sentences[first]) & set(split.sentences[second])
        assert len(first) + len(second) == len(split.labels)
        assert all(len(np.unique(split.labels[rows])) == setting.n_classes for rows in (first, second))


def test_a_method_that_looks_is_stable_and_one_that_draws_is_not(ground: Ground):
    looks = {score.id: score for score in stability(trial_of(ground, "lca")) or ()}
    draws = {score.id: score for score in stability(trial_of(ground, "random_ranking")) or ()}
    assert looks["stab.data"].value > 0.4
    assert looks["stab.seed"].value == 1
    for name in ("stab.data", "stab.phi", "stab.seed"):
        assert abs(draws[name].value) < 0.15, name


def test_half_of_the_items_is_what_the_method_sees(ground: Ground):
    trial = trial_of(ground, "mean_difference")
    assert trial.reruns is not None
    rows, _ = halves(trial.setting)[0]
    split = trial.setting.splits["rank"]
    seen, labels = split.activations[rows].astype(np.float64), split.labels[rows]
    again = trial.reruns(rows=rows)
    assert again is not None
    gap = seen[labels == 1].mean(axis=0) - seen[labels == 0].mean(axis=0)
    best = int(np.argmax(np.abs(gap) / np.where(seen.std(axis=0) > 0, seen.std(axis=0), np.inf)))
    assert best in again.top(5) or int(np.argmax(np.abs(gap))) in again.top(5)


def test_only_rankings_that_follow_the_labels_are_selective(ground: Ground):
    follows = {score.id: score for score in rank_selectivity(trial_of(ground, "lca")) or ()}
    assert follows["sel.rank_gap"].value > 0.1
    assert follows["sel.rank_gap"].ci95[0] > 0
    assert follows["sel.dd"].value > 0
    assert follows["sel.rank_div"].details["halves"] > follows["sel.rank_div"].details["control"]
    assert rank_selectivity(trial_of(ground, "variance")) is None  # reads no label
    assert rank_selectivity(Trial(ground.setting(0), trial_of(ground, "lca").ranking)) is None


def test_a_rerun_that_fails_is_told_and_no_more(ground: Ground):
    class Broken:
        needs = find_method("lca").load().needs

        def rank(self, data, rng):
            raise ZeroDivisionError("half is nothing")

    reruns = Reruns(Broken(), "broken", 0, lambda labels, rows: ground.observe(Broken(), "broken"))  # type: ignore[arg-type]
    assert reruns(seed=3) is None
    assert reruns(seed=3) is None
    assert reruns.failures == ["run again, broken raised ZeroDivisionError: half is nothing"]
