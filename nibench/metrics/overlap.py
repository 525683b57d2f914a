"""How far two rankings agree: on a top k, from the top down, as whole lists. Agreement is not correctness."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nibench.metrics.curves import set_size
from nibench.ranking import Ranking

PERSISTENCE = 0.98  # rank-biased overlap: an expected depth of 50 neurons
Ties = Literal["broken", "equal", "unknown"]


@dataclass(frozen=True)
class Overlap:
    """Agreement of two rankings of the same neurons; all values are means over independent tie-breaks.

    A ranking with ties therefore agrees with itself less than perfectly. Descriptive: no value is "better".

    Attributes
    ----------
    k : int
        Size of the two sets compared.
    share, jaccard : float
        Expected overlap over k, and ``o / (2 - o)`` of it; in [0, 1].
    kappa : float
        Overlap corrected for chance (Kuncheva's index): 0 at chance, 1 for equal sets; NaN at k = D.
    layer_kappa : float
        The same against sets with the same counts per layer: to prefer the same layer is not to agree.
    average : float
        Mean overlap of the top 1, 2 ... k, in [0, 1]; (k + 1) / 2D at chance.
    rbo, rbo_corrected : float
        Rank-biased overlap of the whole lists in [0, 1], and corrected for chance.
    tau_b, rho, weighted_tau : float
        Rank correlations of Kendall, Spearman, and Vigna (a pair counts by 1 / rank of either, the top most),
        in [-1, 1]; NaN where a ranking is one tie. The first two are mostly about the irrelevant tail.
    """

    k: int
    share: float
    jaccard: float
    kappa: float
    layer_kappa: float
    average: float
    rbo: float
    rbo_corrected: float
    tau_b: float
    rho: float
    weighted_tau: float


def overlap(a: Ranking, b: Ranking, layers: np.ndarray | None = None, k: int | None = None) -> Overlap:
    """All agreement measures of two rankings.

    Parameters
    ----------
    a, b : Ranking
        Of the same D neurons.
    layers : int (D,), optional
        The layer of each neuron; without it all neurons count as one layer.
    k : int, optional
        Default: 1 % of the neurons, at least 10.

    References
    ----------
    Kuncheva 2007 (kappa); Webber et al. 2010 and Corsi & Urbano, SIGIR 2024 (rank-biased overlap and its
    ties, their RBO^a); Kendall 1945; Vigna, WWW 2015 (weighted tau).
    """
    n_neurons = a.n_neurons
    k = set_size(n_neurons) if k is None else min(k, n_neurons)
    share = expected_overlap(a, b, k) / k
    rbo = rank_biased_overlap(a, b)
    chance = chance_rbo(n_neurons)
    tau_b, rho, weighted_tau = rank_correlations(a, b)
    return Overlap(
        k=k,
        share=share,
        jaccard=share / (2 - share),
        kappa=kappa(a, b, k),
        layer_kappa=kappa(a, b, k, layers),
        average=average_overlap(a, b, k),
        rbo=rbo,
        rbo_corrected=(rbo - chance) / (1 - chance) if chance < 1 else float("nan"),
        tau_b=tau_b,
        rho=rho,
        weighted_tau=weighted_tau,
    )


def rank_correlations(a: Ranking, b: Ranking) -> tuple[float, float, float]:
    """Kendall's tau-b, Spearman's rho and Vigna's weighted tau; NaN where a ranking is one tie.

    From mid-ranks that grow with the scores: handed places (1 = best), the weighted one would count the bottom
    most.
    """
    from scipy.stats import kendalltau, rankdata, weightedtau  # slow to import; the page needs none of it

    if not all(np.ptp(ranking.tie_ranks[0]) for ranking in (a, b)):
        return float("nan"), float("nan"), float("nan")
    x, y = rankdata(a.scores), rankdata(b.scores)
    rho = np.corrcoef(x, y)[0, 1]
    return float(np.asarray(kendalltau(x, y))[0]), float(rho), float(np.asarray(weightedtau(x, y))[0])


def overlap_matrix(
    rankings: Mapping[str, Ranking], layers: np.ndarray | None = None, k: int | None = None
) -> np.ndarray:
    """float64 (M, M): ``layer_kappa`` of every pair, in the order of the mapping; symmetric."""
    everyone = list(rankings.values())
    k = set_size(everyone[0].n_neurons) if k is None else min(k, everyone[0].n_neurons)
    return kappa_of_sets(np.stack([ranking.inclusion(k) for ranking in everyone]), k, layers)


def expected_overlap(a: Ranking, b: Ranking, k: int) -> float:
    """How many neurons are in both top k, expected over independent tie-breaks; in [0, k]."""
    return float(a.inclusion(k) @ b.inclusion(k))


def kappa(a: Ranking, b: Ranking, k: int, layers: np.ndarray | None = None) -> float:
    """``(X - E) / (k - E)``, E the overlap expected of random sets (with the same layer counts, if given)."""
    return float(kappa_of_sets(np.stack([a.inclusion(k), b.inclusion(k)]), k, layers)[0, 1])


def kappa_of_sets(inside: np.ndarray, k: int, layers: np.ndarray | None = None) -> np.ndarray:
    """float64 (M, M): ``kappa`` of every pair of top k, from each neuron's probability to be in them (M, D)."""
    return kappa_of(inside @ inside.T, _chance_overlap(inside, layers), k)


def _chance_overlap(inside: np.ndarray, layers: np.ndarray | None) -> np.ndarray:
    """float64 (M, M): expected overlap of random sets from memberships (M, D): sum of a_l b_l / D_l."""
    one_layer = np.zeros(inside.shape[1], dtype=int)
    of_neurons = one_layer if layers is None else layers
    _, layer_of, sizes = np.unique(of_neurons, return_inverse=True, return_counts=True)
    counts = np.stack([np.bincount(layer_of, row, len(sizes)) for row in inside])  # (M, L)
    return counts / sizes @ counts.T


def kappa_of(shared: np.ndarray, chance: np.ndarray, k: int) -> np.ndarray:
    """Numbers of shared neurons, of sets of k, on a scale of 0 = ``chance`` and 1 = equal sets."""
    room = k - chance
    return np.divide(shared - chance, room, out=np.full_like(shared, np.nan), where=room > 1e-12)


def overlap_p_value(shared: int, counts_a: np.ndarray, counts_b: np.ndarray, sizes: np.ndarray) -> float:
    """P(random sets share at least so many neurons), given their counts (L,) in layers of ``sizes`` (L,).

    Exact: the hypergeometric distributions of the layers, convolved. One layer gives the plain test.
    """
    from scipy.stats import hypergeom

    distribution = np.ones(1)
    for a, b, size in zip(counts_a, counts_b, sizes, strict=True):
        distribution = np.convolve(distribution, hypergeom.pmf(np.arange(min(a, b) + 1), size, a, b))
    return float(distribution[shared:].sum())


def expected_jaccard(n_neurons: int, k: int) -> float:
    """Mean Jaccard index of two random sets of k neurons: not the index of the mean overlap."""
    from scipy.stats import hypergeom

    sizes = np.arange(k + 1)
    return float((hypergeom.pmf(sizes, n_neurons, k, k) * sizes / (2 * k - sizes)).sum())


def chance_rbo(n_neurons: int, persistence: float = PERSISTENCE) -> float:
    """Mean rank-biased overlap of two random rankings, exactly; near 1 for few neurons."""
    return (1 - persistence**n_neurons) / (n_neurons * (1 - persistence))


def average_overlap(a: Ranking, b: Ranking, k: int) -> float:
    """Mean over d = 1..k of the share of the top d that both have; in [0, 1], (k + 1) / 2D at chance."""
    return float((overlap_curve(a, b)[:k] / np.arange(1, k + 1)).mean())


def rank_biased_overlap(
    a: Ranking, b: Ranking, persistence: float = PERSISTENCE, ties: Ties = "broken"
) -> float:
    """Overlap at every depth, weighted by ``persistence ** depth``: the top counts most. In [0, 1].

    Both rankings are complete, so nothing is extrapolated. What ties mean is the caller's to say, and never
    mixed: ``broken``: exact mean over tie-breaks (RBO^a), in which a ranking with ties agrees with itself less
    than perfectly; ``equal``: tied neurons all stand at the first rank of their group (RBO^w); ``unknown``: as
    ``broken``, over what each ranking agrees with itself (RBO^b, as tau-b).

    References
    ----------
    Webber, Moffat & Zobel, TOIS 2010; Corsi & Urbano, SIGIR 2024.
    """
    depths = np.arange(1, a.n_neurons + 1)
    if ties == "equal":
        (first_a, _), (first_b, _) = a.tie_ranks, b.tie_ranks
        both, of_a, of_b = (
            _entering(r, a.n_neurons) for r in (np.maximum(first_a, first_b), first_a, first_b)
        )
        agreement = 2 * both / (of_a + of_b)
    elif ties == "unknown":
        agreement = overlap_curve(a, b) / np.sqrt(overlap_curve(a, a) * overlap_curve(b, b))
    else:
        agreement = overlap_curve(a, b) / depths
    weights = (1 - persistence) / persistence * persistence**depths
    return float(weights @ agreement + agreement[-1] * persistence**a.n_neurons)


@dataclass(frozen=True)
class PrefixOverlap:
    """Rank-biased overlap of two lists that stop: the extrapolated value, and how low and high it may be."""

    value: float
    low: float
    high: float

    @property
    def residual(self) -> float:
        """What the parts not seen can change."""
        return self.high - self.low


def prefix_overlap(a: Sequence[int], b: Sequence[int], persistence: float = PERSISTENCE) -> PrefixOverlap:
    """Rank-biased overlap of two lists of neuron ids, best first, of any lengths, each without repeats.

    The value assumes that agreement goes on as it was at the end of the lists. The bounds are those of lists
    without end: nothing more in common, or as much as there can be.

    References
    ----------
    Webber, Moffat & Zobel, TOIS 2010, equations 11, 30 and 32.
    """
    short, long = sorted((list(a), list(b)), key=len)
    s, n, p = len(short), len(long), persistence
    if s == 0:
        return PrefixOverlap(0.0, 0.0, 1.0)
    shared = np.array([len(set(short[:d]) & set(long[:d])) for d in range(1, n + 1)], dtype=np.float64)
    depths = np.arange(1, n + 1)
    weights = (1 - p) / p * p**depths
    filled = shared + np.where(depths > s, shared[s - 1] * (depths - s) / s, 0.0)
    at_end = (shared[-1] - shared[s - 1]) / n + shared[s - 1] / s
    value = float(weights @ (filled / depths) + at_end * p**n)
    tail = float(np.log(1 / (1 - p)) - (p**depths / depths).sum())  # sum of p^d / d beyond the end
    low = float(weights @ (shared / depths) + (1 - p) / p * shared[-1] * tail)
    together = s + n - shared[-1]  # depth at which both lists may hold all of either
    most = np.minimum(shared + np.maximum(depths - s, 0), depths)
    beyond = np.arange(n + 1, int(together) + 1)
    reach = np.minimum(shared[-1] + 2 * (beyond - n) + (n - s), beyond) / beyond
    high = float(weights @ (most / depths) + (1 - p) / p * (p**beyond @ reach) + p**together)
    return PrefixOverlap(value, low, high)


def overlap_curve(a: Ranking, b: Ranking) -> np.ndarray:
    """float64 (D,): expected number of neurons shared by the top d, for every d; linear time without ties.

    A neuron of a tie at ranks t..b is in the top d with probability (d - t + 1) / (b - t + 1), so every pair
    of tie groups adds the number of neurons in both times the two probabilities.
    """
    (first_a, last_a), (first_b, last_b) = a.tie_ranks, b.tie_ranks
    tied_a, tied_b = first_a < last_a, first_b < last_b
    depths = np.arange(1, a.n_neurons + 1)
    curve = _entering(np.maximum(first_a, first_b)[~tied_a & ~tied_b], a.n_neurons).astype(np.float64)
    for one, other, first, last, rank in (
        (tied_a, tied_b, first_a, last_a, first_b),
        (tied_b, tied_a, first_b, last_b, first_a),
    ):
        for start in np.unique(first[one & ~other]):
            group = (first == start) & one & ~other
            curve += _membership(depths, start, last[group][0]) * _entering(rank[group], a.n_neurons)
    both = np.stack([first_a, last_a, first_b, last_b])[:, tied_a & tied_b]
    pairs, sizes = np.unique(both.T, axis=0, return_counts=True)
    for (start_a, end_a, start_b, end_b), size in zip(pairs, sizes, strict=True):
        curve += size * _membership(depths, start_a, end_a) * _membership(depths, start_b, end_b)
    return curve


def _entering(ranks: np.ndarray, n_neurons: int) -> np.ndarray:
    """(D,) int: how many of the ranks, 1..D, are at most 1, 2 ... D."""
    return np.cumsum(np.bincount(ranks, minlength=n_neurons + 1)[1:])


def _membership(depths: np.ndarray, first: int, last: int) -> np.ndarray:
    return np.clip((depths - first + 1) / (last - first + 1), 0.0, 1.0)
