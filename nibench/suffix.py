"""Passes through the rest of a network, from the layer after an intervention on.

A group is a batch of prompts of equal length. Three ways to run it share one interface: `LastPosition` (one
token on a cached prefix), `AllPositions` (whole sequences, the last block only where the answer is read) and
`FullPass` (the whole network with hooks: any model, slow). The first two call the model's own blocks with
the arguments that the model itself gave them once, and prove on each model that this gives its logits.
"""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from nibench.architecture import Tap, projection
from nibench.groups import Group, after, record
from nibench.model import LanguageModel, Passes

CACHE_NAMES = ("past_key_values", "layer_past", "past_key_value")
Patch = Callable[[Tensor], Tensor]  # a site's values in a pass -> what they are set to


class NotReproduced(Exception):
    """Running the blocks by ourselves does not give the model's own logits."""


class Run(ABC):
    """A group that can be run again under interventions, in J variants at once.

    Attributes
    ----------
    base : (n,)
        The margins without intervention.
    sites : per tap (n, Q, width)
        The values at the Q positions that a run covers, ``covered`` of the T.
    """

    def __init__(self, model: LanguageModel, group: Group, taps: Sequence[Tap], passes: Passes) -> None:
        self.model, self.group, self.taps, self.passes = model, group, taps, passes
        self.n_blocks = model.n_layers
        self._n_variants = 1
        self.covered = self._covered()
        self.acts = group.acts[:, self.covered]
        self._record = record(model, group, group.ids, taps, passes, self._cache())
        self.base = self._record.margins
        self.sites = [values[:, self.covered] for values in self._record.sites]

    def _covered(self) -> slice:
        return slice(None)

    def _cache(self) -> Any:
        return None

    def of_source(self) -> tuple[Tensor, list[Tensor]]:
        """The margins (n,) and the site's values, per tap (n, Q, width), of the twins."""
        assert self.group.sources is not None
        other = record(self.model, self.group, self.group.sources, self.taps, self.passes)
        return other.margins, [values[:, self.covered] for values in other.sites]

    @property
    def n_tokens(self) -> int:
        """Tokens of one variant, for the size of batches."""
        return self.acts.numel()

    def setting(self, masks: Tensor | None, values: Tensor) -> Patch:
        """Set the neurons of masks (J, width), or all, to values (J or 1, n, Q, width) in place."""

        def patch(seen: Tensor) -> Tensor:
            shaped = seen.view(self._n_variants, len(self.acts), -1, seen.shape[-1])  # (J, n, q, width)
            q = shaped.shape[2]
            where = self.acts[None, :, -q:, None]
            if masks is not None:
                where = where & masks[:, None, None, :]
            return torch.where(where, values[:, :, -q:], shaped).view(seen.shape)

        return patch

    def adding(self, values: Tensor) -> Patch:
        """Add values (n, Q, width) where ablations act."""

        def patch(seen: Tensor) -> Tensor:
            shaped = seen.view(self._n_variants, len(self.acts), -1, seen.shape[-1])
            q = shaped.shape[2]
            return (shaped + (values * self.acts[..., None])[:, -q:]).view(seen.shape)

        return patch

    def run(self, n_variants: int, patches: Mapping[int, Patch]) -> Tensor:
        """The margins (J, n) of J variants, with patches by tap number."""
        with ExitStack() as stack:
            for number, patch in patches.items():
                stack.callback(self.taps[number].attach(patch).remove)
            self._n_variants = n_variants
            start = min((max(0, self.taps[number].block.layer) for number in patches), default=self.n_blocks)
            return self._run(n_variants, start)

    @abstractmethod
    def _run(self, n_variants: int, start: int) -> Tensor:
        """Run blocks ``start`` and later."""

    def shifted(self, number: int, units: slice, values: Tensor) -> Tensor | None:
        """Margins (J, n) with each of some units of a tap set to values (n, Q, J), alone; None: no way."""
        del number, units, values
        return None


class FullPass(Run):
    """The whole network every time; right for every model with a head."""

    def _run(self, n_variants: int, start: int) -> Tensor:
        del start
        ids = self.group.ids.repeat(n_variants, 1)
        read = self.group.read.repeat(n_variants)
        caching = {"use_cache": False} if self.model.has_head == "causal" else {}
        logits = self.model.network(input_ids=ids, **caching).logits
        self.passes.forward += len(ids)
        chosen = logits[torch.arange(len(ids), device=ids.device), read][:, self.group.tokens]
        return self.group.margin(chosen.view(n_variants, len(self.acts), -1))


class _Keys:
    """Stands for the model's cache in a block: the keys and values of earlier positions, never changed."""

    is_compileable = False

    def __init__(self, keys: list[Tensor], values: list[Tensor]) -> None:
        self.keys, self.values = keys, values

    def update(
        self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        before = self.keys[layer_idx]
        if not before.shape[-2]:
            return keys, values
        times = len(keys) // len(before)
        keys = torch.cat([before.repeat(times, 1, 1, 1), keys], dim=-2)
        return keys, torch.cat([self.values[layer_idx].repeat(times, 1, 1, 1), values], dim=-2)


class _Taken(Exception):
    """Leaves a block as soon as its keys and values are known."""


class _TakeKeys(_Keys):
    taken: tuple[Tensor, Tensor]

    def update(
        self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        self.taken = super().update(keys, values, layer_idx)
        raise _Taken


class _GivenKeys(_Keys):
    """Keys and values of all positions, the ones that are run included."""

    def __init__(self, taken: tuple[Tensor, Tensor]) -> None:
        self.taken = taken

    def update(
        self, keys: Tensor, values: Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[Tensor, Tensor]:
        del keys, values, layer_idx
        return self.taken


class Suffix(Run):
    """Runs the model's own blocks from any of them on; causal models only.

    Raises
    ------
    NotReproduced
        If that does not give the model's own logits: then use `FullPass`.
    """

    def __init__(self, model: LanguageModel, group: Group, taps: Sequence[Tap], passes: Passes) -> None:
        if model.has_head != "causal":
            raise NotReproduced
        head, norm = model.network.get_output_embeddings(), model.architecture.final_norm()
        if norm is None or not isinstance(head, nn.Linear):
            raise NotReproduced
        self.norm = norm
        self.weights = head.weight[group.tokens].T  # (d, U)
        self.bias = 0.0 if head.bias is None else head.bias[group.tokens]
        n_tokens = group.ids.shape[1]
        super().__init__(model, group, taps, passes)
        counted = passes.forward
        first = self.covered.start
        layers: Any = self._past.layers
        self.keys = _Keys(
            [layer.keys[:, :, :first] for layer in layers], [layer.values[:, :, :first] for layer in layers]
        )
        try:
            self.arguments = _arguments(model, group.ids[:1], first, n_tokens)
            self.last_arguments = (
                self.arguments
                if first == n_tokens - 1
                else _arguments(model, group.ids[:1], n_tokens - 1, n_tokens)
            )
            with torch.no_grad():
                again = self._run(1, 0)[0]
                self.additive = [self._adds(number) for number in range(len(taps))]
        except (RuntimeError, TypeError, ValueError, AttributeError, LookupError) as error:
            raise NotReproduced from error
        if not torch.allclose(again, self.base, rtol=1e-4, atol=1e-3):
            raise NotReproduced
        passes.forward = counted  # the proof is not the caller's

    def _cache(self) -> Any:
        from transformers import DynamicCache

        self._past = DynamicCache(config=self.model.network.config)
        return self._past

    def hidden(self, layer: int) -> Tensor:
        """(n, Q, d): the input of a block; of the one after the last, the input of the final norm."""
        return self._record.hidden[layer][:, self.covered]

    def _call(self, layer: int, hidden: Tensor, arguments: list[dict[str, Any]], **changed: Any) -> Tensor:
        chosen = {**arguments[layer]}
        cache = changed.pop("cache")
        chosen[next(name for name in CACHE_NAMES if name in chosen)] = cache
        output = self.model.architecture.blocks[layer](hidden, **{**chosen, **changed})
        return output[0] if isinstance(output, tuple) else output

    def _logits(self, hidden: Tensor) -> Tensor:
        return self.norm(hidden) @ self.weights + self.bias

    def _count(self, n_variants: int, start: int) -> None:
        share = (self.n_blocks - start) / self.n_blocks * self.acts.shape[1] / self.group.ids.shape[1]
        self.passes.forward += n_variants * len(self.acts) * share

    def _run(self, n_variants: int, start: int) -> Tensor:
        return self._finish(self._spread(self.hidden(start), n_variants), start, n_variants)

    @abstractmethod
    def _spread(self, hidden: Tensor, n_variants: int) -> Tensor:
        """Hidden states (n, Q, d), once per variant, in the layout of the blocks."""

    @abstractmethod
    def _finish(self, hidden: Tensor, start: int, n_variants: int) -> Tensor:
        """Margins (J, n) from the hidden states at the input of block ``start``."""

    def _directions(self, number: int) -> Tensor | None:
        """(width, d): what a unit of a tap writes per unit of activation into the stream behind its block."""
        tap = self.taps[number]
        if tap.block.name.endswith("residual") or tap.block.layer < 0:
            return torch.eye(tap.block.width, device=self.model.device)
        return projection(tap.module) if tap.block.name.endswith("mlp_post") else None

    def _adds(self, number: int) -> bool:
        """Whether a change of a tap's values adds to the stream as `_directions` says: tried, not assumed."""
        directions, layer = self._directions(number), self.taps[number].block.layer
        if directions is None:
            return False
        if layer < 0:
            return True
        shape = self.sites[number].shape
        change = torch.linspace(-1, 1, shape[-1], device=directions.device).expand(shape)
        seen: list[Tensor] = []
        with ExitStack() as stack:
            stack.callback(self.taps[number].attach(self.adding(change)).remove)
            stack.callback(after(self.model.architecture.blocks[layer], seen.append).remove)
            self._run(1, layer)
        expected = self.hidden(layer + 1) + self.acts[..., None] * (change @ directions)
        q = seen[0].shape[1]
        return torch.allclose(seen[0], expected[:, -q:].to(seen[0]), rtol=1e-4, atol=1e-4)


class LastPosition(Suffix):
    """Interventions at the last token only: one-token passes on the cached keys and values of the prefix.

    The J variants of a prompt stand side by side as J queries, which see the prefix and themselves.
    """

    def _covered(self) -> slice:
        return slice(self.group.ids.shape[1] - 1, None)

    def _spread(self, hidden: Tensor, n_variants: int) -> Tensor:
        return hidden.expand(-1, n_variants, -1)

    def _finish(self, hidden: Tensor, start: int, n_variants: int) -> Tensor:
        self._count(n_variants, start)
        n_before = self.covered.start
        mask = torch.full(
            (n_variants, n_before + n_variants), torch.finfo(hidden.dtype).min, device=hidden.device
        )
        mask[:, :n_before] = 0
        mask[:, n_before:].fill_diagonal_(0)
        for layer in range(start, self.n_blocks):
            hidden = self._call(
                layer, hidden, self.arguments, cache=self.keys, attention_mask=mask[None, None]
            )
        return self.group.margin(self._logits(hidden).transpose(0, 1))

    def setting(self, masks: Tensor | None, values: Tensor) -> Patch:
        aligned = values[:, :, 0].transpose(0, 1)  # (n, J or 1, width)
        n_items = len(self.acts)

        def patch(seen: Tensor) -> Tensor:
            shaped = seen.view(n_items, -1, seen.shape[-1])  # (n, J, width)
            new = aligned.expand_as(shaped) if masks is None else torch.where(masks, aligned, shaped)
            return new.contiguous().view(seen.shape)

        return patch

    def adding(self, values: Tensor) -> Patch:
        return lambda seen: (seen.view(len(values), -1, seen.shape[-1]) + values).view(seen.shape)

    def shifted(self, number: int, units: slice, values: Tensor) -> Tensor | None:
        directions = self._directions(number)
        if directions is None or not self.additive[number]:
            return None
        layer = self.taps[number].block.layer + 1
        change = (values - self.sites[number][..., units]).transpose(1, 2)  # (n, J, 1)
        hidden = torch.addcmul(self.hidden(layer), change, directions[units])
        return self._finish(hidden, layer, hidden.shape[1])


class AllPositions(Suffix):
    """Interventions at every position that is not special: whole suffixes of the network.

    Leading special tokens see nothing that changes, so they stay cached; of the last block only the keys,
    the values and the position of the answer are computed.
    """

    def _covered(self) -> slice:
        acting = self.group.acts.any(dim=0)
        return slice(int(acting.int().argmax()), None)

    def _spread(self, hidden: Tensor, n_variants: int) -> Tensor:
        return hidden.repeat(n_variants, 1, 1)

    def _finish(self, hidden: Tensor, start: int, n_variants: int) -> Tensor:
        self._count(n_variants, start)
        for layer in range(start, self.n_blocks - 1):
            hidden = self._call(layer, hidden, self.arguments, cache=self.keys)
        if start < self.n_blocks:
            layer, keys = self.n_blocks - 1, _TakeKeys(self.keys.keys, self.keys.values)
            try:
                self._call(layer, hidden, self.arguments, cache=keys)
            except _Taken:
                hidden = self._call(layer, hidden[:, -1:], self.last_arguments, cache=_GivenKeys(keys.taken))
            else:
                raise NotReproduced
        return self.group.margin(self._logits(hidden[:, -1]).view(n_variants, len(self.acts), -1))

    def shifted(self, number: int, units: slice, values: Tensor) -> Tensor | None:
        directions = self._directions(number)
        if directions is None or not self.additive[number]:
            return None
        layer = self.taps[number].block.layer + 1
        first = -1 if layer == self.n_blocks else 0  # behind the last block only the answer's place counts
        change = (values - self.sites[number][..., units]) * self.acts[..., None]
        change = change[:, first:].permute(2, 0, 1)[..., None]  # (J, n, Q, 1)
        hidden = torch.addcmul(self.hidden(layer)[:, first:], change, directions[units][:, None, None])
        return self._finish(hidden.flatten(0, 1), layer, len(hidden))


def _arguments(model: LanguageModel, ids: Tensor, start: int, stop: int) -> list[dict[str, Any]]:
    """What each block is called with, beside its hidden states, when tokens start..stop follow cached ones.

    Recorded from the model itself for one sequence; everything in it broadcasts over more.
    """
    from transformers import DynamicCache

    seen: list[dict[str, Any]] = []

    def keep(block: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        signature = inspect.signature(block.forward)
        bound = signature.bind(*args, **kwargs).arguments
        bound.pop(next(iter(signature.parameters)))
        extra = [name for name, p in signature.parameters.items() if p.kind is p.VAR_KEYWORD]
        for name in extra:
            bound.update(bound.pop(name, {}))
        seen.append(bound)

    cache = DynamicCache(config=model.network.config)
    base = model.architecture.base
    with ExitStack() as stack, torch.no_grad():
        if start:
            base(input_ids=ids[:, :start], past_key_values=cache, use_cache=True)
        for block in model.architecture.blocks:
            stack.callback(block.register_forward_pre_hook(keep, with_kwargs=True).remove)
        base(input_ids=ids[:, start:stop], past_key_values=cache, use_cache=True)
    return seen


def open_run(model: LanguageModel, group: Group, taps: Sequence[Tap], passes: Passes, at_last: bool) -> Run:
    """The fastest way to run a group that is proved right for this model."""
    try:
        return (LastPosition if at_last else AllPositions)(model, group, taps, passes)
    except NotReproduced:
        return FullPass(model, group, taps, passes)
