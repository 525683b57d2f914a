"""Rank statistics over blocks: worked examples, and what other libraries say."""

import numpy as np
import pytest
from scipy.stats import friedmanchisquare
from sklearn.linear_model import LogisticRegression

from nibench.tournament import borda, bradley_terry, friedman, nemenyi, win_matrix

FIVE_TASKS = np.array(
    [[0.9, 0.8, 0.7], [0.85, 0.86, 0.6], [0.7, 0.65, 0.64], [0.95, 0.9, 0.91], [0.8, 0.75, 0.7]]
)  # oracle 28
WINS = np.array([[0, 7, 9], [3, 0, 6], [1, 4, 0]])  # oracle 29


def test_friedman_and_what_goes_with_it():
    found = friedman(FIVE_TASKS)
    assert found is not None
    assert found.mean_ranks == pytest.approx((1.2, 2.0, 2.8))
    assert (found.chi2, found.p) == (pytest.approx(6.4), pytest.approx(0.0407622040, abs=1e-9))
    assert (found.F, found.p_F) == (pytest.approx(7.1111111111), pytest.approx(0.01679616, abs=1e-8))
    assert found.kendall_w == pytest.approx(0.64)
    assert found.critical_difference == pytest.approx(1.4822864013, abs=1e-9)
    np.testing.assert_array_equal(borda(FIVE_TASKS), [9, 5, 1])
    assert friedmanchisquare(*FIVE_TASKS.T).statistic == pytest.approx(found.chi2)


@pytest.mark.parametrize(
    ("n_methods", "q"), [(2, 1.960), (3, 2.344), (4, 2.569), (5, 2.728), (6, 2.850), (8, 3.031), (10, 3.164)]
)
def test_nemenyi_s_critical_values(n_methods, q):
    assert nemenyi(n_methods, 1) == pytest.approx(q * np.sqrt(n_methods * (n_methods + 1) / 6), rel=3e-4)


def test_where_nothing_can_be_tested_nothing_is_said():
    assert friedman(FIVE_TASKS[:, :2]) is None  # two methods
    assert friedman(FIVE_TASKS[:1]) is None  # one block
    assert friedman(np.ones((5, 3))) is None  # all tied everywhere
    same = friedman(np.tile([3.0, 2.0, 1.0], (5, 1)))
    assert same is not None
    assert (same.kendall_w, same.F) == (pytest.approx(1), None)  # every block ranks alike


def test_bradley_terry_strengths():
    exact = bradley_terry(WINS, pseudo=0)
    np.testing.assert_allclose(exact, [0.9436058, -0.1601607, -0.7834451], atol=1e-7)
    np.testing.assert_allclose(400 / np.log(10) * exact, [163.921, -27.823, -136.098], atol=1e-3)
    np.testing.assert_allclose(bradley_terry(WINS), [0.8296021, -0.1398676, -0.6897345], atol=1e-7)


def test_bradley_terry_is_a_logistic_regression_on_who_meets_whom():
    rows, outcome, times = [], [], []
    for i in range(3):
        for j in range(3):
            if i != j:
                rows += [np.eye(3)[i] - np.eye(3)[j]] * 2
                outcome += [1, 0]
                times += [WINS[i, j], WINS[j, i]]
    fit = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10).fit(rows, outcome, sample_weight=times)
    theirs = fit.coef_[0] - fit.coef_[0].mean()
    np.testing.assert_allclose(bradley_terry(WINS, pseudo=0), theirs, atol=1e-5)


def test_who_never_lost_has_a_finite_strength():
    assert np.isfinite(bradley_terry(np.array([[0, 5], [0, 0]]))).all()


def test_a_difference_within_its_tolerance_is_a_tie():
    values = np.array([[0.5, 0.4], [0.5, 0.49], [0.3, 0.9]])
    tolerance = np.full((3, 2, 2), 0.02)
    found = win_matrix(values, tolerance)
    assert found[0, 1] == pytest.approx((1 + 0.5 + 0) / 3)
    assert found[0, 1] + found[1, 0] == pytest.approx(1)
    assert np.isnan(np.diag(found)).all()
