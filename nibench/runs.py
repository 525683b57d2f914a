"""A group of prompts that can be run again under interventions.

`FullPass` runs the whole network with hooks: any model, slow. `nibench.suffix` has the faster ways.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any

import torch
from torch import Tensor

from nibench.architecture import Tap
from nibench.groups import Group, Target, record, whole_pass
from nibench.model import LanguageModel, Passes

Patch = Callable[[Tensor], Tensor]  # a site's values in a pass -> what they are set to


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
        with self._recording():
            self._record = record(model, group, group.ids, taps, passes, self._cache())
        self.base = self._record.margins
        self.sites = [values[:, self.covered] for values in self._record.sites]

    def _covered(self) -> slice:
        return slice(None)

    def _cache(self) -> Any:
        return None

    def _recording(self) -> AbstractContextManager[object]:
        """What is attached to the network while the plain pass is recorded."""
        return nullcontext()

    def _passing(self, values: Tensor, q: int) -> Tensor:
        """(..., n, Q, width) -> (..., n, q, width): the positions of values that a pass of q positions sees."""
        return values[..., -q:, :]

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
            where = self._passing(self.acts[None, :, :, None], q)
            if masks is not None:
                where = where & masks[:, None, None, :]
            return torch.where(where, self._passing(values, q), shaped).view(seen.shape)

        return patch

    def adding(self, values: Tensor) -> Patch:
        """Add values (n, Q, width) where ablations act."""

        def patch(seen: Tensor) -> Tensor:
            shaped = seen.view(self._n_variants, len(self.acts), -1, seen.shape[-1])
            q = shaped.shape[2]
            return (shaped + self._passing(values * self.acts[..., None], q)).view(seen.shape)

        return patch

    def run(self, n_variants: int, patches: Mapping[int, Patch], target: Target = "margin") -> Tensor:
        """The margins, or another target, (J, n) of J variants, with patches by tap number."""
        with ExitStack() as stack:
            for number, patch in patches.items():
                stack.callback(self.taps[number].attach(patch).remove)
            self._n_variants = n_variants
            start = min((max(0, self.taps[number].block.layer) for number in patches), default=self.n_blocks)
            return self._run(n_variants, start, target)

    @abstractmethod
    def _run(self, n_variants: int, start: int, target: Target) -> Tensor:
        """Run blocks ``start`` and later."""

    def shifted(self, number: int, units: Tensor, values: Tensor) -> Tensor | None:
        """Margins (J, n) with each of J units of a tap set to values (n, Q, J), alone; None: no way."""
        del number, units, values
        return None

    def moved(self, changes: Mapping[int, Tensor], target: Target) -> Tensor | None:
        """The target (J, n) with the neurons of one tap after the other changed by (k, n, Q, width).

        J is the sum of the k over the taps, in their order; None: no way to run them in one batch.
        """
        del changes, target
        return None


class FullPass(Run):
    """The whole network every time; right for every model with a head."""

    def _run(self, n_variants: int, start: int, target: Target) -> Tensor:
        del start
        return whole_pass(self.model, self.group, self.passes, n_variants, target)
