"""Sparse probing by adaptive thresholding: fit a probe, keep the heaviest neurons, fit again on those.

From the neurons of largest mean difference on, an elastic-net probe is solved, the neurons of largest weight stay,
and so on down to one. A neuron is as important as the set it still belongs to is small. Unlike weights taken
from one fit, those of the last rounds are not diluted by neurons that are gone.

Paper: Gurnee et al., "Finding Neurons in a Haystack: Case Studies with Sparse Probing", TMLR 2023, appendix on sparse
probing methods. https://arxiv.org/abs/2305.01610

Deviations: probes are solved; items weigh alike; every class against the rest. The penalties are the original's:
C = k / 20 on the summed loss, of which a share of exp(-k / 20), between .1 and .9, is L1. The preset `gurnee2023`
divides the standardised activations by ten, as the original, which makes its penalties stronger.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from nibench import Claim, Method, Needs, Observations, Ranking, Scale, linear_probe

SIZES = (256, 128, 64, 32, 16, 12, 10, 8, 7, 6, 5, 4, 3, 2, 1)


@dataclass(frozen=True)
class SparseThresholding(Method):
    """Mean over classes of: rounds survived, plus the share of the last round's largest weight.

    Neurons that never entered score below 1 by mean difference, constant ones 0. Evidence: the order of each class.
    """

    needs: ClassVar[Needs] = Needs.ACTIVATIONS | Needs.LABELS
    claims: ClassVar[Claim] = "associated"
    family: ClassVar[str] = "linear"
    paper: ClassVar[str] = (
        "Gurnee et al., Finding Neurons in a Haystack: Case Studies with Sparse Probing, 2023, "
        "https://arxiv.org/abs/2305.01610"
    )
    complexity: ClassVar[str] = "O(ND), then 15 probes for each class on at most 256 neurons"
    limits: ClassVar[str] = (
        "What the filter of 256 drops is lost; the sets are nested, so that the best pair need not hold the best one."
    )
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "z": {"scale": "z"},
        "raw": {"scale": "raw"},
        "gurnee2023": {"divisor": 10.0},
    }

    scale: Scale = "z"
    divisor: float = 1.0  # of the activations, after standardising

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        statistics, unit = data.statistics, data.spread() if self.scale == "z" else 1.0
        gaps = np.abs(statistics.class_means - statistics.rest_means) / unit
        per_class = np.zeros_like(gaps)
        for label in np.flatnonzero(statistics.counts):
            per_class[label] = self._class(data, int(label), gaps[label])
        return Ranking.from_scores(statistics.mean_over_classes(per_class), per_class)

    def _class(self, data: Observations, label: int, gap: np.ndarray) -> np.ndarray:
        score = gap / (2 * gap.max()) if gap.any() else gap.copy()
        neurons = np.argsort(-gap, kind="stable")[: SIZES[0]]
        neurons = neurons[gap[neurons] > 0]
        unit = data.spread()[neurons] if self.scale == "z" else 1.0
        x = (data.part(slice(None), neurons) - data.statistics.mean[neurons]) / unit / self.divisor
        inside = (data.labels == label).astype(int)
        alive = np.arange(len(neurons))
        for survived, (size, following) in enumerate(zip(SIZES, (*SIZES[1:], 0), strict=True), start=1):
            if not alive.size:
                break
            share = np.clip(np.exp(-size / 20), 0.1, 0.9)
            weight = 20 / (size * len(x))
            probe = linear_probe(
                x[:, alive],
                inside,
                2,
                l1=share * weight,
                l2=(1 - share) * weight,
                relative=False,
            )
            size_of = np.abs(probe.weights[1])
            score[neurons[alive]] = survived + size_of / (size_of.max() * (1 + 1e-6) or 1.0)
            alive = alive[np.argsort(-size_of, kind="stable")[:following]]
        return score
