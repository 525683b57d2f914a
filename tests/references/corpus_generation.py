"""Literal search and reading for one neuron, one start at a time: the whole GPT-2, no batch."""

import numpy as np
import torch


def answer(network, embedded, layer, unit):
    """Activation of one ``mlp_post`` neuron at the last place of embedded tokens (T, d), with gradients."""
    seen = []
    module = network.transformer.h[layer].mlp.c_proj
    handle = module.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    network(inputs_embeds=embedded[None])
    handle.remove()
    return seen[0][0, -1, unit]


def climb(network, ids, before, layer, unit, start, noises, method):
    """The best settled input from one start (T,) of places in ``ids``, and its activation.

    ``before`` are the ids of special tokens in front; ``noises`` (steps, T, V).
    """
    table = network.get_input_embeddings().weight.detach()
    front, words = table[list(before)], table[ids]
    best = list(start)
    reached = float(answer(network, torch.cat([front, words[best]]), layer, unit))
    logits = torch.zeros(len(start), len(ids))
    for place, token in enumerate(start):
        logits[place, token] = np.log(method.held * (len(ids) - 1) / (1 - method.held))
    logits.requires_grad_()
    optimiser = torch.optim.Adam([logits], lr=method.rate)
    hot, cold = method.cooling
    for step in range(method.steps):
        temperature = hot * (cold / hot) ** (step / (method.steps - 1))
        mixture = torch.softmax((torch.log_softmax(logits, -1) + noises[step]) / temperature, -1)
        optimiser.zero_grad()
        (-answer(network, torch.cat([front, mixture @ words]), layer, unit)).backward()
        optimiser.step()
        if (step + 1) % method.every == 0 or step + 1 == method.steps:
            settled = logits.argmax(dim=-1).tolist()
            now = float(answer(network, torch.cat([front, words[settled]]), layer, unit))
            if now > reached:
                best, reached = settled, now
    return best, reached


def readings(texts, items, member, random, neuron):
    """How texts (n, D) read as a class, in deviations of random ones (R, D); items (N, D), member bool (N,)."""
    mean, spread = items.mean(axis=0), items.std(axis=0)
    others = [other for other in range(items.shape[1]) if other != neuron and spread[other] > 0]
    weights = {other: np.corrcoef(items[:, other], member)[0, 1] for other in others}

    def total(row):
        return sum(
            weights[other] * max(-3.0, min(3.0, (row[other] - mean[other]) / spread[other]))
            for other in others
        )

    null = [total(row) for row in random]
    return np.array([(total(row) - np.mean(null)) / np.std(null) for row in texts])
