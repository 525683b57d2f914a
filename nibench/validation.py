"""Validation: what a submission is worth. Malformed is an error; made up, edited or not reproduced is refused.

Three steps, each of which believes less. Every number must follow from the arrays beside it. Every record must be what
we measure ourselves from the ranking it holds: no code of the submission runs for that. And of the source, its
card and a random sample of its rankings must come out again in a confined process; those are compared as the
gate compares, in both directions.
"""

import json
import secrets
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nibench.confined import Limits, confined
from nibench.confined_job import Job
from nibench.differences import differences, edited, unlike
from nibench.disk import digest, write_atomic
from nibench.errors import InputError
from nibench.given import Extent, GivenFile, scored
from nibench.plan import Group, Plan
from nibench.record import Cell
from nibench.stored import Stored
from nibench.submissions import MethodFile, bundled, find_task
from nibench.submitted import (
    MANIFEST,
    STANDING,
    Standing,
    Submission,
    check_archive,
    read_cell,
    read_cells,
    read_submission,
)
from nibench.submitting import measured_rankings, require_free

LARGEST_TOLD = 2**20
OVERHEAD = 0.5  # of the time limit: for starting, and for reading the model


@dataclass(frozen=True)
class Verdict:
    """What came of a validation.

    Attributes
    ----------
    standing : None where the submission is refused.
    problems : why.
    rerun : the cells that were run again.
    notes : what was not checked, and why.
    """

    method: str
    standing: Standing | None
    problems: tuple[str, ...] = ()
    rerun: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    seed: int = 0

    @property
    def exit_code(self) -> int:
        return 1 if self.standing is None else 0

    def as_dict(self) -> dict[str, Any]:
        """All of it as plain JSON."""
        return {**asdict(self), "exit_code": self.exit_code}


def validate(
    folder: Path,
    *,
    rerun: int = 5,
    limits: Limits | None = None,
    seed: int | None = None,
    data: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Verdict:
    """Check a submission; where it stands, its ``standing.json`` says so.

    Parameters
    ----------
    rerun : cells that are run again, drawn by the submission's digest and ``seed``; 0 believes the rankings.
    limits : of each of them.
    seed : drawn if not given, so that nobody can submit what only the cells of the draw hold.
    data : folder of the labelled text, for suites that read any.

    Raises
    ------
    InputError
        If it is malformed: not the suite's cells, other versions, another number of neurons, paths, sizes.
    """
    submission = read_submission(folder)
    require_free(submission.method)
    (folder / STANDING).unlink(missing_ok=True)
    stored = {stem: Stored(*found) for stem, found in read_cells(folder, submission).items()}
    drawn = secrets.randbelow(2**31) if seed is None else seed
    verdict = _Validation(
        folder, submission, stored, rerun, limits or Limits(), drawn, data, on_progress
    ).verdict()
    if verdict.standing is not None:
        about = {"submission": digest(folder / MANIFEST), **verdict.as_dict()}
        write_atomic(folder / STANDING, (json.dumps(about, indent=1) + "\n").encode())
    return verdict


@dataclass(frozen=True)
class _Validation:
    folder: Path
    submission: Submission
    stored: Mapping[str, Stored]
    rerun: int
    limits: Limits
    seed: int
    data: str | None
    on_progress: Callable[[int, int], None] | None

    def verdict(self) -> Verdict:
        plan, unknown = self._plan()
        problems = [line for one in self.stored.values() for line in edited(one)]
        others = [stem for stem, one in self.stored.items() if one.record.card != self.submission.card]
        if others:
            more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
            problems.append(f"{others[0]}{more}: its card is not that of the submission")
        if problems or plan is None:
            return self._told("self-reported", problems, notes=[unknown] if unknown else [])
        if not self.submission.has_source:
            return self._told("rankings only", self._ranked())
        notes = self._beyond()
        chosen = [] if notes else self._sample(plan)
        with tempfile.TemporaryDirectory(prefix="nibench-") as name:
            again, found = self._run_again(chosen, Path(name))
            network = _told(Path(name) / "checks").get("network")
        problems += found or self._measured(plan, again)
        if not chosen:
            notes = notes or ["nothing was run again (--rerun 0, or no cell that the method applies to)"]
        elif network != "cut off":
            notes = ["the network was there while it ran; only the interpreter refused it"]
        return self._told("verified" if chosen else "self-reported", problems, chosen, notes)

    def _told(
        self,
        standing: Standing,
        problems: Sequence[str],
        rerun: Sequence["Planned"] = (),
        notes: Sequence[str] = (),
    ) -> Verdict:
        stems = tuple(cell.stem for _, cell in rerun)
        return Verdict(
            self.submission.method,
            None if problems else standing,
            tuple(problems),
            stems,
            tuple(notes),
            self.seed,
        )

    @property
    def extent(self) -> Extent:
        asked = self.submission
        return Extent(asked.suite, asked.models, asked.seeds, self.data, asked.cap)

    def _file(self, arrays: Mapping[str, np.ndarray] | None = None) -> GivenFile:
        stem, _, preset = self.submission.method.partition("@")
        path = self.folder.resolve() / self.submission.file
        return GivenFile(stem, path, preset or None, card=self.submission.card, arrays=arrays or {})

    def _plan(self) -> tuple[Plan | None, str]:
        """The suite's cells as they are now, which the records must be; None where data or a model is not here."""
        sources = [find_task(name).load().source for name in self.extent.asked.tasks]
        reads_data = any(one.fingerprint("a folder", None) != one.fingerprint(None, None) for one in sources)
        try:
            plan = self.extent.plan(self._file())
        except InputError as error:
            if not self.submission.models:  # what the suite names itself comes with nibench
                raise
            tasks, seeds = self.extent.asked.tasks, range(self.submission.seeds)
            asked = {(t, m, s) for t in tasks for m in self.submission.models for s in seeds}
            self._exactly(asked, {(c.task, c.model, c.seed) for c in self._cells()})
            return None, f"not run again: {error}"
        cells = {cell.stem: (group, cell) for group in plan.groups for _, cell in group.cells}
        self._exactly(set(cells), set(self.stored))
        for stem, (group, _) in cells.items():
            mine, now = self.stored[stem].record.digests, group.digests[stem]
            other = [name for name in now if mine.get(name) != now[name]]
            if reads_data and self.data is None and other == ["data"]:
                continue
            if other:
                raise InputError(
                    f"{self.folder}: {stem} was made with another version of the {other[0]} "
                    f"({mine.get(other[0], 'none')[:12]}; now {now[other[0]][:12]}). Run it again and submit anew."
                )
        if reads_data and self.data is None:
            return None, "not run again: it reads text that is not here; name it with --data"
        return plan, ""

    def _cells(self) -> list[Cell]:
        return [one.record.cell for one in self.stored.values()]

    def _exactly(self, asked: set[Any], there: set[Any]) -> None:
        """Refuse missing cells, and those that the suite does not have."""
        for words, names in (("lacks", asked - there), ("has more than", there - asked)):
            if names:
                some = ", ".join(sorted(map(str, names))[:3])
                suite = f"the cells of the suite {self.submission.suite}"
                raise InputError(f"{self.folder} {words} {suite}, {len(names)} in all: {some}.")

    def _beyond(self) -> list[str]:
        """Cells that took longer than they may take here: then none is verified."""
        slow = [
            stem
            for stem, one in self.stored.items()
            if one.record.cost is not None and one.record.cost.seconds > OVERHEAD * self.limits.seconds
        ]
        return (
            [f"not run again: {len(slow)} cells took too long for {self.limits.seconds:g} s ({slow[0]})"]
            if slow
            else []
        )

    def _sample(self, plan: Plan) -> list["Planned"]:
        """The cells to run again, of those the card applies to; nobody who submits can know them."""
        cells = [
            (group, cell)
            for group in plan.groups
            for _, cell in group.cells
            if self.stored[cell.stem].record.status != "not_applicable"
        ]
        cells.sort(key=lambda one: one[1].stem)
        rng = np.random.default_rng([self.seed, int(digest(self.folder / MANIFEST)[:15], 16)])
        return [cells[i] for i in sorted(rng.permutation(len(cells))[: self.rerun])]

    def _run_again(self, chosen: Sequence["Planned"], scratch: Path) -> tuple[dict[str, Stored], list[str]]:
        """Stem -> what its ranking is now; and what is wrong with the source or came to no end."""
        stem, _, preset = self.submission.method.partition("@")
        source = scratch / self.submission.file
        source.write_bytes((self.folder / self.submission.file).read_bytes())
        kept = (
            self.folder.resolve(),
            bundled("tasks").resolve(),
            bundled("tasks").resolve().parent / "leaderboard",
        )
        job = Job(MethodFile(stem, source, preset or None), kept)
        found: dict[str, Stored] = {}
        if not self.rerun:
            return found, []
        problem = self._checks(job, scratch / "checks")
        if problem:
            return found, problem
        options = self.extent.options
        for number, (group, cell) in enumerate(chosen):
            if self.on_progress is not None:
                self.on_progress(number, len(chosen))
            one = replace(group, cells=((job.file, cell),))
            why = self._one(replace(job, group=one, options=options), cell, scratch / f"cell{number}", found)
            if why:
                return found, [f"run again, {cell.stem} {why}"]
        return found, []

    def _checks(self, job: Job, out: Path) -> list[str]:
        """What `nibench check` says of the source, and whether its card is the one that was submitted."""
        why = confined(job, out, self.limits)
        if why:
            return [f"the checks of {self.submission.file}: {why}"]
        told = _told(out)
        if told.get("failed"):
            return [f"{self.submission.file} fails a check: {told['failed'][0]}"]
        if told.get("card") != self.submission.card.model_dump():
            theirs, ours = told.get("card") or {}, self.submission.card.model_dump()
            name = next((name for name in ours if theirs.get(name) != ours[name]), "?")
            return [f"the card says {name} = {ours.get(name)!r}, the source {theirs.get(name)!r}"]
        return _reached(told)

    def _one(self, job: Job, cell: Cell, out: Path, found: dict[str, Stored]) -> str | None:
        why = confined(job, out, self.limits)
        if why:
            return why
        if reached := _reached(_told(out)):
            return reached[0]
        path = out / "records" / f"{cell.stem}.json"
        try:
            if path.is_symlink() or path.stat().st_size > LARGEST_TOLD:
                return "wrote no record of ours"
            check_archive(path.with_suffix(".npz"))
            found[cell.stem] = Stored(*read_cell(path))
        except (InputError, OSError) as error:
            return f"left no record: {error}"
        return None

    def _measured(self, plan: Plan, again: Mapping[str, Stored] | None = None) -> list[str]:
        """Where a record is not what its own ranking scores here, or what came out when it was run again."""
        again = again or {}
        problems: list[str] = []
        sample: dict[str, Stored] = {}
        for group in plan.groups:
            mine = [(cell, self.stored[cell.stem]) for _, cell in group.cells]
            anew = [(cell, again[cell.stem]) for cell, _ in mine if cell.stem in again]
            given = [(self._file(one.arrays), cell) for cell, one in mine + anew]
            made = scored(group, self.extent, given)
            problems += [
                line for (_, one), found in zip(mine, made, strict=False) for line in differences(one, found)
            ]
            for (cell, ran), found in zip(anew, made[len(mine) :], strict=True):
                measured = found.record.model_copy(update={"cost": ran.record.cost})
                sample[cell.stem] = replace(found, record=measured) if ran.record.status == "ok" else ran
        return problems + unlike({stem: self.stored[stem] for stem in sample}, sample)

    def _ranked(self) -> list[str]:
        """The same for rankings without code, from the table itself."""
        table = (self.folder / self.submission.file).resolve()
        made = measured_rankings(self.submission.method, table, self.submission.card, self.extent)
        return [line for one in made for line in differences(self.stored[one.record.cell.stem], one)]


Planned = tuple[Group, Cell]


def _told(out: Path) -> dict[str, Any]:
    """What a confined process says; of a stranger's making, so not to be relied on."""
    path = out / "told.json"
    try:
        if path.is_symlink() or path.stat().st_size > LARGEST_TOLD:
            return {}
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _reached(told: Mapping[str, Any]) -> list[str]:
    asked = told.get("asked") or []
    return [f"reached for {Path(str(asked[0])).name}, which is not for methods"] if asked else []
