"""Linear discriminant analysis: rank neurons by their weight in the direction that parts the class means.

The difference of the class means, seen through the inverse of the covariance within the classes: what a
neuron tells beyond what its correlates tell. One matrix is factorised; nothing is trained.

Paper: Fisher, "The use of multiple measurements in taxonomic problems", Annals of Eugenics 1936,
https://doi.org/10.1111/j.1469-1809.1936.tb02137.x; the shrinkage: Ledoit & Wolf, "A well-conditioned estimator for
large-dimensional covariance matrices", 2004, https://doi.org/10.1016/S0047-259X(03)00096-4

Deviation: neurons are standardised first, for the shrinkage is towards equal variances.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from sklearn.covariance import ledoit_wolf

from nibench import Claim, Method, Needs, Observations, Ranking, Scale, Signed

FLOOR = 1e-6  # of the neurons' mean variance, added to the diagonal


@dataclass(frozen=True)
class LDA(Method):
    """Length over classes of the neuron's weights times its deviation; constant neurons score 0.

    Evidence: `Signed` weights, a row for each class: its mean against the grand mean.
    """

    needs: ClassVar[Needs] = Needs.ACTIVATIONS | Needs.LABELS
    claims: ClassVar[Claim] = "associated"
    family: ClassVar[str] = "linear"
    paper: ClassVar[str] = (
        "Fisher, The use of multiple measurements in taxonomic problems, 1936, "
        "https://doi.org/10.1111/j.1469-1809.1936.tb02137.x"
    )
    complexity: ClassVar[str] = "O(N D^2 + D^3), memory O(D^2)"
    limits: ClassVar[str] = (
        "With few items for each neuron the inverse follows the noise: correlated neurons get weights of opposite "
        "signs."
    )
    presets: ClassVar[dict[str, dict[str, object]]] = {"z": {"scale": "z"}, "raw": {"scale": "raw"}}

    scale: Scale = "z"

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        within = data.standardized(self.scale)
        seen = data.statistics.counts > 0
        means = np.zeros((data.n_classes, within.shape[1]))
        for label in np.flatnonzero(seen):
            means[label] = within[data.labels == label].mean(axis=0)
        within -= means[data.labels]
        covariance, _ = ledoit_wolf(within, assume_centered=True)
        total = 1.0 if self.scale == "z" else data.variance().mean() or 1.0
        covariance[np.diag_indices_from(covariance)] += FLOOR * total
        weights = cho_solve(cho_factor(covariance, check_finite=False), means.T).T
        deviation = 1.0 if self.scale == "z" else np.sqrt(data.variance())
        per_class = np.abs(weights) * deviation
        evidence = Signed(weights, "weight of the neuron for the class, per unit of the scale")
        return Ranking.from_scores(np.linalg.norm(per_class, axis=0), per_class, evidence)
