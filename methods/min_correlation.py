"""Min correlation: a neuron matters if every other model has found it too.

Several models read the same items. For each other model the best match of a neuron is its largest absolute
correlation with any neuron there; the score is the best match in the model that matches it worst. No label is
read.

Paper: Bau et al., "Identifying and Controlling Important Neurons in Neural Machine Translation", ICLR 2019,
section 3.1 (minimum correlation). https://arxiv.org/abs/1811.01157

Deviations: the item's position and the length of its sentence are taken out of every neuron by least squares
first (preset `bau2019`: plain correlation); the evidence says what the best of as many unrelated neurons
reaches by chance. With one other model it is the same as `max_correlation`.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nibench import Claim, Direction, Method, Needs, Observations, Ranking, across_models, best_matches


@dataclass(frozen=True)
class MinCorrelation(Method):
    """The score is min over other models of max over their neurons of |Pearson correlation|, in [0, 1].

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
        "One poor model hides what all others share; says that a neuron is no accident, not what it is for."
    )
    presets: ClassVar[dict[str, dict[str, object]]] = {"bau2019": {"partial": False}}

    partial: bool = True  # take position and sentence length out first

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        found = best_matches(*across_models(data, partial=self.partial))
        return Ranking.from_scores(np.abs(found.correlations).min(axis=0), evidence=found)
