"""Cross-model analysis: what the neurons of two models on the same items have in common.

Activations are standardised and freed of covariates on the fly, a block of rows at a time in float64; what is
kept are matrices of neurons by neurons.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import linalg

from nibench.errors import InputError
from nibench.method import Observations
from nibench.moments import ROW_BLOCK

LAGS = 20  # rows apart up to which neighbouring items are taken to depend on each other
NOTHING_LEFT = 1e-9  # share of a neuron's variance under which the covariates explain it all


@dataclass(frozen=True, eq=False)
class Matches:
    """The neuron most like each of D neurons, in each of M other models.

    Attributes
    ----------
    correlations : float64 (M, D)
        Pearson correlation with the best partner, signed; 0 for constant neurons.
    partners : int (M, D)
        The partner's column in the other model.
    null : float64 (M, D)
        What the best of as many unrelated neurons reaches by chance, at most 1: `chance_level`.
    """

    correlations: np.ndarray
    partners: np.ndarray
    null: np.ndarray


@dataclass(frozen=True, eq=False)
class Directions:
    """Directions in the space of D neurons that other models share, the most shared first.

    Attributes
    ----------
    directions : float64 (D, K)
        Weights on the standardised (or centred) neurons; the weighted sum has deviation 1.
    correlations : float64 (K,)
        Canonical correlation of each direction with its partner in the other model.
    models : int (K,)
        Which of the other models that is.
    loadings : float64 (D, K)
        Correlation of each neuron with each direction.
    components : tuple of int
        How many principal components hold the variance asked for: in this model, then in each other one.
    """

    directions: np.ndarray
    correlations: np.ndarray
    models: np.ndarray
    loadings: np.ndarray
    components: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Standardised:
    """Activations (N, D) seen with mean 0 and deviation 1 for each neuron, blocks of rows at a time.

    Parameters
    ----------
    activations : float (N, D)
    covariates : float (N, K)
        What is taken out of every neuron by least squares; (N, 0) for nothing.
    scaled : bool
        False keeps each neuron's own deviation.

    Neurons that are constant, or that the covariates explain wholly, are 0.
    """

    activations: np.ndarray
    covariates: np.ndarray
    scaled: bool = True

    @cached_property
    def _basis(self) -> np.ndarray:
        """(N, K') float64: orthonormal columns that span the centred covariates."""
        centred = self.covariates - self.covariates.mean(axis=0, dtype=np.float64)
        centred = centred / np.maximum(np.abs(centred).max(axis=0, initial=0.0), 1e-300)
        left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
        return left[:, sizes > 1e-9 * sizes.max(initial=0.0)]

    @cached_property
    def _fit(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Means (D,), slopes (K', D) on the basis, and standard deviations (D,) of what is left."""
        mean = self.activations.mean(axis=0, dtype=np.float64)
        slopes = np.zeros((self._basis.shape[1], len(mean)))
        squares = np.zeros_like(mean)
        for rows in self.row_blocks():
            centred = self.activations[rows] - mean
            slopes += self._basis[rows].T @ centred
            squares += np.square(centred).sum(axis=0)
        left = squares - np.square(slopes).sum(axis=0)
        constant = self.activations.min(axis=0) == self.activations.max(axis=0)
        dead = constant | (left <= NOTHING_LEFT * squares)
        return mean, slopes, np.sqrt(np.where(dead, np.inf, left / len(self.activations)))

    @property
    def deviation(self) -> np.ndarray:
        """(D,) float64: the standard deviation of what is left of each neuron; inf where nothing is."""
        return self._fit[2]

    @property
    def n_items(self) -> int:
        """N."""
        return len(self.activations)

    def row_blocks(self) -> Iterator[slice]:
        """The rows, a block at a time."""
        for start in range(0, self.n_items, ROW_BLOCK):
            yield slice(start, min(start + ROW_BLOCK, self.n_items))

    def block(self, rows: slice) -> np.ndarray:
        """(n, D) float64: these rows."""
        mean, slopes, deviation = self._fit
        left = self.activations[rows] - mean - self._basis[rows] @ slopes
        if self.scaled:
            return left / deviation
        return np.where(np.isfinite(deviation), left, 0.0)

    @cached_property
    def gram(self) -> np.ndarray:
        """(D, D) float64: correlations of the neurons with each other (covariances if not scaled)."""
        return products(self, self)


def across_models(
    data: Observations, *, partial: bool, scaled: bool = True
) -> tuple[Standardised, list[Standardised]]:
    """The model that is ranked and the others, standardised; ``partial`` takes the covariates out."""
    covariates = data.covariates if partial else data.covariates[:, :0]
    mine = Standardised(data.activations, covariates, scaled)
    return mine, [Standardised(other, covariates, scaled) for other in data.others]


def products(a: Standardised, b: Standardised) -> np.ndarray:
    """(D, D') float64: mean products of every neuron of ``a`` with every neuron of ``b``."""
    total = np.zeros((len(a.deviation), len(b.deviation)))
    for rows in a.row_blocks():
        left = a.block(rows)
        total += left.T @ (left if a is b else b.block(rows))
    return total / a.n_items


def best_matches(mine: Standardised, others: list[Standardised]) -> Matches:
    """For each neuron the most correlated one, by size, in each other model."""
    correlations, partners, nulls = [], [], []
    for other in others:
        related = np.clip(products(mine, other), -1.0, 1.0)
        best = np.abs(related).argmax(axis=1)
        partners.append(best)
        correlations.append(np.take_along_axis(related, best[:, None], axis=1)[:, 0])
        nulls.append(chance_level(mine, other, best, correlations[-1]))
    return Matches(np.array(correlations), np.array(partners), np.array(nulls))


def chance_level(
    mine: Standardised, other: Standardised, partners: np.ndarray, correlations: np.ndarray
) -> np.ndarray:
    """(D,) float64 in [0, 1]: about what the largest of D' correlations is when nothing is related.

    sqrt(2 ln D' / N_eff). Items of one sentence are not independent: with r_k the autocorrelation of the product
    of a neuron and its partner, k items apart, N_eff = N / (1 + 2 sum_k r_k).

    References
    ----------
    Newey & West, A simple, positive semi-definite, heteroskedasticity and autocorrelation consistent
    covariance matrix, Econometrica 1987; here with equal weights up to 20 items.
    """
    n_lags = min(LAGS, mine.n_items // 4)
    later, square = np.zeros((2, len(partners)))
    for rows in mine.row_blocks():
        ahead = slice(rows.start, rows.stop + n_lags)
        product = mine.block(ahead) * other.block(ahead)[:, partners] - correlations
        n = rows.stop - rows.start
        square += np.square(product[:n]).sum(axis=0)
        for lag in range(1, n_lags + 1):
            shifted = product[lag : lag + n]
            later += np.einsum("nd,nd->d", product[: len(shifted)], shifted)
    dependence = np.divide(2 * later, square, out=np.zeros_like(later), where=square > 0)
    effective = mine.n_items / np.maximum(1 + dependence, 1.0)
    return np.minimum(np.sqrt(2 * np.log(max(len(other.deviation), 2)) / effective), 1.0)


def explained(mine: Standardised, other: Standardised, ridge: float) -> np.ndarray:
    """(D,) float64 in [0, 1]: the share of each neuron's variance that all neurons of the other model explain.

    Least squares over the same items, one Cholesky factor for all neurons. ``ridge`` is added to the
    diagonal of the other model's correlations so that collinear neurons do no harm.

    Raises
    ------
    InputError
        If the ridge is too small for the other model's neurons.
    """
    system = other.gram + ridge * np.eye(len(other.gram))
    across = products(other, mine)
    try:
        factor = linalg.cho_factor(system, overwrite_a=True, check_finite=False)
    except linalg.LinAlgError:
        raise InputError(
            f"ridge={ridge:g} is too small for neurons as collinear as these; try ridge=1e-6."
        ) from None
    return np.clip(np.einsum("ij,ij->j", across, linalg.cho_solve(factor, across)), 0.0, 1.0)


def shared_directions(mine: Standardised, others: list[Standardised], variance: float) -> Directions:
    """SVCCA: principal components that hold ``variance`` of each model, then canonical correlations.

    References
    ----------
    Raghu et al., SVCCA, NeurIPS 2017, section 2. https://arxiv.org/abs/1706.05806
    """
    basis, sizes = _components(mine, variance)
    found, components = [], [len(sizes)]
    for number, other in enumerate(others):
        their_basis, their_sizes = _components(other, variance)
        components.append(len(their_sizes))
        across = (basis / sizes).T @ products(mine, other) @ (their_basis / their_sizes)
        rotation, correlations, _ = linalg.svd(across, full_matrices=False)
        models = np.full(len(correlations), number)
        loadings = (basis * sizes) @ rotation
        if not mine.scaled:
            loadings = loadings / mine.deviation[:, None]
        found.append(((basis / sizes) @ rotation, np.clip(correlations, 0.0, 1.0), models, loadings))
    directions, correlations, models, loadings = (
        np.concatenate(parts, axis=-1) for parts in zip(*found, strict=True)
    )
    order = np.argsort(-correlations, kind="stable")
    return Directions(
        directions[:, order], correlations[order], models[order], loadings[:, order], tuple(components)
    )


def _components(of: Standardised, variance: float) -> tuple[np.ndarray, np.ndarray]:
    """The fewest principal axes (D, K) that hold this share of the variance, and the deviations along them (K,)."""
    values, axes = linalg.eigh(of.gram, check_finite=False)
    values, axes = np.maximum(values[::-1], 0.0), axes[:, ::-1]
    held = np.cumsum(values)
    if held[-1] == 0:
        return axes[:, :0], values[:0]
    n = int(np.searchsorted(held, variance * held[-1] * (1 - 1e-12)) + 1)
    n = min(n, int((values > 1e-12 * values[0]).sum()))
    return axes[:, :n], np.sqrt(values[:n])
