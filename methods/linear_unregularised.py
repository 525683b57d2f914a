"""Linear probe with next to no penalty: rank neurons by absolute weight.

What a probe weighs if nothing holds it back. Without any penalty the question has no answer where there are more
neurons than items, or where the classes are separable; so a squared penalty of 1e-4 on the mean loss stays, small
enough not to choose between neurons that the items can tell apart.

Paper: Fan et al., "Evaluating Neuron Interpretation Methods of NLP Models", NeurIPS 2023, section 3 (their
probe without regularisation). https://arxiv.org/abs/2301.12608

Deviations: the penalty; neurons are standardised; the probe is solved. The preset `fan2023` trains as the original:
ten epochs of Adam in batches of 32 on raw activations, no penalty, from a seeded start.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from nibench import Claim, Method, Needs, Observations, Ranking, Scale, adam_probe, linear_probe


@dataclass(frozen=True)
class LinearUnregularised(Method):
    """Absolute weight per standard deviation of the neuron, mean over classes; constant neurons score 0.

    Evidence: `LinearProbe` with signed weights and duality gap.
    """

    needs: ClassVar[Needs] = Needs.ACTIVATIONS | Needs.LABELS
    claims: ClassVar[Claim] = "associated"
    family: ClassVar[str] = "linear"
    paper: ClassVar[str] = (
        "Fan et al., Evaluating Neuron Interpretation Methods of NLP Models, 2023, https://arxiv.org/abs/2301.12608"
    )
    complexity: ClassVar[str] = "O(N D C) for each gradient, some hundreds of them"
    limits: ClassVar[str] = (
        "Correlated neurons get large weights of opposite signs: a weight alone then says little; with few items it "
        "follows the noise."
    )
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "z": {"scale": "z"},
        "raw": {"scale": "raw"},
        "fan2023": {"training": "adam2019", "scale": "raw"},
    }

    l2: float = 1e-4  # as it stands, on the mean loss
    scale: Scale = "z"
    training: Literal["exact", "adam2019"] = "exact"

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        if self.training == "exact":
            z = data.standardized(self.scale)
            probe = linear_probe(
                z, data.labels, data.n_classes, l2=self.l2, relative=False, tolerance=1e-13, max_iterations=50
            )
        else:
            x = data.activations if self.scale == "raw" else data.standardized()
            probe = adam_probe(x, data.labels, data.n_classes, rng, l1=0.0, l2=0.0, batch=32, shuffle=True)
        per_class = np.abs(probe.weights)
        return Ranking.from_scores(data.statistics.mean_over_classes(per_class), per_class, probe)
