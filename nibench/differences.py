"""Differences: whether a submitted record is what its own arrays, its own ranking and its own method give."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from nibench.gate import LEAST, compare
from nibench.recompute import recompute
from nibench.resampling import PARTS, slope
from nibench.stored import Stored

EXACT = 1e-6  # relative: what a record and the arrays beside it may differ by
REPRODUCED = 1e-4  # relative, of each neuron's score: another machine's rounding
RANKED_ALIKE = 0.8  # rank correlation
SURE = 4.0  # standard errors
ALIKE = ("status", "concept", "classes", "tier", "lineage", "n_neurons")


def edited(stored: Stored) -> list[str]:
    """Scores of a record that do not follow from the arrays beside it."""
    record, arrays = stored.record, stored.arrays
    if record.status != "ok":
        return []
    try:
        again = recompute(record, arrays)
    except (KeyError, IndexError, ValueError, TypeError) as error:
        return [f"{record.cell.stem}: its arrays are not those of a run ({type(error).__name__}: {error})"]
    problems = []
    for score in record.scores:
        kept = score.id in PARTS or any(name.startswith(f"{score.id}/") for name in arrays)
        found = again.get(score.id)
        if found is None and kept and score.direction:
            problems.append(f"{score.id} says {score.value:.7g}, which its arrays do not give")
        elif found is not None and not _close(score.value, found[0]):
            problems.append(f"{score.id} says {score.value:.7g}, its arrays give {found[0]:.7g}")
        elif found is not None and not _close(score.normalised, found[1]):
            problems.append(f"{score.id} says {score.normalised} of its scale, its arrays give {found[1]}")
    return [f"{record.cell.stem}: edited: {problem}" for problem in problems]


def _close(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return abs(a - b) <= EXACT * max(1.0, abs(a)) or (math.isnan(a) and math.isnan(b))


def differences(submitted: Stored, measured: Stored) -> list[str]:
    """Where a record is not what we measure from the ranking that lies beside it.

    The ranking is the same, so only rounding is put up with: on another machine a probe may turn over on an item
    or two of those that are undecided.
    """
    theirs, ours = submitted.record, measured.record
    stem = theirs.cell.stem
    for name in ALIKE:
        a, b = getattr(theirs, name), getattr(ours, name)
        if a != b:
            why = f" ({ours.reason})" if name == "status" and ours.reason else ""
            return [f"{stem}: {name} is {a!r}, measured here {b!r}{why}"]
    if theirs.status != "ok":
        return []
    if not set(ours.flags) <= set(theirs.flags):
        return [f"{stem}: lacks the flag {sorted(set(ours.flags) - set(theirs.flags))[0]!r}"]
    if theirs.top != ours.top:
        return [f"{stem}: the neurons it names first are not those of its scores"]
    scores = [{one.id: one for one in record.scores} for record in (theirs, ours)]
    if set(scores[0]) != set(scores[1]):
        return [
            f"{stem}: has the scores {', '.join(sorted(set(scores[0]) ^ set(scores[1])))} too many or too few"
        ]
    problems = []
    for metric, mine in scores[1].items():
        least = max(LEAST, 2 / mine.n_items) if mine.n_items else LEAST
        a, b = (dict(_flat(json.loads(one[metric].model_dump_json()))) for one in scores)
        for path in sorted({*a, *b}, key=str):
            steep = max(1.0, abs(slope(mine) or 1.0)) if path[0] == "normalised" else 1.0
            if path[0] != "flags" and not _within(a.get(path), b.get(path), least * steep):
                where = f"{metric} {' '.join(path)}".removesuffix(" value")
                problems.append(f"{stem}: made up: {where} is {a.get(path)}, measured here {b.get(path)}")
                break
    return problems or _arrays(stem, submitted.arrays, measured.arrays)


def _flat(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The leaves of a JSON value, each with the way to it."""
    parts = (
        value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else None
    )
    if parts is None:
        yield path, value
    else:
        for name, part in parts:
            yield from _flat(part, (*path, str(name)))


def _within(a: Any, b: Any, least: float) -> bool:
    if isinstance(a, bool | str | None) or isinstance(b, bool | str | None):
        return a == b
    if not (math.isfinite(a) and math.isfinite(b)):
        return a == b or (math.isnan(a) and math.isnan(b))
    return abs(a - b) <= least * max(1.0, abs(b))


def _arrays(stem: str, theirs: Mapping[str, np.ndarray], ours: Mapping[str, np.ndarray]) -> list[str]:
    """Arrays that are not ours: intervals and bands are made of them."""
    for name in sorted({*theirs, *ours}):
        a, b = theirs.get(name), ours.get(name)
        if a is None or b is None or a.shape != b.shape or a.dtype != b.dtype:
            return [f"{stem}: made up: the arrays {name} are of another kind than those measured here"]
        if b.dtype.kind != "f":
            if not np.array_equal(a, b):
                return [f"{stem}: made up: the arrays {name} are not those measured here"]
            continue
        apart, known = (a != b) & ~(np.isnan(a) & np.isnan(b)), np.isfinite(a) & np.isfinite(b)
        gap = np.abs(a[apart & known] - b[apart & known]).sum()
        if (apart & ~known).any() or gap > LEAST * max(1.0, np.abs(b[known]).sum()):
            return [f"{stem}: made up: the arrays {name} are not those measured here"]
    return []


def unlike(submitted: Mapping[str, Stored], again: Mapping[str, Stored]) -> list[str]:
    """What does not come out again when the method is: better or worse, for a made-up number may be either.

    A ranking that agrees score by score has come out again, whatever near-ties do to a metric. Of any other both
    must hold: the neurons are ranked alike, and no metric moved by more than its noise.
    """
    problems, same = [], set()
    for stem, one in again.items():
        if one.record.status == submitted[stem].record.status == "ok":
            before, after = submitted[stem].arrays["scores"], one.arrays["scores"]
            if np.array_equal(before, after) or np.allclose(before, after, rtol=REPRODUCED, atol=1e-12):
                same.add(stem)
            elif (alike := _rank_correlation(before, after)) < RANKED_ALIKE:
                words = f"the neurons are ranked otherwise (rank correlation {alike:.2f})"
                problems.append(f"{stem}: does not come out again: {words}")
    for one in compare(submitted, again).changes:
        values = f"{one.metric} is {one.before}, run again {one.after}" if one.before is not None else one.why
        if one.metric.startswith("cost."):
            wrong = one.verdict == "fail"
        elif one.change is None:
            wrong = True
        else:
            wrong = one.where not in same and abs(one.change) > max(LEAST, SURE * (one.se or 0.0))
        if wrong:
            problems.append(f"{one.where}: does not come out again: {values}")
    return problems


def _rank_correlation(a: np.ndarray, b: np.ndarray) -> float:
    """Spearman's, ties at their mean rank; 0 where only one of the two is constant."""
    from scipy.stats import rankdata

    first, second = (rankdata(values) - (len(values) + 1) / 2 for values in (a, b))
    norm = float(np.sqrt((first**2).sum() * (second**2).sum()))
    return float(first @ second) / norm if norm else float(np.array_equal(first, second))
