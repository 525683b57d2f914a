"""Concept IoU: overlap between the items a neuron is on for and the items of a class.

Switch each neuron on for as many of its most active items as the class has members, and compare the two
sets by intersection over union.

Paper: Mu & Andreas, "Compositional Explanations of Neurons", NeurIPS 2020, section 3 (formulas of one
concept). https://arxiv.org/abs/2006.14032

Deviations: the threshold is the quantile that matches the class's frequency, where the paper's code takes
0 (half of all items on a neuron without a ReLU); the IoU of a random set of the same size is subtracted,
since rare classes get a tiny IoU from any neuron; the least active items are tried as well.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nibench import Claim, Method, Needs, Observations, Ranking, Signed, matched_iou


@dataclass(frozen=True)
class ConceptIoU(Method):
    """IoU above chance of the better side, mean over classes; 0 is chance, constant neurons score 0.

    The evidence keeps the side: negative where the class is where the neuron is least active.
    """

    needs: ClassVar[Needs] = Needs.ACTIVATIONS | Needs.LABELS
    claims: ClassVar[Claim] = "associated"
    family: ClassVar[str] = "corpus"
    paper: ClassVar[str] = (
        "Mu & Andreas, Compositional Explanations of Neurons, 2020, https://arxiv.org/abs/2006.14032"
    )
    complexity: ClassVar[str] = "O(ND (log N + C)), one sort for all classes"
    limits: ClassVar[str] = (
        "One neuron at a time; blind to a concept told by middling values or only by several neurons "
        "together."
    )

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        high, low = np.zeros((2, data.n_classes, len(data.neurons)))
        for block in data.sorted_blocks():
            high[:, block.columns], low[:, block.columns] = matched_iou(block, data.labels, data.n_classes)
        per_class = np.maximum(high, low)
        signed = np.where(low > high, -low, high)
        evidence = Signed(signed, "IoU minus chance; negated where the least active items gave it")
        return Ranking.from_scores(data.statistics.mean_over_classes(per_class), per_class, evidence)
