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
