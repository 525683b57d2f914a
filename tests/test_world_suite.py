"""The named worlds: each task is what it says it is; in the traps most methods agree, and are wrong."""

from itertools import combinations

import numpy as np
import pytest

import nibench as nb
from nibench.metrics.truth import chance_ap, expected_ap
from nibench.ranking import Ranking
from nibench.submissions import find_task
from nibench.suites import NULLS, TRAPS, WORLDS
from nibench.task import World

RANKERS = [
    "concept_iou",
    "expert_units",
    "gaussian_probe",
    "lca",
    "linear_l1",
    "linear_l2",
    "mean_difference",
    "probeless",
]


def load(name: str, draw: int = 0) -> World:
    corpus = find_task(f"{name}@draw={draw}").load().load()
    assert isinstance(corpus, World)
    return corpus


def rank(method: str, world: World) -> Ranking:
    rows = world.splits == "rank"
    return nb.rank(
        method,
        world.activations[rows],
        world.labels[rows],
        sentences=world.sentences[rows],
        word_types=world.word_types[rows],
    )


def corrected_ap(ranking: Ranking, relevant: np.ndarray) -> float:
    chance = chance_ap(len(relevant), int(relevant.sum()))
    return (expected_ap(ranking.scores, relevant) - chance) / (1 - chance)


def test_the_suite_has_worlds_traps_and_nulls():
    assert len(WORLDS) >= 12
    assert len(TRAPS) >= 4
    assert len(NULLS) >= 2
    assert {*TRAPS, *NULLS} < set(WORLDS)


@pytest.mark.parametrize("name", WORLDS)
def test_a_world_is_small_and_its_truth_covers_every_neuron(name: str):
    world = load(name)
    width = world.activations.shape[1]
    assert width <= 600
    for values in (*world.truth.gains.values(), *world.truth.sets.values(), world.truth.roles):
        assert values.shape == (width,)
    assert np.isfinite(world.activations).all()
    assert (
        corrected_ap(
            rank("random_ranking", world), world.truth.sets["responds"] | (world.truth.roles == "loud")
        )
        < 0.1
    )


@pytest.mark.parametrize("name", sorted({*WORLDS} - {*NULLS}))
def test_no_look_at_the_labels_no_neurons(name: str):
    world = load(name)
    assert corrected_ap(rank("variance", world), world.truth.sets["associated"]) < 0.1


@pytest.mark.parametrize("name", TRAPS)
def test_in_a_trap_rankers_share_more_wrong_neurons_than_right_ones(name: str):
    world = load(name)
    right = world.truth.sets["associated"]
    n = int(right.sum())
    inside = np.stack([rank(method, world).inclusion(n) for method in RANKERS])
    pairs = list(combinations(range(len(RANKERS)), 2))
    shared = np.array([inside[a] * inside[b] for a, b in pairs]).mean(axis=0) / n  # (D,)
    assert shared.sum() > 0.4  # of the first n, two methods share so many ...
    assert shared[~right].sum() > shared[right].sum()  # ... and more of them are wrong than right
    majority = inside.sum(axis=0) >= len(RANKERS) / 2
    assert (majority & ~right).sum() > (majority & right).sum()


@pytest.mark.parametrize("name", NULLS)
def test_in_a_null_no_neuron_is_associated(name: str):
    truth = load(name).truth
    assert not truth.gains["associated"].any()
    assert not truth.sets["associated"].any()


def test_where_labels_mean_nothing_no_neuron_responds_and_in_parity_some_do():
    assert load("random_labels_world").truth.null
    parity = load("parity_world").truth
    assert not parity.null
    assert set(parity.roles[parity.sets["responds"]]) == {"conjunctive"}


def test_the_roles_are_all_somewhere():
    roles = {role for name in WORLDS for role in np.unique(load(name).truth.roles)}
    assert roles == {
        "signal", "shared", "distributed", "copy", "sign_mixed", "conjunctive",
        "correlate", "loud", "dead", "background",
    }  # fmt: skip


def test_a_ranker_that_keeps_one_of_each_copy_misses_the_others():
    world = load("copies_world")
    relevant = world.truth.sets["associated"]
    assert (
        corrected_ap(rank("mean_difference", world), relevant)
        > corrected_ap(rank("linear_l1", world), relevant) + 0.2
    )


def test_only_a_method_that_looks_at_the_spread_sees_two_sided_neurons():
    world = load("two_sided_world")
    relevant = world.truth.sets["associated"]
    assert corrected_ap(rank("gaussian_probe", world), relevant) > 0.9
    assert corrected_ap(rank("linear_l2", world), relevant) < 0.1
