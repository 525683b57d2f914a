"""Where a ranking puts its weight: which layers, how many neurons. Descriptive: no value is better."""

import numpy as np

from nibench.metrics.curves import set_size, tie_report
from nibench.metrics.trial import Score, Trial
from nibench.probes import entropy_bits


def layer_shares(inside: np.ndarray, layers: np.ndarray) -> np.ndarray:
    """float64 (L,): share of a set's members in each layer, layers in rising order; sums to 1.

    Parameters
    ----------
    inside : (D,)
        Probability of each neuron of being in the set (``Ranking.inclusion``), or a mask.
    layers : int (D,)
    """
    _, layer_of = np.unique(layers, return_inverse=True)
    counts = np.bincount(layer_of, inside.astype(np.float64))
    return counts / counts.sum()


def layer_divergence(a: np.ndarray, b: np.ndarray) -> float:
    """Jensen-Shannon divergence of two methods' ``layer_shares``, in bits: 0 for equal ones, 1 for disjoint.

    References
    ----------
    Lin, Divergence measures based on the Shannon entropy, IEEE Transactions on Information Theory 1991.
    """
    return float(entropy_bits((a + b) / 2) - (entropy_bits(a) + entropy_bits(b)) / 2)


def layer_distance(a: np.ndarray, b: np.ndarray) -> float:
    """By how many layers the neurons of one set must move, on average, to lie as those of the other (W1)."""
    return float(np.abs(np.cumsum(a - b))[:-1].sum())


def layer_profile(trial: Trial) -> tuple[Score, ...] | None:
    """``layer.centre``, ``layer.entropy``: in which layers the top 1 % of neurons (at least 10) lie.

    The centre is the mean place of their layers (0 = the lowest there is); the entropy says how evenly they
    are spread, 0 = one layer, 1 = all alike. Means over tie-breaks.

    Returns
    -------
    tuple of Score, or None
        ``details``: ``layers``, ``shares`` of the set in each, and ``enrichment``, that over the layer's share of
        all neurons; chance: all neurons. None where there is one layer only.
    """
    neurons, ranking = trial.setting.neurons, trial.ranking
    names, sizes = np.unique(neurons.layers, return_counts=True)
    if len(names) < 2:
        return None
    k = set_size(len(neurons))
    shares, everything = layer_shares(ranking.inclusion(k), neurons.layers), sizes / sizes.sum()
    places = np.arange(len(names))
    details = {
        "layers": names.tolist(),
        "shares": shares.tolist(),
        "enrichment": (shares / everything).tolist(),
    }
    tie_fraction, flags = tie_report(ranking, (k,))
    centre, spread = (
        Score(
            id=name,
            value=value,
            unit=unit,
            direction=0,
            n_items=k,
            chance=chance,
            k=(k,),
            tie_fraction=tie_fraction,
            flags=flags,
            details=details,
        )
        for name, value, chance, unit in (
            ("layer.centre", float(shares @ places), float(everything @ places), "layers"),
            (
                "layer.entropy",
                float(entropy_bits(shares) / np.log2(len(names))),
                float(entropy_bits(everything) / np.log2(len(names))),
                "share of log2 L",
            ),
        )
    )
    return centre, spread


def gini(mass: np.ndarray) -> float:
    """Gini coefficient of masses >= 0: 0 = all alike, (D - 1) / D = one has it all; NaN without any mass.

    Times D / (D - 1) it is unbiased.
    """
    ordered, n = np.sort(mass), len(mass)
    total = ordered.sum()
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * total)) if total > 0 else float("nan")


def participation_ratio(mass: np.ndarray) -> float:
    """``(sum m)^2 / sum m^2``: D for masses all alike, 1 where one has it all; NaN without any mass."""
    squares = np.square(mass).sum()
    return float(np.square(mass.sum()) / squares) if squares > 0 else float("nan")


def localisation(trial: Trial) -> tuple[Score, ...] | None:
    """``loc.gini``, ``loc.entropy``, ``loc.neff``, ``loc.pr``: on how few neurons the scores' mass lies.

    Mass is the absolute score; "cannot tell" has none. Scores of different methods are on different scales:
    compare tasks of one method, not methods.

    Returns
    -------
    tuple of Score, or None
        The Gini coefficient; the entropy over log2 D, in [0, 1]; two to the entropy's bits, and the
        participation ratio, both in neurons, 1 to D. None where no neuron has any mass, or there is one.
    """
    scores = trial.ranking.scores
    mass = np.where(np.isfinite(scores), np.abs(scores), 0.0)
    if len(mass) < 2 or not mass.sum() > 0:
        return None
    mass = mass / mass.max()
    bits = float(entropy_bits(mass))
    values = (
        ("loc.gini", gini(mass), "Gini"),
        ("loc.entropy", bits / np.log2(len(mass)), "share of log2 D"),
        ("loc.neff", 2**bits, "neurons"),
        ("loc.pr", participation_ratio(mass), "neurons"),
    )
    return tuple(
        Score(id=name, value=float(value), unit=unit, direction=0, n_items=len(mass))
        for name, value, unit in values
    )
