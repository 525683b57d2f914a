"""LCA: rank neurons by the weights of an elastic-net linear probe.

A linear probe is trained to tell the classes apart under an L1 penalty, which keeps few neurons, and a
squared one, which lets neurons that carry the same information share. Neurons are then taken class by class,
heaviest first: a neuron's score is one minus the share of the class's absolute weight that lies on heavier
neurons, for the class where that is least. So every class has an equal say, whatever its size or norm.

Paper: Dalvi et al., "What Is One Grain of Sand in the Desert? Analyzing Individual Neurons in Deep NLP
Models", AAAI 2019 (linguistic correlation analysis). https://arxiv.org/abs/1812.09355

Deviations: the probe is solved, not trained for ten epochs, so that the ranking is the probe's and not the
optimiser's; neurons are standardised first; the L2 penalty is squared (the original code adds the plain
norm); the penalties are fractions of the smallest L1 penalty that switches every weight off, since the
published absolute values mean different things on different activations; the ordering is the limit of the
original's for ever smaller steps. The fractions are fixed, not tuned on held-out data.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nibench import Claim, Method, Needs, Observations, Ranking, cumulative_mass, linear_probe


@dataclass(frozen=True)
class LCA(Method):
    """Exclusive cumulative mass of the elastic-net weights: 1 for the heaviest of a class, 0 for no weight.

    Among exact copies of a neuron the squared penalty shares the weight evenly. Evidence: `LinearProbe`.
    """

    needs: ClassVar[Needs] = Needs.ACTIVATIONS | Needs.LABELS
    claims: ClassVar[Claim] = "associated"
    family: ClassVar[str] = "linear"
    paper: ClassVar[str] = (
        "Dalvi et al., What Is One Grain of Sand in the Desert? Analyzing Individual Neurons in Deep NLP "
        "Models, 2019, https://arxiv.org/abs/1812.09355"
    )
    complexity: ClassVar[str] = (
        "O(N D C) for each gradient and O(N S^2) for S weights at work, some ten to thirty rounds"
    )
    limits: ClassVar[str] = (
        "What a probe can use is not what the model uses; correlated neurons share or steal weight; the "
        "set depends on the penalties."
    )

    l1: float = 0.05  # fractions of lambda_max
    l2: float = 0.05

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        probe = linear_probe(data.standardized(), data.labels, data.n_classes, l1=self.l1, l2=self.l2)
        per_class = cumulative_mass(probe.weights)
        return Ranking.from_scores(per_class.max(axis=0), per_class, probe)
