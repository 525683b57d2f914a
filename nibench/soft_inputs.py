"""Soft inputs: mixtures of tokens in place of tokens, through which a neuron's activation has a gradient."""

from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nibench.errors import InputError
from nibench.model import LanguageModel, Layers, Passes
from nibench.task import Site

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nibench.architecture import Tap


class _Seen(Exception):
    """Ends a pass in which everything asked for has been read."""


@dataclass(frozen=True, eq=False)
class SoftInputs:
    """A model's neurons as a function of what stands at each place of a short text: a token, or a mixture.

    A text is T tokens between the special ones that the tokenizer puts around every text, and the neurons are
    read at the last of the T. Tokens are known by their place among the V that may stand in a text.
    """

    _model: LanguageModel = field(repr=False)
    _site: Site
    _layers: Layers = None

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        """The V tokens as the tokenizer writes them, special ones left out."""
        return tuple(self._model.tokenizer.convert_ids_to_tokens(self._ids.tolist()))

    @cached_property
    def _ids(self) -> np.ndarray:
        tokenizer = self._model.tokenizer
        n_rows = self._model.network.get_input_embeddings().num_embeddings
        known = set(tokenizer.get_vocab().values()) - set(tokenizer.all_special_ids)
        return np.array(sorted(token for token in known if token < n_rows))

    @cached_property
    def _table(self) -> "Tensor":
        """(V, d): the embedding of each token."""
        import torch

        with torch.no_grad():
            ids = torch.from_numpy(self._ids).to(self._model.device)
            return self._model.network.get_input_embeddings()(ids)

    @cached_property
    def _taps(self) -> "list[Tap]":
        return self._model.taps(self._site, self._layers)

    @property
    def device(self) -> "torch.device":
        """Where the model computes."""
        return self._model.device

    @property
    def longest(self) -> int:
        """How many tokens a text may have."""
        return self._model.window - sum(map(len, self._model.frame))

    @property
    def passes(self) -> Passes:
        """Passes made through the model; one that ends at some layer counts as that part of a pass."""
        return self._model.passes

    def write(self, texts: np.ndarray) -> tuple[str, ...]:
        """Texts int (B, T) as strings."""
        return tuple(self._model.tokenizer.batch_decode(self._ids[texts].tolist()))

    def answer(self, mixtures: "Tensor", neurons: Sequence[int] | np.ndarray) -> "Tensor":
        """float32 (B,): the activation of neuron ``neurons[b]`` (flat id) on text b; differentiable.

        The pass ends at the deepest layer that these neurons are in.

        Parameters
        ----------
        mixtures : float32 (B, T, V)
            The share of each token at each place. All of one token is the text with this token.

        Raises
        ------
        InputError
            If the text is longer than `longest`, or the model passes no gradient to its word embeddings.
        """
        import torch

        flat = torch.as_tensor(np.asarray(neurons), device=mixtures.device)
        widths = np.cumsum([tap.block.width for tap in self._taps])
        taps = self._taps[: int(np.searchsorted(widths, int(flat.max()), side="right")) + 1]
        with torch.enable_grad():
            found = torch.cat(self._pass(mixtures @ self._table, taps), dim=1).gather(1, flat[:, None])[:, 0]
        if mixtures.requires_grad:
            if not found.requires_grad:
                raise InputError(f"{self._model.name} passes no gradient to its word embeddings.")
            found.register_hook(lambda _: self._count("backward", len(mixtures), taps))
        return found

    def read(self, texts: np.ndarray) -> np.ndarray:
        """float32 (B, D): all neurons on texts int (B, T)."""
        import torch

        with torch.no_grad():
            values = self._pass(self._table[torch.from_numpy(texts).to(self._table.device)], self._taps)
        return torch.cat(values, dim=1).cpu().numpy()

    def _pass(self, embedded: "Tensor", taps: "Sequence[Tap]") -> "list[Tensor]":
        """Embedded texts (B, T, d) -> per tap (B, width)."""
        import torch

        n_texts, length = embedded.shape[:2]
        if length > self.longest:
            raise InputError(f"A text of {length} tokens; this model takes {self.longest}.")
        before, after = self._model.frame
        ids = torch.tensor([*before, *[int(self._ids[0])] * length, *after], device=embedded.device)
        stop, values = len(before) + length, []

        def place(module: object, args: object, output: "Tensor") -> "Tensor":
            del module, args
            return torch.cat([output[:, : len(before)], embedded, output[:, stop:]], dim=1)

        def keep(seen: "Tensor") -> None:
            values.append(seen.view(n_texts, len(ids), -1)[:, stop - 1])
            if len(values) == len(taps):
                raise _Seen

        embeddings = self._model.network.get_input_embeddings()
        caching = {"use_cache": False} if self._model.has_head == "causal" else {}
        with ExitStack() as stack, suppress(_Seen):
            stack.callback(embeddings.register_forward_hook(place).remove)
            for tap in taps:
                stack.callback(tap.attach(keep).remove)
            self._model.architecture.base(input_ids=ids.repeat(n_texts, 1), **caching)
        self._count("forward", n_texts, taps)
        return values

    def _count(self, direction: str, n_texts: int, taps: "Sequence[Tap]") -> None:
        share = (taps[-1].block.layer + 1) / self._model.n_layers
        setattr(self.passes, direction, getattr(self.passes, direction) + share * n_texts)
