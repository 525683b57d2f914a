"""Layers, localisation, redundancy, shared neurons: worked examples, chance, degenerate rankings."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import wasserstein_distance

from nibench.metrics import Setting, Trial
from nibench.metrics.profile import (
    gini,
    layer_distance,
    layer_divergence,
    layer_profile,
    layer_shares,
    localisation,
    participation_ratio,
)
from nibench.metrics.redundancy import clusters_of, correlations, redundancy, sharing
from nibench.neurons import Block, Neurons
from nibench.probes import entropy_bits
from nibench.ranking import Ranking
from nibench.truth.worlds import WorldSpec, sample
from tests.settings import setting_of

FOUR = Neurons(tuple(Block(f"L{layer}.mlp_post", layer, 10) for layer in range(4)))


def trial(scores, neurons=None, per_class=None):
    neurons = Neurons.anonymous(len(scores)) if neurons is None else neurons
    setting = Setting(neurons, 2, {}, (), None, None, ks=(1,), ablation_ks=(1,), seed=0)
    return Trial(setting, Ranking.from_scores(scores, per_class))


def by_id(scores):
    return {score.id: score for score in scores or ()}


# layers


def test_two_profiles_of_four_layers():
    half, even = np.array([0.5, 0.5, 0, 0]), np.full(4, 0.25)  # oracle 18
    assert layer_divergence(half, even) == pytest.approx(0.3112781245, abs=1e-9)
    assert layer_distance(half, even) == pytest.approx(1.0, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 9))
def test_divergence_and_distance_are_scipy_s(seed, n_layers):
    a, b = np.random.default_rng(seed).dirichlet(np.ones(n_layers), size=2)
    places = np.arange(n_layers)
    assert layer_divergence(a, b) == pytest.approx(jensenshannon(a, b, base=2) ** 2, abs=1e-9)
    assert layer_distance(a, b) == pytest.approx(wasserstein_distance(places, places, a, b), abs=1e-9)
    assert layer_divergence(a, a) == pytest.approx(0, abs=1e-12)


def test_the_profile_of_neurons_of_two_layers():
    scores = np.zeros(40)
    scores[[0, 1, 2, 3, 4, 30, 31, 32, 33, 34]] = np.arange(10, 0, -1)
    found = by_id(layer_profile(trial(scores, FOUR)))
    centre, spread = found["layer.centre"], found["layer.entropy"]
    assert centre.details["shares"] == [0.5, 0, 0, 0.5]
    assert centre.details["enrichment"] == [2, 0, 0, 2]
    assert (centre.value, centre.chance) == (1.5, 1.5)
    assert spread.value == pytest.approx(0.5)  # one bit of two
    assert spread.chance == pytest.approx(1)


def test_a_tie_of_all_neurons_lies_in_all_layers():
    found = by_id(layer_profile(trial(np.ones(40), FOUR)))
    assert found["layer.entropy"].value == pytest.approx(1)
    assert found["layer.centre"].details["enrichment"] == pytest.approx([1] * 4)
    assert layer_profile(trial(np.ones(40))) is None  # one layer


def test_embeddings_are_a_layer_like_the_others():
    neurons = Neurons((Block("embed", -1, 2), Block("L0.residual", 0, 6)))
    assert layer_shares(np.array([1, 1, 1, 0, 0, 0, 0, 1.0]), neurons.layers).tolist() == [0.5, 0.5]


# localisation


def test_the_localisation_of_five_masses():
    mass = np.array([8, 4, 2, 1, 1.0])  # oracle 22
    assert gini(mass) == pytest.approx(0.425, abs=1e-9)
    assert gini(mass) * 5 / 4 == pytest.approx(0.53125, abs=1e-9)
    assert entropy_bits(mass) == pytest.approx(1.875, abs=1e-9)
    assert participation_ratio(mass) == pytest.approx(2.9767441860, abs=1e-9)
    found = by_id(localisation(trial([-8, 4, 2, -1, 1])))  # the sign is no matter
    assert found["loc.gini"].value == pytest.approx(0.425, abs=1e-9)
    assert found["loc.entropy"].value == pytest.approx(0.8075185464, abs=1e-9)
    assert found["loc.neff"].value == pytest.approx(3.6680161729, abs=1e-9)
    assert found["loc.pr"].value == pytest.approx(2.9767441860, abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 30), st.floats(1e-3, 1e3))
def test_scale_and_order_change_no_localisation(seed, n_neurons, scale):
    rng = np.random.default_rng(seed)
    scores = rng.random(n_neurons)
    plain = by_id(localisation(trial(scores)))
    other = by_id(localisation(trial(scale * rng.permutation(scores))))
    for name, score in plain.items():
        assert other[name].value == pytest.approx(score.value)
    assert 1 <= plain["loc.pr"].value <= plain["loc.neff"].value + 1e-9 <= n_neurons + 2e-9


def test_even_mass_one_mass_and_none():
    even = by_id(localisation(trial(np.full(8, 3.0))))
    assert [even[name].value for name in ("loc.gini", "loc.entropy", "loc.neff", "loc.pr")] == pytest.approx(
        [0, 1, 8, 8]
    )
    one = by_id(localisation(trial([-np.inf, 5, -np.inf, -np.inf])))  # a ranking of one neuron
    assert [one[name].value for name in ("loc.gini", "loc.entropy", "loc.neff", "loc.pr")] == pytest.approx(
        [0.75, 0, 1, 1]
    )
    assert localisation(trial(np.zeros(8))) is None
    assert localisation(trial(np.full(8, -np.inf))) is None
    assert np.isnan(gini(np.zeros(3)))
    assert np.isnan(participation_ratio(np.zeros(3)))


# redundancy

WORLD = sample(WorldSpec(n_items=1800, n_background=60), 0)


def test_copies_are_one_cluster_whatever_their_sign():
    rng = np.random.default_rng(0)
    items = rng.normal(size=(500, 4))
    items = np.column_stack([items, -items[:, 0] * 3 + 1, items[:, 1] + 1e-3 * rng.normal(size=500)])
    clusters = clusters_of(correlations(items))
    assert clusters[0] == clusters[4]
    assert clusters[1] == clusters[5]
    assert len(set(clusters)) == 4


def test_a_constant_neuron_is_a_cluster_of_its_own():
    items = np.column_stack([np.ones(50), np.random.default_rng(0).normal(size=(50, 2)), np.full(50, 0.1)])
    found = correlations(items.astype(np.float32))
    assert found[0].tolist() == [1, 0, 0, 0]
    assert len(set(clusters_of(found))) == 4


def test_redundancy_counts_the_repeated_among_the_top():
    activations = WORLD.activations.copy()
    activations[:, 1:5] = activations[:, :1] + np.arange(4) + 1  # five alike
    setting = setting_of(replace(WORLD, activations=activations))
    background = np.flatnonzero(WORLD.truth.roles == "background")
    order = [0, 1, 2, 3, 4, *background[background > 4]]
    score = redundancy(Trial(setting, Ranking.from_order(order, activations.shape[1])))
    assert score.details["clusters"] == 6
    assert score.value == pytest.approx(1 - 6 / 10)
    assert score.chance < 0.15
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(setting.splits["probe"].activations[:, order[:10]].T))
    want = eigenvalues.sum() ** 2 / (eigenvalues**2).sum() / 10
    assert score.details["spectrum"] == pytest.approx(want, abs=1e-4)
    assert score.direction == 0


def test_the_pool_holds_the_top_neurons_of_every_class():
    setting = setting_of(WORLD)
    per_class = np.stack([np.arange(190.0), -np.arange(190.0)])
    score = redundancy(Trial(setting, Ranking.from_scores(np.arange(190.0), per_class)))
    assert score.details["pool"] == 20
    assert redundancy(Trial(setting, Ranking.from_scores(np.arange(190.0)))).details["pool"] == 10


# neurons that concepts share


def test_three_concepts_of_three_neurons():
    found = sharing([np.array([0, 1, 2]), np.array([2, 3, 4]), np.array([2, 4, 5])], 8)  # oracle 23
    assert found.mean_count == pytest.approx(1.5)
    assert found.union == 6
    assert found.exclusive == pytest.approx([2 / 3, 1 / 3, 1 / 3])
    assert found.counts.tolist() == [4, 1, 1]


def test_chance_of_ten_concepts():
    rng = np.random.default_rng(0)
    sets = [rng.choice(768, 50, replace=False) for _ in range(10)]
    found = sharing(sets, 768)
    assert found.chance_count == pytest.approx(1.329, abs=5e-4)
    assert found.chance_union == pytest.approx(376.3, abs=0.05)
    assert found.chance_exclusive == pytest.approx([0.546] * 10, abs=5e-4)


def test_random_sets_share_as_much_as_chance_says():
    rng = np.random.default_rng(1)
    draws = [sharing([rng.choice(60, size, replace=False) for size in (6, 6, 15)], 60) for _ in range(600)]
    for name in ("union", "exclusive"):
        values = np.array([np.mean(getattr(one, name)) for one in draws])
        want = np.mean(getattr(draws[0], f"chance_{name}"))
        assert values.mean() == pytest.approx(want, abs=4 * values.std() / np.sqrt(600)), name


def test_one_concept_shares_nothing():
    found = sharing([np.arange(4)], 9)
    assert (found.mean_count, found.chance_count, found.union) == (1, 1, 4)
    assert found.exclusive == pytest.approx([1])
    assert found.chance_exclusive == pytest.approx([1])
