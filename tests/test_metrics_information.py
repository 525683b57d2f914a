"""Errors by class, bits, the trained probe: worked examples, exact values, recomputation from clusters."""

from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score, log_loss

from nibench.metrics import Trial
from nibench.metrics.information import bits, chosen_prefix, class_errors, information, logistic, prefixes
from nibench.probes import log_posterior, macro_f1
from nibench.ranking import Ranking
from nibench.truth.worlds import WorldSpec, sample
from nibench.uncertainty import bootstrap, cluster_weights
from tests.references import probes as slow
from tests.settings import setting_of

WORLD = sample(WorldSpec(n_items=1800, n_background=60), 0)
MANY = sample(
    WorldSpec(n_items=1800, n_background=40, class_shares=(0.5, 0.3, 0.2), classes=("a", "b", "c")), 1
)
FOUND = Ranking.from_scores(WORLD.truth.gains["associated"])
K = 10


@pytest.fixture(scope="module")
def setting():
    return setting_of(WORLD)


def told(setting, ranking=FOUND):
    return {score.id: score for score in information(Trial(setting, ranking)) or ()}


# macro-F1


def test_macro_f1_is_sklearn_s_of_a_textbook_probe(setting):
    score = class_errors(Trial(setting, FOUND))
    probe, held_out = setting.splits["probe"], setting.splits["eval"]
    joint = slow.lda_log_joint(probe.activations, probe.labels, held_out.activations, FOUND.order, (K,))[0]
    want = f1_score(held_out.labels, joint.argmax(axis=1), average="macro", labels=[0, 1], zero_division=0)
    assert score.value == pytest.approx(want)
    assert score.details["of_class"] == pytest.approx(
        f1_score(held_out.labels, joint.argmax(axis=1), average=None).tolist()
    )
    share = 1 - held_out.labels.mean()
    assert score.chance == pytest.approx(0.5 * 2 * share / (1 + share))  # always the largest of two classes
    assert score.normalised == pytest.approx(
        (want - score.details["random"]) / (score.ceiling - score.details["random"])
    )


def test_the_bootstrap_of_confusion_counts_equals_resampling_sentences(setting):
    score = class_errors(Trial(setting, FOUND))
    counts = score.clusters["confusion"]
    assert counts.sum() == score.n_items
    weights = cluster_weights(len(counts))
    draws = [macro_f1(np.tensordot(row, counts, 1)) for row in weights]
    assert score.se == pytest.approx(np.std(draws, ddof=1))


def test_chance_of_two_classes_one_in_five():
    share = 0.8
    counts = np.array([[80, 0], [20, 0]])
    assert macro_f1(counts) == pytest.approx(0.5 * 2 * share / (1 + share)) == pytest.approx(0.4444444444)


# bits


def test_bits_of_given_probabilities():
    q = np.array([0.9, 0.6, 0.7, 0.8])  # oracle 1, from sums
    sums = np.array([[np.log2(q).sum(), 2, 2]])
    assert bits(sums)[0] == pytest.approx(0.5686325112, abs=1e-9)


def test_information_is_the_entropy_minus_sklearn_s_log_loss(setting):
    found = told(setting)
    probe, held_out = setting.splits["probe"], setting.splits["eval"]
    joint = slow.qda_log_joint(probe.activations, probe.labels, held_out.activations, FOUND.order, (K,))
    q = np.exp(joint[0] - np.logaddexp.reduce(joint[0], axis=1, keepdims=True))
    shares = np.bincount(held_out.labels) / len(held_out.labels)
    entropy = -(shares * np.log2(shares)).sum()
    want = entropy - log_loss(held_out.labels, q) / np.log(2)
    assert found["probe.mi"].details["family"] == "qda"
    assert found["probe.mi"].value == pytest.approx(want, abs=1e-9)
    assert found["probe.nmi"].value == pytest.approx(want / entropy, abs=1e-9)  # bits over bits
    assert found["probe.nmi"].value < 1
    assert found["probe.mi"].ceiling == pytest.approx(entropy)


def test_information_can_be_recomputed_from_its_clusters(setting):
    for name in ("probe.mi", "probe.bmi"):
        score = told(setting)[name]
        sums = np.column_stack([score.clusters["log2q"], score.clusters["classes"]])
        assert bits(sums.sum(axis=0)[None])[0] == pytest.approx(score.value)
        assert bootstrap(sums, bits, cluster_weights(len(sums))).se == pytest.approx(score.se)


def test_noise_after_the_right_neurons_does_not_lower_the_bounded_information(setting):
    right = FOUND.order[:2]
    noise = np.flatnonzero(WORLD.truth.roles == "background")
    ranking = Ranking.from_order([*right, *noise], FOUND.n_neurons)
    few = replace(setting.splits["probe"], **_first(setting.splits["probe"], 60))
    small = replace(setting, splits={**setting.splits, "probe": few})
    found = told(small, ranking)
    assert "lda" in found["probe.mi"].flags[-1]  # six items a neuron
    assert found["probe.bmi"].k[0] < K
    assert found["probe.bmi"].value > found["probe.mi"].value


def _first(split, n):
    return {name: getattr(split, name)[:n] for name in ("activations", "labels", "word_types", "sentences")}


def test_what_only_harms_is_worth_nothing_rather_than_less():
    rng = np.random.default_rng(0)
    noise = replace(WORLD, activations=rng.normal(size=WORLD.activations.shape).astype(np.float32))
    found = told(setting_of(noise), Ranking.from_scores(rng.random(FOUND.n_neurons)))
    assert found["probe.mi"].value < 0
    assert found["probe.bmi"].value == 0


def test_the_prefix_is_chosen_without_looking_at_eval(setting):
    trial = Trial(setting, FOUND)
    held_out = setting.splits["eval"]
    shuffled = replace(held_out, labels=np.random.default_rng(0).permutation(held_out.labels))
    other = replace(setting, splits={**setting.splits, "eval": shuffled})
    assert chosen_prefix(trial, "qda") == chosen_prefix(Trial(other, FOUND), "qda")


def test_one_class_or_one_never_seen_in_eval_has_no_information(setting):
    held_out = setting.splits["eval"]
    one = replace(held_out, labels=np.zeros_like(held_out.labels))
    assert told(replace(setting, splits={**setting.splits, "eval": one})) == {}
    unseen = replace(held_out, labels=np.where(np.arange(len(held_out.labels)) == 0, 2, held_out.labels))
    assert told(replace(setting, n_classes=3, splits={**setting.splits, "eval": unseen})) == {}


def test_prefixes_double_up_to_one_percent_and_at_least_ten(setting):
    assert prefixes(setting) == (1, 2, 4, 8, 10)
    few = setting_of(replace(WORLD, activations=WORLD.activations[:, :3]))
    assert prefixes(few) == (1, 2, 3)


# the trained probe


@pytest.mark.parametrize("world", [WORLD, MANY], ids=["two classes", "three"])
def test_the_second_opinion_is_logistic_regression_solved_anew_at_every_k(world):
    setting = setting_of(world)
    ranking = Ranking.from_scores(world.truth.gains["associated"])
    score = logistic(Trial(setting, ranking))
    assert score.k == (1, 8, 64)
    probe, held_out = setting.splits["probe"], setting.splits["eval"]
    x, z = slow.standardize(probe.activations, held_out.activations)
    for k, accuracy in zip(score.k, score.curve, strict=True):
        top = ranking.order[:k]
        theirs = LogisticRegression(C=1.0, tol=1e-8, max_iter=5000).fit(x[:, top], probe.labels)
        want = (theirs.predict(z[:, top]) == held_out.labels).mean()
        assert accuracy == pytest.approx(want, abs=1.5 / len(held_out.labels))  # an item on the border
    assert score.details["lda"] == pytest.approx(score.value, abs=0.05)


def test_posteriors_of_the_probes_are_what_the_clusters_add_up(setting):
    score = told(setting)["probe.mi"]
    probe, held_out = setting.splits["probe"], setting.splits["eval"]
    joint = slow.qda_log_joint(probe.activations, probe.labels, held_out.activations, FOUND.order, (K,))
    per_item = log_posterior(joint, held_out.labels)[0] / np.log(2)
    first = np.unique(held_out.sentences)[0]
    assert score.clusters["log2q"][0] == pytest.approx(per_item[held_out.sentences == first].sum(), abs=1e-8)
