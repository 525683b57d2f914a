"""One exact solver for linear probes: softmax cross-entropy with L1 and squared L2 penalties.

    minimise  mean_n CE(W z_n + b, y_n) + l1 |W|_1 + l2 |W|_2^2       (b is not penalised)

over standardised activations z. The problem is convex, so the weights belong to the data and the penalty,
not to the optimiser: they come with a duality gap, the most by which the objective can still fall.

With an L1 penalty few weights differ from zero. Each round takes the second-order model of the loss over
those weights and the worst violators of optimality, of all classes together, goes to its minimum and searches
along the line (proximal Newton on working sets, from larger penalties down). Without, it is Newton's method or,
for many neurons and classes, L-BFGS in at most N coordinates.
"""

from dataclasses import dataclass

import numpy as np

from nibench.solvers import SMOOTH_UP_TO, Problem, lbfgs, proximal_newton


@dataclass(frozen=True, eq=False)
class LinearProbe:
    """A solved probe: the evidence of the linear methods.

    Attributes
    ----------
    weights : float64 (C, D)
        Per standard deviation of the neuron. Two classes mirror each other. Where the L1 penalty leaves
        open how the classes share a neuron, the share with the least squares.
    bias : float64 (C,)
    lambda_max : float
        The smallest L1 weight at which all weights are zero; the penalties are fractions of it.
    l1, l2 : float
        The two penalties as fractions of ``lambda_max``.
    gap : float
        Objective minus a lower bound of the optimum, as a share of the objective at zero weights.
    iterations : int
    """

    weights: np.ndarray
    bias: np.ndarray
    lambda_max: float
    l1: float
    l2: float
    gap: float
    iterations: int

    @property
    def converged(self) -> bool:
        """Whether the gap is below 1e-6."""
        return self.gap < 1e-6


def linear_probe(
    standardized: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    *,
    l1: float = 0.0,
    l2: float = 0.0,
    relative: bool = True,
    start: np.ndarray | None = None,
    tolerance: float = 1e-9,
    max_iterations: int = 200,
) -> LinearProbe:
    """Solve a linear probe.

    Parameters
    ----------
    standardized : float64 (N, D)
        Activations with mean 0 and deviation 1 per neuron; constant neurons all 0 (their weight is 0).
    labels : int (N,)
    l1, l2 : float
        Penalties as fractions of ``lambda_max``; not both 0.
    relative : bool
        False: the penalties are what is added to the mean loss, as they stand.
    start : float64 (C, D), optional
        Weights to start from, zero by default. The solution does not depend on it.
    tolerance : float
        Stop at this duality gap, a share of the objective at zero weights.

    Notes
    -----
    Classes without items take no part and get weights 0; with fewer than two classes all weights are 0.
    """
    if l1 < 0 or l2 < 0 or l1 + l2 == 0:
        raise ValueError(
            f"penalties l1={l1}, l2={l2}; expected fractions of lambda_max, at least one above 0."
        )
    present, targets = np.unique(labels, return_inverse=True)
    weights, bias = np.zeros((n_classes, standardized.shape[1])), np.zeros(n_classes)
    problem = Problem(standardized, targets, max(2, len(present)))
    lambda_max = problem.lambda_max() if len(present) > 1 else 0.0
    if lambda_max == 0.0:  # one class, or only constant neurons
        return LinearProbe(weights, bias, 0.0, l1, l2, 0.0, 0)
    unit = lambda_max if relative else 1.0
    problem.l1, problem.l2 = l1 * unit, l2 * unit
    l1, l2 = problem.l1 / lambda_max, problem.l2 / lambda_max
    first = None if start is None else problem.free(start[present])
    few = problem.rows * standardized.shape[1] ** 2 <= SMOOTH_UP_TO
    solve = proximal_newton if l1 > 0 or few else lbfgs
    found, offsets, gap, iterations = solve(problem, first, tolerance, max_iterations)
    weights[present], bias[present] = problem.full(found), offsets
    return LinearProbe(weights, bias, lambda_max, l1, l2, gap, iterations)


def cumulative_mass(weights: np.ndarray, precision: float = 1e-6, stride: int | None = None) -> np.ndarray:
    """1 minus the share of a class's absolute weight that lies on heavier neurons: (C, D) -> (C, D).

    The heaviest neuron of a class scores 1, a neuron after which nothing is left close to 0, a zero
    weight exactly 0. Neurons of equal weight score alike; weights closer than ``precision`` times the
    heaviest of the class are equal. A class with no weight at all scores 0. With a ``stride`` the share is
    rounded up to the next of so many steps: neurons taken up in one step score alike.

    References
    ----------
    The ordering of Dalvi et al., AAAI 2019 (https://arxiv.org/abs/1812.09355), in the limit of small steps.
    """
    size = np.abs(weights)
    order = np.argsort(-size, axis=1, kind="stable")
    falling = np.take_along_axis(size, order, axis=1)
    ahead = np.cumsum(falling, axis=1) - falling
    tied = np.zeros(falling.shape, dtype=bool)
    tied[:, 1:] = falling[:, :-1] - falling[:, 1:] <= precision * falling[:, :1]
    ahead = np.maximum.accumulate(np.where(tied, 0.0, ahead), axis=1)  # ties share the place of the first
    total = falling.sum(axis=1, keepdims=True)
    score = np.empty_like(size)
    share = ahead / np.where(total > 0, total, 1)
    if stride is not None:
        share = np.where(share > 0, np.floor(stride * share) + 1, 0) / (stride + 1)
    np.put_along_axis(score, order, 1 - share, axis=1)
    return np.where(size > 0, np.clip(score, np.finfo(float).tiny, 1.0), 0.0)
