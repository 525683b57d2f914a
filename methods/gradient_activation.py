"""Gradient times activation: the first-order estimate of what ablating a neuron would do.

One backward pass gives the slope of the behaviour's margin at every neuron; times the distance to the
ablated value it predicts the effect of the ablation without running it.

Paper: Shrikumar, Greenside & Kundaje, "Learning Important Features Through Propagating Activation
Differences", ICML 2017 (gradient times input). https://arxiv.org/abs/1704.02685

Deviation: the distance is to the neuron's mean, not to 0 (`baseline="zero"`). Local slopes only: where the
rest of the network saturates, the estimate is wrong.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from nibench import Claim, Method, Needs, Observations, Ranking, Scope, Signed


@dataclass(frozen=True)
class GradientActivation(Method):
    """Mean over items of the absolute contribution in nats: (activation - baseline) x gradient of the margin.

    Contributions are summed over the ablated positions of an item. The evidence is their signed mean.
    """

    needs: ClassVar[Needs] = Needs.MODEL
    claims: ClassVar[Claim] = "required"
    family: ClassVar[str] = "attribution"
    paper: ClassVar[str] = (
        "Shrikumar, Greenside & Kundaje, Learning Important Features Through Propagating Activation "
        "Differences, 2017, https://arxiv.org/abs/1704.02685"
    )
    scope: ClassVar[Scope] = "local"
    complexity: ClassVar[str] = "one forward and one backward pass"
    limits: ClassVar[str] = (
        "First order: misleads where the answer saturates between the baseline and the activation."
    )

    baseline: Literal["mean", "zero"] = "mean"

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        contributions = data.behaviour.contributions("gradient_activation", baseline=self.baseline)  # (M, D)
        evidence = Signed(contributions.mean(axis=0), "mean contribution to the margin in nats")
        return Ranking.from_scores(np.abs(contributions).mean(axis=0), evidence=evidence)
