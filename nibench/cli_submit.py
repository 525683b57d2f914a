"""The command that hands a method in, and the one that checks what was handed in. `cli` registers it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nibench.errors import InputError
from nibench.terminal import DEFAULT_OUT, Json, print_json, progress, say

if TYPE_CHECKING:
    from nibench.submitted import Submission


def submit(
    file: Annotated[
        Path,
        typer.Argument(help="Method file, or a .csv or .parquet of rankings; with --validate a submission."),
    ],
    suite: Annotated[str, typer.Option(help="The suite whose cells are handed in.")] = "default",
    results: Annotated[Path, typer.Option(help="Where the records lie.")] = DEFAULT_OUT,
    card: Annotated[
        Path | None,
        typer.Option(
            help="Of rankings: their card (NAME.json unless said); start it with nibench new card NAME."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of rankings: the name on the board (the file's unless said).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The folder (leaderboard/submissions/NAME unless said).")
    ] = None,
    model: Annotated[list[str] | None, typer.Option(help="For suites that name none. Repeatable.")] = None,
    data: Annotated[
        str | None, typer.Option(help="Folder of the labelled text, for suites that read any.")
    ] = None,
    cap: Annotated[int | None, typer.Option(help="Training words that were read at most.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0..N-1.")] = 1,
    validate: Annotated[
        bool, typer.Option("--validate", help="Check a submission instead of making one.")
    ] = False,
    rerun: Annotated[
        int, typer.Option(min=0, help="Validation: cells to run again; 0 runs no code of it.")
    ] = 5,
    seconds: Annotated[float, typer.Option(min=1, help="Validation: processor time of each.")] = 180,
    memory: Annotated[float, typer.Option(min=0.5, help="Validation: GB of each.")] = 4,
    seed: Annotated[
        int | None, typer.Option(help="Validation: seed of the draw of cells (random unless said).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Hand in a method or rankings as one folder; with --validate check such a folder.

    A validation exits with 1 for what is made up, edited or does not come out again, with 2 for what is malformed.
    It runs the submitted code in a process of its own, with limits, but on this machine: mind whose code it is.
    """
    if validate:
        _validate(file, rerun, seconds, memory, seed, data, as_json)
        return
    if file.is_dir():
        raise InputError(f"{file} is a folder; to check a submission: nibench submit {file} --validate")
    from nibench.given import Extent
    from nibench.submitting import TABLES, submit_rankings, submit_source

    if not file.name.endswith((".py", *TABLES)) and file.exists():
        raise InputError(f"{file} is no method file (.py), nor a table of rankings ({', '.join(TABLES)}).")
    extent = Extent(suite, tuple(model or ()), seeds, data, cap)
    if file.suffix in TABLES:
        says = card or file.with_suffix(".json")
        folder, made = submit_rankings(_there(file), says, extent, name, out)
    else:
        if card is not None or name is not None:
            raise InputError(
                "--card and --name are for rankings; a method file has its card and its name in it."
            )
        _check(str(file))
        folder, made = submit_source(str(file), extent, results, out)
    if as_json:
        print_json({"folder": str(folder), **made.model_dump()})
        return
    records = sum(listed.endswith(".json") for listed in made.digests)
    say(f"Wrote {folder}: submission.json (card, digests, environment), {made.file}, {records} records.")
    text = f" --data {data}" if data else ""
    say(f"Check it as CI will: nibench submit {folder} --validate{text}")
    others = Path("leaderboard", "records", f"{suite}.tar.xz")
    board = others if others.exists() else "leaderboard"
    say(f"See it on a board: nibench leaderboard --results {board} --results {folder} --out board")
    _say_what_else(made, folder, results)
    say(f"Hand it in: git add {folder}, commit, open a pull request.")


def _say_what_else(made: "Submission", folder: Path, results: Path) -> None:
    """What a reader will see and the submitter may not expect: cells that failed, records that are not in it."""
    from nibench.record import read_record, record_paths

    records = [read_record(path) for path in record_paths(folder)]  # without the arrays: nobody asks for them
    failed = [record for record in records if record.status == "failed"]
    if failed:
        say(f"{len(failed)} of its {len(records)} cells failed and score as random: {failed[0].reason}")
    if made.has_source:
        there = {path.stem for path in (results / "records").glob(f"{made.method}--*.json")}
        left = len(there - {record.cell.stem for record in records})
        if left:
            say(
                f"{left} more records of it in {results} are not in it (--seeds, --model, --cap choose others)."
            )


def _there(table: Path) -> Path:
    if not table.is_file():
        raise InputError(f"No file {table}; expected a .csv or .parquet with task, model, neuron and score.")
    return table


def _check(name: str) -> None:
    """The required checks; what fails one is not handed in."""
    from nibench.check import check_method
    from nibench.submissions import find_method

    failed = [one for one in check_method(find_method(name)) if one.required and not one.passed]
    if failed:
        say(
            f"{name} fails a check: {failed[0].name}: {failed[0].detail.rstrip('.')}. It is not handed in; see: "
            f"nibench check {name}"
        )
        raise typer.Exit(1)


def _validate(
    folder: Path, rerun: int, seconds: float, memory: float, seed: int | None, data: str | None, as_json: bool
) -> None:
    from nibench.confined import Limits
    from nibench.validation import validate

    with progress("cells run again") as advance:
        verdict = validate(
            folder, rerun=rerun, limits=Limits(seconds, memory), seed=seed, data=data, on_progress=advance
        )
    if as_json:
        print_json(verdict.as_dict())
    else:
        for stem in verdict.rerun:
            say(f"Run again: {stem}")
        for line in (*verdict.problems[:20], *verdict.notes):
            say(line)
        if len(verdict.problems) > 20:
            say(f"... and {len(verdict.problems) - 20} more (--json has all)")
        say(f"{verdict.method}: {verdict.standing or 'refused'}.")
    if verdict.exit_code:
        raise typer.Exit(verdict.exit_code)
