"""Do the top neurons carry the concept, or do they let a probe memorise words?"""

import numpy as np

from nibench.control import label_distance
from nibench.metrics.curves import set_size, tie_report
from nibench.metrics.probing import fit_probes, majority
from nibench.metrics.trial import Score, Setting, Trial
from nibench.probes import Lda, correct
from nibench.uncertainty import bootstrap


def skill(accuracy: np.ndarray, majority: np.ndarray) -> np.ndarray:
    """Accuracy between the majority rate, 0, and perfect, 1; negative below the majority."""
    return (accuracy - majority) / (1 - majority)


def fit_control_probes(setting: Setting) -> tuple[Lda, ...]:
    """One linear probe per control seed; only class means and shrinkage differ from the concept's."""
    data = setting.once(fit_probes).data
    return tuple(Lda.fit(data, control["probe"], setting.n_classes) for control in setting.controls)


def selectivity(trial: Trial) -> Score | None:
    """``sel.kappa``: probe skill on the concept minus probe skill on the control task, same neurons.

    Skill is ``(accuracy - majority) / (1 - majority)`` of the linear probe on the top 1 % of neurons (at
    least 10), on ``eval``; the control task is averaged over its seeds.

    Returns
    -------
    Score
        At most 1, higher is better, 0 = the neurons support memorising word types as well as the concept;
        negative is possible. The standard error adds the spread of the control seeds to the
        sentence-clustered bootstrap. ``clusters``: hits (G, 1 + S), the concept first, and items (G,).
        None without a control task, or where ``eval`` has one class only.

    References
    ----------
    Hewitt & Liang, EMNLP 2019 (selectivity, as a difference of accuracies).
    """
    setting, ranking = trial.setting, trial.ranking
    held_out = setting.splits["eval"]
    label_sets = [held_out.labels, *(control["eval"] for control in setting.controls)]
    majorities = np.array([majority(labels) for labels in label_sets])
    if not setting.controls or (majorities == 1).any():
        return None
    probes = setting.once(fit_probes)
    k = set_size(len(setting.neurons))
    hits = np.stack(
        [
            correct(probe.log_joint(held_out.activations, ranking.order, (k,)), labels)[0]
            for probe, labels in zip(
                (probes.fitted["lda"], *setting.once(fit_control_probes)), label_sets, strict=True
            )
        ]
    )  # (1 + S, M)
    skills = skill(hits.mean(axis=1), majorities)
    value = float(skills[0] - skills[1:].mean())
    per_cluster = probes.per_cluster(np.vstack([hits, np.ones(hits.shape[1])]))
    se = _skills_se(per_cluster, probes.weights, majorities, skills[1:])
    tie_fraction, flags = tie_report(ranking, (k,))
    train = setting.splits["probe"].labels
    distances = [label_distance(train, control["probe"], setting.n_classes) for control in setting.controls]
    seen = np.isin(held_out.word_types, setting.splits["probe"].word_types).mean()
    return Score(
        id="sel.kappa",
        value=value,
        unit="kappa",
        direction=1,
        se=se,
        ci95=None if se is None else (value - 1.96 * se, value + 1.96 * se),
        n_items=len(held_out.labels),
        n_clusters=probes.weights.shape[1],
        chance=0.0,
        k=(k,),
        tie_fraction=tie_fraction,
        flags=flags,
        clusters={"hits": per_cluster[:, :-1], "items": per_cluster[:, -1]},
        details={
            "concept_kappa": float(skills[0]),
            "control_kappa": skills[1:].tolist(),
            "concept_accuracy": float(hits[0].mean()),
            "control_accuracy": hits[1:].mean(axis=1).tolist(),
            "concept_majority": float(majorities[0]),
            "control_majority": majorities[1:].tolist(),
            "control_distance": distances,
            "seen_types": float(seen),
        },
    )


def _skills_se(
    per_cluster: np.ndarray, weights: np.ndarray, majorities: np.ndarray, control_skills: np.ndarray
) -> float | None:
    """Of the concept's skill minus the control tasks' mean; majorities held fixed."""

    def difference(sums: np.ndarray) -> np.ndarray:
        skills = skill(sums[:, :-1] / sums[:, -1:], majorities)
        return skills[:, 0] - skills[:, 1:].mean(axis=1)

    return two_level_se(bootstrap(per_cluster, difference, weights).se, control_skills)


def two_level_se(items: float | None, of_seeds: np.ndarray) -> float | None:
    """``sqrt(s_seed^2 / S + se_items^2)``: the spread over S control seeds, and the bootstrap's over sentences."""
    if items is None:
        return None
    between = of_seeds.var(ddof=1) / len(of_seeds) if len(of_seeds) > 1 else 0.0
    return float(np.sqrt(between + items**2))
