"""The convex problem of a linear probe and its solvers: proximal Newton, and L-BFGS for large smooth ones.

scipy is imported where it is used: `import nibench` stays fast.
"""

import numpy as np

from nibench.quadratic import Model, least_subgradient

WORKING_SET = 2000  # weights of a class moved at a time: bounds the second-order model to 32 MB
SINGLE_FROM = 1 << 22  # activations; from here on second-order models, never gradients, are of float32
SMOOTH_UP_TO = 1 << 24  # second derivatives of all rows held at a time without an L1 penalty (128 MB)
ROUNDING = 1e-14  # of an objective, in nats
ENTER = 30  # neurons that may join a row of weights in one round, at least


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


class _Point:
    """Weights, with the bias that suits them best, the probabilities and the mean loss."""

    def __init__(self, problem: Problem, free: np.ndarray, logits: np.ndarray, bias: np.ndarray) -> None:
        self.free, self.logits = free, logits
        self.bias, self.p = problem.settle_bias(logits, bias)
        self.loss = problem.loss(logits + self.bias[:, None])

    def objective(self, problem: Problem) -> float:
        """Under the penalties that the problem has now."""
        return self.loss + problem.penalty(self.free)


def proximal_newton(
    problem: Problem, start: np.ndarray | None, tolerance: float, max_iterations: int
) -> Solution:
    """Weights (rows, D), bias (C,), gap and rounds. A round moves all rows of weights together.

    From zero weights the first rounds are at larger penalties: few neurons join in, and the loss does not lack
    curvature.
    """
    asked = problem.l1, problem.l2
    prior = np.log(problem.frequency)
    free = np.zeros((problem.rows, len(problem.z))) if start is None else start
    at = _Point(problem, free, problem.activate(free), prior)
    while at.objective(problem) > 2 * entropy(
        problem.frequency
    ):  # far out the loss has no curvature: come closer
        at = _Point(problem, at.free / 2, at.logits / 2, prior)
    path = None if start is None and problem.l1 > 0 else []
    gap, iteration, still = np.inf, 0, False
    for iteration in range(max_iterations + 1):
        gradient, before = problem.gradient(at.p), at.objective(problem)
        earlier, gap = gap, problem.gap(before, at.p, gradient)
        if gap <= tolerance or iteration == max_iterations or (still and gap > earlier / 2):
            break
        if path is None:
            path = _path(float(np.abs(gradient).max()) / problem.l1)
        factor = path[iteration] if iteration < len(path) else 1.0
        problem.l1, problem.l2 = asked[0] * factor, asked[1] * factor
        at = _round(problem, at, gradient)
        problem.l1, problem.l2 = asked
        # the gap may yet fall: it sees more digits than the objective
        still = factor == 1.0 and at.objective(problem) >= before - ROUNDING
    return at.free, at.bias, gap, iteration


def _path(largest: float) -> list[float]:
    """Factors of the penalties, falling towards 1, where ``largest`` would leave no weight."""
    factors = largest / 3 / 4.0 ** np.arange(20)
    return factors[factors > 2].tolist()


def _round(problem: Problem, at: _Point, gradient: np.ndarray) -> _Point:
    """Minimise the second-order model of the rows' working sets, and search along the line to its minimum."""
    pull = least_subgradient(at.free, gradient + 2 * problem.ridge * at.free, problem.l1)
    sets = [
        _working_set(row, own) if problem.l1 > 0 else np.flatnonzero(problem.varies)
        for row, own in zip(at.free, pull, strict=True)
    ]
    model = Model(problem, at.free, at.p[-problem.rows :], gradient, sets)
    model.descend()
    step = np.zeros_like(at.free)
    for row, chosen in enumerate(sets):
        step[row, chosen] = model.weights[row] - at.free[row, chosen]
    moved, length = problem.activate(step)[-problem.rows :], 1.0
    objective = at.objective(problem)
    for _ in range(30):
        free, logits = at.free + length * step, at.logits.copy()
        free[np.abs(free) < 1e-15] = 0.0
        logits[-problem.rows :] += length * moved
        trial = _Point(problem, free, logits, at.bias)
        if trial.objective(problem) < objective + ROUNDING * (length == 1):
            return trial
        length /= 2
    return at


def _working_set(free: np.ndarray, pull: np.ndarray) -> np.ndarray:
    """Neurons of one row to move next: those with a weight, and the worst violators among the rest."""
    violation = np.abs(pull)
    support, falling = np.flatnonzero(free), np.argsort(-violation, kind="stable")
    if support.size >= WORKING_SET:
        return np.sort(falling[:WORKING_SET])
    room = min(max(ENTER, support.size // 2), WORKING_SET - support.size)
    worst = falling[(free[falling] == 0) & (violation[falling] > 0)][:room]
    return np.sort(np.concatenate([support, worst]))


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
