"""Weights: what each neuron of the feed-forward layers reads from the residual stream, and what it writes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nibench.errors import InputError
from nibench.neurons import Neurons

if TYPE_CHECKING:
    from nibench.model import LanguageModel


@dataclass(frozen=True, eq=False)
class Weights:
    """The weights of D feed-forward neurons in a stream of width d; biases are not in them.

    Attributes
    ----------
    inputs : tuple of float32 (D, d)
        The rows by which a neuron reads the stream: one, or two where the layer is gated (gate, up).
    outputs : float32 (D, d)
        The column that a neuron writes to the stream, per unit of its activation.
    """

    inputs: tuple[np.ndarray, ...]
    outputs: np.ndarray


def read_weights(model: "LanguageModel", neurons: Neurons) -> Weights:
    """The weights of these neurons, which must be of the site ``mlp_post``.

    Raises
    ------
    InputError
        For neurons of another site, or projections that are not known or not plain linear layers.
    """
    from nibench.architecture import projection

    reading: list[list[np.ndarray]] = []
    writing = []
    for block in neurons.blocks:
        if not block.name.endswith(".mlp_post"):
            raise InputError(
                f"{block.name} has no weights of its own; only neurons of mlp_post read and write."
            )
        inner, outer = model.architecture.ffn_modules(block.layer)
        reading.append([projection(module).T.float().cpu().numpy() for module in inner])
        writing.append(projection(outer).float().cpu().numpy())
    rows = tuple(np.concatenate(one) for one in zip(*reading, strict=True))
    return Weights(rows, np.concatenate(writing))
