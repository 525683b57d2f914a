"""The linear probe solver: the optimum of its objective, from anywhere, with a true bound on the error."""

import numpy as np
import pytest

from nibench import cumulative_mass, linear_probe
from tests.references import linear as slow


def standardise(x):
    return (x - x.mean(axis=0)) / x.std(axis=0)


def correlated(n_items=120, n_neurons=15, n_classes=3, seed=0, informative=3):
    """Neurons that share a few factors; the first few carry the class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, n_classes, n_items)
    x = rng.normal(size=(n_items, 3)) @ rng.normal(size=(3, n_neurons)) + rng.normal(
        size=(n_items, n_neurons)
    )
    x[:, :informative] += rng.normal(size=(n_classes, informative))[labels] * 2
    return standardise(x), labels


PENALTIES = [(0.1, 0.0), (0.05, 0.05), (0.3, 0.2), (0.0, 0.1), (0.0, 1.0)]


@pytest.mark.parametrize(("l1", "l2"), PENALTIES)
@pytest.mark.parametrize("n_classes", [2, 4])
def test_the_solution_is_that_of_plain_proximal_gradient_descent(l1, l2, n_classes):
    z, labels = correlated(n_classes=n_classes)
    probe = linear_probe(z, labels, n_classes, l1=l1, l2=l2, tolerance=1e-11)
    penalties = l1 * probe.lambda_max, l2 * probe.lambda_max
    weights, bias = slow.solve(z, labels, n_classes, *penalties)
    reached = slow.objective(z, labels, probe.weights, probe.bias, *penalties)
    assert reached <= slow.objective(z, labels, weights, bias, *penalties) + 1e-9
    np.testing.assert_allclose(probe.weights, weights, atol=2e-4)


@pytest.mark.parametrize(("l1", "l2"), PENALTIES)
def test_the_gap_bounds_the_distance_to_the_optimum(l1, l2):
    z, labels = correlated()
    best = linear_probe(z, labels, 3, l1=l1, l2=l2, tolerance=1e-13)
    penalties = l1 * best.lambda_max, l2 * best.lambda_max
    optimum = slow.objective(z, labels, best.weights, best.bias, *penalties)
    entropy = -sum(share * np.log(share) for share in np.bincount(labels) / len(labels))
    for steps in range(4):
        early = linear_probe(z, labels, 3, l1=l1, l2=l2, tolerance=0.0, max_iterations=steps)
        reached = slow.objective(z, labels, early.weights, early.bias, *penalties)
        assert (reached - optimum) / entropy <= early.gap + 1e-12
    assert best.converged


@pytest.mark.parametrize(("l1", "l2"), PENALTIES)
@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("n_items", [30, 120])
def test_the_ranking_does_not_depend_on_the_starting_point(l1, l2, n_classes, n_items):
    z, labels = correlated(n_items, n_neurons=40, n_classes=n_classes)
    zero = linear_probe(z, labels, n_classes, l1=l1, l2=l2, tolerance=1e-12)
    for seed in range(2):
        start = np.random.default_rng(seed).normal(size=(n_classes, 40))
        other = linear_probe(z, labels, n_classes, l1=l1, l2=l2, start=start, tolerance=1e-12)
        np.testing.assert_allclose(other.weights, zero.weights, atol=1e-5)
        assert np.array_equal(other.weights != 0, zero.weights != 0) or l1 == 0
        first, second = (np.argsort(-np.abs(p.weights).max(axis=0))[:10] for p in (zero, other))
        assert np.array_equal(first, second)


def test_penalties_may_be_given_as_they_stand():
    z, labels = correlated()
    relative = linear_probe(z, labels, 3, l1=0.1, l2=0.2)
    absolute = linear_probe(
        z, labels, 3, l1=0.1 * relative.lambda_max, l2=0.2 * relative.lambda_max, relative=False
    )
    np.testing.assert_allclose(absolute.weights, relative.weights, atol=1e-9)
    assert (absolute.l1, absolute.l2) == pytest.approx((0.1, 0.2))


def test_many_smooth_weights_are_found_by_other_means_and_are_the_same(monkeypatch):
    z, labels = correlated(n_classes=4)
    newton = linear_probe(z, labels, 4, l2=0.1, tolerance=1e-12)
    monkeypatch.setattr("nibench.linear.SMOOTH_UP_TO", 0)
    other = linear_probe(z, labels, 4, l2=0.1, tolerance=1e-12)
    np.testing.assert_allclose(other.weights, newton.weights, atol=1e-5)


def test_single_precision_second_derivatives_lead_to_the_same_weights(monkeypatch):
    for n_classes, l2 in ((2, 0.01), (4, 0.01), (4, 0.0)):
        z, labels = correlated(n_classes=n_classes)
        exact = linear_probe(z, labels, n_classes, l1=0.02, l2=l2, tolerance=1e-11)
        monkeypatch.setattr("nibench.solvers.SINGLE_FROM", 0)
        light = linear_probe(z, labels, n_classes, l1=0.02, l2=l2, tolerance=1e-11)
        monkeypatch.undo()
        np.testing.assert_allclose(light.weights, exact.weights, atol=1e-4)


def test_lambda_max_is_where_the_last_weight_goes():
    z, labels = correlated(n_classes=2)
    gap = z[labels == 1].mean(axis=0) - z[labels == 0].mean(axis=0)
    share = labels.mean()
    probe = linear_probe(z, labels, 2, l1=1.0)
    assert probe.lambda_max == pytest.approx(np.abs(gap).max() * share * (1 - share))
    assert not probe.weights.any()
    assert (linear_probe(z, labels, 2, l1=0.999).weights != 0).any(axis=0).sum() == 1


def test_two_classes_mirror_each_other():
    z, labels = correlated(n_classes=2)
    for penalty in ({"l1": 0.1}, {"l1": 0.05, "l2": 0.05}, {"l2": 0.1}):
        weights = linear_probe(z, labels, 2, **penalty).weights
        assert np.array_equal(weights[0], -weights[1])


def test_more_neurons_than_items_and_exact_zeros():
    z, labels = correlated(n_items=40, n_neurons=300)
    probe = linear_probe(z, labels, 3, l1=0.1)
    assert probe.gap < 1e-8
    assert 3 <= (probe.weights != 0).any(axis=0).sum() < 40


@pytest.mark.parametrize(("l1", "l2"), PENALTIES)
def test_separable_data_constant_neurons_and_absent_classes_are_solved(l1, l2):
    labels = np.repeat([0, 2, 3], [20, 20, 1])  # class 1 is absent, class 3 has one item
    z = np.zeros((41, 5))
    z[:, 0] = standardise(labels.astype(float))
    z[:, 1] = standardise(np.random.default_rng(0).normal(size=41))
    probe = linear_probe(z, labels, 5, l1=l1, l2=l2)
    assert np.isfinite(probe.weights).all()
    assert probe.gap < 1e-7
    assert not probe.weights[[1, 4]].any()
    assert not probe.weights[:, 2:].any()
    assert np.abs(probe.weights).sum(axis=0).argmax() == 0


def test_one_class_or_only_constant_neurons_give_zero_weights():
    for z, labels in [(np.ones((4, 2)), [1, 1, 1, 1]), (np.zeros((4, 2)), [0, 1, 0, 1])]:
        probe = linear_probe(z, np.array(labels), 2, l1=0.1, l2=0.1)
        assert not probe.weights.any()
        assert probe.gap == 0.0


def test_copies_share_the_weight_under_a_squared_penalty():
    z, labels = correlated(n_classes=2)
    heaviest = np.abs(linear_probe(z, labels, 2, l1=0.05, l2=0.05).weights[1]).argmax()
    z = np.column_stack([z, z[:, heaviest]])
    for penalty in ({"l1": 0.05, "l2": 0.05}, {"l2": 0.5}):
        weights = linear_probe(z, labels, 2, tolerance=1e-12, **penalty).weights
        np.testing.assert_allclose(weights[:, heaviest], weights[:, -1], atol=1e-5)
        assert weights[1, -1] != 0


def test_copies_do_not_stop_a_pure_l1_probe():
    z, labels = correlated(n_classes=3)
    single = linear_probe(z, labels, 3, l1=0.1, tolerance=1e-10)
    double = linear_probe(np.column_stack([z, z]), labels, 3, l1=0.1, tolerance=1e-10)
    assert double.gap < 1e-9
    np.testing.assert_allclose(double.weights[:, :15] + double.weights[:, 15:], single.weights, atol=1e-4)


def test_a_working_set_smaller_than_the_support_still_gets_there(monkeypatch):
    z, labels = correlated(n_classes=3, n_neurons=60)
    whole = linear_probe(z, labels, 3, l1=0.02, l2=0.02, tolerance=1e-10)
    assert (whole.weights != 0).sum() > 40
    monkeypatch.setattr("nibench.solvers.WORKING_SET", 20)
    pieces = linear_probe(z, labels, 3, l1=0.02, l2=0.02, tolerance=1e-10, max_iterations=2000)
    np.testing.assert_allclose(pieces.weights, whole.weights, atol=1e-4)


def test_the_input_is_not_changed():
    z, labels = correlated()
    z.flags.writeable = labels.flags.writeable = False
    linear_probe(z, labels, 3, l1=0.1, l2=0.1)
    linear_probe(z, labels, 3, l2=0.1)


def test_a_probe_without_a_penalty_is_refused():
    with pytest.raises(ValueError, match="expected fractions of lambda_max, at least one above 0"):
        linear_probe(np.zeros((2, 1)), np.array([0, 1]), 2)


def test_cumulative_mass_by_hand():
    scores = cumulative_mass(np.array([[4.0, -3.0, 0.0, 3.0], [0.0, 0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(scores, [[1.0, 0.6, 0.0, 0.6], [0.0, 0.0, 0.0, 0.0]])


def test_cumulative_mass_in_steps_by_hand():
    scores = cumulative_mass(np.array([[4.0, -3.0, 0.0, 3.0, 1e-9]]), stride=4)
    np.testing.assert_allclose(scores, [[1.0, 0.6, 0.0, 0.6, 0.2]], atol=1e-6)


def test_cumulative_mass_is_the_literal_one():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(17, 300)) * (rng.random((17, 300)) < 0.4)
    weights[:, 100:110] = weights[:, :1]  # ties
    np.testing.assert_allclose(cumulative_mass(weights), 1 - slow.mass_ahead(weights), atol=1e-12)


def test_no_weight_is_so_small_that_it_scores_like_none():
    scores = cumulative_mass(np.array([[1.0, 1e-30, 0.0]]))
    assert scores[0, 1] > scores[0, 2] == 0.0
