"""How far two rankings agree: on a top k, from the top down, as whole lists. Agreement is not correctness."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nibench.metrics.curves import set_size
from nibench.ranking import Ranking

PERSISTENCE = 0.98  # rank-biased overlap: an expected depth of 50 neurons


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
    rbo, rbo_corrected : float
        Rank-biased overlap of the whole lists in [0, 1], and corrected for chance.
    tau_b : float
        Kendall's rank correlation in [-1, 1]; NaN where a ranking is one tie.
    """

    k: int
    share: float
    jaccard: float
    kappa: float
    layer_kappa: float
    rbo: float
    rbo_corrected: float
    tau_b: float


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
    ties, their RBO^a); Kendall 1945.
    """
    from scipy.stats import kendalltau, rankdata  # slow to import; the page needs overlap_matrix only

    n_neurons = a.n_neurons
    k = set_size(n_neurons) if k is None else min(k, n_neurons)
    share = expected_overlap(a, b, k) / k
    rbo = rank_biased_overlap(a, b)
    chance = chance_rbo(n_neurons)
    tau_b = float("nan")
    if all(np.ptp(ranking.tie_ranks[0]) for ranking in (a, b)):
        tau_b = float(np.asarray(kendalltau(rankdata(a.scores), rankdata(b.scores)))[0])
    return Overlap(
        k=k,
        share=share,
        jaccard=share / (2 - share),
        kappa=kappa(a, b, k),
        layer_kappa=kappa(a, b, k, layers),
        rbo=rbo,
        rbo_corrected=(rbo - chance) / (1 - chance) if chance < 1 else float("nan"),
        tau_b=tau_b,
    )


def overlap_matrix(
    rankings: Mapping[str, Ranking], layers: np.ndarray | None = None, k: int | None = None
) -> np.ndarray:
    """float64 (M, M): ``layer_kappa`` of every pair, in the order of the mapping; symmetric."""
    everyone = list(rankings.values())
    k = set_size(everyone[0].n_neurons) if k is None else min(k, everyone[0].n_neurons)
    inside = np.stack([ranking.inclusion(k) for ranking in everyone])  # (M, D)
    return _kappa(inside @ inside.T, _chance_overlap(inside, layers), k)


def expected_overlap(a: Ranking, b: Ranking, k: int) -> float:
    """How many neurons are in both top k, expected over independent tie-breaks; in [0, k]."""
    return float(a.inclusion(k) @ b.inclusion(k))


def kappa(a: Ranking, b: Ranking, k: int, layers: np.ndarray | None = None) -> float:
    """``(X - E) / (k - E)``, E the overlap expected of random sets (with the same layer counts, if given)."""
    inside = np.stack([a.inclusion(k), b.inclusion(k)])
    return float(_kappa(inside @ inside.T, _chance_overlap(inside, layers), k)[0, 1])


def _chance_overlap(inside: np.ndarray, layers: np.ndarray | None) -> np.ndarray:
    """float64 (M, M): expected overlap of random sets from memberships (M, D): sum of a_l b_l / D_l."""
    one_layer = np.zeros(inside.shape[1], dtype=int)
    of_neurons = one_layer if layers is None else layers
    _, layer_of, sizes = np.unique(of_neurons, return_inverse=True, return_counts=True)
    counts = np.stack([np.bincount(layer_of, row, len(sizes)) for row in inside])  # (M, L)
    return counts / sizes @ counts.T


def _kappa(shared: np.ndarray, chance: np.ndarray, k: int) -> np.ndarray:
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


def rank_biased_overlap(a: Ranking, b: Ranking, persistence: float = PERSISTENCE) -> float:
    """Overlap at every depth, weighted by ``persistence ** depth``: the top counts most. In [0, 1].

    Exact mean over tie-breaks; both rankings are complete, so nothing is extrapolated.

    References
    ----------
    Webber, Moffat & Zobel, TOIS 2010; Corsi & Urbano, SIGIR 2024 (RBO^a).
    """
    depths = np.arange(1, a.n_neurons + 1)
    agreement = overlap_curve(a, b) / depths
    weights = (1 - persistence) / persistence * persistence**depths
    return float(weights @ agreement + agreement[-1] * persistence**a.n_neurons)


def overlap_curve(a: Ranking, b: Ranking) -> np.ndarray:
    """float64 (D,): expected number of neurons shared by the top d, for every d; linear time without ties.

    A neuron of a tie at ranks t..b is in the top d with probability (d - t + 1) / (b - t + 1), so every pair
    of tie groups adds the number of neurons in both times the two probabilities.
    """
    (first_a, last_a), (first_b, last_b) = a.tie_ranks, b.tie_ranks
    tied_a, tied_b = first_a < last_a, first_b < last_b
    depths = np.arange(1, a.n_neurons + 1)

    def entering(ranks: np.ndarray) -> np.ndarray:
        return np.cumsum(np.bincount(ranks, minlength=len(depths) + 1)[1:])

    curve = entering(np.maximum(first_a, first_b)[~tied_a & ~tied_b]).astype(np.float64)
    for one, other, first, last, rank in (
        (tied_a, tied_b, first_a, last_a, first_b),
        (tied_b, tied_a, first_b, last_b, first_a),
    ):
        for start in np.unique(first[one & ~other]):
            group = (first == start) & one & ~other
            curve += _membership(depths, start, last[group][0]) * entering(rank[group])
    both = np.stack([first_a, last_a, first_b, last_b])[:, tied_a & tied_b]
    pairs, sizes = np.unique(both.T, axis=0, return_counts=True)
    for (start_a, end_a, start_b, end_b), size in zip(pairs, sizes, strict=True):
        curve += size * _membership(depths, start_a, end_a) * _membership(depths, start_b, end_b)
    return curve


def _membership(depths: np.ndarray, first: int, last: int) -> np.ndarray:
    return np.clip((depths - first + 1) / (last - first + 1), 0.0, 1.0)
