"""The best few neurons: what trying all of them finds."""

from itertools import combinations

import numpy as np
import pytest

from nibench import best_subsets


def problem(seed, n=9):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(200, n)) @ rng.normal(size=(n, n))
    y = z @ rng.normal(size=n) + 3 * rng.normal(size=200)
    z, y = (z - z.mean(axis=0)) / z.std(axis=0), (y - y.mean()) / y.std()
    return z, y


def residual_share(z, y, subset, ridge):
    """Least squares written out on the items: variance explained, less the ridge."""
    x = z[:, subset]
    w = np.linalg.lstsq(np.vstack([x, np.sqrt(ridge * len(y)) * np.eye(len(subset))]),
                        np.append(y, np.zeros(len(subset))), rcond=None)[0]  # fmt: skip
    return 1 - (np.square(y - x @ w).sum() / len(y) + ridge * np.square(w).sum())


@pytest.mark.parametrize("seed", range(5))
def test_one_and_two_are_the_best_there_are_and_more_cannot_be_bettered_by_an_exchange(seed):
    z, y = problem(seed)
    subsets, shares = best_subsets(z.T @ z / 200, z.T @ y / 200, 5, 0.05)
    for subset, share in zip(subsets, shares, strict=True):
        k = len(subset)
        assert share == pytest.approx(residual_share(z, y, list(subset), 0.05))
        every = {rest: residual_share(z, y, list(rest), 0.05) for rest in combinations(range(9), k)}
        if k <= 2:
            assert share == pytest.approx(max(every.values()))
        near = [value for rest, value in every.items() if len(set(rest) & set(subset)) >= k - 1]
        assert share == pytest.approx(max(near))
    assert (np.diff(shares) >= 0).all()


def test_copies_and_constant_neurons_are_no_error():
    z, y = problem(0)
    z = np.column_stack([z, z[:, :2], np.zeros(200)])
    subsets, shares = best_subsets(z.T @ z / 200, z.T @ y / 200, 20, 0.05)
    assert [len(set(subset)) for subset in subsets] == list(range(1, 13))
    assert np.isfinite(shares).all()
