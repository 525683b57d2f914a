"""Concept IoU: overlap between the items a neuron is on for and the items of a class.

Switch each neuron on for as many of its most active items as the class has members, and compare the two
sets by intersection over union.

Paper: Mu & Andreas, "Compositional Explanations of Neurons", NeurIPS 2020, section 3 (formulas of one
concept). https://arxiv.org/abs/2006.14032

Deviations: the threshold is the quantile that matches the class's frequency, where the paper's code takes
0 (half of all items on a neuron without a ReLU); the IoU of a random set of the same size is subtracted,
since rare classes get a tiny IoU from any neuron; the least active items are tried as well.
`concept_iou@muandreas2020` leaves all three out: plain IoU of the items with an activation above 0, for neurons that
have 500 of them, 0 for the others.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

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
    presets: ClassVar[dict[str, dict[str, object]]] = {"muandreas2020": {"on": "positive", "fewest": 500}}
    complexity: ClassVar[str] = "O(ND (log N + C)), one sort for all classes"
    limits: ClassVar[str] = (
        "One neuron at a time; blind to a concept told by middling values or only by several neurons "
        "together."
    )

    on: Literal["most active", "positive"] = "most active"
    fewest: int = 0  # with "positive": a neuron on for fewer items scores 0

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        if self.on == "positive":
            plain = self._positive(data)
            return Ranking.from_scores(data.statistics.mean_over_classes(plain), plain, Signed(plain, "IoU"))
        high, low = np.zeros((2, data.n_classes, len(data.neurons)))
        for block in data.sorted_blocks():
            high[:, block.columns], low[:, block.columns] = matched_iou(block, data.labels, data.n_classes)
        per_class = np.maximum(high, low)
        signed = np.where(low > high, -low, high)
        evidence = Signed(signed, "IoU minus chance; negated where the least active items gave it")
        return Ranking.from_scores(data.statistics.mean_over_classes(per_class), per_class, evidence)

    def _positive(self, data: Observations) -> np.ndarray:
        """(C, D): IoU of each class with the items on which each neuron is above 0."""
        lit = np.array([(items > 0).sum(axis=0) for items in data.by_class()])  # (C, D)
        union = lit.sum(axis=0) + data.statistics.counts[:, None] - lit
        counted = (lit.sum(axis=0) >= self.fewest) & (data.variance() > 0)
        return np.where(counted, lit / np.maximum(union, 1), 0.0)
