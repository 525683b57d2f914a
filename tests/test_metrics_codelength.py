"""Online codelength: a worked code, blocks that keep sentences whole, what skewed labels compress to."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nibench.metrics import Trial
from nibench.metrics.codelength import block_ends, code_lengths, codelength, compression, orders
from nibench.ranking import Ranking
from nibench.truth.worlds import WorldSpec, sample
from tests.settings import setting_of

WORLD = sample(WorldSpec(n_items=1800, n_background=60), 0)
FOUND = Ranking.from_scores(WORLD.truth.gains["associated"])


@pytest.fixture(scope="module")
def setting():
    return setting_of(WORLD)


def test_the_code_of_four_blocks():
    given_to_right = np.repeat([1.0, 0.25, 0.5, 0.8], [2, 2, 4, 8])  # oracle 4
    lengths = code_lengths(given_to_right, 2, 4)
    assert lengths.sum() == pytest.approx(14.5754247591, abs=1e-9)
    assert 16 * np.log2(4) == 32
    assert 32 / lengths.sum() == pytest.approx(2.1954763260, abs=1e-9)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 9), min_size=1, max_size=60), st.integers(1, 30))
def test_blocks_end_with_sentences_and_cover_all_items(sizes, least):
    sentences = np.repeat(np.arange(len(sizes)), sizes)
    ends = block_ends(sentences, least=least)
    assert ends[-1] == len(sentences)
    assert ends == sorted(set(ends))
    assert all(sentences[end - 1] != sentences[end] for end in ends[:-1])
    assert ends[0] >= min(least, len(sentences))


def test_blocks_of_single_words_have_the_published_shares():
    assert block_ends(np.arange(1000)) == [1, 2, 4, 8, 16, 32, 63, 125, 250, 500, 1000]


def test_every_order_is_of_whole_sentences(setting):
    sentences = setting.splits["probe"].sentences
    for items, ends in setting.once(orders):
        assert np.array_equal(np.sort(items), np.arange(len(sentences)))
        changes = (np.diff(sentences[items]) != 0).sum() + 1
        assert changes == len(np.unique(sentences))
        assert ends[-1] == len(sentences)


def test_the_right_neurons_compress_and_noise_does_not(setting):
    right = codelength(Trial(setting, FOUND))
    noise = np.flatnonzero(WORLD.truth.roles == "background")
    wrong = codelength(Trial(setting, Ranking.from_order(noise, FOUND.n_neurons)))
    assert right.value > 1.5 > 1.1 > wrong.value
    assert right.details["bits_per_label"] < wrong.details["bits_per_label"]


def test_the_uniform_code_flatters_skewed_labels():
    rare = sample(WorldSpec(n_items=3600, n_background=60, class_shares=(0.93, 0.07)), 0)
    noise = np.flatnonzero(rare.truth.roles == "background")
    score = codelength(Trial(setting_of(rare), Ranking.from_order(noise, len(rare.truth.roles))))
    assert score.value < 1.05
    assert score.details["against_uniform"] > 1.8


def test_codelength_can_be_recomputed_from_its_clusters(setting):
    score = codelength(Trial(setting, FOUND))
    bits, classes = score.clusters["bits"], score.clusters["classes"]
    assert bits.shape[1] == 3
    assert bits.sum(axis=0).mean() == pytest.approx(score.details["bits"])
    sums = np.column_stack([bits.mean(axis=1), classes]).sum(axis=0)
    assert compression(sums[None])[0] == pytest.approx(score.value)
    assert classes.sum() == score.n_items == len(setting.splits["probe"].labels)
    assert score.se >= score.details["se_of_orders"] > 0


def test_a_class_that_comes_late_costs_bits_and_not_infinitely_many(setting):
    seen = setting.splits["probe"]
    labels = seen.labels.copy()
    labels[np.flatnonzero(seen.sentences == seen.sentences[0])] = 2
    late = replace(setting, n_classes=3, splits={**setting.splits, "probe": replace(seen, labels=labels)})
    assert np.isfinite(codelength(Trial(late, FOUND)).value)


def test_one_class_has_no_code(setting):
    seen = setting.splits["probe"]
    one = replace(seen, labels=np.zeros_like(seen.labels))
    assert codelength(Trial(replace(setting, splits={**setting.splits, "probe": one}), FOUND)) is None
