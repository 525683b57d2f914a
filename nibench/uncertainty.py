"""Uncertainty: one cluster bootstrap, and the closed forms it is checked against.

Every metric is reduced to sums per cluster (sentence, template); resampling clusters is then one matrix
product. Words of one sentence are not independent: an interval over words is too narrow.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri, stdtrit

N_DRAWS = 2000
MIN_CLUSTERS = 10  # fewer give no interval
EXACT_FLIPS = 16  # up to so many clusters all 2^G sign flips are enumerated
FLIPS_AT_ONCE = 4096  # rows of signs held in memory
LEVEL = 0.05


@dataclass(frozen=True)
class Interval:
    """Standard error and 95 % percentile interval; both None with fewer than ``MIN_CLUSTERS`` clusters."""

    se: float | None
    ci95: tuple[float, float] | None


@dataclass(frozen=True)
class MeanOfDraws:
    """A mean over draws with its 95 % t-interval; the interval is None where a draw has no value."""

    mean: float
    ci95: tuple[float, float] | None
    draws: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> "MeanOfDraws":
        """The mean of n draws, plus and minus t(n - 1) standard errors."""
        array = np.array(values, dtype=np.float64)
        mean = float(array.mean())
        if len(array) < 2 or not np.isfinite(array).all():
            return cls(mean, None, tuple(array.tolist()))
        half = float(stdtrit(len(array) - 1, 0.975) * array.std(ddof=1) / math.sqrt(len(array)))
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


def tails(n_units: int) -> tuple[float, float]:
    """Which quantiles of the resamples of n units hold 95 %: .025 and .975 for many, further out for few.

    A resample of few units varies too little, by (n - 1) / n, and its tails are those of the normal: the quantiles
    are those at which Student's interval would end. Simulated, percentiles of 10 to 16 units hold .86 to .92 and
    these .89 to .95; of 4 units near a bound of the score both hold .55 to .71. Bias-corrected ones (BCa) gain near
    a bound and lose for ratios of nats.

    References
    ----------
    Hesterberg, What teachers should know about the bootstrap, The American Statistician 2015 (expanded percentile
    interval).
    """
    if n_units < 2:
        return LEVEL / 2, 1 - LEVEL / 2
    low = float(ndtr(math.sqrt(n_units / (n_units - 1)) * stdtrit(n_units - 1, LEVEL / 2)))
    return low, 1 - low


def bootstrap(
    statistics: np.ndarray, formula: Callable[[np.ndarray], np.ndarray], weights: np.ndarray
) -> Interval:
    """The interval of ``formula`` over resampled clusters, percentiles at ``tails``.

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
    low, high = np.quantile(draws, tails(len(statistics)))
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


def keyed_weights(ids: Iterable[int], n_draws: int = N_DRAWS) -> np.ndarray:
    """uint8 (G, B): how often each cluster is drawn in each resample, decided by the cluster's own id.

    Poisson frequencies of mean 1: what shares a sentence shares its draws, whichever task, model or metric
    counts it and however many others there are; sentences of another corpus are drawn by themselves. Given how
    many are drawn in all it is the multinomial bootstrap.

    Parameters
    ----------
    ids : integers in 0..2**64 - 1, one per cluster.

    References
    ----------
    Hanley & MacGibbon, Creating non-parametric bootstrap samples using Poisson frequencies, 2006; Chamandy et
    al., Estimating uncertainty for massive data streams, 2012 (frequencies from a hash of the unit).
    """
    rows = [np.random.Generator(np.random.Philox(key=int(one))).poisson(1.0, n_draws) for one in ids]
    return np.array(rows, dtype=np.uint8).reshape(-1, n_draws)


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
    return float(sign_flip_ps(np.asarray(differences, dtype=np.float64)[:, None], n_draws, seed)[0])


def sign_flip_ps(differences: np.ndarray, n_draws: int = 9999, seed: int = 0) -> np.ndarray:
    """(P,): ``sign_flip_p`` of each column of (G, P) differences, all with the same flips."""
    values = np.asarray(differences, dtype=np.float64)
    n_clusters, n_pairs = values.shape
    seen = np.abs(values.sum(axis=0)) - 1e-12 * np.abs(values).sum(axis=0)
    exact = n_clusters <= EXACT_FLIPS
    total, reached = 2**n_clusters if exact else n_draws, np.zeros(n_pairs)
    rng = np.random.default_rng(seed)
    for start in range(0, total, FLIPS_AT_ONCE):
        some = np.arange(start, min(start + FLIPS_AT_ONCE, total))
        if exact:
            signs = 1.0 - 2.0 * ((some[:, None] >> np.arange(n_clusters)) & 1)
        else:
            signs = 1.0 - 2.0 * rng.integers(0, 2, size=(len(some), n_clusters), dtype=np.int8)
        reached += (np.abs(signs @ values) >= seen).sum(axis=0)
    return reached / total if exact else (reached + 1) / (total + 1)


def holm(p_values: np.ndarray) -> np.ndarray:
    """(m,) p-values, adjusted so that the chance of any false rejection among them stays below the level.

    References
    ----------
    Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 1979.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def pairs_apart(n_blocks: int, level: float = LEVEL) -> int:
    """How many pairs of methods sign flips of so many blocks can tell apart at the most, corrected by Holm.

    All blocks on one side give p = 2 / 2**n; in m pairs the smallest p must stay below level / m. 5 blocks: 0,
    6: 1, 8: 6, 16: 1,638.
    """
    return int(min(level * 2.0 ** min(n_blocks, 40) / 2, 1e9))


def resolvable(standard_errors: Sequence[float]) -> float | None:
    """The smallest difference a board can resolve: (1.96 + .84) times the median SE of paired differences.

    A difference of that size between two neighbours on the board is found in four of five repetitions (power
    80 %, two-sided 5 %). Pairs without any spread (methods that rank alike) say nothing and are left out; None
    where no pair is left.
    """
    spread = [se for se in standard_errors if se > 1e-12]
    return float((ndtri(1 - LEVEL / 2) + ndtri(0.8)) * np.median(spread)) if spread else None
