"""Parts of a pass for encoders: every position sees every other, so whole sequences run from a block on."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from nibench.architecture import Tap, submodule
from nibench.groups import Group, Target
from nibench.model import LanguageModel, Passes
from nibench.suffix import NotReproduced, Suffix, arguments_of

CLOSING_NORMS = ("output.LayerNorm", "output_layer_norm")  # post-norm blocks: the norm that ends them


class _Reached(Exception):
    """Leaves the model's head in front of the output embedding."""


class BothDirections(Suffix):
    """An encoder's blocks on whole sequences, and its head where the answers are read.

    In a post-norm block a neuron's change adds in front of the norm that ends the block.
    """

    def __init__(self, model: LanguageModel, group: Group, taps: Sequence[Tap], passes: Passes) -> None:
        if model.has_head == "causal":
            raise NotReproduced
        super().__init__(model, group, taps, passes)

    def _prepare(self) -> None:
        self.arguments = arguments_of(self.model, self.group.ids[:1], 0, self.group.ids.shape[1])
        self._norms = [
            next((norm for path in CLOSING_NORMS if (norm := submodule(block, path)) is not None), None)
            for block in self.model.architecture.blocks
        ]
        self._before_norm: dict[int, Tensor] = {}
        with ExitStack() as stack, torch.no_grad():
            for layer, norm in enumerate(self._norms):
                if norm is not None:
                    stack.callback(norm.register_forward_pre_hook(self._keep(layer)).remove)
            self._run(1, 0, "margin")

    def _keep(self, layer: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def keep(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            del module
            self._before_norm[layer] = args[0].view(*self.acts.shape, -1)

        return keep

    def _sums(self, layer: int) -> Sequence[tuple[Tensor, Callable[[Tensor], Tensor]]]:
        norm = self._norms[layer]
        return [*super()._sums(layer), *([] if norm is None else [(self._before_norm[layer], norm)])]

    def _into_head(self, hidden: Tensor) -> Tensor:
        from transformers.modeling_outputs import BaseModelOutput

        base: Any = self.model.architecture.base
        rows = hidden.flatten(0, 1)[:, None]
        norm = self.model.architecture.final_norm()
        reached: list[Tensor] = []

        def reach(_: nn.Module, args: tuple[Tensor, ...]) -> None:
            reached.append(args[0])
            raise _Reached

        with ExitStack() as stack:
            stack.callback(self.head.register_forward_pre_hook(reach).remove)
            stack.callback(vars(base).pop, "forward")
            base.forward = lambda *_, **__: BaseModelOutput(
                last_hidden_state=rows if norm is None else norm(rows)
            )
            try:
                self.model.network(input_ids=self.group.ids[:1, :1])
            except _Reached:
                return reached[0].view(*hidden.shape[:2], -1)
        raise NotReproduced

    def _spread(self, hidden: Tensor, n_variants: int) -> Tensor:
        return hidden.repeat(n_variants, 1, 1)

    def _laid_out(self, hidden: Tensor) -> Tensor:
        return hidden.flatten(0, 1)

    def _at_answer(self, values: Tensor) -> Tensor:
        index = self.group.read.view(*[1] * (values.ndim - 3), -1, 1, 1)
        return values.gather(-2, index.expand(*values.shape[:-2], 1, values.shape[-1]))

    def _through(self, entering: Mapping[int, Tensor], target: Target) -> Tensor:
        hidden = None
        for layer in range(min(entering), self.n_blocks):
            hidden = self._joined(hidden, entering, layer)
            self._count(len(hidden) // len(self.acts))
            hidden = self._call(layer, hidden, self.arguments)
        parts = []
        if hidden is not None:
            shaped = hidden.view(-1, *self.acts.shape, hidden.shape[-1])
            parts.append(self._at_answer(shaped)[:, :, 0])
        if self.n_blocks in entering:
            own = entering[self.n_blocks]
            shaped = own.view(-1, len(self.acts), own.shape[1], own.shape[-1])
            parts.append((shaped if own.shape[1] == 1 else self._at_answer(shaped))[:, :, 0])
        return self._read(torch.cat(parts), target)
