"""The greedy Gaussian probe: the picks of the literal algorithm, without its cost."""

import numpy as np
import pytest

from nibench import greedy_gaussian
from tests.references import gaussian as slow


def sample(n_items=150, n_neurons=8, n_classes=3, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(n_items) % n_classes)
    mixing = rng.normal(size=(n_classes, n_neurons, n_neurons))
    x = np.einsum("nd,nde->ne", rng.normal(size=(n_items, n_neurons)), mixing[labels])
    return x + rng.normal(size=(n_classes, n_neurons))[labels], labels


def folds(n_items, n=3):
    rows = np.arange(n_items)
    return [(rows[rows % n != fold], rows[rows % n == fold]) for fold in range(n)]


def greedy(x, labels, steps=5, shrinkage=20.0, n_folds=3):
    rng = np.random.default_rng(0)
    return greedy_gaussian(x, labels, folds(len(x), n_folds), steps=steps, shrinkage=shrinkage, rng=rng)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_picks_and_their_information_are_those_of_the_literal_algorithm(seed, n_classes):
    x, labels = sample(seed=seed, n_classes=n_classes)
    picks = greedy(x, labels)
    order, information = slow.greedy(x, labels, folds(len(x)), 5, 20.0)
    assert picks.order.tolist() == order
    np.testing.assert_allclose(picks.information, information, atol=1e-9)
    alone = [slow.information(x, labels, folds(len(x)), [j], 20.0) for j in range(8)]
    np.testing.assert_allclose(picks.single, alone, atol=1e-9)


def test_the_paper_s_prior_gives_the_picks_of_the_literal_algorithm():
    x, labels = sample()
    picks = greedy(x, labels, shrinkage=None)
    order, information = slow.greedy(x, labels, folds(len(x)), 5, None)
    assert picks.order.tolist() == order
    np.testing.assert_allclose(picks.information, information, atol=1e-9)


def test_folds_are_held_out_until_there_are_enough_items():
    x, labels = sample()
    rng = np.random.default_rng(0)
    for enough, held_out in ((1, 50), (50, 50), (51, 100), (None, 150)):
        picks = greedy_gaussian(x, labels, iter(folds(150)), steps=1, shrinkage=20.0, rng=rng, enough=enough)
        assert picks.n_held_out == held_out


def test_single_precision_gives_the_same_picks(monkeypatch):
    x, labels = sample()
    exact = greedy(x, labels)
    monkeypatch.setattr("nibench.gaussian.DOUBLE_UP_TO", 0)
    fast = greedy(x, labels)
    assert fast.order.tolist() == exact.order.tolist()
    np.testing.assert_allclose(fast.information, exact.information, atol=1e-5)


def test_small_chunks_change_nothing(monkeypatch):
    x, labels = sample()
    whole = greedy(x, labels)
    monkeypatch.setattr("nibench.gaussian.CHUNK", 50)
    np.testing.assert_allclose(greedy(x, labels).information, whole.information, atol=1e-12)


def test_shift_and_scale_of_neurons_change_nothing():
    x, labels = sample()
    scales = 10.0 ** np.random.default_rng(1).integers(-3, 4, 8)
    moved = greedy(x * scales + 5 * scales, labels)
    plain = greedy(x, labels)
    assert moved.order.tolist() == plain.order.tolist()
    np.testing.assert_allclose(moved.single, plain.single, atol=1e-9)


def test_a_copy_is_redundant_once_its_twin_is_in():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 200)
    x = rng.normal(size=(200, 6))
    x[:, 4] += 3 * labels
    x[:, 1] = x[:, 4]
    picks = greedy(x, labels, steps=6)
    assert picks.order[0] in (1, 4)
    assert len(picks.order) == 5
    assert not {1, 4} <= set(picks.order.tolist())
    assert picks.redundant.sum() == 1


def test_a_pair_that_tells_the_class_by_its_correlation_only_is_found():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 600)
    x = rng.normal(size=(600, 10))
    x[:, 3] = np.where(labels == 1, x[:, 7], -x[:, 7]) + 0.3 * x[:, 3]
    x[:, 7] += 0.5 * labels  # a hint, so that one of the two comes first
    picks = greedy(x, labels)
    assert set(picks.order[:2].tolist()) == {3, 7}
    assert picks.information[1] > picks.information[0] + 0.3


def test_a_neuron_that_is_the_label_is_picked_though_it_never_varies_within_a_class():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 100)
    x = rng.normal(size=(100, 4))
    x[:, 2] = labels
    picks = greedy(x, labels, steps=4)
    assert picks.order[0] == 2
    assert picks.information[0] == pytest.approx(1.0, abs=0.01)


def test_constant_neurons_are_never_picked():
    x, labels = sample()
    x[:, [0, 5]] = 3.0
    picks = greedy(x, labels, steps=50)
    assert sorted(picks.order.tolist()) == [1, 2, 3, 4, 6, 7]
    assert picks.single[[0, 5]].tolist() == [-np.inf, -np.inf]
    assert not picks.redundant.any()


def test_a_class_with_one_item_and_one_class_only():
    x, labels = sample(n_classes=2)
    labels[0] = 2  # in some folds the fit has never seen it
    assert np.isfinite(greedy(x, labels).information).all()
    nothing = greedy(x, np.zeros(150, dtype=int))
    assert nothing.order.size == 0
    assert not nothing.single.any()


def test_more_steps_than_directions_stop_where_all_is_redundant():
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(20) % 2)
    x = rng.normal(size=(20, 100))
    picks = greedy(x, labels, steps=90)
    assert len(picks.order) <= 13
    assert picks.redundant.sum() == 100 - len(picks.order)
    assert np.isfinite(picks.information).all()
