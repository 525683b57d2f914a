"""Runs of one behaviour's pairs with neurons replaced, and the share of the margin that they move."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from math import factorial

import numpy as np
import torch
from torch import Tensor

from nibench.errors import InputError
from nibench.truth import files
from nibench.truth.exhaustive import Edit, Engine
from nibench.truth.pairs import Pair

EXACT = 8  # carriers up to which Shapley shares are exact
ORDERS = 40  # seeded orders of the carriers beyond


def mask_of(engine: Engine, names: Sequence[str]) -> Tensor:
    """Which neurons are named, (L, F) bool."""
    mask = torch.zeros(engine.n_layers, engine.n_units, dtype=torch.bool)
    for name in names:
        mask[files.parse_neuron(name)] = True
    return mask


@dataclass
class Bench:
    """The pairs of one behaviour, run intact."""

    engine: Engine
    pairs: Sequence[Pair]
    carriers: Tensor  # (L, F) bool
    ids: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.ids, self.last = self.engine.encode([pair.base for pair in self.pairs])
        sources, _ = self.engine.encode([pair.source for pair in self.pairs])
        if sources.shape != self.ids.shape:
            raise InputError(f"{self.engine.folder.name}: a pair's base and source differ in length.")
        self.right = self.engine.answer_ids([pair.answers[pair.base_answer] for pair in self.pairs])
        self.wrong = self.engine.answer_ids([pair.answers[pair.source_answer] for pair in self.pairs])
        self.rows = torch.arange(len(self.pairs))
        self.at_last = (torch.arange(self.ids.shape[1])[None] == self.last[:, None])[:, :, None]  # (B, T, 1)
        self.base_logits, self.base = self.engine.run(self.ids)
        self.source_logits, self.source = self.engine.run(sources)
        self.intact = self._margin(self.base_logits)
        self.whole = self.intact - self._margin(self.source_logits)

    def _margin(self, logits: Tensor) -> np.ndarray:
        return (
            (logits[self.rows, self.last, self.right] - logits[self.rows, self.last, self.wrong])
            .double()
            .numpy()
        )

    def margin(
        self, mask: Tensor, values: Sequence[Tensor] | None = None, carriers: bool = False
    ) -> np.ndarray:
        """Margins with `values` (the source's unless told) where `mask`, (L, F), (B, L, F) or (B, L, T, F).

        With `carriers` these at the last position, too; the mask is (B, L, T, F) then.
        """
        if carriers:
            mask = mask | self.at_last[:, None] & self.carriers[None, :, None]
        return self._margin(self.engine.run(self.ids, self._edits(mask, values))[0])

    def _edits(self, mask: Tensor, values: Sequence[Tensor] | None) -> dict[int, Edit]:
        edits = {}
        for layer in range(self.engine.n_layers):
            where = mask[layer] if mask.ndim == 2 else mask[:, layer]
            if where.any():
                where = (
                    where
                    if where.ndim == 3
                    else where[..., None, :].expand_as(self.base[layer]) & self.at_last
                )
                edits[layer] = Edit(where, (values or self.source)[layer])
        return edits

    def everywhere(self, chosen: Tensor) -> Tensor:
        """A mask (B, L, T, F) of the chosen neurons (B, L, F) at every position, but carriers not at the
        last."""
        carried = self.at_last[:, None] & self.carriers[None, :, None]  # (B, L, T, F)
        return chosen[:, :, None] & ~carried

    def moved(self, mask: Tensor, carriers: bool = False) -> np.ndarray:
        """How far an interchange moves each margin towards the source's, in nats."""
        return self.intact - self.margin(mask, carriers=carriers)


def interval(statistic: Callable[[np.ndarray], float], n: int, resamples: int) -> tuple[float, float]:
    """95 % bootstrap interval of `statistic(indices)` over `n` pairs; the figure itself for no resamples."""
    if resamples == 0:
        value = float(statistic(np.arange(n)))
        return value, value
    rng = np.random.default_rng(0)
    values = [statistic(rng.integers(0, n, n)) for _ in range(resamples)]
    low, high = np.quantile(values, [0.025, 0.975])
    return float(low), float(high)


def coalitions(carriers: Sequence[str]) -> list[frozenset[str]]:
    """The sets whose worth `shapley` needs: all subsets of up to 8 carriers, else the heads of seeded orders."""
    n = len(carriers)
    if n <= EXACT:
        return [frozenset(group) for size in range(n + 1) for group in combinations(carriers, size)]
    return list(dict.fromkeys(frozenset(order[:end]) for order in _orders(carriers) for end in range(n + 1)))


def shapley(carriers: Sequence[str], worth: Mapping[frozenset[str], float]) -> dict[str, float]:
    """Each carrier's Shapley share of a set function given on `coalitions(carriers)`.

    Exact for up to 8 carriers, else the mean over `ORDERS` orders. Shapley, A value for n-person games,
    Contributions to the Theory of Games II, 1953.
    """
    n, shares = len(carriers), dict.fromkeys(carriers, 0.0)
    if n > EXACT:
        for order in _orders(carriers):
            for index, name in enumerate(order):
                before = frozenset(order[:index])
                shares[name] += (worth[before | {name}] - worth[before]) / ORDERS
        return shares
    for name in carriers:
        others = [other for other in carriers if other != name]
        for size in range(n):
            chance = factorial(size) * factorial(n - size - 1) / factorial(n)
            for group in combinations(others, size):
                before = frozenset(group)
                shares[name] += chance * (worth[before | {name}] - worth[before])
    return shares


def _orders(carriers: Sequence[str]) -> list[list[str]]:
    rng = np.random.default_rng(0)
    names = list(carriers)
    return [[names[int(place)] for place in rng.permutation(len(names))] for _ in range(ORDERS)]


def interchange_worth(
    engine: Engine, pairs: Sequence[Pair], sets: Sequence[Collection[str]]
) -> dict[frozenset[str], float]:
    """The share of the base-to-source margin that each set of neurons moves by interchange."""
    behaviour = engine.behaviour(pairs)
    place = {name: index for index, name in enumerate(engine.neurons)}
    margins = behaviour.ablate_sets([[place[name] for name in group] for group in sets], to="source")
    intact = behaviour.margin()
    whole = (intact - behaviour.source_margin()).mean()
    return {
        frozenset(group): float((intact - moved).mean() / whole)
        for group, moved in zip(sets, margins, strict=True)
    }
