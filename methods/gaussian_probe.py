"""Gaussian probe: pick neurons one by one by what they add to a Gaussian classifier.

Each class is a Gaussian over the neurons. Sub-vectors of a Gaussian are Gaussian, so any set of neurons can
be judged without training again: at each step the neuron is added that most raises the held-out
log-likelihood of the class given the neurons so far. Redundant neurons come late, by design.

Paper: Torroba Hennigen, Williams & Cotterell, "Intrinsic Probing through Dimension Selection", EMNLP 2020,
section 4. https://arxiv.org/abs/2010.02812

Deviations: class covariances are shrunk to the pooled one, where the paper's prior mostly deflates the
variances of rare classes; held-out items come from folds by sentence: folds are held out in turn until a
thousand items were. The neurons that are not picked follow by their score alone, those that are functions
of the picked ones after them; constant neurons come last.
"""

from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar

import numpy as np

from nibench import Claim, Method, Needs, Observations, Ranking, greedy_gaussian

ENOUGH = 1000  # held-out items


@dataclass(frozen=True)
class GaussianProbe(Method):
    """Picks score steps, steps - 1, ..., 1; the tail scores 0 and below, by its bits of information alone.

    Evidence: `GaussianSelection`, with the information after each pick.
    """

    needs: ClassVar[Needs] = Needs.ACTIVATIONS | Needs.LABELS
    claims: ClassVar[Claim] = "associated"
    family: ClassVar[str] = "gaussian"
    paper: ClassVar[str] = (
        "Torroba Hennigen, Williams & Cotterell, Intrinsic Probing through Dimension Selection, 2020, "
        "https://arxiv.org/abs/2010.02812"
    )
    complexity: ClassVar[str] = "O(K N D C) for K picks, memory O(N D C) over the held-out items"
    limits: ClassVar[str] = (
        "Normal classes are assumed; the order beyond some fifty picks is noise; one of two like neurons "
        "comes late."
    )

    steps: int = 50
    shrinkage: float = 50.0  # items' worth of pooled covariance
    folds: int = 5

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        folds = list(data.folds(self.folds))
        seen = accumulate((len(held_out) for _, held_out in folds), initial=0)
        folds = [fold for fold, before in zip(folds, seen, strict=False) if before < ENOUGH]
        picks = greedy_gaussian(
            data.activations, data.labels, folds, steps=self.steps, shrinkage=self.shrinkage, rng=rng
        )
        varies = np.isfinite(picks.single)
        best = picks.single.max(initial=-np.inf, where=varies) if varies.any() else 0.0
        scores = picks.single - best
        scores[picks.redundant] += scores.min(initial=0.0, where=varies) - 1.0
        scores[picks.order] = np.arange(len(picks.order), 0, -1)
        return Ranking.from_scores(scores, evidence=picks, flags=("tail by single-neuron score",))
