"""Which metrics track truth? Every metric of a run against the known answer, and what it confuses.

A metric orders nothing unless it tracks the truth it is about: otherwise a board sorts by something else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from nibench.errors import InputError
from nibench.record import ScoreRecord
from nibench.resampling import ratio_of
from nibench.results import Place, Results
from nibench.studies.draws import interval_over, plain, truth_of, units
from nibench.task import CLAIMS
from nibench.wording import listed, number

MIN_METHODS = 5  # fewer have no correlation worth the name
N_SPLITS = 20  # divisions of the sentences in two
AT_CEILING = 0.95  # normalised
LEFT = 0.1  # of the scale from random to ceiling: more under a control is not chance
TRUTH_OF = {  # the claim whose truth a metric should track, by how its name begins; the longest counts
    "encodes": "associated",
    "probe.": "associated",
    "sel.": "associated",
    "abl.auc[interchange]": "carries",
    "abl.cause": "carries",
    "abl.isolate": "carries",
    "abl.": "required",
}


@dataclass(frozen=True)
class MeanCorrelation:
    """A mean over places, and its 95 % interval over resampled truth models (or places); None for too few."""

    value: float
    ci95: tuple[float, float] | None
    places: int


@dataclass(frozen=True)
class MetricCard:
    """What is known of one metric.

    Attributes
    ----------
    claim : the claim whose truth it should track; empty where it is about something else (stability, cost).
    truth : claim -> Spearman's correlation with the graded truth across methods, mean over places.
    reseed : how much of the differences between methods is the spread between seeds of one: sd over sd.
    halves : Spearman's correlation of the methods' scores on one half of the sentences with the other.
    saturation : share of the cells at the ceiling, where nobody can be told apart.
    decoys : correlation of the methods' scores with how rarely certified decoys stand above used neurons.
    controls : where the chain was broken -> what methods that read labels still score above chance, on its scale.
    """

    metric: str
    claim: str
    truth: Mapping[str, MeanCorrelation]
    reseed: float | None
    halves: MeanCorrelation | None
    saturation: float | None
    decoys: MeanCorrelation | None
    controls: Mapping[str, float]

    @property
    def tracks(self) -> bool | None:
        """Whether the interval of its correlation with its own truth lies above 0; None where that is not known."""
        own = self.truth.get(self.claim)
        return None if own is None or own.ci95 is None else own.ci95[0] > 0

    @property
    def confuses(self) -> str:
        """Another claim whose truth it tracks better than its own, by the correlations; empty if none."""
        own = self.truth.get(self.claim)
        others = {claim: one.value for claim, one in self.truth.items() if claim != self.claim}
        best = max(others, key=lambda claim: others[claim], default="")
        return best if own is not None and best and others[best] > own.value else ""

    @property
    def not_at_chance(self) -> tuple[str, ...]:
        """The controls under which it does not fall to what random rankings score."""
        return tuple(name for name, value in self.controls.items() if value > LEFT)


@dataclass(frozen=True)
class Study:
    """A card per metric, those that should track a truth first."""

    cards: tuple[MetricCard, ...]
    methods: int
    places: int

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON values, verdicts included."""
        derived = ("tracks", "confuses", "not_at_chance")
        cards = [{**asdict(card), **{name: getattr(card, name) for name in derived}} for card in self.cards]
        return plain({"methods": self.methods, "places": self.places, "cards": cards})


def study(results: Results) -> Study:
    """A card for every metric of the records that says which of two rankings is better.

    Raises
    ------
    InputError
        If no place has five methods and a known answer.
    """
    places = [p for p in results.places if any(_claims_known(results, p))]
    if not places:
        raise InputError(
            f"No task in these records has a known answer and {MIN_METHODS} methods. "
            "Make some: nibench run --suite metrics"
        )
    ids = {score.id: score for stored in results.stored for score in stored.record.scores if score.direction}
    names = [name for name in ids if not name.startswith(("gt.", "null."))]
    cards = [_card(results, name, ids[name].direction, places) for name in names]
    ranked = sorted(cards, key=lambda card: (not card.claim, card.metric))
    return Study(tuple(ranked), len(results.cards), len(places))


def _claims_known(results: Results, place: Place) -> list[str]:
    """The claims whose truth is known here for enough methods."""
    return [
        claim
        for claim in CLAIMS
        if sum(truth_of(results, m, place, claim) is not None for m in results.cards) >= MIN_METHODS
    ]


def claim_of(metric: str) -> str:
    """The claim whose truth a metric should track; empty if none."""
    fits = [start for start in TRUTH_OF if metric.startswith(start)]
    return TRUTH_OF[max(fits, key=len)] if fits else ""


def _card(results: Results, metric: str, direction: int, places: Sequence[Place]) -> MetricCard:
    values = {
        place: {
            m: direction * v for m in results.cards if (v := _value(results, m, place, metric)) is not None
        }
        for place in results.places
    }
    truth = {}
    for claim in CLAIMS:
        right = {p: {m: truth_of(results, m, p, claim) for m in values[p]} for p in places}
        found = _correlated(results, values, right)
        if found is not None:
            truth[claim] = found
    seldom = {
        p: {m: -v for m in values[p] if (v := _value(results, m, p, "gt.decoy")) is not None} for p in places
    }
    return MetricCard(
        metric=metric,
        claim=claim_of(metric),
        truth=truth,
        reseed=_reseed(results, metric),
        halves=_halves(results, metric),
        saturation=_saturation(results, metric),
        decoys=_correlated(results, values, seldom),
        controls=_under_control(results, metric, direction),
    )


def _value(results: Results, method: str, place: Place, metric: str) -> float | None:
    """Mean over seeds of the plain value."""
    found = [score.value for score in results.scores(method, place, metric) if np.isfinite(score.value)]
    return float(np.mean(found)) if found else None


def _correlated(
    results: Results,
    left: Mapping[Place, Mapping[str, float]],
    right: Mapping[Place, Mapping[str, float | None]],
) -> MeanCorrelation | None:
    """Spearman's correlation across the methods of a place, mean over places; None without any."""
    found = {}
    for place, other in right.items():
        pairs = [(left[place][m], value) for m, value in other.items() if value is not None]
        rho = spearman(pairs)
        if np.isfinite(rho):
            found[place] = rho
    return _mean(results, found)


def spearman(pairs: Sequence[tuple[float, float]]) -> float:
    """Of the pairs; NaN for fewer than five, or where a side is constant."""
    from scipy.stats import rankdata

    if len(pairs) < MIN_METHODS:
        return float("nan")
    x, y = np.array(pairs, dtype=np.float64).T
    if not np.ptp(x) or not np.ptp(y):
        return float("nan")
    return float(np.corrcoef(rankdata(x), rankdata(y))[0, 1])


def _mean(results: Results, found: Mapping[Place, float]) -> MeanCorrelation | None:
    if not found:
        return None
    numbers = np.array(list(found.values()))
    names, _ = units(results, list(found))
    ci95 = interval_over(names, lambda weights: float(weights @ numbers / weights.sum()))
    return MeanCorrelation(float(numbers.mean()), ci95, len(found))


def _reseed(results: Results, metric: str) -> float | None:
    """sd between the seeds of a method over sd between methods, from the places with several seeds."""
    within, between = [], []
    for place in results.places:
        seeds = [[score.value for score in results.scores(m, place, metric)] for m in results.cards]
        several = [np.array(one) for one in seeds if len(one) > 1 and np.isfinite(one).all()]
        if len(several) >= MIN_METHODS:
            within.append(np.mean([one.var(ddof=1) for one in several]))
            between.append(np.var([one.mean() for one in several], ddof=1))
    if not between or not np.mean(between):
        return None
    return float(np.sqrt(np.mean(within) / np.mean(between)))


def _halves(results: Results, metric: str) -> MeanCorrelation | None:
    """Of the sentences: the methods' scores on one half against the other, from the per-cluster sums."""
    found = {}
    for place in results.places:
        ratios = {}
        for method in results.cards:
            seeds = results.cells.get((method, place), ())
            ratio = ratio_of(seeds[0].record, seeds[0].arrays, metric) if seeds else None
            if ratio is not None:
                ratios[method] = ratio
        sizes = {len(ratio.ids) for ratio in ratios.values()}
        if len(ratios) < MIN_METHODS or len(sizes) != 1 or min(sizes) < 2:
            continue
        above = np.stack([ratio.above for ratio in ratios.values()])  # (M, G)
        below = np.stack([ratio.below for ratio in ratios.values()])
        rng = np.random.default_rng(0)
        rhos = []
        for _ in range(N_SPLITS):
            half = rng.permutation(above.shape[1]) < above.shape[1] / 2
            sides = [above[:, side].sum(axis=1) / below[:, side].sum(axis=1) for side in (half, ~half)]
            rhos.append(spearman(list(zip(*sides, strict=True))))
        if np.isfinite(rhos).any():
            found[place] = float(np.nanmean(rhos))
    return _mean(results, found)


def _saturation(results: Results, metric: str) -> float | None:
    found = [value for scores in _scores(results, metric) if (value := scores.normalised) is not None]
    return float(np.mean([value >= AT_CEILING for value in found])) if found else None


def _scores(results: Results, metric: str) -> list[ScoreRecord]:
    return [score for m in results.cards for p in results.places for score in results.scores(m, p, metric)]


def _under_control(results: Results, metric: str, direction: int) -> dict[str, float]:
    """Mean under each control of what methods that read labels score above chance, where that is known."""
    found = {}
    for name, broken in results.controls.items():
        readers = [m for m, card in broken.cards.items() if "LABELS" in {need.upper() for need in card.needs}]
        scores = [s for m in readers for place in broken.places for s in broken.scores(m, place, metric)]
        above = [left for score in scores if (left := _above_chance(score, direction)) is not None]
        if above:
            found[name] = float(np.mean(above))
    return found


def _above_chance(score: ScoreRecord, direction: int) -> float | None:
    """On the scale from random rankings to the ceiling; else a share of the neurons saved, or plainly."""
    if score.normalised is not None:
        return score.normalised
    if "random" in score.details:  # random rankings score what all neurons do: nothing is to be found
        return 0.0
    if score.chance is None:
        return None
    return direction * (score.value - score.chance) / (score.chance if score.unit == "neurons" else 1.0)


MADE_BY = (
    "nibench run --suite metrics --out R",
    "nibench run --suite metrics --task glass_tense --task graded_noise_world --model glass8 --seeds 2 \\",
    "    --control random_model --control type --control shuffle --out R",
)
HEADER = ("metric", "truth of", "tracks", "correlation", "halves", "seeds", "ceiling", "confuses")


def cells(card: MetricCard) -> tuple[str, ...]:
    """A card as one row of a table."""
    own = card.truth.get(card.claim)
    tracks = {True: "yes", False: "no", None: "–"}[card.tracks]
    confused = [card.confuses] if card.confuses else []
    left = [f"control {listed(card.not_at_chance)}"] if card.not_at_chance else []
    return (
        card.metric,
        card.claim or "–",
        tracks,
        _with_ends(own),
        _with_ends(card.halves),
        number(card.reseed),
        number(card.saturation),
        "; ".join(confused + left) or "–",
    )


def _with_ends(one: MeanCorrelation | None) -> str:
    if one is None:
        return "–"
    ends = "" if one.ci95 is None else f" [{number(one.ci95[0])}, {number(one.ci95[1])}]"
    return f"{number(one.value)}{ends}"


def to_markdown(found: Study) -> str:
    """The cards as one page: a table, and for each metric its correlation with the truth of every claim."""
    from nibench.metrics import ABOUT

    lines = [
        "# Metric cards",
        "",
        f"{found.methods} methods, {found.places} tasks in models whose answer is known. Made by `nibench study "
        "metrics --out FILE.md` from records; those behind the cards that come with nibench:",
        "",
        "```sh",
        *MADE_BY,
        "```",
        "",
        "*tracks*: whether the 95 % interval (resampled truth models) of the correlation across methods with the "
        "graded truth lies above 0. *halves*: correlation of the methods' scores on the two halves of the sentences. "
        "*seeds*: spread between one method's seeds over that between methods. *ceiling*: share of cells within .05 "
        "of it. *confuses*: another claim whose truth it follows more closely, and the controls under which it does "
        "not fall to chance.",
        "",
        f"| {' | '.join(HEADER)} |",
        f"|{' --- |' * len(HEADER)}",
        *(f"| {' | '.join([f'`{one[0]}`', *one[1:]])} |" for one in map(cells, found.cards)),
    ]
    for card in found.cards:
        about = next((text for name, text in ABOUT.items() if _same(name, card.metric)), "")
        truths = [f"{claim} {_with_ends(one)} ({one.places} places)" for claim, one in card.truth.items()]
        under = [f"{name} {number(value)}" for name, value in card.controls.items()]
        lines += ["", f"## `{card.metric}`", "", f"{about[:1].upper()}{about[1:]}." if about else ""]
        lines += [f"- Correlation with the truth of {'; '.join(truths)}."] if truths else []
        if card.decoys is not None:
            lines.append(f"- With how seldom decoys stand above used neurons: {_with_ends(card.decoys)}.")
        lines += [f"- With the chain broken: {'; '.join(under)}."] if under else []
    return "\n".join(lines) + "\n"


def _same(name: str, metric: str) -> bool:
    """Whether a name of the glossary, perhaps with CLAIM in it, is this metric's."""
    return name == metric or (
        "[" in name and name.split("[")[0] == metric.split("[")[0] and "[CLAIM]" in name
    )
