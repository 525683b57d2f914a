"""One exact solver for linear probes: softmax cross-entropy with L1 and squared L2 penalties.

    minimise  mean_n CE(W z_n + b, y_n) + l1 |W|_1 + l2 |W|_2^2       (b is not penalised)

over standardised activations z. The problem is convex, so the weights belong to the data and the penalty,
not to the optimiser: they come with a duality gap, the most by which the objective can still fall.

With an L1 penalty few weights differ from zero. Each step takes the second-order model of the loss over
those weights and the worst violators of optimality, minimises it exactly and searches along the line
(proximal Newton on a working set). Without, it is L-BFGS, in at most N coordinates.

scipy is imported where it is used: `import nibench` stays fast.
"""

from dataclasses import dataclass

import numpy as np

WORKING_SET = 2000  # weights moved at a time: bounds the second-order model to 32 MB


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
    problem = _Problem(standardized, targets, max(2, len(present)))
    lambda_max = problem.lambda_max() if len(present) > 1 else 0.0
    if lambda_max == 0.0:  # one class, or only constant neurons
        return LinearProbe(weights, bias, 0.0, l1, l2, 0.0, 0)
    problem.l1, problem.l2 = l1 * lambda_max, l2 * lambda_max
    first = None if start is None else problem.free(start[present])
    solve = _proximal_newton if l1 > 0 else _lbfgs
    found, offsets, gap, iterations = solve(problem, first, tolerance, max_iterations)
    weights[present], bias[present] = problem.full(found), offsets
    return LinearProbe(weights, bias, lambda_max, l1, l2, gap, iterations)


def cumulative_mass(weights: np.ndarray, precision: float = 1e-6) -> np.ndarray:
    """1 minus the share of a class's absolute weight that lies on heavier neurons: (C, D) -> (C, D).

    The heaviest neuron of a class scores 1, a neuron after which nothing is left close to 0, a zero
    weight exactly 0. Neurons of equal weight score alike; weights closer than ``precision`` times the
    heaviest of the class are equal. A class with no weight at all scores 0.

    References
    ----------
    The ordering of Dalvi et al., AAAI 2019 (https://arxiv.org/abs/1812.09355), without its steps.
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
    np.put_along_axis(score, order, 1 - ahead / np.where(total > 0, total, 1), axis=1)
    return np.where(size > 0, np.clip(score, np.finfo(float).tiny, 1.0), 0.0)


class _Problem:
    """The data of one probe and what can be computed from it at given weights.

    Binary probes have one free row of weights, the difference of the two classes; with more classes every
    class has its own. ``z`` is neuron-major, (D, N): rows of a working set are contiguous.
    """

    l1 = l2 = 0.0

    def __init__(self, standardized: np.ndarray, targets: np.ndarray, n_classes: int) -> None:
        self.z = np.ascontiguousarray(standardized.T, dtype=np.float64)
        self.hot = np.eye(n_classes)[targets].T  # (C, N)
        self.n_items, self.n_classes = len(targets), n_classes
        self.binary = n_classes == 2
        self.rows = 1 if self.binary else n_classes
        self.frequency = self.hot.mean(axis=1)

    @property
    def ridge(self) -> float:
        """The coefficient of the squared free weights: half of l2 if one row stands for two mirrored ones."""
        return self.l2 / 2 if self.binary else self.l2

    def lambda_max(self) -> float:
        return float(np.abs(self.gradient(np.broadcast_to(self.frequency[:, None], self.hot.shape))).max())

    def free(self, weights: np.ndarray) -> np.ndarray:
        return weights[1:] - weights[:1] if self.binary else weights.copy()

    def full(self, free: np.ndarray) -> np.ndarray:
        if self.binary:
            return np.concatenate([-free, free]) / 2
        if self.l2 > 0:
            return free
        middle = np.sort(free, axis=0)[[(self.n_classes - 1) // 2, self.n_classes // 2]]
        return free - np.clip(free.mean(axis=0), middle[0], middle[1])

    def activate(self, free: np.ndarray) -> np.ndarray:
        """The logits without bias, (C, N); reads only neurons that have a weight."""
        used = np.flatnonzero(free.any(axis=0))
        few = 2 * used.size < len(self.z)  # else copying them costs more than it saves
        rows = free[:, used] @ self.z[used] if few else free @ self.z
        return np.concatenate([np.zeros_like(rows), rows]) if self.binary else rows

    def gradient(self, probability: np.ndarray) -> np.ndarray:
        """Gradient of the mean loss by the free weights, (rows, D), from (C, N) probabilities."""
        residual = (probability - self.hot)[-self.rows :]
        return (self.z @ residual.T).T / self.n_items

    def loss(self, logits: np.ndarray) -> float:
        highest = logits.max(axis=0)
        log_total = np.log(np.exp(logits - highest).sum(axis=0)) + highest
        return float((log_total - (logits * self.hot).sum(axis=0)).mean())

    def penalty(self, free: np.ndarray) -> float:
        return self.l1 * float(np.abs(free).sum()) + self.ridge * float(np.square(free).sum())

    def settle_bias(self, logits: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The best bias for these logits and the probabilities, (C,) and (C, N), by Newton's method."""
        for _ in range(50):
            p = _softmax(logits + bias[:, None])
            slope = p.mean(axis=1) - self.frequency
            if np.abs(slope).max() < 1e-15:
                break
            curvature = np.diag(p.mean(axis=1) + 1e-12) - p @ p.T / self.n_items
            step = np.zeros_like(bias)
            step[1:] = np.linalg.solve(curvature[1:, 1:], slope[1:])
            largest = np.abs(step).max()
            bias = bias - step / max(1.0, largest)  # damped: a saturated class has no curvature
            if largest < 1e-13:
                break
        return bias, _softmax(logits + bias[:, None])

    def gap(self, objective: float, probability: np.ndarray, gradient: np.ndarray) -> float:
        """Objective minus a dual lower bound, as a share of the objective at zero weights."""
        steepest = float(np.abs(gradient).max())
        scale = 1.0 if self.l2 > 0 else min(1.0, self.l1 / steepest if steepest else 1.0)
        mixed = self.hot + scale * (probability - self.hot)
        bound = _entropy(mixed) / self.n_items
        if self.l2 > 0:
            excess = np.square(np.maximum(np.abs(gradient) - self.l1, 0)).sum()
            bound -= float(excess) / (4 * self.ridge)
        return (objective - bound) / _entropy(self.frequency)


def _entropy(p: np.ndarray) -> float:
    """Summed over all entries, in nats."""
    return -float((p * np.log(np.where(p > 0, p, 1.0))).sum())


def _softmax(logits: np.ndarray) -> np.ndarray:
    grown = np.exp(logits - logits.max(axis=0))
    return grown / grown.sum(axis=0)


_Solution = tuple[np.ndarray, np.ndarray, float, int]


def _proximal_newton(
    problem: _Problem, start: np.ndarray | None, tolerance: float, max_iterations: int
) -> _Solution:
    free = np.zeros((problem.rows, len(problem.z))) if start is None else start
    logits, prior = problem.activate(free), np.log(problem.frequency)
    objective, nothing = np.inf, _entropy(problem.frequency)
    while objective > 2 * nothing:  # far out the loss has no curvature: come closer
        bias, p = problem.settle_bias(logits, prior)
        objective = problem.loss(logits + bias[:, None]) + problem.penalty(free)
        if objective > 2 * nothing:
            free, logits = free / 2, logits / 2
    gap, iteration = np.inf, 0
    for iteration in range(max_iterations + 1):
        gradient = problem.gradient(p)
        gap = problem.gap(objective, p, gradient)
        if gap <= tolerance or iteration == max_iterations:
            break
        chosen = _working_set(problem, free, gradient)
        target = _minimise_model(problem, free, gradient, p, chosen)
        step = np.zeros_like(free)
        step.ravel()[chosen] = target - free.ravel()[chosen]
        moved = problem.activate(step)
        length, trial = 1.0, objective
        for _ in range(30):
            new_free = free + length * step
            new_logits = logits + length * moved
            new_bias, new_p = problem.settle_bias(new_logits, bias)
            trial = problem.loss(new_logits + new_bias[:, None]) + problem.penalty(new_free)
            if trial < objective:
                break
            length /= 2
        else:
            break  # no descent left at this precision
        new_free[np.abs(new_free) < 1e-15] = 0.0
        free, logits, bias, p, objective = new_free, new_logits, new_bias, new_p, trial
    return free, bias, gap, iteration


def _working_set(problem: _Problem, free: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """Flat ids of the weights to move next: those not zero, and the worst violators among the rest."""
    slope = gradient + 2 * problem.ridge * free
    violation = np.where(
        free != 0, np.abs(slope + problem.l1 * np.sign(free)), np.maximum(np.abs(slope) - problem.l1, 0)
    ).ravel()
    support, falling = np.flatnonzero(free), np.argsort(-violation, kind="stable")
    if support.size >= WORKING_SET:
        return np.sort(falling[:WORKING_SET])
    room = min(max(200, support.size), WORKING_SET - support.size)
    worst = falling[(free.ravel()[falling] == 0) & (violation[falling] > 0)][:room]
    return np.sort(np.concatenate([support, worst]))


def _minimise_model(
    problem: _Problem, free: np.ndarray, gradient: np.ndarray, p: np.ndarray, chosen: np.ndarray
) -> np.ndarray:
    """New values of the chosen weights: the minimum of the second-order model plus the penalty."""
    row, neuron = np.divmod(chosen, len(problem.z))
    row = row + (problem.n_classes - problem.rows)  # the class each weight belongs to
    values = problem.z[neuron]  # (S, N)
    shares = p[row]
    weighted = shares * values
    hessian = -(weighted @ weighted.T)
    for label in np.unique(row):
        own = np.flatnonzero(row == label)
        block = slice(own[0], own[-1] + 1)  # chosen ids are sorted, so a class's weights are neighbours
        hessian[block, block] += weighted[block] @ values[block].T
    cross = -(weighted @ p[1:].T)  # (S, C - 1): the bias of class 0 is fixed
    for label in range(1, problem.n_classes):
        own = row == label
        cross[own, label - 1] += weighted[own].sum(axis=1)
    corner = np.diag(p[1:].sum(axis=1)) - p[1:] @ p[1:].T
    # The bias follows the weights: eliminate it from the model.
    hessian -= cross @ np.linalg.lstsq(corner, cross.T, rcond=None)[0]
    hessian /= problem.n_items
    hessian[np.diag_indices_from(hessian)] += 2 * problem.ridge + 1e-9 * (hessian.diagonal().max() + 1e-300)
    now = free.ravel()[chosen]
    slope = gradient.ravel()[chosen] + 2 * problem.ridge * now
    return _quadratic_lasso(hessian, slope, now, problem.l1)


def _quadratic_lasso(hessian: np.ndarray, slope: np.ndarray, now: np.ndarray, l1: float) -> np.ndarray:
    """Minimise ``slope'(w - now) + (w - now)' hessian (w - now) / 2 + l1 |w|_1``.

    Coordinate descent finds the signs; once they settle, the linear system they imply is solved and its
    solution followed up to the first change of sign. Both steps only descend, and a solution that keeps
    its signs and leaves no zero weight wanting to move is the minimum.
    """
    from scipy.linalg import LinAlgError, cho_factor, cho_solve

    w, diagonal = now.copy(), hessian.diagonal().copy()
    residual = slope.copy()  # slope of the model at w
    accuracy = 1e-12 * (np.abs(slope).max() + l1)
    signs = np.sign(w)
    for sweep in range(500):
        for j in np.flatnonzero((w != 0) | (np.abs(residual) > l1)):
            pull = w[j] - residual[j] / diagonal[j]
            moved = np.sign(pull) * max(abs(pull) - l1 / diagonal[j], 0.0)
            if moved != w[j]:
                residual += (moved - w[j]) * hessian[j]
                w[j] = moved
        before, signs = signs, np.sign(w)
        if not np.array_equal(before, signs) and sweep % 10 < 9:
            continue  # the signs are not settled: a solution for them would be thrown away
        support = np.flatnonzero(w)
        if not support.size:
            break
        try:
            factor = cho_factor(hessian[np.ix_(support, support)], check_finite=False)
        except LinAlgError:
            continue
        step = -cho_solve(factor, residual[support] + l1 * signs[support], check_finite=False)
        crossing = np.flatnonzero(w[support] * (w[support] + step) < 0)
        lengths = -w[support[crossing]] / step[crossing]
        w[support] += min(1.0, lengths.min(initial=1.0)) * step
        if crossing.size:
            w[support[crossing[np.argmin(lengths)]]] = 0.0
        residual = slope + hessian @ (w - now)
        wanting = np.where(w != 0, np.abs(residual + l1 * np.sign(w)), np.maximum(np.abs(residual) - l1, 0))
        if wanting.max(initial=0.0) <= accuracy:
            break
    return w


def _lbfgs(problem: _Problem, start: np.ndarray | None, tolerance: float, max_iterations: int) -> _Solution:
    from scipy.optimize import minimize

    original, basis = problem.z, None
    if problem.n_items < len(original):  # a squared penalty keeps the weights in the span of the items
        basis, problem.z = np.linalg.qr(original)
    shape = (problem.rows, len(problem.z))
    bias, gap = np.log(problem.frequency), np.inf

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal bias, gap
        free = flat.reshape(shape)
        logits = problem.activate(free)
        bias, p = problem.settle_bias(logits, bias)
        objective = problem.loss(logits + bias[:, None]) + problem.penalty(free)
        gradient = problem.gradient(p)
        gap = problem.gap(objective, p, gradient)
        return objective, (gradient + 2 * problem.ridge * free).ravel()

    def stop(_: np.ndarray) -> None:
        if gap <= tolerance:
            raise StopIteration

    first = np.zeros(shape) if start is None else (start if basis is None else start @ basis)
    options = {"maxiter": 10 * max_iterations, "maxcor": 30, "ftol": 0.0, "gtol": 0.0}
    found = minimize(value, first.ravel(), jac=True, method="L-BFGS-B", callback=stop, options=options)
    value(found.x)  # the last trial of a line search need not be the point it ends at
    problem.z, free = original, found.x.reshape(shape)
    if basis is not None:
        free = np.where(original.any(axis=1), free @ basis.T, 0.0)  # constant neurons: exactly 0
    return free, bias, gap, int(found.nit)
