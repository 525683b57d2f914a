"""Ranking: what every method returns. Order, ties and missing scores live here and nowhere else."""

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from nibench.errors import InputError

if TYPE_CHECKING:
    from nibench.selection import Origin, Selection


@dataclass(frozen=True, eq=False)
class Ranking:
    """An importance score for each of D neurons.

    Parameters
    ----------
    scores : float64 (D,)
        Higher is more important; ``-inf`` means "cannot tell" and ranks last. Never NaN.
    per_class : float64 (C, D), optional
        The same per class, where the method has it.
    evidence : object, optional
        The method's native result beside the scores: weights, optimality gap, contexts, signs.
    tie_seed : int
        Seeds the one permutation that breaks ties; a task uses the same for every method.

    A ranking made by `nibench.rank` or in a model also knows, by reference, what it was made from, for ``select``;
    copies made with ``replace`` know it too, pickles do not.
    """

    scores: np.ndarray
    per_class: np.ndarray | None = None
    evidence: Any = None
    tie_seed: int = 0
    flags: tuple[str, ...] = field(default=())
    _origin: "Origin | None" = field(default=None, repr=False)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_origin": None}

    @classmethod
    def from_scores(
        cls, scores: Any, per_class: Any = None, evidence: Any = None, flags: tuple[str, ...] = ()
    ) -> "Ranking":
        """A ranking from (D,) scores; checks them and turns -0.0 into 0.0.

        Raises
        ------
        InputError
            For NaN or +inf, or scores that are not one number per neuron.
        """
        values = np.array(scores, dtype=np.float64) + 0.0
        if values.ndim != 1:
            raise InputError(f"scores have shape {values.shape}; expected one number per neuron, shape (D,).")
        bad = np.flatnonzero(np.isnan(values) | (values == np.inf))
        if bad.size:
            raise InputError(
                f"{bad.size} of {values.size} scores are NaN or +inf (first: neuron {bad[0]}). "
                "Score every neuron; -inf says 'cannot tell'."
            )
        matrix = None if per_class is None else np.array(per_class, dtype=np.float64) + 0.0
        if matrix is not None and (
            matrix.ndim != 2 or matrix.shape[1] != values.size or np.isnan(matrix).any()
        ):
            raise InputError(
                f"per_class has shape {matrix.shape} or NaN; expected (C, {values.size}) numbers."
            )
        return cls(values, matrix, evidence, flags=flags)

    @classmethod
    def from_order(
        cls, order: Any, n_neurons: int, evidence: Any = None, flags: tuple[str, ...] = ()
    ) -> "Ranking":
        """A ranking from neuron ids, best first; neurons not named share the last place.

        Raises
        ------
        InputError
            For duplicates or ids outside 0..n_neurons-1.
        """
        ids = np.asarray(order)
        if ids.ndim != 1 or (ids.size and not np.issubdtype(ids.dtype, np.integer)):
            raise InputError("order must be a list of neuron ids (integers), best first.")
        if ids.size and (ids.min() < 0 or ids.max() >= n_neurons):
            raise InputError(f"order names neuron {ids.max()}; expected ids 0..{n_neurons - 1}.")
        if np.unique(ids).size != ids.size:
            raise InputError("order names a neuron twice; rank each neuron once.")
        scores = np.full(n_neurons, -np.inf)
        scores[ids.astype(int)] = np.arange(ids.size, 0, -1)
        return cls(scores, None, evidence, flags=flags)

    def thinned(self, clusters: Any) -> "Ranking":
        """The same ranking without its repetitions: the best neuron of each cluster, then all the others.

        The best keep their scores; the others keep their order among themselves, below all of the best (but
        ``-inf`` stays last). Tied neurons of one cluster: the first by the seeded order.

        Parameters
        ----------
        clusters : int (D,)
            The cluster of each neuron, e.g. ``rank("correlation_clustering", X, y).evidence.clusters``.

        Raises
        ------
        InputError
            If there is not one cluster per neuron.

        References
        ----------
        Dalvi et al., Analyzing Redundancy in Pretrained Transformer Models, EMNLP 2020, section 5.
        """
        ids = np.asarray(clusters)
        if ids.shape != self.scores.shape:
            raise InputError(f"clusters has shape {ids.shape}; expected one per neuron, ({self.n_neurons},).")
        repeats = np.ones(self.n_neurons, dtype=bool)
        repeats[self.order[np.unique(ids[self.order], return_index=True)[1]]] = False

        def below(values: np.ndarray) -> np.ndarray:
            finite = values[np.isfinite(values)]
            return np.where(repeats, values - (2 * np.ptp(finite) or 1.0 if finite.size else 1.0), values)

        per_class = None if self.per_class is None else below(self.per_class)
        return replace(self, scores=below(self.scores), per_class=per_class, flags=(*self.flags, "thinned"))

    def select(
        self, fdr: float = 0.1, unit: Literal["sentence", "token"] | None = None, draws: int | None = None
    ) -> "Selection":
        """The neurons one may report: those whose marginal association with the concept holds, as a set.

        Parameters
        ----------
        fdr : float
            Share of false discoveries that is put up with in the mean, in (0, 1).
        unit : {"sentence", "token"}, optional
            What labels are re-assigned to. By default to whole sentences and to whole word types, with the
            variances of both; ``sentence`` for concepts that are not a matter of the word; ``token`` where labels are
            independent of both, and refused elsewhere.
        draws : int, optional
            Re-assignments; 300 or more, 500 unless said otherwise.

        Returns
        -------
        Selection
            ``neurons`` in the ranking's order, maybe none; p- and q-values; procedure and assumptions in words.

        Raises
        ------
        InputError
            For a method without a procedure of known error rate, and where sentences or word types were not given.
        """
        if self._origin is None:
            raise InputError(
                "This ranking does not know the data it came from (it was unpickled or made by hand); "
                "rank again: nibench.rank(...).select(fdr=0.1)."
            )
        return self._origin.select(self.order, fdr, unit, draws)

    @property
    def n_neurons(self) -> int:
        """D, the number of neurons ranked."""
        return int(self.scores.size)

    @cached_property
    def order(self) -> np.ndarray:
        """int (D,): neuron ids, best first, ties in the seeded order that all methods share."""
        tiebreak = np.random.default_rng(self.tie_seed).permutation(self.n_neurons)
        return np.lexsort((tiebreak, -self.scores))

    def top(self, k: int) -> np.ndarray:
        """int (k,): the k top neurons, best first."""
        return self.order[:k]

    def inclusion(self, k: int) -> np.ndarray:
        """float64 (D,): each neuron's probability of being in the top k under random tie-breaks.

        1 above the tie group at the border, places left / group size inside it, 0 below; sums to k.
        """
        first, last = self.tie_ranks
        return np.clip((k - first + 1) / (last - first + 1), 0.0, 1.0)

    @cached_property
    def tie_ranks(self) -> tuple[np.ndarray, np.ndarray]:
        """(D,) and (D,): the first and the last 1-based rank of each neuron's tie group."""
        ascending = np.sort(-self.scores)
        first = np.searchsorted(ascending, -self.scores, side="left") + 1
        return first, np.searchsorted(ascending, -self.scores, side="right")

    def tie_fraction(self, k: int) -> float:
        """Share of the top k whose membership hangs on the tie-break: 0 where the border is clean."""
        partial = self.inclusion(k)
        inside = (partial > 0) & (partial < 1)
        return float(partial[inside].sum() / k) if k else 0.0
