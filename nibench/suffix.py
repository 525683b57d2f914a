"""Passes through the rest of a network, from the layer after an intervention on.

The model's own blocks are called with the arguments that the model itself gave them once, and it is proved
on each model that this gives its logits. `LastPosition` (one token on a cached prefix) and `AllPositions`
(whole sequences, the last block only where the answer is read) are for causal models, `BothDirections`
(whole sequences) for masked ones.
"""

import inspect
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from nibench.architecture import Tap, projection
from nibench.groups import Group, Target, after
from nibench.model import LanguageModel, Passes
from nibench.runs import Run

CACHE_NAMES = ("past_key_values", "layer_past", "past_key_value")
Arguments = list[dict[str, Any]]


class NotReproduced(Exception):
    """Running the blocks by ourselves does not give the model's own logits."""


class Suffix(Run):
    """Runs the model's own blocks from any of them on.

    Parameters
    ----------
    proven : Suffix, optional
        The same group in a model that differs in weights or widths only: what was proven there (that the blocks
        give the model's logits, where changes of a tap's values add) is not proven again.

    Raises
    ------
    NotReproduced
        If that does not give the model's own logits: then use `FullPass`.
    """

    variants_axis = 0  # of hidden states, where variants stand

    def __init__(
        self,
        model: LanguageModel,
        group: Group,
        taps: Sequence[Tap],
        passes: Passes,
        proven: "Suffix | None" = None,
    ) -> None:
        head = model.network.get_output_embeddings()
        if not isinstance(head, nn.Linear):
            raise NotReproduced
        self.head = head
        super().__init__(model, group, taps, passes)
        counted = passes.forward
        try:
            self._prepare(proven)
            with torch.no_grad():
                if proven is None and not self._reproduces():
                    raise NotReproduced
                ways = {} if proven is None else proven.ways
                self.ways = {
                    tap.block.name: ways[tap.block.name] if tap.block.name in ways else self._way(number)
                    for number, tap in enumerate(taps)
                }
        except (RuntimeError, TypeError, ValueError, AttributeError, LookupError) as error:
            raise NotReproduced from error
        passes.forward = counted  # the proof is not the caller's

    @abstractmethod
    def _prepare(self, proven: Any) -> None:
        """Record what is needed of the plain pass, and the arguments of the blocks, or take those of ``proven``."""

    def _reproduces(self) -> bool:
        """Whether running the blocks gives the model's own margins."""
        return torch.allclose(self._run(1, 0, "margin")[0], self.base, rtol=1e-4, atol=1e-3)

    def hidden(self, layer: int) -> Tensor:
        """(n, Q, d): the input of a block; of the one after the last, the output of the last."""
        return self._record.hidden[layer][:, self.covered]

    def _call(self, layer: int, hidden: Tensor, arguments: Arguments, **changed: Any) -> Tensor:
        output = self.model.architecture.blocks[layer](hidden, **{**arguments[layer], **changed})
        return output[0] if isinstance(output, tuple) else output

    @abstractmethod
    def _into_head(self, hidden: Tensor) -> Tensor:
        """Hidden states (J, n, d) behind the last block -> what the output embedding is multiplied with."""

    def _read(self, hidden: Tensor, target: Target) -> Tensor:
        """The target (J, n) from the hidden states (J, n, d) where the answers are read."""
        weight, bias = self.head.weight, self.head.bias
        if target == "margin":
            weight, bias = weight[self.group.tokens], None if bias is None else bias[self.group.tokens]
        return self.group.score(nn.functional.linear(self._into_head(hidden), weight, bias), target)

    def _count(self, n_variants: int) -> None:
        share = self.acts.shape[1] / self.group.ids.shape[1] / self.n_blocks
        self.passes.forward += n_variants * len(self.acts) * share

    def _run(self, n_variants: int, start: int, target: Target) -> Tensor:
        return self._through({start: self._spread(self.hidden(start), n_variants)}, target)

    @abstractmethod
    def _spread(self, hidden: Tensor, n_variants: int) -> Tensor:
        """Hidden states (n, Q, d), once per variant, in the layout of the blocks."""

    @abstractmethod
    def _laid_out(self, hidden: Tensor) -> Tensor:
        """Hidden states (J, n, Q, d) in the layout of the blocks."""

    @abstractmethod
    def _through(self, entering: Mapping[int, Tensor], target: Target) -> Tensor:
        """The target (J, n) of variants that enter at the input of a block, later ones joining earlier ones."""

    def _joined(self, hidden: Tensor | None, entering: Mapping[int, Tensor], layer: int) -> Tensor:
        new = entering.get(layer)
        if hidden is None or new is None:
            found = new if hidden is None else hidden
            assert found is not None
            return found
        return torch.cat([hidden, new], dim=self.variants_axis)

    def _at_answer(self, values: Tensor) -> Tensor:
        """(..., n, Q, width) -> (..., n, 1, width): where the answers are read."""
        return values[..., -1:, :]

    # ------------------------------------------------------------ changes that add to the stream

    def _directions(self, number: int) -> Tensor | None:
        """(width, d): what a unit of a tap writes per unit of activation into the stream behind its block."""
        tap = self.taps[number]
        if tap.block.name.endswith("residual") or tap.block.layer < 0:
            return torch.eye(tap.block.width, device=self.model.device)
        return projection(tap.module) if tap.block.name.endswith("mlp_post") else None

    def _sums(self, layer: int) -> Sequence[tuple[Tensor, Callable[[Tensor], Tensor]]]:
        """Where a change may add, (n, Q, d), and what makes it the input of the next block."""
        return [(self.hidden(layer + 1), lambda hidden: hidden)]

    def _landing(self, number: int) -> tuple[Tensor, Callable[[Tensor], Tensor]] | None:
        """Where a change of a tap's values adds as `_directions` says; None: nowhere."""
        block = self.taps[number].block
        way = self.ways[block.name]
        return None if way is None else self._sums(max(-1, block.layer))[way]

    def _way(self, number: int) -> int | None:
        """Which of `_sums` a change of a tap's values adds to as `_directions` says, or None: tried, not assumed."""
        directions, layer = self._directions(number), self.taps[number].block.layer
        if directions is None:
            return None
        if layer < 0:
            return 0
        shape = self.sites[number].shape
        change = torch.linspace(-1, 1, shape[-1], device=directions.device).expand(shape)
        seen: list[Tensor] = []
        with ExitStack() as stack:
            stack.callback(self.taps[number].attach(self.adding(change)).remove)
            stack.callback(after(self.model.architecture.blocks[layer], seen.append).remove)
            self._run(1, layer, "margin")
        q = seen[0].shape[1]
        for way, (base, onward) in enumerate(self._sums(layer)):
            expected = self._passing(onward(base + self.acts[..., None] * (change @ directions)), q)
            if torch.allclose(seen[0], expected.to(seen[0]), rtol=1e-4, atol=1e-4):
                return way
        return None

    def shifted(self, number: int, units: Tensor, values: Tensor) -> Tensor | None:
        landing, directions = self._landing(number), self._directions(number)
        if landing is None or directions is None:
            return None
        (base, onward), layer = landing, self.taps[number].block.layer + 1
        change = (values - self.sites[number][..., units]) * self.acts[..., None]
        change = change.permute(2, 0, 1)[..., None]  # (J, n, Q, 1)
        if layer == self.n_blocks:  # behind the last block only the answer's place counts
            base, change = self._at_answer(base), self._at_answer(change)
        hidden = onward(torch.addcmul(base, change, directions[units][:, None, None]))
        return self._through({layer: self._laid_out(hidden)}, "margin")

    def moved(self, changes: Mapping[int, Tensor], target: Target) -> Tensor | None:
        entering: dict[int, Tensor] = {}
        for number, change in changes.items():
            landing, directions = self._landing(number), self._directions(number)
            if landing is None or directions is None:
                return None
            (base, onward), layer = landing, self.taps[number].block.layer + 1
            change = change * self.acts[..., None]
            if layer == self.n_blocks:
                base, change = self._at_answer(base), self._at_answer(change)
            entering[layer] = self._laid_out(onward(base + change @ directions))
        return self._through(entering, target)


def arguments_of(model: LanguageModel, ids: Tensor, start: int, stop: int) -> Arguments:
    """What each block is called with, beside its hidden states, when tokens start..stop follow cached ones.

    Recorded from the model itself for one sequence; everything in it broadcasts over more.
    """
    from transformers import DynamicCache

    seen: Arguments = []

    def keep(block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        signature = inspect.signature(block.forward)
        bound = signature.bind(*args, **kwargs).arguments
        bound.pop(next(iter(signature.parameters)))
        extra = [name for name, p in signature.parameters.items() if p.kind is p.VAR_KEYWORD]
        for name in extra:
            bound.update(bound.pop(name, {}))
        seen.append(bound)

    cached: dict[str, Any] = {}
    if model.has_head == "causal":
        cached = {"past_key_values": DynamicCache(config=model.network.config), "use_cache": True}
    base = model.architecture.base
    with ExitStack() as stack, torch.no_grad():
        if start:
            base(input_ids=ids[:, :start], **cached)
        for block in model.architecture.blocks:
            stack.callback(block.register_forward_pre_hook(keep, with_kwargs=True).remove)
        base(input_ids=ids[:, start:stop], **cached)
    return seen
