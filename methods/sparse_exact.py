"""Sparse probing without shortcuts: the best one, two, ... eight neurons for a class.

Out of the fifty neurons of largest mean difference, the best set of each size is sought: one and two by trying all,
more by exchanging neurons until no exchange helps. Sets need not be nested. A neuron is as important as the number of
sizes whose set it is in.

Paper: Gurnee et al., "Finding Neurons in a Haystack: Case Studies with Sparse Probing", TMLR 2023, section 4 (optimal
sparse prediction). https://arxiv.org/abs/2305.01610

Deviations, which make this a substitute of our own: the original solves an integer programme over a hinge loss
with a commercial solver; here a set is judged by the share of the label's variance that least squares explains, which
follows from correlations alone, under the original's ridge of 1 / sqrt(N) a side (so copies do no harm). Sizes of
three and more are optimal against single exchanges only.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nibench import Claim, Method, Needs, Observations, Ranking, Scalability, Signed, best_subsets


@dataclass(frozen=True)
class SparseExact(Method):
    """Mean over classes of: sizes whose best set the neuron is in, plus at most a half by mean difference.

    Constant neurons score 0. Evidence: `Signed` with the share of variance explained, (C, sizes). The scale of a
    neuron does not matter.
    """

    needs: ClassVar[Needs] = Needs.ACTIVATIONS | Needs.LABELS
    claims: ClassVar[Claim] = "associated"
    scalability: ClassVar[Scalability] = "low"
    family: ClassVar[str] = "linear"
    paper: ClassVar[str] = (
        "Gurnee et al., Finding Neurons in a Haystack: Case Studies with Sparse Probing, 2023, "
        "https://arxiv.org/abs/2305.01610"
    )
    complexity: ClassVar[str] = "O(N D C), then F^2 small solves for each class, F = 50"
    limits: ClassVar[str] = (
        "Optimal within the filter of fifty only; the order beyond those is the filter's own."
    )

    filter: int = 50
    largest: int = 8

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        statistics = data.statistics
        gaps = np.abs(statistics.class_means - statistics.rest_means) / data.spread()
        per_class, curves = np.zeros_like(gaps), np.zeros((data.n_classes, self.largest))
        for label in np.flatnonzero(statistics.counts):
            gap = gaps[label]
            if not gap.any():
                continue
            neurons = np.argsort(-gap, kind="stable")[: self.filter]
            z = (data.part(slice(None), neurons) - statistics.mean[neurons]) / data.spread()[neurons]
            y = (data.labels == label).astype(float)
            y = (y - y.mean()) / y.std()
            ridge = 1 / np.sqrt(len(y))
            subsets, shares = best_subsets(z.T @ z / len(y), z.T @ y / len(y), self.largest, ridge)
            per_class[label] = gap / (2 * gap.max())
            for subset in subsets:
                per_class[label, neurons[subset]] += 1
            curves[label, : len(shares)] = shares
        evidence = Signed(
            curves, "share of the label's variance that the best set of 1, 2, ... neurons explains"
        )
        return Ranking.from_scores(statistics.mean_over_classes(per_class), per_class, evidence)
