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
