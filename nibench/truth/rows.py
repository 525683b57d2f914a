"""The measured rows of a certificate, concept by concept: what moves a behaviour, and what does not.

Shares are of the base-to-source margin effect, with 95 % bootstrap intervals over pairs; where a row bounds a
share, the whole interval must lie inside. "The others" are every FFN neuron at every position but the
carriers at the last one. What is asked of the carriers depends on the motif (`confinement` has the table);
this module shares no code with it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

import numpy as np
import torch
from torch import Tensor

from nibench.truth import decoys as dc
from nibench.truth import exhaustive as ex
from nibench.truth import files, grammar, rotated
from nibench.truth.pairs import Pair
from nibench.truth.shares import Bench, coalitions, interchange_worth, interval, mask_of, shapley

WHOLE = dc.POOLED  # stands for the behaviour in rows about a concept as a whole
TOP = 8  # neurons with the largest single effects: of a null they move next to nothing together
SHARED_WORD = 0.15  # of everything else, where two concepts meet in one word; elsewhere .10


@dataclass(frozen=True)
class Row:
    """One measured figure: interval if any, what is required, and the verdict (`None`: none is given)."""

    model: str
    concept: str
    behaviour: str
    check: str
    value: float
    low: float | None
    high: float | None
    bound: str
    passed: bool | None

    def line(self) -> str:
        """The figure with its interval, in at most 80 columns."""
        interval = "" if self.low is None else f" [{self.low:.2f}, {self.high:.2f}]"
        mark = {True: "within", False: "outside", None: "no verdict"}[self.passed]
        return f"{self.model}, {self.check} {self.value:.2f}{interval}: {mark}"[:80]


@dataclass(frozen=True)
class Effort:
    """How much is measured; `QUICK` is a subsample for tests, judged by its figures without intervals."""

    pairs: int = 320
    single_pairs: int = ex.EFFECT_PAIRS
    probe_pairs: int = ex.PROBE_PAIRS
    shapley_pairs: int = 160
    free_sentences: int = 200
    halves: int = 4
    resamples: int = 1000  # of the bootstrap; 0: bounds are held against the figures themselves


FULL = Effort()
QUICK = Effort(pairs=160, single_pairs=24, shapley_pairs=40, halves=2, resamples=0)


@dataclass
class Concept:
    """One concept of one model, and the rows measured so far."""

    engine: ex.Engine
    name: str
    known: files.ConceptTruth
    pairs: Mapping[str, Sequence[Pair]]  # by behaviour
    measured: Mapping[str, np.ndarray]  # every neuron's single effects
    effort: Effort
    rows: list[Row] = field(default_factory=list)

    def add(
        self,
        behaviour: str,
        check: str,
        value: float,
        bound: str,
        passed: bool | None,
        interval: tuple[float, float] | tuple[None, None] = (None, None),
    ) -> None:
        """Note one figure."""
        verdict = None if passed is None else bool(passed)
        model = self.engine.folder.name
        self.rows.append(Row(model, self.name, behaviour, check, float(value), *interval, bound, verdict))

    def at_most(self, behaviour: str, check: str, value: float, most: float) -> None:
        """Note one figure with an upper bound."""
        self.add(behaviour, check, value, f"<= {most:g}", value <= most)


def concept_rows(
    engine: ex.Engine,
    name: str,
    known: files.ConceptTruth,
    pairs: Mapping[str, Sequence[Pair]],
    measured: Mapping[str, np.ndarray],
    effort: Effort,
) -> list[Row]:
    """Measure everything that is claimed of one concept; `pairs` are its behaviours'."""
    one = Concept(engine, name, known, pairs, measured, effort)
    mine = mask_of(engine, known.carriers())
    means = ex.concept_means(engine, name, list(known.behaviours), effort.probe_pairs)
    figures = list(dc.matching_figures(engine, name, known, effort.probe_pairs))
    directions = rotated.read(engine.folder, name) if known.motif == rotated.MOTIF else None
    for behaviour, some in pairs.items():
        chosen = engine, some[: effort.pairs], mine
        opened = rotated.RotatedBench(*chosen, directions) if directions else Bench(*chosen)
        bench = _Shares(one, behaviour, opened, means)
        bench.add_intact()
        bench.add_others()
        if directions is not None:
            bench.add_carriers("directions")
            bench.add_largest()
        if not known.is_null:
            bench.add_carriers("used")
            figures += dc.effect_figures(bench.bench, behaviour, known, means)
            _add_shapley(one, behaviour, means)
        _add_singles(one, behaviour)
    if known.motif in files.SINGLE_MOTIFS:
        _add_oracle(one)
    _add_free_twins(one, mine, directions)
    for behaviour in (*known.behaviours, WHOLE):
        for figure in dc.worst(figures, behaviour):
            one.at_most(behaviour, figure.check, figure.value, figure.most)
    count, share, ratio = dc.natural_decoys(engine, name, known, pairs, effort.probe_pairs)
    one.add(WHOLE, "natural decoys", count, "a count", None)
    one.add(WHOLE, "natural decoys, share", share, "published", None)
    if ratio is not None:
        against = "1" if known.is_null else "the used"
        one.add(WHOLE, "natural decoys, probe", ratio, f">= .9 of {against}", ratio >= 0.9)
    return one.rows


@dataclass
class _Shares:
    """The shares of one behaviour's margin that sets of neurons move."""

    concept: Concept
    behaviour: str
    bench: Bench
    means: Tensor

    def __post_init__(self) -> None:
        self.n = len(self.bench.pairs)
        self.shape = (self.n, *self.bench.carriers.shape)
        self.generator = torch.Generator().manual_seed(0)
        bench = self.bench
        self.nothing = bench.everywhere(torch.zeros(self.shape, dtype=torch.bool))  # (B, L, T, F)
        self.mean_values = [
            self.means[layer].expand_as(bench.base[layer]) for layer in range(bench.engine.n_layers)
        ]

    def _interval(self, statistic: Callable[[np.ndarray], float]) -> tuple[float, float]:
        return interval(statistic, self.n, self.concept.effort.resamples)

    def add_share(
        self, check: str, moved: np.ndarray, least: float, most: float, only: np.ndarray | None = None
    ) -> None:
        """The share of the margin effect that `moved` (B,) is, over all pairs or some, with its bounds."""
        whole, chosen = self.bench.whole, np.arange(self.n) if only is None else np.flatnonzero(only)
        low, high = interval(
            lambda at: moved[chosen[at]].mean() / whole[chosen[at]].mean(),
            len(chosen),
            self.concept.effort.resamples,
        )
        value = moved[chosen].mean() / whole[chosen].mean()
        passed = least <= low and high <= most
        self.concept.add(self.behaviour, check, value, f"in [{least:g}, {most:g}]", passed, (low, high))

    def add_intact(self) -> None:
        """The behaviour itself, in base and source."""
        bench, add = self.bench, self.concept.add
        source_margin = bench.intact - bench.whole
        accuracy = float(np.mean(np.concatenate([bench.intact > 0, source_margin < 0])))
        add(self.behaviour, "accuracy", accuracy, ">= .99", accuracy >= 0.99)
        bounds = self._interval(lambda at: bench.intact[at].mean())
        add(self.behaviour, "margin", bench.intact.mean(), ">= 3 nats", bench.intact.mean() >= 3, bounds)

    def add_others(self) -> None:
        """Everything but the carriers, together and in random halves."""
        bench = self.bench
        every = torch.ones(self.shape, dtype=torch.bool)
        meets = (self.concept.name, self.behaviour) in grammar.MEETING
        most = SHARED_WORD if meets else 0.10
        self.add_share("everything else", bench.moved(bench.everywhere(every)), -most, most)
        halves = [
            bench.moved(bench.everywhere(torch.rand(self.shape, generator=self.generator) < 0.5))
            for _ in range(self.concept.effort.halves)
        ]
        worst = max(halves, key=lambda moved: abs(moved.mean()))
        self.add_share("random halves of the others", worst, -0.08, 0.08)

    def add_carriers(self, what: str) -> None:
        """What the carriers move: all, with others, at their mean, and each part by its motif."""
        bench = self.bench
        every = torch.ones(self.shape, dtype=torch.bool)
        some = torch.rand(self.shape, generator=self.generator) < torch.rand(
            self.n, 1, 1, generator=self.generator
        )

        def moved(others: Tensor) -> np.ndarray:
            return bench.moved(others, carriers=True)

        self.add_share(f"carried by {what}", moved(self.nothing), 0.90, 1.10)
        self.add_share(f"{what} and random others", moved(bench.everywhere(some)), 0.88, 1.10)
        self.add_share("all neurons", moved(bench.everywhere(every)), 0.88, 1.10)
        at_mean = np.abs(bench.margin(self.nothing, self.mean_values, carriers=True))
        low, high = self._interval(lambda at: at_mean[at].mean() / bench.intact[at].mean())
        value = at_mean.mean() / bench.intact.mean()
        self.concept.add(self.behaviour, f"{what} at mean", value, "<= .15", high <= 0.15, (low, high))
        for number, group in enumerate(self.concept.known.groups(), 1):
            self._add_part(f"part {number}", mask_of(bench.engine, group))

    def add_largest(self) -> None:
        """The neurons whose single effects are the largest, together and each with all of its activation."""
        assert isinstance(self.bench, rotated.RotatedBench)
        effect = self.concept.measured[f"{self.concept.name}.{self.behaviour}.interchange"]
        chosen = torch.zeros(len(effect), dtype=torch.bool)
        chosen[np.argsort(-effect, kind="stable")[:TOP].copy()] = True
        moved = self.bench.moved_whole(chosen.view_as(self.bench.carriers))
        self.add_share(f"{TOP} largest together", moved, -0.05, 0.05)

    def _add_part(self, part: str, mask: Tensor) -> None:
        bench = self.bench
        match self.concept.known.motif:
            case "relay":
                self.add_share(f"carried by {part}", bench.moved(mask), 0.88, 1.10)
            case "backup":
                dropped = np.abs((bench.intact - bench.margin(mask, self.mean_values)).mean())
                self.concept.at_most(self.behaviour, f"{part} at mean", dropped / bench.intact.mean(), 0.10)
                moved = moved_alone(bench, mask, mask, self.means)
                self.add_share(f"carried by {part} alone", moved, 0.88, 1.10)
            case "conjunctive":
                to_second = np.array([pair.source_class > pair.base_class for pair in bench.pairs])
                moved = bench.moved(mask)
                self.add_share(f"{part} to the second class", moved, -0.10, 0.10, to_second)
                self.add_share(f"{part} to the first class", moved, 0.88, 1.10, ~to_second)


def moved_alone(bench: Bench, part: Tensor, chosen: Tensor, means: Tensor) -> np.ndarray:
    """How far some neurons of a part (L, F) move each margin by interchange, the other parts at their means."""
    others = bench.carriers & ~part
    aside = [means[layer].expand_as(bench.base[layer]) for layer in range(bench.engine.n_layers)]
    values = [torch.where(chosen[layer], bench.source[layer], one) for layer, one in enumerate(aside)]
    return bench.margin(others, aside) - bench.margin(others | chosen, values)


def shares_of(
    engine: ex.Engine, pairs: Sequence[Pair], known: files.ConceptTruth, means: Tensor
) -> dict[str, float]:
    """Each carrier's Shapley share; of backups, within its own part while the other is at its mean."""
    if known.motif != "backup":
        carriers = known.carriers()
        return shapley(carriers, interchange_worth(engine, pairs, coalitions(carriers)))
    bench, shares = Bench(engine, pairs, mask_of(engine, known.carriers())), {}
    for group in known.groups():
        part = mask_of(engine, group)
        worth = {
            chosen: float(moved_alone(bench, part, mask_of(engine, sorted(chosen)), means).mean())
            for chosen in coalitions(group)
        }
        shares |= {name: share / bench.whole.mean() for name, share in shapley(group, worth).items()}
    return shares


def share_floor(known: files.ConceptTruth) -> float:
    """The least Shapley share of a carrier: .4 of an equal one (of backups: in its own part)."""
    return 0.4 / (len(known.carriers()) / (len(known.groups()) if known.motif == "backup" else 1))


def _add_shapley(one: Concept, behaviour: str, means: Tensor) -> None:
    """No free rider among the carriers, and each one's weight as stated."""
    found = shares_of(one.engine, one.pairs[behaviour][: one.effort.shapley_pairs], one.known, means)
    floor, least = share_floor(one.known), min(found.values())
    one.add(behaviour, "smallest used share", least, f">= {floor:.3f}", least >= floor)
    if one.known.motif == "backup":
        return
    stated = {name: one.known.neurons[name].weights.get(behaviour, np.inf) for name in found}
    off = max(abs(stated[name] - share) for name, share in found.items())
    one.add(behaviour, "stated weights", off, "within .03", off <= 0.03)


def _add_singles(one: Concept, behaviour: str) -> None:
    """Every single neuron that is no carrier."""
    effect = np.abs(one.measured[f"{one.name}.{behaviour}.interchange"])
    others = ~mask_of(one.engine, one.known.carriers()).flatten().numpy()
    check = "largest single" if one.known.motif == rotated.MOTIF else "largest single other"
    one.at_most(behaviour, check, effect[others].max(), 0.05)


def _add_oracle(one: Concept) -> None:
    """Over all behaviours no other neuron reaches the smallest used one: the exhaustive oracle is right."""
    effect = np.abs(
        np.mean([one.measured[f"{one.name}.{name}.interchange"] for name in one.known.behaviours], axis=0)
    )
    used = mask_of(one.engine, one.known.carriers()).flatten().numpy()
    gap = effect[used].min() - effect[~used].max()
    one.add(WHOLE, "smallest used above every other", gap, "> 0", gap > 0)
    relevant = used[np.argsort(-effect, kind="stable")]
    precision = np.cumsum(relevant) / np.arange(1, len(relevant) + 1)
    oracle = precision[relevant].mean()
    one.add(WHOLE, "oracle AP", oracle, ">= .95", oracle >= 0.95)


def _add_free_twins(one: Concept, carriers: Tensor, directions: rotated.Directions | None) -> None:
    """At each position of free twin sentences: everything from the other twin but the carriers there."""
    rng, engine = Random(f"free.{one.name}"), one.engine
    bases, sources = [], []
    while len(bases) < one.effort.free_sentences:
        sentence = grammar.draw(rng, one.name)
        if sentence.split(one.name) == "eval":
            bases.append(" ".join(sentence.words()))
            sources.append(" ".join(sentence.twin(one.name).words()))
    ids, last = engine.encode(bases)
    base_logits, base = engine.run(ids)
    source_logits, source = engine.run(engine.encode(sources)[0])
    moved, whole = [], []
    for position in range(ids.shape[1] - 1):
        rows = (last > position).nonzero()[:, 0]
        here = (torch.arange(ids.shape[1]) == position)[None, :, None]
        edits = {
            layer: ex.Edit(~(here & carriers[layer]).expand_as(base[layer][rows]), source[layer][rows])
            for layer in range(engine.n_layers)
        }
        if directions is not None:
            rotated.steer(engine, ids[rows], edits, directions, here)
        patched = engine.run(ids[rows], edits)[0][:, position].log_softmax(-1)
        target = base_logits[rows, position].log_softmax(-1)
        other = source_logits[rows, position].log_softmax(-1)
        moved.append((target.exp() * (target - patched)).sum(-1))
        whole.append((target.exp() * (target - other)).sum(-1))
    moved, whole = torch.cat(moved).double().numpy(), torch.cat(whole).double().numpy()
    one.at_most(WHOLE, "free twins, mean divergence", moved.mean() / whole.mean(), 0.02)
    tail = np.quantile(moved, 0.99) / np.quantile(whole, 0.99)
    one.at_most(WHOLE, "free twins, 99th percentile", tail, 0.03)
