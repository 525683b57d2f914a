"""How much the fast rankers save, as ratios to a plain version in the same run.

pytest tests/benchmarks/test_rankers.py --benchmark-only
"""

from time import perf_counter

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score

from nibench import (
    average_precision,
    best_matches,
    binned_information,
    extract,
    greedy_gaussian,
    linear_probe,
    load_model,
    load_task,
    roc_auc,
    sort_columns,
)
from nibench.cross_model import Standardised
from tests.references import cross_model as across
from tests.references import gaussian as slow


def seconds(call):
    """The faster of two runs."""
    times = []
    for _ in range(2):
        start = perf_counter()
        call()
        times.append(perf_counter() - start)
    return min(times)


def correlated(n_items, n_neurons, n_classes, n_factors=20):
    rng = np.random.default_rng(0)
    labels = rng.integers(0, n_classes, n_items)
    x = rng.normal(size=(n_items, n_factors)) @ rng.normal(size=(n_factors, n_neurons))
    x += rng.normal(size=x.shape)
    x[:, :n_factors] += rng.normal(size=(n_classes, n_factors))[labels]
    return ((x - x.mean(axis=0)) / x.std(axis=0)).astype(np.float32), labels


def test_one_sort_beats_a_call_per_neuron_and_class(benchmark):
    x, labels = correlated(2000, 64, 8)

    def plain():
        for label in range(8):
            for j in range(64):
                average_precision_score(labels == label, x[:, j])
                average_precision_score(labels == label, -x[:, j])

    def fast():
        for block in sort_columns(x):
            average_precision(block, labels, 8)

    benchmark(fast)
    ratio = seconds(plain) / seconds(fast)
    benchmark.extra_info["times faster"] = round(ratio, 1)
    assert ratio > 10


@pytest.fixture(scope="module")
def words_of_ewt(shared, minilm):
    """8,000 words of UD EWT in the residual sites of MiniLM, and their part of speech."""
    data = extract(
        load_model(str(minilm)),
        load_task("part_of_speech_ewt"),
        site="residual",
        data=shared / "data",
        cap=16_000,
    ).split("rank")
    return data.activations[:8000], data.labels[:8000]


@pytest.mark.parametrize("layers", [1, 7])
def test_one_sort_serves_precision_area_and_information_of_all_classes(benchmark, words_of_ewt, layers):
    """Against one argsort of the matrix and, per class, one cumulative sum of its labels in that order."""
    x, labels = words_of_ewt[0][:, -384 * layers :], words_of_ewt[1]
    n_classes = int(labels.max()) + 1

    def floor():
        order = np.argsort(np.ascontiguousarray(x.T), axis=1)
        for label in range(n_classes):
            np.cumsum((labels == label)[order], axis=1)

    def fast():
        for block in sort_columns(x):
            average_precision(block, labels, n_classes)
            roc_auc(block, labels, n_classes)
            binned_information(block, labels, n_classes, 16)

    benchmark.pedantic(fast, rounds=1)
    ratio = seconds(fast) / seconds(floor)
    benchmark.extra_info["times the floor"] = round(ratio, 2)
    assert ratio < 2


def test_precision_from_one_sort_beats_scikit_learns_per_neuron_and_class(benchmark, words_of_ewt):
    x, labels = words_of_ewt[0][:, -64:], words_of_ewt[1]
    n_classes = int(labels.max()) + 1

    def plain():  # one side only
        return [[average_precision_score(labels == c, column) for column in x.T] for c in range(n_classes)]

    def fast():
        return np.concatenate(
            [average_precision(block, labels, n_classes)[0] for block in sort_columns(x)], axis=1
        )

    benchmark.pedantic(fast, rounds=1)
    np.testing.assert_allclose(fast(), plain(), atol=1e-12)
    ratio = seconds(plain) / seconds(fast)
    benchmark.extra_info["times faster"] = round(ratio, 1)
    assert ratio > 20


def test_the_incremental_gaussian_beats_refitting(benchmark):
    x, labels = correlated(300, 20, 3)
    rows = np.arange(300)
    folds = [(rows[rows % 3 != fold], rows[rows % 3 == fold]) for fold in range(3)]

    def fast():
        rng = np.random.default_rng(0)
        return greedy_gaussian(x, labels, folds, steps=5, shrinkage=50.0, rng=rng)

    benchmark(fast)
    ratio = seconds(lambda: slow.greedy(x, labels, folds, 5, 50.0)) / seconds(fast)
    benchmark.extra_info["times faster"] = round(ratio, 1)
    assert ratio > 5


@pytest.mark.parametrize("n_classes", [2, 5])
def test_the_solver_beats_saga_at_the_same_objective(benchmark, n_classes):
    """Saga gets 100 passes over the data and does not come as low."""
    x, labels = correlated(400, 300, n_classes)
    z = x.astype(np.float64)
    probe = benchmark(linear_probe, z, labels, n_classes, l1=0.05, l2=0.05)
    own = seconds(lambda: linear_probe(z, labels, n_classes, l1=0.05, l2=0.05))

    penalties = np.array([1.0, 2.0]) * 0.05 * probe.lambda_max  # as scikit-learn counts: l2 is halved there
    if n_classes == 2:
        penalties[1] /= 2  # one row of weights stands for two mirrored ones
    saga = LogisticRegression(
        solver="saga",
        C=1 / (penalties.sum() * 400),
        l1_ratio=penalties[0] / penalties.sum(),
        max_iter=100,
        tol=0,
    )

    def plain():
        with pytest.warns(Warning, match="max_iter"):
            saga.fit(z, labels)

    ratio = seconds(plain) / own
    benchmark.extra_info["times faster"] = round(ratio, 1)
    assert probe.converged
    assert ratio > 1


def test_one_product_beats_a_correlation_per_pair(benchmark):
    rng = np.random.default_rng(0)
    x, other = (rng.normal(size=(2000, 60)).astype(np.float32) for _ in range(2))
    nothing = np.zeros((2000, 0))

    def plain():
        return across.best_correlations(x, other)

    def fast():
        return best_matches(Standardised(x, nothing), [Standardised(other, nothing)])

    benchmark(fast)
    ratio = seconds(plain) / seconds(fast)
    benchmark.extra_info["times faster"] = round(ratio, 1)
    assert ratio > 3
