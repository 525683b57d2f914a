"""``nibench study``: the suite's own questions, asked of the records of a run."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nibench.errors import InputError
from nibench.terminal import progress

if TYPE_CHECKING:
    from rich.table import Table

    from nibench.results import Results
    from nibench.studies import agreement, metrics, transfer

study_app = typer.Typer(help="The suite's own questions, answered from records.", no_args_is_help=True)

Folders = Annotated[list[Path] | None, typer.Option("--results", help="Folders of results. Repeatable.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document and nothing else.")]
DEFAULT = Path("nibench-results")
WORDS = {  # columns of words, not of numbers
    *("method", "claims", "claim", "tier", "tiers", "agreement", "metric", "truth of", "tracks", "confuses")
}
SHORT = {"language model": "LM", "glass-box": "glass"}


@study_app.command("agreement")
def agreement_(results: Folders = None, as_json: Json = False) -> None:
    """Does agreement mean correctness? Overlap with the other methods against truth."""
    from nibench.studies.agreement import study

    found = study(_results(results))
    _print(found, [_methods(found), _correlations(found)], as_json)


@study_app.command("transfer")
def transfer_(results: Folders = None, as_json: Json = False) -> None:
    """Does truth transfer? The order of the methods, from planted neurons to natural ones."""
    from nibench.studies.transfer import read_calibrations, study

    found = study(_results(results), read_calibrations(results or [DEFAULT]))
    _print(
        found,
        [_orders(found, claim) for claim in found.orders if found.orders[claim]] + [_taus(found)],
        as_json,
    )


@study_app.command("annotation")
def annotation_(
    method: Annotated[
        list[str] | None, typer.Option(help="Method id, id@preset or file. Repeatable.")
    ] = None,
    draws: Annotated[int, typer.Option(min=1, help="Draws of each world; ten or more give intervals.")] = 10,
    jobs: Annotated[int, typer.Option(min=0, help="Worker processes; 0 means one per core.")] = 0,
    as_json: Json = False,
) -> None:
    """What does annotation cost? Truth with few, wrong and automatic labels, in sampled worlds."""
    import os

    from nibench.studies.annotation import study

    found = study(method, draws=draws, jobs=jobs or os.cpu_count() or 1)
    _print(found, [] if as_json else [found.table()], as_json)


@study_app.command("metrics")
def metrics_(
    results: Folders = None,
    out: Annotated[Path | None, typer.Option(help="Also write the cards to a .json or .md file.")] = None,
    as_json: Json = False,
) -> None:
    """Which metrics track truth? Each against the known answer, on half of the sentences, with nothing to find."""
    from nibench.disk import write_atomic
    from nibench.studies.metrics import study, to_markdown

    if out is not None and out.suffix not in (".json", ".md"):
        raise InputError(f"--out {out}: expected a name that ends in .json or .md.")
    found = study(_results(results))
    if out is not None:
        text = to_markdown(found) if out.suffix == ".md" else json.dumps(found.as_dict(), indent=1) + "\n"
        write_atomic(out, text.encode())
    _print(found, [_metric_cards(found)], as_json)


def compare(
    methods: Annotated[list[str], typer.Argument(help="Two or more rows of the records.")],
    results: Folders = None,
    as_json: Json = False,
) -> None:
    """Head to head: paired differences with intervals, corrected p-values, where each wins."""
    from nibench.comparison import compare as head_to_head

    found = head_to_head(_results(results), methods)
    _print(found, [found], as_json)


@study_app.command("selection")
def selection_(
    draws: Annotated[int, typer.Option(min=1, help="Draws of each world and of random labels.")] = 60,
    jobs: Annotated[int, typer.Option(min=0, help="Worker processes; 0 means one per core.")] = 0,
    as_json: Json = False,
) -> None:
    """Does a set keep its level? Realised shares of false discoveries, power, and sizes where labels are random."""
    import os

    from nibench.studies.selection import study

    with progress("draws") as advance:
        found = study(draws, jobs=jobs or os.cpu_count() or 1, on_progress=advance)
    _print(found, [] if as_json else [found.table()], as_json)


def _results(folders: list[Path] | None) -> "Results":
    from nibench.results import collect
    from nibench.stored import read_results

    return collect(read_results(folders or [DEFAULT]))


def _print(found: Any, tables: "list[Any]", as_json: bool) -> None:
    if as_json:
        print(json.dumps(found.as_dict(), indent=1))
        return
    from rich.console import Console

    console = Console()
    for table in tables:
        console.print(table)
        console.print()


def _table(title: str, *columns: str, caption: str = "") -> "Table":
    from rich.table import Table

    table = Table(
        title=title, title_justify="left", title_style="bold", caption=caption or None, caption_justify="left",
        box=None, pad_edge=False, header_style="bold", padding=(0, 1, 0, 0),
    )  # fmt: skip
    for column in columns:
        table.add_column(column, justify="left" if column in WORDS else "right", overflow="fold")
    return table


def _methods(found: "agreement.Study") -> "Table":
    from rich.text import Text

    from nibench.wording import number

    table = _table(
        "How far each method agrees with the others, and how right it is",
        *("method", "claims", "overlap", "vote", "overlap*", "vote*", "truth", "cells"),
        caption="overlap, vote: one vote per family, itself left out, 0 = chance. *: as published (Jaccard, itself "
        "among the voters). truth: graded score on its own claim, 0 = random, 1 = perfect.",
    )
    for row in sorted(found.methods, key=lambda row: -row.avg_overlap):
        measured = (row.avg_overlap, row.neuron_vote, row.published_overlap, row.published_vote, row.truth)
        table.add_row(Text(row.method), row.claims, *map(number, measured), str(row.places))
    return table


def _metric_cards(found: "metrics.Study") -> "Table":
    from rich.text import Text

    from nibench.studies.metrics import cells

    table = _table(
        f"Which metrics track truth? {found.methods} methods, {found.places} tasks in models",
        *("metric", "truth of", "tracks", "correlation", "halves", "seeds", "ceiling", "confuses"),
        caption="correlation: Spearman's across methods with the graded truth of the claim that the metric is about "
        "[95 %, resampled truth models]; halves: with itself on the other half of the sentences; seeds: spread of "
        "one method's seeds over that between methods; ceiling: share of cells within .05 of it; confuses: another "
        "claim whose truth it follows more, and controls under which it does not fall to chance.",
    )
    for card in found.cards:
        table.add_row(*map(Text, cells(card)))
    return table


def _correlations(found: "agreement.Study") -> "Table":
    from nibench.wording import number

    table = _table(
        "Does agreement mean correctness?",
        *("tier", "claim", "agreement", "correlation", "95 % interval", "cells"),
        caption="Spearman's correlation across methods, mean over cells; own: each method about its own claim "
        "(--json: every claim in every tier). "
        "Intervals from resampled truth models, or (t) cells where there are fewer than four models.",
    )
    shown = [one for one in found.correlations if one.tier == "all" or one.claim == "own"]
    for one in shown:
        ends = "–" if one.ci95 is None else f"{number(one.ci95[0])} to {number(one.ci95[1])}"
        ends += " (t)" if one.ci95 is not None and one.resampled == "tasks" else ""
        measure = one.measure.replace("_", " ")
        table.add_row(one.tier, one.claim, measure, number(one.value), ends, str(one.places))
    return table


def _orders(found: "transfer.Study", claim: str) -> "Table":
    from rich.text import Text

    from nibench.wording import number

    tiers = list(found.orders[claim])
    table = _table(f"Truth of {claim}, by tier", "method", *(SHORT.get(tier, tier) for tier in tiers))
    methods = {method for order in found.orders[claim].values() for method in order}
    first = found.orders[claim][tiers[0]]
    for method in sorted(methods, key=lambda method: (-first.get(method, -9.0), method)):
        table.add_row(Text(method), *(number(found.orders[claim][tier].get(method)) for tier in tiers))
    return table


def _taus(found: "transfer.Study") -> "Table":
    from nibench.wording import number

    missing = f" No records of: {', '.join(found.missing)}." if found.missing else ""
    table = _table(
        "Does truth transfer?",
        *("claim", "tiers", "tau", "95 % interval", "methods", "models"),
        caption="Kendall's tau of the methods' order between two tiers. Intervals from resampled truth models, "
        f"where both tiers have four or more.{missing}",
    )
    for one in found.taus:
        ends = "–" if one.ci95 is None else f"{number(one.ci95[0])} to {number(one.ci95[1])}"
        models = f"{one.models[0]}, {one.models[1]}"
        table.add_row(
            one.claim, f"{one.first}, {one.second}", number(one.value), ends, str(one.methods), models
        )
    return table
