"""Groups of interchangeable neurons, and what each neuron stands for: worked examples, chance, ties."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nibench.metrics import Setting, Trial
from nibench.metrics.structure import asked, best_cover, chance_cover, cover, covers, grouping, labelling
from nibench.neurons import Neurons
from nibench.ranking import Ranking
from nibench.task import Truth
from tests.references import truth_metrics as slow


def trial(scores, truth, evidence=None, ks=(1, 2, 4)):
    setting = Setting(Neurons.anonymous(len(scores)), 2, {}, (), truth, None, ks=ks, ablation_ks=(1,), seed=0)
    return Trial(setting, Ranking.from_scores(scores, evidence=evidence))


def truth_of(roles, groups=None, labels=None, associated=None):
    gains = {} if associated is None else {"associated": np.array(associated, dtype=float)}
    of = [None if one is None else np.array(one) for one in (groups, labels)]
    return Truth(gains, {}, np.array(roles), groups=of[0], neuron_labels=of[1])


# cover


def test_cover_of_a_worked_ranking():
    groups = np.array([0, 1, 0, 1, -1])  # in the order of the ranking: a, b, a, b, none
    any_, all_ = cover(Ranking.from_scores([5, 4, 3, 2, 1]), groups, (1, 2, 3, 4, 5))
    assert any_ == pytest.approx([0.5, 1, 1, 1, 1])
    assert all_ == pytest.approx([0, 0, 0.5, 1, 1])


def test_cover_of_three_pairs_in_a_ranking_of_eight():
    groups = np.array([-1, 0, 2, 0, -1, 1, 2, 1])  # oracle 20: {1, 3}, {5, 7}, {2, 6}
    ks = range(1, 9)
    any_, all_ = cover(Ranking.from_order([3, 0, 5, 1, 2, 4, 6, 7], 8), groups, ks)
    assert 3 * any_ == pytest.approx([1, 1, 2, 2, 3, 3, 3, 3])
    assert 3 * all_ == pytest.approx([0, 0, 0, 1, 1, 1, 2, 3])
    met, whole = chance_cover(np.array([2]), 8, ks)
    assert (met[2], whole[2]) == pytest.approx((0.6428571429, 0.1071428571), abs=1e-9)
    assert 1 + (1 - met).sum() == pytest.approx(3)  # expected rank of the first of a pair, and of the second
    assert 1 + (1 - whole).sum() == pytest.approx(6)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.integers(0, 2), min_size=2, max_size=6), st.integers(0, 1000))
def test_cover_equals_the_mean_over_every_tie_break(values, seed):
    scores = np.array(values, dtype=float)
    groups = np.random.default_rng(seed).integers(-1, 2, len(values))
    groups[0] = 0
    groups = np.where(groups == 1, 1 if (groups == 1).any() else -1, groups)
    any_, all_ = cover(Ranking.from_scores(scores), groups, range(1, len(values) + 1))
    assert any_ == pytest.approx(slow.mean_over_tie_breaks(slow.cover_any, scores, groups))
    assert all_ == pytest.approx(slow.mean_over_tie_breaks(slow.cover_all, scores, groups))


def test_cover_by_chance_is_that_of_one_large_tie():
    groups = np.array([0, 0, 0, 1, 1, -1, -1, -1, -1])
    ks = (1, 2, 5, 9)
    tied = cover(Ranking.from_scores(np.ones(9)), groups, ks)
    for found, expected in zip(tied, chance_cover(np.array([3, 2]), 9, ks), strict=True):
        assert found == pytest.approx(expected)
    assert tied[0][1] == pytest.approx(((1 - 6 * 5 / 72) + (1 - 7 * 6 / 72)) / 2)  # two of nine drawn
    assert tied[1][1] == pytest.approx((0 + 1 / 36) / 2)


def test_the_best_cover_takes_one_of_each_or_the_smallest_group_first():
    any_, all_ = best_cover(np.array([3, 2]), (1, 2, 3, 5))
    assert any_ == pytest.approx([0.5, 1, 1, 1])
    assert all_ == pytest.approx([0, 0.5, 0.5, 1])


def test_covers_are_zero_at_chance_and_one_at_best_and_differ_between_the_questions():
    truth = truth_of(["backup"] * 4 + ["background"] * 4, [3, 3, 7, 7, -1, -1, -1, -1])
    spread, gathered = [9, 7, 8, 6, 1, 1, 1, 1], [9, 8, 7, 6, 1, 1, 1, 1]
    for scores, best in ((spread, "gt.cover_any"), (gathered, "gt.cover_all")):
        found = {score.id: score for score in covers(trial(scores, truth)) or ()}
        assert found[best].normalised == pytest.approx(1)
        assert min(score.normalised or 0 for score in found.values()) < 1
    tied = covers(trial(np.ones(8), truth)) or ()
    assert [score.normalised for score in tied] == [pytest.approx(0, abs=1e-9)] * 2
    assert covers(trial(gathered, truth_of(["used"] * 8))) is None


# groups


COPIES = truth_of(["copy", "copy", "copy", "copy", "used", "background"], [0, 0, 1, 1, -1, -1])


def clusters(*ids):
    return SimpleNamespace(clusters=np.array(ids))


def test_clusters_that_are_the_groups_score_one_whatever_background_does():
    for background in (7, 0):
        found = grouping(trial(np.ones(6), COPIES, clusters(5, 5, 2, 2, 9, background)))
        assert found.value == pytest.approx(1)
        assert found.n_items == 5


def test_clusters_that_merge_or_split_everything_score_nothing():
    for ids in ((1, 1, 1, 1, 1, 1), (0, 1, 2, 3, 4, 5)):
        assert grouping(trial(np.ones(6), COPIES, clusters(*ids))).value == pytest.approx(0)


def test_a_worked_adjusted_rand_index():
    # groups {0,1} {2,3} {4}, clusters {0,1,2} {3} {4}: 1 of 2 pairs kept, 3 made, 10 in all
    found = grouping(trial(np.ones(6), COPIES, clusters(0, 0, 0, 1, 2, 2)))
    assert found.value == pytest.approx((1 - 2 * 3 / 10) / ((2 + 3) / 2 - 2 * 3 / 10))


def test_random_clusters_score_chance():
    rng = np.random.default_rng(0)
    truth = truth_of(["copy"] * 20, np.repeat(range(5), 4))
    values = [
        grouping(trial(np.ones(20), truth, clusters(*rng.integers(0, 5, 20)))).value for _ in range(400)
    ]
    assert np.mean(values) == pytest.approx(0, abs=4 * np.std(values) / 20)


def test_no_clusters_no_score():
    assert grouping(trial(np.ones(6), COPIES)) is None
    assert grouping(trial(np.ones(2), truth_of(["used", "used"]), clusters(0, 1))) is None


# labels


LABELLED = truth_of(
    ["used", "used", "decoy", "background", "background", "background"],
    labels=[0, 1, 1, -1, -1, -1],
    associated=[1, 1, 1, 0, 0.05, 0.6],
)


def named(*classes):
    return SimpleNamespace(named=np.array(classes))


def test_a_neuron_with_an_unplanted_association_is_not_asked_about():
    assert asked(LABELLED).tolist() == [True, True, True, True, True, False]


def test_labels_of_a_worked_answer():
    found = labelling(trial(np.ones(6), LABELLED, named(0, 1, 0, -1, 1, 0)))
    assert found.value == pytest.approx((1 + 1 / 2 + 1 / 2) / 3)  # recall of class 0, of 1, of none
    assert found.chance == pytest.approx(1 / 3)
    assert found.normalised == pytest.approx((2 / 3 - 1 / 3) / (2 / 3))
    assert found.details["accuracy"] == pytest.approx(3 / 5)
    assert found.details["macro_f1"] == pytest.approx((2 / 3 + 1 / 2 + 2 / 3) / 3)


def test_naming_everything_alike_is_chance_and_naming_all_right_is_one():
    for answer in (0, 1, -1):
        assert labelling(trial(np.ones(6), LABELLED, named(*[answer] * 6))).normalised == pytest.approx(0)
    assert labelling(trial(np.ones(6), LABELLED, named(0, 1, 1, -1, -1, 1))).value == 1


def test_no_names_or_no_labels_no_score():
    assert labelling(trial(np.ones(6), LABELLED)) is None
    assert labelling(trial(np.ones(6), replace(LABELLED, neuron_labels=None), named(*[0] * 6))) is None
    assert (
        labelling(trial(np.ones(6), replace(LABELLED, neuron_labels=np.full(6, -1)), named(*[0] * 6))) is None
    )
