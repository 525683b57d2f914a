"""Expert units: rank neurons by how well their activation alone retrieves a class.

Sort the items by one neuron's activation; if the class comes out on top, the neuron is an expert for it.
The measure is average precision, so only the order of the activations matters, not their scale.

Paper: Suau, Zappella & Apostoloff, "Finding Experts in Transformer Models", 2020, section 3.
https://arxiv.org/abs/2005.07647

Deviations: items are words or prompts, not sentences under a max-pool over (padded) positions, and a
neuron that is *less* active on a class counts as well (`expert_units@suau2020` takes the active side
only). `expert_units@neurox` is what the NeuroX toolkit offers under the name of IoU: average precision of
the active side after activations of magnitude below 0.05 were set to 0.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from nibench import Claim, Method, Needs, Observations, Ranking, Signed, average_precision


@dataclass(frozen=True)
class ExpertUnits(Method):
    """Average precision of the neuron or, where better, of the negated neuron; mean over classes.

    Ties are exact (tied items enter together), so a constant neuron scores the frequency of the class.
    The evidence is the precision above that frequency, as a share of what is possible, with the sign of
    the side: negative where the class is the less active one.
    """

    needs: ClassVar[Needs] = Needs.ACTIVATIONS | Needs.LABELS
    claims: ClassVar[Claim] = "associated"
    family: ClassVar[str] = "corpus"
    paper: ClassVar[str] = (
        "Suau, Zappella & Apostoloff, Finding Experts in Transformer Models, 2020, https://arxiv.org/abs/2005.07647"
    )
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "suau2020": {"side": "high"},
        "neurox": {"side": "high", "floor": 0.05},
    }
    complexity: ClassVar[str] = "O(ND (log N + C)), one sort for all classes"
    limits: ClassVar[str] = (
        "One neuron at a time; a rare class has a noisy precision; blind to what several neurons tell "
        "together."
    )

    side: Literal["both", "high"] = "both"
    floor: float = 0.0  # activations of smaller magnitude count as 0

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        high, low = np.zeros((2, data.n_classes, len(data.neurons)))
        for block in data.sorted_blocks(self.floor):
            high[:, block.columns], low[:, block.columns] = average_precision(
                block, data.labels, data.n_classes
            )
        per_class = high if self.side == "high" else np.maximum(high, low)
        share = (data.statistics.counts / len(data.labels))[:, None]  # (C, 1)
        lift = np.divide(per_class - share, 1 - share, out=np.zeros_like(per_class), where=share < 1)
        signed = np.where(per_class > high, -lift, lift)
        evidence = Signed(signed, "(AP - share) / (1 - share); negative where low activations tell the class")
        return Ranking.from_scores(data.statistics.mean_over_classes(per_class), per_class, evidence)
