"""The command line: parse, call, print. Progress and logs go to standard error.

Exit codes: 0 done, 1 a negative verdict, 2 wrong use (one line: what came, what was expected, what to
type), 130 interrupted.
"""

import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from nibench import cli_board, cli_hidden, cli_inspect, cli_studies, cli_submit, cli_truth
from nibench.errors import InputError
from nibench.terminal import DEFAULT_OUT, Json, console, print_json, print_rows, progress, say, shown

app = typer.Typer(
    name="nibench",
    help="Which neurons does a language model use for a concept, and which method finds them?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(cli_studies.study_app, name="study")

Data = Annotated[str | None, typer.Option("--data", help="Folder (or hub id) of the labelled text.")]
SiteName = Literal["residual", "mlp_post", "mlp_pre", "attn_out"]
Site = Annotated[SiteName | None, typer.Option(help="Which neurons of a block.", show_choices=True)]
Layers = Annotated[str | None, typer.Option(help="Layers to read, e.g. 0,2 or -4: for the last four.")]
Aggregation = Annotated[Literal["last", "first", "mean"], typer.Option(help="Sub-words to word.")]
Cap = Annotated[int | None, typer.Option(help="Read at most so many training words (whole sentences).")]
Other = Annotated[
    list[str] | None,
    typer.Option(help="Model to compare with, for methods that take several. Repeatable."),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")]


@app.command()
def run(
    suite: Annotated[
        str | None, typer.Option(help="A named suite (nibench list suites) or a hidden round.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="Method id, id@preset, file, or all. Repeatable.")
    ] = None,
    task: Annotated[list[str] | None, typer.Option(help="Task id or file. Repeatable.")] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="Bundled name, folder or hub id. Repeatable.")
    ] = None,
    other: Other = None,
    data: Data = None,
    site: Site = None,
    layers: Layers = None,
    aggregation: Aggregation = "last",
    cap: Cap = None,
    control: Annotated[
        list[str] | None,
        typer.Option(
            help="Also run with the chain broken on purpose: random_model, type, sequence or shuffle. Repeatable."
        ),
    ] = None,
    metrics: Annotated[
        Literal["truth", "headline", "all"] | None,
        typer.Option(help="How much to measure (unless said: what the suite says)."),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Seeds 0..N-1 of methods and controls.")] = 1,
    jobs: Annotated[int, typer.Option(min=0, help="Worker processes; 0 means one per core.")] = 0,
    device: Device = "auto",
    out: Annotated[Path, typer.Option(help="Where records and the page go.")] = DEFAULT_OUT,
    fresh: Annotated[bool, typer.Option("--fresh", help="Compute every cell again.")] = False,
) -> None:
    """Score methods on tasks and models; with no arguments the embedded default suite."""
    import os
    from dataclasses import replace

    from nibench import leaderboard
    from nibench.evaluation import evaluate
    from nibench.rounds import is_round, read_round
    from nibench.suites import find_suite

    hidden = read_round(Path(suite)) if suite is not None and is_round(Path(suite)) else None
    chosen = hidden.suite if hidden else find_suite(suite or ("default" if not task else "real-text"))
    methods = method or chosen.methods
    with progress("cells") as advance:
        report = evaluate(
            None if "all" in methods else list(methods) or None,
            task or list(chosen.tasks),
            model or list(chosen.models),
            seeds=seeds,
            jobs=jobs or os.cpu_count() or 1,
            site=site,
            layers=layers,
            aggregation=aggregation,
            cap=cap,
            data=data,
            device=device,
            budget=replace(chosen.budget, metrics=metrics or chosen.budget.metrics),
            out=out,
            fresh=fresh,
            others=other or (),
            controls=control or (),
            on_progress=advance,
        )
    page = leaderboard.build([out], out)
    terminal = console()
    for table in [] if hidden else [report.table(), *report.difficulty()]:
        terminal.print(table)
    for reason in report.skipped:
        say(f"Not run: {reason}")
    for record in report.records:
        if record.status == "failed":
            say(f"Failed, scored as random: {record.cell.label} on {record.cell.task}: {record.reason}")
    kept = len(report.records) - report.computed
    say(
        f"{report.computed} cells computed, {kept} already there; {report.seconds:.1f} s, "
        f"{report.peak_memory_mb / 1024:.2f} GB at most."
    )
    say(f"Records: {out / 'records'}")
    say(f"Hand in {out}: who holds the truth of round {hidden.id} scores it." if hidden else f"Page: {page}")


@app.command("list")
def list_(
    kind: Annotated[
        Literal["methods", "tasks", "models", "suites", "metrics"], typer.Argument(help="What to list.")
    ],
    as_json: Json = False,
) -> None:
    """List what there is."""
    from nibench.catalogue import CRITERIA, rows

    found = rows(kind)
    if as_json:
        print_json(found)
        return
    print_rows([{key: value for key, value in row.items() if key not in CRITERIA} for row in found])


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="A method, task, model or suite.")],
    results: Annotated[
        list[Path] | None, typer.Option(help="Folders of results: of a method, which roles fill its top.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show one card."""
    from nibench.catalogue import anatomy_rows, card

    found = card(name)
    roles = anatomy_rows(name, results) if results else []
    if results:
        found = {**found, "anatomy": roles}
    if as_json:
        print_json(found)
        return
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for key, value in found.items():
        if key != "anatomy":
            table.add_row(Text(key, style="bold"), Text(shown(value)))
    console().print(table)
    if roles:
        console().print()
        print_rows(roles)


CELLS = {"rank": "d", "neuron": "", "score": ".6g", "p": ".2g", "q": ".2g"}


@app.command("rank")
def rank_(
    method: Annotated[str, typer.Argument(help="Method id, id@preset or file.")],
    task: Annotated[str, typer.Option(help="Task id or file, or a hidden round.")],
    model: Annotated[str | None, typer.Option(help="Bundled name, folder or hub id.")] = None,
    top: Annotated[int | None, typer.Option(min=1, help="How many neurons to print; 20 unless said.")] = None,
    fdr: Annotated[
        float | None, typer.Option(help="Instead: those one may report at this share of false discoveries.")
    ] = None,
    unit: Annotated[
        Literal["sentence", "token"] | None,
        typer.Option(help="With --fdr: what labels are re-assigned to; both sentence and word unless said."),
    ] = None,
    other: Other = None,
    data: Data = None,
    site: Site = None,
    layers: Layers = None,
    aggregation: Aggregation = "last",
    cap: Cap = None,
    thin: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Of neurons correlated closer than this, e.g. 0.3, the best first."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the method.")] = 0,
    device: Device = "auto",
    out: Annotated[
        Path | None,
        typer.Option(help="Write all scores, best first, to a .parquet or .csv file, as submit takes them."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the neurons a method ranks first, or with --fdr those one may report."""
    from nibench.ground import Options
    from nibench.harness import rank_in_model
    from nibench.rankings import Scored, write_rankings
    from nibench.rounds import is_round
    from nibench.submissions import find_task

    if out is not None and out.suffix not in (".parquet", ".csv"):
        raise InputError(f"--out {out}: expected a name that ends in .parquet or .csv.")
    if fdr is not None and top is not None:
        raise InputError("--top and --fdr are two answers: the first k, or those one may report. Give one.")
    if fdr is None and unit is not None:
        raise InputError(f"--unit {unit} says how --fdr is kept; add e.g. --fdr 0.1.")
    options = Options(site, layers, aggregation, cap, data, device)
    if is_round(Path(task)):
        if out is None:
            raise InputError(
                f"{task} is a hidden round, all of whose cells go into one table; add --out FILE.parquet."
            )
        say(f"{cli_hidden.rank_round(method, Path(task), options, seed, out)} cells ranked: {out}")
        return
    with progress("items read") as advance:
        ranking, neurons, notes = rank_in_model(
            method, task, model, options, seed, advance, other or (), thin
        )
    chosen = None if fdr is None else ranking.select(fdr, unit)
    place_of = {int(i): place + 1 for place, i in enumerate(ranking.order)}
    rows = [
        {"rank": place_of[int(i)], "neuron": neurons[int(i)], "score": float(ranking.scores[i])}
        | ({} if chosen is None else chosen.values_of(int(i)))
        for i in (ranking.top(top or 20) if chosen is None else chosen.neurons)
    ]
    if out is not None:
        best_first = tuple(neurons[int(i)] for i in ranking.order)
        cell = find_task(task).id, Path(model).name if model else "", seed
        write_rankings({cell: Scored(best_first, ranking.scores[ranking.order])}, out)
    if as_json:
        grounds = {} if chosen is None else chosen.grounds()
        print_json(
            {"method": method, "task": task, "model": model, "neurons": rows, "notes": notes} | grounds
        )
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for key in rows[0] if rows else ():
        table.add_column(key, justify="left" if key == "neuron" else "right")
    for row in rows:
        table.add_row(*(format(value, CELLS[key]) for key, value in row.items()))
    console().print(table)
    if chosen is not None:
        many = f"{len(rows)} of {len(neurons)} neurons" if rows else f"None of the {len(neurons)} neurons"
        say(f"{many} may be reported, with a share of false ones of {fdr:g} in the mean.")
        for what, text in chosen.grounds().items():
            if isinstance(text, str):
                say(f"{what}: {text}")
    for note in notes:
        say(note)
    if out is not None:
        say(f"All {len(neurons)} neurons: {out}")


@app.command()
def check(
    file: Annotated[str, typer.Argument(help="A method or task file, or a bundled name.")],
    as_json: Json = False,
) -> None:
    """Run the contract's checks on a file: exactly those that the bundled files pass."""
    from nibench.check import check_file

    results = check_file(file)
    failed = [result for result in results if result.required and not result.passed]
    if as_json:
        print_json([result.as_dict() for result in results])
    else:
        terminal = console()
        for result in results:
            mark = "ok  " if result.passed else ("FAIL" if result.required else "no  ")
            label = "" if result.required else " (reported, not required)"
            terminal.print(f"{mark} {result.name}{label}", markup=False, highlight=False)
            if result.detail and not (result.passed and result.required):
                terminal.print(f"     {result.detail}", markup=False, highlight=False)
        n, s = len(failed), "s" if len(failed) > 1 else ""
        verdict = f"{n} required check{s} failed" if failed else "every required check passed"
        say(f"{file}: {verdict}.")
    if failed:
        raise typer.Exit(1)


@app.command()
def new(
    kind: Annotated[
        Literal["method", "task", "card"],
        typer.Argument(help="What to start; a card is for rankings without code."),
    ],
    name: Annotated[str, typer.Argument(help="Its id: lower case, underscores.")],
) -> None:
    """Write a file to start from; it passes `nibench check` as it stands."""
    from nibench.scaffold import write_new

    path = write_new(kind, name)
    then = f"nibench submit RANKINGS.csv --card {path}" if kind == "card" else f"nibench check {path}"
    say(f"Wrote {path}. Next: edit it, then {then}")


app.command()(cli_board.leaderboard)
app.command()(cli_board.gate)
app.command()(cli_inspect.inspect)
app.command()(cli_studies.compare)
app.command()(cli_submit.submit)
app.command()(cli_truth.certify)
app.command()(cli_truth.calibrate)
app.command("score-hidden")(cli_hidden.score_hidden)
cli_truth.build_app.command("hidden")(cli_hidden.build_hidden)
app.add_typer(cli_truth.build_app, name="build")


INTERRUPTED = 130
UsageError: type[Exception] = typer.BadParameter.__mro__[1]  # typer may carry click inside, or import it


def main() -> None:
    """Entry point: wrong use ends in one line on standard error and exit code 2."""
    try:
        code = app(sys.argv[1:] or ["--help"], standalone_mode=False)
    except InputError as error:
        _wrong_use(str(error))
    except UsageError as error:
        _wrong_use(f"{error.format_message().rstrip('.')}. Try: nibench --help")  # type: ignore[attr-defined]
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:
        say("nibench: interrupted; whole records are kept, the same command goes on from there.")
    sys.exit(code if isinstance(code, int) else 0)


def _wrong_use(message: str) -> NoReturn:
    say(f"nibench: {' '.join(message.split())}")
    sys.exit(2)
