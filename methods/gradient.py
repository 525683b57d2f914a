"""Gradient: how steeply the behaviour's margin rises with each neuron, at the values the model itself takes.

Paper: Simonyan, Vedaldi & Zisserman, "Deep Inside Convolutional Networks: Visualising Image Classification
Models and Saliency Maps", ICLR 2014 workshop, section 3. https://arxiv.org/abs/1312.6034

Deviations: at neurons, not pixels; the margin between two answers, not a class score; the slopes of one
item's positions are added, then absolute values are averaged over items. A slope knows nothing of how far a
neuron ever moves, so neurons of different layers or scales do not compare, and where the network is flat
around a neuron's value the neuron is missed.

Cost: one forward and one backward pass per prompt.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nibench import Claim, Method, Needs, Observations, Ranking, Scope, Signed


@dataclass(frozen=True)
class Gradient(Method):
    """Mean over items of the absolute slope, in nats per unit of activation; the evidence is the signed mean."""

    needs: ClassVar[Needs] = Needs.MODEL
    claims: ClassVar[Claim] = "required"
    family: ClassVar[str] = "attribution"
    paper: ClassVar[str] = (
        "Simonyan, Vedaldi & Zisserman, Deep Inside Convolutional Networks, 2014, https://arxiv.org/abs/1312.6034"
    )
    scope: ClassVar[Scope] = "local"
    complexity: ClassVar[str] = "one forward and one backward pass"
    limits: ClassVar[str] = (
        "A slope says nothing of how far the neuron moves, and is flat where the answer saturates."
    )

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        slopes = data.behaviour.contributions("gradient")  # (M, D)
        evidence = Signed(slopes.mean(axis=0), "mean slope of the margin in nats per unit of activation")
        return Ranking.from_scores(np.abs(slopes).mean(axis=0), evidence=evidence)
