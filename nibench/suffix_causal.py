"""Parts of a pass for causal models: earlier positions never change, so their keys and values stay cached."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from nibench.architecture import Tap
from nibench.groups import Group, Target
from nibench.model import LanguageModel, Passes
from nibench.runs import Patch
from nibench.suffix import CACHE_NAMES, Arguments, NotReproduced, Suffix, arguments_of


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


class CausalSuffix(Suffix):
    """A decoder's blocks on the cached keys and values of the positions before those that change."""

    def __init__(
        self,
        model: LanguageModel,
        group: Group,
        taps: Sequence[Tap],
        passes: Passes,
        proven: Suffix | None = None,
    ) -> None:
        norm = model.architecture.final_norm()
        if model.has_head != "causal" or norm is None:
            raise NotReproduced
        self.norm = norm
        super().__init__(model, group, taps, passes, proven)

    def _cache(self) -> Any:
        from transformers import DynamicCache

        self._past = DynamicCache(config=self.model.network.config)
        return self._past

    def _prepare(self, proven: Any) -> None:
        first, n_tokens = self.covered.start, self.group.ids.shape[1]
        layers: Any = self._past.layers
        self.keys = _Keys(
            [layer.keys[:, :, :first] for layer in layers], [layer.values[:, :, :first] for layer in layers]
        )
        if proven is not None:
            self.arguments, self.last_arguments = proven.arguments, proven.last_arguments
            return
        ids = self.group.ids[:1]
        self.arguments = self.last_arguments = arguments_of(self.model, ids, first, n_tokens)
        if first < n_tokens - 1:
            self.last_arguments = arguments_of(self.model, ids, n_tokens - 1, n_tokens)

    def _into_head(self, hidden: Tensor) -> Tensor:
        return self.norm(hidden)

    def _cached(self, layer: int, hidden: Tensor, arguments: Arguments, cache: _Keys, **other: Any) -> Tensor:
        name = next(name for name in CACHE_NAMES if name in arguments[layer])
        return self._call(layer, hidden, arguments, **{name: cache}, **other)


class LastPosition(CausalSuffix):
    """Interventions at the last token only: one-token passes on the cached keys and values of the prefix.

    The J variants of a prompt stand side by side as J queries, which see the prefix and themselves.
    """

    variants_axis = 1

    def _covered(self) -> slice:
        return slice(self.group.ids.shape[1] - 1, None)

    def _spread(self, hidden: Tensor, n_variants: int) -> Tensor:
        return hidden.expand(-1, n_variants, -1)

    def _laid_out(self, hidden: Tensor) -> Tensor:
        return hidden[:, :, 0].transpose(0, 1)

    def _mask(self, n_variants: int, like: Tensor) -> Tensor:
        n_before = self.covered.start
        mask = like.new_full((n_variants, n_before + n_variants), torch.finfo(like.dtype).min)
        mask[:, :n_before] = 0
        mask[:, n_before:].fill_diagonal_(0)
        return mask[None, None]

    def _through(self, entering: Mapping[int, Tensor], target: Target) -> Tensor:
        hidden = mask = None
        for layer in range(min(entering), self.n_blocks + 1):
            hidden = self._joined(hidden, entering, layer)
            n_variants = hidden.shape[1]
            if layer < self.n_blocks:
                if mask is None or mask.shape[2] != n_variants:
                    mask = self._mask(n_variants, hidden)
                hidden = self._cached(layer, hidden, self.arguments, self.keys, attention_mask=mask)
                self._count(n_variants)
        assert hidden is not None
        return self._read(hidden.transpose(0, 1), target)

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


class AllPositions(CausalSuffix):
    """Interventions at every position that is not special: whole suffixes of the network.

    Leading special tokens see nothing that changes, so they stay cached; of the last block only the keys,
    the values and the position of the answer are computed.
    """

    def _covered(self) -> slice:
        acting = self.group.acts.any(dim=0)
        return slice(int(acting.int().argmax()), None)

    def _spread(self, hidden: Tensor, n_variants: int) -> Tensor:
        return hidden.repeat(n_variants, 1, 1)

    def _laid_out(self, hidden: Tensor) -> Tensor:
        return hidden.flatten(0, 1)

    def _through(self, entering: Mapping[int, Tensor], target: Target) -> Tensor:
        hidden = None
        for layer in range(min(entering), self.n_blocks + 1):
            hidden = self._joined(hidden, entering, layer)
            if layer < self.n_blocks:
                self._count(len(hidden) // len(self.acts))
                last = layer == self.n_blocks - 1
                hidden = (
                    self._last_block(hidden)
                    if last
                    else self._cached(layer, hidden, self.arguments, self.keys)
                )
        assert hidden is not None
        return self._read(hidden[:, -1].view(-1, len(self.acts), hidden.shape[-1]), target)

    def _last_block(self, hidden: Tensor) -> Tensor:
        layer, keys = self.n_blocks - 1, _TakeKeys(self.keys.keys, self.keys.values)
        try:
            self._cached(layer, hidden, self.arguments, keys)
        except _Taken:
            return self._cached(layer, hidden[:, -1:], self.last_arguments, _GivenKeys(keys.taken))
        raise NotReproduced
