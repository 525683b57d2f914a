"""The convex problem of a linear probe and its solvers: proximal Newton, and L-BFGS for large smooth ones.

scipy is imported where it is used: `import nibench` stays fast.
"""

import numpy as np

WORKING_SET = 2000  # weights of a class moved at a time: bounds the second-order model to 32 MB
SINGLE_FROM = 1 << 22  # activations; from here on second-order models, never gradients, are of float32
SMOOTH_UP_TO = 1 << 24  # second derivatives of all rows held at a time without an L1 penalty (128 MB)
ROUNDING = 1e-14  # of an objective, in nats
JOINT_BELOW = 5e-3  # gap from which the classes also move together


class Problem:
    """The data of one probe and what can be computed from it at given weights.

    Binary probes have one free row of weights, the difference of the two classes; with more classes every
    class has its own. ``z`` is neuron-major, (D, N): rows of a working set are contiguous.
    """

    l1 = l2 = 0.0

    def __init__(self, standardized: np.ndarray, targets: np.ndarray, n_classes: int) -> None:
        self.z = _transposed(standardized)
        self.light = self.z.astype(np.float32) if self.z.size >= SINGLE_FROM else self.z
        self.varies = self.z.any(axis=1)
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
        p = softmax(logits + bias[:, None])
        for _ in range(50):
            slope = p.mean(axis=1) - self.frequency
            if np.abs(slope).max() < 1e-15:
                break
            curvature = np.diag(p.mean(axis=1) + 1e-12) - p @ p.T / self.n_items
            step = np.zeros_like(bias)
            step[1:] = np.linalg.solve(curvature[1:, 1:], slope[1:])
            largest = np.abs(step).max()
            bias = bias - step / max(1.0, largest)  # damped: a saturated class has no curvature
            p = softmax(logits + bias[:, None])
            if largest < 1e-7:  # squared: what is left after a step of this size
                break
        return bias, p

    def gap(self, objective: float, probability: np.ndarray, gradient: np.ndarray) -> float:
        """Objective minus a dual lower bound, as a share of the objective at zero weights."""
        steepest = float(np.abs(gradient).max())
        scale = 1.0 if self.l2 > 0 else min(1.0, self.l1 / steepest if steepest else 1.0)
        mixed = self.hot + scale * (probability - self.hot)
        bound = entropy(mixed) / self.n_items
        if self.l2 > 0:
            excess = np.square(np.maximum(np.abs(gradient) - self.l1, 0)).sum()
            bound -= float(excess) / (4 * self.ridge)
        return (objective - bound) / entropy(self.frequency)


def _transposed(matrix: np.ndarray) -> np.ndarray:
    """float64 (D, N) from (N, D), a block of rows at a time: several times faster than all at once."""
    turned = np.empty(matrix.shape[::-1])
    for start in range(0, len(matrix), 64):
        turned[:, start : start + 64] = matrix[start : start + 64].T
    return turned


def entropy(p: np.ndarray) -> float:
    """Summed over all entries, in nats."""
    return -float((p * np.log(np.where(p > 0, p, 1.0))).sum())


def softmax(logits: np.ndarray) -> np.ndarray:
    grown = np.exp(logits - logits.max(axis=0))
    return grown / grown.sum(axis=0)


Solution = tuple[np.ndarray, np.ndarray, float, int]
Blocks = dict[int, tuple[np.ndarray, np.ndarray]]  # row -> working set (S,) and second derivatives (S, S)


class _Point:
    """Weights, with the bias that suits them best, the probabilities and the objective."""

    def __init__(self, problem: Problem, free: np.ndarray, logits: np.ndarray, bias: np.ndarray) -> None:
        self.free, self.logits = free, logits
        self.bias, self.p = problem.settle_bias(logits, bias)
        self.objective = problem.loss(logits + self.bias[:, None]) + problem.penalty(free)


def proximal_newton(
    problem: Problem, start: np.ndarray | None, tolerance: float, max_iterations: int
) -> Solution:
    """Weights (rows, D), bias (C,), gap and rounds. A round moves each row of weights in turn.

    Of several classes each round undoes a part of what it did to the others: near the optimum the rows then
    also move together.
    """
    free = np.zeros((problem.rows, len(problem.z))) if start is None else start
    prior = np.log(problem.frequency)
    at = _Point(problem, free, problem.activate(free), prior)
    while at.objective > 2 * entropy(problem.frequency):  # far out the loss has no curvature: come closer
        at = _Point(problem, at.free / 2, at.logits / 2, prior)
    gap, iteration, still = np.inf, 0, False
    blocks: Blocks = {}
    for iteration in range(max_iterations + 1):
        gradient = problem.gradient(at.p)
        earlier, gap = gap, problem.gap(at.objective, at.p, gradient)
        if gap <= tolerance or iteration == max_iterations or (still and gap > earlier / 2):
            break
        before = at.objective
        for row in range(problem.rows):
            at = _row_step(problem, at, row, gradient[row], blocks)
        if problem.rows > 1 and gap < JOINT_BELOW:
            at = _joint_step(problem, _joint_step(problem, at, blocks), blocks)
        still = (
            at.objective >= before - ROUNDING
        )  # the gap may yet fall: it sees more digits than the objective
    return at.free, at.bias, gap, iteration


def _pull(problem: Problem, free: np.ndarray, gradient: np.ndarray) -> np.ndarray:
    """The least subgradient of the objective: zero where a weight is at its best, given the others."""
    return _least_subgradient(free, gradient + 2 * problem.ridge * free, problem.l1)


def _least_subgradient(w: np.ndarray, slope: np.ndarray, l1: float) -> np.ndarray:
    return np.where(w != 0, slope + l1 * np.sign(w), np.sign(slope) * np.maximum(np.abs(slope) - l1, 0))


def _row_step(problem: Problem, at: _Point, row: int, gradient: np.ndarray, blocks: Blocks) -> _Point:
    """Minimise the second-order model of one row's working set, and search along the line to its minimum.

    ``gradient`` (D,) chooses the working set; it may be older than ``at``.
    """
    free, label = at.free[row], row + problem.n_classes - problem.rows
    pull = _pull(problem, free, gradient)
    chosen = _working_set(free, pull) if problem.l1 > 0 else np.flatnonzero(problem.varies)
    if not chosen.size:
        return at
    values = problem.light[chosen]  # (S, N)
    hessian = _hessian(problem, values, at.p[label])
    blocks[row] = chosen, hessian
    slope = gradient[chosen] if row == 0 else values @ (at.p[label] - problem.hot[label]) / problem.n_items
    slope = slope + 2 * problem.ridge * free[chosen]
    step = quadratic_lasso(hessian, slope, free[chosen], problem.l1) - free[chosen]
    moving = np.flatnonzero(step)
    moved = step[moving] @ problem.z[chosen[moving]]
    length = 1.0
    for _ in range(30):
        new_free, logits = at.free.copy(), at.logits.copy()
        new_free[row, chosen] += length * step
        new_free[row, np.abs(new_free[row]) < 1e-15] = 0.0
        logits[label] += length * moved
        trial = _Point(problem, new_free, logits, at.bias)
        if trial.objective < at.objective + ROUNDING * (length == 1):
            return trial
        length /= 2
    return at


def _working_set(free: np.ndarray, pull: np.ndarray) -> np.ndarray:
    """Neurons of one row to move next: those with a weight, and the worst violators among the rest."""
    violation = np.abs(pull)
    support, falling = np.flatnonzero(free), np.argsort(-violation, kind="stable")
    if support.size >= WORKING_SET:
        return np.sort(falling[:WORKING_SET])
    room = min(max(200, support.size // 2), WORKING_SET - support.size)
    worst = falling[(free[falling] == 0) & (violation[falling] > 0)][:room]
    return np.sort(np.concatenate([support, worst]))


def _hessian(problem: Problem, values: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Second derivatives (S, S) by a row's weights; ``values`` (S, N) are its neurons, ``p`` (N,) its class."""
    curvature = p * (1 - p) / problem.n_items
    weighted = np.multiply(values, np.sqrt(curvature), dtype=values.dtype, casting="same_kind")
    hessian = (weighted @ weighted.T).astype(np.float64)
    cross = values @ curvature
    hessian -= np.outer(cross, cross) / max(curvature.sum(), 1e-300)  # the bias follows the weights
    rounding = 1e-7 if values.dtype == np.float32 else 1e-10
    hessian[np.diag_indices_from(hessian)] += 2 * problem.ridge + rounding * (np.trace(hessian) + 1e-300)
    return hessian


def quadratic_lasso(hessian: np.ndarray, slope: np.ndarray, now: np.ndarray, l1: float) -> np.ndarray:
    """Minimise ``slope'(w - now) + (w - now)' hessian (w - now) / 2 + l1 |w|_1``.

    Newton steps on the weights that are not zero or want to leave it, each kept on its side of zero: within
    the signs the problem is a linear system. Every step descends.
    """
    from scipy.linalg import cho_factor, cho_solve

    if l1 == 0:
        return now - cho_solve(cho_factor(hessian, check_finite=False), slope, check_finite=False)
    w, residual = now.copy(), slope.copy()  # residual: slope of the model at w
    accuracy = 1e-12 * (np.abs(slope).max() + l1)
    for _ in range(200):
        pull = _least_subgradient(w, residual, l1)
        if np.abs(pull).max() <= accuracy:
            break
        side = np.where(w != 0, np.sign(w), -np.sign(pull))
        moving = np.flatnonzero(side)
        while True:
            factor = cho_factor(hessian[np.ix_(moving, moving)], check_finite=False)
            step = -cho_solve(factor, pull[moving], check_finite=False)
            astray = (w[moving] == 0) & (step * side[moving] < 0)
            if not astray.any():
                break
            moving = moving[~astray]
        at_zero = np.full(moving.size, np.inf)  # the length at which a weight gets to zero
        crossing = w[moving] * step < 0
        at_zero[crossing] = -w[moving][crossing] / step[crossing]
        for length in (1.0, 0.5, 0.25, min(1.0, at_zero.min())):  # up to the first zero all is quadratic
            trial = w.copy()
            trial[moving] = np.where(at_zero <= length, 0.0, w[moving] + length * step)
            change = trial - w
            bent = hessian @ change
            gain = residual @ change + change @ bent / 2 + l1 * (np.abs(trial) - np.abs(w)).sum()
            if gain < 0:
                break
        if gain >= 0:
            break
        w, residual = trial, residual + bent
    return w


def _joint_step(problem: Problem, at: _Point, blocks: Blocks) -> _Point:
    """One Newton step of all rows together, each weight kept on its side of zero.

    By conjugate gradients, preconditioned by the rows' own second derivatives.
    """
    from scipy.linalg import cho_factor, cho_solve
    from scipy.sparse.linalg import LinearOperator, cg

    pull = _pull(problem, at.free, problem.gradient(at.p))
    parts = [
        (row, chosen[inside], hessian[np.ix_(inside, inside)])
        for row, (chosen, hessian) in blocks.items()
        if (inside := np.flatnonzero(pull[row, chosen])).size
    ]
    if not parts:
        return at
    where = (
        np.repeat([row for row, _, _ in parts], [len(ids) for _, ids, _ in parts]),
        np.concatenate([ids for _, ids, _ in parts]),
    )
    borders = np.cumsum([len(ids) for _, ids, _ in parts])[:-1]
    factors = [cho_factor(hessian, check_finite=False) for _, _, hessian in parts]
    p = at.p.astype(problem.light.dtype)
    used, place = np.unique(where[1], return_inverse=True)
    values = problem.light[used]

    def curve(direction: np.ndarray) -> np.ndarray:
        rows = np.zeros((problem.rows, len(used)), dtype=p.dtype)
        rows[where[0], place] = direction
        moved = p * (rows @ values)
        moved -= p * moved.sum(axis=0)
        return (moved @ values.T)[where[0], place] / problem.n_items + 2 * problem.ridge * direction

    def solve_rows(residual: np.ndarray) -> np.ndarray:
        pieces = zip(factors, np.split(residual, borders), strict=True)
        return np.concatenate([cho_solve(factor, piece, check_finite=False) for factor, piece in pieces])

    shape = (len(where[0]),) * 2
    curvature, inverse = (LinearOperator(shape, matvec=f, dtype=np.float64) for f in (curve, solve_rows))  # pyright: ignore[reportCallIssue]
    found, _ = cg(curvature, -pull[where], M=inverse, rtol=0.1, maxiter=25)
    step = np.zeros_like(at.free)
    step[where] = found
    side = np.where(at.free != 0, np.sign(at.free), -np.sign(pull))
    length = 1.0
    for _ in range(6):
        free = at.free + length * step
        if problem.l1 > 0:
            free[free * side < 0] = 0.0
        trial = _Point(problem, free, problem.activate(free), at.bias)
        if trial.objective < at.objective + ROUNDING * (length == 1):
            return trial
        length /= 2
    return at


def lbfgs(problem: Problem, start: np.ndarray | None, tolerance: float, max_iterations: int) -> Solution:
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
