"""Reference means: what mean ablation sets each neuron to."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from nibench.errors import InputError
from nibench.model import LanguageModel
from nibench.neurons import Neurons
from nibench.prompts import by_length, read_ids
from nibench.task import Prompt

if TYPE_CHECKING:
    from torch import Tensor

    from nibench.architecture import Tap

MAX_ITEMS = 64  # prompts in one batch


def taps_of(model: LanguageModel, neurons: Neurons) -> "list[Tap]":
    """Where these neurons are read in this model; they must be whole blocks of one site."""
    taps = []
    for block in neurons.blocks:
        site: Any = "residual" if block.layer < 0 else block.name.partition(".")[2]
        tap = model.architecture.tap(site, block.layer)
        if tap.block != block:
            raise InputError(
                f"The model's {tap.block.name} has {tap.block.width} neurons, not {block.width}."
            )
        taps.append(tap)
    return taps


def reference_means(
    model: LanguageModel, prompts: Sequence[Prompt], neurons: Neurons, intervene_at: Literal["last", "all"]
) -> np.ndarray:
    """float64 (D,): what mean ablation sets each neuron to.

    ``last``: the mean over the prompts' last tokens, cells of (behaviour, class) weighted alike. ``all``:
    the mean over all tokens of the prompts that are not special.
    """
    taps = taps_of(model, neurons)
    read = [read_ids(model, prompt.text, prompt.word) for prompt in prompts]
    sums: dict[tuple[str, int], np.ndarray] = {}
    counts: dict[tuple[str, int], int] = {}
    for rows in by_length([ids for ids, _ in read]):
        for start in range(0, len(rows), MAX_ITEMS):
            chunk = rows[start : start + MAX_ITEMS]
            ids = np.array([read[row][0] for row in chunk])
            if intervene_at == "last":
                acts = np.arange(ids.shape[1]) == np.array([read[row][1] for row in chunk])[:, None]
            else:
                acts = ~np.isin(ids, sorted(model.special_ids))
            totals = _sums_over(model, taps, ids, acts)
            for row, total, size in zip(chunk, totals, acts.sum(axis=1), strict=True):
                cell = (prompts[row].behaviour, prompts[row].label) if intervene_at == "last" else ("", 0)
                sums[cell] = sums.get(cell, np.zeros(len(neurons))) + total
                counts[cell] = counts.get(cell, 0) + int(size)
    return np.mean([sums[cell] / counts[cell] for cell in sorted(sums)], axis=0)


def _sums_over(model: LanguageModel, taps: "list[Tap]", ids: np.ndarray, acts: np.ndarray) -> np.ndarray:
    """float64 (n, D): each neuron's values added up over the positions of ``acts`` (n, T)."""
    import torch

    seen: list[np.ndarray] = []
    where = torch.from_numpy(acts).to(model.device)

    def add(values: "Tensor") -> None:
        shaped = values.view(*where.shape, -1).double()
        seen.append((shaped * where[..., None]).sum(dim=1).cpu().numpy())

    handles = [tap.attach(add) for tap in taps]
    try:
        model.run(ids.tolist())
    finally:
        for handle in handles:
            handle.remove()
    return np.concatenate(seen, axis=1)
