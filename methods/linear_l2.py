"""Linear probe with a squared L2 penalty: rank neurons by absolute weight.

Neurons that carry the same information share the weight, so redundant groups are listed whole and each
member scores lower than it would alone.

Paper: Lakretz et al., "The emergence of number and syntax units in LSTM language models", NAACL 2019,
section 5 (decoding from units). https://arxiv.org/abs/1903.07435

Deviations: logistic loss where the original trains a linear support vector machine; the penalty is a
fraction of the critical L1 penalty of the same data, so that it means the same on every model, and is
fixed at a tenth, not tuned on held-out data.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nibench import Claim, Method, Needs, Observations, Ranking, linear_probe


@dataclass(frozen=True)
class LinearL2(Method):
    """Absolute weight per standard deviation of the neuron, mean over classes; constant neurons score 0.

    Evidence: `LinearProbe` with signed weights, penalty and duality gap.
    """

    needs: ClassVar[Needs] = Needs.ACTIVATIONS | Needs.LABELS
    claims: ClassVar[Claim] = "associated"
    family: ClassVar[str] = "linear"
    paper: ClassVar[str] = (
        "Lakretz et al., The emergence of number and syntax units in LSTM language models, 2019, "
        "https://arxiv.org/abs/1903.07435"
    )
    complexity: ClassVar[str] = "O(N D C) for each gradient, some hundred of them"
    limits: ClassVar[str] = (
        "What a probe can use is not what the model uses; a redundant group shares its weight, so that "
        "each member looks weak."
    )

    l2: float = 0.1  # fraction of lambda_max

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        probe = linear_probe(data.standardized(), data.labels, data.n_classes, l2=self.l2)
        per_class = np.abs(probe.weights)
        return Ranking.from_scores(data.statistics.mean_over_classes(per_class), per_class, probe)
