"""Submitting: the folder that a pull request adds, made of a method file and its records, or of rankings."""

import os
import re
import shutil
from pathlib import Path

from nibench.disk import digest, write_atomic
from nibench.errors import InputError
from nibench.given import NO_RANKING, Extent, GivenFile, key_of, read_card, scored
from nibench.harness import card_of, package_versions
from nibench.rankings import read_rankings
from nibench.record import Card, Record, fingerprint, read_arrays, read_record, record_path, write_record
from nibench.stored import Stored
from nibench.submissions import ID, find_method, names
from nibench.submitted import MANIFEST, Submission

TABLES = (".csv", ".parquet")
NAME = re.compile(ID.pattern + r"(@[a-z0-9_]{1,60})?")


def submit_source(
    name: str, extent: Extent, results: Path, out: Path | None = None
) -> tuple[Path, Submission]:
    """Write the submission of a method file whose records lie in ``results``.

    Raises
    ------
    InputError
        If cells of the suite are missing there, or rest on another version of anything.
    """
    file = find_method(name)
    require_free(file.label)
    require_open(extent)
    plan = extent.plan(name)
    found: list[Stored] = []
    lacking: list[str] = []
    for group in plan.groups:
        for _, cell in group.cells:
            path = record_path(results, cell)
            wanted = fingerprint(cell, group.digests[cell.stem], package_versions())
            record = read_record(path) if path.exists() else None
            if record is None or record.fingerprint != wanted:
                lacking.append(cell.stem + ("" if record is None else " (of another version)"))
            else:
                found.append(Stored(record, read_arrays(path)))
    if lacking or not found:
        total = plan.n_cells
        raise InputError(
            f"{len(lacking)} of the {total} cells of the suite {extent.suite!r} are not in {results}, first "
            f"{lacking[0] if lacking else 'none at all'}. Type: nibench run --method {name} "
            f"{extent.words} --out {results}"
        )
    return _write(file.label, file.path.name, file.path, extent, card_of(file), found, out)


def submit_rankings(
    table: Path, card: Path, extent: Extent, name: str | None = None, out: Path | None = None
) -> tuple[Path, Submission]:
    """Write the submission of a table of scores per neuron, which are measured here.

    Raises
    ------
    InputError
        If the card or the table is not as expected, cells of the suite are missing, or there are others.
    """
    label = name or table.stem
    require_free(label)
    require_open(extent)
    says = read_card(card)
    found = measured_rankings(label, table, says, extent)
    return _write(label, f"rankings{table.suffix}", table, extent, says, found, out)


def measured_rankings(label: str, table: Path, card: Card, extent: Extent) -> list[Stored]:
    """The records of a table of rankings: exactly the cells of the suite that its card applies to.

    Raises
    ------
    InputError
        If cells are missing, or the table has others.
    """
    stem, _, preset = label.partition("@")
    file = GivenFile(stem, table, preset or None, card=card)
    plan = extent.plan(file)
    rankings = read_rankings(table)
    cells = {key_of(cell): cell for group in plan.groups for _, cell in group.cells}
    if odd := sorted(set(rankings) - set(cells)):
        raise InputError(f"{table} ranks {_named(odd[0])}, which is no cell of the suite; leave it out.")
    found = []
    for group in plan.groups:
        given = [
            (GivenFile(stem, table, preset or None, card=card, named=rankings.get(key_of(cell))), cell)
            for _, cell in group.cells
        ]
        found += scored(group, extent, given)
    missing = [key_of(one.record.cell) for one in found if one.record.reason.endswith(NO_RANKING)]
    if missing:
        raise InputError(
            f"{table} has no ranking for {len(missing)} of the {len(found)} cells, first {_named(missing[0])}. "
            "Rank the neurons of every cell that the card's needs apply to."
        )
    return found


def require_free(label: str) -> None:
    """Refuse what is no name, and the names of what comes with nibench.

    Raises
    ------
    InputError
    """
    if not NAME.fullmatch(label):
        raise InputError(
            f"{label!r} is no name of a method; expected lower case, digits and underscores: --name my_idea"
        )
    if label.partition("@")[0] in names("methods"):
        raise InputError(f"There is a method {label.partition('@')[0]!r} already; give yours another name.")


def require_open(extent: Extent) -> None:
    """Refuse suites that are not for handing in, and models where the suite names its own.

    Raises
    ------
    InputError
    """
    if extent.asked.budget.metrics == "all":
        raise InputError(
            f"The suite {extent.suite!r} is for studying metrics; submit to default, truth, worlds or real-text."
        )
    if extent.asked.models and extent.models:
        raise InputError(f"The suite {extent.suite!r} names its models; leave --model out.")


def _named(key: tuple[str, str, int]) -> str:
    return f"{key[0]}{' ' + key[1] if key[1] else ''}, seed {key[2]}"


def _write(
    label: str, kept: str, file: Path, extent: Extent, card: Card, found: list[Stored], out: Path | None
) -> tuple[Path, Submission]:
    """The folder, whole or not there; an earlier submission of the same name is replaced."""
    folder = out or Path("leaderboard") / "submissions" / label
    if folder.resolve().name != label:
        raise InputError(f"--out {folder}: the folder's name is the method's, {label!r}.")
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise InputError(f"{folder} exists and is no submission; choose another --out.")
    made = folder.with_name(f".{label}.{os.getpid()}.tmp")
    shutil.rmtree(made, ignore_errors=True)
    try:
        write_atomic(made / kept, file.read_bytes())
        for one in found:
            write_record(portable(one.record, label, kept), one.arrays, made / "records")
        listed = {p.relative_to(made).as_posix(): digest(p) for p in sorted(made.rglob("*")) if p.is_file()}
        submission = Submission(
            method=label,
            file=kept,
            suite=extent.suite,
            models=extent.models,
            seeds=extent.seeds,
            cap=extent.cap,
            card=card,
            digests=listed,
            versions=package_versions(),
            environment=found[0].record.environment,
        )
        write_atomic(made / MANIFEST, (submission.model_dump_json(indent=1) + "\n").encode())
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder, submission


def portable(record: Record, label: str, kept: str) -> Record:
    """A record whose command holds where the submission lies, and no path of the machine it was made on."""
    place = f"leaderboard/submissions/{label}"
    if kept.endswith(TABLES):
        return record.model_copy(update={"command": f"nibench submit {place} --validate"})
    method = f"{place}/{kept}" + (f"@{record.cell.preset}" if record.cell.preset else "")
    again = re.sub(r"--method .+? --task", lambda _: f"--method {method} --task", record.command)
    again = re.sub(r"--data .+?(?= --|$)", "--data DIR", again)
    return record.model_copy(update={"command": again})
