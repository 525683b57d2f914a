"""Permutation p-values, one neuron, one draw and one class at a time."""

import math

import numpy as np
from scipy.stats import t


def p_value(values: np.ndarray, labels: np.ndarray, drawn: list[np.ndarray]) -> float:
    """Of one column (N,) under labels (N,) and, for each way to re-assign them, draws (R, N)."""
    n, n_draws = len(values), len(drawn[0])
    centred = [float(x) - float(np.mean(values, dtype=np.float64)) for x in values]
    single = sum(x * x for x in centred) / n / (n - 1)
    classes = sorted(set(labels.tolist()))
    classes = classes[1:] if len(classes) == 2 else classes
    reached, farthest, freedoms = 0.0, [0.0] * n_draws, []
    for label in classes:
        given = _sum(centred, labels, label)
        ways = [[_sum(centred, draw, label) for draw in draws] for draws in drawn]
        means = [sum(way) / n_draws for way in ways]
        variances = [sum((s - m) ** 2 for s in way) / n_draws for way, m in zip(ways, means, strict=True)]
        null = [sum(way[r] - m for way, m in zip(ways, means, strict=True)) for r in range(n_draws)]
        variance = max(*variances, sum(variances) - (len(drawn) - 1) * single)
        own = math.sqrt(sum(x * x for x in null) / n_draws)
        null = [x / own for x in null]
        reached = max(reached, min(abs(given - m) for m in means) / math.sqrt(variance))
        farthest = [max(far, abs(x)) for far, x in zip(farthest, null, strict=True)]
        excess = sum(x**4 for x in null) / n_draws - 3
        freedoms.append(4 + 6 / excess if excess > math.sqrt(24 / n_draws) else n_draws - 1)
    as_extreme = sum(far >= reached - 1e-4 for far in farthest)
    if as_extreme:
        return (1 + as_extreme) / (1 + n_draws)
    further = reached / math.sqrt(1 + 1 / n_draws)
    tail = sum(2 * t.sf(further * math.sqrt(f / (f - 2)), f) for f in freedoms)
    pairs = [
        sum(draws[i].tolist() == draws[j].tolist() for i in range(n_draws) for j in range(n_draws) if i != j)
        for draws in drawn
    ]
    return min(1 / (1 + n_draws), max(tail, max(pairs) / n_draws / (n_draws - 1)))


def _sum(centred: list[float], labels: np.ndarray, label: int) -> float:
    inside = [x for x, one in zip(centred, labels.tolist(), strict=True) if one == label]
    outside = len(centred) - len(inside)
    return sum(inside) / math.sqrt(len(inside) * outside) if inside and outside else 0.0
