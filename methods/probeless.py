"""Probeless: rank neurons by the distances between class means.

A neuron matters for a concept if its mean activation differs between the concept's classes. No probe is
trained, so none can bias the ranking. All pairs of classes count alike, whatever their sizes.

Paper: Antverg & Belinkov, "On the Pitfalls of Analyzing Individual Neurons in Language Models",
ICLR 2022, section 3. https://arxiv.org/abs/2110.07483

Deviation: each neuron is first divided by its standard deviation, for on raw activations loud neurons
lead whatever the concept. The preset `probeless@antverg2022` (or `@raw`) leaves that out, as the paper does.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nibench import Claim, Method, Needs, Observations, Ranking, Scale


@dataclass(frozen=True)
class Probeless(Method):
    """Sum over all pairs of classes of the absolute difference of class means.

    Per class: the sum over the pairs that the class is in. Constant neurons score 0.
    """

    needs: ClassVar[Needs] = Needs.ACTIVATIONS | Needs.LABELS
    claims: ClassVar[Claim] = "associated"
    family: ClassVar[str] = "corpus"
    paper: ClassVar[str] = (
        "Antverg & Belinkov, On the Pitfalls of Analyzing Individual Neurons in Language Models, 2022, "
        "https://arxiv.org/abs/2110.07483"
    )
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "z": {"scale": "z"},
        "raw": {"scale": "raw"},
        "antverg2022": {"scale": "raw"},
    }
    complexity: ClassVar[str] = "O(ND + C^2 D), one pass"
    limits: ClassVar[str] = (
        "One neuron at a time: lists redundant neurons all, and is blind to a class told by its spread."
    )

    scale: Scale = "z"

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        means = data.statistics.class_means[data.statistics.counts > 0]  # (classes with items, D)
        if self.scale == "z":
            means = means / data.spread()
        per_class = np.zeros((data.n_classes, len(data.neurons)))
        per_class[data.statistics.counts > 0] = [np.abs(means - mean).sum(axis=0) for mean in means]
        return Ranking.from_scores(per_class.sum(axis=0) / 2, per_class)  # each pair was counted twice
