"""What commands print: results on standard output, progress and logs on standard error."""

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

Advance = Callable[[int, int], None]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]

DEFAULT_OUT = Path("nibench-results")


def console(*, stderr: bool = False) -> Any:
    from rich.console import Console

    return Console(stderr=stderr)


def say(message: str) -> None:
    print(message, file=sys.stderr)


def print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, default=str))


def print_rows(found: list[dict[str, Any]]) -> None:
    from rich.table import Table
    from rich.text import Text

    columns = list(found[0]) if found else []
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column == columns[0])
    for row in found:
        table.add_row(*(Text(shown(value)) for value in row.values()))
    console().print(table)


def shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={inner}" for key, inner in value.items())
    return ", ".join(str(inner) for inner in value) if isinstance(value, list | tuple) else str(value)


@contextmanager
def progress(what: str) -> Iterator[Advance]:
    """A progress bar with the time left, on standard error; yields what to call with (done, total)."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"))
    terminal = console(stderr=True)
    bar = Progress(
        *columns, TimeRemainingColumn(), console=terminal, transient=True, disable=not terminal.is_terminal
    )
    task = bar.add_task("", total=None)

    def advance(done: int, total: int) -> None:
        bar.start()  # only now: an error before the work begins stays one line
        bar.update(task, completed=done, total=total)

    try:
        yield advance
    finally:
        if bar.live.is_started:
            bar.stop()
