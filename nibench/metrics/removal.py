"""The rest of a ranking's curves: a probe without the top k neurons, on the last k, on random ones.

Without the top k: their neurons are taken out of a probe of all D. In the inverse covariance that is a Schur
complement on the k that leave, so one inverse serves all methods, and one Cholesky factor of a k by k block
every k of a ranking.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Literal

import numpy as np
from scipy.linalg import cho_solve, solve_triangular

from nibench.metrics.curves import area_of_ratios, log_auc, mean_and_se, tie_report
from nibench.metrics.probing import FAMILIES, Probes, fit_probes, keep
from nibench.metrics.trial import Score, Setting, Trial
from nibench.probes import MAX_NEURONS, ROWS, Family, Lda, Qda, cholesky_of, correct
from nibench.uncertainty import bootstrap

MAX_NUMBERS = 2**27  # in float64 at a time, for all inverses and what they say of the held-out items
MAX_INVERTED = 2048  # neurons for one inverse a class


@dataclass(frozen=True, eq=False)
class Inverse:
    """The inverse (D, D) of one covariance of all D neurons, and half the log of its determinant."""

    precision: np.ndarray
    log_volume: float

    @classmethod
    def of(cls, covariance: np.ndarray) -> "Inverse":
        factor = cholesky_of(covariance)
        precision = cho_solve((factor, True), np.eye(len(factor)), overwrite_b=True, check_finite=False)
        return cls(precision, float(np.log(np.diag(factor)).sum()))

    def factor(self, neurons: np.ndarray) -> np.ndarray:
        """float64 (k, k): what leaves with these neurons, one after the other, comes from this factor."""
        return cholesky_of(self.precision[np.ix_(neurons, neurons)])


def _leaving(factor: np.ndarray, pulled: np.ndarray) -> np.ndarray:
    """float64 (k, n): of vectors already multiplied by the precision (n, k), what each neuron takes away."""
    return solve_triangular(factor, pulled.T, lower=True, check_finite=False)


@dataclass(frozen=True, eq=False)
class LdaWithout:
    """The linear probe of all neurons, from which the first of a ranking can be taken."""

    probe: Lda
    inverse: Inverse
    items: np.ndarray  # (M, D): precision times each held-out item
    means: np.ndarray  # (C, D): precision times each class mean
    products: np.ndarray  # (M, C): item times precision times mean
    norms: np.ndarray  # (C,): mean times precision times mean

    @classmethod
    def of(cls, probe: Lda, held_out: np.ndarray) -> "LdaWithout":
        everything = np.arange(held_out.shape[1])
        priors = np.exp(probe.log_priors)
        within = probe.data.products(everything) - (probe.means.T * priors) @ probe.means
        inverse = Inverse.of(probe.shrinkage.apply(within))
        means = probe.means @ inverse.precision
        norms = np.einsum("cd,cd->c", probe.means, means)
        items = np.empty(held_out.shape)
        for start in range(0, len(items), ROWS):
            rows = slice(start, start + ROWS)
            items[rows] = probe.data.standardize(held_out[rows], everything) @ inverse.precision
        return cls(probe, inverse, items, means, items @ probe.means.T, norms)

    def log_joint(self, order: np.ndarray, ks: Sequence[int]) -> np.ndarray:
        """float64 (K, M, C): log p(class, item) without the first k, up to a constant per item."""
        neurons = order[: max(ks)]
        factor = self.inverse.factor(neurons)
        items, means = _leaving(factor, self.items[:, neurons]), _leaving(factor, self.means[:, neurons])
        result = np.empty((len(ks), *self.products.shape))
        products, norms = self.products, self.norms
        for i, (first, k) in enumerate(pairwise((0, *ks))):
            products = products - items[first:k].T @ means[first:k]
            norms = norms - np.square(means[first:k]).sum(axis=0)
            result[i] = products - 0.5 * norms + self.probe.log_priors
        return result


@dataclass(frozen=True, eq=False)
class QdaWithout:
    """The Gaussian probe of all neurons, from which the first of a ranking can be taken."""

    probe: Qda
    inverses: dict[int, Inverse]  # class -> of its covariance
    items: dict[int, np.ndarray]  # class -> (M, D): precision times each held-out item minus the mean
    distances: dict[int, np.ndarray]  # class -> (M,): of each item from the mean

    @classmethod
    def of(cls, probe: Qda, held_out: np.ndarray) -> "QdaWithout":
        everything = np.arange(held_out.shape[1])
        fitted = probe.data.standardize(probe.data.activations, everything)
        held = probe.data.standardize(held_out, everything)
        found = cls(probe, {}, {}, {})
        for label in np.flatnonzero(np.isfinite(probe.log_priors)).tolist():
            mean = probe.means[label]
            residuals = fitted[probe.labels == label] - mean
            covariance = residuals.T @ residuals / len(residuals)
            found.inverses[label] = Inverse.of(probe.shrinkages[label].apply(covariance))
            found.items[label] = (held - mean) @ found.inverses[label].precision
            found.distances[label] = np.einsum("nd,nd->n", held - mean, found.items[label])
        return found

    def log_joint(self, order: np.ndarray, ks: Sequence[int]) -> np.ndarray:
        """float64 (K, M, C): log p(class, item) without the first k, up to a constant."""
        neurons = order[: max(ks)]
        n_items = len(next(iter(self.distances.values())))
        result = np.full((len(ks), n_items, len(self.probe.means)), -np.inf)
        for label, inverse in self.inverses.items():
            factor = inverse.factor(neurons)
            items, widths = _leaving(factor, self.items[label][:, neurons]), np.log(np.diag(factor))
            distance, volume = self.distances[label], inverse.log_volume
            for i, (first, k) in enumerate(pairwise((0, *ks))):
                distance = distance - np.square(items[first:k]).sum(axis=0)
                volume += widths[first:k].sum()
                result[i, :, label] = self.probe.log_priors[label] - volume - 0.5 * distance
        return result


@dataclass(frozen=True, eq=False)
class Removal:
    """The probes that can lose neurons, and what losing random ones costs.

    Attributes
    ----------
    without : family -> probe
        A family that would take too much memory or time is not there.
    random_curves : family -> float64 (R, K)
        Accuracy without the first k of the shared random rankings.
    """

    without: dict[Family, LdaWithout | QdaWithout]
    random_curves: dict[Family, np.ndarray]


def fit_removal(setting: Setting) -> Removal:
    """Use as ``setting.once(fit_removal)``."""
    probes = setting.once(fit_probes)
    held_out = setting.splits["eval"]
    n_items, n_neurons = held_out.activations.shape
    numbers = n_neurons * (n_neurons + n_items)
    lda, qda = probes.fitted["lda"], probes.fitted["qda"]
    assert isinstance(lda, Lda)
    assert isinstance(qda, Qda)
    without: dict[Family, LdaWithout | QdaWithout] = {}
    if n_neurons <= MAX_NEURONS and numbers <= MAX_NUMBERS:
        without["lda"] = LdaWithout.of(lda, held_out.activations)
    if n_neurons <= MAX_INVERTED and setting.n_classes * numbers <= MAX_NUMBERS:
        without["qda"] = QdaWithout.of(qda, held_out.activations)
    random_curves: dict[Family, np.ndarray] = {
        family: np.stack(
            [
                correct(probe.log_joint(order, probes.ks), held_out.labels).mean(axis=1)
                for order in setting.random_orders
            ]
        )
        for family, probe in without.items()
    }
    return Removal(without, random_curves)


def probe_curves(trial: Trial) -> tuple[Score, ...]:
    """``probe.curve[remove]``, ``[bottom]``, ``[random]``: accuracy without the top k, on the last k, on any k.

    Each is the area over log k of a probe's accuracy on ``eval``, mean of ``lda`` and ``qda`` (its
    ``details`` keep them apart), as ``encodes`` is. Without the top k the probe is fitted to the others anew:
    a flat curve says that the others hold the concept as well, not that the ranking is bad.

    Returns
    -------
    tuple of Score
        Accuracies in [0, 1]. ``remove`` and ``bottom``: lower is better. ``random``: the shared random
        rankings, the same for all methods. No ``remove`` above 4,096 neurons or 1 GiB, ``lda`` alone above 2,048 or
        where the inverses take more than 1 GiB; flagged. ``details``: the contrasts ``keep_minus_bottom``,
        ``keep_minus_random`` and ``random_minus_remove`` (without random neurons minus without the top).
        ``bottom`` is flagged where the last neurons beat random ones by two standard errors: then
        the scores have the wrong sign. ``clusters``: the hits (G, K) of each family and the items (G,).

    References
    ----------
    Dalvi et al., AAAI 2019 (keep and remove, top and bottom); Hooker et al., NeurIPS 2019 (retraining
    without features).
    """
    probes, removal = trial.setting.once(fit_probes), trial.setting.once(fit_removal)
    held_out, order = trial.setting.splits["eval"], trial.ranking.order

    def hits(log_joint: np.ndarray) -> np.ndarray:
        return probes.per_cluster(correct(log_joint, held_out.labels))

    kept = np.mean([hits(log_joint) for log_joint in trial.once(keep).values()], axis=0)
    lasting: dict[Family, np.ndarray] = {
        family: hits(probes.fitted[family].log_joint(held_out.activations, order[::-1], probes.ks))
        for family in FAMILIES
    }
    encodes, random = (_area(probes, one) for one in (kept, _mean(probes.random_hits)))
    ties, tie_flags = tie_report(trial.ranking, probes.ks)
    bottom = _score(probes, "bottom", lasting, -1, keep_minus_bottom=encodes)
    spread = np.hypot(bottom.se or 0.0, mean_and_se(log_auc(probes.ks, _mean(probes.random_curves)))[1])
    if bottom.se is not None and bottom.value > random + 2 * spread:
        bottom = replace(
            bottom, flags=("the last neurons beat random ones: is the sign of the scores right?",)
        )
    scores = [replace(bottom, tie_fraction=ties, flags=tie_flags + bottom.flags)]
    scores += [_score(probes, "random", probes.random_hits, 0, keep_minus_random=encodes)]
    if removal.without:
        rest: dict[Family, np.ndarray] = {
            family: hits(probe.log_joint(order, probes.ks)) for family, probe in removal.without.items()
        }
        of_random = float(log_auc(probes.ks, _mean(removal.random_curves)).mean())
        removed = _score(probes, "remove", rest, -1, random_minus_remove=of_random)
        flags = tie_flags if "qda" in rest else (*tie_flags, "lda only: too much for an inverse a class")
        scores.insert(0, replace(removed, tie_fraction=ties, flags=flags))
    return tuple(scores)


def _mean(of_families: Mapping[Family, np.ndarray]) -> np.ndarray:
    return np.mean(list(of_families.values()), axis=0)


def _area(probes: Probes, hits: np.ndarray) -> float:
    return float(log_auc(probes.ks, hits.sum(axis=0) / probes.items.sum()))


def _score(
    probes: Probes, name: str, hits: dict[Family, np.ndarray], direction: Literal[-1, 0], **contrast: float
) -> Score:
    """The mean of the families; ``contrast``: a name, and what this score is taken from."""
    both, n_items = _mean(hits), probes.items.sum()
    value = _area(probes, both)
    area = partial(area_of_ratios, ks=probes.ks)
    interval = bootstrap(np.column_stack([both, probes.items]), area, probes.weights)
    return Score(
        id=f"probe.curve[{name}]",
        value=value,
        unit="accuracy",
        direction=direction,
        se=interval.se,
        ci95=interval.ci95,
        n_items=int(n_items),
        n_clusters=len(probes.items),
        chance=probes.chance,
        k=probes.ks,
        curve=tuple((both.sum(axis=0) / n_items).tolist()),
        clusters={**hits, "items": probes.items},
        details={
            **{family: (one.sum(axis=0) / n_items).tolist() for family, one in hits.items()},
            **{which: whole - value for which, whole in contrast.items()},
        },
    )
