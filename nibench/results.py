"""Results: the records of some results folders, checked to belong together and sorted into cells.

Records of different versions of a task, its data, a model or a method never share a board: the numbers
would not be comparable, and nothing on the page would show it.
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from nibench.axes import FLAGGING
from nibench.errors import InputError
from nibench.record import Card, Cell, Record, ScoreRecord, digest_of
from nibench.resampling import Contrast, Ratio, contrast_of, ratio_of, slope
from nibench.stored import Stored
from nibench.submitted import Standing
from nibench.uncertainty import N_DRAWS

HOW = ("site", "layers", "aggregation", "cap")
Status = Literal["ok", "failed", "not_applicable", "missing"]
MIN_SEEDS = 3  # fewer say nothing of the spread between seeds


TIERS = {  # whose neurons are known, from planted to natural
    "world": "sampled activations, no model",
    "glass-box": "a trained model with known neurons",
    "middle": "between a glass-box and its twin",
    "twin": "the natural twin of a glass-box",
    "graft": "neurons planted in a given model",
    "language model": "a natural model, every neuron tried",
}


@dataclass(frozen=True, order=True)
class Place:
    """What methods are compared on: one task in one model, with how it was read."""

    model: str  # "" for tasks that are sampled and need no model
    task: str
    detail: str = ""  # dials; site, layers, aggregation, cap, where a task occurs in more than one way

    @property
    def label(self) -> str:
        return " · ".join(part for part in (self.task, self.model, self.detail) if part)


@dataclass(frozen=True)
class Results:
    """Records that may share a board, sorted into method x place; several seeds make one cell."""

    cards: Mapping[str, Card]  # method -> card, in alphabetical order
    cells: Mapping[tuple[str, Place], tuple[Stored, ...]]
    controls: "Mapping[str, Results]" = field(default_factory=dict)  # where the chain was broken -> its cells
    repeated: int = 0  # cells that were there with several budgets; the first given is kept
    hidden: "Results | None" = None  # cells scored against a truth that was kept; on no board

    @cached_property
    def places(self) -> tuple[Place, ...]:
        return tuple(sorted({place for _, place in self.cells}))

    @cached_property
    def tasks(self) -> tuple[str, ...]:
        return tuple(sorted({place.task for place in self.places}))

    @cached_property
    def models(self) -> tuple[str, ...]:
        return tuple(sorted({place.model for place in self.places}))

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know of the records as a whole."""
        versions: dict[str, set[str]] = defaultdict(set)
        for stored in self.stored:
            for package, version in stored.record.versions.items():
                versions[package].add(version)
        mixed = [
            f"Records were made with {len(found)} versions of {package}: {', '.join(sorted(found))}."
            for package, found in sorted(versions.items())
            if len(found) > 1
        ]
        if self.repeated:
            mixed.append(
                f"{self.repeated} cells were measured with several budgets of prompts and draws: shown is the "
                "first of the folders given."
            )
        return tuple(mixed)

    @cached_property
    def metrics(self) -> Mapping[str, frozenset[str]]:
        """Per method what any of its cells was scored on."""
        found: dict[str, set[str]] = {method: set() for method in self.cards}
        for (method, _), seeds in self.cells.items():
            found[method].update(score.id for stored in seeds for score in stored.record.scores)
        return {method: frozenset(ids) for method, ids in found.items()}

    def lineage(self, place: Place) -> str:
        """What was planted once: the truth model (a twin's, too), else the model, else the task itself."""
        return self._once(self._of_place, "lineage", place, "") or place.model or place.task

    def tier(self, place: Place) -> str:
        """What the neurons belong to: world, glass-box, middle, twin ...; empty where it is not known."""
        return self._once(self._of_place, "tier", place, "")

    def _of_place(self, name: str, place: Place, _: str) -> str:
        found = (
            getattr(stored.record, name)
            for method in self.cards
            for stored in self.cells.get((method, place), ())
        )
        return next(filter(None, found), "")

    def oracle(self, place: Place, metric: str) -> float | None:
        """What the exact oracle scores here, on the scale from random to ceiling; None where not known."""
        for method in self.cards:
            for score in self.scores(method, place, metric):
                value, scale = score.details.get("oracle"), slope(score)
                if value is not None and scale is not None and score.normalised is not None:
                    return score.normalised + scale * (value - score.value)
        return None

    def standing(self, method: str) -> Standing | None:
        """Of a submission: verified, rankings only or self-reported; None for a method that was run here."""
        seeds = (stored for (name, _), of_cell in self.cells.items() if name == method for stored in of_cell)
        return next((stored.standing for stored in seeds if stored.standing is not None), None)

    @property
    def stored(self) -> Iterable[Stored]:
        for seeds in self.cells.values():
            yield from seeds

    @cached_property
    def _memo(self) -> dict[tuple[str, str, Place, str], Any]:
        return {}

    def _once(self, make: Callable[[str, Place, str], Any], method: str, place: Place, metric: str) -> Any:
        key = (make.__name__, method, place, metric)
        if key not in self._memo:
            self._memo[key] = make(method, place, metric)
        return self._memo[key]

    def scores(self, method: str, place: Place, metric: str) -> list[ScoreRecord]:
        """The scores of this metric, one per seed that has it."""
        found = (stored.record.score(metric) for stored in self.cells.get((method, place), ()))
        return [score for score in found if score is not None]

    def status(self, method: str, place: Place) -> Status:
        """Of the cell: failed if any seed failed."""
        found = {stored.record.status for stored in self.cells.get((method, place), ())}
        if not found:
            return "missing"
        return "failed" if "failed" in found else "ok" if "ok" in found else "not_applicable"

    def known(self, place: Place, metric: str) -> Literal["scaled", "unscaled", "unknown"]:
        """Whether any method has the metric here, and with a scale from random to ceiling."""
        return self._once(self._known, "", place, metric)

    def _known(self, _: str, place: Place, metric: str) -> Literal["scaled", "unscaled", "unknown"]:
        found = [score for method in self.cards for score in self.scores(method, place, metric)]
        if any(score.normalised is not None for score in found):
            return "scaled"
        return "unscaled" if found else "unknown"

    def normalised(self, method: str, place: Place, metric: str) -> float | None:
        """Mean over seeds of the normalised score; of a metric that only flags, of its plain value.

        A failed seed counts as a random ranking; None where nothing is known.
        """
        return self._once(self._normalised, method, place, metric)

    def draws(self, method: str, place: Place, metric: str) -> np.ndarray | None:
        """(N_DRAWS,) draws of that mean over sentences; None where records do not allow it.

        The spread of three or more seeds is added: its variance is that of the sentences plus ``seed_se`` squared.
        """
        return self._once(self._drawn, method, place, metric)

    def effects(self, method: str, place: Place, metric: str) -> tuple[np.ndarray, np.ndarray] | None:
        """Digests of the sentences (G,), and what each adds to ``normalised``, (G,); None as for ``draws``."""
        return self._once(self._effects, method, place, metric)

    def seed_se(self, method: str, place: Place, metric: str) -> float:
        """Standard error of ``normalised`` that the seeds make: s / sqrt(S); 0 with fewer than three."""
        values = self._of_seeds(method, place, metric)
        return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) >= MIN_SEEDS else 0.0

    def _of_seeds(self, method: str, place: Place, metric: str) -> list[float]:
        values = []
        for stored in self.cells.get((method, place), ()):
            found = _shown(stored.record.score(metric), metric)
            if stored.record.status == "failed":
                values.append(FLAGGING.get(metric, 0.0))
            elif found is not None:
                values.append(found)
        return values

    def _normalised(self, method: str, place: Place, metric: str) -> float | None:
        values = self._of_seeds(method, place, metric)
        return sum(values) / len(values) if values else None

    def _ratios(
        self, method: str, place: Place, metric: str
    ) -> list[tuple[float, float, Ratio | Contrast | None]] | None:
        """Per seed what is shown, how much it changes with the plain value, and that as ratios of sums."""
        found: list[tuple[float, float, Ratio | Contrast | None]] = []
        for stored in self.cells.get((method, place), ()):
            if stored.record.status == "failed":
                found.append((FLAGGING.get(metric, 0.0), 0.0, None))
                continue
            score, beside = stored.record.score(metric), (stored.record, stored.arrays, metric)
            ratio = ratio_of(*beside) or contrast_of(*beside)
            shown = _shown(score, metric)
            scale = 1.0 if metric in FLAGGING else slope(score) if score is not None else None
            if shown is None or scale is None or ratio is None or ratio.draws is None:
                return None
            found.append((shown, scale, ratio))
        return found or None

    def _drawn(self, method: str, place: Place, metric: str) -> np.ndarray | None:
        found = self._ratios(method, place, metric)
        if found is None:
            return None
        of_each = [
            np.full(N_DRAWS, shown)
            if ratio is None or ratio.draws is None
            else shown + scale * (ratio.draws - ratio.value)
            for shown, scale, ratio in found
        ]
        draws, between = np.mean(of_each, axis=0), self.seed_se(method, place, metric)
        if between == 0:
            return draws
        own = int(digest_of([method, place.label, metric])[:15], 16)  # seeds of two methods are not paired
        return draws + between * np.random.default_rng(own).standard_normal(N_DRAWS)

    def _effects(self, method: str, place: Place, metric: str) -> tuple[np.ndarray, np.ndarray] | None:
        found = self._ratios(method, place, metric)
        if found is None:
            return None
        ids, effects = [], []
        for shown, scale, ratio in found:
            if ratio is not None:
                mine, added = ratio.effects(scale, shown)
                ids.append(mine)
                effects.append(added / len(found))
        if not ids:
            return np.zeros(0, dtype=np.uint64), np.zeros(0)
        return np.concatenate(ids), np.concatenate(effects)


def _shown(score: ScoreRecord | None, metric: str) -> float | None:
    """What a board shows of a score: normalised, of a metric that only flags the plain value."""
    if score is None:
        return None
    value = score.value if metric in FLAGGING else score.normalised
    return value if value is not None and math.isfinite(value) else None


def collect(stored: Iterable[Stored | Record]) -> Results:
    """Sort records into cells; refuse those that must not share a board.

    Raises
    ------
    InputError
        Naming the two records and which digest differs.
    """
    whole = [item if isinstance(item, Stored) else Stored(item) for item in stored]
    given = [item for item in whole if not item.record.cell.round]
    kept = [item for item in whole if item.record.cell.round]
    broken = sorted({item.record.cell.control for item in given if item.record.cell.control})
    controls = {
        name: _collect([item for item in given if item.record.cell.control == name]) for name in broken
    }
    known = _collect([item for item in given if not item.record.cell.control])
    return replace(known, controls=controls, hidden=_collect(kept) if kept else None)


def _collect(whole: Sequence[Stored]) -> Results:
    for item in whole:
        _require_digests(item.record)
    by_file: dict[str, Stored] = {}
    repeated: set[str] = set()
    for item in whole:
        other = by_file.setdefault(item.record.cell.stem, item).record
        if other.fingerprint != item.record.fingerprint and other.digests == item.record.digests:
            raise InputError(
                f"Two records of the cell {other.cell.stem}, made with different versions "
                f"({_difference(other.versions, item.record.versions)}). Give each its own results folder."
            )
        if other.digests.get("budget") != item.record.digests.get("budget"):
            repeated.add(other.cell.stem)
    records = [item.record for item in whole]
    _refuse_mixed(records, "task", lambda record: record.cell.task)
    _refuse_mixed(records, "model", lambda record: record.cell.model)
    _refuse_mixed(records, "data", lambda record: _where(record.cell))
    _refuse_mixed(records, "method", lambda record: (record.cell.method, record.cell.preset))
    methods, places = _method_labels(records), _places(records)
    cells: dict[tuple[str, Place], list[Stored]] = defaultdict(list)
    for stem in sorted(by_file):
        item = by_file[stem]
        cells[methods[_method_key(item.record.cell)], places[_where(item.record.cell)]].append(item)
    cards = {methods[_method_key(r.cell)]: r.card for r in sorted(records, key=lambda r: r.cell.stem)}
    found = {key: tuple(seeds) for key, seeds in cells.items()}
    return Results(dict(sorted(cards.items())), found, repeated=len(repeated))


# what may share a board


def _require_digests(record: Record) -> None:
    absent = [name for name in ("method", "task") if not record.digests.get(name)]
    if absent:
        raise InputError(f"The record {record.cell.stem} names no digest of its {absent[0]}: run it again.")


def _refuse_mixed(records: Sequence[Record], what: str, group: Callable[[Record], object]) -> None:
    seen: dict[object, Record] = {}
    for record in records:
        other = seen.setdefault(group(record), record)
        mine, theirs = (r.digests.get(what, "")[:12] or "unknown" for r in (record, other))
        if record.digests.get(what) != other.digests.get(what):
            raise InputError(
                f"Records of two versions of the {what} cannot share a board: {other.cell.stem} "
                f"({what} {theirs}) and {record.cell.stem} ({what} {mine}). "
                "Run the older cells again, or give each version its own results folder (--out)."
            )


def _difference(a: Mapping[str, str], b: Mapping[str, str]) -> str:
    names = [name for name in sorted({*a, *b}) if a.get(name) != b.get(name)]
    return (
        ", ".join(f"{name} {a.get(name, 'absent')} and {b.get(name, 'absent')}" for name in names)
        or "other parameters"
    )


def _where(cell: Cell) -> tuple[object, ...]:
    return cell.model, cell.task, cell.site, cell.layers, cell.aggregation, cell.cap


def _method_key(cell: Cell) -> tuple[str, str]:
    return cell.label, json.dumps(cell.parameters, sort_keys=True, default=str)


def _method_labels(records: Sequence[Record]) -> dict[tuple[str, str], str]:
    """Method and parameters -> the name shown; parameters are named where one method has several."""
    keys = {_method_key(record.cell) for record in records}
    several = {label for label, _ in keys if sum(other == label for other, _ in keys) > 1}
    return {key: f"{key[0]} {key[1]}" if key[0] in several else key[0] for key in keys}


def _places(records: Sequence[Record]) -> dict[tuple[object, ...], Place]:
    """Where a cell was measured -> its place, with the shortest names that keep places apart."""
    wheres = {_where(record.cell) for record in records}
    names = _model_names({str(where[0]) for where in wheres if where[0] is not None})
    several: dict[tuple[object, object], int] = defaultdict(int)
    for where in wheres:
        several[where[0], where[1]] += 1
    made = {}
    for where in wheres:
        model, task, *how = where
        parts = [f"{k} {v}" for k, v in zip(HOW, how, strict=True) if v is not None]
        stem, _, dials = str(task).partition("@")  # a world with its dials turned is still that world
        detail = [dials] * bool(dials) + (parts if several[model, task] > 1 else [])
        made[where] = Place(names[str(model)] if model is not None else "", stem, ", ".join(detail))
    return made


def _model_names(models: set[str]) -> dict[str, str]:
    stems = {model: Path(model).name for model in models}
    counts = list(stems.values())
    return {model: stem if counts.count(stem) == 1 else model for model, stem in stems.items()}
