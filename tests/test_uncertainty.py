"""The cluster bootstrap, and the closed forms beside it."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import permutation_test

from nibench.uncertainty import bootstrap, cluster_weights, ratio_se, sign_flip_p, wilson

# oracle 24: eight items in four sentences
HITS = np.array([1, 1, 1, 0, 0, 0, 1, 1])
CLUSTER = np.array([0, 0, 0, 1, 1, 1, 2, 3])
SUMS = np.bincount(CLUSTER, HITS)
COUNTS = np.bincount(CLUSTER)


def test_clustered_items_are_less_certain_than_independent_ones():
    assert HITS.mean() == 0.625
    assert ratio_se(SUMS, COUNTS) == pytest.approx(0.3247595264, abs=1e-9)
    independent = ratio_se(HITS.astype(float), np.ones(8))
    assert independent == pytest.approx(0.1829812637, abs=1e-9)


def test_bootstrap_weights_reach_the_exact_deviation_over_all_resamples():
    draws = [np.bincount(draw, minlength=4) for draw in product(range(4), repeat=4)]
    exact = np.std([weights @ SUMS / (weights @ COUNTS) for weights in draws])
    assert exact == pytest.approx(0.2775978150, abs=1e-9)
    weights = cluster_weights(4, 40_000, seed=3)
    assert np.std(weights @ SUMS / (weights @ COUNTS)) == pytest.approx(exact, abs=0.003)


def test_wilson_interval_of_eight_in_ten():
    assert wilson(8, 10) == pytest.approx((0.4901624715, 0.9433178485), abs=1e-9)  # oracle 25
    assert wilson(0, 0) == (0.0, 1.0)


def test_sign_flips_of_five_clusters():
    differences = np.array([0.3, 0.1, 0.2, -0.05, 0.25])  # oracle 26
    assert sign_flip_p(differences) == 0.125
    theirs = permutation_test(
        (differences, 0 * differences),
        lambda a, b: np.sum(a - b),
        permutation_type="samples",
        n_resamples=np.inf,
    )
    assert sign_flip_p(differences) == theirs.pvalue
    assert sign_flip_p(np.ones(5)) == 2 / 2**5  # the smallest p-value five clusters can give


def test_sign_flips_of_many_clusters_are_sampled_and_never_zero():
    assert sign_flip_p(np.ones(40), n_draws=999) == 1 / 1000
    assert sign_flip_p(np.array([1.0, -1.0] * 20), n_draws=999) == 1.0


def test_every_resample_draws_as_many_clusters_as_there_are_and_seeds_repeat():
    weights = cluster_weights(30, 50, seed=1)
    assert (weights.sum(axis=1) == 30).all()
    np.testing.assert_array_equal(weights, cluster_weights(30, 50, seed=1))
    assert (weights != cluster_weights(30, 50, seed=2)).any()


def test_few_clusters_give_no_interval():
    sums = np.ones((9, 2))
    assert bootstrap(sums, lambda s: s[:, 0] / s[:, 1], cluster_weights(9)).ci95 is None


def test_clusters_that_are_alike_leave_no_uncertainty():
    interval = bootstrap(np.ones((12, 2)), lambda s: s[:, 0] / s[:, 1], cluster_weights(12))
    assert interval.se == 0.0
    assert interval.ci95 == (1.0, 1.0)


def test_an_interval_covers_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(0)
    weights = cluster_weights(60, 400)
    covered = 0
    for _ in range(200):
        effects = rng.normal(size=60)  # every cluster has its own mean; the truth is 0
        statistics = np.stack([effects * 5 + rng.normal(size=60), np.full(60, 5)], axis=1)
        low, high = bootstrap(statistics, lambda s: s[:, 0] / s[:, 1], weights).ci95
        covered += low <= 0 <= high
    assert 0.9 <= covered / 200 <= 0.99


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(10, 40))
def test_the_bootstrap_agrees_with_the_closed_form(seed, n_clusters):
    rng = np.random.default_rng(seed)
    counts = rng.integers(4, 9, n_clusters).astype(float)
    sums = rng.binomial(counts.astype(int), 0.5).astype(float)
    interval = bootstrap(
        np.stack([sums, counts], axis=1), lambda s: s[:, 0] / s[:, 1], cluster_weights(n_clusters)
    )
    assert interval.se == pytest.approx(ratio_se(sums, counts), rel=0.25)
