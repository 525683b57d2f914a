"""The second-order model of a linear probe's loss at a point, with the L1 penalty, and its minimum.

scipy is imported where it is used: `import nibench` stays fast.
"""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nibench.solvers import Problem

ROUGH = 0.1  # share of a row's pull that may be left where the rows influence each other
CURVED = 0.95  # share of a row's curvature that the items looked at there hold; about half of them do


class Model:
    """Weights of every row that may move, and what the model says of them; ``descend`` moves ``weights``.

    Each row's own second derivatives are at hand, (S, S) for S weights. Those of two rows are not: what a step
    of all rows changes goes through the logits, (rows, N). The bias follows the weights.
    """

    def __init__(
        self,
        problem: "Problem",
        free: np.ndarray,
        p: np.ndarray,
        gradient: np.ndarray,
        sets: list[np.ndarray],
    ) -> None:
        """``free``, ``gradient`` (rows, D) and ``p`` (rows, N) at the point, ``sets`` (S,) of each row."""
        self.problem = problem
        self.p = p.astype(problem.light.dtype)
        self.values = [problem.light[chosen] for chosen in sets]  # (S, N) each
        self.hessians = [self._hessian(row) for row in range(problem.rows)]
        self.start = [free[row, chosen] for row, chosen in enumerate(sets)]
        self.weights = list(self.start)
        self.gradient = [gradient[row, chosen] for row, chosen in enumerate(sets)]
        self.moved = np.zeros_like(self.p)  # how far the logits went
        self.settle = np.linalg.pinv(np.diag(p.sum(axis=1)) - p @ p.T, rcond=1e-10, hermitian=True)

    def _hessian(self, row: int) -> np.ndarray:
        """Second derivatives (S, S) by a row's weights. Of several rows they only steer: light items are left out."""
        values, p = self.values[row], self.p[row].astype(np.float64)
        curvature = p * (1 - p) / self.problem.n_items
        if self.problem.rows > 1:
            falling = np.argsort(-curvature)
            share = np.cumsum(curvature[falling])
            kept = np.sort(falling[: np.searchsorted(share, CURVED * share[-1]) + 1])
            values, curvature = values.take(kept, axis=1), curvature[kept]
        weighted = np.multiply(values, np.sqrt(curvature), dtype=values.dtype, casting="same_kind")
        hessian = (weighted @ weighted.T).astype(np.float64)
        cross = values @ curvature
        hessian -= np.outer(cross, cross) / max(curvature.sum(), 1e-300)  # the bias follows the weights
        rounding = 1e-7 if values.dtype == np.float32 else 1e-10
        lift = rounding * (np.trace(hessian) + 1e-300)
        hessian[np.diag_indices_from(hessian)] += 2 * self.problem.ridge + lift
        return hessian

    def descend(self) -> None:
        """One row: to the minimum. Several: each in turn, all together within the signs, each in turn again."""
        self._rows_in_turn()
        if self.problem.rows > 1:
            self._rows_together()
            self._rows_in_turn()

    def _bend(self, moved: np.ndarray) -> np.ndarray:
        """N times the change of the loss's slope by the logits, (rows, N), where they and the bias move."""
        bent = self.p * (moved - (self.p * moved).sum(axis=0))
        shift = self.settle @ bent.sum(axis=1, dtype=np.float64)
        moved = moved - shift[:, None].astype(moved.dtype)
        return self.p * (moved - (self.p * moved).sum(axis=0))

    def _bends(self, moved: np.ndarray) -> float:
        """Second derivative of the loss along a change of the logits."""
        return float((moved * self._bend(moved)).sum(dtype=np.float64)) / self.problem.n_items

    def _activate(self, row: int, step: np.ndarray) -> np.ndarray:
        return step.astype(self.p.dtype) @ self.values[row]

    def _slope(self, row: int, bent: np.ndarray) -> np.ndarray:
        """Slope of the model by a row's weights where they are, the L1 penalty aside."""
        pushed = self.values[row] @ bent[row] / self.problem.n_items
        return self.gradient[row] + pushed + 2 * self.problem.ridge * self.weights[row]

    def _value(self, weights: list[np.ndarray], moved: np.ndarray) -> float:
        total = self._bends(moved) / 2
        for now, start, gradient in zip(weights, self.start, self.gradient, strict=True):
            total += float(gradient @ (now - start))
        return total + self.problem.penalty(np.concatenate(weights))

    def _rows_in_turn(self) -> None:
        l1, several = self.problem.l1, self.problem.rows > 1
        for row, (hessian, now) in enumerate(zip(self.hessians, list(self.weights), strict=True)):
            if not now.size:
                continue
            slope = self._slope(row, self._bend(self.moved))
            step = quadratic_lasso(hessian, slope, now, l1, ROUGH if several else 0.0) - now
            if not step.any():
                continue
            moved = np.zeros_like(self.moved)
            moved[row] = self._activate(row, step)
            if several:  # what was left out of the second derivatives must not turn a descent into an ascent
                falls = -float(slope @ step) - l1 * float((np.abs(now + step) - np.abs(now)).sum())
                bends = self._bends(moved) + 2 * self.problem.ridge * float(step @ step)
                length = 1.0 if bends < 2 * falls else max(falls, 0.0) / bends
                step, moved = length * step, moved * self.p.dtype.type(length)
            self.weights[row] = now + step
            self.moved += moved

    def _rows_together(self) -> None:
        """A Newton step of all rows, each weight kept on its side of zero.

        By conjugate gradients, preconditioned by the rows' own second derivatives.
        """
        from scipy.linalg import cho_factor, cho_solve
        from scipy.sparse.linalg import LinearOperator, cg

        problem, bent = self.problem, self._bend(self.moved)
        pull = [
            least_subgradient(now, self._slope(row, bent), problem.l1) for row, now in enumerate(self.weights)
        ]
        active = [np.flatnonzero(own) for own in pull]
        right = -np.concatenate([own[ids] for own, ids in zip(pull, active, strict=True)])
        if not right.size:
            return
        borders = np.cumsum([ids.size for ids in active])[:-1]
        values = [v if ids.size == len(v) else v[ids] for v, ids in zip(self.values, active, strict=True)]
        factors = [
            cho_factor(hessian[np.ix_(ids, ids)], check_finite=False)
            for hessian, ids in zip(self.hessians, active, strict=True)
        ]

        def curve(step: np.ndarray) -> np.ndarray:
            parts = np.split(step.astype(self.p.dtype), borders)
            bent = self._bend(np.stack([part @ v for part, v in zip(parts, values, strict=True)]))
            slopes = [v @ own for v, own in zip(values, bent, strict=True)]
            return np.concatenate(slopes) / problem.n_items + 2 * problem.ridge * step

        def solve_rows(residual: np.ndarray) -> np.ndarray:
            pieces = zip(factors, np.split(residual, borders), strict=True)
            return np.concatenate([cho_solve(factor, piece, check_finite=False) for factor, piece in pieces])

        shape = (right.size,) * 2
        curvature, inverse = (LinearOperator(shape, matvec=f, dtype=np.float64) for f in (curve, solve_rows))  # pyright: ignore[reportCallIssue]
        found, _ = cg(curvature, right, M=inverse, rtol=0.1, maxiter=25)
        steps = np.split(found, borders)
        least = self._value(self.weights, self.moved)
        for length in (1.0, 0.5, 0.25, 0.1):
            trial = [now.copy() for now in self.weights]
            for now, own, ids, step in zip(trial, pull, active, steps, strict=True):
                side = np.where(now != 0, np.sign(now), -np.sign(own))
                now[ids] += length * step
                if problem.l1 > 0:
                    now[now * side < 0] = 0.0
            moved = np.stack([self._activate(row, now - self.start[row]) for row, now in enumerate(trial)])
            if self._value(trial, moved) < least:
                self.weights, self.moved = trial, moved
                return


def least_subgradient(w: np.ndarray, slope: np.ndarray, l1: float) -> np.ndarray:
    """Zero where a weight is at its best, given the others."""
    return np.where(w != 0, slope + l1 * np.sign(w), np.sign(slope) * np.maximum(np.abs(slope) - l1, 0))


def quadratic_lasso(
    hessian: np.ndarray, slope: np.ndarray, now: np.ndarray, l1: float, rough: float = 0.0
) -> np.ndarray:
    """Minimise ``slope'(w - now) + (w - now)' hessian (w - now) / 2 + l1 |w|_1``.

    Up to a share ``rough`` of the first pull. Newton steps on the weights that are not zero or want to leave it,
    each kept on its side of zero: within the signs the problem is a linear system. Every step descends.
    """
    from scipy.linalg import cho_factor, cho_solve

    if l1 == 0:
        return now - cho_solve(cho_factor(hessian, check_finite=False), slope, check_finite=False)
    w, residual = now.copy(), slope.copy()  # residual: slope of the model at w
    accuracy = rough * np.abs(least_subgradient(w, slope, l1)).max() + 1e-12 * (np.abs(slope).max() + l1)
    for _ in range(200):
        pull = least_subgradient(w, residual, l1)
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
