"""Does a set do the concept's work, or everybody's? What ablating it costs the model's other concepts.

``abl.spec`` compares shares lost; ``abl.cause`` and ``abl.isolate`` count answers after interchange.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from nibench.metrics.curves import set_size, tie_report
from nibench.metrics.margins import Ablations, ablations
from nibench.metrics.trial import Score, Setting, Trial
from nibench.uncertainty import MIN_CLUSTERS, cluster_sums, cluster_weights, ratio_se, tails

OWN = "own"
Sums = Mapping[str, np.ndarray]  # concept -> (..., 2): what is counted, and out of how much


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


def specific(trial: Trial) -> Score | None:
    """``abl.spec``: what the first k (1 % of the neurons, at least 10) do to the concept beyond what to all others.

    The share of what the behaviour loses without any neuron (at their means) that it loses without the first k,
    minus the mean of the same share over the model's other concepts; those that the task declares related are left
    out. About -1 to 1, 0 for a set that harms all concepts alike or none. The difference, not a ratio: that
    explodes where little is lost.

    Returns
    -------
    Score or None
        None without a behaviour, without other concepts, or where no neuron matters to the concept. The interval
        resamples the groups of every concept.

    References
    ----------
    Karvonen et al., SAEBench, ICML 2025 (targeted perturbation).
    """
    found = _columns(trial)
    if found is None:
        return None
    own, others = found
    top = _top(trial)
    lost = {
        name: c.sums(c.table.moved([top], "mean")[0], c.whole) for name, c in {OWN: own, **others}.items()
    }
    return _score(trial, "abl.spec", "share of what all neurons do", lost)


def cause_and_isolate(trial: Trial) -> tuple[Score, Score] | None:
    """``abl.cause``, ``abl.isolate``: answers of this and of other concepts under interchange of the same first k.

    ``abl.cause``: share of the concept's items whose answer (of the two) becomes the twin's when the first k take
    their values from it. ``abl.isolate``: mean over the other concepts of the share of items whose answer stays when
    the same neurons take the values of *that* concept's twin; ties count half. A set that does nothing has .0 and
    1.0 (where the model is right), so they are read together: their mean is in the details of both.

    Returns
    -------
    tuple of Score, or None
        None where ``abl.spec`` is, or where some prompts have no twin.

    References
    ----------
    Huang et al., RAVEL, ACL 2024 (there the source differs in the *tested* attribute, here each concept has pairs
    of its own).
    """
    found = _columns(trial)
    if found is None or not all(c.table.behaviour.has_pairs for c in (found[0], *found[1].values())):
        return None
    own, others = found
    top = _top(trial)
    flipped, stayed = {OWN: _answers(own, top, -1)}, {n: _answers(c, top, 1) for n, c in others.items()}
    both = {"mean_of_both": float(mean_share(_totals(flipped)) + mean_share(_totals(stayed))) / 2}
    cause = _score(trial, "abl.cause", "share of items", flipped, both)
    isolate = _score(trial, "abl.isolate", "share of items", stayed, both)
    return cause, isolate


def _columns(trial: Trial) -> tuple[Column, dict[str, Column]] | None:
    if trial.setting.behaviour is None:
        return None
    own, others = trial.setting.once(columns)
    return (own, others) if others and own.can_lose else None


def _top(trial: Trial) -> np.ndarray:
    return trial.ranking.top(set_size(len(trial.setting.neurons)))


def _answers(column: Column, top: np.ndarray, sign: int) -> np.ndarray:
    """(G, 2): items whose margin has this sign after interchange, and items."""
    margins = column.table.margins([top], "source")[0]
    return column.sums((np.sign(sign * margins) + 1) / 2, np.ones_like(margins))


def _shares(sums: Sums) -> np.ndarray:
    """(..., C): the share of each concept."""
    return np.stack([of[..., 0] / of[..., 1] for of in sums.values()], axis=-1)


def own_minus_others(sums: Sums) -> np.ndarray:
    """(...,): ``abl.spec`` of the sums (..., 2) of each concept."""
    return specificity(
        _shares({OWN: sums[OWN]})[..., 0], _shares({n: s for n, s in sums.items() if n != OWN})
    )


def mean_share(sums: Sums) -> np.ndarray:
    """(...,): ``abl.cause`` and ``abl.isolate`` of the sums (..., 2) of their concepts."""
    return _shares(sums).mean(axis=-1)


FORMULAS = {"abl.spec": own_minus_others, "abl.cause": mean_share, "abl.isolate": mean_share}


def of_clusters(name: str, statistics: Sums) -> float:
    """The score that the statistics (G, 2) of the groups of each concept add up to."""
    return float(FORMULAS[name](_totals(statistics)))


def _totals(statistics: Sums) -> Sums:
    return {concept: of.sum(axis=0) for concept, of in statistics.items()}


def _score(
    trial: Trial, name: str, unit: str, statistics: Sums, details: Mapping[str, Any] | None = None
) -> Score:
    """The score of the summed statistics; its interval resamples the groups of each concept by themselves."""
    se, ci95 = None, None
    if all(len(of) >= MIN_CLUSTERS for of in statistics.values()):
        weights = {n: cluster_weights(len(of), seed=i) for i, (n, of) in enumerate(statistics.items())}
        draws = FORMULAS[name]({n: weights[n] @ of for n, of in statistics.items()})
        low, high = np.quantile(draws, tails(min(map(len, statistics.values()))))
        se, ci95 = float(draws.std(ddof=1)), (float(low), float(high))
    k = set_size(len(trial.setting.neurons))
    tie_fraction, flags = tie_report(trial.ranking, (k,))
    shares = {n: float(_shares({n: of})[0]) for n, of in _totals(statistics).items()}
    return Score(
        id=name,
        value=of_clusters(name, statistics),
        unit=unit,
        direction=1,
        se=se,
        ci95=ci95,
        n_clusters=sum(len(of) for of in statistics.values()),
        chance=0.0 if name == "abl.spec" else None,
        k=(k,),
        tie_fraction=tie_fraction,
        flags=flags,
        clusters=dict(statistics),
        details={"shares": shares, **(details or {})},
    )
