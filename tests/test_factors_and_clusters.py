"""Factorisation, and rankings thinned by clusters."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nibench as nb
from nibench.errors import InputError
from nibench.ground import Options
from nibench.harness import rank_in_model
from nibench.ranking import Ranking


def two_groups(n=200, seed=0):
    """Neurons 0-3 fire on every fifth item, 4-6 on others, loud; 7 now and then; 8 never above zero."""
    rng = np.random.default_rng(seed)
    x = 0.05 * rng.random((n, 9))
    x[::5, :4] += 1
    x[2::5, 4:7] += 30
    x[:, 7] *= rng.random(n) < 0.05
    x[:, 8] = -1 - rng.random(n)
    return x, np.arange(n) % 2


def test_factors_are_the_groups_that_fire_together():
    x, y = two_groups()
    ranking = nb.rank("matrix_factorization", x, y, factors=2)
    found = ranking.evidence
    assert len(set(found.clusters[:4])) == len(set(found.clusters[4:7])) == 1
    assert found.clusters[0] != found.clusters[4]
    assert set(ranking.order[:7]) == set(range(7))
    assert ranking.scores[:7] == pytest.approx(
        1, abs=0.1
    )  # a factor at its strongest is the neuron's largest value
    assert (ranking.scores[8], found.clusters[8]) == (0.0, 2)
    first = found.clusters[0]
    on = found.strengths[:, first] > 0.5
    np.testing.assert_array_equal(found.items[on] % 5, 0)
    assert on.sum() == 40
    assert found.strengths.max(axis=0).tolist() == [1.0, 1.0]
    assert (found.stability > 0.95).all()


def test_the_product_of_strengths_and_loadings_is_the_scaled_matrix():
    x, y = two_groups()
    found = nb.rank("matrix_factorization", x, y, factors=8, sweeps=2000).evidence
    a = np.maximum(x.astype(np.float32)[found.items], 0)
    a = a / np.where(a.max(axis=0) > 0, a.max(axis=0), 1)
    error = np.linalg.norm(found.strengths @ found.loadings - a) / np.linalg.norm(a)
    assert error < 0.05


def test_factors_too_many_for_the_data_are_unstable_and_score_less():
    x, y = two_groups()
    few, many = (nb.rank("matrix_factorization", x, y, factors=k).evidence.stability for k in (2, 7))
    assert few.min() > 0.95
    assert many.min() < 0.9


def test_loud_neurons_take_the_factors_only_when_raw():
    x, y = two_groups()
    x[1::5, 7] = 1e4
    raw, scaled = (
        nb.rank(name, x, y, factors=1).order[0]
        for name in ("matrix_factorization@alammar2020", "matrix_factorization")
    )
    assert raw == 7
    assert scaled in range(4)  # the largest group


def test_negative_activations_are_seen_on_both_sides_only():
    x, y = two_groups()
    flipped = x.copy()
    flipped[:, 4:7] *= -1
    one, both = (
        nb.rank("matrix_factorization", flipped, y, factors=2, sides=s) for s in ("positive", "both")
    )
    assert not one.scores[4:7].any()
    assert set(both.order[:7]) <= {0, 1, 2, 3, 4, 5, 6, 8}
    assert (both.evidence.loadings[both.evidence.clusters[4], 4:7] < -0.5).all()
    assert both.evidence.loadings.shape == (2, 9)


@pytest.mark.parametrize("name", ["matrix_factorization", "matrix_factorization@alammar2020"])
def test_nothing_to_factorise_scores_nothing(name):
    x, y = two_groups(40)
    for silent in (-np.abs(x) - 1, np.zeros((40, 3))):
        assert not nb.rank(name, silent, y[: len(silent)]).scores.any()
    assert np.isfinite(nb.rank(name, x[:4], y[:4]).scores).all()
    assert np.isfinite(nb.rank(name, np.full((40, 9), 0.3), y).scores).all()


def test_at_most_so_many_items_are_factorised_drawn_by_the_seed():
    x, y = two_groups(300)
    one, other = (
        nb.rank("matrix_factorization", x, y, seed=seed, items=50).evidence.items for seed in (0, 1)
    )
    assert len(one) == len(set(one)) == 50
    assert not np.array_equal(one, other)


# ---------------------------------------------------------------- thinning


def test_the_best_of_each_cluster_comes_first_then_the_rest_in_order():
    ranking = Ranking.from_scores([5, 4, 3, 2, 1, -np.inf], per_class=[[5, 4, 3, 2, 1, 0]])
    thin = ranking.thinned([0, 0, 1, 1, 2, 2])
    assert thin.order.tolist() == [0, 2, 4, 1, 3, 5]
    assert thin.scores[[0, 2, 4]].tolist() == [5, 3, 1]
    assert thin.per_class is not None
    assert np.argsort(-thin.per_class[0]).tolist() == [0, 2, 4, 1, 3, 5]
    assert thin.flags == ("thinned",)
    with pytest.raises(InputError, match=r"clusters has shape \(3,\); expected one per neuron, \(6,\)"):
        ranking.thinned([0, 1, 2])


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 4)), min_size=1, max_size=30), st.integers(0, 9))
def test_laws_of_thinning(pairs, seed):
    scores, clusters = np.array(pairs, dtype=float).T
    scores[scores == -3] = -np.inf
    ranking = Ranking(scores, tie_seed=seed)
    thin = ranking.thinned(clusters.astype(int))
    n = len(set(clusters))
    kept = [next(j for j in ranking.order if clusters[j] == one) for one in set(clusters)]
    finite = [j for j in thin.order if np.isfinite(scores[j])]
    best = [j for j in ranking.order if j in kept and np.isfinite(scores[j])]
    assert finite[: len(best)] == best
    rest = [j for j in finite if j not in kept]
    assert rest == [j for j in ranking.order if j not in kept and np.isfinite(scores[j])]
    assert len(kept) == n
    alone = ranking.thinned(np.arange(len(scores)))
    np.testing.assert_array_equal(alone.scores, ranking.scores)


def test_copies_do_not_fill_the_top_of_a_thinned_ranking():
    rng = np.random.default_rng(0)
    y = np.arange(400) % 2
    x = rng.normal(size=(400, 8))
    x[:, 0] += 3 * y
    x[:, [1, 2]] = x[:, [0]] * [-2, 0.5]
    x[:, 5] += y
    ranking = nb.rank("mean_difference", x, y)
    clusters = nb.rank("correlation_clustering", x, y).evidence.clusters
    assert set(ranking.top(3)) == {0, 1, 2}
    top = ranking.thinned(clusters).top(2)
    assert top[0] in (0, 1, 2)
    assert top[1] == 5


def test_a_ranking_in_a_task_is_thinned_by_the_clusters_of_its_own_activations():
    plain, _, _ = rank_in_model("mean_difference", "copies_world", None, Options())
    thin, _, _ = rank_in_model("mean_difference", "copies_world", None, Options(), thin=0.3)
    clusters = rank_in_model("correlation_clustering", "copies_world", None, Options())[0].evidence.clusters
    np.testing.assert_array_equal(thin.order, plain.thinned(clusters).order)
    n = len(np.unique(clusters))
    assert len(np.unique(clusters[thin.top(n)])) == n
    assert len(np.unique(clusters[plain.top(n)])) < n


@pytest.mark.parametrize("preset", ["dalvi2020", "neurox"])
def test_the_published_presets_draw_the_representative(preset):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 1)) + 0.1 * rng.normal(size=(200, 6))
    y = np.arange(200) % 2
    drawn = {nb.rank(f"correlation_clustering@{preset}", x, y, seed=s).order[0] for s in range(20)}
    medoids = {nb.rank("correlation_clustering", x, y, seed=s).order[0] for s in range(20)}
    assert len(drawn) > 2
    assert len(medoids) == 1
