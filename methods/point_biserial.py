"""Point-biserial correlation: rank neurons by their linear correlation with being in a class.

Pearson's correlation between an activation and a 0/1 label: how far apart the class and the rest lie, in standard
deviations of the neuron, times the most that the class's share allows.

Paper: Tate, "Correlation Between a Discrete and a Continuous Variable. Point-Biserial Correlation", Annals of
Mathematical Statistics 1954. https://doi.org/10.1214/aoms/1177728730

Deviation: several classes are each compared with the rest and averaged. With two classes the t statistic, the F
statistic of an analysis of variance and `fisher_score` give the same order.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nibench import Claim, Method, Needs, Observations, Ranking, Signed


@dataclass(frozen=True)
class PointBiserial(Method):
    """Absolute correlation with membership of a class, mean over classes; in [0, 1], 0 for constant neurons.

    The evidence keeps the sign: positive where the class is the more active side.
    """

    needs: ClassVar[Needs] = Needs.ACTIVATIONS | Needs.LABELS
    claims: ClassVar[Claim] = "associated"
    family: ClassVar[str] = "corpus"
    paper: ClassVar[str] = (
        "Tate, Correlation Between a Discrete and a Continuous Variable, 1954, "
        "https://doi.org/10.1214/aoms/1177728730"
    )
    complexity: ClassVar[str] = "O(ND), one pass for all classes"
    limits: ClassVar[str] = (
        "One neuron at a time and linear: an outlier moves it; blind to a class told by its spread or by middling "
        "values."
    )

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        signed = data.statistics.correlations
        evidence = Signed(signed, "correlation with membership of the class, in [-1, 1]")
        return Ranking.from_scores(
            data.statistics.mean_over_classes(np.abs(signed)), np.abs(signed), evidence
        )
