"""DeepLIFT-like: a neuron's difference from the counterfactual run, times secants instead of slopes on the way out.

Between the prompt and its twin every element-wise non-linearity is replaced by the straight line through its
two points, so a saturated unit passes on what it really did. Contributions are the neuron's difference times
what this piecewise linear network makes of it.

Paper: Shrikumar, Greenside & Kundaje, "Learning Important Features Through Propagating Activation
Differences", ICML 2017, section 3.5.2 (rescale rule). https://arxiv.org/abs/1704.02685

Deviations, which make it DeepLIFT-*like*: attention patterns and the scales of norms are constants, and
gated products are split evenly between their factors, so a layer's contributions add up to the change of the
margin only where those do not change. The reference is the twin's run. Each block's non-linearity must be a
module of its own, else the method refuses.

Cost: two forward and one backward pass per prompt.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nibench import Claim, Method, Needs, Observations, Ranking, Scope, Signed


@dataclass(frozen=True)
class DeepLift(Method):
    """Mean over items of the absolute contribution in nats; the evidence is the signed mean."""

    needs: ClassVar[Needs] = Needs.MODEL | Needs.PAIRS
    claims: ClassVar[Claim] = "carries"
    family: ClassVar[str] = "attribution"
    paper: ClassVar[str] = (
        "Shrikumar, Greenside & Kundaje, Learning Important Features Through Propagating Activation "
        "Differences, 2017, https://arxiv.org/abs/1704.02685"
    )
    scope: ClassVar[Scope] = "local"
    complexity: ClassVar[str] = "two forward passes and one backward pass"
    limits: ClassVar[str] = (
        "Attention patterns and the scale of norms are held fixed; contributions need not add up."
    )

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        contributions = data.behaviour.contributions("deeplift", baseline="source")  # (M, D)
        evidence = Signed(contributions.mean(axis=0), "mean contribution to the margin in nats")
        return Ranking.from_scores(np.abs(contributions).mean(axis=0), evidence=evidence)
