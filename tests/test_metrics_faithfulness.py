"""Comprehensiveness, sufficiency and the faithfulness areas: worked examples, plain hooks, what cannot be told."""

from dataclasses import replace

import numpy as np
import pytest

from nibench.metrics import Trial
from nibench.metrics.faithfulness import (
    BINS,
    FRACTIONS,
    aopc,
    erased,
    faithful,
    faithfulness_areas,
    sizes,
)
from nibench.ranking import Ranking
from tests.test_metrics_ablation import literal_margins, model, setting  # noqa: F401
from tests.toy import LinearBehaviour, toy_setting, used_in

N, CARRIERS = 100, np.array([5, 17, 40, 62, 90])


def named(scores):
    return {score.id: score for score in scores}


def test_the_areas_of_a_curve_worked_out_by_hand():  # oracle 6
    found = faithfulness_areas(np.array([0, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.1, 1.05, 1]))
    expected = {"cpr": 0.99875, "cmd": 0.08025, "cpr_log": 0.5957904168, "cmd_log": 0.4391580834}
    assert found == {name: pytest.approx(value, abs=1e-9) for name, value in expected.items()}
    assert faithfulness_areas(np.ones(10))["cpr"] == pytest.approx(0.999)


def test_the_mean_over_the_bins_and_the_one_that_counts_the_empty_set():  # oracle 9
    drops = np.array([0.05, 0.10, 0.2, 0.3, 0.35])
    assert aopc(drops) == pytest.approx(0.2, abs=1e-9)
    assert aopc(drops, with_nothing=True) == pytest.approx(1 / 6, abs=1e-9)


def test_sizes_are_rounded_and_never_nothing():
    assert sizes(FRACTIONS, 768) == (1, 2, 4, 8, 15, 38, 77, 154, 384, 768)
    assert sizes(BINS, 3) == (1, 1, 1, 1, 2)


def test_both_are_what_plain_hooks_say(model, setting):  # noqa: F811
    order = np.random.default_rng(0).permutation(72)
    setting = replace(setting, behaviour=setting.behaviour.some(np.arange(10)))
    found = named(erased(Trial(setting, Ranking.from_order(order, 72))))
    areas = named(faithful(Trial(setting, Ranking.from_order(order, 72))))
    intact = literal_margins(model, setting, [], "mean").sum()
    nothing = literal_margins(model, setting, np.arange(72), "mean").sum()
    comp = [1 - literal_margins(model, setting, order[:k], "mean").sum() / intact for k in sizes(BINS, 72)]
    last = [1 - literal_margins(model, setting, order[-k:], "mean").sum() / intact for k in sizes(BINS, 72)]
    np.testing.assert_allclose(found["abl.comp"].curve, comp, atol=1e-4)
    np.testing.assert_allclose(found["abl.comp"].details["bottom"], last, atol=1e-4)
    assert found["abl.comp"].value == pytest.approx(np.mean(comp), abs=1e-4)
    kept = {k: literal_margins(model, setting, order[k:], "mean").sum() for k in sizes(FRACTIONS, 72)}
    np.testing.assert_allclose(
        areas["abl.cpr"].curve,
        [(kept[k] - nothing) / (intact - nothing) for k in sizes(FRACTIONS, 72)],
        atol=1e-4,
    )
    if "abl.suff" in found:
        suff = found["abl.suff"]
        literal = [1 - literal_margins(model, setting, order[k:], "mean").sum() / intact for k in suff.k]
        np.testing.assert_allclose(suff.curve, literal, atol=1e-4)


def toy(order_scores, behaviour=None):
    behaviour = used_in(N, CARRIERS, weights=np.full(N, 1e-3)) if behaviour is None else behaviour
    return Trial(toy_setting(behaviour, (N,)), Ranking.from_scores(order_scores))


def test_the_carriers_are_needed_and_enough_and_the_others_neither():
    best, worst = (toy(sign * np.isin(np.arange(N), CARRIERS)) for sign in (1.0, -1.0))
    good, bad = named(erased(best)), named(erased(worst))
    assert good["abl.comp"].curve[1:] == pytest.approx([1] * 4, abs=0.05)
    assert bad["abl.comp"].value < 0.05 < good["abl.comp"].value
    assert good["abl.comp"].details["bottom"][0] == pytest.approx(0, abs=0.05)
    assert good["abl.suff"].value < 0.3 < bad["abl.suff"].value
    assert good["abl.suff"].direction == -1
    areas, poor = named(faithful(best)), named(faithful(worst))
    assert areas["abl.cpr"].value > 0.95 > poor["abl.cpr"].value
    assert areas["abl.cmd"].value < 0.05 < poor["abl.cmd"].value
    assert areas["abl.cpr"].curve[-1] == pytest.approx(1.0)


def test_sufficiency_is_left_out_where_it_makes_no_difference_which_are_kept():
    weights = np.zeros(N)
    weights[CARRIERS[:1]] = 1.0  # one neuron of a hundred: few random sets keep it
    rng = np.random.default_rng(0)
    values = 1 + 0.1 * rng.normal(size=(48, N))
    trial = toy(weights, LinearBehaviour(values, weights, means=np.zeros(N)))
    found = named(erased(trial))
    bins = found["abl.suff"].details["bins"]
    assert 0.01 not in bins
    assert bins[-1] == 0.5
    assert found["abl.suff"].k == sizes(bins, N)


def test_the_scores_can_be_recomputed_from_their_groups():
    trial = toy(np.random.default_rng(3).random(N))
    for score in (*erased(trial), *faithful(trial)):
        lost = score.clusters["lost" if "lost" in score.clusters else "kept"]
        curve = lost.sum(axis=0) / score.clusters["at_stake"].sum()
        np.testing.assert_allclose(curve, score.curve)
        areas = {f"abl.{name}": value for name, value in faithfulness_areas(np.resize(curve, 10)).items()}
        value = areas.get(score.id, aopc(curve))
        assert score.value == pytest.approx(float(value))
        assert score.ci95[0] <= score.value <= score.ci95[1]


def test_nothing_at_stake_gives_no_score():
    nothing = LinearBehaviour(np.ones((20, 4)), np.zeros(4))
    wrong = LinearBehaviour(np.ones((20, 4)), -np.ones(4), means=np.zeros(4))
    for behaviour in (nothing, wrong):
        trial = Trial(toy_setting(behaviour, (4,)), Ranking.from_scores(np.arange(4.0)))
        assert erased(trial) is None
        assert faithful(trial) is None
    trial = Trial(toy_setting(None, (4,)), Ranking.from_scores(np.arange(4.0)))
    assert erased(trial) is None
    assert faithful(trial) is None


def test_few_neurons_one_group_and_ties_give_numbers_without_an_interval():
    behaviour = LinearBehaviour(np.ones((6, 3)), np.ones(3), groups=np.zeros(6, dtype=int), means=np.zeros(3))
    trial = Trial(toy_setting(behaviour, (3,)), Ranking.from_scores(np.zeros(3)))
    for score in (*erased(trial), *faithful(trial)):
        assert np.isfinite(score.value)
        assert score.ci95 is None
        assert any(flag.startswith("ties decide") for flag in score.flags)
    assert named(erased(trial))["abl.comp"].curve == pytest.approx([1 / 3] * 4 + [2 / 3])


def test_the_hand_made_curve_of_a_linear_model_is_linear():
    behaviour = LinearBehaviour(np.ones((20, 10)), np.ones(10), means=np.zeros(10))
    trial = Trial(toy_setting(behaviour, (10,)), Ranking.from_scores(np.arange(10.0)))
    assert named(faithful(trial))["abl.cpr"].curve == pytest.approx([k / 10 for k in sizes(FRACTIONS, 10)])
