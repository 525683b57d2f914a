"""Uncertainty: one cluster bootstrap, and the closed forms it is checked against.

Every metric is reduced to sums per cluster (sentence, template); resampling clusters is then one matrix
product. Words of one sentence are not independent: an interval over words is too narrow.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri
from scipy.stats import t

N_DRAWS = 2000
MIN_CLUSTERS = 10  # fewer give no interval
EXACT_FLIPS = 16  # up to so many clusters all 2^G sign flips are enumerated


@dataclass(frozen=True)
class Interval:
    """Standard error and 95 % percentile interval; both None with fewer than ``MIN_CLUSTERS`` clusters."""

    se: float | None
    ci95: tuple[float, float] | None


@dataclass(frozen=True)
class Estimate:
    """A mean over draws with its 95 % t-interval; the interval is None where a draw has no value."""

    mean: float
    ci95: tuple[float, float] | None
    draws: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        """The mean of n draws, plus and minus t(n - 1) standard errors."""
        array = np.array(values, dtype=np.float64)
        mean = float(array.mean())
        if len(array) < 2 or not np.isfinite(array).all():
            return cls(mean, None, tuple(array.tolist()))
        half = float(t.ppf(0.975, len(array) - 1) * array.std(ddof=1) / math.sqrt(len(array)))
        return cls(mean, (mean - half, mean + half), tuple(array.tolist()))


def cluster_weights(n_clusters: int, n_draws: int = N_DRAWS, seed: int = 0) -> np.ndarray:
    """float64 (B, G): how often each cluster is drawn in each resample; each row sums to G.

    The same arguments give the same matrix, so everything computed on one corpus is resampled together:
    that keeps the pairing of methods and the correlation of metrics.

    References
    ----------
    Efron & Tibshirani, An Introduction to the Bootstrap, 1993.
    """
    drawn = np.random.default_rng(seed).integers(0, n_clusters, size=(n_draws, n_clusters))
    cells = drawn + n_clusters * np.arange(n_draws)[:, None]
    counts = np.bincount(cells.ravel(), minlength=n_draws * n_clusters)
    return counts.reshape(n_draws, n_clusters).astype(np.float64)


def bootstrap(
    statistics: np.ndarray, formula: Callable[[np.ndarray], np.ndarray], weights: np.ndarray
) -> Interval:
    """The interval of ``formula`` over resampled clusters, percentile method.

    Parameters
    ----------
    statistics : (G, Q)
        Sums or counts of each cluster.
    formula : (B, Q) -> (B,)
        The metric, from summed statistics; applied to every resample at once.
    weights : (B, G)
        From ``cluster_weights``, shared by all metrics of the corpus.

    Returns
    -------
    Interval
        SE 0 where all clusters are alike; None where a resample is undefined (NaN) or clusters are few.
    """
    if len(statistics) < MIN_CLUSTERS:
        return Interval(None, None)
    draws = formula(weights @ statistics)
    if not np.isfinite(draws).all():
        return Interval(None, None)
    low, high = np.quantile(draws, [0.025, 0.975])
    return Interval(float(draws.std(ddof=1)), (float(low), float(high)))


def cluster_sums(values: np.ndarray, cluster_of: np.ndarray, n_clusters: int) -> np.ndarray:
    """float64 (G, Q): sums of (Q, M) values over the items of each cluster; ``cluster_of`` (M,) in 0..G-1."""
    rows = np.atleast_2d(values)
    return np.stack([np.bincount(cluster_of, row, n_clusters) for row in rows], axis=1)


def ratio_se(sums: np.ndarray, counts: np.ndarray) -> float:
    """CR1 cluster-robust standard error of ``sum(sums) / sum(counts)``, both (G,).

    NaN for fewer than two clusters; 0 where all clusters have the same ratio.
    """
    n_clusters = len(sums)
    if n_clusters < 2:
        return math.nan
    residuals = sums - counts * (sums.sum() / counts.sum())
    return float(np.sqrt(n_clusters / (n_clusters - 1) * np.square(residuals).sum()) / counts.sum())


def wilson(successes: float, n_items: int, level: float = 0.95) -> tuple[float, float]:
    """Wilson interval of a share of *independent* items; (0, 1) for no items.

    References
    ----------
    Wilson, Probable inference, the law of succession, and statistical inference, JASA 1927.
    """
    if n_items == 0:
        return 0.0, 1.0
    z = float(ndtri(0.5 + level / 2))
    share = successes / n_items
    centre = (share + z**2 / (2 * n_items)) / (1 + z**2 / n_items)
    half = z / (1 + z**2 / n_items) * math.sqrt(share * (1 - share) / n_items + z**2 / (4 * n_items**2))
    return centre - half, centre + half


def sign_flip_p(differences: np.ndarray, n_draws: int = 9999, seed: int = 0) -> float:
    """Two-sided p-value of "the differences are symmetric about 0", flipping whole clusters.

    Exact for up to 16 clusters, Monte Carlo with (b + 1) / (B + 1) beyond; the smallest p-value that
    G clusters can give is 2 / 2**G.

    Parameters
    ----------
    differences : (G,)
        Method A minus method B, summed in each cluster.

    References
    ----------
    Phipson & Smyth, Permutation p-values should never be zero, 2010.
    """
    values = np.asarray(differences, dtype=np.float64)
    seen = abs(values.sum()) - 1e-12 * np.abs(values).sum()
    if len(values) <= EXACT_FLIPS:
        bits = (np.arange(2 ** len(values))[:, None] >> np.arange(len(values))) & 1
        return float(np.mean(np.abs((1 - 2 * bits) @ values) >= seen))
    signs = np.random.default_rng(seed).choice(np.array([-1.0, 1.0]), size=(n_draws, len(values)))
    return float((np.sum(np.abs(signs @ values) >= seen) + 1) / (n_draws + 1))
