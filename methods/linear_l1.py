"""Linear probe with an L1 penalty: the few neurons that a sparse probe keeps.

Of several neurons that carry the same information the penalty keeps one, so this ranking lists few
neurons of a redundant group, by design. Neurons without weight share the last place.

Paper: Radford, Jozefowicz & Sutskever, "Learning to Generate Reviews and Discovering Sentiment", 2017,
section 4. https://arxiv.org/abs/1704.01444

Deviations: neurons are standardised; the penalty is a fraction of the smallest one that switches every
weight off, fixed at a tenth, where the original picks it by validation accuracy; several classes are
merged by cumulative mass (each class an equal say), the original having two.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nibench import Claim, Method, Needs, Observations, Ranking, cumulative_mass, linear_probe


@dataclass(frozen=True)
class LinearL1(Method):
    """Exclusive cumulative mass of the weights: 1 for the heaviest of a class, 0 for no weight.

    Evidence: `LinearProbe` with weights, penalty and duality gap.
    """

    needs: ClassVar[Needs] = Needs.ACTIVATIONS | Needs.LABELS
    claims: ClassVar[Claim] = "associated"
    family: ClassVar[str] = "linear"
    paper: ClassVar[str] = (
        "Radford, Jozefowicz & Sutskever, Learning to Generate Reviews and Discovering Sentiment, 2017, "
        "https://arxiv.org/abs/1704.01444"
    )
    complexity: ClassVar[str] = (
        "O(N D C) for each gradient and O(N S^2) for S weights at work, some ten to thirty rounds"
    )
    limits: ClassVar[str] = (
        "What a probe can use is not what the model uses; keeps one of several like neurons, by accidents "
        "of the sample."
    )

    l1: float = 0.1  # fraction of lambda_max

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        probe = linear_probe(data.standardized(), data.labels, data.n_classes, l1=self.l1)
        per_class = cumulative_mass(probe.weights)
        return Ranking.from_scores(per_class.max(axis=0), per_class, probe)
