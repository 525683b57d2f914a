"""Bimodality: rank neurons by whether their activations fall into two heaps, whatever the concept.

No label is read. A neuron that tells two classes apart on its own has a mode for each, so planted neurons may
show in this coefficient before anybody names a concept: a leak that a board should be read against.

Paper: Pfister, Schwarz, Janczyk, Dale & Freeman, "Good things peak in pairs: a note on the bimodality
coefficient", Frontiers in Psychology 2013. https://doi.org/10.3389/fpsyg.2013.00700

Deviation: moments are those of the sample, without the paper's corrections for few items.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nibench import Claim, Direction, Method, Needs, Observations, Ranking


@dataclass(frozen=True)
class Bimodality(Method):
    """(skewness^2 + 1) / kurtosis: 1 for two points, 5/9 for a uniform, 1/3 for a Gaussian, 0 for a constant."""

    needs: ClassVar[Needs] = Needs.ACTIVATIONS
    claims: ClassVar[Claim] = "none"
    direction: ClassVar[Direction] = "none"
    family: ClassVar[str] = "baseline"
    paper: ClassVar[str] = (
        "Pfister et al., Good things peak in pairs: a note on the bimodality coefficient, 2013, "
        "https://doi.org/10.3389/fpsyg.2013.00700"
    )
    complexity: ClassVar[str] = "O(ND), one pass"
    limits: ClassVar[str] = "One neuron at a time and no concept: two modes may tell anything, or nothing."

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        third, fourth = np.zeros((2, len(data.neurons)))
        for _, z in data.standardized_blocks():
            squares = np.square(z)
            third += np.einsum("nd,nd->d", squares, z)
            fourth += np.einsum("nd,nd->d", squares, squares)
        skewness, kurtosis = third / data.n_items, fourth / data.n_items
        return Ranking.from_scores(
            np.divide(skewness**2 + 1, kurtosis, out=np.zeros_like(kurtosis), where=kurtosis > 0)
        )
