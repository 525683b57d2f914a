"""A null: a concept carried along a few directions that lie askew to the neurons of a layer.

Swapping the activations' component along them moves the answer as the source's would, swapping all the rest moves
nothing, and each neuron has a little of it: no neuron, and no few neurons, is right. The directions are arrays of
`effects.npz`, `{concept}.direction.{i}`, one number for every neuron of the model and 0 outside their layer.
`RotatedBench` measures what they move.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nibench.errors import InputError
from nibench.truth import files
from nibench.truth.exhaustive import Edit, Engine
from nibench.truth.shares import Bench

MOTIF = "null_rotated"
DIRECTION = "direction"


@dataclass(frozen=True, eq=False)
class Directions:
    """Orthonormal directions (F, k) of one layer's neurons."""

    layer: int
    basis: Tensor

    def along(self, values: Tensor) -> Tensor:
        """The component of activations (..., F) along the directions."""
        return values @ self.basis @ self.basis.T


def as_effects(folder: Path, concept: str, layer: int, basis: np.ndarray) -> dict[str, np.ndarray]:
    """Directions (F, k) of a layer as `effects.npz` holds them."""
    blocks, units = files.layer_sizes(folder)
    whole = np.zeros((basis.shape[1], blocks, units), np.float32)
    whole[:, layer] = basis.T
    return {f"{concept}.{DIRECTION}.{i}": one.flatten() for i, one in enumerate(whole)}


def read(folder: Path, concept: str) -> Directions:
    """The directions along which a concept is said to be carried.

    Raises
    ------
    InputError
        If `effects.npz` has none, or they are not orthonormal directions of one layer.
    """
    start = f"{concept}.{DIRECTION}."
    found = [values for name, values in files.read_effects(folder).items() if name.startswith(start)]
    where = f"{Path(folder) / 'effects.npz'}: {start}*"
    remedy = f"Restore {Path(folder).name}/ as it was shipped."
    if not found:
        raise InputError(f"{where}, along which the concept is carried, are missing. {remedy}")
    basis = np.stack(found, axis=1).astype(np.float64).reshape(*files.layer_sizes(folder), len(found))
    layers = np.flatnonzero(basis.any(axis=(1, 2)))
    if len(layers) != 1 or not np.allclose(
        basis[layers[0]].T @ basis[layers[0]], np.eye(len(found)), atol=1e-4
    ):
        raise InputError(f"{where} are not orthonormal directions of one layer. {remedy}")
    return Directions(int(layers[0]), torch.from_numpy(basis[layers[0]]).float())


def steer(
    engine: Engine,
    ids: Tensor,
    edits: dict[int, Edit],
    directions: Directions,
    here: Tensor,
    goal: Tensor | None = None,
) -> None:
    """Change edits so that where `here` (B, T, 1) the component along the directions is that of `goal` (B, T, F).

    Without a goal it stays what the other edits make it: the layer depends on those before, so they are run first.
    """
    own = edits.pop(directions.layer, None)
    before = engine.run(ids, edits)[1][directions.layer]
    after = before if own is None else torch.where(own.mask, own.values, before)
    after = after + here * directions.along((before if goal is None else goal) - after)
    edits[directions.layer] = Edit(torch.ones_like(after, dtype=torch.bool), after)


@dataclass
class RotatedBench(Bench):
    """The pairs of a behaviour that directions carry at the last position; there are no neurons that do.

    Whatever a mask moves, the component along the directions stays there, unless `carriers` moves it.
    """

    directions: Directions

    def margin(
        self, mask: Tensor, values: Sequence[Tensor] | None = None, carriers: bool = False
    ) -> np.ndarray:
        """See `Bench.margin`."""
        edits = self._edits(mask, values)
        goal = (values or self.source)[self.directions.layer] if carriers else None
        steer(self.engine, self.ids, edits, self.directions, self.at_last, goal)
        return self._margin(self.engine.run(self.ids, edits)[0])

    def moved_whole(self, mask: Tensor) -> np.ndarray:
        """How far an interchange of neurons (L, F) moves each margin, their component along the directions too."""
        return self.intact - super().margin(mask)
