"""Permutation p-values: by hand, against a literal loop, uniform where nothing is associated, and their laws."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import kstest

from nibench.moments import Statistics
from nibench.permutation import _peers, depends, p_values, ranks, reassigned, shuffled, standard_values
from tests.references.permutation import p_value


def statistics(values, labels) -> Statistics:
    values, labels = np.asarray(values, dtype=np.float32), np.asarray(labels)
    return Statistics(values, labels, int(labels.max()) + 1)


def p_of(values, labels, drawn, columns=standard_values) -> np.ndarray:
    given_labels = statistics(values, labels)
    return p_values(columns(given_labels), given_labels.labels, drawn, np.shape(values)[1])


def ids(*lengths: int) -> np.ndarray:
    return np.repeat(np.arange(len(lengths)), lengths)


# ---------------------------------------------------------------- re-assignment


def test_sentences_of_one_length_exchange_their_labels_whole_and_in_order():
    labels = np.array([0, 0, 0, 1, 1, 0, 1, 1])
    drawn = reassigned(labels, ids(2, 2, 2, 2), 200, np.random.default_rng(0), in_order=True)
    assert {tuple(sorted(map(tuple, draw.reshape(4, 2).tolist()))) for draw in drawn} == {
        ((0, 0), (0, 1), (1, 0), (1, 1))
    }
    assert len({draw.tobytes() for draw in drawn}) == 24


def test_labels_are_stretched_and_thinned_by_position():
    labels = np.array([7, 8, 0, 1, 2, 3])
    drawn = reassigned(labels, ids(2, 4), 50, np.random.default_rng(0), in_order=True)
    assert {tuple(draw) for draw in drawn.tolist()} == {(7, 8, 0, 1, 2, 3), (0, 2, 7, 7, 8, 8)}


def test_the_tokens_of_a_word_exchange_labels_too():
    labels = np.array([0, 0, 1, 1])
    drawn = reassigned(labels, np.zeros(4, dtype=int), 300, np.random.default_rng(0), in_order=False)
    assert len({tuple(draw) for draw in drawn.tolist()}) == 6
    assert (drawn.sum(axis=1) == 2).all()
    kept = reassigned(labels, np.zeros(4, dtype=int), 5, np.random.default_rng(0), in_order=True)
    assert (kept == labels).all()  # one sentence: there is nobody to exchange labels with


def test_clusters_of_one_are_single_items():
    drawn = reassigned(np.arange(30) % 3, np.arange(30), 2000, np.random.default_rng(0), in_order=True)
    assert (np.sort(drawn, axis=1) == np.sort(np.arange(30) % 3)).all()
    assert abs((drawn == 0).mean(axis=0) - 1 / 3).max() < 0.05  # standard error .011


def test_peers_have_one_size_where_twenty_do():
    sizes = np.array([3] * 25 + [4] * 5 + [5] * 15 + [40] * 2)
    assert _peers(sizes).tolist() == [0] * 25 + [1] * 20 + [1] * 2
    assert _peers(np.array([5, 1, 9])).tolist() == [0, 0, 0]


@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=40), seed=st.integers(0, 99), order=st.booleans()
)
def test_a_label_that_a_cluster_shares_stays_shared(lengths, seed, order):
    clusters, rng = ids(*lengths), np.random.default_rng(seed)
    labels = rng.integers(0, 3, len(lengths))[clusters]
    for draw in reassigned(labels, clusters, 3, rng, in_order=order):
        assert all(len(set(draw[clusters == one])) == 1 for one in range(len(lengths)))
        assert set(draw) <= set(labels)


def test_dependence_on_the_cluster_is_seen_both_ways():
    rng, clusters = np.random.default_rng(0), ids(*[4] * 60)
    assert depends(rng.integers(0, 2, 60)[clusters], clusters, rng)  # all alike
    assert depends(np.tile([0, 1, 1, 0], 60), clusters, rng)  # all balanced
    assert not depends(rng.integers(0, 2, 240), clusters, rng)
    assert not depends(rng.integers(0, 2, 240), np.arange(240), rng)  # clusters of one say nothing
    assert not depends(rng.integers(0, 2, 240), np.zeros(240, dtype=int), rng)


# ---------------------------------------------------------------- p-values


def test_four_items_by_hand():
    labels = np.array([1, 1, 0, 0])
    ways = np.array(
        sorted(set(permutations(labels.tolist())))
    )  # six, of which two are as extreme as 4, 3 | 2, 1
    values = [[4.0, 1.0, 5.0], [3.0, 2.0, 5.0], [2.0, 1.0, 5.0], [1.0, 2.0, 5.0]]
    for columns in (standard_values, ranks):
        np.testing.assert_allclose(p_of(values, labels, [ways], columns), [3 / 7, 1, 1])


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("columns", [ranks, standard_values])
def test_as_a_literal_loop_has_it(n_classes, columns):
    rng = np.random.default_rng(n_classes)
    sentences, types = ids(*rng.integers(1, 6, 30)), None
    types = rng.integers(0, 12, len(sentences))
    labels = (rng.integers(0, n_classes, 30)[sentences] + (rng.random(len(sentences)) < 0.2)) % n_classes
    values = rng.standard_t(3, (len(labels), 6))
    values[:, 0] += 3 * labels
    values[:, 1] = np.round(values[:, 1])  # ties
    values[:, 2] += 0.6 * (labels == 1)
    by_sentence = reassigned(labels, sentences, 60, rng, in_order=True)
    by_word = reassigned(labels, types, 60, rng, in_order=False)
    made = statistics(values, labels)
    blocks = np.concatenate([block for _, block in columns(made)], axis=1)
    for drawn in ([by_sentence], [by_word], [by_sentence, by_word]):
        found = p_values(columns(made), labels, drawn, 6)
        np.testing.assert_allclose(found, [p_value(block, labels, drawn) for block in blocks.T], rtol=2e-3)
    assert found[0] < 1 / 61 < found[3]


def test_a_tail_is_no_smaller_than_one_over_the_ways():
    clusters = ids(*[50] * 8)  # 70 ways to give 4 of 8 sentences a label
    labels = (np.arange(8) < 4).astype(int)[clusters]
    drawn = reassigned(labels, clusters, 500, np.random.default_rng(0), in_order=True)
    p = p_of(np.stack([labels + 0.01 * np.arange(400) % 1, labels * 5.0], axis=1), labels, [drawn])
    assert (p >= 1 / 80).all()
    assert (p <= 0.06).all()  # 2 of 70


def test_constant_neurons_and_labels_that_cannot_move_have_p_1():
    rng = np.random.default_rng(0)
    labels, values = np.arange(40) % 2, rng.normal(size=(40, 3))
    values[:, 1], values[:, 2] = 2.5, values[:, 2] + labels
    alone = shuffled(labels, 400, rng)
    assert p_of(values, labels, [alone])[1] == 1
    stuck = reassigned(labels, np.zeros(40, dtype=int), 400, rng, in_order=True)
    assert (p_of(values, labels, [stuck]) == 1).all()
    assert (p_of(values, labels, [alone, stuck]) == 1).all()
    assert p_of(values, labels, [alone], ranks)[1] == 1


def null_columns(
    rng: np.random.Generator, clusters: np.ndarray, noise: float = 1, width: int = 1500
) -> np.ndarray:
    """Neurons that differ between clusters and know no label."""
    of_cluster = rng.normal(size=(clusters.max() + 1, width))[clusters]
    return of_cluster + noise * rng.normal(size=of_cluster.shape)


@pytest.mark.parametrize("columns", [ranks, standard_values])
@pytest.mark.parametrize("n_classes", [2, 4])
def test_p_is_uniform_where_labels_go_by_the_sentence_and_neurons_do_not_know_them(columns, n_classes):
    rng = np.random.default_rng(5)
    sentences = ids(*rng.integers(1, 20, 120))
    values = null_columns(rng, sentences)
    labels = rng.integers(0, n_classes, 120)[sentences]
    by_sentence = reassigned(labels, sentences, 500, rng, in_order=True)
    p = p_of(values, labels, [by_sentence], columns)
    assert (
        kstest(p, "uniform").statistic < 0.06
    )  # one draw of labels for all: more than 1.36 / sqrt(1500) = .035
    assert abs((p <= 0.05).mean() - 0.05) < 0.02
    naive = p_of(values, labels, [shuffled(labels, 500, rng)], columns)
    assert kstest(naive, "uniform").statistic > 0.3


def test_two_ways_together_hold_where_labels_go_by_both_and_neither_does_alone():
    rng = np.random.default_rng(2)
    sentences, types = ids(*[8] * 80), rng.integers(0, 80, 640)
    topic = rng.normal(size=80)[sentences] + rng.normal(size=80)[types]
    labels = (topic > 0).astype(int)
    values = null_columns(rng, sentences, noise=0) + null_columns(rng, types, noise=0)
    ways = [
        reassigned(labels, sentences, 400, rng, in_order=True),
        reassigned(labels, types, 400, rng, in_order=False),
    ]
    alone = [(p_of(values, labels, [way]) <= 0.01).mean() for way in ways]
    together = (p_of(values, labels, ways) <= 0.01).mean()
    assert min(alone) > 0.03
    assert together < 0.02


# ---------------------------------------------------------------- laws

few_values = hnp.arrays(np.float32, (24, 3), elements=st.integers(-8, 8).map(float))


@settings(max_examples=25, deadline=None)
@given(values=few_values, seed=st.integers(0, 50))
def test_ranks_do_not_see_a_monotone_map(values, seed):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(24) % 3)
    drawn = [reassigned(labels, ids(*[2] * 12), 60, rng, in_order=True)]
    np.testing.assert_array_equal(
        p_of(values, labels, drawn, ranks), p_of(np.exp(values / 2) + 3, labels, drawn, ranks)
    )


@settings(max_examples=25, deadline=None)
@given(
    values=few_values,
    seed=st.integers(0, 50),
    scale=st.sampled_from([0.25, 4.0, -2.0]),
    shift=st.integers(-9, 9),
)
def test_standard_values_do_not_see_scale_sign_and_shift(values, seed, scale, shift):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(24) % 2)
    drawn = [reassigned(labels, ids(*[2] * 12), 60, rng, in_order=True)]
    np.testing.assert_allclose(
        p_of(values, labels, drawn), p_of(values * scale + shift, labels, drawn), rtol=1e-2, atol=1e-9
    )


@settings(max_examples=25, deadline=None)
@given(values=few_values, seed=st.integers(0, 50), n_classes=st.sampled_from([2, 3]))
def test_the_names_of_the_classes_do_not_matter(values, seed, n_classes):
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(24) % n_classes)
    drawn = reassigned(labels, ids(*[2] * 12), 60, rng, in_order=True)
    other = np.roll(np.arange(n_classes), 1)
    for columns in (ranks, standard_values):
        np.testing.assert_allclose(
            p_of(values, labels, [drawn], columns),
            p_of(values, other[labels], [other[drawn]], columns),
            rtol=1e-2,
        )
