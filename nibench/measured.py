"""Measured truth: every neuron's single effects in a model that nobody planted anything in.

What single neurons do is known exactly once each was tried; what they do jointly is not.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from nibench.metrics.truth import NULL_EFFECT
from nibench.order_statistics import auc
from nibench.task import Claim, PromptCorpus, Truth

if TYPE_CHECKING:
    from nibench.interventions import Behaviour

TIER = "language model"


def measured_truth(behaviour: "Behaviour", lineage: str) -> Truth | None:
    """The graded truth of all four claims, from single interventions on a behaviour with pairs.

    *associated* 2 |AUC - 1/2| of the labels over the prompts (several classes: mean of one against the rest),
    *responds* the mean absolute change between a prompt and its twin in standard deviations (0 for constants),
    *carries* |share of the base-to-source margin moved by interchange|, *required* |drop under mean ablation|
    in nats.

    Returns
    -------
    Truth or None
        No set: a natural model has none. None without pairs, or where the concept changes the margin by less
        than .1 nats: then the model does not do the task.
    """
    if not behaviour.has_pairs:
        return None
    whole = float((behaviour.margin() - behaviour.source_margin()).mean())
    if whole < NULL_EFFECT:
        return None
    base, source = _activations(behaviour, twins=False), _activations(behaviour, twins=True)
    spread = base.std(axis=0)
    change = np.abs(base - source).mean(axis=0)
    gains: dict[Claim, np.ndarray] = {
        "associated": 2 * np.abs(auc(base, behaviour.labels) - 0.5),
        "responds": np.divide(change, spread, out=np.zeros_like(spread), where=spread > 1e-6),
        "carries": np.abs(behaviour.single_effects("source").mean(axis=0)) / whole,
        "required": np.abs(behaviour.single_effects("mean").mean(axis=0)),
    }
    return Truth(gains, {}, np.full(base.shape[1], "background"), tier=TIER, lineage=lineage)


def _activations(behaviour: "Behaviour", *, twins: bool) -> np.ndarray:
    """float64 (M, D): the neurons at the last token of the prompts, or of their twins."""
    from nibench.activations import extract

    prompts = behaviour.prompts
    if twins:
        prompts = tuple(
            replace(
                one, text=one.source or "", answer=one.source_answer or 0, source=None, source_answer=None
            )
            for one in prompts
        )
    corpus = PromptCorpus(
        tuple(replace(one, split="eval") for one in prompts),
        tuple(map(str, range(behaviour.labels.max() + 1))),
        "",
    )
    site = behaviour.neurons.blocks[-1].name.partition(".")[2]
    layers = sorted({block.layer for block in behaviour.neurons.blocks if block.layer >= 0})
    read = extract(behaviour.model, corpus, site=site, layers=layers, cache=False)  # type: ignore[arg-type]
    return read.activations.astype(np.float64)
