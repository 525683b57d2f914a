"""Conductance: how much of the margin flows through a neuron while the words move away from a baseline.

The word embeddings go in a straight line from a baseline to the prompt; on each stretch a neuron is credited
with its own change times the slope of the margin. The credits of a whole layer add up to the change of the
margin, wherever the layer alone leads on to it.

Paper: Dhamdhere, Sundararajan & Yan, "How Important Is a Neuron?", ICLR 2019, section 3.
https://arxiv.org/abs/1805.12233

Deviations: 32 even points with both ends and the mean slope of each stretch. `@kokhlikyan2020` has the Captum
library's: 51 Gauss-Legendre points, which leave the ends out, with the slope at the start of each stretch,
from zero embeddings. The baseline is the mean word embedding of the prompts at every word (`baseline="zero"`:
the zero vector; `"source"`, where prompts have twins: the twin's words, and the claim is then about the
concept alone); embeddings on the way are no words. Only the intervened positions are credited.

Cost: `nodes` forward and backward passes per prompt, for all layers together.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from nibench import Claim, Method, Needs, Observations, Ranking, Scope, Signed


@dataclass(frozen=True)
class Conductance(Method):
    """Mean over items of the absolute credit in nats; the evidence is the signed mean."""

    needs: ClassVar[Needs] = Needs.MODEL
    claims: ClassVar[Claim] = "required"
    family: ClassVar[str] = "attribution"
    paper: ClassVar[str] = (
        "Dhamdhere, Sundararajan & Yan, How Important Is a Neuron?, 2019, https://arxiv.org/abs/1805.12233"
    )
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "kokhlikyan2020": {"nodes": 51, "rule": "gauss", "baseline": "zero"}
    }
    scope: ClassVar[Scope] = "local"
    complexity: ClassVar[str] = "as many forward and backward passes as nodes, for all layers together"
    limits: ClassVar[str] = (
        "Credit depends on the baseline of the words; the path leaves the inputs that the model knows."
    )

    nodes: int = 32
    rule: Literal["trapezoid", "gauss"] = "trapezoid"
    baseline: Literal["mean", "zero", "source"] = "mean"

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        credits = data.behaviour.contributions(  # (M, D)
            "conductance", nodes=self.nodes, rule=self.rule, baseline=self.baseline
        )
        evidence = Signed(credits.mean(axis=0), "mean credit for the margin in nats")
        return Ranking.from_scores(np.abs(credits).mean(axis=0), evidence=evidence)
