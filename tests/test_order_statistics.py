"""One sort: average precision and IoU, ties included, against slow and against scikit-learn's versions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.metrics import average_precision_score

from nibench import average_precision, matched_iou, sort_columns
from nibench.order_statistics import auc
from tests.references import average_precision as slow

tied = st.integers(2, 25).flatmap(
    lambda n: st.tuples(
        hnp.arrays(np.float64, (n, 3), elements=st.sampled_from([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0])),
        hnp.arrays(np.int64, n, elements=st.integers(0, 3)),
    )
)


def both(measure, x, y, n_classes):
    high, low = np.zeros((2, n_classes, x.shape[1]))
    for block in sort_columns(x):
        high[:, block.columns], low[:, block.columns] = measure(block, y, n_classes)
    return high, low


@settings(max_examples=80, deadline=None)
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


@settings(max_examples=80, deadline=None)
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


def test_many_blocks_give_what_one_block_gives(monkeypatch):
    rng = np.random.default_rng(1)
    x, y = rng.integers(0, 9, (40, 13)).astype(np.float32), rng.integers(0, 3, 40)
    whole = both(average_precision, x, y, 3)
    monkeypatch.setattr("nibench.order_statistics.COLUMN_BLOCK", 100)
    assert len(list(sort_columns(x))) == 7
    assert np.array_equal(both(average_precision, x, y, 3), whole)


def test_auc_by_hand():
    values = np.array([[0.0, 3.0, 1.0], [1.0, 2.0, 1.0], [2.0, 1.0, 1.0], [3.0, 0.0, 1.0]])
    assert auc(values, np.array([0, 0, 1, 1])).tolist() == [1.0, 0.0, 0.5]
    assert auc(values, np.array([0, 1, 0, 1])).tolist() == [0.75, 0.25, 0.5]
    three = np.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]])  # against the rest: 0, 1/2, 1
    assert auc(three, np.array([0, 1, 2])).tolist() == pytest.approx([0.5 + 1 / 3, 0.5])
