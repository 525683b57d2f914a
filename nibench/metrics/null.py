"""Is a set more than neurons like it? Its ablation against random sets matched on what needs no concept.

Sets are matched on size, on how many neurons they have in each layer, on the variance of the activations and on the
norm of the output weights. The matched sets are a flag on a score, with a p-value; they never are its zero: then each
method would be on a scale of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise, product
from math import comb, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from nibench.metrics.curves import usable_ks
from nibench.metrics.margins import Ablations
from nibench.metrics.trial import Setting, Trial

if TYPE_CHECKING:
    from nibench.interventions import Replacement

CELL = 24  # a cell of alike neurons holds so many, up to twice as many
SHARED = 0.5  # sets that share more of their neurons with their matches than this are not compared
LEVEL = 0.05


def matching_cells(
    offsets: np.ndarray, variances: np.ndarray, norms: np.ndarray | None, smallest: int = CELL
) -> np.ndarray:
    """int (D,): the cell of alike neurons that each belongs to, numbered from 0.

    Each layer is halved at the median of the variance, each half at the median of its norms, each quarter at that
    of its variances again, as long as both halves keep ``smallest`` neurons: the wider the layer, the closer the
    match. A layer of fewer than twice ``smallest`` is one cell: matched by layer only.

    Parameters
    ----------
    offsets : int (B + 1,)
        Where each layer starts, then D.
    variances, norms : float64 (D,)
        Of the activations, and of the output weights; None: the variance alone is used.
    """
    keys = [variances] if norms is None else [variances, norms]
    cells = np.zeros(len(variances), dtype=np.int64)
    parts = [(np.arange(a, b), 0) for a, b in pairwise(offsets)]
    number = 0
    while parts:
        ids, depth = parts.pop()
        if len(ids) < 2 * smallest:
            cells[ids] = number
            number += 1
            continue
        ranked = ids[np.argsort(keys[depth % len(keys)][ids], kind="stable")]
        half = len(ids) // 2
        parts += [(ranked[half:], depth + 1), (ranked[:half], depth + 1)]
    return cells


@dataclass(frozen=True, eq=False)
class MatchedSets:
    """Random sets with a given number of neurons from each cell: the same for every set with these numbers.

    B + 1 different sets are drawn, B + 1 being all of them where there are no more. A set is then compared with
    those B that are not itself: if it was drawn like them, each of the B + 1 places is equally likely.
    """

    cells: np.ndarray  # (D,)
    n_sets: int  # B
    seed: int
    _drawn: dict[bytes, list[np.ndarray]] = field(default_factory=dict, repr=False)

    def like(self, neurons: np.ndarray) -> list[np.ndarray]:
        """At most B sets, each int (k,) ascending, none of them this one."""
        counts = np.bincount(self.cells[neurons], minlength=self.cells.max() + 1)
        key = counts.tobytes()
        if key not in self._drawn:
            self._drawn[key] = self._draw(counts)
        own = np.sort(neurons)
        others = [one for one in self._drawn[key] if not np.array_equal(one, own)]
        return others[: self.n_sets]

    def shared(self, neurons: np.ndarray) -> float:
        """The share of its neurons that a set has in common with a set drawn like it, on average."""
        counts = np.bincount(self.cells[neurons], minlength=self.cells.max() + 1)
        return float((counts**2 / np.bincount(self.cells)).sum() / len(neurons))

    def _draw(self, counts: np.ndarray) -> list[np.ndarray]:
        used = np.flatnonzero(counts)
        pools = [(np.flatnonzero(self.cells == cell), int(counts[cell])) for cell in used]
        rng = np.random.default_rng([self.seed, 11, *used.tolist(), *counts[used].tolist()])
        wanted, possible = self.n_sets + 1, prod(comb(len(pool), n) for pool, n in pools)
        if possible <= 4 * wanted:
            whole = product(*(combinations(pool.tolist(), n) for pool, n in pools))
            every = [np.sort(np.concatenate(parts).astype(np.int64)) for parts in whole]
            return [every[i] for i in rng.permutation(len(every))[:wanted]]
        found: dict[bytes, np.ndarray] = {}
        while len(found) < wanted:
            one = np.sort(
                np.concatenate([rng.choice(pool, size=n, replace=False) for pool, n in pools])
            ).astype(np.int64)
            found.setdefault(one.tobytes(), one)
        return list(found.values())


def matched_p(own: float, others: np.ndarray) -> tuple[float, float | None]:
    """Empirical p of "moves more than its matches", (b + 1) / (B + 1), and z; ties count against the set.

    z is None where all matches move the same.

    References
    ----------
    Phipson & Smyth, Permutation p-values should never be zero, 2010.
    """
    p = (1 + int((others >= own).sum())) / (len(others) + 1)
    spread = float(others.std(ddof=1)) if len(others) > 1 else 0.0
    return p, float((own - others.mean()) / spread) if spread > 0 else None


@dataclass(frozen=True, eq=False)
class Null:
    """What all methods share: some of the ``eval`` items, their margins, and the matched sets."""

    table: Ablations
    matched: MatchedSets


def shared_null(setting: Setting) -> Null:
    """Use as ``setting.once(shared_null)``: on at most ``null_prompts`` items, as many of each behaviour and class."""
    behaviour = setting.behaviour
    assert behaviour is not None
    rows = np.lexsort((behaviour.labels, behaviour.behaviours))
    places = np.linspace(0, len(rows) - 1, min(setting.null_prompts, len(rows))).round().astype(int)
    variances = setting.splits["probe"].activations.var(axis=0, dtype=np.float64)
    cells = matching_cells(setting.neurons.offsets, variances, setting.output_norms())
    return Null(
        Ablations.of(behaviour.some(np.sort(rows[places]))),
        MatchedSets(cells, setting.null_sets, setting.seed),
    )


def against_matched(trial: Trial, fill: "Replacement") -> tuple[dict[str, Any], tuple[str, ...]]:
    """The top k against matched random sets, at each k of ``null_ks``: details for a record, and flags.

    Details, a list entry per k: ``p`` and ``z`` of the nats moved (None where a set and its matches share more than
    half of their neurons), ``sets`` B, ``shared`` that share, and the mean nats per item that the set (``moved``)
    and its matches (``matched``) move. B is 100 where there are so many different sets: one neuron has few
    like it. Cost: B + 1 sets a k for all rankings whose top k have the same numbers in the same cells.
    """
    setting = trial.setting
    ks = usable_ks(setting.null_ks, len(setting.neurons)) if setting.null_ks else ()
    if not ks or "probe" not in setting.splits:
        return {}, ()
    null = setting.once(shared_null)
    rows = [_compare(null, trial.ranking.top(k), fill) for k in ks]
    details = {"k": list(ks), **{name: [row[name] for row in rows] for name in rows[0]}}
    return {"matched": details}, _flags(ks, rows)


def _compare(null: Null, top: np.ndarray, fill: "Replacement") -> dict[str, Any]:
    shared = null.matched.shared(top)
    others = null.matched.like(top) if shared <= SHARED else []
    moved = null.table.moved([top, *others], fill).mean(axis=1)
    p, z = matched_p(float(moved[0]), moved[1:]) if others else (None, None)
    return {
        "p": p,
        "z": z,
        "sets": len(others),
        "shared": shared,
        "moved": float(moved[0]),
        "matched": float(moved[1:].mean()) if others else None,
    }


def _flags(ks: Sequence[int], rows: Sequence[dict[str, Any]]) -> tuple[str, ...]:
    """What is not above its matches, at the ks where enough of them are left for a p below the level."""
    told = [
        f"k = {k} (p = {row['p']:.2f})".replace("0.", ".")
        for k, row in zip(ks, rows, strict=True)
        if row["p"] is not None and row["p"] > LEVEL and row["sets"] + 1 >= 1 / LEVEL
    ]
    full = [
        f"k = {k}" for k, row in zip(ks, rows, strict=True) if row["p"] is None or row["sets"] + 1 < 1 / LEVEL
    ]
    flags = [f"not above matched random sets at {' and '.join(told)}"] if told else []
    return (*flags, f"too few matched random sets at {' and '.join(full)}") if full else tuple(flags)
