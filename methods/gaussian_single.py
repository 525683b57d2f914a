"""Gaussian information of each neuron alone: bits it tells about the class, on held-out items.

Each class is a Gaussian over the neuron; the score is what the held-out items gain in log-likelihood of their
class over the class frequencies. It is the first step of the Gaussian probe, for every neuron: means and
spreads count, redundancy does not.

Paper: Torroba Hennigen, Williams & Cotterell, "Intrinsic Probing through Dimension Selection", EMNLP 2020, section 4
(one dimension). https://arxiv.org/abs/2010.02812

Deviations: as in `gaussian_probe`: variances are shrunk to the pooled one, and folds of whole sentences are held out
in turn until a thousand items were.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nibench import Claim, Method, Needs, Observations, Ranking, greedy_gaussian


@dataclass(frozen=True)
class GaussianSingle(Method):
    """Held-out bits about the class; negative where worse than the frequencies, -inf for constant neurons.

    Evidence: `GaussianSelection` without picks. The scale of a neuron does not matter.
    """

    needs: ClassVar[Needs] = Needs.ACTIVATIONS | Needs.LABELS
    claims: ClassVar[Claim] = "associated"
    family: ClassVar[str] = "gaussian"
    paper: ClassVar[str] = (
        "Torroba Hennigen, Williams & Cotterell, Intrinsic Probing through Dimension Selection, 2020, "
        "https://arxiv.org/abs/2010.02812"
    )
    complexity: ClassVar[str] = "O(N D C) over the held-out items"
    limits: ClassVar[str] = (
        "One neuron at a time; normal classes are assumed: rare spikes and zeros of a ReLU mislead it."
    )

    shrinkage: float = 50.0  # items' worth of pooled variance
    folds: int = 5
    enough: int = 1000  # held-out items

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        found = greedy_gaussian(
            data.activations,
            data.labels,
            data.folds(self.folds),
            steps=0,
            shrinkage=self.shrinkage,
            rng=rng,
            enough=self.enough,
        )
        return Ranking.from_scores(found.single, evidence=found)
