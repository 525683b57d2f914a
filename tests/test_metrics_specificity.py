"""Specificity: what a set does to its own concept beside what it does to the model's others."""

import numpy as np
import pytest

from nibench.levels import estimate
from nibench.metrics import Trial
from nibench.metrics.specificity import cause_and_isolate, of_clusters, specific, specificity
from nibench.ranking import Ranking
from nibench.record import ScoreRecord
from nibench.results import collect
from nibench.stored import Stored
from nibench.task import Truth
from tests.synthetic_records import record
from tests.toy import LinearBehaviour, toy_setting, used_in

N, MINE, THEIRS, BOTH = 60, np.arange(5), np.arange(20, 25), np.arange(40, 45)


def two_concepts():
    own = used_in(N, np.concatenate([MINE, BOTH]), seed=1, weights=np.zeros(N))
    other = used_in(N, np.concatenate([THEIRS, BOTH]), seed=2, weights=np.zeros(N), n_items=36)
    return own, other


def scores_of(chosen, **fields):
    own, other = two_concepts()
    setting = toy_setting(own, (N,), others={"other": other}, **fields)
    ranking = np.isin(np.arange(N), chosen) + 0.001 * np.isin(np.arange(N), np.arange(50, 60))
    return by_id(Trial(setting, Ranking.from_scores(ranking)))


def by_id(trial):
    found = (specific(trial), *(cause_and_isolate(trial) or ()))
    return {score.id: score for score in found if score is not None}


def test_the_matrix_worked_out_by_hand():  # oracle 8
    drops = np.array([[0.30, 0.05, 0.01], [0.02, 0.20, 0.03], [0.04, 0.06, 0.10]])
    others = np.array([np.delete(row, i) for i, row in enumerate(drops)])
    found = specificity(np.diag(drops), others)
    assert found == pytest.approx([0.27, 0.175, 0.05], abs=1e-9)
    assert found.mean() == pytest.approx(0.165, abs=1e-9)


@pytest.mark.parametrize(
    ("chosen", "share", "elsewhere"), [(MINE, 0.5, 0), (THEIRS, 0, 0.5), (BOTH, 0.5, 0.5)]
)
def test_neurons_of_one_concept_of_the_other_and_of_both(chosen, share, elsewhere):
    found = scores_of(chosen)["abl.spec"]
    assert found.k == (10,)  # five carriers, and five neurons that do nothing
    assert found.details["shares"]["own"] == pytest.approx(share, abs=0.02)
    assert found.details["shares"]["other"] == pytest.approx(elsewhere, abs=0.02)
    assert found.value == pytest.approx(share - elsewhere, abs=0.03)
    assert found.ci95[0] <= found.value <= found.ci95[1]


def test_shares_are_of_what_all_neurons_do_together():
    own, other = two_concepts()
    found = scores_of(MINE)["abl.spec"]
    top = np.concatenate([MINE, np.arange(50, 60)])[:10]
    assert set(top) >= set(MINE)
    for name, behaviour in (("own", own), ("other", other)):
        lost = (behaviour.margin() - behaviour.ablate(MINE)).sum()
        whole = (behaviour.margin() - behaviour.ablate(np.arange(N))).sum()
        assert found.details["shares"][name] == pytest.approx(lost / whole, abs=1e-9)


def test_the_right_neurons_turn_the_answer_and_leave_the_others_alone():
    everything, wrong = scores_of(np.concatenate([MINE, BOTH])), scores_of(np.concatenate([THEIRS, BOTH]))
    assert everything["abl.cause"].value == 1.0
    assert wrong["abl.isolate"].value == 0.0
    idle = scores_of(np.arange(45, 55))
    assert (idle["abl.cause"].value, idle["abl.isolate"].value) == (0.0, 1.0)
    assert idle["abl.cause"].details["mean_of_both"] == idle["abl.isolate"].details["mean_of_both"] == 0.5


def test_a_tie_is_half_an_answer():
    level = LinearBehaviour(np.ones((24, 4)), np.ones(4), -np.ones((24, 4)), means=np.zeros(4))
    other = LinearBehaviour(np.ones((24, 4)), np.ones(4), np.ones((24, 4)), means=np.zeros(4))
    setting = toy_setting(level, (4,), others={"other": other})
    half = Ranking.from_scores(np.arange(4.0))
    found = by_id(Trial(setting, half))
    assert found["abl.cause"].value == 1.0  # k is all four: the minimum of ten does not fit
    zero = LinearBehaviour(np.ones((24, 4)), np.ones(4), np.array([[-1.0, -1, 1, 1]] * 24), means=np.zeros(4))
    assert by_id(Trial(toy_setting(zero, (4,), others={"other": other}), half))["abl.cause"].value == 0.5


def test_the_scores_can_be_recomputed_from_their_groups():
    for score in scores_of(MINE).values():
        shares = {name: s[:, 0].sum() / s[:, 1].sum() for name, s in score.clusters.items()}
        assert shares == pytest.approx(dict(score.details["shares"]))
        others = [share for name, share in shares.items() if name != "own"]
        expected = shares["own"] - np.mean(others) if score.id == "abl.spec" else np.mean([*shares.values()])
        assert score.value == pytest.approx(expected)
        assert of_clusters(score.id, score.clusters) == score.value


def test_on_a_board_it_varies_over_the_groups_of_every_concept():
    spec = scores_of(MINE)["abl.spec"]
    arrays = {f"abl.spec/{name}": sums for name, sums in spec.clusters.items()}
    fields = {name: getattr(spec, name) for name in ScoreRecord.model_fields}
    made = record("m", "tense_glass", "glass-s", scores=[ScoreRecord(**fields)])
    results = collect([Stored(made, arrays)])
    place = results.places[0]
    draws, effects = results.draws("m", place, "abl.spec"), results.effects("m", place, "abl.spec")
    assert draws is not None
    assert effects is not None
    assert draws.std() == pytest.approx(spec.se, rel=0.15)  # other draws of the same groups
    ids, added = effects
    assert added.sum() == pytest.approx(spec.value, abs=1e-9)
    own = spec.clusters["own"]
    added[: len(own)] -= spec.value * own[:, 1] / own[:, 1].sum()
    assert np.sqrt(np.square(added).sum()) == pytest.approx(spec.se, rel=0.15)
    assert len(ids) == sum(map(len, spec.clusters.values()))
    found = estimate(results, "m", "abl.spec", results.places, of_truth=False)
    assert found is not None
    assert (found.value, found.level) == (pytest.approx(spec.value, abs=1e-9), "sentences")
    assert found.ci95 is not None
    del arrays["abl.spec/own"]
    assert collect([Stored(made, arrays)]).draws("m", place, "abl.spec") is None


def test_without_pairs_there_is_no_interchange():
    own, other = two_concepts()
    other.twins = None
    trial = Trial(toy_setting(own, (N,), others={"other": other}), Ranking.from_scores(np.arange(N * 1.0)))
    assert by_id(trial).keys() == {"abl.spec"}


def test_nothing_to_compare_with_gives_no_score():
    own, _ = two_concepts()
    idle = LinearBehaviour(np.random.default_rng(0).normal(size=(24, N)), np.zeros(N))
    ranking = Ranking.from_scores(np.arange(N * 1.0))
    for setting in (
        toy_setting(None, (N,)),
        toy_setting(own, (N,)),
        toy_setting(own, (N,), others={"idle": idle}),
        toy_setting(idle, (N,), others={"other": own}),
    ):
        assert not by_id(Trial(setting, ranking))


def test_one_group_gives_a_number_without_an_interval():
    own, other = two_concepts()
    other.groups = np.zeros(other.n_items, dtype=int)
    trial = Trial(toy_setting(own, (N,), others={"o": other}), Ranking.from_scores(np.zeros(N)))
    found = by_id(trial)["abl.spec"]
    assert found.ci95 is None
    assert np.isfinite(found.value)


def test_a_glass_box_offers_its_other_concepts_but_not_related_ones():
    from dataclasses import replace

    from nibench.ground import Ground, Options
    from nibench.harness import load_task
    from nibench.model import load_model
    from nibench.submissions import resolve_model
    from nibench.suites import Budget

    task, model = load_task("glass_tense"), load_model(resolve_model("glass8"))
    options = Options(cap=150, budget=Budget(eval_prompts=10, metrics="all"))
    setting = Ground(task, model, options).setting(0)
    assert list(setting.other_behaviours()) == ["sentiment", "polarity"]  # nothing depends on its possessor
    assert isinstance(setting.truth, Truth)
    ranking = Ranking.from_scores(setting.truth.gains["carries"])
    found = by_id(Trial(setting, ranking))
    assert found["abl.spec"].value > 0.9
    assert found["abl.cause"].value == found["abl.isolate"].value == 1.0
    related = Ground(replace(task, related=("sentiment",)), model, options)
    assert list(related.setting(0).other_behaviours()) == ["polarity"]
