"""Random ranking: a uniformly random order, the floor for every metric.

Looks at nothing, so it cannot find anything. A method that does not beat it has found nothing either.
Over seeds the expected overlap of two random top-k sets of D neurons is k^2 / D.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nibench import Claim, Direction, Method, Needs, Observations, Ranking


@dataclass(frozen=True)
class RandomRanking(Method):
    """Scores 1..D in random order."""

    needs: ClassVar[Needs] = Needs.NOTHING
    claims: ClassVar[Claim] = "none"
    direction: ClassVar[Direction] = "none"
    family: ClassVar[str] = "baseline"
    complexity: ClassVar[str] = "O(D)"
    limits: ClassVar[str] = "Looks at nothing: the level that every other method must beat."

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        return Ranking.from_scores(rng.permutation(len(data.neurons)) + 1)
