"""Integrated gradients at the neurons: the behaviour's margin divided among them along a straight path.

All neurons of a site move together from a baseline to their activations; each is credited with its
distance times the average slope on the way. The credits of one site add up to the change of the margin.

Paper: Sundararajan, Taly & Yan, "Axiomatic Attribution for Deep Networks", ICML 2017, section 3.
https://arxiv.org/abs/1703.01365

Deviations: the path runs through the neurons, not the input; the baseline is each neuron's mean, 0 being
far from any activation the model knows; the integral is taken on 20 Gauss-Legendre nodes, which is as exact
as hundreds of even steps. `integrated_gradients@kokhlikyan2020` has the Captum library's 50 nodes from 0.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from nibench import Claim, Method, Needs, Observations, Ranking, Scope, Signed


@dataclass(frozen=True)
class IntegratedGradients(Method):
    """Mean over items of the absolute credit in nats; the evidence is the signed mean."""

    needs: ClassVar[Needs] = Needs.MODEL
    claims: ClassVar[Claim] = "required"
    family: ClassVar[str] = "attribution"
    paper: ClassVar[str] = (
        "Sundararajan, Taly & Yan, Axiomatic Attribution for Deep Networks, 2017, https://arxiv.org/abs/1703.01365"
    )
    presets: ClassVar[dict[str, dict[str, object]]] = {"kokhlikyan2020": {"nodes": 50, "baseline": "zero"}}
    scope: ClassVar[Scope] = "local"
    complexity: ClassVar[str] = "as many forward and backward passes as nodes"
    limits: ClassVar[str] = (
        "Credit depends on the baseline; the straight path leaves the states that the model knows."
    )

    nodes: int = 20
    baseline: Literal["mean", "zero"] = "mean"

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        contributions = data.behaviour.contributions(
            "integrated_gradients", nodes=self.nodes, baseline=self.baseline
        )
        evidence = Signed(contributions.mean(axis=0), "mean contribution to the margin in nats")
        return Ranking.from_scores(np.abs(contributions).mean(axis=0), evidence=evidence)
