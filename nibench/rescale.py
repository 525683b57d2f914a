"""Secants instead of slopes: what DeepLIFT's rescale rule makes of a transformer.

Between a reference pass and the model's own pass every element-wise non-linearity is replaced by the straight
line through its two points, and the product in a gated feed-forward layer by its exact split; attention
patterns and the scales of norms stay what they are in the model's own pass. The rest of a network is linear,
so a plain backward pass through this gives DeepLIFT's multipliers (Shrikumar, Greenside & Kundaje, ICML 2017,
section 3.5.2). With frozen attention and norms contributions add up only as far as those do not change.
"""

from contextlib import ExitStack
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from nibench.architecture import UP_PATHS, submodule
from nibench.errors import InputError
from nibench.model import LanguageModel

CLOSE = 1e-4  # inputs nearer than this have the plain slope: a secant would be rounding error
LARGE = 1e4  # beside this the epsilon of a norm vanishes
ELEMENTWISE = ("transformers.activations", "torch.nn.modules.activation")


class _FrozenAttention(TorchFunctionMode):
    """Attention patterns as constants: no slope through queries, keys or softmax."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        del types
        if func is F.scaled_dot_product_attention:
            args = (args[0].detach(), args[1].detach(), *args[2:])
        result = func(*args, **(kwargs or {}))
        return result.detach() if func in (F.softmax, torch.softmax, Tensor.softmax) else result


class Secants:
    """Context in which a first pass is kept as the reference, and passes after `replace` have its secants.

    Raises
    ------
    InputError
        If a block's non-linearity is no module of its own.
    """

    def __init__(self, model: LanguageModel) -> None:
        self.model = model
        self.reference: dict[nn.Module, tuple[Tensor, Tensor]] = {}  # non-linearity or linear map -> in, out
        self.seen: dict[nn.Module, Tensor] = {}  # what they gave in this pass
        self.elementwise = [m for m in model.network.modules() if _is_elementwise(m)]
        self.gated: list[tuple[nn.Module, nn.Module, nn.Module]] = []  # (non-linearity, up, down)
        for layer, block in enumerate(model.architecture.blocks):
            inside = [module for module in block.modules() if module in self.elementwise]
            if len(inside) != 1:
                raise InputError(
                    f"Block {layer} of a {model.architecture.model_type} has {len(inside)} modules that are an "
                    "element-wise non-linearity; deeplift expects one. Use integrated_gradients here."
                )
            up = next((m for path in UP_PATHS.values() if (m := submodule(block, path)) is not None), None)
            if up is not None:
                self.gated.append((inside[0], up, model.architecture.ffn_modules(layer)[1]))

    def __enter__(self) -> "Secants":
        self.stack = ExitStack()
        for module in (*self.elementwise, *(up for _, up, _ in self.gated)):
            self.stack.callback(module.register_forward_hook(self._keep).remove)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stack.close()

    def _keep(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        self.reference[module] = (args[0].detach(), output.detach())

    def replace(self) -> None:
        """From here on passes are linear but for the head: secants, split products, frozen attention and norms."""
        self.stack.close()
        for module in self.elementwise:
            self.stack.callback(module.register_forward_hook(self._secant).remove)
        for inner, up, down in self.gated:
            self.stack.callback(up.register_forward_hook(self._see).remove)
            self.stack.callback(down.register_forward_pre_hook(self._product(inner, up)).remove)
        for module in self.model.network.modules():
            if type(module).__name__.endswith("Norm"):
                self.stack.callback(module.register_forward_hook(_frozen_scale).remove)
        self.stack.enter_context(_FrozenAttention())

    def _secant(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        before, after = self.reference[module]
        change = args[0].detach() - before
        far = change.abs() > CLOSE
        slope = (output.detach() - after) / torch.where(far, change, 1.0)
        line = output.detach() + slope * (args[0] - args[0].detach())
        self.seen[module] = torch.where(far, line, output)
        return self.seen[module]

    def _see(self, module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> None:
        del args
        self.seen[module] = output

    def _product(self, inner: nn.Module, up: nn.Module) -> Any:
        def split(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            del module
            gate, linear = self.seen[inner], self.seen[up]
            half_gate = (gate.detach() + self.reference[inner][1]) / 2
            half_linear = (linear.detach() + self.reference[up][1]) / 2
            value = args[0].detach() + half_linear * (gate - gate.detach())
            return (value + half_gate * (linear - linear.detach()), *args[1:])

        return split


def _is_elementwise(module: nn.Module) -> bool:
    """Whether a module is a non-linearity that takes each number by itself."""
    kind = type(module)
    return kind.__module__ in ELEMENTWISE and kind not in (nn.Softmax, nn.LogSoftmax, nn.MultiheadAttention)


def _frozen_scale(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """A norm's output, with a slope as if the scale it divides by were a constant."""
    values = args[0].detach()
    change = args[0] - values
    if isinstance(module, nn.LayerNorm):
        change = change - change.mean(dim=-1, keepdim=True)
        scale = (values.var(dim=-1, unbiased=False, keepdim=True) + module.eps).rsqrt()
        gain = 1.0 if module.weight is None else module.weight
    else:  # root mean square: its gain is what it makes of equal entries
        epsilon = getattr(module, "variance_epsilon", getattr(module, "eps", 0.0))
        scale = (values.square().mean(dim=-1, keepdim=True) + epsilon).rsqrt()
        gain = module.forward(torch.full_like(values[..., :1, :], LARGE))
    return output.detach() + change * scale * gain
