"""Neuron names: which column of the activations is which neuron of the model."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import overload

import numpy as np

from nibench.errors import InputError

EMBEDDING_LAYER = -1


@dataclass(frozen=True)
class Block:
    """A run of neighbouring columns: the neurons of one site of one layer, e.g. ``L2.mlp_post``."""

    name: str
    layer: int
    width: int


@dataclass(frozen=True)
class Neurons(Sequence[str]):
    """The names of D neurons in column order; a neuron's flat id is its position here, nothing else.

    Names read ``L{layer}.{site}.{unit}``, layer 0 being the first block; embedding neurons are
    ``embed.{unit}`` and come first. Arrays without a model are ``neuron.{unit}``.
    """

    blocks: tuple[Block, ...]

    @classmethod
    def anonymous(cls, n_neurons: int) -> "Neurons":
        """Names for a bare activation matrix."""
        return cls((Block("neuron", 0, n_neurons),))

    @cached_property
    def offsets(self) -> np.ndarray:
        """(B + 1,) int: the first column of each block, then D."""
        return np.concatenate([[0], np.cumsum([block.width for block in self.blocks])]).astype(int)

    @cached_property
    def layers(self) -> np.ndarray:
        """(D,) int: the layer of each neuron, -1 for embeddings."""
        return np.repeat([block.layer for block in self.blocks], [block.width for block in self.blocks])

    def __len__(self) -> int:
        return int(self.offsets[-1])

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        flat = index % len(self)
        block = int(np.searchsorted(self.offsets, flat, side="right")) - 1
        return f"{self.blocks[block].name}.{flat - int(self.offsets[block])}"

    def index(self, value: str, start: int = 0, stop: int | None = None) -> int:
        """The flat id of a neuron's name.

        Raises
        ------
        InputError
            If no neuron has this name; the message lists the blocks there are.
        """
        stem, _, unit = value.rpartition(".")
        for block, offset in zip(self.blocks, self.offsets, strict=False):
            if block.name == stem and unit.isdecimal() and int(unit) < block.width:
                return int(offset) + int(unit)
        known = ", ".join(f"{block.name}.0..{block.width - 1}" for block in self.blocks)
        raise InputError(f"No neuron named {value!r}; there are {known}.")
