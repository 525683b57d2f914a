"""A causal language model whose FFN activations are recorded and can be replaced, with gradients."""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from nibench.architecture import Architecture


@dataclass
class Along:
    """How far to go along some directions of a block's neurons, whatever a mask says of the neurons.

    Orthonormal `directions` (F, k); where `here` (B, T, 1), the activations' component in them moves by `share`
    (B, 1, 1) of the way `toward` (B, T, F), and the mask moves the rest alone.
    """

    directions: Tensor
    here: Tensor
    toward: Tensor
    share: Tensor

    def put(self, before: Tensor, changed: Tensor) -> Tensor:
        """The activations `before`, which a mask has `changed`."""
        moved = self.share * (self.toward - before) - (changed - before)
        return changed + self.here * (moved @ self.directions @ self.directions.T)


@dataclass
class Patch:
    """Values to put at the input of every block's down projection, where a mask says so; directions by block."""

    masks: list[Tensor | None]
    values: list[Tensor]
    along: dict[int, Along] = field(default_factory=dict)


@dataclass
class TappedModel:
    """A model with a tap on every down projection."""

    model: Any
    activations: list[Tensor] = field(default_factory=list)
    _patch: Patch | None = None

    def __post_init__(self) -> None:
        architecture = Architecture.of(self.model)
        self.base: Any = architecture.base
        self.n_layers = len(architecture.blocks)
        self._handles = [
            architecture.tap("mlp_post", layer).attach(self._tap(layer)) for layer in range(self.n_layers)
        ]

    def close(self) -> None:
        """Take the taps off the model."""
        for handle in self._handles:
            handle.remove()

    def _tap(self, layer: int):
        def function(values: Tensor) -> Tensor | None:
            patch = self._patch
            mask = patch.masks[layer] if patch else None
            if patch is None or mask is None:
                self.activations.append(values)
                return None
            changed = torch.where(mask, patch.values[layer], values)
            if layer in patch.along:
                changed = patch.along[layer].put(values, changed)
            self.activations.append(changed)
            return changed

        return function

    def _run(self, patch: Patch | None, **inputs: Any) -> tuple[Any, list[Tensor]]:
        self.activations, self._patch = [], patch
        output = self.base(**inputs)
        taken, self.activations, self._patch = self.activations, [], None
        return output, taken

    def run(self, ids: Tensor, patch: Patch | None = None) -> tuple[Tensor, list[Tensor]]:
        """Final hidden states (B, T, d) and the FFN activations of each block, each (B, T, F)."""
        output, taken = self._run(patch, input_ids=ids, use_cache=False)
        return output.last_hidden_state, taken

    def run_with_keys(self, ids: Tensor) -> tuple[Tensor, list[Tensor], list[tuple[Tensor, Tensor]]]:
        """As `run`; also each block's attention keys and values, each (B, heads, T, d / heads)."""
        from transformers import DynamicCache

        output, taken = self._run(None, input_ids=ids, use_cache=True, past_key_values=DynamicCache())
        keys = [(layer.keys, layer.values) for layer in output.past_key_values.layers]
        return output.last_hidden_state, taken, keys

    def logits(self, hidden: Tensor) -> Tensor:
        """Logits of hidden states."""
        return self.model.get_output_embeddings()(hidden)

    def logits_at(self, ids: Tensor, sites: Tensor, patch: Patch) -> Tensor:
        """Logits (B, V) at one position of each row, of whole runs with a patch."""
        hidden, _ = self.run(ids, patch)
        return self.logits(hidden[torch.arange(len(ids)), sites])

    def logits_after(
        self, keys: list[tuple[Tensor, Tensor]], ids: Tensor, sites: Tensor, patch: Patch
    ) -> Tensor:
        """The same where the patch acts at the sites alone: what comes before is taken from a run's keys."""
        from transformers import DynamicCache

        cache = DynamicCache()
        for layer, (key, value) in enumerate(keys):
            cache.update(key, value, layer)
        length = keys[0][0].shape[2]
        before = torch.arange(length)[None] < sites[:, None]
        mask = torch.cat([before, torch.ones(len(ids), 1, dtype=torch.bool)], 1).long()
        output, _ = self._run(
            patch,
            input_ids=ids[torch.arange(len(ids)), sites][:, None],
            attention_mask=mask,
            position_ids=sites[:, None],
            past_key_values=cache,
            use_cache=True,
        )
        return self.logits(output.last_hidden_state[:, 0])
