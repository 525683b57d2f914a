"""LCA: rank neurons by the weights of an elastic-net linear probe.

A linear probe is trained to tell the classes apart under an L1 penalty, which keeps few neurons, and a
squared one, which lets neurons that carry the same information share. Neurons are then taken class by class,
heaviest first: a neuron's score is one minus the share of the class's absolute weight that lies on heavier
neurons, for the class where that is least. So every class has an equal say, whatever its size or norm.

Paper: Dalvi et al., "What Is One Grain of Sand in the Desert? Analyzing Individual Neurons in Deep NLP
Models", AAAI 2019 (linguistic correlation analysis). https://arxiv.org/abs/1812.09355

Deviations: the probe is solved, not trained for ten epochs, so that the ranking is the probe's and not the
optimiser's; neurons are standardised first; the L2 penalty is squared (the original code adds the plain
norm); the penalties are fractions of the smallest L1 penalty that switches every weight off, since the
published absolute values mean different things on different activations; the ordering is the limit of the
original's for ever smaller steps. The fractions are fixed, not tuned on held-out data.

Presets train as published codes do (`training="adam2019"`: ten epochs of Adam on raw activations, the plain norm,
penalties as they stand) from a seeded start: `dalvi2019` in batches of 128 without shuffling, with the ordering in
a hundred steps; `antverg2022` at ten times the rate, ordered by mean absolute weight; `fan2023` at penalties
at which the best probe on most activations has no weights at all, so that its order is the optimiser's.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from nibench import (
    Claim,
    Method,
    Needs,
    Observations,
    Ranking,
    Scale,
    adam_probe,
    cumulative_mass,
    linear_probe,
)


@dataclass(frozen=True)
class LCA(Method):
    """Exclusive cumulative mass of the elastic-net weights: 1 for the heaviest of a class, 0 for no weight.

    Among exact copies of a neuron the squared penalty shares the weight evenly. Evidence: `LinearProbe`.
    """

    needs: ClassVar[Needs] = Needs.ACTIVATIONS | Needs.LABELS
    claims: ClassVar[Claim] = "associated"
    family: ClassVar[str] = "linear"
    paper: ClassVar[str] = (
        "Dalvi et al., What Is One Grain of Sand in the Desert? Analyzing Individual Neurons in Deep NLP "
        "Models, 2019, https://arxiv.org/abs/1812.09355"
    )
    complexity: ClassVar[str] = (
        "O(N D C) for each gradient and O(N S^2) for S weights at work, some ten to thirty rounds"
    )
    limits: ClassVar[str] = (
        "What a probe can use is not what the model uses; correlated neurons share or steal weight; the "
        "set depends on the penalties."
    )
    error_rate: ClassVar[str] = (
        "the mirror statistic of two halves realises .13, .37, .66 at .1 where labels go by the sentence, token, word"
    )

    presets: ClassVar[dict[str, dict[str, object]]] = {
        "z": {"scale": "z"},
        "raw": {"scale": "raw"},
        "dalvi2019": {"training": "adam2019", "scale": "raw", "l1": 1e-5, "l2": 1e-5, "stride": 100},
        "antverg2022": {
            "training": "adam2019",
            "scale": "raw",
            "l1": 1e-3,
            "l2": 1e-2,
            "rate": 1e-2,
            "batch": 32,
            "ordering": "mean",
        },
        "fan2023": {
            "training": "adam2019",
            "scale": "raw",
            "l1": 0.1,
            "l2": 0.1,
            "batch": 32,
            "shuffle": True,
            "stride": 100,
        },
    }

    l1: float = 0.05  # fractions of lambda_max; as they stand under adam2019
    l2: float = 0.05
    scale: Scale = "z"
    ordering: Literal["mass", "mean"] = "mass"
    stride: int | None = None  # steps of the ordering by mass; none: exact
    training: Literal["exact", "adam2019"] = "exact"
    rate: float = 1e-3  # this and the next two: of adam2019
    batch: int = 128
    shuffle: bool = False

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        if self.training == "exact":
            z = data.standardized(self.scale)
            probe = linear_probe(z, data.labels, data.n_classes, l1=self.l1, l2=self.l2)
        else:
            x = data.activations if self.scale == "raw" else data.standardized()
            probe = adam_probe(
                x,
                data.labels,
                data.n_classes,
                rng,
                l1=self.l1,
                l2=self.l2,
                rate=self.rate,
                batch=self.batch,
                shuffle=self.shuffle,
            )
        if self.ordering == "mean":
            per_class = np.abs(probe.weights)
            return Ranking.from_scores(data.statistics.mean_over_classes(per_class), per_class, probe)
        per_class = cumulative_mass(probe.weights, stride=self.stride)
        return Ranking.from_scores(per_class.max(axis=0), per_class, probe)
