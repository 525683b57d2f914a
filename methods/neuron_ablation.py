"""Neuron ablation: replace one neuron at a time and see how much of the behaviour is lost.

Every neuron is ablated alone in the real forward pass, exactly; the behaviour is the margin between the
correct and the wrong answer in nats.

Paper: Lakretz et al., "The emergence of number and syntax units in LSTM language models", NAACL 2019,
section 4. https://arxiv.org/abs/1903.07435

Deviations: the neuron's activation is set to its mean (`@lakretz2019`: to 0), where the original zeroes
outgoing weights, and the effect is the change of the margin, where the original counts correct answers.
Neurons that back each other up are missed by ablating one at a time: that is the method, not the
implementation.

Cost: one pass from the next layer on per prompt and neuron. With `screen=K` every neuron is ablated on a
share of the prompts only, the gradient standing in for the rest, and the K that may be among the largest are
then ablated on all of them. First-order estimates alone would not do: a neuron that saturates what reads it
has no slope, however much hangs on it.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from nibench import Claim, InputError, Method, Needs, Observations, Ranking, Scalability, Scope, Signed

ERRORS = 2.0  # standard errors that a screened neuron is given the benefit of


@dataclass(frozen=True, eq=False)
class Screened:
    """Mean drops (D,) in nats, which of them are exact (D,), and the standard errors (D,) of the others."""

    values: np.ndarray
    exact: np.ndarray
    errors: np.ndarray


@dataclass(frozen=True)
class NeuronAblation(Method):
    """Absolute mean drop of the margin in nats when the neuron alone is ablated; at least 0.

    The evidence keeps the sign: positive where the behaviour gets worse. All items weigh alike. With
    `screen`, neurons that were only estimated stand behind all that were verified, their scores scaled down
    to that; that none of them belongs further up is likely, not certain.
    """

    needs: ClassVar[Needs] = Needs.MODEL
    claims: ClassVar[Claim] = "required"
    family: ClassVar[str] = "ablation"
    paper: ClassVar[str] = (
        "Lakretz et al., The emergence of number and syntax units in LSTM language models, 2019, "
        "https://arxiv.org/abs/1903.07435"
    )
    shares_estimand: ClassVar[tuple[Claim, ...]] = ("required",)
    presets: ClassVar[dict[str, dict[str, object]]] = {"lakretz2019": {"to": "zero"}}
    scope: ClassVar[Scope] = "both"
    scalability: ClassVar[Scalability] = "medium"
    complexity: ClassVar[str] = "D forward passes, each from the neuron's layer on, batched"
    limits: ClassVar[str] = (
        "One neuron at a time: backups and redundant groups hide each other; a replaced value may be "
        "unnatural."
    )

    to: Literal["mean", "zero", "resample"] = "mean"
    screen: int | None = None
    sample: float = 0.25

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        if self.screen is not None and self.screen < len(data.neurons):
            return self._screened(data, rng)
        drops = data.behaviour.single_effects(to=self.to).mean(axis=0)  # (D,)
        evidence = Signed(drops, f"mean drop of the margin in nats under {self.to} ablation")
        return Ranking.from_scores(np.abs(drops), evidence=evidence)

    def _screened(self, data: Observations, rng: np.random.Generator) -> Ranking:
        if self.to == "resample" or self.screen is None or self.screen < 1 or not 0 < self.sample < 1:
            raise InputError(
                f"screen={self.screen} with to={self.to!r}, sample={self.sample}: expected one neuron or more, "
                "to='mean' or 'zero', and a share between 0 and 1."
            )
        behaviour = data.behaviour
        tried = self._sampled(behaviour.behaviours, behaviour.labels, rng)  # (M,) bool
        rest = np.flatnonzero(~tried)
        slopes = behaviour.contributions("gradient_activation", baseline=self.to)  # (M, D)
        part = behaviour.some(np.flatnonzero(tried)).single_effects(to=self.to)
        missed = part - slopes[tried]
        values = slopes.mean(axis=0) + missed.mean(axis=0)
        errors = missed.std(axis=0, ddof=1) * np.sqrt((1 - tried.mean()) / tried.sum())
        bounds = np.abs(values) + ERRORS * errors
        chosen = np.argsort(-bounds, kind="stable")[: self.screen]
        exact = behaviour.some(rest).single_effects(to=self.to, neurons=chosen)
        values[chosen] = (exact.sum(axis=0) + part[:, chosen].sum(axis=0)) / len(tried)
        verified = np.zeros(len(values), dtype=bool)
        verified[chosen] = True
        errors[chosen] = 0.0
        scores = np.abs(values)
        scores[~verified] *= 0.999 * scores[verified].min() / max(scores[~verified].max(), 1e-300)
        return Ranking.from_scores(scores, evidence=Screened(values, verified, errors))

    def _sampled(self, behaviours: np.ndarray, labels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """(M,) bool: a share of the prompts, drawn from each behaviour and class alike; two or more."""
        tried = np.zeros(len(labels), dtype=bool)
        for cell in sorted(set(zip(behaviours.tolist(), labels.tolist(), strict=True))):
            rows = np.flatnonzero((behaviours == cell[0]) & (labels == cell[1]))
            tried[rng.permutation(rows)[: max(2, round(self.sample * len(rows)))]] = True
        if tried.all():
            raise InputError(f"{len(labels)} prompts are too few to screen on; leave screen out.")
        return tried
