"""Gate: have any numbers got worse? Two tiers, exact reproduction first, then paired statistics.

A cell that reproduces to nine digits passes. Where it does not, the change of each score is set against its own
clustered standard error, with a bar that rises with the number of scores looked at; and the mean change of each
method on each metric against a bar of its own, for many small drops that no single cell shows. Forward and
backward passes are counted, not timed: they are gated too.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from nibench.errors import InputError
from nibench.record import Cost, Record, ScoreRecord
from nibench.resampling import ratio_of
from nibench.stored import Stored, read_results
from nibench.uncertainty import ratio_se

if TYPE_CHECKING:
    from rich.table import Table

Verdict = Literal["fail", "warn", "pass"]
EXACT = 1e-9  # relative: what counts as reproduced
LEAST = 0.005  # of a score between 0 and 1: less is no regression, however sure
LEVEL = 0.01  # chance of any false alarm, over all scores looked at
POWER_Z = 0.84  # 80 % power
MORE_PASSES, SLOWER = 1.05, 1.5
SHORT = 1.0  # seconds: under that a clock says nothing
MUST_MATCH = ("task", "data", "model", "budget")  # without the same input there is nothing to compare


@dataclass(frozen=True)
class Change:
    """One number that is not what it was.

    ``change`` is oriented: negative is worse. ``bar``: what it would have to fall below to fail. ``se``: of the
    change, over clusters; None where the records hold none. ``detectable``: the drop this cell would have shown
    with 80 % power.
    """

    verdict: Verdict
    where: str
    metric: str
    before: float | None
    after: float | None
    change: float | None
    bar: float | None
    se: float | None = None
    detectable: float | None = None
    why: str = ""


@dataclass(frozen=True)
class Gate:
    """What came of a comparison.

    Attributes
    ----------
    reproduced : how many cells are what they were, to nine digits.
    changes : every number that is not, the worst first.
    impossible : why some cells could not be compared.
    notes : cells that are new, and what a reader should know.
    """

    cells: int
    reproduced: int
    changes: tuple[Change, ...]
    impossible: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def exit_code(self) -> int:
        """1 for a regression, 2 where something could not be compared, 0 for neither."""
        if any(change.verdict == "fail" for change in self.changes):
            return 1
        return 2 if self.impossible else 0

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain JSON."""
        return {"verdict": self.verdict, "exit_code": self.exit_code, **asdict(self)}

    def table(self, rows: int = 15) -> "Table":
        """The worst changes, 80 columns wide."""
        from rich.table import Table
        from rich.text import Text

        table = Table(
            box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold", caption_justify="left"
        )
        for name in ("", "cell", "metric", "before", "after", "change", "bar"):
            words = name in ("", "cell", "metric")
            table.add_column(
                name, justify="left" if words else "right", overflow="fold", no_wrap=name == "metric"
            )
        for one in self.changes[:rows]:
            digits = ((one.before, 3), (one.after, 3), (one.change, 2), (one.bar, 2))
            numbers = ("–" if value is None else f"{value:.{n}g}" for value, n in digits)
            where = " · ".join(one.where.rpartition("-")[0].split("--")) if "--" in one.where else one.where
            words = f"{where} ({one.why})" if one.why else where
            table.add_row(one.verdict, Text(words), Text(one.metric), *numbers)
        more = len(self.changes) - rows
        table.caption = f"and {more} more (--json has all)" if more > 0 else None
        return table

    @property
    def verdict(self) -> str:
        """The outcome in a sentence."""
        counts = {kind: sum(one.verdict == kind for one in self.changes) for kind in ("fail", "warn", "pass")}
        words = f"{self.reproduced} of {self.cells} cells reproduce to nine digits"
        if self.changes:
            words += f"; {counts['fail']} regressions, {counts['warn']} warnings, {counts['pass']} harmless changes"
        if self.impossible:
            words += f"; {len(self.impossible)} cells could not be compared"
        moved = any(not one.metric.startswith("cost.") for one in self.changes)
        meant = " If the changes are meant, make the baseline again." if moved and not self.exit_code else ""
        return f"{('Pass', 'Regression', 'Could not compare')[self.exit_code]}: {words}.{meant}"


def gate(baseline: Path, results: Path, *, partial: bool = False) -> Gate:
    """Compare the records of two results folders or archives, cell by cell.

    Parameters
    ----------
    partial : compare only the cells that ``results`` holds; else a cell of the baseline that is missing there is one
        that could not be compared.

    Raises
    ------
    InputError
        If a folder holds no records, or a file is not whole or of another schema.
    """
    for folder in (baseline, results):
        if not folder.exists():
            raise InputError(
                f"There is no folder {folder}. Make records: nibench run --out {folder}; "
                "then nibench gate --baseline DIR --results DIR."
            )
    before = {stored.record.cell.stem: stored for stored in read_results([baseline])}
    after = {stored.record.cell.stem: stored for stored in read_results([results])}
    return compare({stem: one for stem, one in before.items() if stem in after or not partial}, after)


def compare(before: Mapping[str, Stored], after: Mapping[str, Stored]) -> Gate:
    """The gate on records by the stem of their cells."""
    impossible, notes, reproduced = [], [], 0
    changes: list[Change] = []
    moved: list[_Moved] = []
    for stem, old in sorted(before.items()):
        new = after.get(stem)
        if new is None:
            impossible.append(f"{stem}: no such record now (was the cell run? --partial skips it)")
            continue
        differing = [name for name in MUST_MATCH if _digest(old.record, name) != _digest(new.record, name)]
        if differing:
            impossible.append(f"{stem}: made from another {' and '.join(differing)} than the baseline")
            continue
        changes += _status(stem, old.record, new.record) + _cost(stem, old.record.cost, new.record.cost)
        if not old.record.status == new.record.status == "ok":
            reproduced += old.record.status == new.record.status
            continue
        found = [_moved(stem, score, old, new) for score in old.record.scores if score.direction]
        there = [one for one in found if one is not None]
        reproduced += not any(one.differs for one in there)
        moved += there
        if _scores_differ(old, new) and not any(one.differs for one in there):
            notes.append(f"{stem}: the method's scores changed, its measured order did not")
    new_cells = sorted(set(after) - set(before))
    if new_cells:
        notes.append(f"{len(new_cells)} cells are not in the baseline: {new_cells[0]} ...")
    changes += (
        _judged([one for one in moved if one.differs], len(moved)) + _means(moved) + _slower(before, after)
    )
    order = {"fail": 0, "warn": 1, "pass": 2}
    ranked = sorted(
        changes, key=lambda one: (order[one.verdict], one.change if one.change is not None else -9.0)
    )
    return Gate(len(before), reproduced, tuple(ranked), tuple(impossible), tuple(notes))


@dataclass(frozen=True)
class _Moved:
    """One score then and now."""

    stem: str
    method: str
    metric: str
    before: float
    after: float
    change: float  # oriented: negative is worse
    least: float
    se: float | None

    @property
    def differs(self) -> bool:
        return abs(self.after - self.before) > EXACT * max(1.0, abs(self.before))


def _moved(stem: str, score: ScoreRecord, old: Stored, new: Stored) -> "_Moved | None":
    """How far a score moved, with the standard error of the move; None where it is new or gone for good reason."""
    now = new.record.score(score.id)
    if now is None or not math.isfinite(score.value):
        return None
    se = None if score.se is None else math.sqrt(2) * score.se  # two independent scores differ by no more
    was, now_is = (ratio_of(stored.record, stored.arrays, score.id) for stored in (old, new))
    if was is not None and now_is is not None and np.array_equal(was.ids, now_is.ids) and len(was.ids) > 1:
        se = ratio_se(now_is.above - was.above, was.below)  # paired: the same sentences
    least = max(LEAST, 2 / score.n_items) if score.n_items else LEAST
    change = score.direction * (now.value - score.value)
    return _Moved(stem, old.record.cell.label, score.id, score.value, now.value, change, least, se)


def _judged(moved: Sequence[_Moved], looked_at: int) -> list[Change]:
    """Every score that moved, against its own noise; the bar rises with the number of scores looked at."""
    bar = _z(looked_at)
    return [
        _change(one.stem, one.metric, one.before, one.after, one.change, one.least, one.se, bar)
        for one in moved
    ]


def _change(
    where: str,
    metric: str,
    before: float,
    after: float,
    change: float,
    least: float,
    se: float | None,
    z: float,
) -> Change:
    noise = se or 0.0
    fails, warns = -max(least, z * noise), -max(least / 2, 2 * noise)
    verdict: Verdict = "fail" if change < fails else "warn" if change < warns else "pass"
    detectable = (z + POWER_Z) * noise if se is not None else None
    blunt = verdict != "fail" and detectable is not None and detectable > 5 * least
    why = f"blunt: only drops over {detectable:.2f} show" if blunt else ""
    return Change(verdict, where, metric, before, after, change, fails, se, detectable, why)


def _means(moved: Iterable[_Moved]) -> list[Change]:
    """The mean change of each method on each metric, over its cells: many small drops are one large."""
    groups: dict[tuple[str, str], list[_Moved]] = defaultdict(list)
    for one in moved:
        groups[one.method, one.metric].append(one)
    several = {
        key: found for key, found in groups.items() if len(found) > 1 and any(m.differs for m in found)
    }
    z = _z(len(groups))
    changes = []
    for (method, metric), found in sorted(several.items()):
        errors = [one.se or 0.0 for one in found]
        before, after, change = np.array([[one.before, one.after, one.change] for one in found]).mean(axis=0)
        se = float(np.sqrt(np.square(errors).sum())) / len(found)
        where = f"{method}: mean of {len(found)} cells"
        changes.append(_change(where, metric, float(before), float(after), float(change), LEAST, se, z))
    return [change for change in changes if change.verdict != "pass"]


def _z(looked_at: int) -> float:
    from scipy.stats import norm

    return float(norm.isf(LEVEL / max(1, looked_at)))


def _status(stem: str, old: Record, new: Record) -> list[Change]:
    """A cell that ran and does not any more has failed, however it scored; the scores that are gone, too."""
    if old.status != new.status:
        verdict: Verdict = "fail" if old.status == "ok" else "pass"
        why = f"{old.status} before, {new.status} now: {new.reason}" if new.reason else f"{old.status} before"
        return [Change(verdict, stem, "status", None, None, None, None, why=why)]
    gone = [score.id for score in old.scores if score.direction and new.score(score.id) is None]
    return [Change("fail", stem, name, None, None, None, None, why="not measured any more") for name in gone]


def _cost(stem: str, old: Cost | None, new: Cost | None) -> list[Change]:
    if old is None or new is None:
        return []
    before, after = (cost.forward + 2 * cost.backward for cost in (old, new))
    if after <= before * MORE_PASSES:
        return []
    why = f"over {MORE_PASSES - 1:.0%} more passes"
    return [
        Change("fail", stem, "cost.feq", before, after, before - after, before * (1 - MORE_PASSES), why=why)
    ]


def _slower(before: Mapping[str, Stored], after: Mapping[str, Stored]) -> list[Change]:
    """A method whose cells took half as long again in all: a warning, for clocks differ between machines."""
    seconds: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for stem in set(before) & set(after):
        costs = [stored.record.cost for stored in (before[stem], after[stem])]
        for side, cost in enumerate(costs):
            seconds[before[stem].record.cell.label][side] += cost.seconds if cost is not None else 0.0
    return [
        Change("warn", method, "cost.seconds", old, new, old - new, old * (1 - SLOWER), why="clocks differ")
        for method, (old, new) in sorted(seconds.items())
        if new > SHORT and new > old * SLOWER
    ]


def _digest(record: Record, name: str) -> str:
    return record.digests.get(name, "")


def _scores_differ(old: Stored, new: Stored) -> bool:
    """Whether the method gave the neurons other scores; a slim record does not know."""
    if not (old.arrays and new.arrays):
        return False
    a, b = old.arrays.get("scores"), new.arrays.get("scores")
    if a is None or b is None or a.shape != b.shape:
        return a is not b
    return not np.allclose(a, b, rtol=EXACT, atol=0, equal_nan=True)
