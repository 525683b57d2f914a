"""Attribution patching: the first-order estimate of activation patching, for all neurons at once.

The distance between a neuron's values on a prompt and on its counterfactual twin, times the slope of the
margin, predicts what patching that neuron would do. More steps average the slope over words half-way between
the two sentences, which helps where the network is saturated on the prompt itself.

Papers: Syed, Rager & Conmy, "Attribution Patching Outperforms Automated Circuit Discovery", 2023, section 3,
https://arxiv.org/abs/2310.10348 (one step; after Nanda 2023); Hanna, Pezzelle & Belinkov, "Have Faith in
Faithfulness", COLM 2024, section 3, https://arxiv.org/abs/2403.17806 (averaged along the inputs).

Deviations: feed-forward neurons, not edges between components; absolute values are averaged over items
(`average="signed"`: the originals' absolute value of the mean). `@syed2023` is one step, signed;
`@hanna2024` five steps, signed.

Cost: per prompt two forward and one backward pass, plus one of each for every further step.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from nibench import Claim, Method, Needs, Observations, Ranking, Scope, Signed


@dataclass(frozen=True)
class AttributionPatching(Method):
    """Mean over items of the absolute estimate in nats; the evidence is the signed mean.

    With `steps` above 1 the slope is the mean over the words `1/steps, 2/steps, ..., 1` of the way from the
    twin to the prompt.
    """

    needs: ClassVar[Needs] = Needs.MODEL | Needs.PAIRS
    claims: ClassVar[Claim] = "carries"
    family: ClassVar[str] = "attribution"
    paper: ClassVar[str] = (
        "Syed, Rager & Conmy, Attribution Patching Outperforms Automated Circuit Discovery, 2023, "
        "https://arxiv.org/abs/2310.10348"
    )
    presets: ClassVar[dict[str, dict[str, object]]] = {
        "syed2023": {"average": "signed"},
        "hanna2024": {"steps": 5, "average": "signed"},
    }
    scope: ClassVar[Scope] = "both"
    complexity: ClassVar[str] = "two forward passes and one backward pass; five of each with steps"
    limits: ClassVar[str] = (
        "First order: misleads where the answer saturates between the prompt and its twin."
    )

    steps: int = 1
    average: Literal["absolute", "signed"] = "absolute"

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        if self.steps == 1:
            estimates = data.behaviour.contributions("gradient_activation", baseline="source")
        else:
            estimates = data.behaviour.contributions("input_gradients", nodes=self.steps, baseline="source")
        mean = estimates.mean(axis=0)  # (M, D) -> (D,)
        scores = np.abs(mean) if self.average == "signed" else np.abs(estimates).mean(axis=0)
        evidence = Signed(
            mean, "estimated mean change of the margin in nats when the neuron alone is patched"
        )
        return Ranking.from_scores(scores, evidence=evidence)
