"""Verdicts: which methods of a board can be told apart, and what the board cannot tell.

Two procedures on the same paired data. Sign flips of whole units (models, sentences), corrected by Holm over all
pairs of methods, make no assumption but need enough units: n give no p below 2 / 2**n. Where that is not enough
for so many pairs, the paired 95 % interval of the difference decides, uncorrected, and the board says so.
"""

from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from nibench.resampling import interval
from nibench.uncertainty import LEVEL, holm, pairs_apart, resolvable, sign_flip_ps, tails

VISIBLE = 0.005  # a difference that two decimals do not show tells nobody apart
MIN_P_DRAWS = 9999


@dataclass(frozen=True, eq=False)
class Verdict:
    """What can be said of M methods on one board, best first.

    Attributes
    ----------
    bands : 1 = cannot be told apart from the first; the next band opens with the first that can.
    p_first : share of the paired draws in which a method is first.
    ranks : 95 % of each method's ranks over the paired draws, lowest and highest.
    by : "flips" or "intervals", what the bands rest on.
    n_units, n_pairs, most_pairs
        Units that are flipped, pairs of methods, and how many pairs so many units could tell apart under Holm.
    resolvable : the smallest difference between neighbours that is found in four of five repetitions.
    """

    bands: tuple[int, ...]
    p_first: tuple[float, ...]
    ranks: tuple[tuple[int, int], ...]
    by: Literal["flips", "intervals"]
    n_units: int
    n_pairs: int
    most_pairs: int
    resolvable: float | None


def verdict(draws: np.ndarray, shares: np.ndarray) -> Verdict:
    """Of M >= 2 methods, best first: draws (M, B) of their values, and shares (U, M) of each unit in them."""
    n_methods, n_units = len(draws), len(shares)
    whole = draws[:, np.isfinite(draws).all(axis=0)]
    first = whole >= whole.max(axis=0) - 1e-12
    n_pairs, most = n_methods * (n_methods - 1) // 2, pairs_apart(n_units)
    apart = _by_flips(shares) if most >= n_pairs else None
    bands, leader = [1], 0
    for method in range(1, n_methods):
        if _by_interval(whole[leader], whole[method], n_units) if apart is None else apart[leader, method]:
            leader = method
        bands.append(bands[-1] + (leader == method))
    return Verdict(
        bands=tuple(bands),
        p_first=tuple((first / first.sum(axis=0)).mean(axis=1).tolist()),
        ranks=rank_ranges(whole, n_units),
        by="flips" if most >= n_pairs else "intervals",
        n_units=n_units,
        n_pairs=n_pairs,
        most_pairs=most,
        resolvable=resolvable((whole[:-1] - whole[1:]).std(axis=1, ddof=1).tolist()),
    )


def rank_ranges(draws: np.ndarray, n_units: int) -> tuple[tuple[int, int], ...]:
    """95 % of the ranks of each of M methods over paired draws (M, B) of so many units: lowest, highest; 1 is best."""
    ranks = np.stack([_ranks_of(own, draws) for own in draws])
    low, high = tails(n_units)
    lowest = np.floor(np.quantile(ranks, low, axis=1, method="lower")).astype(int)
    highest = np.ceil(np.quantile(ranks, high, axis=1, method="higher")).astype(int)
    return tuple(zip(lowest.tolist(), highest.tolist(), strict=True))


def _ranks_of(own: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """(B,) rank of a method's draws among all (M, B), 1 is best, ties on average."""
    above, not_below = (draws > own + 1e-12).sum(axis=0), (draws >= own - 1e-12).sum(axis=0)
    return (above + 1 + not_below) / 2


def flips_for(n_pairs: int) -> int:
    """Monte Carlo flips enough for the smallest p of so many pairs to survive Holm."""
    return max(MIN_P_DRAWS, 40 * n_pairs)


def _by_flips(shares: np.ndarray) -> np.ndarray:
    """bool (M, M), upper triangle: whole units swapped, Holm over all pairs."""
    apart = np.zeros((shares.shape[1],) * 2, dtype=bool)
    pairs = np.array(list(combinations(range(shares.shape[1]), 2)))
    differences = shares[:, pairs[:, 0]] - shares[:, pairs[:, 1]]
    adjusted = holm(sign_flip_ps(differences, flips_for(len(pairs))))
    apart[tuple(pairs.T)] = (adjusted < LEVEL) & (np.abs(differences.sum(axis=0)) > VISIBLE)
    return apart


def _by_interval(better: np.ndarray, worse: np.ndarray, n_units: int) -> bool:
    """Whether the paired interval of the difference lies above what two decimals show."""
    return interval(better - worse, n_units)[0] > VISIBLE
