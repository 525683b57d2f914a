"""Variance: rank neurons by how much they vary, whatever the concept.

No label is read. A method whose ranking looks like this one finds loud neurons, not concept neurons:
in residual streams a few outlier dimensions lead every unnormalised ranking.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nibench import Claim, Direction, Method, Needs, Observations, Ranking


@dataclass(frozen=True)
class Variance(Method):
    """The variance of each neuron over all items (divided by N); 0 for constant neurons."""

    needs: ClassVar[Needs] = Needs.ACTIVATIONS
    claims: ClassVar[Claim] = "none"
    direction: ClassVar[Direction] = "none"
    family: ClassVar[str] = "baseline"
    complexity: ClassVar[str] = "O(ND), one pass"
    limits: ClassVar[str] = "No concept: loudness depends on the layer and on the scale of the activations."

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        return Ranking.from_scores(data.variance())
