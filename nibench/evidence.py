"""Typed evidence that several methods return beside their scores."""

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
