"""Sampled worlds: what is promised about each role is true of the sample."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import rankdata
from sklearn.metrics import roc_auc_score

from nibench.errors import InputError
from nibench.truth.worlds import WorldSpec, one_against_rest, sample

SMALL = WorldSpec(n_items=1500, n_background=60)
LARGE = WorldSpec(n_items=60_000, n_background=20, n_types=40, sentence_length=(2, 4))


def in_split(world, split):
    rows = world.splits == split
    return world.activations[rows], world.labels[rows]


def aucs(activations, labels):
    """Area under the curve of every column, from the ranks of class 1."""
    ranks, positive = rankdata(activations, axis=0), labels == 1
    wins = ranks[positive].sum(axis=0) - positive.sum() * (positive.sum() + 1) / 2
    return wins / (positive.sum() * (~positive).sum())


@pytest.fixture(scope="module")
def large():
    return sample(LARGE, 3)


def test_the_true_auc_is_the_auc_of_a_large_sample(large):
    seen = 2 * np.abs(aucs(*in_split(large, "eval")) - 0.5)
    assert np.abs(seen - large.truth.gains["associated"]).max() < 0.03


def test_the_true_auc_of_several_classes_is_one_against_the_rest():
    spec = replace(
        LARGE, class_shares=(0.5, 0.3, 0.2), classes=("a", "b", "c"), n_distributed=0, n_correlate=0
    )
    world = sample(spec, 0)
    neuron = int(np.argmax(world.truth.gains["associated"]))
    column = world.activations[:, neuron]
    seen = [2 * abs(roc_auc_score(world.labels == c, column) - 0.5) for c in range(3)]
    assert np.mean(seen) == pytest.approx(world.truth.gains["associated"][neuron], abs=0.02)


def test_two_unit_gaussians_two_deviations_apart():
    got = one_against_rest(np.array([-1.0, 1.0]), np.zeros(1), np.array([0.5, 0.5]), np.ones(1))
    np.testing.assert_allclose(got, [1 - 0.9213503965, 0.9213503965], atol=1e-9)  # Phi(2 / sqrt 2)


def test_a_signal_responds_by_its_distance_in_deviations(large):
    neuron = int(np.argmax(large.truth.gains["responds"]))
    activations, labels = in_split(large, "eval")
    column = activations[:, neuron]
    gap = abs(column[labels == 1].mean() - column[labels == 0].mean()) / column.std()
    assert gap == pytest.approx(large.truth.gains["responds"][neuron], abs=0.05)


def test_a_correlate_fools_the_rank_split_only(large):
    correlates = large.truth.roles == "correlate"
    strength = {
        s: np.abs(aucs(*in_split(large, s))[correlates] - 0.5).mean() for s in ("rank", "probe", "eval")
    }
    assert strength["rank"] > 0.1
    assert max(strength["probe"], strength["eval"]) < 0.02


def test_dead_neurons_are_constant_and_loud_ones_are_loud():
    world = sample(SMALL, 0)
    spread = world.activations.std(axis=0)
    assert (np.ptp(world.activations[:, world.truth.roles == "dead"], axis=0) == 0).all()
    assert np.median(spread[world.truth.roles == "loud"]) > 10 * np.median(spread)


def test_roles_are_counted_and_stand_in_no_order():
    world = sample(SMALL, 0)
    assert {role: int((world.truth.roles == role).sum()) for role, _ in SMALL.role_counts} == dict(
        SMALL.role_counts
    )
    places = np.flatnonzero(world.truth.roles == "signal")
    assert places.max() - places.min() > 3 * SMALL.n_signal


def test_signal_neurons_cannot_be_told_by_their_scale():
    spreads, informative = [], []
    for seed in range(6):
        world = sample(SMALL, seed)
        ordinary = np.isin(world.truth.roles, ("signal", "distributed", "background"))
        spreads.append(world.activations.std(axis=0)[ordinary])
        informative.append(world.truth.sets["associated"][ordinary])
    assert roc_auc_score(np.concatenate(informative), np.concatenate(spreads)) == pytest.approx(0.5, abs=0.1)


def test_words_have_effects_of_their_own(large):
    column = large.activations[:, np.flatnonzero(large.truth.roles == "background")]
    of_type = np.stack([column[large.word_types == t].mean(axis=0) for t in range(5)])
    assert (of_type.std(axis=0) / column.std(axis=0)).max() > 0.3


def test_a_sentence_is_in_one_split_and_classes_keep_their_shares(large):
    for sentence in range(50):
        assert len(set(large.splits[large.sentences == sentence])) == 1
    assert large.labels.mean() == pytest.approx(LARGE.class_shares[1], abs=0.01)


def test_the_same_seed_gives_the_same_world():
    one, two, other = sample(SMALL, 1), sample(SMALL, 1), sample(SMALL, 2)
    np.testing.assert_array_equal(one.activations, two.activations)
    assert one.digest == two.digest != other.digest
    assert one.activations.dtype == np.float32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_shares": (0.5, 0.6)}, "class_shares"),
        ({"classes": ("a", "b", "c")}, "3 classes but 2"),
        ({"signal_range": (0.0, 1.0)}, "signal_range"),
        ({"n_signal": -1}, "no negative counts"),
        ({"split_shares": (0.5, 0.5, 0.0)}, "split_shares"),
        ({"factor_share": 0.8, "sentence_share": 0.3}, "together at most 1"),
        ({"n_factors": 0}, "of 0 factors"),
    ],
)
def test_an_impossible_spec_is_refused(changes, message):
    with pytest.raises(InputError, match=message):
        WorldSpec(**changes)


def test_a_class_missing_from_a_split_is_refused():
    with pytest.raises(InputError, match="raise n_items"):
        sample(WorldSpec(n_items=30, class_shares=(0.999, 0.001)), 0)
