"""Linear probe with an L1 penalty: the few neurons that a sparse probe keeps.

Of several neurons that carry the same information the penalty keeps one, so this ranking lists few
neurons of a redundant group, by design. Neurons without weight share the last place.

Paper: Radford, Jozefowicz & Sutskever, "Learning to Generate Reviews and Discovering Sentiment", 2017,
section 4. https://arxiv.org/abs/1704.01444

Deviations: neurons are standardised; the penalty is a fraction of the smallest one that switches every
weight off, fixed at a tenth, where the original picks it by validation accuracy; several classes are
merged by cumulative mass (each class an equal say), the original having two.

Presets: `radford2017` on raw activations, with the inverse penalty out of 2^-8, ..., 1 that tells the most items of
a fifth of the sentences right, then solved on all items; `fan2023` trains with Adam at a penalty of 0.1.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from nibench import (
    Claim,
    Method,
    Needs,
    Observations,
    Ranking,
    Scale,
    adam_probe,
    cumulative_mass,
    linear_probe,
)


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

    presets: ClassVar[dict[str, dict[str, object]]] = {
        "z": {"scale": "z"},
        "raw": {"scale": "raw"},
        "radford2017": {"scale": "raw", "validate": True},
        "fan2023": {"training": "adam2019", "scale": "raw"},
    }

    l1: float = 0.1  # fraction of lambda_max; as it stands under adam2019
    scale: Scale = "z"
    validate: bool = False  # choose the penalty by held-out accuracy, whatever l1
    training: Literal["exact", "adam2019"] = "exact"

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        x = data.standardized(self.scale)
        if self.training == "adam2019":
            x = data.activations if self.scale == "raw" else x
            probe = adam_probe(
                x, data.labels, data.n_classes, rng, l1=self.l1, l2=0.0, batch=32, shuffle=True
            )
        elif self.validate:
            l1 = self._chosen(data, x) / len(x)
            probe = linear_probe(x, data.labels, data.n_classes, l1=l1, relative=False)
        else:
            probe = linear_probe(x, data.labels, data.n_classes, l1=self.l1)
        per_class = cumulative_mass(probe.weights)
        return Ranking.from_scores(per_class.max(axis=0), per_class, probe)

    def _chosen(self, data: Observations, x: np.ndarray) -> float:
        """The penalty on the summed loss, out of 256, 128, ..., 1, with the best held-out accuracy."""
        fit, held_out = next(iter(data.folds(5)))
        right, weights = {}, None
        for penalty in 2.0 ** np.arange(8, -1, -1):
            probe = linear_probe(
                x[fit],
                data.labels[fit],
                data.n_classes,
                l1=penalty / len(fit),
                relative=False,
                start=weights,
                tolerance=1e-6,
            )
            weights = probe.weights
            logits = np.where(np.isin(np.arange(data.n_classes), data.labels[fit]), probe.bias, -np.inf)
            right[penalty] = np.sum(
                (x[held_out] @ weights.T + logits).argmax(axis=1) == data.labels[held_out]
            )
        return max(right, key=lambda penalty: (right[penalty], penalty))
