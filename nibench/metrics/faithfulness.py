"""Enough, and needed: what the model does with only the top neurons, and without them, up to half of all.

All neurons are the set's whole here: those "kept only" keep their values while the other neurons of the site and
layers asked for are at their mean; embeddings and attention stay. Nothing is retrained.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from nibench.metrics.curves import mean_and_se, tie_report
from nibench.metrics.margins import Ablations, ablations
from nibench.metrics.trial import Score, Setting, Trial
from nibench.uncertainty import bootstrap, cluster_sums, cluster_weights, ratio_se

BINS = (0.01, 0.05, 0.1, 0.2, 0.5)  # shares of all neurons
FRACTIONS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def sizes(shares: Sequence[float], n_neurons: int) -> tuple[int, ...]:
    """How many neurons each share of D is: rounded, at least one."""
    return tuple(max(1, round(share * n_neurons)) for share in shares)


def faithfulness_areas(faithfulness: np.ndarray) -> dict[str, np.ndarray]:
    """The four areas of f at ``FRACTIONS`` (last axis).

    ``cpr``: f over the share of neurons kept, trapezia; ``cmd``: |1 - f| at these points. ``cpr_log``, ``cmd_log``:
    over its logarithm, divided by the range. The linear areas begin at .001, so a perfect f has a cpr of .999.
    """
    f, x = np.asarray(faithfulness, dtype=np.float64), np.array(FRACTIONS)
    curves = {"cpr": f, "cmd": np.abs(1 - f)}
    log = np.log(x)
    return {name: np.asarray(np.trapezoid(curve, x, axis=-1)) for name, curve in curves.items()} | {
        f"{name}_log": np.asarray(np.trapezoid(curve, log, axis=-1)) / (log[-1] - log[0])
        for name, curve in curves.items()
    }


def aopc(drops: np.ndarray, *, with_nothing: bool = False) -> np.ndarray:
    """Mean of the drops at the bins (last axis); ``with_nothing`` counts the empty set, whose drop is 0, as one."""
    values = np.asarray(drops, dtype=np.float64)
    return values.sum(axis=-1) / (values.shape[-1] + with_nothing)


def area_of(name: str, curve: np.ndarray) -> np.ndarray:
    """The score with this id of its curve (..., K) over ``BINS`` or ``FRACTIONS``."""
    kind = name.removeprefix("abl.")
    return aopc(curve) if kind in ("comp", "suff") else faithfulness_areas(curve)[kind]


def area_of_sums(drawn: np.ndarray, name: str) -> np.ndarray:
    """The same of what is summed over items, (..., K + 1): at each k, and at stake."""
    return area_of(name, drawn[..., :-1] / drawn[..., -1:])


@dataclass(frozen=True, eq=False)
class Bounds:
    """What all methods share: all neurons at their mean, and which bins tell kept sets apart.

    Attributes
    ----------
    none_kept : float64 (M,)
        The margins with every neuron at its mean.
    telling : bool (B,)
        Whether keeping random neurons differs from keeping none by more than two standard errors (of the random
        sets and of the groups of items together); elsewhere the model is destroyed whichever are kept.
    random : float64 (B,)
        The mean margin with only random neurons kept.
    """

    none_kept: np.ndarray
    telling: np.ndarray
    random: np.ndarray
    cluster_of: np.ndarray
    weights: np.ndarray


def bounds(setting: Setting) -> Bounds:
    """Use as ``setting.once(bounds)``."""
    table, n_neurons = setting.once(ablations), len(setting.neurons)
    none_kept = _kept(table, [np.array([], dtype=np.int64)], n_neurons)[0]
    cluster_of, n_clusters = table.clusters()
    counts = np.bincount(cluster_of, minlength=n_clusters).astype(np.float64)
    telling, random = [], []
    for size in sizes(BINS, n_neurons):
        kept = _kept(table, [order[:size] for order in setting.random_orders], n_neurons)
        gain, se = mean_and_se((kept - none_kept).mean(axis=1))
        among_items = ratio_se(
            cluster_sums((kept - none_kept).mean(axis=0), cluster_of, n_clusters)[:, 0], counts
        )
        telling.append(abs(gain) > 2 * np.hypot(se, np.nan_to_num(among_items)))
        random.append(kept.mean())
    return Bounds(none_kept, np.array(telling), np.array(random), cluster_of, cluster_weights(n_clusters))


def _kept(table: Ablations, sets: Sequence[np.ndarray], n_neurons: int) -> np.ndarray:
    """float64 (S, M): margins with only these neurons left, the others at their mean."""
    return table.margins([np.setdiff1d(np.arange(n_neurons), kept) for kept in sets], "mean")


def erased(trial: Trial) -> tuple[Score, ...] | None:
    """``abl.comp`` and ``abl.suff``: the margin lost without the top 1, 5, 10, 20, 50 %, and with only these.

    Both as a share of the intact margin, ablated to the mean; the value is the mean over the five bins (AOPC as the
    authors' code has it; ``details["with_nothing"]`` counts the empty set as a sixth, as their formula does).
    ``abl.comp`` is higher, ``abl.suff`` lower for neurons that are needed and enough. ``abl.suff`` is reported at bins
    where keeping random neurons differs from keeping none by more than two standard errors. Beside
    ``abl.comp``: what the *last* neurons of the ranking lose at the same bins.

    Returns
    -------
    tuple of Score, or None
        None without a behaviour or where the margin is not positive; no ``abl.suff`` where no bin is left.

    References
    ----------
    DeYoung et al., ERASER, ACL 2020; Samek et al. 2017 (AOPC). Hooker et al., NeurIPS 2019: without
    retraining, part of a drop is that the input is unlike any seen.
    """
    setting = trial.setting
    if setting.behaviour is None or not setting.once(ablations).intact.sum() > 0:
        return None
    table, shared, n_neurons = setting.once(ablations), setting.once(bounds), len(setting.neurons)
    ks, order = sizes(BINS, n_neurons), trial.ranking.order
    lost = table.moved([order[:k] for k in ks], "mean")
    last = table.moved([order[-k:] for k in ks], "mean").sum(axis=1) / table.intact.sum()
    comp = _aopc(trial, "abl.comp", 1, ks, lost, {"bottom": last.tolist()})
    told = np.flatnonzero(shared.telling)
    if not len(told):
        return (comp,)
    some = tuple(ks[i] for i in told)
    without = table.intact - _kept(table, [order[:k] for k in some], n_neurons)
    at_random = 1 - shared.random[told] / table.intact.mean()
    random = {"random": at_random.tolist(), "bins": [BINS[i] for i in told]}
    return comp, _aopc(trial, "abl.suff", -1, some, without, random)


def _aopc(
    trial: Trial, name: str, direction: Literal[-1, 1], ks: tuple[int, ...], lost: np.ndarray, details: dict
) -> Score:
    """Mean over the bins of nats lost (B, M) over the intact margin."""
    setting = trial.setting
    table, shared = setting.once(ablations), setting.once(bounds)
    sums = _sums(shared, [*lost, table.intact])
    interval = bootstrap(sums, partial(area_of_sums, name=name), shared.weights)
    curve = lost.sum(axis=1) / table.intact.sum()
    tie_fraction, flags = tie_report(trial.ranking, ks)
    return Score(
        id=name,
        value=float(aopc(curve)),
        unit="share of margin",
        direction=direction,
        se=interval.se,
        ci95=interval.ci95,
        n_items=len(table.intact),
        n_clusters=len(sums),
        k=ks,
        curve=tuple(curve.tolist()),
        tie_fraction=tie_fraction,
        flags=flags,
        clusters={"lost": sums[:, :-1], "at_stake": sums[:, -1]},
        details={"with_nothing": float(aopc(curve, with_nothing=True)), **details},
    )


def _sums(shared: Bounds, rows: Sequence[np.ndarray]) -> np.ndarray:
    """(G, Q): values of the items, summed in each group."""
    return cluster_sums(np.stack(rows), shared.cluster_of, shared.weights.shape[1])


def faithful(trial: Trial) -> tuple[Score, ...] | None:
    """``abl.cpr``, ``abl.cmd`` and their ``_log`` variants: areas of f(k), what the top k do by themselves.

    f(k) = (margin with only the top k kept - with none) / (intact margin - with none), a ratio of means over all
    items, at ten shares of the neurons (see ``faithfulness_areas``). ``cpr`` is higher for neurons that make the
    behaviour, and may exceed 1; ``cmd`` is the distance from the intact model, 0 at best. Half of the linear area
    lies above half of the neurons, where all rankings agree: the log variants are for telling methods apart.

    Deviation: the original takes signed scores for ``cpr`` and their sizes for ``cmd``; scores here are importances,
    so both follow one ranking.

    Returns
    -------
    tuple of Score, or None
        None without a behaviour, or where all neurons together do not help it by two standard errors.

    References
    ----------
    Mueller et al., MIB: A Mechanistic Interpretability Benchmark, ICML 2025.
    """
    setting = trial.setting
    if setting.behaviour is None:
        return None
    table, shared, n_neurons = setting.once(ablations), setting.once(bounds), len(setting.neurons)
    whole = _sums(shared, [table.intact - shared.none_kept, np.ones(len(table.intact))])
    if not whole[:, 0].sum() / len(table.intact) > 2 * np.nan_to_num(ratio_se(whole[:, 0], whole[:, 1])):
        return None
    ks, order = sizes(FRACTIONS, n_neurons), trial.ranking.order
    kept = _kept(table, [order[:k] for k in ks], n_neurons)
    sums = _sums(shared, [*(kept - shared.none_kept), table.intact - shared.none_kept])
    curve = sums[:, :-1].sum(axis=0) / sums[:, -1].sum()
    tie_fraction, flags = tie_report(trial.ranking, ks)
    scores = []
    for kind, value in faithfulness_areas(curve).items():
        interval = bootstrap(sums, partial(area_of_sums, name=f"abl.{kind}"), shared.weights)
        scores.append(
            Score(
                id=f"abl.{kind}",
                value=float(value),
                unit="share of margin",
                direction=1 if kind.startswith("cpr") else -1,
                se=interval.se,
                ci95=interval.ci95,
                n_items=len(table.intact),
                n_clusters=len(sums),
                k=ks,
                curve=tuple(curve.tolist()),
                tie_fraction=tie_fraction,
                flags=flags,
                clusters={"kept": sums[:, :-1], "at_stake": sums[:, -1]},
            )
        )
    return tuple(scores)
