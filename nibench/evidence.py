"""Typed evidence that several methods return beside their scores, and which class it speaks for."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Signed:
    """The signed values behind non-negative scores.

    Attributes
    ----------
    values : float64 (D,) or (C, D)
        Per neuron, or per class and neuron.
    meaning : str
        What a value is and what its sign says, in one line, with the unit.
    """

    values: np.ndarray
    meaning: str


@dataclass(frozen=True, eq=False)
class Clusters:
    """Neurons in groups, as a clustering or a factorisation found them.

    Attributes
    ----------
    clusters : int (D,)
        The cluster of each neuron, numbered from 0.
    representatives : int (G,)
        The neuron that stands for each cluster.
    """

    clusters: np.ndarray
    representatives: np.ndarray


@dataclass(frozen=True, eq=False)
class Factors:
    """A factorisation of the activations: groups of neurons, and when each is active.

    Attributes
    ----------
    loadings : float64 (k, D)
        What each factor gives of each neuron where the factor is strongest; negative: of its negative part.
    strengths : float64 (n, k)
        How strongly each factor is on at each item, its largest being 1.
    items : int (n,)
        Row ids of these items.
    stability : float64 (k,)
        Mean cosine of each factor's loadings with its match in runs from other starts, in [0, 1].
    clusters : int (D,)
        The factor with the largest loading; k for neurons that are in none.
    """

    loadings: np.ndarray
    strengths: np.ndarray
    items: np.ndarray
    stability: np.ndarray
    clusters: np.ndarray


@dataclass(frozen=True, eq=False)
class Contexts:
    """The items that each neuron is most active on, and the class they speak for.

    Attributes
    ----------
    items : int (D, K)
        Row ids of the most active items, most active first.
    named : int (D,)
        The class that the items speak for; -1: none.
    shares : float64 (D, C)
        Share of each class among the items, ties at the border counted by expectation.
    """

    items: np.ndarray
    named: np.ndarray
    shares: np.ndarray


@dataclass(frozen=True, eq=False)
class HeatMaps:
    """Stretches of items coloured by each neuron's activation, for a person to read.

    Attributes
    ----------
    items : int (D, K, W)
        Row ids of K stretches of W neighbouring items of one sentence; -1 beyond its ends.
    values : float32 (D, K, W)
        The colour of each item, negative to positive; 0 where there is none.
    most : int
        How many of the K stretches are about the most active items; the others were drawn at random.
    named : int (D,)
        The class that the brightly coloured items speak for; -1: none.
    """

    items: np.ndarray
    values: np.ndarray
    most: int
    named: np.ndarray


@dataclass(frozen=True, eq=False)
class GeneratedInputs:
    """Inputs made to activate each neuron, and the class they speak for.

    Attributes
    ----------
    texts : str (D, K)
        The inputs found from K starts; empty where none was sought.
    activations : float32 (D, K)
        What the neuron answers to each; NaN where there is none.
    most : float64 (D,)
        The neuron's largest activation on the task's items, for comparison.
    readings : float64 (D, K, C)
        How much each input reads as each class, 0 being a random input; 0 where there is none.
    named : int (D,)
        The class that the inputs speak for; -1: none.
    """

    texts: np.ndarray
    activations: np.ndarray
    most: np.ndarray
    readings: np.ndarray
    named: np.ndarray


@dataclass(frozen=True, eq=False)
class Formulas:
    """A logical formula of concepts for each neuron.

    Attributes
    ----------
    formulas, atoms : str (D,)
        The best formula and the best single concept; empty where a neuron is never on.
    fit, held_out : float64 (D,)
        Intersection over union of the formula's items with those the neuron is on for: where the formula was
        searched, and on other sentences.
    atom_fit : float64 (D,)
        The same of the best single concept, where it was searched.
    named : int (D,)
        The class that the formula asserts, if it holds on other sentences; -1: none.
    """

    formulas: np.ndarray
    atoms: np.ndarray
    fit: np.ndarray
    held_out: np.ndarray
    atom_fit: np.ndarray
    named: np.ndarray


def name_classes(hits: np.ndarray, counts: np.ndarray, level: float) -> tuple[np.ndarray, np.ndarray]:
    """Which class is among the items picked for each neuron more often than among all items.

    Parameters
    ----------
    hits : float (D, C)
        Items of each class among those picked; ties at a border may count by expectation.
    counts : int (C,)
        Items of each class among all.
    level : float
        Of a hypergeometric test over the classes: how often a neuron that tells nothing is named.

    Returns
    -------
    excess : float64 (D, C)
        The class's share of the picked items less its share of all, as a share of what is possible: at most 1.
        0 where nothing was picked, or for a class that all items have.
    named : int (D,)
        The class; -1: none.
    """
    from scipy.stats import hypergeom

    n_items, picked = counts.sum(), hits.sum(axis=1, keepdims=True)
    everywhere = counts / n_items
    shares = np.divide(hits, picked, out=np.zeros_like(hits), where=picked > 0)
    possible = (picked > 0) & (everywhere < 1)
    above = np.where(
        np.abs(shares - everywhere) < 1e-12, 0.0, shares - everywhere
    )  # ties add up to a rounding error
    excess = np.divide(above, 1 - everywhere, out=np.zeros_like(hits), where=possible)
    by_luck = hypergeom.sf(np.floor(hits + 1e-9) - 1, n_items, counts, np.rint(picked))
    sure = by_luck.min(axis=1) < level / len(counts)
    return excess, np.where(sure, by_luck.argmin(axis=1), -1)
