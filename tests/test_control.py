"""Control tasks: labels that belong to words, not to the concept."""

import numpy as np
import pytest

from nibench.control import label_distance, random_label_per_word_type


def zipf(n_items=4000, n_types=300, seed=0):
    rng = np.random.default_rng(seed)
    shares = 1 / np.arange(1, n_types + 1)
    types = rng.choice(n_types, size=n_items, p=shares / shares.sum())
    return rng.choice(3, size=n_items, p=[0.6, 0.3, 0.1]), types


@pytest.mark.parametrize("seed", range(5))
def test_every_token_of_a_word_type_has_the_same_label(seed):
    labels, types = zipf()
    control = random_label_per_word_type()(labels, types, 3, np.random.default_rng(seed))
    for word in np.unique(types):
        assert len(np.unique(control[types == word])) == 1


@pytest.mark.parametrize("seed", range(5))
def test_classes_keep_their_shares_over_tokens_although_few_types_are_frequent(seed):
    labels, types = zipf()
    control = random_label_per_word_type()(labels, types, 3, np.random.default_rng(seed))
    assert label_distance(labels, control, 3) <= 0.02


def test_the_best_draw_is_kept_where_no_draw_is_close():
    labels, types = np.array([0] * 50 + [1] * 50), np.zeros(100, dtype=int)  # one word: .5 away, always
    control = random_label_per_word_type()(labels, types, 2, np.random.default_rng(0))
    assert label_distance(labels, control, 2) == 0.5


def test_labels_depend_on_the_seed_and_on_nothing_else():
    labels, types = zipf()
    draw = random_label_per_word_type()
    first = draw(labels, types, 3, np.random.default_rng(1))
    np.testing.assert_array_equal(first, draw(labels, types, 3, np.random.default_rng(1)))
    assert (first != draw(labels, types, 3, np.random.default_rng(2))).any()
    shuffled = np.random.default_rng(0).permutation(len(labels))
    np.testing.assert_array_equal(
        draw(labels[shuffled], types[shuffled], 3, np.random.default_rng(1)), first[shuffled]
    )


def test_unlabelled_words_stay_unlabelled():
    labels, types = zipf()
    labels[::7] = -1
    control = random_label_per_word_type()(labels, types, 3, np.random.default_rng(0))
    np.testing.assert_array_equal(control == -1, labels == -1)
    assert label_distance(labels, control, 3) <= 0.02
