"""Against the known answer, beyond one neuron at a time: groups, and what each neuron stands for.

Backups and copies come in groups of which any member will do; clusterings find groups; methods that go from
the neuron to the concept name one for each neuron.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import gammaln

from nibench.metrics.curves import log_auc, normalise, usable_ks
from nibench.metrics.trial import Score, Trial
from nibench.ranking import Ranking
from nibench.task import Truth

NONE_BELOW = 0.1  # true association (2 |AUC - 1/2|) under which "none" is the right label of a neuron
UNPLANTED = ("background", "natural_decoy", "loud", "dead")  # what groups they form is not known


def cover(ranking: Ranking, groups: np.ndarray, ks: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Share of the groups with any member, and with all members, in the top k: (K,) and (K,), in [0, 1].

    Exact expectations over tie-breaks.

    Parameters
    ----------
    groups : int (D,)
        0..G-1, each with a member, or -1: in none.
    """
    first, last = ranking.tie_ranks
    n_groups = int(groups.max()) + 1
    sizes = _members(groups, groups >= 0, n_groups)
    any_, all_ = np.empty((2, len(ks)))
    for at, k in enumerate(ks):
        certain = _members(groups, last <= k, n_groups)
        border = (first <= k) & (k < last)
        tied = _members(groups, border, n_groups)
        n_tied, left = int(border.sum()), k - int((last <= k).sum())
        none = np.exp(_log_choose(n_tied - tied, left) - _log_choose(n_tied, left))
        whole = np.exp(_log_choose(n_tied - tied, left - tied) - _log_choose(n_tied, left))
        any_[at] = np.where(certain > 0, 1.0, 1 - none).mean()
        all_[at] = np.where(certain + tied == sizes, whole, 0.0).mean()
    return any_, all_


def chance_cover(sizes: np.ndarray, n_neurons: int, ks: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The same of random rankings, exactly; ``sizes`` (G,) are the groups' sizes."""
    k = np.asarray(ks)[:, None]
    missed = np.exp(_log_choose(n_neurons - sizes, k) - _log_choose(n_neurons, k))
    whole = np.exp(_log_choose(k, sizes) - _log_choose(n_neurons, sizes))
    return (1 - missed).mean(axis=1), whole.mean(axis=1)


def best_cover(sizes: np.ndarray, ks: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """The same of the best rankings: one of each group first; whole groups, smallest first."""
    k = np.asarray(ks)
    whole = np.searchsorted(np.cumsum(np.sort(sizes)), k, side="right")
    return np.minimum(k, len(sizes)) / len(sizes), whole / len(sizes)


def covers(trial: Trial) -> tuple[Score, ...] | None:
    """``gt.cover_any`` and ``gt.cover_all``: are groups of interchangeable neurons met, and taken whole?

    Any member of a group of copies or backups tells where the concept is (any); all are needed to remove it
    (all). Areas over log k.

    Returns
    -------
    tuple of Score, or None
        In [0, 1], higher is better; ``normalised``: 0 = random rankings, 1 = the best ranking for that
        question (no ranking is best for both). None where the truth has no groups.
    """
    truth, ranking = trial.setting.truth, trial.ranking
    if truth is None or truth.groups is None or not (truth.groups >= 0).any():
        return None
    groups = _numbered(truth.groups)
    sizes = np.bincount(groups[groups >= 0])
    ks = usable_ks(trial.setting.ks, len(groups))
    found = zip(
        ("gt.cover_any", "gt.cover_all"),
        cover(ranking, groups, ks),
        chance_cover(sizes, len(groups), ks),
        best_cover(sizes, ks),
        strict=True,
    )
    return tuple(_area(name, ks, *curves, n_groups=len(sizes)) for name, *curves in found)


def _area(
    name: str, ks: tuple[int, ...], curve: np.ndarray, chance: np.ndarray, best: np.ndarray, *, n_groups: int
) -> Score:
    value, low, high = (float(log_auc(ks, one)) for one in (curve, chance, best))
    return Score(
        id=name,
        value=value,
        unit="share",
        direction=1,
        n_items=n_groups,
        chance=low,
        ceiling=high,
        normalised=normalise(value, low, high),
        k=ks,
        curve=tuple(curve.tolist()),
    )


def grouping(trial: Trial) -> Score | None:
    """``gt.group``: does a clustering put copies and backups together, and apart from the rest?

    The adjusted Rand index of the method's clusters (``evidence.clusters`` (D,)) against the true groups,
    over the planted neurons; one that belongs to no group is a group of its own.

    Returns
    -------
    Score or None
        At most 1, higher is better, 0 at chance. None where the truth has no groups, or the method's
        evidence no clusters.

    References
    ----------
    Hubert & Arabie, Comparing partitions, Journal of Classification 1985.
    """
    truth = trial.setting.truth
    clusters = getattr(trial.ranking.evidence, "clusters", None)
    if truth is None or truth.groups is None or clusters is None or not (truth.groups >= 0).any():
        return None
    from sklearn.metrics import adjusted_rand_score

    known = (truth.groups >= 0) | ~np.isin(truth.roles, UNPLANTED)
    alone = truth.groups.max() + 1 + np.arange(len(truth.groups))
    groups = np.where(truth.groups >= 0, truth.groups, alone)
    value = float(adjusted_rand_score(groups[known], np.asarray(clusters)[known]))
    return _against_chance("gt.group", value, 0.0, n_items=int(known.sum()))


def labelling(trial: Trial) -> Score | None:
    """``gt.label``: the inverse task. Given a neuron, which class does it stand for, if any?

    The method's answer is ``evidence.named`` (D,): a class, or -1 for none. Asked of the neurons that stand
    for a class and of those whose true association is next to nothing, for which "none" is right.

    Returns
    -------
    Score or None
        Balanced accuracy in [0, 1] over the classes and "none", higher is better; chance is one over their
        number. ``details``: plain accuracy and macro-F1. None where the truth labels no neuron, or the
        method's evidence names nothing.
    """
    truth = trial.setting.truth
    named = getattr(trial.ranking.evidence, "named", None)
    if truth is None or truth.neuron_labels is None or named is None:
        return None
    known = asked(truth)
    if not (truth.neuron_labels[known] >= 0).any():
        return None
    from sklearn.metrics import accuracy_score, f1_score, recall_score

    right, answer = truth.neuron_labels[known], np.asarray(named)[known]
    labels = np.unique(right)
    return _against_chance(
        "gt.label",
        float(recall_score(right, answer, labels=labels, average="macro", zero_division=0)),
        1 / len(labels),
        n_items=int(known.sum()),
        details={
            "accuracy": float(accuracy_score(right, answer)),
            "macro_f1": float(f1_score(right, answer, labels=labels, average="macro", zero_division=0)),
        },
    )


def asked(truth: Truth) -> np.ndarray:
    """bool (D,): the neurons whose label is known, "none" included."""
    assert truth.neuron_labels is not None
    gains = truth.gains.get("associated")
    silent = np.ones(len(truth.roles), dtype=bool) if gains is None else gains < NONE_BELOW
    return (truth.neuron_labels >= 0) | silent


def _against_chance(name: str, value: float, chance: float, **more: Any) -> Score:
    return Score(
        id=name,
        value=value,
        unit="share",
        direction=1,
        chance=chance,
        ceiling=1.0,
        normalised=normalise(value, chance, 1.0),
        **more,
    )


def _members(groups: np.ndarray, where: np.ndarray, n_groups: int) -> np.ndarray:
    """(G,) int: members of each group among the neurons of ``where``."""
    return np.bincount(groups[where & (groups >= 0)], minlength=n_groups)


def _numbered(groups: np.ndarray) -> np.ndarray:
    """The same groups as 0..G-1, -1 as it is."""
    inside = groups >= 0
    numbered = np.full(len(groups), -1)
    numbered[inside] = np.unique(groups[inside], return_inverse=True)[1]
    return numbered


def _log_choose(n: Any, k: Any) -> np.ndarray:
    """log C(n, k); -inf where k < 0 or k > n."""
    n, k = np.broadcast_arrays(np.asarray(n, dtype=np.float64), np.asarray(k, dtype=np.float64))
    possible = (k >= 0) & (k <= n)
    n, k = np.where(possible, n, 0.0), np.where(possible, k, 0.0)
    return np.where(possible, gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1), -np.inf)
