"""Agreement of rankings: worked examples, chance, ties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from nibench.metrics.overlap import (
    average_overlap,
    chance_rbo,
    expected_jaccard,
    expected_overlap,
    kappa,
    overlap,
    overlap_curve,
    overlap_matrix,
    overlap_p_value,
    prefix_overlap,
    rank_biased_overlap,
    rank_correlations,
)
from nibench.ranking import Ranking
from tests.references import overlap as slow


def ranked(order):
    return Ranking.from_order(order, len(order))


def scored(*scores):
    return Ranking.from_scores(scores)


def test_expected_overlap_inside_ties():
    assert expected_overlap(scored(3, 2, 2, 1), scored(1, 2, 2, 2), 2) == pytest.approx(
        0.6666666667
    )  # oracle 12


def test_two_of_three_shared_neurons_of_ten():
    a, b = ranked([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]), ranked([0, 1, 9, 3, 4, 5, 6, 7, 8, 2])  # oracle 13
    found = overlap(a, b, k=3)
    assert found.share == pytest.approx(2 / 3)
    assert found.jaccard == pytest.approx(0.5)
    assert found.kappa == pytest.approx(0.5238095238, abs=1e-9)
    assert overlap_p_value(2, [3], [3], [10]) == pytest.approx(0.1833333333, abs=1e-9)
    assert overlap_p_value(2, [3], [3], [10]) == pytest.approx(hypergeom.sf(1, 10, 3, 3))
    assert expected_jaccard(10, 3) == pytest.approx(0.2008333333, abs=1e-9)
    at_least = np.array([overlap_p_value(shared, [3], [3], [10]) for shared in range(5)])
    exactly = at_least[:-1] - at_least[1:]
    assert np.sqrt(exactly @ (np.arange(4) - exactly @ np.arange(4)) ** 2) == pytest.approx(0.7)


def test_preferring_the_same_layer_is_not_agreement():
    layers = np.array([0, 0, 0, 0, 1, 1, 1, 1])  # oracle 13: two of the three in the first layer
    a, same, other = (
        ranked([0, 1, 4, 2, 3, 5, 6, 7]),
        ranked([1, 0, 4, 2, 3, 5, 6, 7]),
        ranked([0, 1, 5, 2, 3, 4, 6, 7]),
    )
    assert overlap_p_value(3, [2, 1], [2, 1], [4, 4]) == pytest.approx(0.0416666667, abs=1e-9)
    assert overlap_p_value(3, [3], [3], [8]) == pytest.approx(0.0178571429, abs=1e-9)
    assert kappa(a, same, 3, layers) == pytest.approx(1.0)
    assert kappa(a, other, 3, layers) == pytest.approx(0.4285714286, abs=1e-9)  # X = 2, E = 1.25
    assert kappa(a, other, 3) == pytest.approx(0.4666666667, abs=1e-9)


def test_rank_biased_overlap_of_full_lists():
    p = 0.9  # oracle 14
    first = rank_biased_overlap(ranked([0, 1, 2, 3]), ranked([1, 0, 3, 2]), p)
    assert first == pytest.approx(0.873, abs=1e-9)
    assert chance_rbo(4, p) == pytest.approx(0.85975, abs=1e-9)
    assert (first - 0.85975) / (1 - 0.85975) == pytest.approx(0.0944741533, abs=1e-9)
    a, b = ranked([0, 1, 2, 3, 4]), ranked([1, 2, 3, 0, 4])
    assert overlap_curve(a, b).tolist() == [0, 1, 2, 4, 5]
    assert rank_biased_overlap(a, b, p) == pytest.approx(0.828, abs=1e-9)


def test_rank_biased_overlap_with_ties_is_of_three_kinds():
    one = scored(4, 3, 3, 1), scored(3, 4, 2, 1)  # oracle 14: a(bc)d and bacd; (ab)cd and a(bc)d
    two = scored(4, 4, 2, 1), scored(4, 3, 3, 1)
    assert rank_biased_overlap(*one, 0.9) == pytest.approx(0.8775, abs=1e-9)
    assert rank_biased_overlap(*two, 0.9) == pytest.approx(0.9275, abs=1e-9)
    assert rank_biased_overlap(*one, 0.9, "equal") == pytest.approx(0.882, abs=1e-9)
    assert rank_biased_overlap(*one, 0.9, "unknown") == pytest.approx(0.8879422863, abs=1e-9)
    for ties in ("equal", "unknown"):
        assert rank_biased_overlap(one[0], one[0], 0.9, ties) == pytest.approx(1)


def test_rank_biased_overlap_of_lists_that_stop():
    found = prefix_overlap([0, 1, 2, 3, 4], [1, 0, 5, 6, 2], 0.9)  # oracle 14: abcde and bafgc
    assert found.value == pytest.approx(0.57411, abs=1e-9)
    assert found.low == pytest.approx(0.3773033646, abs=1e-9)
    assert found.high == pytest.approx(0.8004645, abs=1e-9)
    assert found.residual == pytest.approx(0.8004645 - 0.3773033646, abs=1e-9)
    assert prefix_overlap([0, 1, 2], [1, 0, 2, 3, 4], 0.9).value == pytest.approx(0.9, abs=1e-9)  # oracle 32
    assert (prefix_overlap([], [1], 0.9).low, prefix_overlap([], [1], 0.9).high) == (0, 1)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 6), st.floats(0.5, 0.95))
def test_what_lists_turn_out_to_be_lies_between_the_bounds_of_their_prefixes(seed, n_a, n_b, p):
    rng = np.random.default_rng(seed)
    a, b = rng.permutation(400), rng.permutation(400)
    if seed % 2:
        b[:12] = a[:12][rng.permutation(12)]  # alike at the top: what is not seen is not always disjoint
        b[12:] = rng.permutation(np.setdiff1d(np.arange(400), b[:12]))
    found = prefix_overlap(a[:n_a].tolist(), b[:n_b].tolist(), p)
    assert found.low - 1e-9 <= rank_biased_overlap(ranked(a), ranked(b), p) <= found.high + 1e-9
    assert found.low - 1e-9 <= found.value <= found.high + 1e-9
    assert prefix_overlap(b[:n_b].tolist(), a[:n_a].tolist(), p) == found


def test_average_overlap_at_every_depth():
    a, b = ranked([0, 1, 2, 3, 4]), ranked([1, 2, 3, 0, 4])  # oracle 15, of the second pair of 14
    want = [0, 0.25, 0.3888888889, 0.5416666667, 0.6333333333]
    assert [average_overlap(a, b, k) for k in range(1, 6)] == pytest.approx(want, abs=1e-9)


def test_rank_correlations():
    tau, rho, _ = rank_correlations(scored(9, 7, 7, 4, 1), scored(8, 8, 5, 6, 0))  # oracle 15
    assert tau == pytest.approx(0.6666666667, abs=1e-9)
    assert rho == pytest.approx(0.7631578947, abs=1e-9)
    down, bottom, top = scored(5, 4, 3, 2, 1), scored(5, 4, 3, 1, 2), scored(4, 5, 3, 2, 1)
    for swapped, weighted in ((bottom, 0.9014598540), (top, 0.6715328467)):
        found = overlap(down, swapped, k=2)
        assert found.tau_b == pytest.approx(0.8, abs=1e-9)
        assert found.weighted_tau == pytest.approx(weighted, abs=1e-9)
    unranked = rank_correlations(scored(5, 4, -np.inf, -np.inf, -np.inf), down)  # a tail that was not ranked
    assert np.isfinite(unranked).all()
    assert np.isnan(rank_correlations(scored(1, 1, 1), scored(3, 2, 1))).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(3, 40))
def test_a_ranking_agrees_perfectly_with_itself_and_not_with_its_reverse(seed, n_neurons):
    scores = np.random.default_rng(seed).permutation(n_neurons).astype(float)
    a, reverse = Ranking.from_scores(scores), Ranking.from_scores(-scores)
    found = overlap(a, Ranking.from_scores(np.exp(scores / n_neurons)), k=n_neurons // 2)
    assert (found.share, found.jaccard) == (1.0, 1.0)
    assert [found.kappa, found.rbo, found.tau_b] == [pytest.approx(1.0)] * 3
    assert (found.average, found.rho, found.weighted_tau) == (
        pytest.approx(1),
        pytest.approx(1),
        pytest.approx(1),
    )
    assert overlap(a, reverse).tau_b == pytest.approx(-1.0)
    assert overlap(a, reverse).rho == pytest.approx(-1.0)


small = st.lists(st.integers(0, 2), min_size=5, max_size=5)


@settings(max_examples=40, deadline=None)
@given(small, small)
def test_every_measure_is_the_mean_over_all_tie_breaks(values_a, values_b):
    a, b = scored(*values_a), scored(*values_b)
    for k in range(1, 6):
        want = slow.mean_over_tie_breaks(slow.shared, values_a, values_b, k)
        assert expected_overlap(a, b, k) == pytest.approx(want)
        assert overlap_curve(a, b)[k - 1] == pytest.approx(want)
    want = slow.mean_over_tie_breaks(slow.rbo, values_a, values_b, 0.8)
    assert rank_biased_overlap(a, b, 0.8) == pytest.approx(want)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(5, 60))
def test_the_curve_of_many_ties_is_the_overlap_of_inclusions_at_every_depth(seed, n_neurons):
    rng = np.random.default_rng(seed)
    a, b = (Ranking.from_scores(rng.integers(0, n_neurons // 2, n_neurons).astype(float)) for _ in range(2))
    want = [expected_overlap(a, b, depth) for depth in range(1, n_neurons + 1)]
    np.testing.assert_allclose(overlap_curve(a, b), want, atol=1e-10)
    order = rng.permutation(n_neurons)
    moved = [Ranking.from_scores(one.scores[order]) for one in (a, b)]
    assert rank_biased_overlap(*moved) == pytest.approx(rank_biased_overlap(a, b))


def test_random_rankings_agree_at_chance():
    rng = np.random.default_rng(0)
    layers = np.repeat([0, 1], [10, 20])
    pairs = [[Ranking.from_scores(rng.random(30)) for _ in range(2)] for _ in range(250)]
    found = [overlap(a, b, layers, k=6) for a, b in pairs]
    for name in ("kappa", "layer_kappa", "rbo_corrected", "tau_b", "rho", "weighted_tau"):
        values = np.array([getattr(one, name) for one in found])
        assert abs(values.mean()) < 4 * values.std() / np.sqrt(len(values)), name
    averages = np.array([one.average for one in found])
    assert averages.mean() == pytest.approx((6 + 1) / 60, abs=4 * averages.std() / np.sqrt(250))
    shares = np.array([one.share for one in found])
    assert shares.mean() == pytest.approx(6 / 30, abs=4 * shares.std() / np.sqrt(250))
    jaccards = np.array([one.jaccard for one in found])
    assert jaccards.mean() == pytest.approx(expected_jaccard(30, 6), abs=4 * jaccards.std() / np.sqrt(250))
    assert chance_rbo(6, 0.8) == pytest.approx(0.61488, abs=1e-9)


def test_the_matrix_holds_the_kappa_of_every_pair():
    rng = np.random.default_rng(1)
    rankings = {name: Ranking.from_scores(rng.integers(0, 9, 50).astype(float)) for name in "abc"}
    layers = np.repeat([0, 1], 25)
    matrix = overlap_matrix(rankings, layers, k=5)
    np.testing.assert_allclose(matrix, matrix.T)
    assert matrix[0, 2] == pytest.approx(overlap(rankings["a"], rankings["c"], layers, k=5).layer_kappa)


def test_a_constant_ranking_agrees_with_nothing_and_has_no_correlation():
    found = overlap(scored(*[1] * 12), Ranking.from_scores(np.arange(12.0)), k=4)
    assert found.kappa == pytest.approx(0)
    assert np.isnan(found.tau_b)


def test_sets_of_everything_cannot_disagree():
    assert np.isnan(kappa(scored(1, 2, 3), scored(3, 2, 1), 3))
