"""What the top neurons do in the model: swap them for a counterfactual's, or set them to their mean.

Two columns, never averaged: interchange says what a set *carries*, mean ablation what is *required*.
In natural models the two agree poorly.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from nibench.metrics.curves import area_of_ratios, log_auc, mean_and_se, normalise, tie_report, usable_ks
from nibench.metrics.trial import Score, Setting, Trial
from nibench.uncertainty import bootstrap, cluster_sums, cluster_weights

if TYPE_CHECKING:
    from nibench.interventions import Behaviour

Fill = Literal["source", "mean"]

WEAK = 0.6  # a behaviour that is right less often (chance is a half) is too weak to lose
DESTRUCTIVE = 0.2  # random sets that move more than this share leave little to tell methods apart


@dataclass(frozen=True, eq=False)
class Ablations:
    """Margins under ablation of sets of neurons, each set run once whichever method asks for it."""

    behaviour: "Behaviour"
    intact: np.ndarray  # (M,) nats
    _known: dict[tuple[Fill, bytes], np.ndarray] = field(default_factory=dict, repr=False)

    def margins(self, sets: Sequence[np.ndarray], fill: Fill) -> np.ndarray:
        """float64 (S, M): the margin of every item with each set of neurons replaced."""
        keys: list[tuple[Fill, bytes]] = [
            (fill, np.sort(neurons).astype(np.int64).tobytes()) for neurons in sets
        ]
        missing = {key: neurons for key, neurons in zip(keys, sets, strict=True) if key not in self._known}
        if missing:
            found = self.behaviour.ablate_sets(list(missing.values()), to=fill)
            self._known.update(zip(missing, np.asarray(found, dtype=np.float64), strict=True))
        return np.stack([self._known[key] for key in keys])


def ablations(setting: Setting) -> Ablations:
    """The shared table of ablated margins. Use as ``setting.once(ablations)``."""
    assert setting.behaviour is not None
    return Ablations(setting.behaviour, np.asarray(setting.behaviour.margin(), dtype=np.float64))


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
        Nats moved by the planted neurons, the heaviest k of them; where they are not known, by all D.
    planted : bool
        Whether the ceiling is the planted neurons.
    """

    ks: tuple[int, ...]
    at_stake: np.ndarray
    random_moved: np.ndarray
    ceiling_moved: np.ndarray
    planted: bool
    cluster_of: np.ndarray
    weights: np.ndarray


def interchange_anchors(setting: Setting) -> Anchors:
    """Use as ``setting.once(interchange_anchors)``; the behaviour must have pairs."""
    shared = setting.once(ablations)
    return _anchors(setting, "source", shared.intact - np.asarray(shared.behaviour.source_margin()))


def mean_anchors(setting: Setting) -> Anchors:
    """Use as ``setting.once(mean_anchors)``."""
    return _anchors(setting, "mean", setting.once(ablations).intact)


def _anchors(setting: Setting, fill: Fill, at_stake: np.ndarray) -> Anchors:
    shared = setting.once(ablations)
    ks = usable_ks(setting.ablation_ks, len(setting.neurons))
    random_sets = [order[:k] for order in setting.random_orders for k in ks]
    random_moved = (shared.intact - shared.margins(random_sets, fill)).reshape(-1, len(ks), len(at_stake))
    planted = _planted(setting)
    heaviest = [np.arange(len(setting.neurons)) if planted is None else planted[:k] for k in ks]
    ceiling_moved = shared.intact - shared.margins(heaviest, fill)
    groups, cluster_of = np.unique(np.asarray(shared.behaviour.groups), return_inverse=True)
    weights = cluster_weights(len(groups))
    return Anchors(ks, at_stake, random_moved, ceiling_moved, planted is not None, cluster_of, weights)


def _planted(setting: Setting) -> np.ndarray | None:
    """The neurons known to carry the behaviour, heaviest first; None where they are not known."""
    carriers = setting.truth.sets.get("carries") if setting.truth else None
    if setting.truth is None or carriers is None or not carriers.any():
        return None
    weights = setting.truth.gains.get("carries", carriers.astype(np.float64))
    return np.array(sorted(np.flatnonzero(carriers), key=lambda neuron: (-weights[neuron], neuron)))


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
        where they are not known, all neurons at once (flagged). None in place of a Score without pairs, or
        where the source does not change the margin.

    References
    ----------
    Geiger et al., Causal Abstractions of Neural Networks, NeurIPS 2021 (interchange).
    """
    behaviour = trial.setting.behaviour
    if behaviour is None or not behaviour.has_pairs:
        return None
    return _score(trial, "abl.auc[interchange]", "source", trial.setting.once(interchange_anchors))


def required(trial: Trial) -> Score | None:
    """``abl.auc[mean]``: share of the intact margin that is lost with the top k at their mean.

    The mean is taken on the ``probe`` split at the ablated positions. The value is the area over log k of
    the nats lost, summed over *all* items, right or wrong, over the nats of the intact margin;
    ``details`` has the mean drop in nats per item.

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
    return _score(trial, "abl.auc[mean]", "mean", trial.setting.once(mean_anchors))


def _score(trial: Trial, name: str, fill: Fill, anchors: Anchors) -> Score | None:
    if not anchors.at_stake.sum() > 0:
        return None
    shared = trial.setting.once(ablations)
    ks = anchors.ks
    moved = shared.intact - shared.margins([trial.ranking.top(k) for k in ks], fill)  # (K, M)
    value, curve = _area(moved, anchors)
    per_cluster = _per_cluster(moved, anchors)
    area = partial(area_of_ratios, ks=ks)
    interval = bootstrap(per_cluster, area, anchors.weights)
    random_areas = np.array([_area(one, anchors)[0] for one in anchors.random_moved])
    random, random_se = mean_and_se(random_areas)
    ceiling = _area(anchors.ceiling_moved, anchors)[0]
    spread = bootstrap(_per_cluster(anchors.ceiling_moved, anchors), area, anchors.weights)
    ceiling_se = spread.se or 0.0
    random_curve = anchors.random_moved.mean(axis=0).sum(axis=1) / anchors.at_stake.sum()
    tie_fraction, flags = tie_report(trial.ranking, ks)
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
        flags=flags + _flags(shared.intact, anchors.planted, random_curve, ks),
        clusters={"moved": per_cluster[:, :-1], "at_stake": per_cluster[:, -1]},
        details={
            "nats": moved.mean(axis=1).tolist(),
            "random": random,
            "random_se": random_se,
            "random_curve": random_curve.tolist(),
            "base_accuracy": float((shared.intact > 0).mean()),
            "intact_margin": float(shared.intact.mean()),
            "behaviours": _per_behaviour(moved, anchors, np.asarray(shared.behaviour.behaviours)),
        },
    )


def _flags(
    intact: np.ndarray, planted: bool, random_curve: np.ndarray, ks: tuple[int, ...]
) -> tuple[str, ...]:
    flags = []
    accuracy = (intact > 0).mean()
    if accuracy < WEAK:
        flags.append(f"the intact model is right on only {accuracy:.0%} of the items")
    if not planted:
        flags.append(
            "the ceiling is all neurons at once: which of them carry the concept is not known as a set"
        )
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
