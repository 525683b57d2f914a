"""Greedy ablation: take the neurons that hurt the behaviour most, and ask again without them.

Ablating one at a time misses neurons that back each other up: while one is there the other is not needed. So
the most needed neurons are ablated for good, and all others are tried again beside them, a few rounds long.

Papers: Dalvi et al., "What Is One Grain of Sand in the Desert?", AAAI 2019, section 4 (top neurons ablated
together), https://arxiv.org/abs/1812.09355; Antverg & Belinkov, "On the Pitfalls of Analyzing Individual Neurons in
Language Models", ICLR 2022, section 4.2, https://arxiv.org/abs/2110.07483.

Deviations: the originals ablate the first k of a ranking made by something else and watch the behaviour; here
the joint ablation makes the ranking. Mean, not zero (`@antverg2022`: zero); in the model, not in a probe's
input; moving neurons to another class's mean is not built.

Cost: per prompt and round one part of a pass for every neuron; with the default the whole is about three to
five times `neuron_ablation`.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from nibench import Claim, Method, Needs, Observations, Ranking, Scalability


@dataclass(frozen=True, eq=False)
class JointDrops:
    """The neurons taken, (K,) in their order, and the mean drop in nats with the first 1..K ablated together."""

    order: np.ndarray
    drops: np.ndarray


@dataclass(frozen=True)
class GreedyAblation(Method):
    """Neurons taken first come first; the others by the absolute change of the margin beside those, in nats.

    Each of `rounds` rounds takes `step` neurons: those whose ablation, together with all taken before, moves
    the mean margin furthest from where it was.
    """

    needs: ClassVar[Needs] = Needs.MODEL
    claims: ClassVar[Claim] = "required"
    family: ClassVar[str] = "ablation"
    paper: ClassVar[str] = (
        "Dalvi et al., What Is One Grain of Sand in the Desert? Analyzing Individual Neurons in Deep NLP "
        "Models, 2019, https://arxiv.org/abs/1812.09355"
    )
    presets: ClassVar[dict[str, dict[str, object]]] = {"antverg2022": {"to": "zero"}}
    scalability: ClassVar[Scalability] = "low"
    complexity: ClassVar[str] = (
        "D forward passes for the first pick, then those of the candidates for each further one"
    )
    limits: ClassVar[str] = (
        "Greedy: a pair that acts only together is found only if one of the two acts alone."
    )

    rounds: int = 2
    step: int = 8
    to: Literal["mean", "zero"] = "mean"

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        behaviour, n_neurons = data.behaviour, len(data.neurons)
        taken: list[int] = []
        change = np.abs(behaviour.single_effects(to=self.to).mean(axis=0))  # (D,) beside those taken
        for number in range(self.rounds):
            if number:
                without = behaviour.ablate(taken, to=self.to).mean()
                rest = np.setdiff1d(np.arange(n_neurons), taken)
                margins = behaviour.ablate_sets([[*taken, neuron] for neuron in rest], to=self.to)
                change = np.zeros(n_neurons)
                change[rest] = np.abs(without - margins.mean(axis=1))
            left = n_neurons - len(taken)
            taken += np.argsort(-change, kind="stable")[: min(self.step, left)].tolist()
        margins = behaviour.ablate_sets([taken[:k] for k in range(1, len(taken) + 1)], to=self.to).mean(
            axis=1
        )
        scores = change.copy()
        scores[taken] = change.max() + np.arange(len(taken), 0, -1)
        return Ranking.from_scores(
            scores, evidence=JointDrops(np.array(taken), behaviour.margin().mean() - margins)
        )
