"""Calling a method: once for its ranking, and again on half of the items, under other labels or with another seed."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

from nibench.errors import InputError
from nibench.method import Method, Needs, Observations
from nibench.ranking import Ranking
from nibench.selection import Origin

Observe = Callable[[np.ndarray | None, np.ndarray | None], Observations]  # labels, rows -> what a method sees


def run_method(method: Method, data: Observations, name: str, seed: int, tie_seed: int = 0) -> Ranking:
    """Call a method and check what it returns: a Ranking of every neuron."""
    ranking = method.rank(data, np.random.default_rng(seed))
    if not isinstance(ranking, Ranking):
        raise InputError(f"{name} returned {type(ranking).__name__}; expected Ranking.from_scores(scores).")
    if ranking.n_neurons != len(data.neurons):
        raise InputError(
            f"{name} returned {ranking.n_neurons} scores for {len(data.neurons)} neurons. Score every neuron "
            f"(-inf = cannot tell), or return Ranking.from_order(order, n_neurons={len(data.neurons)})."
        )
    return replace(ranking, tie_seed=tie_seed, _origin=Origin(method, data, name, seed))


@dataclass(frozen=True, eq=False)
class Reruns:
    """A method that can be called again on the ground of its cell; equal calls are made once.

    Attributes
    ----------
    method, name, seed : what is called, and the seed of the cell.
    observe : labels (N,) or None, rows or None -> what the method gets to see of the ``rank`` split.
    failures : list of str
        What a call raised; such a call has no ranking, and metrics that need it do not apply.
    """

    method: Method
    name: str
    seed: int
    observe: Observe
    failures: list[str] = field(default_factory=list)
    _made: dict[tuple[bytes, bytes, int], Ranking | None] = field(default_factory=dict, repr=False)

    @property
    def reads_labels(self) -> bool:
        """Whether other labels can change its ranking."""
        return Needs.LABELS in self.method.needs

    def __call__(
        self, *, labels: np.ndarray | None = None, rows: np.ndarray | None = None, seed: int | None = None
    ) -> Ranking | None:
        """Its ranking with other labels (N,), on some rows of the ``rank`` split only, or with another seed.

        Labels are those of all N items, also where only some rows are seen. None where the call fails.
        """
        seed = self.seed if seed is None else seed
        key = (b"" if labels is None else labels.tobytes(), b"" if rows is None else rows.tobytes(), seed)
        if key not in self._made:
            self._made[key] = self._call(labels, rows, seed)
        return self._made[key]

    def _call(self, labels: np.ndarray | None, rows: np.ndarray | None, seed: int) -> Ranking | None:
        try:
            return run_method(self.method, self.observe(labels, rows), self.name, seed)
        except (KeyboardInterrupt, SystemExit):
            raise
        except Exception as error:  # a stranger's code may raise anything; its own cell stands
            self.failures.append(f"run again, {self.name} raised {type(error).__name__}: {error}"[:200])
            return None
