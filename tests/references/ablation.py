"""The ablation engine, written out: one prompt and one pass of the whole network at a time."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

Module = Callable[[Any, int], tuple[torch.nn.Module, str]]  # (network, layer) -> module, "input" or "output"


def logits(network: Any, ids: Sequence[int]) -> torch.Tensor:
    """(T, V)"""
    with torch.no_grad():
        return network(input_ids=torch.tensor([list(ids)])).logits[0]


def values_of(network: Any, module: torch.nn.Module, end: str, ids: Sequence[int]) -> np.ndarray:
    """(T, width): what passes a site."""
    seen = []

    def look(_: Any, args: Any, output: Any) -> None:
        value = args[0] if end == "input" else output[0] if isinstance(output, tuple) else output
        seen.append(value.view(len(ids), -1).numpy().copy())  # some models drop the batch axis

    handle = module.register_forward_hook(look)
    logits(network, ids)
    handle.remove()
    return seen[0]


def margin(network: Any, ids: Sequence[int], read: int, correct: int, wrong: Sequence[int]) -> float:
    """Logit of the correct token minus the log-sum-exp of the wrong ones."""
    at = logits(network, ids)[read].double()
    return float(at[correct] - torch.logsumexp(at[list(wrong)], 0))


def ablated_margin(
    network: Any,
    changes: Sequence[tuple[torch.nn.Module, str, int, np.ndarray]],
    positions: Sequence[int],
    ids: Sequence[int],
    read: int,
    correct: int,
    wrong: Sequence[int],
) -> float:
    """The margin with each (module, end, unit, values (T,)) replaced at the given positions."""
    handles = []
    for module, end, unit, values in changes:

        def set_values(tensor: torch.Tensor, unit: int = unit, values: np.ndarray = values) -> torch.Tensor:
            tensor = tensor.clone()
            for position in positions:
                tensor.view(-1, tensor.shape[-1])[position, unit] = float(values[position])
            return tensor

        if end == "input":
            handles.append(
                module.register_forward_pre_hook(
                    lambda _, args, change=set_values: (change(args[0]), *args[1:])
                )
            )
        else:

            def after(_: Any, args: Any, output: Any, change: Any = set_values) -> Any:
                return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

            handles.append(module.register_forward_hook(after))
    try:
        return margin(network, ids, read, correct, wrong)
    finally:
        for handle in handles:
            handle.remove()
