"""Linear regression across models: a neuron matters if the neurons of every other model together tell its value.

Several models read the same items. A neuron is regressed on all neurons of another model; the score is the share
of its variance that is explained, in the other model where that is least. No label is read. What is spread over
many neurons elsewhere is found too, where single correlations miss it.

Paper: Bau et al., "Identifying and Controlling Important Neurons in Neural Machine Translation", ICLR 2019,
section 3.1 (regression ranking). https://arxiv.org/abs/1811.01157

Deviations: the paper ranks by the mean squared error on standardised neurons, which is one minus this score; a
ridge of a millionth of a neuron's variance stands for the plain inverse, which breaks on collinear neurons (in the
preset as well); the item's position and the length of its sentence are taken out first (preset `bau2019`: not).
The fit is in sample: with D' neurons and N items, noise explains D'/N, and the ranking is flagged where that is
over a half.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nibench import Claim, Direction, Method, Needs, Observations, Ranking, Signed, across_models, explained


@dataclass(frozen=True)
class LinearRegressionAcrossModels(Method):
    """The score is the smallest R^2 over the other models, in [0, 1]; constant neurons score 0.

    Evidence: `Signed`, R^2 in each other model less what noise explains (negative: no better than noise).
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
    complexity: ClassVar[str] = (
        "O(N D'(D + D') + D'^3 + D D'^2) for each other model of D' neurons, memory O(D'(D + D'))"
    )
    limits: ClassVar[str] = (
        "Tells nothing where the other model has as many neurons as there are items; what any model shares "
        "with any other, such as word identity, explains much."
    )
    presets: ClassVar[dict[str, dict[str, object]]] = {"bau2019": {"partial": False}}

    ridge: float = 1e-6  # share of a neuron's variance
    partial: bool = True  # take position and sentence length out first

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        mine, others = across_models(data, partial=self.partial)
        shares = np.stack([explained(mine, other, self.ridge) for other in others])
        noise = np.array([min(len(other.deviation) / mine.n_items, 1.0) for other in others])
        excess = np.where(np.isfinite(mine.deviation), shares - noise[:, None], 0.0)
        return Ranking.from_scores(
            shares.min(axis=0),
            evidence=Signed(excess, "share of variance explained, per other model, less what noise explains"),
            flags=("noise alone explains over half",) if noise.max() > 0.5 else (),
        )
