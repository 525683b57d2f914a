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

Presets: `hennigen2020` has the paper's prior, and one fold of five held out; `neurox` has that prior and selects on
the items it was fitted to.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from nibench import Claim, Method, Needs, Observations, Ranking, greedy_gaussian


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

    presets: ClassVar[dict[str, dict[str, object]]] = {
        "hennigen2020": {"covariance": "map", "enough": 1},
        "neurox": {"covariance": "map", "select_on": "fit"},
    }

    steps: int = 50
    covariance: Literal["pooled", "map"] = "pooled"
    shrinkage: float = 50.0  # items' worth of pooled covariance; map has none
    folds: int = 5
    enough: int = 1000  # held-out items
    select_on: Literal["held_out", "fit"] = "held_out"

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        everything = np.arange(len(data.labels))
        picks = greedy_gaussian(
            data.activations,
            data.labels,
            data.folds(self.folds) if self.select_on == "held_out" else [(everything, everything)],
            steps=self.steps,
            shrinkage=self.shrinkage if self.covariance == "pooled" else None,
            rng=rng,
            enough=self.enough,
        )
        varies = np.isfinite(picks.single)
        best = picks.single.max(initial=-np.inf, where=varies) if varies.any() else 0.0
        scores = picks.single - best
        scores[picks.redundant] += scores.min(initial=0.0, where=varies) - 1.0
        scores[picks.order] = np.arange(len(picks.order), 0, -1)
        return Ranking.from_scores(scores, evidence=picks, flags=("tail by single-neuron score",))
