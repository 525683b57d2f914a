"""What else is known of the top neurons: errors by class and bits at one k, and a trained linear probe's word.

The accuracy curves stand in ``probing``; the one k is the top 1 % of neurons (at least 10).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from nibench.metrics.curves import (
    area_of_ratios,
    log_auc,
    mean_and_se,
    normalise,
    set_size,
    tie_report,
    usable_ks,
)
from nibench.metrics.probing import FAMILIES, Probes, fit_probes
from nibench.metrics.trial import Score, Setting, Trial
from nibench.probes import (
    Family,
    Lda,
    ProbeData,
    Qda,
    confusion,
    correct,
    entropy_bits,
    log_posterior,
    macro_f1,
    mutual_information,
)
from nibench.uncertainty import bootstrap

ITEMS_PER_NEURON = 10  # of the smallest class, under which a covariance a class is not to be trusted
LOGISTIC_KS = (1, 8, 64)  # and the largest k of the grid


def prefixes(setting: Setting) -> tuple[int, ...]:
    """1, 2, 4 ... and the k of these metrics."""
    k = set_size(len(setting.neurons))
    return usable_ks([*(2**power for power in range(k.bit_length())), k], k)


def at_top(trial: Trial) -> dict[Family, np.ndarray]:
    """family -> (P, M, C): log joint on each of ``prefixes``, on ``eval``. Use as ``trial.once(at_top)``."""
    probes = trial.setting.once(fit_probes)
    held_out, ks = trial.setting.splits["eval"].activations, prefixes(trial.setting)
    return {family: probes.fitted[family].log_joint(held_out, trial.ranking.order, ks) for family in FAMILIES}


def cells(probes: Probes, answers: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """int32 (G, C, C): the confusion counts of each cluster, from answers (M,)."""
    n_classes, n_clusters = len(probes.classes), len(probes.items)
    flat = (probes.cluster_of * n_classes + labels) * n_classes + answers
    counts = np.bincount(flat, minlength=n_clusters * n_classes**2)
    return counts.reshape(n_clusters, n_classes, n_classes).astype(np.int32)


def random_at_top(setting: Setting) -> dict[Family, np.ndarray]:
    """family -> (R, M, C): the same of the shared random rankings, at the largest prefix."""
    probes, held_out = setting.once(fit_probes), setting.splits["eval"].activations
    k = prefixes(setting)[-1]
    return {
        family: np.stack(
            [probes.fitted[family].log_joint(held_out, order, (k,))[0] for order in setting.random_orders]
        )
        for family in FAMILIES
    }


def class_errors(trial: Trial) -> Score:
    """``probe.f1``: macro-F1 of the linear probe on the top 1 % of neurons (at least 10), on ``eval``.

    Returns
    -------
    Score
        In [0, 1], higher is better: F1 averaged over the classes of the ``probe`` split, 0 for one that is
        never right. Chance: always the largest class. ``normalised``: 0 = the shared random rankings, 1 =
        the same probe on all neurons. ``details``: F1 of each class, and the Gaussian probe's macro-F1.
        ``clusters``: confusion counts (G, C, C), classes in rows, answers in columns.
    """
    setting = trial.setting
    probes, labels = setting.once(fit_probes), setting.splits["eval"].labels
    classes, n_classes, k = probes.classes, setting.n_classes, prefixes(setting)[-1]
    joints = {family: log_joint[-1] for family, log_joint in trial.once(at_top).items()}
    counts = cells(probes, joints["lda"].argmax(axis=1), labels)

    def formula(sums: np.ndarray) -> np.ndarray:
        return macro_f1(sums.reshape(-1, n_classes, n_classes), classes)

    whole = counts.sum(axis=0)
    value = float(macro_f1(whole, classes))
    interval = bootstrap(counts.reshape(len(counts), -1), formula, probes.weights)
    everything = cells(probes, probes.ceiling_answers, labels)
    ceiling = float(macro_f1(everything.sum(axis=0), classes))
    ceiling_se = bootstrap(everything.reshape(len(counts), -1), formula, probes.weights).se or 0.0
    of_random = confusion(setting.once(random_at_top)["lda"].argmax(axis=-1), labels, n_classes)
    random, random_se = mean_and_se(macro_f1(of_random, classes))
    constant = confusion(np.full(len(labels), np.bincount(labels).argmax()), labels, n_classes)
    gaussian = confusion(joints["qda"].argmax(axis=1), labels, n_classes)
    tie_fraction, flags = tie_report(trial.ranking, (k,))
    return Score(
        id="probe.f1",
        value=value,
        unit="macro-F1",
        direction=1,
        se=interval.se,
        ci95=interval.ci95,
        n_items=len(labels),
        n_clusters=len(counts),
        chance=float(macro_f1(constant, classes)),
        ceiling=ceiling,
        normalised=normalise(value, random, ceiling, float(np.hypot(ceiling_se, random_se))),
        k=(k,),
        tie_fraction=tie_fraction,
        flags=flags,
        clusters={"confusion": counts},
        details={
            "random": random,
            "qda": float(macro_f1(gaussian, classes)),
            "of_class": [float(macro_f1(whole, np.arange(n_classes) == label)) for label in range(n_classes)],
        },
    )


def bits(sums: np.ndarray) -> np.ndarray:
    """(B,): information in bits from sums (B, 1 + C): log2 of the right class's probability, items of each class."""
    return entropy_bits(sums[:, 1:]) + sums[:, 0] / sums[:, 1:].sum(axis=1)


def share_told(sums: np.ndarray) -> np.ndarray:
    """(B,): ``bits`` over the entropy of the classes, from the same sums; NaN where there is one class only."""
    entropy = entropy_bits(sums[:, 1:])
    return np.divide(bits(sums), entropy, out=np.full(len(sums), np.nan), where=entropy > 0)


def chosen_prefix(trial: Trial, family: Family) -> int:
    """The place in ``prefixes`` that tells most inside ``probe``, one half of the sentences judging the other."""
    seen, ks = trial.setting.splits["probe"], prefixes(trial.setting)
    items, n_classes = seen.activations[:, trial.ranking.top(ks[-1])], trial.setting.n_classes
    sentences, sentence_of = np.unique(seen.sentences, return_inverse=True)
    first = np.random.default_rng(trial.setting.seed).permutation(len(sentences))[sentence_of] % 2 == 0
    total = np.zeros(len(ks))
    for half in (first, ~first):
        if not 0 < half.sum() < len(half):
            return len(ks) - 1
        probe = (Lda if family == "lda" else Qda).fit(ProbeData(items[half]), seen.labels[half], n_classes)
        log_joint = probe.log_joint(items[~half], np.arange(ks[-1]), ks)
        total += np.nan_to_num(mutual_information(log_joint, seen.labels[~half]), nan=0.0)
    return int(total.argmax())


def information(trial: Trial) -> tuple[Score, ...] | None:
    """``probe.mi``, ``probe.nmi``, ``probe.bmi``: what the top neurons tell of the concept, in bits.

    ``mi`` is the entropy of the ``eval`` labels minus the cross-entropy of a probe on the top 1 % of neurons
    (at least 10): in expectation a lower bound on the information. The probe is the Gaussian one, or the
    linear one where the smallest class has under ten items a neuron. ``nmi`` is its share of the entropy.
    ``bmi`` is the best such bound over the first 1, 2, 4 ... of these neurons, at least 0: more neurons never
    tell less. The prefix is chosen inside ``probe`` and read on ``eval``, so the best of several is
    not flattered.

    Returns
    -------
    tuple of Score, or None
        ``mi`` in (-inf, H(Y)] and ``bmi`` in [0, H(Y)] bits, ``nmi`` at most 1; higher is better; chance 0;
        ``details``: the family, the entropy, ``mi`` of either family and of random rankings. None where
        ``eval`` has one class, or one that ``probe`` lacks. ``clusters``: by sentence, the sum of log2 of the
        right class's probability (G,) and the items of each class (G, C); those of ``mi`` serve ``nmi``.

    References
    ----------
    Torroba Hennigen et al., EMNLP 2020, section 3; Xu et al., ICLR 2020 (information a family of probes can
    use).
    """
    setting = trial.setting
    probes, labels = setting.once(fit_probes), setting.splits["eval"].labels
    if len(np.unique(labels)) < 2 or not probes.classes[labels].all():
        return None
    ks, joints, of_random = prefixes(setting), trial.once(at_top), setting.once(random_at_top)
    smallest = np.bincount(setting.splits["probe"].labels, minlength=setting.n_classes)[probes.classes].min()
    family: Family = "qda" if smallest >= ITEMS_PER_NEURON * ks[-1] else "lda"
    per_class = probes.per_cluster(labels == np.arange(setting.n_classes)[:, None])  # (G, C)
    log2q = probes.per_cluster(log_posterior(joints[family], labels) / np.log(2))  # (G, P)
    chosen = chosen_prefix(trial, family)
    ceiling = float(entropy_bits(per_class.sum(axis=0)))
    details = {
        "family": family,
        "entropy": ceiling,
        **{one: float(mutual_information(joint[-1:], labels)[0]) for one, joint in joints.items()},
        "random": float(mutual_information(of_random[family], labels).mean()),
    }
    tie_fraction, flags = tie_report(trial.ranking, (ks[-1],))
    if family == "lda":
        flags += (f"lda: the smallest class has under {ITEMS_PER_NEURON} items a neuron",)

    def score(name: str, formula: Callable[[np.ndarray], np.ndarray], at: int, **more: Any) -> Score:
        statistics = np.column_stack([log2q[:, at], per_class])
        interval = bootstrap(statistics, formula, probes.weights)
        return Score(
            id=name,
            value=float(formula(statistics.sum(axis=0)[None])[0]),
            direction=1,
            se=interval.se,
            ci95=interval.ci95,
            n_items=len(labels),
            n_clusters=len(per_class),
            chance=0.0,
            k=(ks[at],),
            tie_fraction=tie_fraction,
            flags=flags,
            details=details,
            **more,
        )

    def arrays(at: int) -> dict[str, np.ndarray]:
        return {"log2q": log2q[:, at], "classes": per_class}

    last = len(ks) - 1
    return (
        score("probe.mi", bits, last, unit="bits", ceiling=ceiling, clusters=arrays(last)),
        score(
            "probe.nmi",
            share_told,
            last,
            unit="share of entropy",
            ceiling=1.0,
        ),
        score(
            "probe.bmi",
            lambda s: np.maximum(bits(s), 0.0),
            chosen,
            unit="bits",
            ceiling=ceiling,
            clusters=arrays(chosen),
        ),
    )


def logistic(trial: Trial) -> Score:
    """``probe.logistic``: a second opinion. Accuracy of a trained linear probe on the first 1, 8, 64 and kmax.

    Logistic regression on z-scored neurons, fitted to ``probe`` by L-BFGS, with the same squared penalty (half a
    squared weight against the summed loss) at every k and for every method, from the weights of the k before.

    Returns
    -------
    Score
        The area over log k of accuracy on ``eval``, in [0, 1], higher is better; chance: the largest class.
        ``details``: ``lda``, the closed-form probe's area on the same k. ``clusters``: hits (G, K), items (G,).
    """
    setting = trial.setting
    probes, seen, held_out = setting.once(fit_probes), setting.splits["probe"], setting.splits["eval"]
    ks = usable_ks([k for k in LOGISTIC_KS if k < probes.ks[-1]] + [probes.ks[-1]], len(setting.neurons))
    top = trial.ranking.top(ks[-1])
    fitted, held = (probes.data.standardize(split.activations, top) for split in (seen, held_out))
    answers = _trained(fitted, seen.labels, held, ks)
    hits = answers == held_out.labels
    per_cluster = probes.per_cluster(hits)
    curve = per_cluster.sum(axis=0) / probes.items.sum()
    statistics = np.column_stack([per_cluster, probes.items])
    interval = bootstrap(statistics, partial(area_of_ratios, ks=ks), probes.weights)
    at = probes.fitted["lda"].log_joint(held_out.activations, top, ks)
    tie_fraction, flags = tie_report(trial.ranking, ks)
    return Score(
        id="probe.logistic",
        value=float(log_auc(ks, curve)),
        unit="accuracy",
        direction=1,
        se=interval.se,
        ci95=interval.ci95,
        n_items=len(held_out.labels),
        n_clusters=len(probes.items),
        chance=probes.chance,
        k=ks,
        curve=tuple(curve.tolist()),
        tie_fraction=tie_fraction,
        flags=flags,
        clusters={"hits": per_cluster, "items": probes.items},
        details={"lda": float(log_auc(ks, correct(at, held_out.labels).mean(axis=1)))},
    )


def _trained(fitted: np.ndarray, labels: np.ndarray, held: np.ndarray, ks: tuple[int, ...]) -> np.ndarray:
    """int (K, M): what logistic regression on the first k columns answers; the only class where there is one."""
    from sklearn.linear_model import LogisticRegression

    if len(np.unique(labels)) < 2:
        return np.full((len(ks), len(held)), labels[0])
    probe = LogisticRegression(C=1.0, tol=1e-4, max_iter=2000, warm_start=True)
    answers = []
    for k in ks:
        if answers:  # the new neurons start at 0
            probe.coef_ = np.pad(probe.coef_, ((0, 0), (0, k - probe.coef_.shape[1])))
        answers.append(probe.fit(fitted[:, :k], labels).predict(held[:, :k]))
    return np.stack(answers)
