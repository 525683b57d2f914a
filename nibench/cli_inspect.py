"""The command that shows one neuron: inspect. `cli` registers it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nibench.errors import InputError
from nibench.terminal import DEFAULT_OUT, Json, console, print_json, progress, say

if TYPE_CHECKING:
    from rich.text import Text

WORDS = 20_000
SHOWN = 8  # contexts in the terminal


def inspect(
    neuron: Annotated[str, typer.Argument(help="A name such as L2.mlp_post.15 or embed.3.")],
    model: Annotated[str, typer.Option(help="Bundled name, folder or hub id.")],
    data: Annotated[
        str | None,
        typer.Option(
            help="Text: a passage a line, .csv, .tsv, .jsonl or .conllu. With --task: where its text is."
        ),
    ] = None,
    task: Annotated[str | None, typer.Option(help="Instead: a task's text, with its classes.")] = None,
    column: Annotated[str | None, typer.Option(help="Of a table, the one that holds the text.")] = None,
    cap: Annotated[int, typer.Option(min=1, help="Read at most so many words.")] = WORDS,
    top: Annotated[int, typer.Option(min=1, help="How many of the strongest contexts.")] = 20,
    results: Annotated[
        list[Path] | None,
        typer.Option(help="Results folder or archive: the neuron's rank by each method. Repeatable."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    out: Annotated[Path | None, typer.Option(help="The page, an .html file.")] = None,
    as_json: Json = False,
) -> None:
    """Show one neuron: what it is active on, what is known of it, where methods rank it.

    Truth models bring their own text; for any other model give yours with --data.
    """
    from nibench.inspection import inspect as look
    from nibench.model import load_model
    from nibench.modelfiles import locate
    from nibench.passages import find_passages
    from nibench.submissions import resolve_model

    if out is not None and out.suffix not in (".html", ".htm"):
        raise InputError(f"--out {out}: expected a name that ends in .html.")
    folder = locate(resolve_model(model))
    passages = find_passages(folder, task=task, data=data, column=column, cap=cap)
    loaded = load_model(resolve_model(model), device=device)
    with progress("words read") as advance:
        found = look(loaded, neuron, passages, top=top, results=results or (), progress=advance)
    path = out or (None if as_json else DEFAULT_OUT / "inspect" / f"{Path(model).name}--{neuron}.html")
    if path is not None:
        found.write(path)
    if as_json:
        print_json(found.document)
    else:
        _show(found.document)
    if path is not None:
        say(f"Page: {path}")


def _show(document: dict[str, Any]) -> None:
    """The summary and the strongest contexts."""
    from rich.table import Table
    from rich.text import Text

    from nibench.inspection import in_short, value

    terminal = console()
    for line in in_short(document):
        terminal.print(Text(line))
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("activation", justify="right", no_wrap=True)
    table.add_column("strongest contexts")
    for one in document["highest"][:SHOWN]:
        table.add_row(value(one["value"]), _marked(one))
    terminal.print(table)


def _marked(one: dict[str, Any]) -> "Text":
    """A context with the token that it is about in brackets."""
    from rich.text import Text

    line = Text("… " if one["cut"][0] else "")
    for i, (piece, _, spaced) in enumerate(one["pieces"]):
        line.append(" " if spaced and i else "")
        line.append(f"[{piece}]" if i == one["peak"] else piece, style="bold" if i == one["peak"] else "")
    return line.append(" …" if one["cut"][1] else "")
