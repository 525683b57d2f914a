"""The commands on records that are there: the leaderboard and the gate. `cli` registers them."""

from pathlib import Path
from typing import Annotated

import typer

from nibench.errors import InputError
from nibench.terminal import DEFAULT_OUT, Json, console, print_json, say


def leaderboard(
    results: Annotated[
        list[Path] | None, typer.Option(help="Folders of results, or archives of records. Repeatable.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the page, Markdown, CSV and Parquet go.")] = Path(
        "leaderboard"
    ),
    serve: Annotated[
        bool, typer.Option("--serve", help="Then show it at an address of this machine, until Ctrl-C.")
    ] = False,
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="With --serve: the port; a free one unless said.")
    ] = None,
    pack: Annotated[
        Path | None, typer.Option(help="Instead, keep one folder's records in one file (.tar.xz).")
    ] = None,
) -> None:
    """Turn records into a static page, a Markdown table, CSV and Parquet, and print the boards."""
    from functools import cache

    from nibench.archive import pack as pack_records
    from nibench.leaderboard import build
    from nibench.results import collect
    from nibench.serve import Server
    from nibench.stored import read_results
    from nibench.tables import tables

    if port is not None and not serve:
        raise InputError(f"--port {port} says where to serve; add --serve.")
    folders = results or [DEFAULT_OUT]
    if pack is not None:
        if len(folders) != 1:
            raise InputError(f"--pack takes one --results folder; got {len(folders)}.")
        say(f"Archive: {pack_records(folders[0], pack)}")
        return
    found = cache(lambda: collect(read_results(folders)))
    server = Server(out, port or 0, lambda: build(folders, out), say) if serve else None
    page = build(folders, out, found)
    terminal = console()
    for table in tables(found()):
        terminal.print(table)
        terminal.print()
    say(f"Page: {page}")
    if server is None:
        return
    try:
        say(f"Serving {server.address}; Ctrl-C ends it.")
        server.serve_forever()
    except KeyboardInterrupt:
        say("No longer serving.")


def gate(
    baseline: Annotated[Path, typer.Option(help="The results folder that is taken as right.")],
    results: Annotated[Path, typer.Option(help="The results folder that is checked.")] = DEFAULT_OUT,
    partial: Annotated[bool, typer.Option("--partial", help="Only the cells that the results hold.")] = False,
    as_json: Json = False,
) -> None:
    """Exit 1 if any number got worse than noise allows, 2 if something could not be compared."""
    from nibench.gate import gate as compare

    found = compare(baseline, results, partial=partial)
    if as_json:
        print_json(found.as_dict())
    else:
        if found.changes:
            console().print(found.table())
        for line in (*found.notes, *(f"Could not compare: {one}" for one in found.impossible[:10])):
            say(line)
        say(found.verdict)
    raise typer.Exit(found.exit_code)
