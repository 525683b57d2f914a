"""From a ranking to a set: what is selected, on what grounds, and what is refused."""

import pickle
from dataclasses import replace

import numpy as np
import pytest

from nibench import InputError, Ranking, rank
from nibench.selection import mirror_q_values

RNG = np.random.default_rng(0)
SENTENCES = np.repeat(np.arange(80), RNG.integers(2, 8, 80))
TYPES = RNG.integers(0, 60, len(SENTENCES))
BY_SENTENCE = RNG.integers(0, 2, 80)[SENTENCES]
PER_TOKEN = RNG.integers(0, 2, len(SENTENCES))
BY_WORD = (TYPES % 2).astype(int)
TRUE = np.arange(6)


def activations(labels: np.ndarray) -> np.ndarray:
    """40 neurons that differ between sentences and words; six know the label, the last is constant."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(80, 40))[SENTENCES] + 0.5 * rng.normal(size=(60, 40))[TYPES]
    x += rng.normal(size=x.shape)
    x[:, TRUE] += np.linspace(2, 4, 6) * labels[:, None]
    x[:, 39] = 1.0
    return x.astype(np.float32)


def ranked(labels: np.ndarray, method: str = "mean_difference", **given) -> Ranking:
    given = {"sentences": SENTENCES, "word_types": TYPES} | given
    return rank(method, activations(labels), labels, **given)


@pytest.mark.parametrize("method", ["auc", "mean_difference", "mean_difference@raw"])
@pytest.mark.parametrize("labels", [BY_SENTENCE, PER_TOKEN], ids=["by sentence", "per token"])
def test_the_neurons_that_know_the_label_are_selected_in_the_rankings_order(method, labels):
    ranking = ranked(labels, method)
    chosen = ranking.select(0.05)
    assert set(TRUE) <= set(chosen.neurons)
    assert len(chosen.neurons) <= 8
    assert chosen.neurons.tolist() == [i for i in ranking.order if i in set(chosen.neurons)]
    assert set(np.flatnonzero(chosen.q_values <= 0.05)) == set(chosen.neurons)
    assert chosen.p_values is not None
    assert (chosen.p_values <= chosen.q_values + 1e-12).all()
    assert chosen.unit == "sentence and word type"
    assert chosen.draws == 500
    assert "Benjamini-Hochberg" in chosen.procedure
    assert "nothing of carries or required" in chosen.means


def test_the_scale_of_a_neuron_does_not_matter_for_the_set():
    plain, raw = ranked(BY_SENTENCE).select(), ranked(BY_SENTENCE, "mean_difference@raw").select()
    np.testing.assert_array_equal(plain.p_values, raw.p_values)


def test_the_same_ranking_gives_the_same_set_and_a_larger_level_contains_it():
    ranking = ranked(BY_SENTENCE)
    np.testing.assert_array_equal(ranking.select(0.1).q_values, ranking.select(0.1).q_values)
    assert set(ranking.select(0.01).neurons) <= set(ranking.select(0.3).neurons)


def test_labels_that_no_neuron_knows_select_nothing_and_constant_neurons_never_are():
    labels = np.random.default_rng(8).integers(0, 2, 80)[SENTENCES]
    x = activations(np.zeros_like(labels))
    ranking = rank("auc", x, labels, sentences=SENTENCES, word_types=TYPES)
    assert ranking.select(0.1).neurons.tolist() == []
    generous = ranking.select(0.999)
    assert generous.p_values is not None
    assert generous.p_values[39] == 1
    assert 39 not in generous.neurons


def test_several_classes_are_selected_for():
    labels = np.random.default_rng(3).integers(0, 3, 80)[SENTENCES]
    assert set(TRUE) <= set(ranked(labels, "auc").select(0.05).neurons)


def test_words_that_carry_the_labels_are_too_few_to_be_sure():
    two_words = BY_SENTENCE  # each class has one word of its own
    chosen = rank(
        "auc", activations(BY_SENTENCE), BY_SENTENCE, sentences=SENTENCES, word_types=two_words
    ).select(0.1)
    assert chosen.neurons.tolist() == []
    assert chosen.notes == ("only 2 word types",)


def test_by_sentence_alone_a_concept_of_the_word_is_flagged():
    assert not any("word type" in note for note in ranked(PER_TOKEN).select(unit="sentence").notes)
    assert any(
        "labels depend on the word type" in note for note in ranked(BY_WORD).select(unit="sentence").notes
    )


def test_single_tokens_are_re_assigned_only_where_labels_depend_on_nothing():
    assert set(TRUE) <= set(ranked(PER_TOKEN).select(unit="token").neurons)
    with pytest.raises(InputError, match=r"independent of the sentence; here they are not"):
        ranked(BY_SENTENCE).select(unit="token")
    with pytest.raises(InputError, match=r"independent of the word type; here they are not"):
        ranked(BY_WORD, sentences=np.arange(len(SENTENCES))).select(unit="token")


def test_what_was_not_given_is_asked_for():
    x = activations(PER_TOKEN)
    with pytest.raises(InputError, match=r"A set needs sentences= and word_types="):
        rank("auc", x, PER_TOKEN).select()
    with pytest.raises(InputError, match=r"A set needs word_types= .* or take unit='sentence'"):
        rank("auc", x, PER_TOKEN, sentences=SENTENCES).select()
    with pytest.raises(InputError, match=r"needs sentences="):
        rank("auc", x, PER_TOKEN, word_types=TYPES).select(unit="sentence")
    assert len(rank("auc", x, PER_TOKEN, sentences=SENTENCES).select(unit="sentence").neurons) >= 6


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ({"fdr": 0}, "fdr is 0; expected a share"),
        ({"fdr": 1.0}, "fdr is 1.0; expected a share"),
        ({"unit": "word"}, "unit is 'word'; expected 'sentence', 'token'"),
        ({"draws": 100}, "draws is 100; expected 300 or more"),
    ],
)
def test_wrong_arguments_are_refused_in_a_line(arguments, line):
    with pytest.raises(InputError, match=line):
        ranked(PER_TOKEN).select(**arguments)


@pytest.mark.parametrize("method", ["lca", "probeless", "variance", "linear_l1"])
def test_methods_without_a_known_error_rate_are_refused(method):
    with pytest.raises(InputError, match=rf"{method}: no procedure with a known error rate"):
        ranked(PER_TOKEN, method).select()


# ---------------------------------------------------------------- what a ranking carries


def test_a_ranking_refers_to_its_data_and_leaves_it_out_of_pickles():
    x = activations(PER_TOKEN)
    x.flags.writeable = False
    ranking = rank("auc", x, PER_TOKEN, sentences=SENTENCES, word_types=TYPES)
    assert ranking._origin is not None
    assert np.shares_memory(ranking._origin.data.activations, x)
    assert "_origin" not in repr(ranking)
    again = pickle.loads(pickle.dumps(ranking))
    assert len(pickle.dumps(ranking)) < x.nbytes / 2
    np.testing.assert_array_equal(again.order, ranking.order)
    with pytest.raises(InputError, match=r"does not know the data it came from"):
        again.select()
    with pytest.raises(InputError, match=r"does not know the data it came from"):
        Ranking.from_scores([1.0, 2.0]).select()


def test_copies_of_a_ranking_select_alike_in_their_own_order():
    ranking = ranked(BY_SENTENCE)
    thinned = replace(ranking, tie_seed=3).thinned(np.r_[1, 2, 3, 4, 0, 0, np.arange(5, 39)])
    here, there = ranking.select(), thinned.select()
    assert set(here.neurons) == set(there.neurons)
    assert there.neurons.tolist() == [5, 3, 2, 1, 0, 4]  # of the correlated 5 and 4 the better comes first


# ---------------------------------------------------------------- halves


def test_mirror_levels_by_hand():
    statistics = np.array([12.0, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, -1.5, 0])
    q_values = mirror_q_values(statistics)
    np.testing.assert_allclose(q_values[:11], 1 / 11)  # none below -2: (1 + 0) / 11
    np.testing.assert_allclose(q_values[11], 2 / 12)  # one below -1
    assert q_values[12:].tolist() == [1, 1]
    assert (mirror_q_values(np.arange(1.0, 10)) > 0.1).all()  # nine are too few for .1
    assert (mirror_q_values(-np.arange(5.0)) == 1).all()


@pytest.mark.parametrize(
    ("labels", "method", "arguments", "line"),
    [
        (BY_SENTENCE, "linear_l2", {}, "take unit='sentence', or select by auc"),
        (BY_SENTENCE, "linear_l2", {"fdr": 0.05, "unit": "sentence"}, "experimentally, at 0.1 or above"),
        (BY_SENTENCE, "linear_l2@raw", {"unit": "sentence"}, "plain settings only"),
        (BY_WORD, "linear_l2", {"unit": "sentence"}, "labels go by the word, as they do here"),
        (PER_TOKEN, "linear_l2", {"unit": "sentence"}, "labels do not go by the sentence, as here"),
    ],
)
def test_halves_are_refused_where_nothing_is_known(labels, method, arguments, line):
    with pytest.raises(InputError, match=line):
        ranked(labels, method).select(**arguments)


def test_halves_find_neurons_that_both_halves_weigh_alike():
    rng = np.random.default_rng(6)
    sentences = np.repeat(np.arange(300), 3)
    labels = rng.integers(0, 2, 300)[sentences]
    x = rng.normal(size=(900, 60)) + 0.5 * rng.normal(size=(300, 60))[sentences]
    x[:, :15] += 0.8 * labels[:, None]
    ranking = rank("linear_l2", x, labels, sentences=sentences)
    chosen = ranking.select(0.2, unit="sentence")
    assert len(set(chosen.neurons) & set(range(15))) >= 12
    assert len(set(chosen.neurons) - set(range(15))) <= 6
    assert chosen.neurons.tolist() == [i for i in ranking.order if i in set(chosen.neurons)]
    assert chosen.p_values is None
    assert chosen.procedure.startswith("EXPERIMENTAL")
    assert chosen.grounds()["draws"] == 0
    assert chosen.values_of(int(chosen.neurons[0])).keys() == {"q"}
