"""The commands of hidden rounds: build one, score what was handed in, verify it. `cli` registers them."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from nibench.errors import InputError
from nibench.terminal import Json, console, print_json, progress, say

if TYPE_CHECKING:
    from nibench.ground import Options
    from nibench.rounds import Round
    from nibench.secret import Secret

SecretFile = Annotated[Path, typer.Option(help="File of 32 or more random hexadecimal digits.")]


def build_hidden(
    secret: SecretFile,
    out: Annotated[Path, typer.Option(help="Folder that is to be published.")],
    worlds: Annotated[int, typer.Option(min=0, help="Sampled worlds.")] = 6,
    models: Annotated[int, typer.Option(min=0, help="Glass-box models, 2 to 10 minutes each.")] = 2,
) -> None:
    """Make a hidden round: fresh worlds and models whose truth you keep, and the hash of your secret."""
    from nibench.hidden import build
    from nibench.secret import read_secret

    found = build(secret, out, n_worlds=worlds, n_models=models, say=say)
    say(
        f"Round {found.id}: {len(found.cells)} cells in {out}. Publish the folder and this hash of the secret:"
    )
    print(found.manifest.commitment)
    say(f"Keep {secret} and {read_secret(secret).kept} to yourself until all is scored.")


def rank_round(method: str, folder: Path, options: "Options", seed: int, out: Path) -> int:
    """Rank every cell of a round into one table of scores, as it may be handed in; returns how many there are."""
    from nibench.harness import rank_in_model
    from nibench.rankings import Key, Scored, write_rankings
    from nibench.rounds import read_round

    found = read_round(folder)
    cells: dict[Key, Scored] = {}
    asked = replace(options, budget=found.suite.budget)
    with progress("cells") as advance:
        for task, model in found.cells:
            advance(len(cells), len(found.cells))
            where = str(folder / model) if model else None
            ranking, neurons, _ = rank_in_model(method, str(found.task_file(task, model)), where, asked, seed)
            cells[task, model, seed] = Scored(tuple(neurons), ranking.scores)
    write_rankings(cells, out)
    return len(cells)


def score_hidden(
    folder: Annotated[Path, typer.Argument(help="The published folder of the round.")],
    secret: SecretFile,
    rankings: Annotated[
        list[Path] | None,
        typer.Option(
            help="What was handed in: a results folder, or a .csv or .parquet of scores. Repeatable."
        ),
    ] = None,
    public: Annotated[
        list[Path] | None, typer.Option(help="Results of the same methods on what is shipped. Repeatable.")
    ] = None,
    claims: Annotated[
        Literal["associated", "responds", "carries", "required", "none"] | None,
        typer.Option(help="What the rankings of a table claim, if no bundled method has its name."),
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Instead: make all again from the secret.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Where the records go.")] = Path("hidden-results"),
    as_json: Json = False,
) -> None:
    """Score rankings against a hidden round's kept truth, beside their public scores."""
    from nibench.gap import section, table
    from nibench.hidden import open_round
    from nibench.hidden_scoring import score
    from nibench.results import collect
    from nibench.stored import read_results

    found, known = open_round(folder, secret)
    if verify:
        _verify(found, known, as_json)
        return
    if not rankings:
        raise InputError(
            "Nothing to score: give --rankings DIR_OR_TABLE (or --verify). A method makes them so: "
            f"nibench run --suite {folder} --method METHOD --out DIR"
        )
    paths = score(found, known, rankings, out, claims=claims, say=say)
    results = collect(read_results([*(public or []), out]))
    if as_json:
        print_json(section(results))
    else:
        console().print(table(results))
    if not public:
        say("Beside the public scores: add --public DIR (e.g. leaderboard).")
    say(f"{len(paths)} cells of round {found.id} scored: {out / 'records'}")
    say(f"On a page: nibench leaderboard --results PUBLIC --results {out} --out DIR")


def _verify(found: "Round", secret: "Secret", as_json: bool) -> None:
    """Print what holds, line by line; exit code 1 where something does not."""
    from tempfile import TemporaryDirectory

    from nibench.hidden import verify
    from nibench.truth.rows import FULL

    with TemporaryDirectory() as fresh:
        lines = []
        for holds, words in verify(found, secret, Path(fresh), FULL, lambda line: None):
            lines.append({"holds": holds, "what": words})
            if not as_json:
                print(f"{'ok  ' if holds else 'FAIL'} {words}")
    if as_json:
        print_json(lines)
    if not all(line["holds"] for line in lines):
        raise typer.Exit(1)
