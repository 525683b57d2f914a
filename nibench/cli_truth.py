"""The commands about truth: certify, calibrate, build. `cli` registers them."""

from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nibench.errors import InputError
from nibench.terminal import DEFAULT_OUT, Advance, Json, console, print_json, progress, say

if TYPE_CHECKING:
    from nibench.calibration import Calibration, MeanOfDraws

build_app = typer.Typer(help="Make a new truth model.", no_args_is_help=True)


def certify(
    model: Annotated[
        list[str] | None, typer.Argument(help="Bundled truth models or folders; all if none.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A subsample of the sentences.")] = False,
    as_json: Json = False,
) -> None:
    """Run a truth model's certificate again, from its files alone.

    With four models or more also: can anything that needs no labels tell used neurons from their decoys?
    """
    from dataclasses import asdict

    from nibench.catalogue import truth_models
    from nibench.submissions import resolve_model
    from nibench.truth.certificate import Certificate, pooled_leaks
    from nibench.truth.certificate import certify as certify_folder
    from nibench.truth.files import read_truth

    folders = [Path(resolve_model(name)) for name in model] if model else list(truth_models().values())
    failed = False
    documents = []
    for folder in folders:
        is_truth = (folder / "truth.json").is_file()
        concepts = read_truth(folder).concepts.values() if is_truth else ()
        total = len(concepts) + sum(len(concept.behaviours) for concept in concepts)
        with progress(f"certify {folder.name}") as advance:
            advance(0, total)
            seen: list[str] = []

            def step(
                line: str, seen: list[str] = seen, advance: Advance = advance, total: int = total
            ) -> None:
                seen.append(line)
                advance(len(seen) - 1, total)

            certificate = certify_folder(folder, quick=quick, progress=step)
        failed |= not certificate.ok()
        documents.append(certificate)
        if not as_json:
            for line in certificate.lines():
                print(line)
    together = pooled_leaks([folder for folder in folders if (folder / "truth.json").is_file()])
    if together:
        documents.append(Certificate(together[0].model, tuple(together)))
        for row in together:
            if not as_json and (row.check.endswith("classifier") or not row.passed):
                print(row.line())
    if as_json:
        print_json([asdict(certificate) for certificate in documents])
    if failed:
        raise typer.Exit(1)


@build_app.command("glassbox")
def build_glassbox(
    seed: Annotated[int, typer.Option(help="Decides everything about the model.")],
    out: Annotated[Path, typer.Option(help="Folder for the model, its twin and its pairs.")],
    middle: Annotated[
        bool, typer.Option("--middle", help="And one in which half is carried elsewhere.")
    ] = False,
    rotated: Annotated[
        bool, typer.Option("--rotated", help="A null: carried by no few neurons, but along directions.")
    ] = False,
) -> None:
    """Train, certify and export a glass-box model with its natural twin (minutes)."""
    from nibench.truth.glassbox import build
    from nibench.truth.recipe import rotated_recipe

    if rotated and middle:
        raise InputError(
            "--rotated with --middle: a null has neither twin nor middle. Leave one of the two out."
        )
    built = build(seed, out, progress=say, middle=middle, recipe=rotated_recipe() if rotated else None)
    say(f"Wrote {built.glassbox}. Check it: nibench certify {built.glassbox}")


def calibrate(
    model: Annotated[str, typer.Option(help="Bundled name, folder or hub id.")],
    task: Annotated[str, typer.Option(help="Task id or file; the model must be able to do it.")],
    method: Annotated[
        list[str] | None, typer.Option(help="Method id, id@preset or file. Repeatable; default: eight.")
    ] = None,
    draws: Annotated[int, typer.Option(help="Panels of planted neurons, 3 or more.")] = 3,
    jobs: Annotated[int, typer.Option(min=0, help="Draws at a time; 0 means one per core.")] = 0,
    data: Annotated[str | None, typer.Option(help="Folder with the task's text, or a hub id.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    out: Annotated[Path, typer.Option(help="Where the record goes.")] = DEFAULT_OUT,
    as_json: Json = False,
) -> None:
    """Plant neurons of known dose in your model: what can each method detect here?"""
    import os

    from nibench.calibration import calibrate as run
    from nibench.ground import Options

    with progress("draws") as advance:
        found = run(
            model,
            task,
            method or (),
            draws=draws,
            options=Options(device=device, data=data),
            jobs=jobs or os.cpu_count() or 1,
            on_progress=advance,
        )
    path = found.write(out)
    if as_json:
        print_json(found.document())
    else:
        _show(found)
    for reason in found.refusals:
        say(f"Refused, {reason}.")
    say(f"Record: {path}")
    if found.refusals:
        raise typer.Exit(1)


def _show(found: "Calibration") -> None:
    """The panels, how far the model moved, the methods, and what it means, within 80 columns."""
    for draw in found.draws:
        kinds = [graft.kind for graft in draw.grafts]
        accuracy, margin, loss, landed = (draw.moved[key] for key in ("accuracy", "margin", "loss", "landed"))
        print(
            f"Draw {draw.seed}: {kinds.count('used')} used, {kinds.count('decoy')} decoys, "
            f"{kinds.count(None)} between; {landed:.0%} of doses landed.\n"
            f"  Accuracy {accuracy[0]:.2f} -> {accuracy[1]:.2f}, "
            f"margin {margin[0]:.2f} -> {margin[1]:.2f} nats"
            + (f", loss on text {loss[1] - loss[0]:+.3f}." if loss else ".")
        )
    table = found.table()
    if not table:
        return
    _print_table(table, "rho propagates" if found.axis == "propagates" else "rho use")
    for name, reason in found.skipped.items():
        print(fill(f"{name}: not run, {reason}.", 80))
    print(
        f"Recall: share of the used grafts that come first among the grafts (chance {_short(found.chance)}).\n"
        "Decoy first: how often an unused one comes before a used one (chance .50).\n"
        "Rho: with the encoding dose (AUC), with the use dose (nats). Means over draws,\n"
        f"± 95 % t-intervals. {found.passes:.0f} passes. This is what methods can detect here: the\n"
        f"{found.n_natural} natural neurons are not judged, and nothing is promised about them."
    )
    agreement = found.agreement()
    if agreement is not None:
        print(
            "Natural: share of the 50 largest interchange effects of natural neurons that is\n"
            f"in a method's first 50. Kendall's tau with the order by recall: {_figure(agreement)}."
        )
    if found.axis == "propagates":
        print(
            "Propagates, not uses: the model has no head, so a readout of its last layer,\n"
            "trained on other prompts and frozen, answers. What reaches it is encoded there;\n"
            "whether the model would use it is not known. A use dose is what the readout's\n"
            "margin loses."
        )
    _show_traps(found)


TITLES = {
    "recall": "recall", "decoy_first": "decoy first", "rho_encoding": "rho encodes", "rho_use": "rho use",
    "natural": "natural", "saturated": "saturated", "redundant": "redundant", "sign_mixed": "sign-mixed",
}  # fmt: skip


def _print_table(rows: "dict[str, dict[str, MeanOfDraws]]", use: str = "rho use") -> None:
    """Methods by their first figure, best first."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("method", no_wrap=True)
    keys = list(next(iter(rows.values())))
    for key in keys:
        table.add_column({**TITLES, "rho_use": use}[key], justify="right", no_wrap=True)
    for name, row in sorted(rows.items(), key=lambda pair: -pair[1][keys[0]].mean):
        table.add_row(name, *(_figure(row[key]) for key in keys))
    console().print(table)


def _show_traps(found: "Calibration") -> None:
    """Which traps hold, which methods find them, and what that means."""
    counts = found.trap_counts()
    if not counts:
        return
    print(
        "Traps that hold: "
        + ", ".join(f"{n} of {of} {TITLES[kind]}" for kind, (n, of) in counts.items())
        + "."
    )
    for draw in found.draws:
        for reason in draw.trapped.moved["refusals"] if draw.trapped else ():
            print(f"No traps in draw {draw.seed}: {reason}.")
    rows = found.traps()
    if any(rows.values()):
        _print_table(rows)
        print(
            "Share of the traps above the median of plain grafts, of less effect than any trap\n"
            "(.15 nats against .3 and more; chance .50). Saturated: seen by a swap, not by slopes.\n"
            "Redundant: by two ablated together, not by one. Sign-mixed: by the size of single\n"
            "prompts' effects, not by their mean."
        )


def _figure(estimate: Any) -> str:
    """A mean with the half-width of its interval: ``.91 ±.05``."""
    if estimate.ci95 is None:
        return _short(estimate.mean)
    return f"{_short(estimate.mean)} ±{_short((estimate.ci95[1] - estimate.ci95[0]) / 2)}"


def _short(value: float) -> str:
    return f"{value:.2f}".replace("0.", ".", 1)
