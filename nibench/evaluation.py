"""evaluate(): plan the cells, leave out what is already there, run the rest, report."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nibench.errors import InputError
from nibench.method import Needs
from nibench.others import companions
from nibench.record import Cell, Record, fingerprint, read_record, record_path
from nibench.submissions import MethodFile, TaskFile, find_method, find_task, names, resolve_model
from nibench.suites import SUITES, Budget
from nibench.task import Site, Task

if TYPE_CHECKING:
    from rich.console import Group as Shown
    from rich.table import Table

    from nibench.comparison import Comparison
    from nibench.ground import Options
    from nibench.model import LanguageModel

LOCK = ".lock"


@dataclass(frozen=True)
class Group:
    """The cells of one task in one model: they share one extraction and one setting."""

    task: TaskFile
    model: str | None
    cells: tuple[tuple[MethodFile, Cell], ...]
    digests: dict[str, dict[str, str]]
    commands: dict[str, str]
    others: tuple[str, ...] = ()  # for methods that compare models


@dataclass(frozen=True)
class Plan:
    """What a run consists of."""

    groups: tuple[Group, ...]
    done: tuple[Path, ...]  # records that are already there and still hold
    skipped: tuple[str, ...]  # "task on model: reason", in nobody's mean

    @property
    def n_cells(self) -> int:
        """Cells still to compute."""
        return sum(len(group.cells) for group in self.groups)


@dataclass(frozen=True)
class Report:
    """The records of a run.

    Attributes
    ----------
    records : list of Record
        One per cell, failures included.
    folder : Path
        Where they lie.
    skipped : tuple of str
        Task and model pairs that do not go together, with the reason.
    """

    records: list[Record]
    folder: Path
    skipped: tuple[str, ...] = ()
    seconds: float = 0.0
    peak_memory_mb: float = 0.0
    computed: int = 0

    def table(self) -> "Table":
        """The leaderboard as a rich table that fits 80 columns."""
        from nibench.leaderboard import terminal_table
        from nibench.results import with_arrays

        return terminal_table(with_arrays(self.records, self.folder))

    def difficulty(self) -> "list[Shown]":
        """Where each method breaks as a world gets harder, a table per dial; empty if none was turned."""
        from nibench.difficulty import curves, tables
        from nibench.results import collect

        return tables(curves(collect(self.records)))

    def compare(self, *methods: str) -> "Comparison":
        """Methods head to head: paired differences, corrected p-values, where each wins; prints itself.

        Raises
        ------
        InputError
            For fewer than two methods, or methods that are not in the records or share no cell.
        """
        from nibench.comparison import compare
        from nibench.results import collect, with_arrays

        return compare(collect(with_arrays(self.records, self.folder)), methods)


def evaluate(
    methods: Sequence[str] | None = None,
    tasks: Sequence[str] = (),
    models: "Sequence[str | LanguageModel]" = (),
    *,
    seeds: int = 1,
    jobs: int = 1,
    site: Site | None = None,
    layers: str | None = None,
    aggregation: Literal["last", "first", "mean"] = "last",
    cap: int | None = None,
    data: str | Path | None = None,
    device: str = "auto",
    budget: Budget | None = None,
    out: str | Path = "nibench-results",
    fresh: bool = False,
    others: Sequence[str] = (),
    on_progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Score every method on every task with every model it applies to.

    Parameters
    ----------
    methods : ids, ``id@preset`` or paths; None means every bundled and installed one.
    tasks : ids or paths.
    models : bundled names, folders, hub ids, or models from ``load_model``.
    seeds : int
        Seeds 0..seeds-1 vary the method's and the control task's draws; the data stays fixed.
    jobs : int
        Worker processes; numbers do not depend on it.
    site, layers, aggregation, cap, data, device
        How text is read from the model (see ``extract``); None means what the task says.
    budget : Budget, optional
        What a run may spend on prompts, sets and draws; the default suite's if not given.
    out : folder of the records; a cell whose inputs did not change is not computed again.
    fresh : bool
        Compute every cell again.
    others : the models that methods of several models compare each with (see `nibench.others`).
    on_progress : callable, optional
        Called with (cells done, cells in all).

    Returns
    -------
    Report

    Raises
    ------
    InputError
        For unknown names, an unwritable or locked ``out``, or when no task goes with any model.
    """
    from nibench.ground import Options

    options = Options(
        site, layers, aggregation, cap, None if data is None else str(data), device, budget or Budget()
    )
    start = time.perf_counter()
    folder = Path(out)
    references = [model if isinstance(model, str) else _reference(model) for model in models]
    with locked(folder):
        plan = make_plan(methods, tasks, references, seeds, options, folder, fresh, others)
        if not plan.groups and not plan.done:
            reasons = "; ".join(plan.skipped) or "no tasks were named"
            raise InputError(f"Nothing to run: {reasons}. See: nibench list tasks")
        peak = _run(plan, options, folder, jobs, on_progress)
        new = [record_path(folder, cell) for group in plan.groups for _, cell in group.cells]
        records = [read_record(path) for path in sorted([*new, *plan.done])]
    return Report(records, folder, plan.skipped, time.perf_counter() - start, peak, plan.n_cells)


def _reference(model: "LanguageModel") -> str:
    if model.folder is None:
        raise InputError(
            f"{model.name} is in memory only; records must name what they rest on. Save it first: "
            "model.network.save_pretrained(DIR), model.tokenizer.save_pretrained(DIR), then models=[DIR]."
        )
    return model.name


def make_plan(
    methods: Sequence[str] | None,
    tasks: Sequence[str],
    models: Sequence[str],
    seeds: int,
    options: "Options",
    folder: Path,
    fresh: bool,
    others: Sequence[str] = (),
) -> Plan:
    """The cells to run, sorted into groups, without importing torch."""
    from nibench.harness import package_versions
    from nibench.modelfiles import locate, model_digest

    files = [find_method(name) for name in (methods if methods else names("methods"))]
    # a broken file or an unknown preset is told before any work is done
    compares = [Needs.MODELS in file.load().needs for file in files]
    groups, done, skipped = [], [], []
    for task_file in [find_task(name) for name in tasks]:
        task = task_file.load()
        candidates: list[str | None] = [*models]
        if task.source.refuses(None) is None:
            candidates = [None]
        elif not models:
            skipped.append(f"{task_file.id}: {task.source.refuses(None)} (name one with --model)")
        for model in candidates:
            model_folder = None if model is None else locate(resolve_model(model))
            reason = task.source.refuses(model_folder)
            if reason is not None:
                skipped.append(f"{task_file.id} on {model}: {reason}")
                continue
            digests = {
                "task": task_file.digest,
                "data": task.source.fingerprint(options.data, model_folder),
                "budget": repr(options.budget),
                "model": "" if model_folder is None else model_digest(model_folder),
            }
            company = companions(model, model_folder, task.concept, others, models) if any(compares) else ()
            seen = {"others": " ".join(model_digest(locate(resolve_model(name))) for name in company)}
            cells, cell_digests, commands = [], {}, {}
            for file, several in zip(files, compares, strict=True):
                for seed in range(seeds):
                    cell = _cell(file, task_file, task, model, seed, options)
                    cell = cell.model_copy(update={"others": company if several else ()})
                    mine = {**digests, "method": file.digest, **(seen if cell.others else {})}
                    path = record_path(folder, cell)
                    if not fresh and _holds(path, fingerprint(cell, mine, package_versions())):
                        done.append(path)
                        continue
                    cells.append((file, cell))
                    cell_digests[cell.stem] = mine
                    commands[cell.stem] = _command(file, task_file, cell, options)
            if cells:
                location = None if model_folder is None else str(model_folder)
                groups.append(Group(task_file, location, tuple(cells), cell_digests, commands, company))
    return Plan(tuple(groups), tuple(done), tuple(skipped))


def _cell(
    file: MethodFile, task_file: TaskFile, task: Task, model: str | None, seed: int, options: "Options"
) -> Cell:
    return Cell(
        method=file.id,
        preset=file.preset,
        parameters=dict(file.parameters),
        task=task_file.id,
        model=model,
        site=None if model is None else options.site or task.site,
        layers=options.layers,
        aggregation=options.aggregation,
        cap=options.cap,
        seed=seed,
    )


def _command(file: MethodFile, task: TaskFile, cell: Cell, options: "Options") -> str:
    parts = ["nibench run", f"--method {file.reference}", f"--task {task.reference}"]
    parts += [f"--model {cell.model}"] if cell.model else []
    parts += [f"--other {name}" for name in cell.others]
    parts += [f"--data {options.data}"] if options.data else []
    parts += [f"--site {options.site}"] if options.site else []
    parts += [f"--layers {options.layers}"] if options.layers else []
    parts += [f"--aggregation {options.aggregation}"] if options.aggregation != "last" else []
    parts += [f"--cap {options.cap}"] if options.cap else []
    parts += [f"--seeds {cell.seed + 1}"] if cell.seed else []
    named = next((name for name, suite in SUITES.items() if suite.budget == options.budget), "default")
    parts += [f"--suite {named}"] if named != "default" else []  # what it may spend
    return " ".join(parts)


def _holds(path: Path, expected: str) -> bool:
    """Whether the record at ``path`` is whole, not a failure, and rests on the same inputs."""
    if not path.exists():
        return False
    try:
        record = read_record(path)
    except InputError:
        return False
    return record.status != "failed" and record.fingerprint == expected


@contextmanager
def locked(folder: Path) -> Any:
    """Hold the results folder for this run; another run in it is told so.

    Raises
    ------
    InputError
        If the folder cannot be written, or another run holds the lock.
    """
    from filelock import FileLock, Timeout

    try:
        (folder / "records").mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK, timeout=0)
        lock.acquire()
    except Timeout:
        raise InputError(
            f"Another run is writing to {folder} (it holds {folder / LOCK}). Wait for it, or choose another --out."
        ) from None
    except OSError as error:
        raise InputError(
            f"Cannot write to {folder}: {error.strerror or error}. Choose another --out."
        ) from None
    try:
        for leftover in (folder / "records").glob(".*.tmp"):  # of a run that was killed
            leftover.unlink(missing_ok=True)
        yield
    finally:
        lock.release()


def _run(
    plan: Plan,
    options: "Options",
    folder: Path,
    jobs: int,
    on_progress: Callable[[int, int], None] | None,
) -> float:
    """Compute the plan's groups; returns the largest memory of this process and its workers, in MiB."""
    from nibench.cost import tree_memory_mb

    total = plan.n_cells + len(plan.done)
    paths = [record_path(folder, cell) for group in plan.groups for _, cell in group.cells]
    waiting = {path: _stamp(path) for path in paths}
    peak = tree_memory_mb()
    stop = threading.Event()

    def watch() -> None:  # a cell is done when its record is on disk: what the bar shows is what is kept
        nonlocal peak
        while True:
            peak = max(peak, tree_memory_mb())
            new = [path for path, before in waiting.items() if _stamp(path) != before]
            if on_progress is not None:
                on_progress(len(plan.done) + len(new), total)
            if stop.wait(0.2):
                return

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        if plan.groups:
            _run_groups(plan.groups, options, folder, jobs)
    finally:
        stop.set()
        watcher.join()
    if on_progress is not None:
        on_progress(total, total)
    return peak


def _stamp(path: Path) -> float:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _run_groups(groups: Sequence[Group], options: "Options", folder: Path, jobs: int) -> None:
    heavy_first = sorted(groups, key=lambda group: group.model is None)
    if min(jobs, len(groups)) <= 1:
        for group in heavy_first:
            run_group(group, options, folder)
        return
    from joblib import Parallel, delayed

    Parallel(n_jobs=min(jobs, len(groups)), backend="loky", pre_dispatch="all")(
        delayed(run_group)(group, options, folder) for group in heavy_first
    )


def run_group(group: Group, options: "Options", folder: Path) -> list[Path]:
    """Score one group's cells in this process, on one thread."""
    from nibench.ground import Ground
    from nibench.harness import run_cells, single_thread
    from nibench.model import load_model

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    model = None if group.model is None else load_model(group.model, device=options.device)
    with single_thread():
        ground = Ground(group.task.load(), model, options, others=group.others)
        return run_cells(ground, group.cells, group.digests, group.commands, folder / "records")
