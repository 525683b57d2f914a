"""Matched random sets: alike, shared between methods, and a p-value that is one."""

from itertools import combinations, pairwise, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nibench.metrics import Trial
from nibench.metrics.ablation import carried, required
from nibench.metrics.null import CELL, MatchedSets, matched_p, matching_cells, shared_null
from nibench.ranking import Ranking
from tests.toy import LinearBehaviour, toy_setting, used_in

WIDTHS = (192, 192)
N = sum(WIDTHS)


def cells_of(widths, seed=0):
    rng = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(widths)])
    return matching_cells(offsets, rng.random(offsets[-1]), rng.random(offsets[-1])), offsets


@settings(max_examples=30, deadline=None)
@given(widths=st.lists(st.integers(1, 200), min_size=1, max_size=4), seed=st.integers(0, 9))
def test_a_cell_lies_in_one_layer_and_holds_enough_neurons_to_draw_from(widths, seed):
    cells, offsets = cells_of(widths, seed)
    for a, b in pairwise(offsets):
        counts = np.bincount(cells[a:b])
        counts = counts[counts > 0]
        assert counts.max() < 2 * CELL
        assert counts.min() >= min(CELL, b - a)
    layers = np.repeat(np.arange(len(widths)), widths)
    assert all(len(set(layers[cells == cell])) == 1 for cell in set(cells))


def test_cells_are_halves_of_the_variance_then_of_the_norm():
    variances, norms = np.arange(96.0), np.tile([1.0, 0.0], 48)
    cells = matching_cells(np.array([0, 96]), variances, norms)
    for cell in range(4):
        own = np.flatnonzero(cells == cell)
        assert len(own) == 24
        assert len(set(variances[own] >= 48)) == 1
        assert len(set(norms[own])) == 1
    by_variance = matching_cells(np.array([0, 96]), variances, None)
    assert all(np.ptp(np.flatnonzero(by_variance == cell)) == 23 for cell in range(4))


def test_matched_sets_have_as_many_neurons_in_each_cell_and_are_different_sets():
    cells, _ = cells_of(WIDTHS)
    own = np.random.default_rng(3).choice(N, 8, replace=False)
    drawn = MatchedSets(cells, 100, 0).like(own)
    profile = np.bincount(cells[own], minlength=16)
    assert len(drawn) == 100
    assert len({tuple(one) for one in drawn} | {tuple(np.sort(own))}) == 101
    assert all((np.bincount(cells[one], minlength=16) == profile).all() for one in drawn)
    assert all(len(set(one)) == 8 for one in drawn)


def test_where_there_are_few_sets_all_of_them_are_tried():
    cells, _ = cells_of((60, 60))
    own = np.array([0, 60])
    pools = [np.flatnonzero(cells == cells[i]) for i in own]
    every = {tuple(sorted(pair)) for pair in product(*pools)} - {(0, 60)}
    found = MatchedSets(cells, 100_000, 0).like(own)
    assert {tuple(one) for one in found} == every
    one = MatchedSets(cells, 100, 0).like(
        np.array([5])
    )  # one neuron has only those of its own cell beside it
    assert {int(i) for (i,) in one} == set(np.flatnonzero(cells == cells[5])) - {5}


def test_the_share_that_matches_have_in_common_is_the_mean_over_all_of_them():
    cells = np.array([0] * 5 + [1] * 4)
    own = np.array([0, 1, 6])
    sets = [(*a, b) for a in combinations(range(5), 2) for b in range(5, 9)]
    expected = np.mean([len(set(one) & set(own.tolist())) for one in sets]) / 3
    assert MatchedSets(cells, 10, 0).shared(own) == pytest.approx(expected, abs=1e-12)


def test_the_p_of_a_set_that_was_drawn_like_its_matches_is_uniform():
    cells, _ = cells_of((48, 60))
    effects = np.random.default_rng(0).normal(size=108)
    start = np.random.default_rng(1).choice(108, 5, replace=False)
    found = []
    for seed in range(600):
        own = MatchedSets(cells, 1, 10_000 + seed).like(start)[0]
        others = np.array([effects[one].sum() for one in MatchedSets(cells, 19, seed).like(own)])
        found.append(matched_p(effects[own].sum(), others)[0])
    counts = np.bincount(np.rint(np.array(found) * 20).astype(int), minlength=21)[1:]
    assert counts.sum() == 600
    assert ((counts - 30) ** 2 / 30).sum() < 43.8  # chi-square with 19 degrees, p = .001


def test_p_and_z_by_hand():
    p, z = matched_p(3.0, np.array([1.0, 2.0, 3.0, 4.0]))
    assert p == pytest.approx(3 / 5)
    assert z == pytest.approx(0.5 / np.sqrt(5 / 3))
    assert matched_p(0.0, np.zeros(4)) == (1.0, None)


CARRIERS = np.array([3, 50, 77, 120, 200, 230, 300, 333])


def scored(ranking, metric=carried, behaviour=None, **fields):
    behaviour = used_in(N, CARRIERS) if behaviour is None else behaviour
    norms = np.random.default_rng(5).random(N)
    setting = toy_setting(behaviour, WIDTHS, norms=norms, null_ks=(2, 8), **fields)
    return metric(Trial(setting, Ranking.from_scores(ranking))), setting


@pytest.mark.parametrize("metric", [carried, required])
def test_the_planted_neurons_move_more_than_any_neurons_like_them(metric):
    ranking = np.where(np.isin(np.arange(N), CARRIERS), 1.0, 0.0)
    found, _ = scored(ranking, metric)
    assert found.details["matched"]["p"] == [1 / 101, 1 / 101]
    assert found.details["matched"]["sets"] == [100, 100]
    assert found.details["matched"]["k"] == [2, 8]
    assert not any("matched" in flag for flag in found.flags)


def test_what_moves_no_more_than_its_matches_is_flagged_and_scored_as_before():
    ranking = -np.abs(used_in(N, CARRIERS).weights)
    found, setting = scored(ranking)
    assert [flag for flag in found.flags if "matched" in flag] == [
        "not above matched random sets at k = 2 (p = {:.2f}) and k = 8 (p = {:.2f})".format(
            *found.details["matched"]["p"]
        ).replace("0.", ".")
    ]
    plain = carried(Trial(toy_setting(setting.behaviour, WIDTHS, null_ks=()), Ranking.from_scores(ranking)))
    assert (plain.value, plain.normalised) == (found.value, found.normalised)
    assert "matched" not in plain.details


def test_the_details_are_a_plain_comparison_with_sets_like_it():
    ranking = np.random.default_rng(2).random(N)
    found, setting = scored(ranking, null_prompts=1000)
    null = setting.once(shared_null)
    effects = (setting.behaviour.values - setting.behaviour.twins) * setting.behaviour.weights
    for i, k in enumerate((2, 8)):
        top = np.argsort(-ranking)[:k]
        others = np.array([effects[:, one].sum(axis=1).mean() for one in null.matched.like(top)])
        own = effects[:, top].sum(axis=1).mean()
        details = {name: values[i] for name, values in found.details["matched"].items()}
        assert details["p"] == (1 + (others >= own).sum()) / 101
        assert details["z"] == pytest.approx((own - others.mean()) / others.std(ddof=1))
        assert details["moved"] == pytest.approx(own)
        assert details["matched"] == pytest.approx(others.mean())


def test_rankings_with_the_same_numbers_in_the_same_cells_share_their_matches_and_order_does_not_matter():
    behaviour = used_in(N, CARRIERS)
    setting = toy_setting(behaviour, WIDTHS, null_ks=(2,), ablation_ks=(1,))
    null = setting.once(shared_null)
    first = np.array([3, 200])
    second = np.array([np.flatnonzero(null.matched.cells == null.matched.cells[i])[-1] for i in first])
    assert not set(first) & set(second)
    rankings = [Ranking.from_order(ids, N) for ids in (first, second)]
    results = [carried(Trial(setting, one)).details["matched"] for one in rankings]
    assert null.table.n_sets <= 101 + 1 + 1  # B + 1 drawn, and the two sets themselves
    fresh = toy_setting(behaviour, WIDTHS, null_ks=(2,), ablation_ks=(1,))
    again = [carried(Trial(fresh, one)).details["matched"] for one in reversed(rankings)]
    assert results == again[::-1]


def test_a_set_that_fills_its_cells_is_not_compared_and_it_is_said():
    found, _ = scored(np.where(np.arange(N) < 8, 1.0, 0.0), null_sets=100)
    assert found.details["matched"]["p"][1] is not None
    behaviour = used_in(30, np.array([1]))
    setting = toy_setting(behaviour, (30,), null_ks=(1, 20))
    found = carried(Trial(setting, Ranking.from_scores(np.arange(30.0))))
    assert found.details["matched"]["sets"] == [29, 0]
    assert found.details["matched"]["p"][1] is None
    assert "too few matched random sets at k = 20" in found.flags


def test_k_beyond_the_neurons_and_few_items_and_ties_do_no_harm():
    behaviour = LinearBehaviour(np.ones((2, 5)), np.ones(5), np.zeros((2, 5)))
    setting = toy_setting(behaviour, (5,), null_ks=(1, 32), ablation_ks=(1, 32))
    found = carried(Trial(setting, Ranking.from_scores(np.zeros(5))))
    assert found.details["matched"]["k"] == [1, 5]
    assert found.details["matched"]["p"] == [1.0, None]
    assert found.k == (1, 5)


def test_the_planted_neurons_of_a_glass_box_stand_out():
    from nibench.ground import Ground, Options
    from nibench.harness import load_task
    from nibench.metrics.ceiling import planted
    from nibench.model import load_model
    from nibench.submissions import resolve_model
    from nibench.suites import Budget

    budget = Budget(eval_prompts=10, null_ks=(2, 5), null_prompts=12, metrics="all")
    options = Options(cap=150, budget=budget)
    setting = Ground(load_task("glass_tense"), load_model(resolve_model("glass8")), options).setting(0)
    known = planted(setting)
    assert len(known) == 5
    for metric in (carried, required):
        found = metric(Trial(setting, Ranking.from_order(known, 768)))
        assert found.details["matched"]["p"] == [1 / 101, 1 / 101]
        idle = metric(Trial(setting, Ranking.from_scores(-1.0 * np.isin(np.arange(768), known))))
        assert any(flag.startswith("not above matched random sets") for flag in idle.flags)
