"""Mean difference: how far a class's mean activation lies from the mean of everything else.

The heuristic that sparse probing starts from, and the simplest supervised ranking there is.

Paper: Gurnee et al., "Finding Neurons in a Haystack: Case Studies with Sparse Probing", TMLR 2023,
section 4. https://arxiv.org/abs/2305.01610

Deviations: differences are measured in standard deviations of the neuron (`mean_difference@raw` leaves them
as they are; `mean_difference@gurnee2023` divides by ten deviations, each taken as at least .001, as the paper's code
does), and several classes are each compared with the rest and averaged.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from nibench import Claim, Method, Needs, Observations, Ranking, Selects, Signed


@dataclass(frozen=True)
class MeanDifference(Method):
    """Absolute difference between the mean of a class and the mean of the rest, averaged over classes.

    Constant neurons score 0. The evidence keeps the sign: positive where the class is the more active side.
    """

    needs: ClassVar[Needs] = Needs.ACTIVATIONS | Needs.LABELS
    claims: ClassVar[Claim] = "associated"
    family: ClassVar[str] = "corpus"
    paper: ClassVar[str] = (
        "Gurnee et al., Finding Neurons in a Haystack: Case Studies with Sparse Probing, 2023, "
        "https://arxiv.org/abs/2305.01610"
    )
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "gurnee2023": {"scale": "floored"},
        "raw": {"scale": "raw"},
        "z": {"scale": "z"},
    }
    complexity: ClassVar[str] = "O(ND), one pass for all classes"
    limits: ClassVar[str] = (
        "One neuron at a time: lists redundant neurons all, misses what only several tell together or a "
        "class's spread tells."
    )
    selects_by: ClassVar[Selects] = "means"
    error_rate: ClassVar[str] = (
        "At .05, .1, .2 realised at most .02, .05, .10 of false neurons in nine worlds (labels by token, sentence, "
        "word or both; 20 to 60 draws, Nov 2026); unit='sentence' at most .04, .08, .20, but .86 at .1 where labels "
        "go by the word."
    )

    scale: Literal["z", "raw", "floored"] = "z"

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        statistics = data.statistics
        gaps = statistics.class_means - statistics.rest_means  # (C, D)
        if self.scale == "z":
            gaps = gaps / data.spread()
        if self.scale == "floored":
            gaps = gaps / (10 * np.maximum(np.sqrt(data.variance()), 1e-3))
        gaps[statistics.counts == 0] = 0.0
        unit = {
            "z": "standard deviations",
            "raw": "activation units",
            "floored": "ten standard deviations",
        }
        per_class = np.abs(gaps)
        evidence = Signed(gaps, f"mean of the class minus mean of the rest, in {unit[self.scale]}")
        return Ranking.from_scores(statistics.mean_over_classes(per_class), per_class, evidence)
