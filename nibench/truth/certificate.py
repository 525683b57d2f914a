"""The certificate of a glass-box model: is what `truth.json` says true of the saved weights?

Shares nothing with the training: it opens the folder like anybody, replaces activations by hooks, and
measures on pairs that training never saw. Shares are of the base-to-source margin effect, with 95 % bootstrap
intervals over pairs; where a row bounds a share, the whole interval must lie inside.

"The others" are every FFN neuron at every position but the carriers at the last one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor

from nibench.errors import InputError
from nibench.truth import decoys as dc
from nibench.truth import exhaustive as ex
from nibench.truth import files, grammar
from nibench.truth.labelfree import leaks
from nibench.truth.shares import Bench, interval, mask_of, shapley

WHOLE = dc.POOLED  # stands for the behaviour in rows about a concept as a whole


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


@dataclass(frozen=True)
class Certificate:
    """All rows of one model, and what was left out of its truth with the figures that kept it out."""

    model: str
    rows: tuple[Row, ...]
    left_out: tuple[Row, ...] = ()

    def behaviours(self) -> list[tuple[str, str]]:
        """The (concept, behaviour) cells that were measured."""
        return list(
            dict.fromkeys((row.concept, row.behaviour) for row in self.rows if row.behaviour != WHOLE)
        )

    def passed(self, concept: str, behaviour: str) -> bool:
        """Whether every row of the behaviour, and of its concept as a whole, holds."""
        rows = [row for row in self.rows if row.concept == concept and row.behaviour in (behaviour, WHOLE)]
        return any(row.behaviour == behaviour for row in rows) and all(
            row.passed is not False for row in rows
        )

    def ok(self) -> bool:
        """Whether everything that the truth claims holds."""
        return all(row.passed is not False for row in self.rows)

    def failures(self) -> list[Row]:
        """The rows that miss."""
        return [row for row in self.rows if row.passed is False]

    def value(self, concept: str, behaviour: str, check: str) -> float:
        """One figure."""
        for row in self.rows:
            if (row.concept, row.behaviour, row.check) == (concept, behaviour, check):
                return row.value
        raise InputError(f"The certificate of {self.model} has no row {concept}.{behaviour} {check!r}.")

    def lines(self) -> Iterator[str]:
        """One line of at most 80 columns for each behaviour, then one for each row that misses."""
        for concept, behaviour in self.behaviours():
            verdict = "pass" if self.passed(concept, behaviour) else "FAIL"
            used, rest, neutral, single = (
                self.value(concept, behaviour, check)
                for check in ("carried by used", "everything else", "used at mean", "largest single other")
            )
            head = f"{verdict} {self.model} {concept}.{behaviour}"
            yield f"{head:34} used {used:.2f} rest {rest:.2f} mean {neutral:.2f} single {single:.3f}"[:80]
        for row in self.failures():
            figure = f"{row.check} {row.value:.3f}, required {row.bound}"
            yield f"  misses {row.concept}.{row.behaviour}: {figure}"[:80]
        for concept, behaviour in dict.fromkeys((row.concept, row.behaviour) for row in self.left_out):
            rows = [row for row in self.left_out if (row.concept, row.behaviour) == (concept, behaviour)]
            worst = next((row for row in rows if row.passed is False), rows[0])
            figure = f"{worst.check} {worst.value:.3f}, required {worst.bound}"
            yield f"left out {concept}.{behaviour}: {figure}"[:80]


@dataclass(frozen=True)
class Effort:
    """How much is measured; `QUICK` is a subsample for tests, judged by its figures without intervals."""

    pairs: int = 512
    single_pairs: int = ex.EFFECT_PAIRS
    probe_pairs: int = ex.PROBE_PAIRS
    shapley_pairs: int = 200
    free_sentences: int = 200
    halves: int = 4
    resamples: int = 1000  # of the bootstrap; 0: bounds are held against the figures themselves


FULL = Effort()
QUICK = Effort(pairs=160, single_pairs=24, shapley_pairs=40, halves=2, resamples=0)


@ex.one_thread()
def certify(
    folder: Path, *, quick: bool = False, effort: Effort | None = None, progress: ex.Progress = ex.silent
) -> Certificate:
    """Measure everything that `truth.json` of a glass-box claims, anew.

    Parameters
    ----------
    folder
        A glass-box model.
    quick
        Measure on a subsample: for tests, under 20 s.
    effort
        How much to measure, instead of the two presets.
    progress
        Receives a line for each behaviour.

    Raises
    ------
    InputError
        If the folder is a natural twin or no truth model, or one of its files is damaged.
    """
    folder = Path(folder)
    if not (folder / "truth.json").is_file() and files.read_twin(folder):
        of = files.glassbox_of(folder).name
        raise InputError(
            f"{folder.name} is the natural twin of {of} and claims nothing; certify {of} instead."
        )
    truth = files.read_truth(folder)
    effort = effort or (QUICK if quick else FULL)
    engine = ex.Engine(folder)
    pairs = {
        (concept, behaviour): files.read_pairs(folder, concept, behaviour)
        for concept, known in truth.concepts.items()
        for behaviour in known.behaviours
    }
    measured = ex.effects(engine, pairs, n=effort.single_pairs, n_probe=effort.probe_pairs, progress=progress)
    rows: list[Row] = []
    for concept, known in truth.concepts.items():
        progress(f"{folder.name} {concept}: shares")
        rows += _concept_rows(engine, truth, concept, known, pairs, measured, effort)
    for check, value, low, high in leaks(engine, truth):
        rows.append(
            Row(folder.name, WHOLE, WHOLE, check, value, low, high, "no verdict with one model", None)
        )
    return Certificate(folder.name, tuple(rows), _stored_left_out(folder))


def _stored_left_out(folder: Path) -> tuple[Row, ...]:
    """What the stored certificate lists as left out; nothing where there is none yet."""
    path = folder / "certificate.json"
    if not path.is_file():
        return ()
    try:
        return tuple(Row(**row) for row in files.read_json(path).get("left_out", ()))
    except (TypeError, AttributeError):
        raise InputError(f"{path} is not a certificate. Restore {folder.name}/ as it was shipped.") from None


def certificate_json(
    certificate: Certificate, model_sha256: str, notes: Mapping[str, object]
) -> dict[str, object]:
    """The contents of `certificate.json`."""

    def plain(row: Row) -> dict[str, object]:
        return {key: round(one, 5) if isinstance(one, float) else one for key, one in asdict(row).items()}

    return {
        "schema": 1,
        "model": certificate.model,
        "model_sha256": model_sha256,
        "rows": [plain(row) for row in certificate.rows],
        "left_out": [plain(row) for row in certificate.left_out],
        **notes,
    }


def _concept_rows(
    engine: ex.Engine,
    truth: files.Truth,
    concept: str,
    known: files.ConceptTruth,
    pairs: Mapping[tuple[str, str], Sequence[grammar.Pair]],
    measured: Mapping[str, np.ndarray],
    effort: Effort,
) -> list[Row]:
    rows: list[Row] = []
    add = _adder(rows, engine.folder.name, concept)
    carriers = known.carriers()
    mine = mask_of(engine, carriers)
    means = ex.concept_means(engine, concept, list(known.behaviours), effort.probe_pairs)
    own = {behaviour: pairs[concept, behaviour] for behaviour in known.behaviours}
    figures = list(dc.matching_figures(engine, concept, known, effort.probe_pairs))
    for behaviour, some in own.items():
        bench = Bench(engine, some[: effort.pairs], mine)
        _behaviour_rows(add, bench, behaviour, concept, means, effort)
        figures += dc.effect_figures(bench, behaviour, known, means)
        _share_rows(add, Bench(engine, some[: effort.shapley_pairs], mine), behaviour, known)
        _single_rows(add, engine, behaviour, concept, known, measured)
    _oracle_rows(add, engine, concept, known, measured)
    _free_rows(add, engine, concept, mine, effort)
    for behaviour in (*known.behaviours, WHOLE):
        for one in dc.worst(figures, behaviour):
            add(behaviour, one.check, one.value, f"<= {one.most:g}", one.value <= one.most)
    count, share, ratio = dc.natural_decoys(engine, concept, known, own, effort.probe_pairs)
    add(WHOLE, "natural decoys", count, "a count", None)
    add(WHOLE, "natural decoys, share", share, "published", None)
    if ratio is not None:
        add(WHOLE, "natural decoys, probe", ratio, ">= .9 of the used", ratio >= 0.9)
    return rows


def _adder(rows: list[Row], model: str, concept: str):
    def add(
        behaviour: str,
        check: str,
        value: float,
        bound: str,
        passed: bool | None,
        interval: tuple[float, float] | tuple[None, None] = (None, None),
    ) -> None:
        verdict = None if passed is None else bool(passed)
        rows.append(Row(model, concept, behaviour, check, float(value), *interval, bound, verdict))

    return add


def _behaviour_rows(add, bench: Bench, behaviour: str, concept: str, means: Tensor, effort: Effort) -> None:
    """Intact behaviour, and what moves it: carriers, everything else, random halves, carriers at mean."""
    n, shape = len(bench.pairs), (len(bench.pairs), *bench.carriers.shape)
    generator = torch.Generator().manual_seed(0)
    source_margin = bench.intact - bench.whole
    accuracy = float(np.mean(np.concatenate([bench.intact > 0, source_margin < 0])))
    add(behaviour, "accuracy", accuracy, ">= .99", accuracy >= 0.99)
    low, high = interval(lambda at: bench.intact[at].mean(), n, effort.resamples)
    add(behaviour, "margin", bench.intact.mean(), ">= 3 nats", bench.intact.mean() >= 3, (low, high))

    def share(check: str, moved: np.ndarray, least: float, most: float) -> None:
        low, high = interval(lambda at: moved[at].mean() / bench.whole[at].mean(), n, effort.resamples)
        value = moved.mean() / bench.whole.mean()
        add(behaviour, check, value, f"in [{least:g}, {most:g}]", least <= low and high <= most, (low, high))

    mine = bench.at_last[:, None] & bench.carriers[None, :, None]  # (B, L, T, F)
    every = torch.ones(shape, dtype=torch.bool)
    some = torch.rand(shape, generator=generator) < torch.rand(n, 1, 1, generator=generator)
    share("carried by used", bench.moved(bench.carriers), 0.90, 1.10)
    share("used and random others", bench.moved(mine | bench.everywhere(some)), 0.88, 1.10)
    share("all neurons", bench.moved(mine | bench.everywhere(every)), 0.88, 1.10)
    rest = 0.15 if (concept, behaviour) in grammar.MEETING else 0.10
    share("everything else", bench.moved(bench.everywhere(every)), -rest, rest)
    halves = [
        bench.moved(bench.everywhere(torch.rand(shape, generator=generator) < 0.5))
        for _ in range(effort.halves)
    ]
    share("random halves of the others", max(halves, key=lambda moved: abs(moved.mean())), -0.08, 0.08)
    at_mean = np.abs(bench.margin(bench.carriers, _spread(means, bench)))
    low, high = interval(lambda at: at_mean[at].mean() / bench.intact[at].mean(), n, effort.resamples)
    add(behaviour, "used at mean", at_mean.mean() / bench.intact.mean(), "<= .15", high <= 0.15, (low, high))


def _spread(means: Tensor, bench: Bench) -> list[Tensor]:
    return [means[layer].expand_as(bench.base[layer]) for layer in range(bench.engine.n_layers)]


def _share_rows(add, bench: Bench, behaviour: str, known: files.ConceptTruth) -> None:
    """No free rider among the carriers, and each one's weight as stated."""
    found = shapley(bench, known.carriers())
    floor = 0.4 / len(found)
    add(
        behaviour, "smallest used share", min(found.values()), f">= {floor:.3f}", min(found.values()) >= floor
    )
    off = {
        name: abs(known.neurons[name].weights.get(behaviour, np.inf) - share) for name, share in found.items()
    }
    add(behaviour, "stated weights", max(off.values()), "within .03", max(off.values()) <= 0.03)


def _single_rows(
    add, engine: ex.Engine, behaviour: str, concept: str, known: files.ConceptTruth, measured
) -> None:
    effect = np.abs(measured[f"{concept}.{behaviour}.interchange"])
    others = ~mask_of(engine, known.carriers()).flatten().numpy()
    worst = effect[others].max()
    add(behaviour, "largest single other", worst, "<= .05", worst <= 0.05)


def _oracle_rows(add, engine: ex.Engine, concept: str, known: files.ConceptTruth, measured) -> None:
    """Over all behaviours no other neuron reaches the smallest used one: the exhaustive oracle is right."""
    effect = np.mean(
        [measured[f"{concept}.{behaviour}.interchange"] for behaviour in known.behaviours], axis=0
    )
    effect, used = np.abs(effect), mask_of(engine, known.carriers()).flatten().numpy()
    gap = effect[used].min() - effect[~used].max()
    add(WHOLE, "smallest used above every other", gap, "> 0", gap > 0)
    relevant = used[np.argsort(-effect, kind="stable")]
    precision = np.cumsum(relevant) / np.arange(1, len(relevant) + 1)
    oracle = precision[relevant].mean()
    add(WHOLE, "oracle AP", oracle, ">= .95", oracle >= 0.95)


def _free_rows(add, engine: ex.Engine, concept: str, carriers: Tensor, effort: Effort) -> None:
    """At each position of free twin sentences: everything from the other twin but the carriers there."""
    rng = Random(f"free.{concept}")
    bases, sources = [], []
    while len(bases) < effort.free_sentences:
        sentence = grammar.draw(rng, concept)
        if sentence.split(concept) == "eval":
            bases.append(" ".join(sentence.words()))
            sources.append(" ".join(sentence.twin(concept).words()))
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
        patched = engine.run(ids[rows], edits)[0][:, position].log_softmax(-1)
        target = base_logits[rows, position].log_softmax(-1)
        other = source_logits[rows, position].log_softmax(-1)
        moved.append((target.exp() * (target - patched)).sum(-1))
        whole.append((target.exp() * (target - other)).sum(-1))
    moved, whole = torch.cat(moved).double().numpy(), torch.cat(whole).double().numpy()
    ratio = moved.mean() / whole.mean()
    add(WHOLE, "free twins, mean divergence", ratio, "<= .02", ratio <= 0.02)
    tail = np.quantile(moved, 0.99) / np.quantile(whole, 0.99)
    add(WHOLE, "free twins, 99th percentile", tail, "<= .03", tail <= 0.03)
