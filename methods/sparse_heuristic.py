"""Sparse probing by a heuristic: the neurons of highest score, and how well a probe on the first k does.

Neurons are ordered one by one, by the difference between the class and the rest or by the F statistic of it, and a
class-balanced probe is solved on the first k for growing k. The order is the heuristic's; the curve of held-out
accuracies says how few of its neurons suffice.

Paper: Gurnee et al., "Finding Neurons in a Haystack: Case Studies with Sparse Probing", TMLR 2023, section 4.
https://arxiv.org/abs/2305.01610

Deviations: a squared penalty of a tenth of lambda_max, solved; every class against the rest; a fifth of the
sentences is held out. Balance comes from weighing the two sides alike when accuracy is taken (half of either's
recall), the probe's threshold being where the two class means of its output meet.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from nibench import Claim, Method, Needs, Observations, Ranking, Scale, Signed, linear_probe

SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class SparseHeuristic(Method):
    """The heuristic, mean over classes; constant neurons score 0.

    Evidence: `Signed` with the held-out balanced accuracy, (C, sizes), of the probe on the first k of a class.
    """

    needs: ClassVar[Needs] = Needs.ACTIVATIONS | Needs.LABELS
    claims: ClassVar[Claim] = "associated"
    family: ClassVar[str] = "linear"
    paper: ClassVar[str] = (
        "Gurnee et al., Finding Neurons in a Haystack: Case Studies with Sparse Probing, 2023, "
        "https://arxiv.org/abs/2305.01610"
    )
    complexity: ClassVar[str] = "O(ND) for the order; C probes on at most 256 neurons for each of 15 sizes"
    limits: ClassVar[str] = (
        "The order looks at one neuron at a time: redundant neurons fill the first places, and what only several "
        "tell together is missed."
    )
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "z": {"scale": "z"},
        "raw": {"scale": "raw"},
        "gurnee2023": {"scale": "z", "heuristic": "mean_difference"},
    }

    heuristic: Literal["mean_difference", "f"] = "mean_difference"
    scale: Scale = "z"
    l2: float = 0.1  # fraction of lambda_max

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        statistics = data.statistics
        gaps = np.abs(statistics.class_means - statistics.rest_means)
        gaps[statistics.counts == 0] = 0.0
        per_class = gaps / data.spread() if self.scale == "z" or self.heuristic == "f" else gaps
        if self.heuristic == "f":  # of the class against the rest, from the share of variance between them
            share = (statistics.counts / len(data.labels))[:, None]
            between = np.clip(per_class**2 * share * (1 - share), 0.0, 1 - 1e-12)
            per_class = between / (1 - between) * max(len(data.labels) - 2, 1)
        evidence = Signed(
            self._accuracies(data, per_class),
            f"balanced accuracy at k = {SIZES}; chance, or no item to judge by, is 0.5",
        )
        return Ranking.from_scores(statistics.mean_over_classes(per_class), per_class, evidence)

    def _accuracies(self, data: Observations, per_class: np.ndarray) -> np.ndarray:
        found = np.full((data.n_classes, len(SIZES)), 0.5)
        fit, held_out = next(iter(data.folds(5)))
        first = np.argsort(-per_class, axis=1, kind="stable")[:, : max(SIZES)]
        mean, spread = data.statistics.mean, data.spread()
        for label, neurons in enumerate(first):
            x = (data.part(slice(None), neurons) - mean[neurons]) / spread[neurons]
            inside = data.labels == label
            if min(side[rows].sum() for side in (inside, ~inside) for rows in (fit, held_out)) == 0:
                continue
            for column, size in enumerate(SIZES):
                probe = linear_probe(x[fit, :size], inside[fit].astype(int), 2, l2=self.l2, tolerance=1e-6)
                output = x[:, :size] @ probe.weights[1]
                middle = (output[fit][inside[fit]].mean() + output[fit][~inside[fit]].mean()) / 2
                said = output[held_out] > middle
                recalls = [np.mean(said[inside[held_out]]), np.mean(~said[~inside[held_out]])]
                found[label, column] = np.mean(recalls)
        return found
