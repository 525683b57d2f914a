"""Agreement of one method with all the others, as Fan et al. measure it. Agreement is not correctness."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from nibench.metrics.curves import set_size
from nibench.metrics.overlap import kappa_of
from nibench.ranking import Ranking

LISTED = 100  # neurons that get points in the vote as published


@dataclass(frozen=True)
class Agreement:
    """How far each of M methods agrees with the others on one place; every array is (M,).

    ``avg_overlap`` and ``neuron_vote`` leave the method itself out and give every family one vote; the others
    are as published: Jaccard indices, the method itself among those it is compared with, every method one vote.
    Consensus, not correctness: a copy of another method wins.
    """

    avg_overlap: np.ndarray
    neuron_vote: np.ndarray
    published_overlap: np.ndarray
    published_vote: np.ndarray


def agreement(
    rankings: Mapping[str, Ranking],
    families: Sequence[str],
    k: int | None = None,
    index: Literal["kappa", "jaccard"] = "kappa",
) -> Agreement:
    """How far rankings of the same neurons agree.

    Parameters
    ----------
    rankings : mapping of two or more.
    families : sequence of str
        One for each ranking.
    k : int, optional
        Size of the sets compared; default 1 % of the neurons, at least 10.
    index : str
        What ``avg_overlap`` and ``neuron_vote`` are made of: ``kappa``, 0 at chance and 1 for the same set (NaN
        where every neuron is in every set), or ``jaccard``.

    References
    ----------
    Fan et al., Evaluating Neuron Interpretation Methods of NLP Models, NeurIPS 2023 (AvgOverlap, NeuronVote).
    """
    everyone = list(rankings.values())
    n_neurons = everyone[0].n_neurons
    k = set_size(n_neurons) if k is None else min(k, n_neurons)
    inside = np.stack([ranking.inclusion(k) for ranking in everyone])  # (M, D)
    shared = inside @ inside.T

    def compare(common: np.ndarray) -> np.ndarray:
        return kappa_of(common, np.asarray(k**2 / n_neurons), k) if index == "kappa" else _jaccard(common, k)

    pairs = compare(shared)
    names, family_of = np.unique(families, return_inverse=True)
    members = np.eye(len(names))[family_of]  # (M, F)
    points = np.stack([n_neurons - np.mean(ranking.tie_ranks, axis=0) for ranking in everyone])  # (M, D)
    overlaps, votes = np.empty(len(everyone)), np.empty(len(everyone))
    for mine in range(len(everyone)):
        others = members.copy()
        others[mine] = 0
        weights = (others[:, others.any(axis=0)] / others.sum(axis=0)[others.any(axis=0)]).mean(
            axis=1
        )  # (M,)
        overlaps[mine] = weights @ pairs[mine]
        elected = Ranking.from_scores(np.round(weights @ points, 9)).inclusion(k)
        votes[mine] = compare(inside[mine] @ elected)
    listed = np.zeros_like(points)
    for row, ranking in zip(listed, everyone, strict=True):
        top = ranking.top(min(LISTED, n_neurons))
        row[top] = np.arange(LISTED, LISTED - len(top), -1)
    elected = Ranking.from_scores(listed.sum(axis=0)).inclusion(k)
    sets = np.zeros(points.shape)
    for row, ranking in zip(sets, everyone, strict=True):
        row[ranking.top(k)] = 1  # ties broken, as published: a ranking shares all with itself
    jaccard = _jaccard(sets @ sets.T, k)
    return Agreement(overlaps, votes, jaccard.mean(axis=1), _jaccard(inside @ elected, k))


def pairwise(rankings: Mapping[str, Ranking], measure: Callable[[Ranking, Ranking], float]) -> np.ndarray:
    """float64 (M, M): a symmetric measure of two rankings for every pair, in the order of the mapping."""
    everyone = list(rankings.values())
    found = np.empty((len(everyone), len(everyone)))
    for i, a in enumerate(everyone):
        for j, b in enumerate(everyone[: i + 1]):
            found[i, j] = found[j, i] = measure(a, b)
    return found


def _jaccard(shared: np.ndarray, k: int) -> np.ndarray:
    return shared / (2 * k - shared)
