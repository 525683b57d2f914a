"""Closed-form probes: Gaussian classifiers on every prefix of a ranking, from one Cholesky factor.

The metrics' own probes, never a method's. ``lda`` has one covariance for all classes (a linear probe),
``qda`` one per class (a Gaussian probe). Neurons are z-scored with the statistics of the probe split, so a
neuron's scale means nothing. Covariances are shrunk by Ledoit & Wolf's rule, the intensity taken once from
all D neurons (of more than 4,096, from that many drawn ones) and then kept for every subset: the leading
block of a Cholesky factor is then the factor of the leading block, and one factorisation serves every k.
No optimiser.

Papers: Torroba Hennigen et al., Intrinsic Probing through Dimension Selection, EMNLP 2020 (the Gaussian
probe; its prior, which scales variances down with D, is not used); Ledoit & Wolf, A well-conditioned
estimator for large-dimensional covariance matrices, 2004.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Literal

import numpy as np
from scipy.linalg import LinAlgError, cholesky, solve_triangular
from scipy.special import entr, logsumexp

Family = Literal["lda", "qda"]

ROWS = 4096  # items in float64 at a time, at most
BLOCK = 2**24  # numbers in float64 at a time, at most
MAX_NEURONS = 4096  # a covariance of more neurons does not fit
VARIANCE_FLOOR = 1e-6  # in units of a neuron's total variance


@dataclass(frozen=True)
class Shrinkage:
    """Ledoit-Wolf: ``(1 - intensity) S + intensity * variance * I``, both numbers from all D neurons."""

    intensity: float
    variance: float

    @classmethod
    def from_sums(
        cls, frobenius: float, trace: float, quartic: float, n_items: int, n_neurons: int
    ) -> "Shrinkage":
        """The optimal intensity for a covariance S of centred items x, from three sums.

        Parameters
        ----------
        frobenius, trace : float
            Sum of the squares of S, and sum of its diagonal.
        quartic : float
            Mean over the items of ``|x|**4``.
        """
        variance = trace / n_neurons
        distance = (frobenius - n_neurons * variance**2) / n_neurons
        noise = (quartic - frobenius) / (n_neurons * n_items)
        if distance <= 0 or noise <= 0:
            return cls(0.0, variance)
        return cls(min(noise / distance, 1.0), variance)

    def apply(self, covariance: np.ndarray) -> np.ndarray:
        """The shrunk (k, k) block, with a floor under its diagonal."""
        shrunk = (1 - self.intensity) * covariance
        diagonal = np.diag(shrunk) + self.intensity * self.variance
        np.fill_diagonal(shrunk, np.maximum(diagonal, VARIANCE_FLOOR))
        return shrunk


UNIT_VARIANCE = Shrinkage(1.0, 1.0)  # for a class of one item, which has no covariance


@dataclass(frozen=True, eq=False)
class ProbeData:
    """The activations (N, D) probes are fitted on, and what does not depend on labels, computed once.

    Constant neurons stay in place: they are 0 for every item and tell nothing.
    """

    activations: np.ndarray

    @cached_property
    def reference(self) -> np.ndarray:
        """int (S,): the neurons shrinkage is taken from: all, or 4,096 drawn ones of more than that."""
        n_neurons = self.activations.shape[1]
        if n_neurons <= MAX_NEURONS:
            return np.arange(n_neurons)
        return np.sort(np.random.default_rng(0).choice(n_neurons, size=MAX_NEURONS, replace=False))

    @cached_property
    def _location_and_spread(self) -> tuple[np.ndarray, np.ndarray]:
        total, squares = np.zeros((2, self.activations.shape[1]))
        for rows in self._rows():
            total += self.activations[rows].sum(axis=0, dtype=np.float64)
        mean = total / len(self.activations)
        for rows in self._rows():
            squares += np.square(self.activations[rows] - mean).sum(axis=0)
        constant = self.activations.min(axis=0) == self.activations.max(axis=0)
        spread = np.sqrt(squares / len(self.activations))
        return mean, np.where(constant, np.inf, spread)

    def _rows(self) -> Iterator[slice]:
        step = max(1, min(ROWS, BLOCK // self.activations.shape[1]))
        for start in range(0, len(self.activations), step):
            yield slice(start, start + step)

    def standardize(self, activations: np.ndarray, neurons: np.ndarray) -> np.ndarray:
        """float64 (n, k): the named columns of any split in units of this split's deviation."""
        mean, spread = self._location_and_spread
        return (np.take(activations, neurons, axis=1) - mean[neurons]) / spread[neurons]

    def blocks(self) -> Iterator[tuple[slice, np.ndarray]]:
        """All N items, z-scored in float64, a few thousand rows at a time."""
        mean, spread = self._location_and_spread
        for rows in self._rows():
            yield rows, (self.activations[rows] - mean) / spread

    @cached_property
    def _correlation(self) -> np.ndarray:
        """float64 (S, S): ``products`` of the reference neurons."""
        total = np.zeros((len(self.reference),) * 2)
        for rows in self._rows():
            items = self.standardize(self.activations[rows], self.reference)
            total += items.T @ items
        return total / len(self.activations)

    def products(self, neurons: np.ndarray) -> np.ndarray:
        """float64 (k, k): mean outer product of the z-scored items on these neurons."""
        if len(self.reference) == self.activations.shape[1]:
            return self._correlation[np.ix_(neurons, neurons)]
        if np.array_equal(neurons, self.reference):
            return self._correlation
        items = self.standardize(self.activations, neurons)
        return items.T @ items / len(items)

    def class_means(self, labels: np.ndarray, n_classes: int) -> np.ndarray:
        """float64 (C, D): z-scored class means; 0 for a class without items."""
        sums = np.zeros((n_classes, self.activations.shape[1]))
        members = np.arange(n_classes)[:, None] == labels  # (C, N)
        for rows, items in self.blocks():
            sums += members[:, rows].astype(np.float64) @ items
        return sums / np.maximum(members.sum(axis=1), 1)[:, None]

    def residual_norms(self, labels: np.ndarray, means: np.ndarray) -> np.ndarray:
        """float64 (N,): squared distance of every item from its class mean, over the reference neurons."""
        centres = means[:, self.reference]
        norms = []
        for rows in self._rows():
            items = self.standardize(self.activations[rows], self.reference)
            norms.append(np.square(items - centres[labels[rows]]).sum(axis=1))
        return np.concatenate(norms)


@dataclass(frozen=True, eq=False)
class Lda:
    """One covariance for all classes: a linear probe."""

    data: ProbeData
    means: np.ndarray  # (C, D), z-scored
    log_priors: np.ndarray  # (C,), -inf for a class without items
    shrinkage: Shrinkage

    @classmethod
    def fit(cls, data: ProbeData, labels: np.ndarray, n_classes: int) -> "Lda":
        """Class means, and the shrinkage of the pooled residual covariance of all D neurons."""
        means = data.class_means(labels, n_classes)
        priors = np.bincount(labels, minlength=n_classes) / len(labels)
        centres = means[:, data.reference]
        within = data.products(data.reference) - (centres.T * priors) @ centres
        shrinkage = Shrinkage.from_sums(
            frobenius=float(np.square(within).sum()),
            trace=float(np.trace(within)),
            quartic=float(np.square(data.residual_norms(labels, means)).mean()),
            n_items=len(labels),
            n_neurons=len(data.reference),
        )
        return cls(data, means, _log(priors), shrinkage)

    def log_joint(self, held_out: np.ndarray, order: np.ndarray, ks: Sequence[int]) -> np.ndarray:
        """log p(class, item) on the first k neurons of ``order``, up to a constant per item.

        Parameters
        ----------
        held_out : (M, D)
            Activations, as they come.
        order : int (>= max(ks),)
            Neuron ids, best first.

        Returns
        -------
        float64 (K, M, C)
        """
        neurons = np.asarray(order[: max(ks)])
        priors = np.exp(self.log_priors)
        means = self.means[:, neurons]
        within = self.data.products(neurons) - (means.T * priors) @ means
        factor = cholesky_of(self.shrinkage.apply(within))
        whitened = solve_triangular(factor, means.T, lower=True, check_finite=False)  # (k, C)
        directions = [
            solve_triangular(factor[:k, :k].T, whitened[:k], lower=False, check_finite=False) for k in ks
        ]
        offsets = [self.log_priors - 0.5 * np.square(whitened[:k]).sum(axis=0) for k in ks]
        result = np.empty((len(ks), len(held_out), len(self.means)))
        for start in range(0, len(held_out), ROWS):
            rows = slice(start, start + ROWS)
            items = self.data.standardize(held_out[rows], neurons)
            for i, k in enumerate(ks):
                result[i, rows] = items[:, :k] @ directions[i] + offsets[i]
        return result


@dataclass(frozen=True, eq=False)
class Qda:
    """One covariance for each class: a Gaussian probe."""

    data: ProbeData
    labels: np.ndarray
    means: np.ndarray  # (C, D), z-scored
    log_priors: np.ndarray  # (C,), -inf for a class without items
    shrinkages: tuple[Shrinkage, ...]

    @classmethod
    def fit(cls, data: ProbeData, labels: np.ndarray, n_classes: int) -> "Qda":
        """Class means, and the shrinkage of each class's covariance of all D neurons."""
        means = data.class_means(labels, n_classes)
        norms = data.residual_norms(labels, means)
        shrinkages = []
        for label in range(n_classes):
            members = np.flatnonzero(labels == label)
            if len(members) < 2:
                shrinkages.append(UNIT_VARIANCE)
                continue
            shrinkages.append(
                Shrinkage.from_sums(
                    frobenius=_squared_norm(data, members, means[label]),
                    trace=float(norms[members].mean()),
                    quartic=float(np.square(norms[members]).mean()),
                    n_items=len(members),
                    n_neurons=len(data.reference),
                )
            )
        priors = np.bincount(labels, minlength=n_classes) / len(labels)
        return cls(data, labels, means, _log(priors), tuple(shrinkages))

    def log_joint(self, held_out: np.ndarray, order: np.ndarray, ks: Sequence[int]) -> np.ndarray:
        """float64 (K, M, C), as ``Lda.log_joint``; only the first ``max(ks)`` neurons are factored."""
        neurons = np.asarray(order[: max(ks)])
        items = self.data.standardize(self.data.activations, neurons)
        held = self.data.standardize(held_out, neurons)
        result = np.full((len(ks), len(held), len(self.means)), -np.inf)
        for label in np.flatnonzero(np.isfinite(self.log_priors)):
            mean = self.means[label, neurons]
            residuals = items[self.labels == label] - mean
            factor = cholesky_of(self.shrinkages[label].apply(residuals.T @ residuals / len(residuals)))
            whitener = solve_triangular(factor, np.eye(len(factor)), lower=True, check_finite=False)
            log_widths = np.cumsum(np.log(np.diag(factor)))
            distance = np.zeros(len(held))
            for i, (first, k) in enumerate(pairwise((0, *ks))):  # the neurons that k adds to the set before
                whitened = held[:, :k] @ whitener[first:k, :k].T - whitener[first:k, :k] @ mean[:k]
                distance += np.einsum("nk,nk->n", whitened, whitened)
                result[i, :, label] = self.log_priors[label] - log_widths[k - 1] - 0.5 * distance
        return result


def _log(priors: np.ndarray) -> np.ndarray:
    return np.log(priors, out=np.full(len(priors), -np.inf), where=priors > 0)


def cholesky_of(covariance: np.ndarray) -> np.ndarray:
    try:
        return cholesky(covariance, lower=True, check_finite=False)
    except LinAlgError:  # duplicated neurons where nothing was shrunk
        return cholesky(covariance + VARIANCE_FLOOR * np.eye(len(covariance)), lower=True)


def _squared_norm(data: ProbeData, members: np.ndarray, mean: np.ndarray) -> float:
    """Sum of squares of the covariance of one class, by whichever of its two products is smaller."""
    centre = mean[data.reference]
    if len(members) < len(centre):
        residuals = data.standardize(data.activations[members], data.reference) - centre
        return float(np.square(residuals @ residuals.T).sum()) / len(members) ** 2
    scatter = np.zeros((len(centre),) * 2)
    for start in range(0, len(members), ROWS):
        rows = members[start : start + ROWS]
        residuals = data.standardize(data.activations[rows], data.reference) - centre
        scatter += residuals.T @ residuals
    return float(np.square(scatter).sum()) / len(members) ** 2


def correct(log_joint: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """bool (K, M): whether the likeliest class is the right one, at each k."""
    return log_joint.argmax(axis=-1) == labels


def confusion(predicted: np.ndarray, labels: np.ndarray, n_classes: int) -> np.ndarray:
    """int (..., C, C): how many items of each class (rows) were taken for each class (columns).

    ``predicted`` is (..., M), ``labels`` (M,).
    """
    flat = np.reshape(predicted, (-1, len(labels)))
    cells = labels * n_classes + flat + n_classes**2 * np.arange(len(flat))[:, None]
    counts = np.bincount(cells.ravel(), minlength=len(flat) * n_classes**2)
    return counts.reshape(*np.shape(predicted)[:-1], n_classes, n_classes)


def macro_f1(confusions: np.ndarray, classes: np.ndarray | None = None) -> np.ndarray:
    """float64 (...,): mean F1 over the classes, in [0, 1], from ``confusion`` counts (..., C, C).

    Over all C classes, or those of the mask ``classes`` (C,): a class never seen nor predicted counts 0, so
    that it cannot drop out of the mean unseen.
    """
    hits = np.einsum("...cc->...c", confusions)
    sizes = confusions.sum(axis=-1) + confusions.sum(axis=-2)
    scores = np.divide(2 * hits, sizes, out=np.zeros(hits.shape), where=sizes > 0)
    return scores.mean(axis=-1) if classes is None else scores[..., classes].mean(axis=-1)


def log_posterior(log_joint: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """float64 (K, M): log q(right class | item) in nats, at each k."""
    right = np.take_along_axis(log_joint, labels[None, :, None], axis=-1)[..., 0]
    return right - logsumexp(log_joint, axis=-1)


def mutual_information(log_joint: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """float64 (K,): entropy of the labels minus the probe's cross-entropy, in bits.

    A lower bound on the information in expectation, in (-inf, H(Y)], higher is better; 0 is the
    prior's, negative worse than that. NaN where there is only one class.

    References
    ----------
    Torroba Hennigen et al., EMNLP 2020, section 3.
    """
    if len(np.unique(labels)) < 2:
        return np.full(len(log_joint), np.nan)
    return entropy_bits(np.bincount(labels)) + log_posterior(log_joint, labels).mean(axis=-1) / np.log(2)


def entropy_bits(masses: np.ndarray) -> np.ndarray:
    """float64 (...,): entropy in bits of masses or counts >= 0 (..., C), brought to a sum of 1."""
    shares = np.asarray(masses, dtype=np.float64) / np.sum(masses, axis=-1, keepdims=True)
    return np.asarray(entr(shares).sum(axis=-1) / np.log(2))
