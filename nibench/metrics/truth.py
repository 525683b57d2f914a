"""Against the known answer: are the right neurons on top, and what stands there instead?"""

from collections.abc import Mapping

import numpy as np

from nibench.metrics.trial import Score, Trial
from nibench.ranking import Ranking
from nibench.task import CLAIMS, Claim, Truth

TOP = 10  # the anatomy is always shown of the first ten as well

RIVALS: tuple[tuple[str, str, Claim], ...] = (
    ("gt.decoy", "decoy", "carries"),
    ("gt.decoy[natural]", "natural_decoy", "carries"),
    ("gt.decoy[correlate]", "correlate", "associated"),
)
"""(metric, role of the rivals, claim whose set they must not precede)."""


def expected_ap(scores: np.ndarray, relevant: np.ndarray) -> float:
    """Average precision, the exact mean over random orders inside every tie; NaN without relevant neurons.

    Parameters
    ----------
    scores : (D,)
    relevant : bool (D,)

    References
    ----------
    McSherry & Najork, Computing Information Retrieval Performance Measures Efficiently in the Presence of
    Tied Scores, ECIR 2008. scikit-learn takes a tie for one threshold instead, which scores lower.
    """
    n_relevant = int(relevant.sum())
    if n_relevant == 0:
        return float("nan")
    _, group_of, sizes = np.unique(-scores, return_inverse=True, return_counts=True)  # best group first
    hits = np.bincount(group_of, weights=relevant, minlength=len(sizes))
    size, hit = sizes[group_of], hits[group_of]  # of each neuron's group
    start = (np.cumsum(sizes) - sizes)[group_of]
    before = (np.cumsum(hits) - hits)[group_of]
    order = np.argsort(group_of, kind="stable")
    place = np.empty(len(scores))  # 0, 1, ... inside the group
    place[order] = np.arange(len(scores)) - start[order]
    others_before = place * (hit - 1) / np.maximum(size - 1, 1)
    return float((hit / size * (before + 1 + others_before) / (start + place + 1)).sum() / n_relevant)


def chance_ap(n_neurons: int, n_relevant: int) -> float:
    """Mean average precision of random rankings, exactly; in (0, 1], 1 where every neuron is relevant."""
    if n_relevant == n_neurons:
        return 1.0
    harmonic = (1 / np.arange(1, n_neurons + 1)).sum()
    return float(
        (n_relevant - 1) / (n_neurons - 1) + harmonic / n_neurons * (n_neurons - n_relevant) / (n_neurons - 1)
    )


def expected_ndcg(ranking: Ranking, gains: np.ndarray) -> float:
    """Discounted gain over the best possible: linear gain, discount ``1 / log2(1 + rank)``, tie-averaged.

    In [0, 1], higher is better; NaN where all gains are 0.

    References
    ----------
    Järvelin & Kekäläinen, Cumulated gain-based evaluation of IR techniques, TOIS 2002.
    """
    discounts = 1 / np.log2(np.arange(2, len(gains) + 2))
    sums = np.concatenate([[0.0], np.cumsum(discounts)])
    first, last = ranking.tie_ranks
    ideal = np.sort(gains)[::-1] @ discounts
    expected = gains @ ((sums[last] - sums[first - 1]) / (last - first + 1))
    return float(expected / ideal) if ideal > 0 else float("nan")


def chance_ndcg(gains: np.ndarray) -> float:
    """Mean NDCG of random rankings, exactly; well above 0."""
    discounts = 1 / np.log2(np.arange(2, len(gains) + 2))
    return float(gains.sum() * discounts.mean() / (np.sort(gains)[::-1] @ discounts))


def above(scores: np.ndarray, rivals: np.ndarray, wanted: np.ndarray) -> float:
    """Share of (rival, wanted) pairs in which the rival scores higher, ties half; NaN if there is no pair."""
    if not rivals.any() or not wanted.any():
        return float("nan")
    ascending = np.sort(scores[wanted])
    lower = np.searchsorted(ascending, scores[rivals], side="left")
    not_higher = np.searchsorted(ascending, scores[rivals], side="right")
    return float((lower + not_higher).mean() / (2 * len(ascending)))


def anatomy(ranking: Ranking, truth: Truth, k: int) -> dict[str, float]:
    """How many of the top k have each role, expected over tie-breaks, most frequent first; sums to k."""
    inside = ranking.inclusion(k)
    counts = {str(role): float(inside[truth.roles == role].sum()) for role in np.unique(truth.roles)}
    return {role: counts[role] for role in sorted(counts, key=lambda r: -counts[r]) if counts[role] > 0}


def truth_per_claim(trial: Trial) -> tuple[Score, ...] | None:
    """The known answer, claim by claim: never mixed, each a column of its own.

    - ``gt.ndcg[claim]``: graded by the true gains. In [0, 1].
    - ``gt.ap[claim]``: average precision, where the answer is a set. In [0, 1].
    - ``gt.recall@n[claim]``: share of the set among the top n, n its size. In [0, 1]. Its ``details``
      hold the anatomy: which roles fill the top n and the top ten.

    Where the truth knows the claim's own exhaustive measurement, ``details["oracle"]`` is what a ranking by
    it scores: the most that single effects can reach.

    Returns
    -------
    tuple of Score, or None
        Higher is better; exact expectations over tie-breaks; ``chance`` is the exact mean of random
        rankings and ``normalised`` is 0 there and 1 for a perfect ranking. No interval: what varies is
        which neurons carry the concept, so several truth models are needed, not more items.
        None where nothing is known; a claim with all gains 0, or with an empty or full set, is left out.

    References
    ----------
    Järvelin & Kekäläinen 2002; McSherry & Najork 2008.
    """
    truth, ranking = trial.setting.truth, trial.ranking
    if truth is None:
        return None
    scores: list[Score] = []
    for claim in CLAIMS:
        gains, relevant = truth.gains.get(claim), truth.sets.get(claim)
        if gains is not None and gains.any():
            value, chance = expected_ndcg(ranking, gains), chance_ndcg(gains)
            oracle = truth.oracles.get(claim)
            details = {} if oracle is None else {"oracle": expected_ndcg(Ranking.from_scores(oracle), gains)}
            scores.append(
                _score(f"gt.ndcg[{claim}]", value, chance, ranking, int((gains > 0).sum()), details)
            )
        if relevant is not None and 0 < relevant.sum() < len(relevant):
            scores += _against_set(ranking, truth, claim, relevant)
    return tuple(scores) or None


def _against_set(ranking: Ranking, truth: Truth, claim: Claim, relevant: np.ndarray) -> list[Score]:
    n, n_neurons = int(relevant.sum()), len(relevant)
    recall = float(ranking.inclusion(n) @ relevant / n)
    tops = {str(k): anatomy(ranking, truth, k) for k in sorted({n, min(TOP, n_neurons)})}
    value, chance = expected_ap(ranking.scores, relevant), chance_ap(n_neurons, n)
    oracle = truth.oracles.get(claim)
    details = {} if oracle is None else {"oracle": expected_ap(oracle, relevant)}
    return [
        _score(f"gt.ap[{claim}]", value, chance, ranking, n, details),
        _score(f"gt.recall@n[{claim}]", recall, n / n_neurons, ranking, n, {"anatomy": tops}),
    ]


def _score(
    name: str,
    value: float,
    chance: float,
    ranking: Ranking,
    n: int,
    details: Mapping[str, object] | None = None,
) -> Score:
    return Score(
        id=name,
        value=value,
        unit="share",
        direction=1,
        n_items=n,
        chance=chance,
        ceiling=1.0,
        normalised=None if chance >= 1 else (value - chance) / (1 - chance),
        tie_fraction=ranking.tie_fraction(n),
        details=details or {},
    )


def decoys(trial: Trial) -> tuple[Score, ...] | None:
    """``gt.decoy``: how often a neuron that only looks right stands above one that is right.

    ``gt.decoy`` compares certified decoys with the neurons that carry the concept, ``gt.decoy[natural]``
    natural ones; ``gt.decoy[correlate]`` (sampled worlds) neurons of a confound with the true signals.

    Returns
    -------
    tuple of Score, or None
        Share of pairs in [0, 1], ties half, *lower* is better, .5 is chance (``normalised`` 0), 0 is
        best (``normalised`` 1). None where the truth has no such neurons.
    """
    truth, ranking = trial.setting.truth, trial.ranking
    if truth is None:
        return None
    scores = []
    for name, role, claim in RIVALS:
        wanted = truth.sets.get(claim)
        if wanted is None:
            continue
        rivals = (truth.roles == role) & ~wanted
        if not wanted.any() or not rivals.any():
            continue
        value = above(ranking.scores, rivals, wanted)
        scores.append(
            Score(
                id=name,
                value=value,
                unit="share",
                direction=-1,
                n_items=int(rivals.sum()),
                chance=0.5,
                ceiling=0.0,
                normalised=1 - 2 * value,
            )
        )
    return tuple(scores) or None
