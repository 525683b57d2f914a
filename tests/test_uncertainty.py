"""The cluster bootstrap, and the closed forms beside it."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm, permutation_test, t

from nibench.uncertainty import (
    bootstrap,
    cluster_weights,
    holm,
    keyed_weights,
    pairs_apart,
    ratio_se,
    resolvable,
    sign_flip_p,
    sign_flip_ps,
    tails,
    wilson,
)

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


def clustered(rng: np.random.Generator, n_clusters: int, n_sets: int, icc: float = 0.3) -> tuple:
    """Items of mean 0 and variance 1 in clusters of 5 to 15, alike inside by ``icc``: values (S, N), cluster (N,)."""
    cluster = np.repeat(np.arange(n_clusters), rng.integers(5, 16, n_clusters))
    shared = rng.normal(scale=np.sqrt(icc), size=(n_sets, n_clusters))
    return shared[:, cluster] + rng.normal(scale=np.sqrt(1 - icc), size=(n_sets, len(cluster))), cluster


def coverage(
    values: np.ndarray, unit: np.ndarray, weights: np.ndarray, ends: tuple[float, float] = (0.025, 0.975)
) -> float:
    """How often the interval over resampled units, (G, B), of a ratio of sums holds the true mean, 0."""
    counts = np.bincount(unit)
    sums = np.stack([np.bincount(unit, row) for row in values])  # (S, G)
    low, high = np.quantile((sums @ weights) / (counts @ weights), ends, axis=1)
    return float(((low <= 0) & (high >= 0)).mean())


@pytest.mark.parametrize("n_clusters", [30, 60])
def test_intervals_over_clusters_cover_and_intervals_over_words_do_not(n_clusters):
    """1,600 data sets: the simulation's own standard error is .006, so 92 to 97 % leaves three of them."""
    values, cluster = clustered(np.random.default_rng(n_clusters), n_clusters, 1600)
    word = np.arange(len(cluster))
    assert 0.92 <= coverage(values, cluster, keyed_weights(range(n_clusters))) <= 0.97
    assert 0.92 <= coverage(values, cluster, cluster_weights(n_clusters).T) <= 0.97
    assert coverage(values, word, keyed_weights(word, 500)) < 0.8  # the design effect is about 3.9


@pytest.mark.parametrize("n_units", [5, 8, 12])
def test_intervals_over_few_units_cover_only_with_wider_tails(n_units):
    values, unit = clustered(np.random.default_rng(n_units), n_units, 1600)
    drawn = cluster_weights(n_units).T
    percentiles, wider = coverage(values, unit, drawn), coverage(values, unit, drawn, tails(n_units))
    assert percentiles < 0.92
    assert 0.9 <= wider <= 0.97
    assert wider > percentiles + 0.02


def test_the_tails_are_those_of_student_and_of_percentiles_for_many():
    low, high = tails(5)
    assert norm.ppf(low) == pytest.approx(-np.sqrt(5 / 4) * t.ppf(0.975, 4))
    assert high == pytest.approx(1 - low)
    assert tails(10**6) == pytest.approx((0.025, 0.975), abs=1e-5)
    assert tails(1) == (0.025, 0.975)


def test_a_cluster_has_its_own_draws_whoever_else_is_there():
    alone, together = keyed_weights([7, 2**63 + 5]), keyed_weights([1, 2, 7, 2**63 + 5])
    np.testing.assert_array_equal(alone, together[2:])
    assert abs(np.corrcoef(alone)[0, 1]) < 0.1
    assert together.mean() == pytest.approx(1, abs=0.05)
    assert together.var() == pytest.approx(1, abs=0.1)
    assert keyed_weights([]).shape == (0, 2000)


def test_holm_steps_down():
    np.testing.assert_allclose(
        holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02]
    )  # oracle 27
    assert holm(np.array([0.6, 0.9])).max() == 1
    assert len(holm(np.array([]))) == 0


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_lies_between_no_correction_and_bonferroni_and_keeps_the_order(p):
    raw, adjusted = np.array(p), holm(np.array(p))
    assert (adjusted >= raw).all()
    assert (adjusted <= np.minimum(len(p) * raw, 1) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(raw)]) >= 0).all()


@pytest.mark.parametrize("n_clusters", [5, 13, 40])
def test_many_pairs_are_flipped_as_each_is_alone(n_clusters):
    differences = np.random.default_rng(0).normal(0.3, 1, size=(n_clusters, 3))
    alone = [sign_flip_p(column) for column in differences.T]
    np.testing.assert_allclose(sign_flip_ps(differences), alone, atol=1e-12)
    if n_clusters <= 13:  # against every flip, written out
        literal = [
            np.mean(
                [
                    abs(np.dot(flip, column)) >= abs(column.sum()) - 1e-12
                    for flip in product((-1, 1), repeat=n_clusters)
                ]
            )
            for column in differences.T
        ]
        np.testing.assert_allclose(alone, literal)


@pytest.mark.parametrize(("n_blocks", "pairs"), [(1, 0), (5, 0), (6, 1), (8, 6), (16, 1638)])
def test_few_blocks_tell_few_pairs_apart(n_blocks, pairs):
    assert pairs_apart(n_blocks) == pairs
    if 0 < pairs < 100:  # all blocks on one side, as many pairs as can be told apart, and one more
        p = sign_flip_p(np.ones(n_blocks))
        assert holm(np.full(pairs, p)).max() <= 0.05 < holm(np.full(pairs + 1, p)).max()


def test_the_smallest_difference_that_is_resolved():
    assert resolvable([0.01, 0.02, 0.04]) == pytest.approx((1.959964 + 0.841621) * 0.02, rel=1e-5)
    assert resolvable([0.0, 0.01]) == pytest.approx(
        2.801585 * 0.01, rel=1e-5
    )  # methods that rank alike say nothing
    assert resolvable([0.0]) is None
    assert resolvable([]) is None


def test_four_of_five_differences_of_that_size_are_found():
    rng = np.random.default_rng(0)
    size = resolvable([1.0]) or 0.0
    found = np.abs(size + rng.normal(size=20_000)) > 1.96
    assert found.mean() == pytest.approx(0.8, abs=0.01)


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
