"""One sort: average precision and IoU, ties included, against slow and against scikit-learn's versions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import ks_2samp
from sklearn.metrics import average_precision_score, mutual_info_score, roc_auc_score

from nibench import (
    average_precision,
    binned_information,
    kolmogorov_smirnov,
    matched_iou,
    roc_auc,
    sort_columns,
)
from nibench.order_statistics import auc
from tests.references import average_precision as slow
from tests.references import order_statistics as literal

tied = st.integers(2, 25).flatmap(
    lambda n: st.tuples(
        hnp.arrays(np.float64, (n, 3), elements=st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0])),
        hnp.arrays(np.int64, n, elements=st.integers(0, 3)),
    )
)


def each(measure, x, y, n_classes, *more):
    """Of every block: (C, D), or with `more` the first of the two results."""
    found = np.zeros((n_classes, x.shape[1]))
    for block in sort_columns(x):
        result = measure(block, y, n_classes, *more)
        found[:, block.columns] = result[0] if more else result
    return found


def joint_information(x, y, n_classes, n_bins):
    return np.concatenate([binned_information(block, y, n_classes, n_bins)[1] for block in sort_columns(x)])


def both(measure, x, y, n_classes):
    high, low = np.zeros((2, n_classes, x.shape[1]))
    for block in sort_columns(x):
        high[:, block.columns], low[:, block.columns] = measure(block, y, n_classes)
    return high, low


@settings(max_examples=40, deadline=None)
@given(tied)
def test_average_precision_is_scikit_learns_and_the_literal_one_under_ties(case):
    x, y = case
    high, low = both(average_precision, x, y, 4)
    for label in np.unique(y):
        for j in range(x.shape[1]):
            relevant = y == label
            assert high[label, j] == pytest.approx(average_precision_score(relevant, x[:, j]), abs=1e-12)
            assert low[label, j] == pytest.approx(average_precision_score(relevant, -x[:, j]), abs=1e-12)
            assert high[label, j] == pytest.approx(slow.average_precision(x[:, j], relevant), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(tied)
def test_matched_iou_is_the_literal_one_under_ties(case):
    x, y = case
    high, low = both(matched_iou, x, y, 4)
    for label in np.unique(y):
        relevant = y == label
        if relevant.all():
            continue
        for j in range(x.shape[1]):
            assert high[label, j] == pytest.approx(slow.excess_iou(x[:, j], relevant), abs=1e-12)
            assert low[label, j] == pytest.approx(slow.excess_iou(-x[:, j], relevant), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(tied)
def test_the_area_under_the_curve_is_scikit_learns_and_the_literal_one_under_ties(case):
    x, y = case
    found = each(roc_auc, x, y, 4)
    for label in range(4):
        relevant = y == label
        for j in range(x.shape[1]):
            if relevant.any() and not relevant.all():
                assert found[label, j] == pytest.approx(roc_auc_score(relevant, x[:, j]), abs=1e-12)
                assert found[label, j] == pytest.approx(literal.roc_auc(x[:, j], relevant), abs=1e-12)
            else:
                assert found[label, j] == 0.5


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of the p-value, which is not compared
@settings(max_examples=40, deadline=None)
@given(tied)
def test_the_kolmogorov_smirnov_distance_is_scipys_and_the_literal_one_under_ties(case):
    x, y = case
    found = each(kolmogorov_smirnov, x, y, 4)
    for label in range(4):
        relevant = y == label
        for j in range(x.shape[1]):
            if relevant.any() and not relevant.all():
                expected = ks_2samp(x[relevant, j], x[~relevant, j]).statistic
                assert found[label, j] == pytest.approx(expected, abs=1e-12)
                assert found[label, j] == pytest.approx(literal.smirnov(x[:, j], relevant), abs=1e-12)
            else:
                assert found[label, j] == 0.0


@settings(max_examples=40, deadline=None)
@given(tied, st.integers(1, 20))
def test_binned_information_is_the_literal_one_under_ties(case, n_bins):
    x, y = case
    found, joint = each(binned_information, x, y, 4, n_bins), joint_information(x, y, 4, n_bins)
    for j in range(x.shape[1]):
        assert joint[j] == pytest.approx(literal.information(x[:, j], y, n_bins), abs=1e-12)
        for label in range(4):
            assert found[label, j] == pytest.approx(
                literal.information(x[:, j], y == label, n_bins), abs=1e-12
            )


def test_a_bin_for_every_value_gives_scikit_learns_information_less_its_bias():
    rng = np.random.default_rng(0)
    x, y = rng.permutation(np.arange(600) % 6)[:, None], rng.integers(0, 3, 600)
    plug_in = mutual_info_score(x[:, 0], y)
    assert joint_information(x, y, 3, 6)[0] == pytest.approx((plug_in - 5 * 2 / 1200) / np.log(2), abs=1e-12)


def test_information_of_noise_is_nothing_on_average():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(400, 400)), rng.integers(0, 3, 400)
    found = joint_information(x, y, 3, 16)
    assert abs(found.mean()) < 4 * found.std() / 20
    assert found.min() < 0


@settings(max_examples=20, deadline=None)
@given(tied)
def test_only_the_order_of_the_activations_counts(case):
    x, y = case
    other = x**3 + 2 * x  # increasing, and different values stay different
    for measure, more in ((roc_auc, ()), (kolmogorov_smirnov, ()), (binned_information, (5,))):
        assert np.array_equal(each(measure, x, y, 4, *more), each(measure, other, y, 4, *more))


@settings(max_examples=20, deadline=None)
@given(tied)
def test_a_negated_neuron_has_the_complement_of_the_area_and_the_same_distance(case):
    x, y = case
    np.testing.assert_allclose(each(roc_auc, -x, y, 4), 1 - each(roc_auc, x, y, 4), atol=1e-12)
    np.testing.assert_allclose(
        each(kolmogorov_smirnov, -x, y, 4), each(kolmogorov_smirnov, x, y, 4), atol=1e-12
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_average_precision_on_noise_of_any_precision(dtype):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(500, 4)).astype(dtype), rng.integers(0, 17, 500)
    high, _ = both(average_precision, x, y, 17)
    for label in range(17):
        for j in range(4):
            expected = average_precision_score(y == label, x[:, j])
            assert high[label, j] == pytest.approx(expected, abs=1e-12)


def test_a_perfect_neuron_and_its_negation():
    x, y = np.array([[0.0], [1.0], [2.0], [3.0]]), np.array([0, 0, 1, 1])
    high, low = both(average_precision, x, y, 2)
    assert high[1, 0] == 1.0
    assert low[0, 0] == 1.0
    assert high[0, 0] == pytest.approx((1 / 3 + 2 / 4) / 2)
    iou, reverse = both(matched_iou, x, y, 2)
    assert iou[1, 0] == pytest.approx(1 - 1 / 3)  # a random half of the items has IoU 1/3
    assert reverse[1, 0] == pytest.approx(0 - 1 / 3)


def test_a_constant_neuron_retrieves_at_the_rate_of_the_class():
    x, y = np.full((5, 1), 7.0), np.array([0, 0, 0, 0, 1])
    high, low = both(average_precision, x, y, 3)
    assert high[:, 0].tolist() == low[:, 0].tolist() == [0.8, 0.2, 0.0]
    assert both(matched_iou, x, y, 3)[0][:, 0].tolist() == [0.0, 0.0, 0.0]
    assert each(roc_auc, x, y, 3)[:, 0].tolist() == [0.5, 0.5, 0.5]
    assert each(kolmogorov_smirnov, x, y, 3)[:, 0].tolist() == [0.0, 0.0, 0.0]
    assert each(binned_information, x, y, 3, 16)[:, 0].tolist() == [0.0, 0.0, 0.0]


def test_many_blocks_give_what_one_block_gives(monkeypatch):
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 9, (40, 13)).astype(np.float32), rng.integers(0, 3, 40)
    whole = both(average_precision, x, y, 3)
    monkeypatch.setattr("nibench.order_statistics.COLUMN_BLOCK", 100)
    monkeypatch.setattr("nibench.order_statistics.NARROWEST", 1)
    assert len(list(sort_columns(x))) == 7
    assert np.array_equal(both(average_precision, x, y, 3), whole)


def test_auc_by_hand():
    values = np.array([[0.0, 3.0, 1.0], [1.0, 2.0, 1.0], [2.0, 1.0, 1.0], [3.0, 0.0, 1.0]])
    assert auc(values, np.array([0, 0, 1, 1])).tolist() == [1.0, 0.0, 0.5]
    assert auc(values, np.array([0, 1, 0, 1])).tolist() == [0.75, 0.25, 0.5]
    three = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]])  # against the rest: 0, 1/2, 1
    assert auc(three, np.array([0, 1, 2])).tolist() == pytest.approx([0.5 + 1 / 3, 0.5])


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_a_floor_silences_small_activations(dtype):
    x = np.array([[0.04, 1.0], [-0.04, -0.03], [-2.0, 0.06], [0.01, 0.2]], dtype=dtype)
    quiet = np.where(np.abs(x) < 0.05, 0, x)
    (found,), (expected,) = list(sort_columns(x, floor=0.05)), list(sort_columns(quiet))
    np.testing.assert_array_equal(found.ties, expected.ties)
    np.testing.assert_array_equal(found.order, expected.order)
    assert found.ties is not None
    assert found.ties[0].sum() == 2
