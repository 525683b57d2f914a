"""Does the ranking answer to the concept, or would labels that mean nothing give the same? Needs the method itself."""

from collections.abc import Mapping
from functools import partial

import numpy as np

from nibench.metrics.curves import area_of_ratios, log_auc, mean_and_se, set_size, tie_report
from nibench.metrics.overlap import kappa
from nibench.metrics.probing import fit_probes
from nibench.metrics.selectivity import fit_control_probes, two_level_se
from nibench.metrics.stability import half_rankings, halves
from nibench.metrics.trial import Score, Trial
from nibench.probes import Lda, Qda, correct
from nibench.ranking import Ranking
from nibench.task import Split
from nibench.uncertainty import bootstrap


def double_dissociation(accuracies: np.ndarray) -> float:
    """Half of what either task loses with the other's neurons; in [-1, 1], 0 where the rankings are exchangeable.

    Parameters
    ----------
    accuracies : (2, 2)
        Rows: the concept and the control task; columns: the concept's and the control's ranking.
    """
    (own, other), (crossed, control) = accuracies
    return float(0.5 * ((own - other) + (control - crossed)))


def rank_selectivity(trial: Trial) -> tuple[Score, ...] | None:
    """``sel.rank_gap``, ``sel.dd``, ``sel.rank_div``: the ranking under control labels against the concept's.

    The method is called again with each control task's labels. ``sel.rank_gap``: accuracy of the linear probe on
    the concept, from its own top neurons minus from the control's, area over log k. ``sel.dd``: the double
    dissociation of the same areas. ``sel.rank_div``: chance-corrected overlap of two halves under the concept (the
    noise ceiling, in ``details``) minus overlap of one half under the concept and the other under the control, all
    on half of the sentences, so that their number cancels.

    Returns
    -------
    tuple of Score
        In about [-1, 1], higher is better; 0 = the ranking does not depend on what the labels mean. The
        standard error of the gap adds the spread of the control seeds to the sentence-clustered bootstrap. None
        for methods that read no label, without the method, and without a control task.

    References
    ----------
    Hewitt & Liang, EMNLP 2019 (control tasks).
    """
    setting, reruns = trial.setting, trial.reruns
    if reruns is None or not reruns.reads_labels or not setting.controls:
        return None
    rankings = [reruns(labels=control["rank"]) for control in setting.controls]
    pairs = [(one, probe, labels) for one, probe, labels in zip(
        rankings, setting.once(fit_control_probes), setting.controls, strict=True) if one is not None]  # fmt: skip
    if not pairs:
        return None
    return (*_performance(trial, pairs), *_divergence(trial))


def _performance(
    trial: Trial, pairs: list[tuple[Ranking, Lda, Mapping[Split, np.ndarray]]]
) -> tuple[Score, Score]:
    """The gap on the concept, and the double dissociation; areas over log k."""
    setting = trial.setting
    probes = setting.once(fit_probes)
    ks, held_out = probes.ks, setting.splits["eval"]

    def hits(probe: Lda | Qda, ranking: Ranking, labels: np.ndarray) -> np.ndarray:  # (K, M)
        return correct(probe.log_joint(held_out.activations, ranking.order, ks), labels).astype(np.float64)

    concept = probes.fitted["lda"]
    own = hits(concept, trial.ranking, held_out.labels)
    other = np.stack([hits(concept, ranking, held_out.labels) for ranking, _, _ in pairs])  # (S, K, M)
    gap = own - other.mean(axis=0)
    per_cluster = probes.per_cluster(np.vstack([gap, np.ones(gap.shape[1])]))
    of_seeds = np.array([log_auc(ks, (own - one).mean(axis=1)) for one in other])
    area = partial(area_of_ratios, ks=ks)
    se = two_level_se(bootstrap(per_cluster, area, probes.weights).se, of_seeds)
    value = float(of_seeds.mean())
    tie_fraction, flags = tie_report(trial.ranking, ks)
    gap_score = Score(
        id="sel.rank_gap",
        value=value,
        unit="accuracy",
        direction=1,
        se=se,
        ci95=None if se is None else (value - 1.96 * se, value + 1.96 * se),
        n_items=len(held_out.labels),
        n_clusters=probes.weights.shape[1],
        chance=0.0,
        k=ks,
        curve=tuple(gap.mean(axis=1).tolist()),
        tie_fraction=tie_fraction,
        flags=flags,
        clusters={"hits": per_cluster[:, :-1], "items": per_cluster[:, -1]},
        details={"control_seeds": of_seeds.tolist()},
    )
    tables = []
    for (ranking, probe, labels), crossed in zip(pairs, other, strict=True):
        on_control = [hits(probe, one, labels["eval"]) for one in (trial.ranking, ranking)]
        cells = [[own, crossed], on_control]
        tables.append([[float(log_auc(ks, one.mean(axis=1))) for one in row] for row in cells])
    found = np.array([double_dissociation(np.array(table)) for table in tables])
    mean, spread = mean_and_se(found)
    dissociation = Score(
        id="sel.dd",
        value=mean,
        unit="accuracy",
        direction=1,
        se=spread if len(found) > 1 else None,
        ci95=(mean - 1.96 * spread, mean + 1.96 * spread) if len(found) > 1 else None,
        chance=0.0,
        k=ks,
        details={"accuracies": np.mean(tables, axis=0).tolist(), "control_seeds": found.tolist()},
    )
    return gap_score, dissociation


def _divergence(trial: Trial) -> tuple[Score, ...]:
    """Overlap of two halves under the concept minus with the other half under a control, one a division."""
    setting, reruns = trial.setting, trial.reruns
    assert reruns is not None
    k = set_size(len(setting.neurons))
    same, crossed = [], []
    for division, (a, b) in enumerate(half_rankings(trial)):
        control = setting.controls[division % len(setting.controls)]["rank"]
        other = reruns(
            labels=control, rows=setting.once(halves)[division][1], seed=reruns.seed + 2 * division + 1
        )
        if other is not None:
            same.append(kappa(a, b, k))
            crossed.append(kappa(a, other, k))
    if not same:
        return ()
    found = np.array(same) - np.array(crossed)
    value, se = mean_and_se(found)
    details = {"halves": float(np.mean(same)), "control": float(np.mean(crossed))}
    ends = (value - 1.96 * se, value + 1.96 * se) if len(found) > 1 else None
    return (
        Score(
            "sel.rank_div", value, "kappa", 1, se=se if ends else None, ci95=ends, chance=0.0, k=(k,),
            details=details,
        ),
    )  # fmt: skip
