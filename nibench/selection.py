"""From a ranking to a set: the neurons one may report, where a procedure's share of false discoveries is known.

A false discovery is a neuron that is *not marginally associated* with the concept when labels are re-assigned to
whole sentences, and to whole word types. Nothing is said of *carries* and *required*, nor of what a neuron tells
given the others.
"""

from dataclasses import dataclass, replace

import numpy as np

from nibench.errors import InputError
from nibench.method import Method, Observations
from nibench.moments import Statistics
from nibench.permutation import (
    LEAST_PEERS,
    N_DRAWS,
    depends,
    p_values,
    ranks,
    reassigned,
    shuffled,
    standard_values,
)

LEAST_DRAWS = 300
LEAST_MIRROR = 0.1  # nominal level


@dataclass(frozen=True, eq=False)
class Selection:
    """The neurons one may report, and on what grounds.

    Attributes
    ----------
    neurons : int (k,)
        Their ids, in the ranking's order; none is an answer.
    p_values : float64 (D,) or None
        Of every neuron; None where the procedure has none.
    q_values : float64 (D,)
        The smallest nominal level at which a neuron is selected.
    fdr : float
        The nominal level: share of false discoveries among the selected, in the mean over samples.
    unit : str
        What labels were re-assigned to.
    draws : int
        Re-assignments; 0 where there are none.
    procedure, assumptions, means : str
        What was done, what it takes for granted, and what a false discovery is here.
    notes : tuple of str
        Why the set may be smaller than it could be.
    """

    neurons: np.ndarray
    p_values: np.ndarray | None
    q_values: np.ndarray
    fdr: float
    unit: str
    draws: int
    procedure: str
    assumptions: str
    means: str
    notes: tuple[str, ...] = ()

    def values_of(self, neuron: int) -> dict[str, float]:
        """A neuron's p, where there is one, and q."""
        p = {} if self.p_values is None else {"p": float(self.p_values[neuron])}
        return p | {"q": float(self.q_values[neuron])}

    def grounds(self) -> dict[str, float | int | str]:
        """All but the neurons, for people and for JSON."""
        names = ("fdr", "unit", "draws", "procedure", "assumptions", "means")
        caution = {"caution": "; ".join(self.notes)} if self.notes else {}
        return {name: getattr(self, name) for name in names} | caution


@dataclass(frozen=True, eq=False)
class Origin:
    """What a ranking was made by and from: references only, used when ``Ranking.select`` asks."""

    method: Method
    data: Observations
    name: str
    seed: int

    def select(self, order: np.ndarray, fdr: float, unit: str | None, draws: int | None) -> Selection:
        """See `Ranking.select`; ``order`` is the ranking's."""
        if not 0 < fdr < 1:
            raise InputError(
                f"fdr is {fdr}; expected a share of false discoveries between 0 and 1, e.g. 0.1."
            )
        if unit not in (None, "sentence", "token"):
            raise InputError(
                f"unit is {unit!r}; expected 'sentence', 'token', or none for sentence and word type."
            )
        n_draws = N_DRAWS if draws is None else draws
        if n_draws < LEAST_DRAWS:
            raise InputError(f"draws is {draws}; expected {LEAST_DRAWS} or more re-assignments.")
        if self.method.selects_by == "nothing":
            reason = f" ({self.method.error_rate})" if self.method.error_rate else ""
            raise InputError(
                f"{self.name}: no procedure with a known error rate{reason}. Report the first k of the ranking as "
                "such, or select by auc or mean_difference."
            )
        if self.method.selects_by == "halves":
            return self._by_halves(order, fdr, unit)
        return self._by_permutation(order, fdr, unit, n_draws)

    def _clusters(self, unit: str | None) -> dict[str, np.ndarray]:
        """The clusters that labels are re-assigned to, by the name of the unit."""
        wanted = ("sentence",) if unit == "sentence" else ("sentence", "word type")
        given = {"sentence": self.data.given("sentences"), "word type": self.data.given("word_types")}
        missing = [name for name in wanted if given[name] is None]
        if missing:
            needed = " and ".join(f"{name.replace(' ', '_')}s=" for name in missing)
            other = (
                ""
                if "sentence" in missing
                else ", or take unit='sentence' if the concept is no matter of the word"
            )
            raise InputError(
                f"A set needs {needed} (one id per row): words of one {missing[0]} are no independent evidence. "
                f"Give them to nibench.rank{other}."
            )
        return {name: clusters for name in wanted if (clusters := given[name]) is not None}

    def _goes_by_word(self, rng: np.random.Generator) -> bool:
        """Whether labels are seen to depend on the word type; False where no types were given."""
        types = self.data.given("word_types")
        return types is not None and depends(self.data.labels, types, rng)

    def _by_permutation(self, order: np.ndarray, fdr: float, unit: str | None, n_draws: int) -> Selection:
        from scipy.stats import false_discovery_control

        statistics, rng = self.data.statistics, np.random.default_rng(0)
        clusters = self._clusters(unit)
        labels = statistics.labels.astype(np.int16)
        if unit == "token":
            for name, ids in clusters.items():
                if depends(labels, ids, rng):
                    raise InputError(
                        f"unit='token' takes labels to be independent of the {name}; here they are not. "
                        "Leave it out, or take unit='sentence' if the concept is no matter of the word."
                    )
            drawn = [shuffled(labels, n_draws, rng)]
        else:
            drawn = [
                reassigned(labels, ids, n_draws, rng, in_order=name == "sentence")
                for name, ids in clusters.items()
            ]
        columns = ranks if self.method.selects_by == "ranks" else standard_values
        found = p_values(columns(statistics), labels, drawn, len(self.data.neurons))
        q_values = false_discovery_control(found)
        units = unit or " and ".join(clusters)
        counts = {name: len(np.unique(ids)) for name, ids in clusters.items()}
        notes = [f"only {n} {name}s" for name, n in counts.items() if n < LEAST_PEERS and unit != "token"]
        if unit == "sentence" and self._goes_by_word(rng):
            notes.append(BY_WORD)
        statistic = "AUC" if self.method.selects_by == "ranks" else "standardised mean difference"
        ways = ", the variances of both together" if unit is None else ""
        return Selection(
            neurons=order[q_values[order] <= fdr],
            p_values=found,
            q_values=q_values,
            fdr=fdr,
            unit=units,
            draws=n_draws,
            procedure=f"permutation of labels by {units}{ways} ({statistic}, {n_draws} draws, Student's tail "
            "beyond them), then Benjamini-Hochberg",
            assumptions=ASSUMED[unit],
            means=FALSE_DISCOVERY.format(units=units),
            notes=tuple(notes),
        )

    def _by_halves(self, order: np.ndarray, fdr: float, unit: str | None) -> Selection:
        if unit != "sentence":
            raise InputError(
                f"{self.name} selects by halves of the sentences only, for concepts that are no matter of the word: "
                "take unit='sentence', or select by auc or mean_difference."
            )
        if fdr < LEAST_MIRROR:
            raise InputError(f"fdr is {fdr}; {self.name} selects experimentally, at {LEAST_MIRROR} or above.")
        if self.method != type(self.method)():
            raise InputError(
                f"{self.name}: the error rate is known for the plain settings only; leave them out."
            )
        sentences, rng = self._clusters(unit)["sentence"], np.random.default_rng(0)
        if self._goes_by_word(rng):
            raise InputError(
                f"{self.name} has no known error rate where labels go by the word, as they do here: words are the same "
                "in both halves. Select by auc or mean_difference."
            )
        if not depends(self.data.labels, sentences, rng):
            raise InputError(
                f"{self.name} exceeds its level where labels do not go by the sentence, as here (realised .16 at .1): "
                "probes weigh neurons that only cancel noise. Select by auc or mean_difference."
            )
        q_values = mirror_q_values(mirror_statistics(self.method, self.data, sentences, self.seed))
        return Selection(
            neurons=order[q_values[order] <= fdr],
            p_values=None,
            q_values=q_values,
            fdr=fdr,
            unit="sentence",
            draws=0,
            procedure="EXPERIMENTAL: mirror statistic of two halves by sentence (Dai et al. 2023)",
            assumptions="sentences are independent; the sign of a false neuron's weight is a coin toss in either half",
            means=FALSE_DISCOVERY.format(units="sentence"),
        )


BY_WORD = (
    "labels depend on the word type here: by sentence alone, neurons that know words are taken for neurons that "
    "know the concept"
)
FALSE_DISCOVERY = (
    "a false discovery is a neuron with no marginal association when labels are re-assigned by {units}; the set says "
    "nothing of carries or required"
)
POSITIVE = "; false neurons' p are not made smaller by true ones being selected (positive dependence)"
ASSUMED = {
    None: "labels could have come to any sentence of like length, and to any word of like frequency"
    + POSITIVE,
    "sentence": "labels could have come to any sentence of like length (the concept is no matter of the word)"
    + POSITIVE,
    "token": "labels are independent of sentence and word" + POSITIVE,
}


# ---------------------------------------------------------------- halves


def mirror_statistics(method: Method, data: Observations, sentences: np.ndarray, seed: int) -> np.ndarray:
    """float64 (D,): large where both halves of the sentences give a neuron much weight of the same sign.

    ``sign(a . b) (|a| + |b|)`` for the neuron's weights a, b over classes in either half; symmetric about 0 for a
    neuron without effect.

    References
    ----------
    Dai, Lin, Xing & Liu, False Discovery Rate Control via Data Splitting, JASA 2023, section 2.
    """
    groups, inverse = np.unique(sentences, return_inverse=True)
    half = (np.random.default_rng(seed).permutation(len(groups)) % 2)[inverse]
    weights = []
    for side in (0, 1):
        rows = np.flatnonzero(half == side)
        statistics = Statistics(data.activations[rows], data.labels[rows], data.n_classes)
        ranking = method.rank(
            replace(
                data, _statistics=statistics, _sentences=sentences[rows], _word_types=None, _covariates=None
            ),
            np.random.default_rng(seed),
        )
        weights.append(ranking.evidence.weights)
    return np.sign((weights[0] * weights[1]).sum(axis=0)) * np.abs(weights).sum(axis=(0, 1))


def mirror_q_values(statistics: np.ndarray) -> np.ndarray:
    """float64 (D,): the smallest level at which each neuron is selected, 1 where its two halves disagree.

    At a threshold t the share of false neurons is at most about (1 + those below -t) / (those above t). The 1, which
    the paper leaves out, keeps the level where no neuron is true; fewer than ten are never selected at .1.
    """
    order = np.argsort(-statistics)
    low = np.sort(statistics)
    at = statistics[order]
    below = np.searchsorted(low, -at, side="right")
    above = len(low) - np.searchsorted(low, at, side="left")
    shares = np.where(at > 0, (1 + below) / above, 1.0)
    found = np.empty(len(low))
    found[order] = np.minimum(1.0, np.minimum.accumulate(shares[::-1])[::-1])
    return found
