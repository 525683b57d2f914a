"""Greedy selection of neurons under class-conditional Gaussians, exact and incremental.

Each step adds the neuron that most improves the held-out ``log p(class | selected neurons)``. Instead of
fitting a Gaussian to every candidate set, each fold keeps for every class the variance of each neuron given
the selected ones and the residual of each held-out item; a step is then one row of a pivoted Cholesky
decomposition and one pass over the residuals. No (D, D) matrix is ever formed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

REDUNDANT = (
    1e-10  # conditional variance over variance below which a neuron is a function of the selected ones
)
FLOOR = 1e-6  # least variance within a class, as a share of the total variance of the neuron
DOUBLE_UP_TO = 1 << 20  # residuals held in double precision; more are kept in single
CHUNK = 1 << 18  # residuals worked on at a time


@dataclass(frozen=True, eq=False)
class GaussianSelection:
    """The evidence of a greedy Gaussian probe.

    Attributes
    ----------
    order : int (K,)
        The selected neurons, first pick first.
    information : float64 (K,)
        Held-out information in bits about the class after each pick: ``mean log2 p(y | x) - log2 p(y)``.
        Negative where the model is worse than the class frequencies.
    single : float64 (D,)
        The same for each neuron alone; -inf for constant neurons.
    redundant : bool (D,)
        Neurons not selected that are functions of the selected ones.
    n_held_out : int
        Items the selection was judged on.
    """

    order: np.ndarray
    information: np.ndarray
    single: np.ndarray
    redundant: np.ndarray
    n_held_out: int


def greedy_gaussian(
    activations: np.ndarray,
    labels: np.ndarray,
    folds: Iterable[tuple[np.ndarray, np.ndarray]],
    *,
    steps: int,
    shrinkage: float | None,
    rng: np.random.Generator,
    enough: int | None = None,
) -> GaussianSelection:
    """Select neurons one by one by held-out log-likelihood of the class.

    Parameters
    ----------
    activations : float (N, D)
        On any scale: the model is the same after shifting and scaling neurons.
    labels : int (N,)
    folds : pairs of (fit rows, held-out rows)
        Gaussians are fitted in each fold apart; the selection is common to all.
    steps : int
        At most so many neurons; fewer if all the others are redundant.
    shrinkage : float
        A class of n items has covariance ``(n S + shrinkage P) / (n + shrinkage)``: S its own, P the
        one pooled over classes. None: the maximum a posteriori estimate of the paper, which scales the
        class's own covariance by ``n / (n + 2 D + 4)`` and its variances by ``(n + 1) / (n + 2 D + 4)``.
    enough : int, optional
        Folds are held out in turn until so many items were; without it, all.
    rng : Generator
        Breaks exact ties between candidates.

    Notes
    -----
    Held-out items of a class that the fold's fit has not seen are left out.
    """
    n_neurons = activations.shape[1]
    scale = activations.std(axis=0, dtype=np.float64)
    constant = activations.min(axis=0) == activations.max(axis=0)
    scale[constant] = np.inf
    folds = list(folds)
    seen = accumulate((len(held_out) for _, held_out in folds), initial=0)
    folds = [fold for fold, before in zip(folds, seen, strict=False) if enough is None or before < enough]
    fits = [_Fold(activations, labels, scale, fit, held_out, shrinkage) for fit, held_out in folds]
    fits = [fold for fold in fits if fold.n_held_out and len(fold.classes) > 1]
    n_held_out = sum(fold.n_held_out for fold in fits)
    order, information = [], []
    single, usable = np.where(constant, -np.inf, 0.0), ~constant
    prior = sum(fold.prior_log_likelihood for fold in fits)
    for step in range(min(steps, n_neurons) + 1 if fits else 0):
        gain = sum(fold.log_likelihood() for fold in fits) - prior  # (D,) nats over all held-out items
        gain = gain / n_held_out / np.log(2)
        if step == 0:
            single = np.where(constant, -np.inf, gain)
        usable = ~constant & np.logical_and.reduce([fold.usable() for fold in fits])
        usable[order] = False
        if step == steps or not usable.any():
            break
        gain[~usable] = -np.inf
        pick = int(rng.choice(np.flatnonzero(gain == gain.max())))
        order.append(pick)
        information.append(gain[pick])
        for fold in fits:
            fold.select(pick)
    redundant = ~usable & ~constant
    redundant[order] = False
    return GaussianSelection(np.array(order, dtype=int), np.array(information), single, redundant, n_held_out)


class _Fold:
    """One fold: Gaussians fitted to its fit rows, conditioned step by step on the selected neurons."""

    def __init__(
        self,
        activations: np.ndarray,
        labels: np.ndarray,
        scale: np.ndarray,
        fit: np.ndarray,
        held_out: np.ndarray,
        shrinkage: float | None,
    ) -> None:
        self.classes, counts = np.unique(labels[fit], return_counts=True)
        held_out = held_out[np.isin(labels[held_out], self.classes)]
        self.n_held_out = len(held_out)
        self.own = np.searchsorted(self.classes, labels[held_out])
        self.shrinkage, self.counts = shrinkage, counts
        self.base = np.tile(np.log(counts / counts.sum()), (self.n_held_out, 1))  # (H, C) log prior
        self.prior_log_likelihood = float(self.base[np.arange(self.n_held_out), self.own].sum())

        by_class = fit[np.argsort(labels[fit], kind="stable")]
        self.bounds = np.concatenate([[0], np.cumsum(counts)])
        self.centred = (activations[by_class] - activations[fit].mean(axis=0, dtype=np.float64)) / scale
        means = np.stack([rows.mean(axis=0) for rows in self._by_class()])
        for rows, mean in zip(self._by_class(), means, strict=True):
            rows -= mean
        squares = np.stack([np.square(rows).sum(axis=0) for rows in self._by_class()])
        if shrinkage is None:  # the prior's own share of the variances
            squares = squares * (1 + 1 / counts)[:, None]
        self.variance = np.maximum(self._shrunk(squares), FLOOR)  # (C, D), then given the selected
        self.start = self.variance.copy()
        self.rows: list[np.ndarray] = []  # one Cholesky row (C, D) for each selected neuron

        n_classes, n_neurons = means.shape
        entries = self.n_held_out * n_classes * n_neurons
        precision = np.float64 if entries <= DOUBLE_UP_TO else np.float32
        self.residual = np.empty((self.n_held_out, n_classes, n_neurons), dtype=precision)
        offset = means + activations[fit].mean(axis=0, dtype=np.float64) / scale
        for item, row in enumerate(held_out):
            self.residual[item] = activations[row] / scale - offset

    def _by_class(self) -> list[np.ndarray]:
        return [self.centred[a:b] for a, b in zip(self.bounds[:-1], self.bounds[1:], strict=True)]

    def _shrunk(self, scatter: np.ndarray) -> np.ndarray:
        """Class scatters (C, D) to shrunk covariances (C, D)."""
        if self.shrinkage is None:
            return scatter / (self.counts[:, None] + 2 * scatter.shape[1] + 4)
        pooled = scatter.sum(axis=0) / self.counts.sum()
        return (scatter + self.shrinkage * pooled) / (self.counts[:, None] + self.shrinkage)

    def usable(self) -> np.ndarray:
        """bool (D,): not a function of the selected neurons."""
        return np.all(self.variance > REDUNDANT * self.start, axis=0)

    def log_likelihood(self) -> np.ndarray:
        """(D,): sum over held-out items of log p(class | selected neurons and this one), in nats."""
        safe = np.where(self.variance > 0, self.variance, np.inf)
        precision = (0.5 / safe).astype(self.residual.dtype)
        spread = (0.5 * np.log(np.where(self.variance > 0, self.variance, 1.0))).astype(self.residual.dtype)
        base = self.base.astype(self.residual.dtype)
        total = np.zeros(self.residual.shape[2])
        for chunk in self._chunks():
            joint = np.square(self.residual[chunk])
            joint *= precision
            joint += spread
            np.subtract(base[chunk, :, None], joint, out=joint)  # (items, C, D)
            own = joint[np.arange(len(joint)), self.own[chunk]]
            highest = joint.max(axis=1)
            own -= highest
            joint -= highest[:, None]
            np.exp(joint, out=joint)
            own -= np.log(joint.sum(axis=1))
            total += own.sum(axis=0, dtype=np.float64)
        return total

    def select(self, neuron: int) -> None:
        """Condition on one more neuron."""
        scatter = np.stack([rows[:, neuron] @ rows for rows in self._by_class()])
        covariance = self._shrunk(scatter)  # (C, D): row of the neuron
        for row in self.rows:
            covariance -= row[:, neuron, None] * row
        deviation = np.sqrt(self.variance[:, neuron])  # (C,)
        row = covariance / deviation[:, None]
        row[:, neuron] = deviation
        self.rows.append(row)
        standardised = self.residual[:, :, neuron] / deviation  # (H, C)
        self.base -= np.log(deviation) + np.square(standardised, dtype=np.float64) / 2
        standardised, row32 = standardised.astype(self.residual.dtype), row.astype(self.residual.dtype)
        for chunk in self._chunks():
            self.residual[chunk] -= standardised[chunk, :, None] * row32
        self.variance = np.maximum(self.variance - np.square(row), 0.0)

    def _chunks(self) -> Iterable[slice]:
        size = max(1, CHUNK // max(1, self.residual[0].size))
        return (slice(start, start + size) for start in range(0, self.n_held_out, size))
