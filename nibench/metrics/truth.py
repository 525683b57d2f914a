"""Against the known answer: are the right neurons on top, and what stands there instead?"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from nibench.metrics.curves import area_of_ratios, log_auc, normalise, usable_ks
from nibench.metrics.trial import Score, Trial
from nibench.ranking import Ranking
from nibench.task import CLAIMS, Claim, Truth
from nibench.uncertainty import bootstrap, cluster_sums, cluster_weights

TOP = 10  # the anatomy is always shown of the first ten as well
NULL_TOP = 8  # neurons moved together where no neuron is right
NULL_EFFECT = 0.1  # nats: where the concept changes the margin by less, there is no share of it to move

UNJUDGED = ("cancelled",)  # each alone carries, the pair does not: no place for or against them
JOINT_ONLY = ("backup",)  # each alone is neither carried by nor required: cover metrics judge them
OUTSIDE_SUM = ("sign_mixed",)  # moves items both ways: its weight is no part of the carried share
WHOLE_MODEL = (
    "model"  # stands for the claim where no concept is asked for: what the model as a whole requires
)
JOINT_CLAIMS: tuple[Claim, ...] = ("carries", "required")

ANATOMY_OF: tuple[Claim, ...] = ("carries", "associated", "responds", "required")

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


def expected_ndcg(ranking: Ranking, gains: np.ndarray, depth: int | None = None) -> float:
    """Discounted gain over the best possible: linear gain, discount ``1 / log2(1 + rank)``, tie-averaged.

    In [0, 1], higher is better; NaN where all gains are 0. With a ``depth``, later ranks do not count.

    References
    ----------
    Järvelin & Kekäläinen, Cumulated gain-based evaluation of IR techniques, TOIS 2002.
    """
    discounts = 1 / np.log2(np.arange(2, len(gains) + 2))
    discounts[depth or len(gains) :] = 0
    sums = np.concatenate([[0.0], np.cumsum(discounts)])
    first, last = ranking.tie_ranks
    ideal = np.sort(gains)[::-1] @ discounts
    expected = gains @ ((sums[last] - sums[first - 1]) / (last - first + 1))
    return float(expected / ideal) if ideal > 0 else float("nan")


def chance_ndcg(gains: np.ndarray) -> float:
    """Mean NDCG of random rankings, exactly; well above 0."""
    discounts = 1 / np.log2(np.arange(2, len(gains) + 2))
    return float(gains.sum() * discounts.mean() / (np.sort(gains)[::-1] @ discounts))


def energy(ranking: Ranking, gains: np.ndarray, ks: Sequence[int]) -> np.ndarray:
    """Share of all gain that lies on the top k neurons, for each k: (K,) in [0, 1]; NaN without gain."""
    total = gains.sum()
    caught = np.array([ranking.inclusion(k) @ gains for k in ks])
    return caught / total if total > 0 else np.full(len(ks), np.nan)


def above(scores: np.ndarray, rivals: np.ndarray, wanted: np.ndarray) -> float:
    """Share of (rival, wanted) pairs in which the rival scores higher, ties half; NaN if there is no pair."""
    if not rivals.any() or not wanted.any():
        return float("nan")
    ascending = np.sort(scores[wanted])
    lower = np.searchsorted(ascending, scores[rivals], side="left")
    not_higher = np.searchsorted(ascending, scores[rivals], side="right")
    return float((lower + not_higher).mean() / (2 * len(ascending)))


def judged(truth: Truth, claim: Claim, *, summed: bool = False) -> np.ndarray:
    """bool (D,): the neurons whose places count for or against a ranking on this claim, one by one.

    All do where the claim is about what neurons encode. Where it is about what the model does with them,
    cancelled pairs do not, and backups, none of which does it alone; with ``summed`` sign-mixed neurons do not
    carry either: their weights are outside the sum.
    """
    out = (*UNJUDGED, *JOINT_ONLY) if claim in JOINT_CLAIMS else ()
    return ~np.isin(truth.roles, (*out, *OUTSIDE_SUM) if summed and claim == "carries" else out)


def truth_per_claim(trial: Trial) -> tuple[Score, ...] | None:
    """The known answer, claim by claim: never mixed, each a column of its own.

    - ``gt.ndcg[claim]``: graded by the true gains. In [0, 1].
    - ``gt.energy[claim]``: share of all true gain that lies on the top k, area over log k. In [0, 1];
      ``curve`` holds the share at each ``k``.
    - ``gt.ap[claim]``: average precision, where the answer is a set. In [0, 1].
    - ``gt.recall@n[claim]``: share of the set among the top n, n its size: precision there is the same
      number. In [0, 1].

    Neurons that are not `judged` one by one are taken out of the ranking first: they are neither right nor
    wrong. Without a concept the only claim is what the model as a whole requires, and ``[model]`` stands for it.
    Where the truth knows the claim's own exhaustive measurement, ``details["oracle"]`` is what a
    ranking by it scores: the most that single effects can reach.

    Returns
    -------
    tuple of Score, or None
        Higher is better; exact expectations over tie-breaks; ``chance`` is the exact mean of random
        rankings, ``ceiling`` the perfect ranking's value and ``normalised`` 0 and 1 there. No interval: what
        varies is which neurons carry the concept, so several truth models are needed, not more items.
        None where nothing is known; a claim with all gains 0, or with an empty or full set, is left out.

    References
    ----------
    Järvelin & Kekäläinen 2002; McSherry & Najork 2008.
    """
    truth = trial.setting.truth
    if truth is None:
        return None
    scores: list[Score] = []
    for claim in CLAIMS:
        gains, relevant = truth.gains.get(claim), truth.sets.get(claim)
        oracle = truth.oracles.get(claim)
        name = claim if trial.setting.n_classes > 1 else WHOLE_MODEL
        if gains is not None:
            summed = judged(truth, claim, summed=True)
            scores += _graded(trial, gains, oracle, judged(truth, claim), summed, name)
        if relevant is not None:
            scores += _against_set(trial.ranking, relevant, oracle, judged(truth, claim), name)
    return tuple(scores) or None


def _graded(
    trial: Trial,
    gains: np.ndarray,
    oracle: np.ndarray | None,
    kept: np.ndarray,
    summed: np.ndarray,
    name: str,
) -> list[Score]:
    found = []
    if gains[kept].any():
        truly, ranking = gains[kept], _among(trial.ranking.scores, kept)
        best = None if oracle is None else expected_ndcg(_among(oracle, kept), truly)
        n = int((truly > 0).sum())
        found.append(
            _score(f"gt.ndcg[{name}]", expected_ndcg(ranking, truly), chance_ndcg(truly), ranking, n, best)
        )
    if gains[summed].any():
        truly, ranking = gains[summed], _among(trial.ranking.scores, summed)
        ks = usable_ks(trial.setting.ks, len(truly))
        curve = energy(ranking, truly, ks)
        best = None if oracle is None else float(log_auc(ks, energy(_among(oracle, summed), truly, ks)))
        found.append(
            _score(
                f"gt.energy[{name}]",
                float(log_auc(ks, curve)),
                float(log_auc(ks, np.array(ks) / len(truly))),
                ranking,
                int((truly > 0).sum()),
                best,
                ceiling=float(log_auc(ks, energy(Ranking.from_scores(truly), truly, ks))),
                k=ks,
                curve=tuple(curve.tolist()),
            )
        )
    return found


def _against_set(
    ranking: Ranking, relevant: np.ndarray, oracle: np.ndarray | None, kept: np.ndarray, name: str
) -> list[Score]:
    right, among = relevant[kept], _among(ranking.scores, kept)
    n, n_neurons = int(right.sum()), len(right)
    if not 0 < n < n_neurons:
        return []
    best = None if oracle is None else _among(oracle, kept)
    return [
        _score(
            f"gt.ap[{name}]",
            expected_ap(among.scores, right),
            chance_ap(n_neurons, n),
            among,
            n,
            None if best is None else expected_ap(best.scores, right),
        ),
        _score(
            f"gt.recall@n[{name}]",
            float(among.inclusion(n) @ right / n),
            n / n_neurons,
            among,
            n,
            None if best is None else float(best.inclusion(n) @ right / n),
        ),
    ]


def _among(scores: np.ndarray, kept: np.ndarray) -> Ranking:
    return Ranking.from_scores(scores[kept])


def _score(
    name: str,
    value: float,
    chance: float,
    ranking: Ranking,
    n: int,
    oracle: float | None = None,
    *,
    ceiling: float = 1.0,
    **more: Any,
) -> Score:
    return Score(
        id=name,
        value=value,
        unit="share",
        direction=1,
        n_items=n,
        chance=chance,
        ceiling=ceiling,
        normalised=normalise(value, chance, ceiling),
        tie_fraction=ranking.tie_fraction(n),
        details={} if oracle is None else {"oracle": oracle},
        **more,
    )


def decoys(trial: Trial) -> tuple[Score, ...] | None:
    """``gt.decoy``: how often a neuron that only looks right stands above one that is right.

    ``gt.decoy`` compares certified decoys with the neurons that carry the concept, ``gt.decoy[natural]``
    natural ones; ``gt.decoy[correlate]`` (sampled worlds) neurons of a confound with the true signals.
    Neurons that are not `judged` one by one are on neither side.

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
        if claim not in truth.sets:
            continue
        wanted = truth.sets[claim] & judged(truth, claim)
        rivals = (truth.roles == role) & ~truth.sets[claim]
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


def anatomy(ranking: Ranking, truth: Truth, k: int) -> dict[str, float]:
    """How many of the top k have each role, expected over tie-breaks, most frequent first; sums to k."""
    inside = ranking.inclusion(k)
    counts = {str(role): float(inside[truth.roles == role].sum()) for role in np.unique(truth.roles)}
    return {role: counts[role] for role in sorted(counts, key=lambda r: -counts[r]) if counts[role] > 0}


def failure_anatomy(trial: Trial) -> Score | None:
    """``gt.anatomy``: which roles fill the top n, n as many as are right, and the top ten.

    Returns
    -------
    Score
        Descriptive: the value is n. ``details["anatomy"]``: k -> role -> expected number among the top k.
        None where every neuron has the same role.
    """
    truth = trial.setting.truth
    if truth is None or len(np.unique(truth.roles)) < 2:
        return None
    sizes = [int(truth.sets[claim].sum()) for claim in ANATOMY_OF if claim in truth.sets]
    n = next((size for size in sizes if size), TOP)
    tops = {str(k): anatomy(trial.ranking, truth, min(k, len(truth.roles))) for k in sorted({n, TOP})}
    return Score(
        id="gt.anatomy", value=float(n), unit="neurons", direction=0, n_items=n, details={"anatomy": tops}
    )


def null_share(trial: Trial) -> Score | None:
    """``null.share``: what the top eight neurons move together where no neuron is right.

    Share of the base-to-source margin under interchange. A procedure that claims these neurons carry the
    concept, or are required, is wrong where it moves more than .05; nobody is scored by it.

    Returns
    -------
    Score or None
        Lower is better, not normalised: it enters no mean. None where the task is no null, nothing can be
        interchanged, or the concept changes the margin by less than .1 nats.
    """
    truth, behaviour = trial.setting.truth, trial.setting.behaviour
    if truth is None or not truth.null or behaviour is None or not behaviour.has_pairs:
        return None
    margin, ks = behaviour.margin(), usable_ks((NULL_TOP,), trial.ranking.n_neurons)
    at_stake = margin - behaviour.source_margin()
    if abs(at_stake.mean()) < NULL_EFFECT:
        return None
    moved = margin - behaviour.ablate(trial.ranking.top(ks[0]), "source")
    groups, cluster_of = np.unique(behaviour.groups, return_inverse=True)
    sums = cluster_sums(np.stack([moved, at_stake]), cluster_of, len(groups))
    interval = bootstrap(sums, partial(area_of_ratios, ks=ks), cluster_weights(len(groups)))
    return Score(
        id="null.share",
        value=float(moved.sum() / at_stake.sum()),
        unit="share",
        direction=-1,
        se=interval.se,
        ci95=interval.ci95,
        n_items=behaviour.n_items,
        n_clusters=len(groups),
        chance=0.0,
        k=ks,
        clusters={"moved": sums[:, :1], "at_stake": sums[:, 1]},
    )
