"""Parts of a pass for encoders: every position sees every other, so whole sequences run from a block on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from nibench.architecture import Tap, submodule
from nibench.groups import Group, Target
from nibench.model import LanguageModel, Passes
from nibench.suffix import NotReproduced, Suffix, arguments_of

CLOSING_NORMS = ("output.LayerNorm", "output_layer_norm")  # post-norm blocks: the norm that ends them
ATTENDED = ("sa_layer_norm", "attention")  # what every position goes through alone from here on in a block


class _Reached(Exception):
    """Leaves the model's head in front of the output embedding."""


class BothDirections(Suffix):
    """An encoder's blocks on whole sequences, and its head where the answers are read.

    In a post-norm block a neuron's change adds in front of the norm that ends the block. Of the last block only the
    attention is run everywhere, and the rest where the answers are read, in models where that gives their margins.
    """

    def __init__(
        self,
        model: LanguageModel,
        group: Group,
        taps: Sequence[Tap],
        passes: Passes,
        proven: Suffix | None = None,
    ) -> None:
        if model.has_head == "causal":
            raise NotReproduced
        blocks = model.architecture.blocks
        self._norms = [_first_of(CLOSING_NORMS, block) for block in blocks]
        self._before_norm: dict[int, Tensor] = {}
        self.attended = _first_of(ATTENDED, blocks[-1])
        super().__init__(model, group, taps, passes, proven)

    @contextmanager
    def _recording(self) -> Iterator[None]:
        with ExitStack() as stack:
            for layer, norm in enumerate(self._norms):
                if norm is not None:
                    stack.callback(norm.register_forward_pre_hook(self._keep(layer)).remove)
            yield

    def _prepare(self, proven: Any) -> None:
        if proven is None:
            self.arguments = arguments_of(self.model, self.group.ids[:1], 0, self.group.ids.shape[1])
        else:
            self.arguments = proven.arguments
            self.attended = None if proven.attended is None else self.attended

    def _reproduces(self) -> bool:
        try:
            if super()._reproduces():
                return True
        except RuntimeError:
            pass
        self.attended = None
        return super()._reproduces()

    def _passing(self, values: Tensor, q: int) -> Tensor:
        return values if q == values.shape[-2] else self._at_answer(values)

    def _keep(self, layer: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def keep(module: nn.Module, args: tuple[Tensor, ...]) -> None:
            del module
            self._before_norm[layer] = args[0].view(*self.acts.shape, -1)

        return keep

    def _sums(self, layer: int) -> Sequence[tuple[Tensor, Callable[[Tensor], Tensor]]]:
        norm = self._norms[layer] if layer >= 0 else None
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
            last = layer == self.n_blocks - 1
            hidden = self._last_block(hidden) if last else self._call(layer, hidden, self.arguments)
        parts = [hidden, entering.get(self.n_blocks)]
        shaped = [part.view(-1, len(self.acts), *part.shape[1:]) for part in parts if part is not None]
        return self._read(torch.cat([self._passing(part, 1)[:, :, 0] for part in shaped]), target)

    def _last_block(self, hidden: Tensor) -> Tensor:
        def only_read(_: nn.Module, __: Any, output: Any) -> Any:
            states = output[0] if isinstance(output, tuple) else output
            kept = self._at_answer(states.view(-1, *self.acts.shape, states.shape[-1])).flatten(0, 1)
            return (kept, *output[1:]) if isinstance(output, tuple) else kept

        with ExitStack() as stack:
            if self.attended is not None:
                stack.callback(self.attended.register_forward_hook(only_read).remove)
            return self._call(self.n_blocks - 1, hidden, self.arguments)


def _first_of(paths: Sequence[str], block: nn.Module) -> nn.Module | None:
    """The first of these modules that a block has."""
    return next((found for path in paths if (found := submodule(block, path)) is not None), None)
