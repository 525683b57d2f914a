"""Kurtosis: rank neurons by how rarely and how far they leave their mean, whatever the concept.

No label is read. Units that fire for one thing only are quiet most of the time and loud then: the fourth
moment is a classic sign of a sparse code.

Paper: Field, "What is the goal of sensory coding?", Neural Computation 1994 (kurtosis as a measure of
sparseness). https://doi.org/10.1162/neco.1994.6.4.559
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nibench import Claim, Direction, Method, Needs, Observations, Ranking


@dataclass(frozen=True)
class Kurtosis(Method):
    """Excess kurtosis over all items: 0 for a Gaussian, at least -2, and -3 for constant neurons."""

    needs: ClassVar[Needs] = Needs.ACTIVATIONS
    claims: ClassVar[Claim] = "none"
    direction: ClassVar[Direction] = "none"
    family: ClassVar[str] = "baseline"
    paper: ClassVar[str] = (
        "Field, What is the goal of sensory coding?, 1994, https://doi.org/10.1162/neco.1994.6.4.559"
    )
    complexity: ClassVar[str] = "O(ND), one pass"
    limits: ClassVar[str] = (
        "One neuron at a time and no concept: sparse firing may mean an outlier, not a feature."
    )

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        fourth = np.zeros(len(data.neurons))
        for _, z in data.standardized_blocks():
            squares = np.square(z)
            fourth += np.einsum("nd,nd->d", squares, squares)
        return Ranking.from_scores(fourth / data.n_items - 3)
