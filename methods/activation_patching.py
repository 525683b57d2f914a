"""Activation patching: give one neuron the value it takes on the counterfactual sentence, and see the answer move.

Each prompt has a twin that differs in the concept only. Every neuron alone is set to its value in the twin's
run, in the real forward pass, exactly; what is scored is how far the margin moves towards the twin's answer.

Paper: Vig et al., "Investigating Gender Bias in Language Models Using Causal Mediation Analysis", NeurIPS
2020, section 3 (natural indirect effects of neurons). https://arxiv.org/abs/2004.12265

Deviations: differences of the margin in nats, where the original takes ratios of answer probabilities; the
patched run is the prompt's, the value the twin's: with both members of a pair among the prompts that is both
directions. Neurons that only act together are missed by patching one at a time.

Cost: one pass from the next layer on per prompt and neuron.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nibench import Claim, Method, Needs, Observations, Ranking, Scalability, Scope, Signed


@dataclass(frozen=True)
class ActivationPatching(Method):
    """Absolute mean change of the margin in nats; the evidence is its share of the way to the twin's margin.

    The share is signed (positive: towards the twin's answer); where prompts and twins do not differ on
    average the change in nats stands there.
    """

    needs: ClassVar[Needs] = Needs.MODEL | Needs.PAIRS
    claims: ClassVar[Claim] = "carries"
    family: ClassVar[str] = "ablation"
    paper: ClassVar[str] = (
        "Vig et al., Investigating Gender Bias in Language Models Using Causal Mediation Analysis, 2020, "
        "https://arxiv.org/abs/2004.12265"
    )
    shares_estimand: ClassVar[tuple[Claim, ...]] = ("carries",)
    scope: ClassVar[Scope] = "both"
    scalability: ClassVar[Scalability] = "low"
    complexity: ClassVar[str] = "D forward passes, each from the neuron's layer on, batched"
    limits: ClassVar[str] = (
        "Needs counterfactual twins; one neuron at a time: what is carried jointly by backups is missed."
    )

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        behaviour = data.behaviour
        changes = behaviour.single_effects(to="source").mean(axis=0)  # (D,)
        whole = float((behaviour.margin() - behaviour.source_margin()).mean())
        if whole > 0:
            evidence = Signed(
                changes / whole, "share of the way to the twin's margin that the neuron moves it"
            )
        else:
            evidence = Signed(changes, "mean change of the margin in nats; prompts and twins do not differ")
        return Ranking.from_scores(np.abs(changes), evidence=evidence)
