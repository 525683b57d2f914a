"""Margins under ablation of sets of neurons: each set is run once, whichever method or metric asks for it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nibench.metrics.trial import Setting

if TYPE_CHECKING:
    from nibench.interventions import Behaviour, Replacement


@dataclass(frozen=True, eq=False)
class Ablations:
    """Margins of one behaviour's M items under ablation of sets of neurons, kept by set and replacement."""

    behaviour: "Behaviour"
    intact: np.ndarray  # (M,) nats
    _known: dict[tuple[str, bytes], np.ndarray] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, behaviour: "Behaviour") -> "Ablations":
        """An empty table for a behaviour."""
        return cls(behaviour, np.asarray(behaviour.margin(), dtype=np.float64))

    @property
    def n_sets(self) -> int:
        """How many sets were run."""
        return len(self._known)

    def margins(self, sets: Sequence[Any], fill: "Replacement") -> np.ndarray:
        """float64 (S, M): the margin of every item with each set of neurons replaced."""
        keys = [(str(fill), np.sort(neurons).astype(np.int64).tobytes()) for neurons in sets]
        missing = {key: neurons for key, neurons in zip(keys, sets, strict=True) if key not in self._known}
        if missing:
            found = self.behaviour.ablate_sets(list(missing.values()), to=fill)
            self._known.update(zip(missing, np.asarray(found, dtype=np.float64), strict=True))
        return np.stack([self._known[key] for key in keys])

    def moved(self, sets: Sequence[Any], fill: "Replacement") -> np.ndarray:
        """float64 (S, M): nats that the margin of every item loses with each set replaced."""
        return self.intact - self.margins(sets, fill)

    def at_stake(self, fill: "Replacement") -> np.ndarray:
        """float64 (M,): what could be moved, nats: base minus source margin for ``source``, else the margin."""
        return self.intact - np.asarray(self.behaviour.source_margin()) if fill == "source" else self.intact

    def clusters(self) -> tuple[np.ndarray, int]:
        """int (M,) the group of each item, numbered from 0, and how many there are."""
        names, of = np.unique(np.asarray(self.behaviour.groups), return_inverse=True)
        return of, len(names)


def ablations(setting: Setting) -> Ablations:
    """The table of the setting's own behaviour. Use as ``setting.once(ablations)``."""
    assert setting.behaviour is not None
    return Ablations.of(setting.behaviour)
