"""Slow, literal twins of nibench.metrics.ablation: plain hooks on a GPT-2, one prompt at a time."""

import numpy as np
import torch


def hidden(network, ids):
    """(D,) activations of all feed-forward neurons at the last token, layer after layer."""
    seen = []
    hooks = [
        block.mlp.c_proj.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0, -1].clone()))
        for block in network.transformer.h
    ]
    with torch.no_grad():
        network(torch.tensor([ids]))
    for hook in hooks:
        hook.remove()
    return torch.cat(seen).double().numpy()


def logits(network, ids, neurons=(), values=None):
    """(V,) logits after the last token, with some neurons there set to the values (D,) given for all."""
    hooks, offset = [], 0
    for block in network.transformer.h:
        width = block.mlp.c_proj.weight.shape[0]
        inside = [n for n in neurons if offset <= n < offset + width]

        def replace(_, inputs, inside=inside, offset=offset):
            changed = inputs[0].clone()
            for neuron in inside:
                changed[0, -1, neuron - offset] = float(values[neuron])
            return (changed,)

        hooks.append(block.mlp.c_proj.register_forward_pre_hook(replace))
        offset += width
    with torch.no_grad():
        result = network(torch.tensor([ids])).logits[0, -1]
    for hook in hooks:
        hook.remove()
    return result.double().numpy()


def forward_selection(behaviour, fill, n, candidates):
    """The n neurons that forward selection takes, one after the other, each tried by itself beside those taken."""
    taken = []
    for _ in range(n):
        left = [one for one in candidates if one not in taken]
        margins = [behaviour.ablate([*taken, one], fill).sum() for one in left]
        taken.append(int(left[int(np.argmin(margins))]))
    return taken


# Oracle 7: a linear model one can work out by hand. Four items, three neurons, right answers 1, 1, 0, 0.
ITEMS = np.array([[1, 0, 5], [1, 1, 5], [0, 1, 5], [0, 0, 5]], dtype=float)
WEIGHTS, OFFSET = np.array([2, 1, 0.2]), -2.5
ANSWERS = np.array([1, 1, 0, 0])


def linear_accuracy_and_loss(items):
    z = items @ WEIGHTS + OFFSET
    probability = 1 / (1 + np.exp(-z))
    loss = -np.log(np.where(ANSWERS == 1, probability, 1 - probability)).mean()
    return ((z > 0) == ANSWERS).mean(), loss


def replaced(neuron, kind):
    """The items with one neuron at zero, at its mean, or swapped with the item at the other end."""
    items = ITEMS.copy()
    fills = {"zero": 0.0, "mean": ITEMS[:, neuron].mean(), "source": ITEMS[::-1, neuron]}
    items[:, neuron] = fills[kind]
    return items
