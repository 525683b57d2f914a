"""The contract between a method and the suite: needs, shared statistics, folds."""

import numpy as np
import pytest

from nibench import InputError, Needs, Observations
from nibench.moments import Columns, Statistics
from nibench.neurons import Neurons
from nibench.submissions import find_method

BOTH = Needs.ACTIVATIONS | Needs.LABELS


def observe(activations, labels, needs=BOTH, sentences=None):
    activations, labels = np.asarray(activations), np.asarray(labels)
    n_classes = int(labels.max()) + 1
    statistics = Statistics(activations, labels, n_classes)
    names = Neurons.anonymous(activations.shape[1])
    return Observations(names, n_classes, needs, "mine.py", statistics, _sentences=sentences)


@pytest.fixture
def noisy():
    rng = np.random.default_rng(0)
    return rng.normal(3.0, 2.0, size=(60, 5)).astype(np.float32), rng.integers(0, 3, 60)


@pytest.mark.parametrize(
    ("read", "needs"),
    [
        ("activations", Needs.LABELS),
        ("labels", Needs.ACTIVATIONS),
        ("statistics", Needs.ACTIVATIONS),
        ("behaviour", BOTH),
        ("word_types", Needs.ACTIVATIONS),
    ],
)
def test_what_is_not_declared_cannot_be_read(noisy, read, needs):
    with pytest.raises(InputError, match=rf"mine.py read data.{read} but declares needs = .* Add Needs\."):
        getattr(observe(*noisy, needs=needs), read)


def test_a_method_that_needs_nothing_sees_only_names(noisy):
    data = observe(*noisy, needs=Needs.NOTHING)
    assert len(data.neurons) == 5
    for call in (
        data.spread,
        data.variance,
        data.standardized,
        data.sorted_blocks,
        lambda: next(data.folds(2)),
    ):
        with pytest.raises(InputError):
            call()


def test_ids_that_were_not_given_are_named(noisy):
    with pytest.raises(InputError, match="pass sentences="):
        _ = observe(*noisy).sentences


def test_statistics_are_numpys(noisy):
    x, y = noisy
    data, wide = observe(x, y).statistics, x.astype(np.float64)
    for label in range(3):
        own = wide[y == label]
        np.testing.assert_allclose(data.class_means[label], own.mean(axis=0), rtol=1e-12)
        np.testing.assert_allclose(data.rest_means[label], wide[y != label].mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(data.mean, wide.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(data.variance, wide.var(axis=0), rtol=1e-12)
    assert data.counts.sum() == 60


def test_a_small_difference_on_a_large_mean_survives():
    x = np.full((4, 1), 4096.0, dtype=np.float32)
    x[2:] += 0.001953125  # one step of float32 at this size
    statistics = observe(x, [0, 0, 1, 1]).statistics
    assert statistics.class_means[1, 0] - statistics.class_means[0, 0] == 0.001953125
    assert statistics.variance[0] == 0.001953125**2 / 4


def test_a_class_without_items_has_no_say():
    statistics = Statistics(np.array([[1.0], [3.0]]), np.array([0, 2]), 4)
    assert statistics.counts.tolist() == [1, 0, 1, 0]
    assert statistics.class_means[:, 0].tolist() == [1.0, 0.0, 3.0, 0.0]
    assert statistics.rest_means[:, 0].tolist() == [3.0, 2.0, 1.0, 2.0]
    assert statistics.mean_over_classes(np.array([[1.0], [9.0], [3.0], [9.0]])).tolist() == [2.0]


def test_constant_neurons_have_variance_zero_and_standardise_to_zero():
    x = np.array([[0.1, 1.0], [0.1, 2.0], [0.1, 3.0]], dtype=np.float32)
    data = observe(x, [0, 1, 1])
    assert data.variance()[0] == 0.0
    assert data.spread()[0] == np.inf
    assert data.standardized()[:, 0].tolist() == [0.0, 0.0, 0.0]
    np.testing.assert_allclose(data.standardized()[:, 1], [-(1.5**0.5), 0.0, 1.5**0.5])


def test_a_control_shares_what_needs_no_labels(noisy):
    x, y = noisy
    statistics = Statistics(x, y, 3)
    control = statistics.relabel(y[::-1].copy(), 3)
    assert control.columns is statistics.columns
    assert not np.array_equal(control.class_means, statistics.class_means)
    assert np.array_equal(control.variance, Statistics(x, y[::-1], 3).variance)


def test_columns_are_sorted_once(noisy):
    columns = Columns(noisy[0])
    assert columns.sorted_blocks() is columns.sorted_blocks()


def test_folds_keep_sentences_together_and_hold_every_item_out_once(noisy):
    sentences = np.arange(60) // 7
    data = observe(*noisy, sentences=sentences)
    held = []
    for fit, held_out in data.folds(4):
        assert not set(sentences[fit]) & set(sentences[held_out])
        assert sorted([*fit, *held_out]) == list(range(60))
        held.extend(held_out)
    assert sorted(held) == list(range(60))


def test_folds_fall_back_to_items(noisy):
    assert [len(held_out) for _, held_out in observe(*noisy).folds(6)] == [10] * 6


def test_parts_are_those_of_the_whole(noisy, monkeypatch):
    monkeypatch.setattr("nibench.moments.ROW_BLOCK", 7)
    monkeypatch.setattr("nibench.method.ROW_BLOCK", 7)
    half = noisy[0].astype(np.float16)
    data, whole = observe(half, noisy[1]), half.astype(np.float64)
    assert data.n_items == 60
    np.testing.assert_array_equal(data.part([3, 1], slice(0, 2)), whole[[3, 1], :2])
    assert data.part(0, slice(None)).dtype == np.float32
    blocks = list(data.standardized_blocks())
    assert [len(block) for _, block in blocks] == [7] * 8 + [4]
    expected = (whole - whole.mean(axis=0)) / whole.std(axis=0)
    np.testing.assert_allclose(np.concatenate([block for _, block in blocks]), expected, atol=1e-12)
    np.testing.assert_allclose(data.standardized(), expected, atol=1e-12)
    np.testing.assert_allclose(data.standardized("raw"), whole - whole.mean(axis=0), atol=1e-12)


STREAMING = [
    "activation_heatmap", "auc", "bimodality", "concept_iou", "expert_units", "expert_units@neurox", "fisher_score",
    "kurtosis", "mean_difference", "mean_select", "mutual_information", "point_biserial", "probeless", "top_contexts",
    "variance",
]  # fmt: skip


@pytest.mark.parametrize("method", STREAMING)
def test_half_precision_is_never_widened_as_a_whole(noisy, method):
    data = observe(noisy[0].astype(np.float16), noisy[1])
    find_method(method).load().rank(data, np.random.default_rng(0))
    assert "single" not in data.statistics.columns.__dict__
    assert data.activations.dtype == np.float32  # what reads all of it still gets single precision
    assert "single" in data.statistics.columns.__dict__
