"""Scores against a known answer: worked examples, chance, ties."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, ndcg_score, roc_auc_score

from nibench.metrics import Setting, Trial, measure
from nibench.metrics.truth import (
    above,
    anatomy,
    chance_ap,
    chance_ndcg,
    decoys,
    energy,
    expected_ap,
    expected_ndcg,
    failure_anatomy,
    null_share,
    truth_per_claim,
)
from nibench.neurons import Neurons
from nibench.ranking import Ranking
from nibench.task import Truth
from tests.references import truth_metrics as slow

RANKED = Ranking.from_order([3, 0, 5, 1, 2, 4, 6, 7], 8)  # oracle 19
USED = np.isin(np.arange(8), [2, 3, 5])
GAINS = np.array([0, 0, 2.0, 3.0, 0, 1.0, 0, 0])


def trial(scores, sets, gains=None, roles=None):
    n_neurons = len(scores)
    roles = np.full(n_neurons, "background", dtype="<U16") if roles is None else np.array(roles)
    gains = {claim: members.astype(float) for claim, members in sets.items()} if gains is None else gains
    setting = Setting(
        Neurons.anonymous(n_neurons),
        2,
        {},
        (),
        Truth(gains, sets, roles),
        None,
        ks=(1,),
        ablation_ks=(1,),
        seed=0,
    )
    return Trial(setting, Ranking.from_scores(scores))


def by_id(scores):
    return {score.id: score for score in scores or ()}


def test_average_precision_of_a_worked_ranking():
    assert expected_ap(RANKED.scores, USED) == pytest.approx(0.7555555556, abs=1e-9)
    assert chance_ap(8, 3) == pytest.approx(0.5283801020, abs=1e-9)
    found = by_id(truth_per_claim(trial(RANKED.scores, {"carries": USED})))
    assert found["gt.ap[carries]"].value == pytest.approx(0.7555555556, abs=1e-9)
    assert found["gt.ap[carries]"].chance == pytest.approx(0.5283801020, abs=1e-9)
    assert found["gt.ap[carries]"].normalised == pytest.approx(0.4816918338, abs=1e-9)


def test_recall_of_a_worked_ranking():
    assert RANKED.inclusion(3) @ USED / 3 == pytest.approx(2 / 3)
    assert RANKED.inclusion(2) @ USED / 3 == pytest.approx(1 / 3)
    assert RANKED.inclusion(5) @ USED / 3 == pytest.approx(1)
    found = by_id(truth_per_claim(trial(RANKED.scores, {"carries": USED})))
    assert found["gt.recall@n[carries]"].value == pytest.approx(2 / 3)


def test_the_exhaustive_oracle_s_own_score_stands_beside_the_method_s():
    effects = np.where(USED, 0.5, 0.1)
    effects[np.flatnonzero(USED)[0]] = 0.0  # a neuron whose single effect does not show what it carries
    one = trial(RANKED.scores, {"carries": USED})
    truth = replace(one.setting.truth, oracles={"carries": effects})
    found = by_id(truth_per_claim(replace(one, setting=replace(one.setting, truth=truth))))
    assert found["gt.ap[carries]"].details["oracle"] == pytest.approx(expected_ap(effects, USED))
    assert found["gt.ap[carries]"].details["oracle"] < 1


def test_graded_gain_of_a_worked_ranking():
    assert expected_ndcg(RANKED, GAINS) == pytest.approx(0.8974867083, abs=1e-9)
    assert expected_ndcg(RANKED, USED.astype(float)) == pytest.approx(0.8854598816, abs=1e-9)
    assert expected_ndcg(RANKED, GAINS, depth=3) == pytest.approx(0.7350069851, abs=1e-9)


def test_used_against_the_rest_in_a_worked_ranking():
    assert 1 - above(RANKED.scores, ~USED, USED) == pytest.approx(0.8)  # the AUROC


@pytest.mark.parametrize(
    ("scores", "relevant", "expected", "threshold_version"),
    [
        ([2, 2, 2, 1], [1, 0, 0, 1], 0.5555555556, 0.4166666667),
        ([3, 2, 2, 2, 1], [1, 1, 0, 0, 1], 0.7740740741, 0.7),
        ([1, 1, 1, 1], [1, 1, 0, 0], 0.6805555556, 0.5),
    ],
)
def test_ties_are_averaged_over_and_not_taken_for_one_threshold(
    scores, relevant, expected, threshold_version
):
    scores, relevant = np.array(scores, dtype=float), np.array(relevant, dtype=bool)
    assert expected_ap(scores, relevant) == pytest.approx(expected, abs=1e-9)
    assert slow.mean_over_tie_breaks(slow.average_precision, scores, relevant) == pytest.approx(expected)
    assert average_precision_score(relevant, scores) == pytest.approx(threshold_version, abs=1e-9)


def test_expected_hits_inside_a_tie():
    relevant = np.array([0, 1, 0, 1, 0])  # oracle 12
    assert Ranking.from_scores([3, 2, 2, 2, 1]).inclusion(2) @ relevant == pytest.approx(0.6666666667)


def test_chance_of_a_large_ranking():
    assert chance_ap(768, 8) == pytest.approx(0.0184438471, abs=1e-9)
    assert chance_ap(5, 5) == 1.0


def test_decoys_above_used_neurons():
    scores = np.array([0.9, 0.8, 0.7, 0.7, 0.2, 0.1])  # oracle 19b
    used, decoy = np.isin(np.arange(6), [0, 2, 4]), np.isin(np.arange(6), [1, 3])
    assert above(scores, decoy, used) == pytest.approx(0.5833333333, abs=1e-9)
    roles = np.where(used, "used", np.where(decoy, "decoy", "background"))
    (found,) = decoys(trial(scores, {"carries": used}, roles=roles))
    assert (found.id, found.direction) == ("gt.decoy", -1)
    assert found.value == pytest.approx(0.5833333333, abs=1e-9)
    assert found.normalised == pytest.approx(1 - 2 * 0.5833333333, abs=1e-9)
    assert found.value == pytest.approx(1 - roc_auc_score(used[used | decoy], scores[used | decoy]))


def test_each_kind_of_rival_has_its_own_column():
    roles = ["used", "decoy", "natural_decoy", "background", "correlate"]
    used = np.array([True, False, False, False, False])
    found = by_id(decoys(trial([3, 4, 1, 9, 2], {"carries": used, "associated": used}, roles=roles)))
    assert {name: score.value for name, score in found.items()} == {
        "gt.decoy": 1.0,
        "gt.decoy[natural]": 0.0,
        "gt.decoy[correlate]": 0.0,
    }


def test_anatomy_counts_roles_and_splits_ties():
    truth = Truth({}, {}, np.array(["used", "decoy", "decoy", "background"]))
    assert anatomy(Ranking.from_scores([3, 2, 2, 1]), truth, 2) == {"used": 1.0, "decoy": 1.0}
    assert sum(anatomy(Ranking.from_scores([1, 1, 1, 1]), truth, 3).values()) == pytest.approx(3)


def test_an_empty_answer_has_no_score():
    nothing = np.zeros(4, dtype=bool)
    assert truth_per_claim(trial([4, 3, 2, 1], {"carries": nothing})) is None
    assert np.isnan(expected_ap(np.arange(4.0), nothing))
    assert decoys(trial([4, 3, 2, 1], {})) is None


def test_claims_are_scored_apart_and_average_precision_needs_a_set():
    gains = {"carries": GAINS, "required": GAINS[::-1].copy()}
    found = by_id(truth_per_claim(trial(RANKED.scores, {"carries": USED}, gains)))
    assert set(found) == {
        "gt.ndcg[carries]",
        "gt.energy[carries]",
        "gt.ap[carries]",
        "gt.recall@n[carries]",
        "gt.ndcg[required]",
        "gt.energy[required]",
    }
    assert found["gt.ndcg[carries]"].value != found["gt.ndcg[required]"].value


def test_missing_scores_rank_last_and_share_their_places():
    scores = np.array([5.0, -np.inf, -np.inf, 4.0])
    relevant = np.array([False, True, False, False])
    assert expected_ap(scores, relevant) == pytest.approx((1 / 3 + 1 / 4) / 2)


small_scores = st.lists(st.integers(0, 3), min_size=2, max_size=6)


@settings(max_examples=60, deadline=None)
@given(small_scores, st.integers(0, 1000))
def test_expectations_equal_the_mean_over_every_tie_break(values, seed):
    rng = np.random.default_rng(seed)
    scores, gains = np.array(values, dtype=float), rng.integers(0, 3, len(values)).astype(float)
    relevant = gains > 0
    if relevant.any():
        assert expected_ap(scores, relevant) == pytest.approx(
            slow.mean_over_tie_breaks(slow.average_precision, scores, relevant)
        )
        ranking = Ranking.from_scores(scores)
        assert expected_ndcg(ranking, gains) == pytest.approx(
            slow.mean_over_tie_breaks(slow.ndcg, scores, gains)
        )
        assert expected_ndcg(ranking, gains) == pytest.approx(ndcg_score(gains[None], scores[None]))
        ks = range(1, len(gains) + 1)
        assert energy(ranking, gains, ks) == pytest.approx(
            slow.mean_over_tie_breaks(slow.energy, scores, gains), nan_ok=True
        )


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40))
def test_monotone_maps_and_permutations_change_nothing(seed, n_neurons):
    rng = np.random.default_rng(seed)
    scores, gains = rng.integers(0, 6, n_neurons).astype(float), rng.random(n_neurons)
    relevant = rng.random(n_neurons) < 0.4
    relevant[0] = True
    mapped, order = np.exp(scores) + 1, rng.permutation(n_neurons)
    assert expected_ap(mapped, relevant) == pytest.approx(expected_ap(scores, relevant))
    assert expected_ap(scores[order], relevant[order]) == pytest.approx(expected_ap(scores, relevant))
    plain = expected_ndcg(Ranking.from_scores(scores), gains)
    assert expected_ndcg(Ranking.from_scores(mapped), gains) == pytest.approx(plain)
    assert expected_ndcg(Ranking.from_scores(scores[order]), gains[order]) == pytest.approx(plain)


def test_random_rankings_score_chance():
    rng = np.random.default_rng(0)
    gains = np.where(np.arange(60) < 7, rng.random(60), 0.0)
    relevant = gains > 0
    aps, ndcgs, rates = [], [], []
    for _ in range(3000):
        scores = rng.random(60)
        aps.append(expected_ap(scores, relevant))
        ndcgs.append(expected_ndcg(Ranking.from_scores(scores), gains))
        rates.append(above(scores, np.arange(60) > 50, relevant))
    for values, chance in ((aps, chance_ap(60, 7)), (ndcgs, chance_ndcg(gains)), (rates, 0.5)):
        assert np.mean(values) == pytest.approx(chance, abs=4 * np.std(values) / np.sqrt(3000))


def test_a_ranking_of_nothing_but_ties_scores_exactly_chance():
    found = by_id(truth_per_claim(trial(np.ones(8), {"carries": USED}, {"carries": GAINS})))
    assert found["gt.ap[carries]"].normalised == pytest.approx(0, abs=1e-12)
    assert found["gt.ndcg[carries]"].normalised == pytest.approx(0, abs=1e-12)
    assert found["gt.recall@n[carries]"].normalised == pytest.approx(0, abs=1e-12)


def test_the_perfect_ranking_scores_one():
    found = by_id(truth_per_claim(trial(GAINS, {"carries": USED}, {"carries": GAINS})))
    assert [score.normalised for score in found.values()] == [pytest.approx(1.0)] * 4


# what the top k hold, and neurons that are not judged one by one


def test_energy_of_squared_weights_of_norm_one():
    weights, ks = np.array([0.6, 0, 0.64, 0.48]), (1, 2, 3, 4)  # oracle 21
    found = energy(Ranking.from_order([2, 1, 0, 3], 4), weights**2, ks)
    ideal = energy(Ranking.from_scores(weights), weights**2, ks)
    assert found == pytest.approx([0.4096, 0.4096, 0.7696, 1], abs=1e-9)
    assert ideal == pytest.approx([0.4096, 0.7696, 1, 1], abs=1e-9)
    assert found.sum() / ideal.sum() == pytest.approx(0.8142929039, abs=1e-9)


def test_energy_of_a_worked_ranking():
    # gains 2, 3, 1 stand at ranks 5, 1 and 3 of 8
    assert energy(RANKED, GAINS, (1, 2, 4, 8)) == pytest.approx([3 / 6, 3 / 6, 4 / 6, 1])
    one = trial(RANKED.scores, {}, {"carries": GAINS})
    setting = replace(one.setting, ks=(1, 2, 4, 8))
    (_, found) = truth_per_claim(replace(one, setting=setting))
    assert found.id == "gt.energy[carries]"
    assert found.value == pytest.approx(
        (0.5 + (0.5 + 4 / 6) / 2 + (4 / 6 + 1) / 2) / 3
    )  # trapezes over log k
    assert found.chance == pytest.approx((1 / 8 + 1 / 4) / 6 + (1 / 4 + 1 / 2) / 6 + (1 / 2 + 1) / 6)
    assert found.ceiling == pytest.approx(((3 / 6 + 5 / 6) / 2 + (5 / 6 + 1) / 2 + 1) / 3)
    assert found.normalised == pytest.approx((found.value - found.chance) / (found.ceiling - found.chance))
    assert found.curve == pytest.approx([3 / 6, 3 / 6, 4 / 6, 1])


def test_a_cancelled_neuron_is_neither_right_nor_wrong():
    used = np.array([False, True, True, False])
    roles = ["cancelled", "used", "used", "decoy"]
    found = by_id(truth_per_claim(trial([9, 8, 7, 6], {"carries": used}, roles=roles)))
    assert [score.normalised for score in found.values()] == [pytest.approx(1.0)] * 4  # it led, took no place
    without = by_id(truth_per_claim(trial([8, 7, 6], {"carries": used[1:]}, roles=roles[1:])))
    assert {name: score.chance for name, score in found.items()} == {
        name: score.chance for name, score in without.items()
    }
    (rate,) = decoys(trial([9, 8, 7, 6], {"carries": used | [True, False, False, False]}, roles=roles))
    assert rate.value == 0.0
    shown = failure_anatomy(trial([9, 8, 7, 6], {"carries": used}, roles=roles))
    assert shown.details["anatomy"]["2"] == {"cancelled": 1.0, "used": 1.0}


def test_what_a_cancelled_or_sign_mixed_neuron_encodes_counts():
    roles, gains = ["cancelled", "sign_mixed", "background"], {"associated": np.array([1.0, 0.8, 0.0])}
    sets = {"associated": np.array([True, True, False])}
    found = by_id(truth_per_claim(trial([3, 2, 1], sets, gains, roles)))
    assert [score.n_items for score in found.values()] == [2, 2, 2, 2]
    assert [score.normalised for score in found.values()] == [pytest.approx(1.0)] * 4


def test_backups_are_not_judged_one_by_one_where_the_model_is_asked():
    used, roles = np.array([True, True, True, False]), ["backup", "backup", "used", "decoy"]
    gains = {"carries": np.array([0.0, 0, 1, 0]), "required": np.array([0.1, 0.1, 1, 0])}
    sets = {"carries": used, "associated": used}
    found = by_id(truth_per_claim(trial([0, 0, 2, 1], sets, gains, roles)))
    assert found["gt.ap[carries]"].value == 1.0
    assert found["gt.ap[carries]"].n_items == 1
    assert found["gt.ndcg[required]"].value == 1.0
    assert found["gt.ap[associated]"].n_items == 3  # they do encode
    assert found["gt.ap[associated]"].value < 1
    (rate,) = decoys(trial([0, 0, 2, 1], sets, gains, roles))
    assert rate.value == 0.0


def test_nothing_is_scored_where_all_carriers_are_backups():
    backups, roles = np.array([True, True, False]), ["backup", "backup", "background"]
    one = trial([3, 2, 1], {"carries": backups}, {"carries": np.zeros(3)}, roles)
    assert truth_per_claim(one) is None
    assert failure_anatomy(one).details["anatomy"]["2"] == {"backup": 2.0}


def test_the_weight_of_a_sign_mixed_neuron_is_outside_the_sum():
    roles, gains = ["used", "sign_mixed", "background"], {"carries": np.array([1.0, 0.8, 0.0])}
    found = by_id(truth_per_claim(trial([2, 3, 1], {}, gains, roles)))
    assert found["gt.energy[carries]"].value == 1.0  # the first neuron left holds all of the sum
    assert found["gt.ndcg[carries]"].value == pytest.approx((0.8 + 1 / np.log2(3)) / (1 + 0.8 / np.log2(3)))


def test_anatomy_is_of_the_first_n_and_the_first_ten():
    roles = ["used"] * 3 + ["decoy"] * 4 + ["background"] * 20
    used = np.array(roles) == "used"
    found = failure_anatomy(trial(-np.arange(27.0), {"carries": used}, roles=roles))
    assert found.details["anatomy"] == {
        "3": {"used": 3.0},
        "10": {"decoy": 4.0, "used": 3.0, "background": 3.0},
    }
    assert found.direction == 0
    assert failure_anatomy(trial([2.0, 1.0], {})) is None


def test_the_oracle_is_scored_by_the_method_s_own_road():
    one = trial(RANKED.scores, {"carries": USED}, {"carries": GAINS})
    truth = replace(one.setting.truth, oracles={"carries": RANKED.scores})
    found = truth_per_claim(replace(one, setting=replace(one.setting, truth=truth)))
    assert [score.details["oracle"] for score in found] == [pytest.approx(score.value) for score in found]


# where no neuron is right


class Moved:
    """Ten nats between the twins; each of the neurons 0 and 1 moves one when swapped."""

    has_pairs, n_items, groups = True, 4, np.arange(4)

    def __init__(self, whole=10.0):
        self.whole = whole

    def margin(self):
        return np.full(4, self.whole / 2)

    def source_margin(self):
        return np.full(4, -self.whole / 2)

    def ablate(self, neurons, to):
        assert (to, len(neurons)) == ("source", 8)
        return self.margin() - 1.0 * np.isin([0, 1], neurons).sum()


def null_trial(scores, behaviour):
    one = trial(scores, {}, {})
    truth = replace(one.setting.truth, null=True)
    return replace(one, setting=replace(one.setting, truth=truth, behaviour=behaviour))


def test_a_null_says_what_the_first_eight_move():
    leading, trailing = -np.arange(20.0), np.arange(20.0)
    assert null_share(null_trial(leading, Moved())).value == pytest.approx(0.2)
    assert null_share(null_trial(trailing, Moved())).value == 0.0
    assert null_share(null_trial(leading, Moved())).normalised is None


def test_a_null_without_anything_to_move_has_no_share():
    assert null_share(null_trial(np.arange(20.0), Moved(0.05))) is None
    assert null_share(null_trial(np.arange(20.0), None)) is None
    assert null_share(trial(np.arange(20.0), {}, {})) is None


def test_a_null_is_measured_by_nothing_else_but_claims_whose_answer_is_known():
    one = null_trial(-np.arange(20.0), Moved())
    known = replace(one.setting.truth, roles=np.repeat(["a", "b"], 10))
    one = replace(one, setting=replace(one.setting, truth=known))
    assert [score.id for score in measure(one)] == ["null.share", "gt.anatomy"]
    assert all(score.normalised is None for score in measure(one))
    encoded = replace(known, gains={"associated": np.arange(20.0)})
    scores = measure(replace(one, setting=replace(one.setting, truth=encoded, behaviour=None)))
    assert [score.id for score in scores] == ["gt.ndcg[associated]", "gt.energy[associated]", "gt.anatomy"]


def test_only_the_truth_is_scored_where_that_is_asked():
    one = trial(RANKED.scores, {"carries": USED})
    found = measure(replace(one, setting=replace(one.setting, metrics="truth")))
    assert [score.id for score in found] == [
        "gt.ndcg[carries]",
        "gt.energy[carries]",
        "gt.ap[carries]",
        "gt.recall@n[carries]",
    ]
