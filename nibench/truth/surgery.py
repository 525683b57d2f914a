"""Surgery: changes of a network's FFN weights that leave its output as it is, to rounding.

Each moves the right answer of a neuron ranker in a known way, and so must move the ranker's answer. The
functions work in place on any supported Hugging Face model. Neurons named as places are overwritten: what
they wrote before is lost, so they should be dead (`widen` adds such) or bounded.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nibench.architecture import Architecture, projection
from nibench.errors import InputError


@dataclass(frozen=True, eq=False)
class Ffn:
    """The weights of one block's FFN, as views: writing into them changes the network.

    ``out = output.T act(inputs[0] x + biases[0]) + output_bias``; gated: the activation times
    ``inputs[1] x + biases[1]``.

    Attributes
    ----------
    inputs : tuple of (F, d)
        What each unit reads: one matrix, or the gate's and then up's.
    biases : tuple of (F,) or None
        The offsets of ``inputs``.
    output : (F, d)
        What each unit writes into the stream.
    output_bias : (d,) or None
    activation : str
        The non-linearity as the model's configuration names it: ``relu``, ``gelu_new``, ``silu``, ...
    """

    layer: int
    inputs: tuple[Tensor, ...]
    biases: tuple[Tensor | None, ...]
    output: Tensor
    output_bias: Tensor | None
    activation: str

    @property
    def gated(self) -> bool:
        """Whether units are products of a gate and a linear map."""
        return len(self.inputs) == 2

    @property
    def n_units(self) -> int:
        """F, the number of units."""
        return len(self.output)

    @property
    def per_unit(self) -> tuple[Tensor, ...]:
        """Every tensor with one row per unit."""
        return (*self.inputs, *(bias for bias in self.biases if bias is not None), self.output)

    def check(self, *units: int) -> None:
        """Refuse units that do not exist."""
        for unit in units:
            if not 0 <= unit < self.n_units:
                raise InputError(f"No unit {unit} in block {self.layer}; expected 0 to {self.n_units - 1}.")


def ffn(network: Any, layer: int) -> Ffn:
    """The FFN weights of block ``layer`` of a transformers model.

    Raises
    ------
    InputError
        Naming the module, if the FFN is fused, quantised, adapted or not known.
    """
    architecture = Architecture.of(network)
    inner, outer = architecture.ffn_modules(layer)
    return Ffn(
        layer,
        tuple(projection(module).detach().T for module in inner),
        tuple(_bias(module) for module in inner),
        projection(outer).detach(),
        _bias(outer),
        architecture.activation,
    )


def _bias(module: nn.Module) -> Tensor | None:
    bias = getattr(module, "bias", None)
    return bias.detach() if isinstance(bias, Tensor) else None


def permute(network: Any, layer: int, order: Any) -> None:
    """Reorder the units of a block: unit ``order[i]`` moves to place i.

    Raises
    ------
    InputError
        If ``order`` is no permutation of the F units.
    """
    target = ffn(network, layer)
    index = torch.as_tensor(order, device=target.output.device)
    if index.shape != (target.n_units,) or not torch.equal(
        index.sort().values.cpu(), torch.arange(target.n_units)
    ):
        raise InputError(f"order is no permutation of the {target.n_units} units of block {layer}.")
    for tensor in target.per_unit:
        tensor.copy_(tensor[index])


def split(network: Any, layer: int, unit: int, into: Sequence[int]) -> None:
    """Split a unit into equal copies: itself and the places ``into``, each writing its share of the output.

    With m copies in all (``len(into) + 1``) each has the unit's input and 1/m of its output column.
    """
    target = ffn(network, layer)
    target.check(unit, *into)
    if unit in into or len(set(into)) != len(into):
        raise InputError(f"split of unit {unit} into {list(into)}: expected other units, each once.")
    target.output[unit] /= len(into) + 1
    for place in into:
        for tensor in target.per_unit:
            tensor[place] = tensor[unit]


def decoy(
    network: Any,
    layer: int,
    unit: int,
    place: int,
    noise: float = 0.0,
    generator: torch.Generator | None = None,
) -> None:
    """Make ``place`` a decoy of a unit: it reads what the unit reads and writes nothing.

    Parameters
    ----------
    noise : float
        Gaussian noise on the input rows, its norm relative to the row's; 0 makes an exact copy of the activation.
    generator
        Draws the noise.
    """
    target = ffn(network, layer)
    target.check(unit, place)
    if unit == place:
        raise InputError(f"decoy of unit {unit} at itself; expected another unit.")
    _read_as(target, unit, place)
    for weight in target.inputs:
        drawn = torch.randn(weight.shape[1], generator=generator).to(weight)
        weight[place] += noise * weight[unit].norm() / drawn.norm() * drawn
    target.output[place] = 0


def cancelled_pair(
    network: Any, layer: int, unit: int, places: tuple[int, int], write: Tensor | None = None
) -> None:
    """Make two units that read what ``unit`` reads and write opposite columns (default: the unit's own).

    Each alone moves what follows; both together do nothing.
    """
    target = ffn(network, layer)
    target.check(unit, *places)
    if len({unit, *places}) != 3:
        raise InputError(f"cancelled pair of unit {unit} at {places}; expected two other units.")
    column = (target.output[unit] if write is None else write.to(target.output)).clone()
    for place, sign in zip(places, (1, -1), strict=True):
        _read_as(target, unit, place)
        target.output[place] = sign * column


def rescale(network: Any, layer: int, factors: Any) -> None:
    """Multiply each unit's activation by a factor (F,) and divide its output column by it.

    Exact where the activation scales with its input: ReLU (factors above 0; input row and bias are scaled) and
    gated FFNs (factors other than 0; the up row is scaled).

    Raises
    ------
    InputError
        For any other non-linearity, by name, and for factors that are not allowed.
    """
    target = ffn(network, layer)
    values = torch.as_tensor(factors).to(target.output)
    if values.shape != (target.n_units,) or not bool(values.isfinite().all()):
        raise InputError(
            f"factors have shape {tuple(values.shape)}; expected {target.n_units} finite numbers."
        )
    if not target.gated and target.activation != "relu":
        raise InputError(
            f"Block {layer} has the non-linearity {target.activation or 'unnamed'!r}, which does not scale with its "
            "input; expected relu, or a gated FFN."
        )
    if bool((values == 0).any() if target.gated else (values <= 0).any()):
        raise InputError(
            f"factors hold {float(values.min()):g}; expected {'no 0' if target.gated else 'above 0'}."
        )
    weight, bias = target.inputs[-1], target.biases[-1]
    weight *= values[:, None]
    if bias is not None:
        bias *= values
    target.output.div_(values[:, None])


def widen(network: Any, layer: int, n: int) -> range:
    """Add n dead units to one block, in memory; returns their numbers.

    The projections stay the same modules with larger weights. Other blocks keep their width and the
    configuration its ``intermediate_size``, so the result cannot be saved and opened again. An input
    projection without offset gets one (zeros), so that grafts may have thresholds.

    Raises
    ------
    InputError
        Naming the module, if the block cannot be widened.
    """
    inner, outer = Architecture.of(network).ffn_modules(layer)
    if n < 1:
        raise InputError(f"widen by {n} units; expected 1 or more.")
    first = projection(outer).shape[0]
    for module in inner:
        weight = projection(module).detach()
        bias = _bias(module)
        old = weight.new_zeros(first) if bias is None else bias
        module.bias = nn.Parameter(torch.cat([old, old.new_zeros(n)]), requires_grad=False)
        _set_weight(module, torch.cat([weight, weight.new_zeros(len(weight), n)], dim=1))
    weight = projection(outer).detach()
    _set_weight(outer, torch.cat([weight, weight.new_zeros(n, weight.shape[1])]))
    return range(first, first + n)


def _set_weight(module: Any, weight: Tensor) -> None:
    """Give a projection a new weight (n_in, n_out), whichever way its class stores it."""
    if isinstance(module, nn.Linear):
        module.weight = nn.Parameter(weight.T.contiguous(), requires_grad=False)
        module.in_features, module.out_features = weight.shape
    else:  # Conv1D
        module.weight = nn.Parameter(weight.contiguous(), requires_grad=False)
        module.nx, module.nf = weight.shape


def _read_as(target: Ffn, unit: int, place: int) -> None:
    for tensor in target.per_unit[:-1]:
        tensor[place] = tensor[unit]
