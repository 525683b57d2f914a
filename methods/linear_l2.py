"""Linear probe with a squared L2 penalty: rank neurons by absolute weight.

Neurons that carry the same information share the weight, so redundant groups are listed whole and each
member scores lower than it would alone.

Paper: Lakretz et al., "The emergence of number and syntax units in LSTM language models", NAACL 2019,
section 5 (decoding from units). https://arxiv.org/abs/1903.07435

Deviations: logistic loss where the original trains a linear support vector machine; the penalty is a
fraction of the critical L1 penalty of the same data, so that it means the same on every model, and is
fixed at a tenth, not tuned on held-out data.

Presets: `lakretz2019` solves the original's machine (squared hinge, C = 1, one class against the rest; all items
in one fit where the original averages five random splits); `fan2023` trains with Adam under 0.1 times the plain norm.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from sklearn.svm import LinearSVC

from nibench import (
    Claim,
    Method,
    Needs,
    Observations,
    Ranking,
    Scale,
    Selects,
    Signed,
    adam_probe,
    linear_probe,
)


@dataclass(frozen=True)
class LinearL2(Method):
    """Absolute weight per standard deviation of the neuron, mean over classes; constant neurons score 0.

    Evidence: `LinearProbe` with signed weights, penalty and duality gap; for the squared hinge `Signed` weights,
    with the largest duality gap among the classes in their meaning.
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
    selects_by: ClassVar[Selects] = "halves"
    error_rate: ClassVar[str] = (
        "experimental, from .1 up: at .1, .2 realised .10, .21 where labels go by the sentence; refused where by the "
        "token (.16, .30) or the word (.74, .82); 60 draws of a world each, Nov 2026"
    )

    presets: ClassVar[dict[str, dict[str, object]]] = {
        "z": {"scale": "z"},
        "raw": {"scale": "raw"},
        "lakretz2019": {"loss": "squared_hinge"},
        "fan2023": {"training": "adam2019", "scale": "raw"},
    }

    l2: float = 0.1  # fraction of lambda_max; times the plain norm, as it stands, under adam2019
    scale: Scale = "z"
    loss: Literal["logistic", "squared_hinge"] = "logistic"  # the second: C = 1, whatever l2
    training: Literal["exact", "adam2019"] = "exact"

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        x = data.standardized(self.scale)
        if self.training == "adam2019":
            x = data.activations if self.scale == "raw" else x
            evidence = adam_probe(
                x, data.labels, data.n_classes, rng, l1=0.0, l2=self.l2, batch=32, shuffle=True
            )
            per_class = np.abs(evidence.weights)
        elif self.loss == "squared_hinge":
            evidence = self._machine(data, x)
            per_class = np.abs(evidence.values)
        else:
            evidence = linear_probe(x, data.labels, data.n_classes, l2=self.l2)
            per_class = np.abs(evidence.weights)
        return Ranking.from_scores(data.statistics.mean_over_classes(per_class), per_class, evidence)

    def _machine(self, data: Observations, x: np.ndarray) -> Signed:
        """Linear support vector machines, one a class, in the primal: one optimum, found by Newton's method."""
        weights, worst = np.zeros((data.n_classes, x.shape[1])), 0.0
        for label in np.flatnonzero(data.statistics.counts):
            side = np.where(data.labels == label, 1.0, -1.0)
            if (side == 1).all():
                break
            machine: Any = LinearSVC(C=1.0, dual=False, tol=1e-6, max_iter=1000)  # pyright: ignore[reportArgumentType]
            machine.fit(x, side)
            weights[label] = machine.coef_[0]
            slack = np.maximum(1 - side * machine.decision_function(x), 0)
            norm = np.square(weights[label]).sum() + machine.intercept_[0] ** 2
            pull = 2 * slack * side  # the dual point that these slacks imply
            dual = (
                2 * slack.sum() - np.square(slack).sum() - (np.square(pull @ x).sum() + pull.sum() ** 2) / 2
            )
            worst = max(worst, (norm / 2 + np.square(slack).sum() - dual) / len(x))
        return Signed(
            weights, f"weight per standard deviation; duality gap at most {worst:.1e} of the loss at 0"
        )
