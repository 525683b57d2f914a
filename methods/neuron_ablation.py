"""Neuron ablation: replace one neuron at a time and see how much of the behaviour is lost.

Every neuron is ablated alone in the real forward pass, exactly; the behaviour is the margin between the
correct and the wrong answer in nats.

Paper: Lakretz et al., "The emergence of number and syntax units in LSTM language models", NAACL 2019,
section 4. https://arxiv.org/abs/1903.07435

Deviations: the neuron's activation is set to its mean, where the original zeroes outgoing weights, and the
effect is the change of the margin, where the original counts correct answers. Neurons that back each other
up are missed by ablating one at a time: that is the method, not the implementation.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from nibench import Claim, Method, Needs, Observations, Ranking, Scalability, Scope, Signed


@dataclass(frozen=True)
class NeuronAblation(Method):
    """Absolute mean drop of the margin in nats when the neuron alone is ablated; at least 0.

    The evidence keeps the sign: positive where the behaviour gets worse. All items weigh alike.
    """

    needs: ClassVar[Needs] = Needs.MODEL
    claims: ClassVar[Claim] = "required"
    family: ClassVar[str] = "ablation"
    paper: ClassVar[str] = (
        "Lakretz et al., The emergence of number and syntax units in LSTM language models, 2019, "
        "https://arxiv.org/abs/1903.07435"
    )
    shares_estimand: ClassVar[tuple[Claim, ...]] = ("required",)
    scope: ClassVar[Scope] = "both"
    scalability: ClassVar[Scalability] = "medium"
    complexity: ClassVar[str] = "D forward passes, each from the neuron's layer on, batched"
    limits: ClassVar[str] = (
        "One neuron at a time: backups and redundant groups hide each other; a replaced value may be "
        "unnatural."
    )

    to: Literal["mean", "zero", "resample"] = "mean"

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        drops = data.behaviour.single_effects(to=self.to).mean(axis=0)  # (D,)
        evidence = Signed(drops, f"mean drop of the margin in nats under {self.to} ablation")
        return Ranking.from_scores(np.abs(drops), evidence=evidence)
