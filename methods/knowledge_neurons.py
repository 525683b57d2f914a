"""Knowledge neurons: those whose integrated gradients stand out on most prompts that ask for the same answer.

At each prompt a layer's neurons move together from 0 to their activations, and each is credited with its part
of the probability of the right answer. Neurons near the prompt's largest credit are its coarse set; a fact's
neurons are those in the coarse sets of most of its prompts.

Paper: Dai et al., "Knowledge Neurons in Pretrained Transformers", ACL 2022, sections 3.1 and 3.2.
https://arxiv.org/abs/2104.08696

Deviations: a fact is the prompts of one behaviour and one class; 20 Gauss-Legendre points; the ranking is by
the share of a fact's prompts whose coarse set holds the neuron, then by mean credit, averaged over facts; the
sets themselves are evidence. Where ablations act at every word, so does the path, not only at the answer's
place. A probability near 1 has no slope: `target="log_probability"` or `"margin"`.
`@dai2022`: 20 left points, share .7 moved in steps of .05 until a fact has 2 to 5 neurons on average.
`@eleuther2022`: the re-implementation by EleutherAI, 20 points with both ends, thresholds .3 and .5, strict.

Cost: `nodes` passes from each layer on, forward and backward, per prompt.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from nibench import Claim, Method, Needs, Observations, Ranking, Scope

ADAPTED = (2, 5)  # neurons per fact that an adapted share aims at
ROUNDS, CHANGE = 6, 0.05


@dataclass(frozen=True, eq=False)
class FactNeurons:
    """Which neurons belong to which fact: sets (F, D), mean credits (F, D), and (behaviour, class) of each.

    ``share`` is the share of prompts that was asked for in the end.
    """

    sets: np.ndarray
    credits: np.ndarray
    facts: tuple[tuple[str, int], ...]
    share: float


@dataclass(frozen=True)
class KnowledgeNeurons(Method):
    """Mean over facts of the share of prompts whose coarse set holds the neuron; ties by mean credit.

    A credit counts for what it adds to the answer: negative ones never qualify.
    """

    needs: ClassVar[Needs] = Needs.MODEL
    claims: ClassVar[Claim] = "required"
    family: ClassVar[str] = "attribution"
    paper: ClassVar[str] = (
        "Dai et al., Knowledge Neurons in Pretrained Transformers, 2022, https://arxiv.org/abs/2104.08696"
    )
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "dai2022": {"rule": "left", "adapt": True},
        "eleuther2022": {"rule": "ends", "threshold": 0.3, "share": 0.5, "strict": True},
    }
    scope: ClassVar[Scope] = "local"
    complexity: ClassVar[str] = "as many forward and backward passes as nodes"
    limits: ClassVar[str] = "Thresholds decide what counts; negative contributions are dropped."

    nodes: int = 20
    rule: Literal["gauss", "left", "right", "ends"] = "gauss"
    target: Literal["probability", "log_probability", "margin"] = "probability"
    threshold: float = 0.2
    share: float = 0.7
    strict: bool = False
    adapt: bool = False

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        behaviour = data.behaviour
        credits = behaviour.contributions(  # (M, D)
            "integrated_gradients", nodes=self.nodes, baseline="zero", rule=self.rule, target=self.target
        )
        coarse = self._reaches(credits, self.threshold * credits.max(axis=1, keepdims=True)) & (credits > 0)
        facts = sorted(set(zip(behaviour.behaviours.tolist(), behaviour.labels.tolist(), strict=True)))
        rows = [(behaviour.behaviours == name) & (behaviour.labels == label) for name, label in facts]
        shares = np.stack([coarse[mine].mean(axis=0) for mine in rows])  # (F, D)
        means = np.stack([credits[mine].mean(axis=0) for mine in rows])
        share = self._adapted(shares) if self.adapt else self.share
        evidence = FactNeurons(self._reaches(shares, share) & (shares > 0), means, tuple(facts), share)
        return Ranking.from_scores(_then(shares.mean(axis=0), means.mean(axis=0)), evidence=evidence)

    def _reaches(self, values: np.ndarray, border: np.ndarray | float) -> np.ndarray:
        return values > border if self.strict else values >= border

    def _adapted(self, shares: np.ndarray) -> float:
        share = self.share
        for _ in range(ROUNDS):
            found = (self._reaches(shares, share) & (shares > 0)).sum(axis=1).mean()
            if ADAPTED[0] <= found <= ADAPTED[1]:
                break
            share += CHANGE if found > ADAPTED[1] else -CHANGE
        return share


def _then(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Scores (D,) that order by ``first`` and, where that is equal, by ``second``."""
    steps = np.diff(np.unique(first))
    gap = 0.5 * (steps[steps > 1e-9].min() if (steps > 1e-9).any() else 1.0)
    low, high = second.min(), second.max()
    return first + gap * (second - low) / (high - low if high > low else 1.0)
