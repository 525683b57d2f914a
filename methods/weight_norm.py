"""Weight norm: rank neurons by how strongly they are wired, whatever they do.

No text is read. A neuron that reads the stream by a long row and writes a long column has a large say in
anything; a method whose ranking looks like this one found that, and not the concept.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nibench import Claim, Direction, Method, Needs, Observations, Ranking


@dataclass(frozen=True)
class WeightNorm(Method):
    """Norm of the input row times norm of the output column; gated layers: mean of the two rows' norms."""

    needs: ClassVar[Needs] = Needs.WEIGHTS
    claims: ClassVar[Claim] = "none"
    direction: ClassVar[Direction] = "none"
    family: ClassVar[str] = "baseline"
    complexity: ClassVar[str] = "O(D d) for a stream of width d"
    limits: ClassVar[str] = "No text and no concept: a large weight may meet an input that never comes."

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        reads = np.mean([np.linalg.norm(rows, axis=1) for rows in data.weights.inputs], axis=0)
        return Ranking.from_scores(reads * np.linalg.norm(data.weights.outputs, axis=1))
