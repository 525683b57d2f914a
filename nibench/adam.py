"""Linear probes trained as the published codes train them: a few epochs of Adam, stopped where they are.

What such a probe weighs depends on its start, the order of the items and the number of epochs. It is here to
show the difference to the solved probe, not to be recommended. torch is imported where it is used.
"""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class TrainedProbe:
    """A probe that was trained, not solved: the evidence of the presets that do so.

    Attributes
    ----------
    weights : float64 (C, D)
        Per unit of the activations as they were given. Never exactly 0.
    bias : float64 (C,)
    losses : float64 (epochs,)
        Mean cross-entropy of the batches of each epoch, without penalties. No gap to the optimum is known.
    """

    weights: np.ndarray
    bias: np.ndarray
    losses: np.ndarray


def adam_probe(
    activations: np.ndarray,
    labels: np.ndarray,
    n_classes: int,
    rng: np.random.Generator,
    *,
    l1: float,
    l2: float,
    rate: float = 1e-3,
    batch: int = 128,
    epochs: int = 10,
    shuffle: bool = False,
) -> TrainedProbe:
    """Train with Adam on ``mean CE + l1 |W|_1 + l2 |W|_F``: the norm itself, not its square.

    Parameters
    ----------
    activations : float (N, D)
    rng : Generator
        Draws the start, uniform within ``1 / sqrt(D)``, and the order if ``shuffle``: once, for all epochs.
    l1, l2 : float
        Added to the mean loss of every batch as they stand.
    """
    import torch

    bound = 1 / np.sqrt(activations.shape[1])
    start = rng.uniform(-bound, bound, (n_classes, activations.shape[1] + 1)).astype(np.float32)
    weights, bias = (torch.from_numpy(part.copy()).requires_grad_() for part in (start[:, :-1], start[:, -1]))
    order = rng.permutation(len(labels)) if shuffle else np.arange(len(labels))
    targets = torch.from_numpy(np.asarray(labels, dtype=np.int64)[order])
    optimiser = torch.optim.Adam([weights, bias], lr=rate)
    losses = np.zeros(epochs)
    for epoch in range(epochs):
        total = 0.0
        for first in range(0, len(order), batch):
            rows = activations[order[first : first + batch]].astype(np.float32)
            logits = torch.nn.functional.linear(torch.from_numpy(rows), weights, bias)
            loss = torch.nn.functional.cross_entropy(logits, targets[first : first + batch])
            optimiser.zero_grad()
            (loss + l1 * weights.abs().sum() + l2 * weights.norm()).backward()
            optimiser.step()
            total += float(loss.detach()) * len(rows)
        losses[epoch] = total / len(order)
    found, offsets = (part.detach().numpy().astype(np.float64) for part in (weights, bias))
    seen = np.bincount(labels, minlength=n_classes) > 0
    found = np.where(seen[:, None] & (activations.min(axis=0) < activations.max(axis=0)), found, 0.0)
    return TrainedProbe(found, offsets, losses)
