"""SVCCA: neurons that lie along the directions which several models share.

Several models read the same items. Each model's activations are cut down to the principal components that hold 99 %
of the variance; canonical correlation analysis then finds the directions of the two spaces that agree best. These
directions are the result. No label is read.

Papers: Raghu et al., "SVCCA", NeurIPS 2017, section 2, https://arxiv.org/abs/1706.05806; used to rank in Bau et
al., "Identifying and Controlling Important Neurons in Neural Machine Translation", ICLR 2019, section 3.1.
https://arxiv.org/abs/1811.01157

Deviations: the papers rank directions, not neurons; the neuron score is ours: the sum over directions of the
canonical correlation times the squared correlation of neuron and direction, mean over the other models. Neurons
are standardised, and freed of the item's position and sentence length, so that loud ones do not fill the
components (preset `bau2019`: neither). Data is centred in the preset too, where the original code left it as it was,
and the components reach the stated share, where it stopped one short.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nibench import (
    Claim,
    Direction,
    Method,
    Needs,
    Observations,
    Ranking,
    Scalability,
    across_models,
    shared_directions,
)


@dataclass(frozen=True)
class Svcca(Method):
    """The score is the mean over other models of sum_k rho_k a_jk^2, in [0, 1]; constant neurons score 0.

    rho_k is the k-th canonical correlation, a_jk the correlation of neuron j with that direction. Evidence:
    `Directions`.
    """

    needs: ClassVar[Needs] = Needs.ACTIVATIONS | Needs.MODELS
    claims: ClassVar[Claim] = "none"
    direction: ClassVar[Direction] = "none"
    family: ClassVar[str] = "cross-model"
    paper: ClassVar[str] = "Raghu et al., SVCCA, 2017, https://arxiv.org/abs/1706.05806"
    scalability: ClassVar[Scalability] = "medium"
    human_in_the_loop: ClassVar[bool] = True
    complexity: ClassVar[str] = "O(N D^2 + D^3) for each model and as much for each pair, memory O(D^2)"
    limits: ClassVar[str] = (
        "Finds directions; a neuron's score is only how it lies to them. Correlations are near one by chance where "
        "the components of two models outnumber the items."
    )
    presets: ClassVar[dict[str, dict[str, object]]] = {"bau2019": {"partial": False, "scaled": False}}

    variance: float = 0.99  # share of it that the components hold
    partial: bool = True  # take position and sentence length out first
    scaled: bool = True  # deviation 1 for every neuron

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        mine, others = across_models(data, partial=self.partial, scaled=self.scaled)
        found = shared_directions(mine, others, self.variance)
        scores = np.square(found.loadings) @ found.correlations / len(others)
        chance = found.components[0] + max(found.components[1:]) >= mine.n_items
        return Ranking.from_scores(
            np.minimum(scores, 1.0),
            evidence=found,
            flags=("components outnumber items",) if chance else (),
        )
