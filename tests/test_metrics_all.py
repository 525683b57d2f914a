"""Every metric at once: what degenerate input gives, what changes nothing, what a record can hold."""

import json
from dataclasses import replace

import numpy as np
import pytest

from nibench.metrics import ABOUT, METRICS, Trial, measure
from nibench.ranking import Ranking
from nibench.record import ScoreRecord
from nibench.truth.worlds import WorldSpec, sample
from tests.settings import setting_of

WORLD = sample(WorldSpec(n_items=900, n_background=30), 0)
D = WORLD.activations.shape[1]
FOUND = Ranking.from_scores(WORLD.truth.gains["associated"] + 1e-6 * np.arange(D))
DETAILED = ("probe.", "layer.", "loc.", "red.")


def everything(world=WORLD, ranking=FOUND, **changes):
    setting = replace(setting_of(world, n_controls=2, n_random=3), metrics="all", **changes)
    return {score.id: score for score in measure(Trial(setting, ranking))}


def relabelled(labels):
    return replace(WORLD, labels=labels)


def one_class_in_eval():
    return everything(relabelled(np.where(WORLD.splits == "eval", 0, WORLD.labels)))


def one_class_in_probe():
    return everything(relabelled(np.where(WORLD.splits == "probe", 0, WORLD.labels)))


def a_class_of_one_item():
    labels = np.zeros_like(WORLD.labels)
    for split in ("rank", "probe", "eval"):
        labels[np.flatnonzero(WORLD.splits == split)[3]] = 1
    return everything(relabelled(labels))


def constant_neurons():
    activations = WORLD.activations.copy()
    activations[:, FOUND.order[:12]] = 0.1
    return everything(replace(WORLD, activations=activations))


def nothing_but_constants():
    return everything(replace(WORLD, activations=np.ones_like(WORLD.activations)))


def fewer_neurons_than_k():
    few = replace(WORLD, activations=WORLD.activations[:, :3], truth=None)
    return everything(few, Ranking.from_scores([2.0, 1.0, 0.0]))


def one_neuron():
    one = replace(WORLD, activations=WORLD.activations[:, :1], truth=None)
    return everything(one, Ranking.from_scores([1.0]))


def all_tied():
    return everything(ranking=Ranking.from_scores(np.ones(D)))


def none_could_be_told():
    return everything(ranking=Ranking.from_scores(np.full(D, -np.inf)))


def a_ranking_of_five():
    return everything(ranking=Ranking.from_order(FOUND.top(5), D))


def copies():
    activations = WORLD.activations.copy()
    activations[:, FOUND.order[1:30]] = activations[:, FOUND.order[:1]]
    return everything(replace(WORLD, activations=activations))


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "case",
    [
        one_class_in_eval, one_class_in_probe, a_class_of_one_item, constant_neurons, nothing_but_constants,
        fewer_neurons_than_k, one_neuron, all_tied, none_could_be_told, a_ranking_of_five, copies,
    ],
)  # fmt: skip
def test_degenerate_input_gives_finite_numbers_or_no_score(case):
    found = case()
    assert "encodes" in found
    for score in found.values():
        assert np.isfinite(score.value), score.id
        assert all(np.isfinite(array).all() for array in score.clusters.values()), score.id
        json.dumps(score.details, allow_nan=False)
        fields = {name: getattr(score, name) for name in ScoreRecord.model_fields}
        assert ScoreRecord(**fields).id in ABOUT or score.id.startswith("gt.")


def test_scores_that_do_not_apply_are_left_out():
    told = {"probe.mi", "probe.nmi", "probe.bmi"}
    assert told <= everything().keys()
    assert not told & one_class_in_eval().keys()
    assert "probe.mdl" not in one_class_in_probe()
    assert "probe.minset" not in nothing_but_constants()
    assert not any(name.startswith("loc.") for name in none_could_be_told())


def test_ties_are_flagged_wherever_they_decide():
    tied = all_tied()
    for name in (
        "probe.f1",
        "probe.mi",
        "probe.mdl",
        "probe.curve[remove]",
        "probe.logistic",
        "red.clusters",
    ):
        assert any("ties decide" in flag for flag in tied[name].flags), name
        assert tied[name].tie_fraction > 0.05


def test_only_what_is_asked_for_is_measured():
    setting = setting_of(WORLD, n_controls=2, n_random=3)
    headline = {score.id for score in measure(Trial(setting, FOUND))}
    assert not any(
        name.startswith(("probe.curve", "probe.mi", "layer.", "loc.", "red.")) for name in headline
    )
    assert headline < everything().keys()
    assert len(METRICS) == len(set(METRICS))


def test_a_monotone_map_of_the_scores_changes_nothing_but_their_mass():
    plain, mapped = everything(), everything(ranking=Ranking.from_scores(np.exp(2 * FOUND.scores) + 3))
    for name, score in plain.items():
        if not name.startswith("loc."):
            assert mapped[name].value == score.value, name


def test_names_of_the_neurons_change_nothing():
    order = np.random.default_rng(5).permutation(D)
    moved = replace(WORLD, activations=WORLD.activations[:, order], truth=None)
    scores = Ranking.from_scores(FOUND.scores[order])
    plain, permuted = everything(replace(WORLD, truth=None)), everything(moved, scores)
    for name, score in plain.items():
        if name.startswith(DETAILED) and name != "probe.curve[random]":  # random rankings are of places
            assert permuted[name].value == pytest.approx(score.value, abs=4 / 300), name
