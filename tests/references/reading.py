"""One neuron, read the slow way: a pass a text, a loop a token."""

import torch

from nibench.model import LanguageModel


def activations(model: LanguageModel, tap, unit: int, text: str) -> list[float]:
    """The neuron at every token of a text that is not special, from one unbatched pass of the whole network."""
    seen = []

    def keep(module, args, output=None) -> None:
        del module
        values = args[0] if output is None else output
        seen.append(
            (values[0] if isinstance(values, tuple) else values).reshape(-1, tap.block.width)[:, unit]
        )

    before = tap.end == "input"
    handle = (tap.module.register_forward_pre_hook if before else tap.module.register_forward_hook)(keep)
    encoded = model.tokenizer(text, return_special_tokens_mask=True)
    with torch.no_grad():
        model.network(torch.tensor([encoded["input_ids"]]))
    handle.remove()
    special = encoded["special_tokens_mask"]
    return [float(v) for v, flag in zip(seen[0], special, strict=True) if not flag]


def pairs_won(values: list[float], chosen: list[bool]) -> float:
    """The chance that a chosen value is higher than another, ties counting half."""
    wins = [
        (a > b) + 0.5 * (a == b)
        for a, x in zip(values, chosen, strict=True)
        for b, y in zip(values, chosen, strict=True)
        if x and not y
    ]
    return sum(wins) / len(wins)
