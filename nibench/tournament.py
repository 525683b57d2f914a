"""Tournament: methods against each other over blocks, as rank statistics see them. Descriptive, ordering nothing.

All of it depends on who else takes part: a method's place here can change when a third one joins. The boards,
whose scale runs from random rankings to the ceiling, do not have that fault; these are the figures that papers
print, for who wants to compare.
"""

from dataclasses import dataclass

import numpy as np

from nibench.uncertainty import LEVEL


@dataclass(frozen=True)
class Friedman:
    """Do M methods differ at all over N blocks?

    Attributes
    ----------
    mean_ranks : per method, 1 is best.
    chi2, p : Friedman's statistic, corrected for ties, and its p-value.
    F, p_F : Iman and Davenport's less conservative version; None where all blocks rank alike.
    kendall_w : agreement of the blocks, 0 none, 1 the same order everywhere.
    critical_difference : Nemenyi's, of two mean ranks at the 5 % level.

    References
    ----------
    Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 2006.
    """

    n_blocks: int
    mean_ranks: tuple[float, ...]
    chi2: float
    p: float
    F: float | None
    p_F: float | None
    kendall_w: float
    critical_difference: float


def friedman(values: np.ndarray) -> Friedman | None:
    """Of (N, M) values, higher is better; None with fewer than three methods or two blocks, or without any spread."""
    from scipy.stats import f, friedmanchisquare, rankdata

    n_blocks, n_methods = values.shape
    if n_methods < 3 or n_blocks < 2 or (values == values[:, :1]).all():
        return None
    chi2, p = (float(one) for one in friedmanchisquare(*values.T))
    w = chi2 / (n_blocks * (n_methods - 1))
    whole = 1 - w < 1e-12
    ratio = None if whole else (n_blocks - 1) * w / (1 - w)
    degrees = (n_methods - 1, (n_methods - 1) * (n_blocks - 1))
    return Friedman(
        n_blocks=n_blocks,
        mean_ranks=tuple(rankdata(-values, axis=1).mean(axis=0).tolist()),
        chi2=chi2,
        p=p,
        F=ratio,
        p_F=None if ratio is None else float(f.sf(ratio, *degrees)),
        kendall_w=w,
        critical_difference=nemenyi(n_methods, n_blocks),
    )


def nemenyi(n_methods: int, n_blocks: int) -> float:
    """The difference of two mean ranks that is significant at the 5 % level, all pairs compared."""
    from scipy.stats import studentized_range

    q = studentized_range.ppf(1 - LEVEL, n_methods, np.inf) / np.sqrt(2)
    return float(q * np.sqrt(n_methods * (n_methods + 1) / (6 * n_blocks)))


def borda(values: np.ndarray) -> np.ndarray:
    """(M,) points over (N, M) values: in each block as many as methods are beaten, ties half."""
    from scipy.stats import rankdata

    return (values.shape[1] - rankdata(-values, axis=1)).sum(axis=0)


def win_matrix(values: np.ndarray, tolerance: np.ndarray) -> np.ndarray:
    """(M, M): share of the N blocks in which the row's method beats the column's, ties half; NaN on the diagonal.

    Parameters
    ----------
    values : (N, M)
        Higher is better.
    tolerance : (N, M, M)
        A difference up to this is a tie.
    """
    difference = values[:, :, None] - values[:, None, :]
    shares = np.where(np.abs(difference) <= tolerance, 0.5, difference > 0).mean(axis=0)
    np.fill_diagonal(shares, np.nan)
    return shares


def bradley_terry(wins: np.ndarray, pseudo: float = 0.5) -> np.ndarray:
    """(M,) log strengths, mean 0: P(i beats j) = exp(s_i) / (exp(s_i) + exp(s_j)).

    Parameters
    ----------
    wins : (M, M)
        How often the row beat the column; a tie is half a win each.
    pseudo : wins added in each direction, so that who never lost has a finite strength.

    References
    ----------
    Hunter, MM algorithms for generalized Bradley-Terry models, Annals of Statistics 2004.
    """
    counts = np.nan_to_num(np.asarray(wins, dtype=np.float64)) + pseudo
    np.fill_diagonal(counts, 0.0)
    won, met = counts.sum(axis=1), counts + counts.T
    strength = np.zeros(len(counts))
    for _ in range(10_000):
        theta = np.exp(strength)
        new = np.log(won) - np.log((met / (theta[:, None] + theta)).sum(axis=1))
        new -= new.mean()
        if np.abs(new - strength).max() < 1e-12:
            break
        strength = new
    return new
