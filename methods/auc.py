"""AUC: how often an item of the class is more active than an item outside it.

The area under the ROC curve of one neuron as a detector, which is the statistic of Wilcoxon's rank test: only the
order of the activations counts, so neither their scale nor an outlier does.

Paper: Hanley & McNeil, "The Meaning and Use of the Area under a Receiver Operating Characteristic (ROC) Curve",
Radiology 1982. https://doi.org/10.1148/radiology.143.1.7063747

Deviations: the distance from 1/2 is ranked by, so that a neuron that is silent on the class counts as well;
several classes are each compared with the rest and averaged.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nibench import Claim, Method, Needs, Observations, Ranking, Selects, Signed, roc_auc


@dataclass(frozen=True)
class AUC(Method):
    """Distance of the area from 1/2, mean over classes; in [0, 1/2]. Ties count half, constant neurons score 0.

    The evidence keeps the sign: positive where the class is the more active side.
    """

    needs: ClassVar[Needs] = Needs.ACTIVATIONS | Needs.LABELS
    claims: ClassVar[Claim] = "associated"
    family: ClassVar[str] = "corpus"
    paper: ClassVar[str] = (
        "Hanley & McNeil, The Meaning and Use of the Area under a Receiver Operating Characteristic (ROC) Curve, "
        "1982, https://doi.org/10.1148/radiology.143.1.7063747"
    )
    complexity: ClassVar[str] = "O(ND log N), one sort for all classes"
    limits: ClassVar[str] = (
        "One neuron at a time; blind to a class at both ends of the activations, or in their middle."
    )
    selects_by: ClassVar[Selects] = "ranks"
    error_rate: ClassVar[str] = (
        "At .05, .1, .2 realised at most .02, .05, .10 of false neurons in nine worlds (labels by token, sentence, "
        "word or both; 20 to 60 draws, Nov 2026); unit='sentence' at most .04, .08, .20, but .86 at .1 where labels "
        "go by the word."
    )

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        areas = np.zeros((data.n_classes, len(data.neurons)))
        for block in data.sorted_blocks():
            areas[:, block.columns] = roc_auc(block, data.labels, data.n_classes)
        signed = areas - 0.5
        evidence = Signed(signed, "AUC - 1/2; negative where low activations tell the class")
        return Ranking.from_scores(
            data.statistics.mean_over_classes(np.abs(signed)), np.abs(signed), evidence
        )
