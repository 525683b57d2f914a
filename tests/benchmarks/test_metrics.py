"""Speed of the metrics, as ratios to a plain way of doing the same in the same run (processor time)."""

import time
from collections.abc import Callable

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from nibench.metrics import Setting, SplitData, Trial
from nibench.metrics.curves import k_grid
from nibench.metrics.overlap import overlap_curve
from nibench.metrics.probing import encodes, fit_probes
from nibench.metrics.removal import LdaWithout
from nibench.neurons import Neurons
from nibench.probes import Lda, ProbeData
from nibench.ranking import Ranking
from nibench.uncertainty import bootstrap, cluster_weights

N_NEURONS, N_ITEMS = 1536, 1000


def processor_seconds(work: Callable[[], object], repeats: int = 3) -> float:
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        work()
        seconds.append(time.process_time() - start)
    return min(seconds)


@pytest.fixture(scope="module")
def split():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, N_ITEMS)
    activations = rng.standard_normal((N_ITEMS, N_NEURONS), dtype=np.float32)
    activations[:, :50] += labels[:, None] * 0.3
    return SplitData(activations, labels, rng.integers(0, 200, N_ITEMS), np.arange(N_ITEMS) // 10)


def test_one_factor_for_all_k_beats_a_fit_per_k(benchmark, split):
    order, ks = np.random.default_rng(1).permutation(N_NEURONS), k_grid(N_NEURONS)
    probe = Lda.fit(ProbeData(split.activations), split.labels, 2)
    scaled = split.activations.astype(np.float64)

    def fit_per_k():
        for k in ks:
            plain = LinearDiscriminantAnalysis(solver="lsqr", covariance_estimator=LedoitWolf())
            plain.fit(scaled[:, order[:k]], split.labels).predict(scaled[:, order[:k]])

    benchmark(probe.log_joint, split.activations, order, ks)
    ours = processor_seconds(lambda: probe.log_joint(split.activations, order, ks))
    assert processor_seconds(fit_per_k) > 5 * ours


def test_scoring_a_ranking_costs_less_than_fitting_the_shared_probes(benchmark, split):
    splits = dict.fromkeys(("rank", "probe", "eval"), split)
    ks = k_grid(N_NEURONS)
    setting = Setting(Neurons.anonymous(N_NEURONS), 2, splits, (), None, None, ks, (1,), seed=0)
    ranking = Ranking.from_scores(np.random.default_rng(2).random(N_NEURONS))
    shared = processor_seconds(lambda: setting.once(fit_probes), repeats=1)

    def score():
        return encodes(Trial(setting, ranking))  # a new trial: it keeps what was computed

    benchmark(score)
    assert processor_seconds(score) < shared


def test_taking_neurons_out_of_the_inverse_beats_factoring_the_rest(benchmark, split):
    order, ks = np.random.default_rng(1).permutation(N_NEURONS), k_grid(N_NEURONS)
    probe = Lda.fit(ProbeData(split.activations), split.labels, 2)
    without = LdaWithout.of(probe, split.activations)
    rest = [N_NEURONS - k for k in ks]

    def factor_the_rest():
        return probe.log_joint(split.activations, order[::-1], rest)

    benchmark(without.log_joint, order, ks)
    ours = processor_seconds(lambda: without.log_joint(order, ks))
    assert processor_seconds(factor_the_rest) > 3 * ours


def test_resampling_clusters_is_one_product(benchmark):
    statistics = np.random.default_rng(3).random((500, 10))
    weights = cluster_weights(500, 1000)

    def formula(sums):
        return sums[:, 0] / sums[:, -1]

    def resample_in_a_loop():
        rng = np.random.default_rng(0)
        draws = [statistics[rng.integers(0, 500, 500)].sum(axis=0) for _ in range(1000)]
        return np.std([sums[0] / sums[-1] for sums in draws])

    benchmark(bootstrap, statistics, formula, weights)
    assert processor_seconds(resample_in_a_loop) > 2 * processor_seconds(
        lambda: bootstrap(statistics, formula, weights)
    )


def test_the_overlap_at_every_depth_takes_one_pass(benchmark):
    rng = np.random.default_rng(4)
    a, b = (Ranking.from_scores(np.maximum(rng.normal(size=N_NEURONS), 1)) for _ in range(2))  # mostly tied

    def set_by_set():
        return [a.inclusion(depth) @ b.inclusion(depth) for depth in range(1, N_NEURONS + 1)]

    np.testing.assert_allclose(benchmark(overlap_curve, a, b), set_by_set(), atol=1e-8)
    assert processor_seconds(set_by_set, repeats=1) > 3 * processor_seconds(lambda: overlap_curve(a, b))
