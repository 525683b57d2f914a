"""Fisher score: variance between the class means over variance within the classes.

A neuron is good if its classes lie far apart and each is narrow. The ratio is the F statistic of a one-way analysis of
variance but for a factor that is the same for all neurons.

Paper: Gu, Li & Han, "Generalized Fisher Score for Feature Selection", UAI 2011, section 2 (the score of one feature,
after Fisher 1936). https://arxiv.org/abs/1202.3725

Deviation: where no item differs from its class's mean the ratio is infinite; it is capped at one over the machine
precision. With two classes the order is that of `point_biserial`.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nibench import Claim, Method, Needs, Observations, Ranking


@dataclass(frozen=True)
class FisherScore(Method):
    """Squared distances of the class means from the mean, weighted by class size, over the sum within classes.

    Per class: the same of that class against the rest. In [0, 4.5e15]; constant neurons score 0.
    """

    needs: ClassVar[Needs] = Needs.ACTIVATIONS | Needs.LABELS
    claims: ClassVar[Claim] = "associated"
    family: ClassVar[str] = "corpus"
    paper: ClassVar[str] = (
        "Gu, Li & Han, Generalized Fisher Score for Feature Selection, 2011, https://arxiv.org/abs/1202.3725"
    )
    complexity: ClassVar[str] = "O(ND), two passes for all classes"
    limits: ClassVar[str] = (
        "One neuron at a time; a frequent class outweighs a rare one; blind to a class told by its spread alone."
    )

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        statistics = data.statistics
        gaps = (statistics.class_means - statistics.mean) / data.spread()
        between = (
            statistics.counts / len(data.labels)
        ) @ gaps**2  # share of the variance that the classes explain
        return Ranking.from_scores(ratio(between), ratio(statistics.correlations**2))


def ratio(explained: np.ndarray) -> np.ndarray:
    """Explained over unexplained variance, from the explained share."""
    return explained / np.maximum(1 - explained, np.finfo(float).eps)
