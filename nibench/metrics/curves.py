"""Curves over k: the grid, the area on a logarithmic axis, and the scale from random to ceiling."""

import math
from collections.abc import Sequence

import numpy as np

from nibench.ranking import Ranking

MAX_TIES = 0.05  # above this share a score rests on the tie-break and is flagged


MAX_K = 512  # beyond, a Gaussian probe per class and ranking takes minutes


def k_grid(n_neurons: int) -> tuple[int, ...]:
    """The default grid: powers of two up to ``kmax``, and ``kmax`` itself.

    ``kmax`` is a tenth of the neurons, at least 64, at most 512 and D.
    """
    largest = min(n_neurons, max(64, min(n_neurons // 10, MAX_K)))
    powers = [2**exponent for exponent in range(largest.bit_length()) if 2**exponent <= largest]
    return tuple(sorted({*powers, largest}))


def usable_ks(ks: Sequence[int], n_neurons: int) -> tuple[int, ...]:
    """The grid clipped to 1..D, sorted, without repeats."""
    return tuple(sorted({min(max(int(k), 1), n_neurons) for k in ks}))


def set_size(n_neurons: int) -> int:
    """The k of metrics of one set: 1 % of the neurons, at least 10, at most D."""
    return min(n_neurons, max(10, n_neurons // 100))


def log_auc(ks: Sequence[int], values: np.ndarray) -> np.ndarray:
    """Mean height of a curve over log k; the last axis of ``values`` is k. In the range of the values.

    A linear axis would give half of its weight to k > D/2, where all rankings agree.
    A grid of one point has its value as area.
    """
    curve = np.asarray(values, dtype=np.float64)
    if len(ks) == 1:
        return curve[..., 0]
    return np.asarray(np.trapezoid(curve, np.log(ks), axis=-1)) / math.log(ks[-1] / ks[0])


def normalise(value: float, random: float, ceiling: float | None, uncertainty: float = 0.0) -> float | None:
    """``(value - random) / (ceiling - random)``, not clipped: 0 = random rankings, 1 = ceiling.

    None without a ceiling, or where it is less than two standard errors above random: then the task
    tells no rankings apart.
    """
    if ceiling is None or not ceiling - random > max(2 * uncertainty, 1e-12):
        return None
    return (value - random) / (ceiling - random)


def area_of_ratios(sums: np.ndarray, ks: Sequence[int]) -> np.ndarray:
    """(B,): area of the curve whose k-th point is column k over the last column of ``sums`` (B, K + 1)."""
    return log_auc(ks, sums[:, :-1] / sums[:, -1:])


def mean_and_se(values: np.ndarray) -> tuple[float, float]:
    """Mean of independent values and its standard error (0 for a single one)."""
    spread = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else 0.0
    return float(values.mean()), spread


def middle(curves: np.ndarray) -> list[list[float]]:
    """[lowest, highest] of the middle 95 % of R curves (R, K) at each k: 2 x K."""
    return np.quantile(curves, [0.025, 0.975], axis=0).tolist()


def tie_report(ranking: Ranking, ks: Sequence[int]) -> tuple[float, tuple[str, ...]]:
    """The largest share of a top k that hangs on the tie-break, and a flag where it is above 5 %."""
    worst = max(ks, key=ranking.tie_fraction)
    share = ranking.tie_fraction(worst)
    flags = (f"ties decide {share:.0%} of the top {worst}",) if share > MAX_TIES else ()
    return share, flags
