"""What the top neurons encode: accuracy of closed-form probes on the k first, as k grows."""

from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import get_args

import numpy as np

from nibench.metrics.curves import (
    area_of_ratios,
    log_auc,
    mean_and_se,
    middle,
    normalise,
    tie_report,
    usable_ks,
)
from nibench.metrics.trial import Score, Setting, Trial
from nibench.probes import Family, Lda, ProbeData, Qda, confusion, correct, macro_f1, mutual_information
from nibench.uncertainty import bootstrap, cluster_sums, cluster_weights

FAMILIES: tuple[Family, ...] = get_args(Family)


@dataclass(frozen=True, eq=False)
class Probes:
    """The probes of one setting, fitted once, and the anchors all methods share.

    Attributes
    ----------
    chance : float
        Share of the largest class of ``eval``.
    ceiling : float
        Accuracy of ``lda`` on all D neurons (of more than 4,096, on that many drawn ones), also for
        ``qda``, which overfits there.
    random_curves : family -> float64 (R, K)
        Accuracy of nested random rankings; ``random_hits`` (G, K): their mean hits in each sentence.
    classes : bool (C,)
        Those that the ``probe`` split has.
    cluster_of : int (M,)
        Which sentence each ``eval`` item belongs to, 0..G-1; ``weights`` (B, G) resample them.
    """

    data: ProbeData
    fitted: dict[Family, Lda | Qda]
    ks: tuple[int, ...]
    chance: float
    ceiling: float
    ceiling_answers: np.ndarray  # (M,) int: what lda on all neurons says
    ceiling_hits: np.ndarray  # (M,) bool
    random_curves: dict[Family, np.ndarray]
    random_hits: dict[Family, np.ndarray]
    classes: np.ndarray
    cluster_of: np.ndarray
    weights: np.ndarray

    def per_cluster(self, values: np.ndarray) -> np.ndarray:
        """float64 (G, Q): sums of (Q, M) values over the items of each cluster."""
        return cluster_sums(values, self.cluster_of, self.weights.shape[1])

    @cached_property
    def items(self) -> np.ndarray:
        """float64 (G,): the ``eval`` items of each cluster."""
        return self.per_cluster(np.ones(len(self.cluster_of)))[:, 0]


def majority(labels: np.ndarray) -> float:
    """Share of the largest class: what a constant answer scores."""
    return float(np.bincount(labels).max() / len(labels))


def fit_probes(setting: Setting) -> Probes:
    """Both probes on the ``probe`` split, their anchors on ``eval``. Use as ``setting.once(fit_probes)``."""
    seen, held_out = setting.splits["probe"], setting.splits["eval"]
    n_neurons = len(setting.neurons)
    ks = usable_ks(setting.ks, n_neurons)
    data = ProbeData(seen.activations)
    lda = Lda.fit(data, seen.labels, setting.n_classes)
    qda = Qda.fit(data, seen.labels, setting.n_classes)
    fitted: dict[Family, Lda | Qda] = {"lda": lda, "qda": qda}
    everything = lda.log_joint(held_out.activations, data.reference, (len(data.reference),))
    ceiling_answers = everything[0].argmax(axis=-1)
    ceiling_hits = ceiling_answers == held_out.labels
    sentences, cluster_of = np.unique(held_out.sentences, return_inverse=True)
    random_curves: dict[Family, np.ndarray] = {}
    random_hits: dict[Family, np.ndarray] = {}
    for family in FAMILIES:
        probe = fitted[family]
        of_random = (probe.log_joint(held_out.activations, order, ks) for order in setting.random_orders)
        hits = [correct(log_joint, held_out.labels) for log_joint in of_random]  # R of (K, M)
        random_curves[family] = np.stack([one.mean(axis=1) for one in hits])
        random_hits[family] = cluster_sums(np.mean(hits, axis=0), cluster_of, len(sentences))
    return Probes(
        data=data,
        fitted=fitted,
        ks=ks,
        chance=majority(held_out.labels),
        ceiling=float(ceiling_hits.mean()),
        ceiling_answers=ceiling_answers,
        ceiling_hits=ceiling_hits,
        random_curves=random_curves,
        random_hits=random_hits,
        classes=np.isfinite(lda.log_priors),
        cluster_of=cluster_of,
        weights=cluster_weights(len(sentences)),
    )


def keep(trial: Trial) -> dict[Family, np.ndarray]:
    """family -> (K, M, C): the probes' log joint on the top k, on the grid. Use as ``trial.once(keep)``."""
    probes = trial.setting.once(fit_probes)
    held_out = trial.setting.splits["eval"].activations
    return {
        family: probes.fitted[family].log_joint(held_out, trial.ranking.order, probes.ks)
        for family in FAMILIES
    }


def encodes(trial: Trial) -> tuple[Score, ...]:
    """How much of the concept two probes read from the top k neurons, small k counting most.

    Both probes are fitted on the ``probe`` split of the top k neurons and read on ``eval``; the value is
    the area under accuracy over log k. ``probe.auc[lda]`` is a linear family, ``probe.auc[qda]`` a Gaussian
    one, ``encodes`` the mean of the two, which halves the home advantage of rankers built like a probe.

    Returns
    -------
    tuple of Score
        Accuracies in [0, 1], higher is better, sentence-clustered interval with the ranking held fixed.
        ``normalised``: 0 = the shared random rankings, 1 = ``lda`` on all neurons; above 1 where few
        neurons beat all. None where all neurons are not clearly better than random ones.
        ``details``: the random curve, the band of the middle 95 % of the random rankings and, per k, macro-F1 (over
        the classes of the ``probe`` split) and mutual information in bits; ``home``: own family minus the other,
        what a ranker built like it gains at home.
        Where ties decide who is in the top k, the one seeded tie-break is scored, and flagged.

    References
    ----------
    Antverg & Belinkov, ICLR 2022 (why more than one probe); Torroba Hennigen et al., EMNLP 2020; Dalvi et
    al., AAAI 2019 (keep-top-k curves).
    """
    probes = trial.setting.once(fit_probes)
    hits: dict[Family, np.ndarray] = {}
    extra: dict[Family, dict[str, list[float | None]]] = {}
    held_out = trial.setting.splits["eval"]
    for family in FAMILIES:
        log_joint = trial.once(keep)[family]
        hits[family] = probes.per_cluster(correct(log_joint, held_out.labels))
        counts = confusion(log_joint.argmax(axis=-1), held_out.labels, trial.setting.n_classes)
        extra[family] = {
            "macro_f1": _plain(macro_f1(counts, probes.classes)),
            "information_bits": _plain(mutual_information(log_joint, held_out.labels)),
        }
    separate = []
    for family in FAMILIES:
        score = _score(trial, f"probe.auc[{family}]", hits[family], probes.random_curves[family])
        clusters = {"hits": hits[family], "items": probes.items}
        separate.append(replace(score, clusters=clusters, details={**score.details, **extra[family]}))
    mean_hits = np.mean([hits[family] for family in FAMILIES], axis=0)
    mean_random = np.mean([probes.random_curves[family] for family in FAMILIES], axis=0)
    both = _score(trial, "encodes", mean_hits, mean_random)
    linear, gaussian = (score.value for score in separate)
    home = {"lda": linear - gaussian, "qda": gaussian - linear}
    return (replace(both, details={**both.details, "home": home}), *separate)


def _plain(values: np.ndarray) -> list[float | None]:
    """For JSON: None where a value is not a number, e.g. the information on a class the probe never saw."""
    return [float(value) if np.isfinite(value) else None for value in values]


def _score(trial: Trial, name: str, hits: np.ndarray, random_curves: np.ndarray) -> Score:
    """The area under ``hits`` (G, K) per item, with anchors from ``random_curves`` (R, K)."""
    probes = trial.setting.once(fit_probes)
    items = probes.items
    curve = hits.sum(axis=0) / items.sum()
    value = float(log_auc(probes.ks, curve))
    area = partial(area_of_ratios, ks=probes.ks)
    interval = bootstrap(np.column_stack([hits, items]), area, probes.weights)
    random_areas = log_auc(probes.ks, random_curves)
    random, random_se = mean_and_se(random_areas)
    top = bootstrap(np.column_stack([probes.per_cluster(probes.ceiling_hits), items]), _ratio, probes.weights)
    normalised = normalise(value, random, probes.ceiling, float(np.hypot(top.se or 0.0, random_se)))
    tie_fraction, flags = tie_report(trial.ranking, probes.ks)
    if normalised is None:
        flags += ("all neurons are not clearly better than random ones: the task tells no rankings apart",)
    return Score(
        id=name,
        value=value,
        unit="accuracy",
        direction=1,
        se=interval.se,
        ci95=interval.ci95,
        n_items=len(probes.cluster_of),
        n_clusters=len(items),
        chance=probes.chance,
        ceiling=probes.ceiling,
        normalised=normalised,
        k=probes.ks,
        curve=tuple(curve.tolist()),
        tie_fraction=tie_fraction,
        flags=flags,
        details={
            "random": random,
            "random_se": random_se,
            "random_curve": random_curves.mean(axis=0).tolist(),
            "random_band": middle(random_curves),
        },
    )


def _ratio(sums: np.ndarray) -> np.ndarray:
    return sums[:, 0] / sums[:, -1]
