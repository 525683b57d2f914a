"""What each neuron of a world tells, computed from how it was made and not from a sample.

Two words are drawn independently; a neuron ranks them rightly with the probability that a sum of independent
parts is positive: the class's effect, a mixture over word types, other concepts, the noise. That is one
integral over the product of their characteristic functions (Gil-Pelaez 1951), exact to rounding.
"""

from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtr

from nibench.task import Truth
from nibench.truth.world_draw import Mechanism, type_shares

if TYPE_CHECKING:
    from nibench.truth.worlds import WorldSpec

INFORMATIVE = ("signal", "shared", "distributed", "copy", "sign_mixed")
N_NODES = 256
Mixture = tuple[np.ndarray, np.ndarray]  # values (M,) and their probabilities (M,)


def truth_of(spec: "WorldSpec", neurons: Mechanism) -> Truth:
    """The truth of a world, exactly.

    *associated* is ``2 |AUC - .5|`` of each neuron over the distribution that the ``eval`` split is drawn
    from (several classes: mean of one against the rest); of a sign-mixed neuron the AUC of its distance from
    its centre. *responds* is the mean change of the neuron when only a word's class is changed, in units of
    its standard deviation; a conjunctive neuron responds half of that, since another of its group may change
    instead (in a group of n: one n-th).

    The set of *associated* is the signal, shared, distributed, copy and sign-mixed neurons; *responds* adds
    the conjunctive ones. Neurons of the confound are in neither: what they know is an accident of ``rank``.
    Where word types prefer a class outside ``rank`` too, every neuron with type effects varies with the
    label a little: it has a gain, and is in no set.

    A world in which no neuron is associated and none responds is a null. ``groups`` are the copies,
    ``neuron_labels`` the class that an informative neuron separates best from the others (of two classes, the
    one in which it is higher).
    """
    shares, shares_of_types = np.array(spec.class_shares), type_shares(spec)
    informative = np.isin(neurons.roles, INFORMATIVE)
    telling = informative | (neurons.scale > 0) * (spec.type_preference[1] > 0 and spec.type_effect > 0)
    associated, labels = np.zeros(spec.width), np.full(spec.width, -1)
    responds = np.zeros(spec.width)
    for neuron in np.flatnonzero(telling).tolist():
        aucs = _aucs(neurons, neuron, shares, shares_of_types)
        associated[neuron] = np.mean(2 * np.abs(aucs - 0.5))
        if informative[neuron]:
            labels[neuron] = np.argmax(aucs if len(aucs) == 2 else np.abs(aucs - 0.5))
    responding = informative | (neurons.roles == "conjunctive")
    for neuron in np.flatnonzero(responding).tolist():
        responds[neuron] = _response(spec, neurons, neuron, shares, shares_of_types)
    copies = neurons.roles == "copy"
    return Truth(
        gains={"associated": associated, "responds": responds},
        sets={"associated": informative, "responds": responding},
        roles=neurons.roles,
        groups=np.where(copies, neurons.groups, -1) if copies.any() else None,
        neuron_labels=labels,
        null=not (associated.any() or responds.any()),
    )


def _aucs(
    neurons: Mechanism, neuron: int, class_shares: np.ndarray, shares_of_types: np.ndarray
) -> np.ndarray:
    """(C,): AUC of one neuron for each class against the others."""
    effects, types = neurons.class_effects[:, neuron], neurons.type_effects[:, neuron]
    others = _independent(neurons, neuron, class_shares)
    if neurons.roles[neuron] == "sign_mixed":
        wins = _folded_wins(effects, types, shares_of_types)
    elif np.isfinite(neurons.thresholds[neuron]):
        wins = _rectified_wins(effects, types, shares_of_types, others, neurons.thresholds[neuron])
    else:
        wins = _wins(effects, types, shares_of_types, others, heavy=neurons.shapes[neuron] == "heavy")
    return _against_rest(wins, class_shares)


def _independent(neurons: Mechanism, neuron: int, class_shares: np.ndarray) -> list[Mixture]:
    """What moves a neuron beside class and word type, outside ``rank``: none of it depends on the class."""
    fair = np.array([0.5, 0.5])
    distances = [*neurons.concept_effects[:, neuron], neurons.humps[neuron]]
    found = [(distance * np.array([-0.5, 0.5]), fair) for distance in distances if distance]
    if neurons.roles[neuron] == "correlate":
        found.append((neurons.confound_effects[:, neuron], class_shares))
    if neurons.roles[neuron] == "conjunctive":
        n_classes = len(class_shares)
        found.append((neurons.residue_effects[:, neuron], np.full(n_classes, 1 / n_classes)))
    return found


def one_against_rest(
    class_effects: np.ndarray, type_effects: np.ndarray, class_shares: np.ndarray, type_shares: np.ndarray
) -> np.ndarray:
    """float64 (C,): exact AUC of one neuron for each class against the others.

    The neuron is ``class effect + type effect + N(0, 1)``; all arguments are the values and probabilities of
    classes (C,) and types (T,), the latter alike in all classes, or (C, T).
    """
    shares = np.broadcast_to(type_shares, (len(class_shares), len(type_effects)))
    return _against_rest(_wins(class_effects, type_effects, shares), class_shares)


def _against_rest(wins: np.ndarray, class_shares: np.ndarray) -> np.ndarray:
    others = np.tile(class_shares, (len(class_shares), 1))
    np.fill_diagonal(others, 0.0)
    return (wins * others).sum(axis=1) / others.sum(axis=1)


@cache
def _nodes(low: float, high: float) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights on an interval."""
    places, weights = np.polynomial.legendre.leggauss(N_NODES)
    return (high - low) / 2 * places + (high + low) / 2, (high - low) / 2 * weights


def _wins(
    class_effects: np.ndarray,
    type_effects: np.ndarray,
    shares_of_types: np.ndarray,
    others: Sequence[Mixture] = (),
    *,
    heavy: bool = False,
) -> np.ndarray:
    """(C, C): probability that a word of one class has the higher activation than a word of another.

    References
    ----------
    Gil-Pelaez, Note on the inversion theorem, Biometrika 1951.
    """
    t, weights = _nodes(0.0, 26.0 if heavy else 7.0)  # beyond, the noise's factor is below 1e-20
    of_noise = (1 + t) * np.exp(-t) if heavy else np.exp(-(t**2) / 2)
    of_class = np.exp(1j * np.outer(t, type_effects)) @ shares_of_types.T  # (Q, C)
    of_class = of_class * np.exp(1j * np.outer(t, class_effects))
    damping = np.square(of_noise)
    for values, probabilities in others:
        damping = damping * np.square(np.abs(np.exp(1j * np.outer(t, values)) @ probabilities))
    pairs = np.imag(of_class[:, :, None] * of_class[:, None, :].conj())
    return 0.5 + np.tensordot(weights * damping / t, pairs, axes=1) / np.pi


def _rectified_wins(
    class_effects: np.ndarray,
    type_effects: np.ndarray,
    shares_of_types: np.ndarray,
    others: Sequence[Mixture],
    threshold: float,
) -> np.ndarray:
    """(C, C): the same for a neuron that is silent below a threshold; two silent words count one half."""
    values, shares = _with_others(type_effects, shares_of_types, others)
    top = float(class_effects.max() + values.max() + 9)
    x, weights = _nodes(threshold, max(top, threshold + 1))
    distance = x[:, None, None] - class_effects[:, None] - values  # (Q, C, M)
    density = (np.exp(-np.square(distance) / 2) * shares).sum(axis=2) / np.sqrt(2 * np.pi)
    below = (ndtr(distance) * shares).sum(axis=2)
    silent = (ndtr(threshold - class_effects[:, None] - values) * shares).sum(axis=1)
    return np.outer(silent, silent) / 2 + (weights[:, None] * density).T @ below


def _folded_wins(
    class_effects: np.ndarray, type_effects: np.ndarray, shares_of_types: np.ndarray
) -> np.ndarray:
    """(C, C): the same for the distance from 0 of ``+-(class + type effect) + N(0, 1)``.

    ``|X| > |Y|`` where X - Y and X + Y have the same sign; for Gaussians of equal variance these two are
    independent.
    """
    n_classes = len(class_effects)
    centres = class_effects[:, None] + type_effects  # (C, T)
    wins = np.empty((n_classes, n_classes))
    for a in range(n_classes):
        for b in range(n_classes):
            gap = ndtr((centres[a][:, None] - centres[b]) / np.sqrt(2))
            total = ndtr((centres[a][:, None] + centres[b]) / np.sqrt(2))
            same = gap * total + (1 - gap) * (1 - total)
            wins[a, b] = shares_of_types[a] @ same @ shares_of_types[b]
    return wins


def _with_others(
    values: np.ndarray, shares: np.ndarray, others: Sequence[Mixture]
) -> tuple[np.ndarray, np.ndarray]:
    """Values (M,) and shares (C, M) of the sum of a mixture with others that are independent of it."""
    for more, probabilities in others:
        values = (values[:, None] + more).ravel()
        shares = (shares[:, :, None] * probabilities).reshape(len(shares), -1)
    return values, shares


def _response(
    spec: "WorldSpec",
    neurons: Mechanism,
    neuron: int,
    class_shares: np.ndarray,
    shares_of_types: np.ndarray,
) -> float:
    """Mean change when only the class is exchanged, over the neuron's standard deviation."""
    effects, threshold = neurons.class_effects[:, neuron], neurons.thresholds[neuron]
    types, others = neurons.type_effects[:, neuron], _independent(neurons, neuron, class_shares)
    if np.isfinite(threshold):
        levels, variance = _rectified_moments(
            effects, types, class_shares, shares_of_types, others, threshold
        )
    else:
        conjunctive = neurons.roles[neuron] == "conjunctive"
        levels = neurons.residue_effects[:, neuron] / spec.conjunctive_size if conjunctive else effects
        centres, joint = effects[:, None] + types, class_shares[:, None] * shares_of_types  # (C, T)
        mean = 0.0 if neurons.roles[neuron] == "sign_mixed" else (joint * centres).sum()
        variance = 1 + (joint * np.square(centres - mean)).sum()
        variance += sum(p @ np.square(values - p @ values) for values, p in others)
    changes = np.abs(levels[:, None] - levels)
    n_classes = len(effects)
    return float(changes.sum() / (n_classes * (n_classes - 1)) / np.sqrt(variance))


def _rectified_moments(
    class_effects: np.ndarray,
    type_effects: np.ndarray,
    class_shares: np.ndarray,
    shares_of_types: np.ndarray,
    others: Sequence[Mixture],
    threshold: float,
) -> tuple[np.ndarray, float]:
    """Mean (C,) of a sparse neuron were the same words of each class, and its variance."""
    values, shares = _with_others(type_effects, shares_of_types, others)
    joint = class_shares[:, None] * shares  # (C, M)
    excess = class_effects[:, None] + values - threshold
    height = np.exp(-np.square(excess) / 2) / np.sqrt(2 * np.pi)
    first = excess * ndtr(excess) + height  # mean of max(0, N(excess, 1))
    second = (np.square(excess) + 1) * ndtr(excess) + excess * height
    return first @ joint.sum(axis=0), float((joint * second).sum() - np.square((joint * first).sum()))
