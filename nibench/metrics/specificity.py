"""Does a set do the concept's work, or everybody's? What ablating it costs the model's other concepts.

``abl.spec`` compares shares lost; ``abl.cause`` and ``abl.isolate`` count answers after interchange.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from nibench.metrics.curves import set_size, tie_report
from nibench.metrics.margins import Ablations, ablations
from nibench.metrics.trial import Score, Setting, Trial
from nibench.uncertainty import MIN_CLUSTERS, cluster_sums, cluster_weights, ratio_se

OWN = "own"
Sums = Mapping[str, np.ndarray]  # concept -> (G or B, 2): what is counted, and out of how much


@dataclass(frozen=True, eq=False)
class Column:
    """One concept's behaviour: its margins, and what it loses without any neuron, nats (M,)."""

    table: Ablations
    whole: np.ndarray
    cluster_of: np.ndarray
    n_clusters: int

    @classmethod
    def of(cls, table: Ablations) -> "Column":
        everything = np.arange(len(table.behaviour.neurons))
        return cls(table, table.moved([everything], "mean")[0], *table.clusters())

    @property
    def can_lose(self) -> bool:
        """Whether all neurons together help by more than two standard errors: shares of less are noise."""
        sums = self.sums(self.whole, np.ones_like(self.whole))
        return bool(sums[:, 0].sum() / len(self.whole) > 2 * np.nan_to_num(ratio_se(*sums.T)))

    def sums(self, *rows: np.ndarray) -> np.ndarray:
        """float64 (G, Q): values of the items (M,), summed in each group."""
        return cluster_sums(np.stack(rows), self.cluster_of, self.n_clusters)


def columns(setting: Setting) -> tuple[Column, dict[str, Column]]:
    """The concept's own column and those of the others that have something to lose. For ``setting.once``."""
    others = {name: Column.of(Ablations.of(one)) for name, one in setting.other_behaviours().items()}
    return Column.of(setting.once(ablations)), {name: one for name, one in others.items() if one.can_lose}


def specificity(own: np.ndarray, others: np.ndarray) -> np.ndarray:
    """What is lost on the concept (...,) minus the mean of what is lost on the others (..., C')."""
    return np.asarray(own) - np.asarray(others).mean(axis=-1)


def specific(trial: Trial) -> tuple[Score, ...] | None:
    """``abl.spec``, ``abl.cause``, ``abl.isolate``: the first k (1 % of the neurons, at least 10), on all concepts.

    ``abl.spec``: the share of what the behaviour loses without any neuron (at their means) that it loses without the
    first k, minus the mean of the same share over the model's other concepts; those that the task declares related
    are left out. About -1 to 1, 0 for a set that harms all concepts alike or none. The difference, not a ratio: that
    explodes where little is lost. Where all prompts have twins, also ``abl.cause``: share of the concept's items
    whose answer (of the two) becomes the twin's when the first k take their values from it, and ``abl.isolate``:
    mean over the other concepts of the share of items whose answer stays when the same neurons take the values of
    *that* concept's twin; ties count half. A set that does nothing has .0 and 1.0 (where the model is right), so
    they are read together: their mean is in the details of both.

    Returns
    -------
    tuple of Score, or None
        None without a behaviour, without other concepts, or where no neuron matters to the concept. Intervals
        resample the groups of every concept.

    References
    ----------
    Karvonen et al., SAEBench, ICML 2025 (targeted perturbation); Huang et al., RAVEL, ACL 2024 (cause, isolate;
    there the source differs in the *tested* attribute, here each concept has pairs of its own).
    """
    setting = trial.setting
    if setting.behaviour is None:
        return None
    own, others = setting.once(columns)
    if not others or not own.can_lose:
        return None
    k = set_size(len(setting.neurons))
    top = trial.ranking.top(k)
    ties, flags = tie_report(trial.ranking, (k,))
    lost = {
        name: c.sums(c.table.moved([top], "mean")[0], c.whole) for name, c in {OWN: own, **others}.items()
    }
    score = partial(_score, k=k, tie_fraction=ties, flags=flags)
    spec = score("abl.spec", "share of what all neurons do", lost, _own_minus_others)
    if not all(c.table.behaviour.has_pairs for c in (own, *others.values())):
        return (spec,)
    flipped, stayed = {OWN: _answers(own, top, -1)}, {n: _answers(c, top, 1) for n, c in others.items()}
    both = {"mean_of_both": (_value(flipped, _mean_share) + _value(stayed, _mean_share)) / 2}
    cause = score("abl.cause", "share of items", flipped, _mean_share, details=both)
    isolate = score("abl.isolate", "share of items", stayed, _mean_share, details=both)
    return spec, cause, isolate


def _answers(column: Column, top: np.ndarray, sign: int) -> np.ndarray:
    """(G, 2): items whose margin has this sign after interchange, and items."""
    margins = column.table.margins([top], "source")[0]
    return column.sums((np.sign(sign * margins) + 1) / 2, np.ones_like(margins))


def _shares(sums: Sums) -> np.ndarray:
    """(B, C): the share of each concept."""
    return np.stack([of[:, 0] / of[:, 1] for of in sums.values()], axis=-1)


def _own_minus_others(sums: Sums) -> np.ndarray:
    shares = _shares(sums)
    return specificity(shares[:, 0], shares[:, 1:])


def _mean_share(sums: Sums) -> np.ndarray:
    return _shares(sums).mean(axis=1)


def _value(statistics: Sums, formula: Callable[[Sums], np.ndarray]) -> float:
    return float(formula({name: own.sum(axis=0, keepdims=True) for name, own in statistics.items()})[0])


def _score(
    name: str,
    unit: str,
    statistics: Sums,
    formula: Callable[[Sums], np.ndarray],
    *,
    k: int,
    tie_fraction: float,
    flags: tuple[str, ...],
    details: Mapping[str, Any] | None = None,
) -> Score:
    """The formula of the summed statistics; its interval resamples the groups of each concept by themselves."""
    se, ci95 = None, None
    if all(len(own) >= MIN_CLUSTERS for own in statistics.values()):
        draws = formula(
            {n: cluster_weights(len(own), seed=i) @ own for i, (n, own) in enumerate(statistics.items())}
        )
        low, high = np.quantile(draws, [0.025, 0.975])
        se, ci95 = float(draws.std(ddof=1)), (float(low), float(high))
    shares = {n: float(own[:, 0].sum() / own[:, 1].sum()) for n, own in statistics.items()}
    return Score(
        id=name,
        value=_value(statistics, formula),
        unit=unit,
        direction=1,
        se=se,
        ci95=ci95,
        n_clusters=sum(len(own) for own in statistics.values()),
        chance=0.0 if name == "abl.spec" else None,
        k=(k,),
        tie_fraction=tie_fraction,
        flags=flags,
        clusters=dict(statistics),
        details={"shares": shares, **(details or {})},
    )
