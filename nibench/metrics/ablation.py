"""What the top neurons do in the model: swap them for a counterfactual's, or set them to their mean.

Two columns, never averaged: interchange says what a set *carries*, mean ablation what is *required*.
In natural models the two agree poorly.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from nibench.metrics.ceiling import built_to_be_required, built_to_carry, planted
from nibench.metrics.curves import (
    area_of_ratios,
    log_auc,
    mean_and_se,
    middle,
    normalise,
    tie_report,
    usable_ks,
)
from nibench.metrics.margins import ablations
from nibench.metrics.null import against_matched
from nibench.metrics.trial import Score, Setting, Trial
from nibench.uncertainty import bootstrap, cluster_sums, cluster_weights

if TYPE_CHECKING:
    from nibench.interventions import Replacement

WEAK = 0.6  # a behaviour that is right less often (chance is a half) is too weak to lose
DESTRUCTIVE = 0.2  # random sets that move more than this share leave little to tell methods apart
MATCHED = ("source", "mean")  # compared with matched random sets, too


@dataclass(frozen=True, eq=False)
class Anchors:
    """What one kind of ablation is measured against, the same for all methods.

    Attributes
    ----------
    at_stake : float64 (M,)
        What could be moved in each item, nats: base minus source margin, or the intact margin.
    random_moved : float64 (R, K, M)
        Nats moved by the top k of each random ranking.
    ceiling_moved : float64 (K, M)
        Nats moved by the set that the score 1 stands for, the first k of it.
    ceiling_is : str or None
        What that set is, for a flag; None: the planted neurons.
    """

    ks: tuple[int, ...]
    at_stake: np.ndarray
    random_moved: np.ndarray
    ceiling_moved: np.ndarray
    ceiling_is: str | None
    cluster_of: np.ndarray
    weights: np.ndarray


def interchange_anchors(setting: Setting) -> Anchors:
    """Use as ``setting.once(interchange_anchors)``; the behaviour must have pairs."""
    return _anchors(setting, "source")


def mean_anchors(setting: Setting) -> Anchors:
    """The same for the mean of the ``probe`` split, any behaviour."""
    return _anchors(setting, "mean")


def zero_anchors(setting: Setting) -> Anchors:
    """The same for zero."""
    return _anchors(setting, "zero")


def resample_anchors(setting: Setting) -> Anchors:
    """The same for the values of other items."""
    return _anchors(setting, "resample")


def _anchors(setting: Setting, fill: "Replacement") -> Anchors:
    shared = setting.once(ablations)
    at_stake, ks = shared.at_stake(fill), usable_ks(setting.ablation_ks, len(setting.neurons))
    random_sets = [order[:k] for order in setting.random_orders for k in ks]
    random_moved = shared.moved(random_sets, fill).reshape(-1, len(ks), len(at_stake))
    sets, called = _ceiling(setting, fill, ks)
    ceiling_moved = shared.moved(sets, fill)
    cluster_of, n_clusters = shared.clusters()
    weights = cluster_weights(n_clusters)
    return Anchors(ks, at_stake, random_moved, ceiling_moved, called, cluster_of, weights)


def _ceiling(
    setting: Setting, fill: "Replacement", ks: tuple[int, ...]
) -> tuple[list[np.ndarray], str | None]:
    """The set at each k that the score 1 stands for, and what it is; None: planted."""
    known = planted(setting)
    if known is not None:
        return [known[:k] for k in ks], None
    order = setting.once(built_to_carry if fill == "source" else built_to_be_required)
    if len(order):
        return [order[:k] for k in ks], "a set built greedily on the probe split"
    return [np.arange(len(setting.neurons))] * len(ks), "all neurons at once"


def carried(trial: Trial) -> Score | None:
    """``abl.auc[interchange]``: share of the base-to-source margin that swapping the top k moves.

    In the real forward pass the top k neurons take the values they have on the counterfactual twin (the
    same text, only the concept differs). The value is the area over log k of the share moved: the nats
    moved, summed over all items, over the nats between the base's margin and the source's.

    Returns
    -------
    Score
        Higher is better; about 0 for neurons that do not carry the concept, 1 for neurons that carry all
        of it, negative where they push the other way; unit "share of margin", interval clustered by
        the items' groups. ``normalised``: 0 = the shared random sets, 1 = the planted neurons or,
        where they are not known, a set built greedily on the ``probe`` split (flagged; no upper bound).
        ``details["matched"]`` and a flag compare the set with random sets like it. None in place of a
        Score without pairs, or where the source does not change the margin.

    References
    ----------
    Geiger et al., Causal Abstractions of Neural Networks, NeurIPS 2021 (interchange).
    """
    behaviour = trial.setting.behaviour
    if behaviour is None or not behaviour.has_pairs:
        return None
    return _score(trial, "abl.auc[interchange]", "source", interchange_anchors)


def required(trial: Trial) -> Score | None:
    """``abl.auc[mean]``: share of the intact margin that is lost with the top k at their mean.

    The mean is taken on the ``probe`` split at the ablated positions. The value is the area over log k of
    the nats lost, summed over *all* items, right or wrong, over the nats of the intact margin;
    ``details`` has the mean drop in nats per item, and the band of the middle 95 % of the random rankings.

    Returns
    -------
    Score
        Higher is better; 0 = nothing is lost, 1 = the whole margin; negative where the neurons did harm;
        unit, interval and ``normalised`` as for ``carried``. None without a behaviour, or where the
        intact margin is not positive: there is nothing to lose.

    References
    ----------
    Dalvi et al., AAAI 2019 (ablation by rank); Li & Janson, NeurIPS 2024 (why the mean, not zero).
    """
    if trial.setting.behaviour is None:
        return None
    return _score(trial, "abl.auc[mean]", "mean", mean_anchors)


def zeroed(trial: Trial) -> Score | None:
    """``abl.auc[zero]``: the same with the top k at zero. Historical: it credits neurons that never change."""
    if trial.setting.behaviour is None:
        return None
    return _score(trial, "abl.auc[zero]", "zero", zero_anchors)


def resampled(trial: Trial) -> Score | None:
    """``abl.auc[resample]``: the same with the top k at what they are on other items.

    The margin is averaged over five donors for each item and place, fixed by seed and shared by all methods.
    """
    if trial.setting.behaviour is None or trial.setting.behaviour.n_items < 2:
        return None
    return _score(trial, "abl.auc[resample]", "resample", resample_anchors)


def _score(trial: Trial, name: str, fill: "Replacement", make: Callable[[Setting], Anchors]) -> Score | None:
    if not trial.setting.once(ablations).at_stake(fill).sum() > 0:
        return None
    anchors = trial.setting.once(make)
    shared = trial.setting.once(ablations)
    ks = anchors.ks
    moved = shared.moved([trial.ranking.top(k) for k in ks], fill)  # (K, M)
    value, curve = _area(moved, anchors)
    per_cluster = _per_cluster(moved, anchors)
    area = partial(area_of_ratios, ks=ks)
    interval = bootstrap(per_cluster, area, anchors.weights)
    random_areas = np.array([_area(one, anchors)[0] for one in anchors.random_moved])
    random, random_se = mean_and_se(random_areas)
    ceiling = _area(anchors.ceiling_moved, anchors)[0]
    spread = bootstrap(_per_cluster(anchors.ceiling_moved, anchors), area, anchors.weights)
    ceiling_se = spread.se or 0.0
    random_curves = anchors.random_moved.sum(axis=2) / anchors.at_stake.sum()
    random_curve = anchors.random_moved.mean(axis=0).sum(axis=1) / anchors.at_stake.sum()
    tie_fraction, flags = tie_report(trial.ranking, ks)
    matched, not_above = against_matched(trial, fill) if fill in MATCHED else ({}, ())
    return Score(
        id=name,
        value=value,
        unit="share of margin",
        direction=1,
        se=interval.se,
        ci95=interval.ci95,
        n_items=len(anchors.at_stake),
        n_clusters=anchors.weights.shape[1],
        chance=0.0,
        ceiling=ceiling,
        normalised=normalise(value, random, ceiling, float(np.hypot(ceiling_se, random_se))),
        k=ks,
        curve=tuple(curve.tolist()),
        tie_fraction=tie_fraction,
        flags=flags + _flags(shared.intact, anchors.ceiling_is, random_curve, ks) + not_above,
        clusters={"moved": per_cluster[:, :-1], "at_stake": per_cluster[:, -1]},
        details={
            "nats": moved.mean(axis=1).tolist(),
            "random": random,
            "random_se": random_se,
            "random_curve": random_curve.tolist(),
            "random_band": middle(random_curves),
            "base_accuracy": float((shared.intact > 0).mean()),
            "intact_margin": float(shared.intact.mean()),
            "behaviours": _per_behaviour(moved, anchors, np.asarray(shared.behaviour.behaviours)),
            **matched,
        },
    )


def _flags(
    intact: np.ndarray, ceiling_is: str | None, random_curve: np.ndarray, ks: tuple[int, ...]
) -> tuple[str, ...]:
    flags = []
    accuracy = (intact > 0).mean()
    if accuracy < WEAK:
        flags.append(f"the intact model is right on only {accuracy:.0%} of the items")
    if ceiling_is is not None:
        flags.append(f"the ceiling is {ceiling_is}: which neurons carry the concept is not known as a set")
    destroyed = [k for k, share in zip(ks, random_curve, strict=True) if abs(share) > DESTRUCTIVE]
    if destroyed:
        flags.append(f"random sets already move more than {DESTRUCTIVE:.0%} from k = {destroyed[0]}")
    return tuple(flags)


def _area(moved: np.ndarray, anchors: Anchors) -> tuple[float, np.ndarray]:
    """The area, and the curve (K,), of nats moved (K, M): a ratio of sums, never a mean of ratios."""
    curve = moved.sum(axis=1) / anchors.at_stake.sum()
    return float(log_auc(anchors.ks, curve)), curve


def _per_cluster(moved: np.ndarray, anchors: Anchors) -> np.ndarray:
    """float64 (G, K + 1): nats moved at each k, and at stake, summed in each group."""
    rows = np.stack([*moved, anchors.at_stake])
    return cluster_sums(rows, anchors.cluster_of, anchors.weights.shape[1])


def _per_behaviour(moved: np.ndarray, anchors: Anchors, behaviours: np.ndarray) -> dict[str, float | None]:
    """The same area for the items of each behaviour; None where it has nothing at stake."""
    areas: dict[str, float | None] = {}
    for name in np.unique(behaviours):
        rows = behaviours == name
        stake = anchors.at_stake[rows].sum()
        curve = moved[:, rows].sum(axis=1) / stake if stake > 0 else None
        areas[str(name)] = None if curve is None else float(log_auc(anchors.ks, curve))
    return areas
