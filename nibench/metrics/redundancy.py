"""How many of the top neurons say the same, and how many concepts share a neuron. Descriptive."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nibench.metrics.curves import set_size, tie_report
from nibench.metrics.profile import participation_ratio
from nibench.metrics.trial import Score, Setting, Trial

CUT = 0.5  # clusters are cut where 1 - |correlation| is, on average, above this
ENOUGH_ITEMS = 2000  # fewer words make chance correlations that are not small


def correlations(activations: np.ndarray) -> np.ndarray:
    """float64 (P, P): correlations of the columns; 0 for a constant one with any other."""
    items = activations - activations.mean(axis=0, dtype=np.float64)
    spread = np.sqrt(np.square(items).sum(axis=0))
    constant = np.ptp(activations, axis=0) == 0
    items = np.divide(items, spread, out=np.zeros_like(items), where=~constant & (spread > 0))
    found = np.clip(items.T @ items, -1.0, 1.0)
    np.fill_diagonal(found, 1.0)
    return found


def clusters_of(correlation: np.ndarray, cut: float = CUT) -> np.ndarray:
    """int (P,): the cluster of each neuron, by average linkage of 1 - |correlation|, cut at this distance."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.spatial.distance import squareform

    if len(correlation) < 2:
        return np.ones(len(correlation), dtype=int)
    distance = np.maximum(1 - np.abs((correlation + correlation.T) / 2), 0.0)
    np.fill_diagonal(distance, 0.0)
    return fcluster(linkage(squareform(distance, checks=False), "average"), cut, criterion="distance")


def random_redundancy(setting: Setting) -> float:
    """The mean redundancy of the shared random rankings. Use as ``setting.once(random_redundancy)``."""
    k = set_size(len(setting.neurons))
    items = setting.splits["probe"].activations
    found = [clusters_of(correlations(items[:, order[:k]])).max() for order in setting.random_orders]
    return float(1 - np.mean(found) / k)


def redundancy(trial: Trial) -> Score:
    """``red.clusters``: the share of the top 1 % of neurons (at least 10) that repeats another of them.

    One minus the number of correlation clusters that the top neurons fall into over their number. The pool
    that is clustered is these and, where the method ranks for each class, the top neurons of each class, on
    the ``probe`` items.

    Returns
    -------
    Score
        In [0, (k - 1) / k]; chance: random rankings (their own pool). ``details``: ``clusters``, ``pool``, and
        ``spectrum``, the participation ratio of the eigenvalues of the top neurons' correlations over k: 1 =
        uncorrelated, 1 / k = all alike. Flagged on fewer than 2,000 items.

    References
    ----------
    Dalvi et al., Analyzing Redundancy in Pretrained Transformer Models, EMNLP 2020 (clusters).
    """
    setting, ranking = trial.setting, trial.ranking
    k = set_size(len(setting.neurons))
    top, items = ranking.top(k), setting.splits["probe"].activations
    by_class = (
        ()
        if ranking.per_class is None
        else [np.argsort(-row, kind="stable")[:k] for row in ranking.per_class]
    )
    pool = np.concatenate([top, np.setdiff1d(np.concatenate([top, *by_class]), top)])  # the top ones first
    correlation = correlations(items[:, pool])
    hit = len(np.unique(clusters_of(correlation)[:k]))
    tie_fraction, flags = tie_report(ranking, (k,))
    if len(items) < ENOUGH_ITEMS:
        flags += (f"{len(items)} items: chance correlations are not small",)
    return Score(
        id="red.clusters",
        value=1 - hit / k,
        unit="share",
        direction=0,
        n_items=len(items),
        chance=setting.once(random_redundancy),
        k=(k,),
        tie_fraction=tie_fraction,
        flags=flags,
        details={
            "clusters": hit,
            "pool": len(pool),
            "spectrum": participation_ratio(np.linalg.eigvalsh(correlation[:k, :k])) / k,
        },
    )


@dataclass(frozen=True)
class Sharing:
    """How many of m concepts share a neuron; ``chance_*``: m independent random sets of the same sizes.

    Attributes
    ----------
    counts : int (m,)
        How many neurons are in the sets of 1, 2 ... m concepts.
    mean_count, chance_count : float
        Concepts of a neuron that has any, 1 to m.
    union, chance_union : float
        Neurons that have any.
    exclusive, chance_exclusive : float64 (m,)
        Of each concept's neurons, the share that is in no other concept's set.
    """

    counts: np.ndarray
    mean_count: float
    chance_count: float
    union: int
    chance_union: float
    exclusive: np.ndarray
    chance_exclusive: np.ndarray


def sharing(sets: Sequence[np.ndarray], n_neurons: int) -> Sharing:
    """``poly.*``: how far the top neurons of several concepts in one model, by one method, are the same.

    Related concepts raise the counts, and so does a method that picks the same loud neurons for all of them.

    Parameters
    ----------
    sets : sequence of int arrays
        The top neurons of each concept, none empty.
    """
    inside = np.stack([np.isin(np.arange(n_neurons), one) for one in sets])  # (m, D)
    shares = inside.mean(axis=1)
    of_neuron = inside.sum(axis=0)
    used = of_neuron[of_neuron > 0]
    union = n_neurons * (1 - np.prod(1 - shares))
    return Sharing(
        counts=np.bincount(used, minlength=len(sets) + 1)[1:],
        mean_count=float(used.mean()),
        chance_count=float(inside.sum() / union),
        union=len(used),
        chance_union=float(union),
        exclusive=(inside & (of_neuron == 1)).sum(axis=1) / inside.sum(axis=1),
        chance_exclusive=np.array([np.prod(1 - np.delete(shares, i)) for i in range(len(sets))]),
    )
