"""Mutual information: how many bits a neuron's activation tells about the class.

Unlike a difference of means it also sees a class told by middling values or by its spread.

Paper: Gurnee et al., "Finding Neurons in a Haystack: Case Studies with Sparse Probing", TMLR 2023, section 4, takes it
as a heuristic. https://arxiv.org/abs/2305.01610

Two estimators. The default cuts each neuron's activations into bins of equally many items and takes off the bias to
first order (Miller, 1955). `mutual_information@gurnee2023` and `@ross2014` are scikit-learn's estimate from
distances to the three nearest neighbours (Ross, 2014), which adds tiny noise and is much slower.

Deviation: estimates below 0 are set to 0.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from nibench import Claim, Method, Needs, Observations, Ranking, binned_information


@dataclass(frozen=True)
class MutualInformation(Method):
    """Information of the activation and the class, in bits, at least 0; constant neurons score 0.

    Per class (bins only): information of the activation and that class against the rest.
    """

    needs: ClassVar[Needs] = Needs.ACTIVATIONS | Needs.LABELS
    claims: ClassVar[Claim] = "associated"
    family: ClassVar[str] = "corpus"
    paper: ClassVar[str] = (
        "Gurnee et al., Finding Neurons in a Haystack: Case Studies with Sparse Probing, 2023, "
        "https://arxiv.org/abs/2305.01610"
    )
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "gurnee2023": {"estimator": "neighbours"},
        "ross2014": {"estimator": "neighbours"},
    }
    complexity: ClassVar[str] = "O(ND (log N + C)), one sort for all classes"
    limits: ClassVar[str] = (
        "One neuron at a time; bins blur what is finer than they are; noise in small samples with many classes."
    )

    estimator: Literal["bins", "neighbours"] = "bins"
    bins: int = 16
    neighbours: int = 3

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        if self.estimator == "neighbours":
            return Ranking.from_scores(self._by_neighbours(data, rng))
        per_class, joint = np.zeros((data.n_classes, len(data.neurons))), np.zeros(len(data.neurons))
        for block in data.sorted_blocks():
            per_class[:, block.columns], joint[block.columns] = binned_information(
                block, data.labels, data.n_classes, self.bins
            )
        return Ranking.from_scores(np.maximum(joint, 0), np.maximum(per_class, 0))

    def _by_neighbours(self, data: Observations, rng: np.random.Generator) -> np.ndarray:
        from sklearn.feature_selection import mutual_info_classif

        scores = np.zeros(len(data.neurons))
        telling = np.flatnonzero(data.variance() > 0)
        if telling.size and len(data.labels) > self.neighbours:
            scores[telling] = mutual_info_classif(
                data.activations[:, telling],
                data.labels,
                discrete_features=False,  # pyright: ignore[reportArgumentType]
                n_neighbors=self.neighbours,
                random_state=int(rng.integers(2**31)),
            )
        return scores / np.log(2)
