"""MeanSelect: the distance between a class's mean and the rest's, as a share of the neuron's range.

Paper: Fan et al., "Evaluating Neuron Interpretation Methods of NLP Models", NeurIPS 2023 (MeanSelect).
https://arxiv.org/abs/2301.12608
The formula is the concept selectivity of Na et al., "Discovery of Natural Language Concepts in Individual Units of
CNNs", ICLR 2019. https://arxiv.org/abs/1902.07249

Deviations: several classes are each compared with the rest and averaged; both means are of the same items, where
the published code of Fan et al. takes the class from the training part and the rest from the development part
(`mean_select@fan2023`: four fifths and one fifth of the sentences). Two items decide the range, so that one outlier
deflates a neuron; `mean_select@robust` takes the range from the 0.1 % to the 99.9 % quantile.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from nibench import Claim, Method, Needs, Observations, Ranking, Signed


@dataclass(frozen=True)
class MeanSelect(Method):
    """Absolute difference of means over the range, mean over classes; in [0, 1], 0 for constant neurons.

    The evidence keeps the sign: positive where the class is the more active side.
    """

    needs: ClassVar[Needs] = Needs.ACTIVATIONS | Needs.LABELS
    claims: ClassVar[Claim] = "associated"
    family: ClassVar[str] = "corpus"
    paper: ClassVar[str] = (
        "Fan et al., Evaluating Neuron Interpretation Methods of NLP Models, 2023, https://arxiv.org/abs/2301.12608"
    )
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "fan2023": {"means": "train and dev"},
        "na2019": {},
        "robust": {"range": "quantiles"},
    }
    complexity: ClassVar[str] = "O(ND), one pass for all classes"
    limits: ClassVar[str] = (
        "One neuron at a time; an outlier sets the range; blind to a class told by its spread or by middling values."
    )

    range: Literal["full", "quantiles"] = "full"
    means: Literal["same items", "train and dev"] = "same items"

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        low, high = self._quantiles(data) if self.range == "quantiles" else data.range()
        width = np.where(high > low, high - low, np.inf)
        inside, outside = self._means(data)
        signed = np.clip((inside - outside) / width, -1, 1)
        signed[data.statistics.counts == 0] = 0.0
        evidence = Signed(signed, "mean of the class minus mean of the rest, as a share of the range")
        return Ranking.from_scores(
            data.statistics.mean_over_classes(np.abs(signed)), np.abs(signed), evidence
        )

    def _means(self, data: Observations) -> tuple[np.ndarray, np.ndarray]:
        """(C, D) and (C, D): means of each class and of the rest."""
        if self.means == "same items":
            return data.statistics.class_means, data.statistics.rest_means
        train, dev = next(data.folds(5))
        inside, outside = data.statistics.class_means.copy(), data.statistics.rest_means.copy()
        for label in np.unique(data.labels):
            positive, negative = train[data.labels[train] == label], dev[data.labels[dev] != label]
            if len(positive) and len(negative):  # else: of all items
                inside[label] = data.activations[positive].mean(axis=0, dtype=np.float64)
                outside[label] = data.activations[negative].mean(axis=0, dtype=np.float64)
        return inside, outside

    def _quantiles(self, data: Observations) -> tuple[np.ndarray, np.ndarray]:
        """(D,) and (D,): the items at the 0.1 % and the 99.9 % quantile."""
        low, high = np.zeros((2, len(data.neurons)))
        n = len(data.labels)
        at = int(0.001 * n)
        for block in data.sorted_blocks():
            columns = np.arange(len(data.neurons))[block.columns]
            low[columns] = data.part(block.order[:, at], columns)
            high[columns] = data.part(block.order[:, n - 1 - at], columns)
        return low, high
