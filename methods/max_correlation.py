"""Max correlation: a neuron matters if some other model, trained apart, has found it too.

Several models read the same items. A neuron's score is its largest absolute correlation with any neuron of
any other model: what has been learnt twice is hardly an accident of one training run. No label is read.

Papers: Bau et al., "Identifying and Controlling Important Neurons in Neural Machine Translation", ICLR 2019,
section 3.1 (maximum correlation). https://arxiv.org/abs/1811.01157. Cross-model Correlation Analysis of Dalvi et
al., "What Is One Grain of Sand in the Desert?", AAAI 2019, section 3.2, is the same score over models that differ
in their initialisation only (preset `dalvi2019`). https://arxiv.org/abs/1812.09355

Deviations: the item's position and the length of its sentence are taken out of every neuron by least squares
first, since any two models share them (presets `bau2019` and `dalvi2019`: plain correlation); the evidence says
what the best of as many unrelated neurons reaches by chance. The other models may have any architecture.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nibench import Claim, Direction, Method, Needs, Observations, Ranking, across_models, best_matches


@dataclass(frozen=True)
class MaxCorrelation(Method):
    """The score is max over other models and their neurons of |Pearson correlation|, in [0, 1].

    Constant neurons score 0. Evidence: `Matches`, with partners and the level of chance.
    """

    needs: ClassVar[Needs] = Needs.ACTIVATIONS | Needs.MODELS
    claims: ClassVar[Claim] = "none"
    direction: ClassVar[Direction] = "none"
    family: ClassVar[str] = "cross-model"
    paper: ClassVar[str] = (
        "Bau et al., Identifying and Controlling Important Neurons in Neural Machine Translation, 2019, "
        "https://arxiv.org/abs/1811.01157"
    )
    human_in_the_loop: ClassVar[bool] = True
    complexity: ClassVar[str] = "O(N D D') for each other model of D' neurons, memory O(D D')"
    limits: ClassVar[str] = (
        "Says that a neuron is no accident, not what it is for; word identity and frequency are shared by all "
        "models; rotated residual streams have no neurons to match."
    )
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "bau2019": {"partial": False},
        "dalvi2019": {"partial": False},
    }

    partial: bool = True  # take position and sentence length out first

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        found = best_matches(*across_models(data, partial=self.partial))
        return Ranking.from_scores(np.abs(found.correlations).max(axis=0), evidence=found)
