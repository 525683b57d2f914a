"""A neuron's AUC the slow way: a numerical integral over one density, all word types enumerated."""

from itertools import pairwise

import numpy as np
from scipy.integrate import quad
from scipy.stats import norm, t

HEAVY = t(df=3, scale=1 / np.sqrt(3))  # variance 1


def win(
    effect_a: float,
    effect_b: float,
    values: np.ndarray,
    shares: np.ndarray,
    *,
    heavy: bool = False,
    threshold: float = -np.inf,
) -> float:
    """P(a word of class a is higher) + P(equal) / 2, each word ``effect + value + noise`` cut at a threshold."""
    noise = HEAVY if heavy else norm
    density = lambda x: float(shares @ noise.pdf(x - effect_a - values))  # noqa: E731
    below = lambda x: float(shares @ noise.cdf(x - effect_b - values))  # noqa: E731
    pieces = [threshold, *np.linspace(-6, 6, 7)[np.linspace(-6, 6, 7) > threshold], np.inf]
    area = sum(
        quad(lambda x: density(x) * below(x), low, high, epsabs=1e-11)[0] for low, high in pairwise(pieces)
    )
    if threshold == -np.inf:
        return area
    silent_a = float(shares @ noise.cdf(threshold - effect_a - values))
    return area + silent_a * below(threshold) / 2


def folded_win(effect_a: float, effect_b: float) -> float:
    """P(|N(a, 1)| > |N(b, 1)|): an integral over the distance from 0."""
    density = lambda x: norm.pdf(x - effect_a) + norm.pdf(x + effect_a)  # noqa: E731
    below = lambda x: norm.cdf(x - effect_b) - norm.cdf(-x - effect_b)  # noqa: E731
    return quad(lambda x: density(x) * below(x), 0, np.inf, epsabs=1e-11)[0]
