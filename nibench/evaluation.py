"""evaluate(): plan the cells, leave out what is already there, run the rest, report."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from nibench.errors import InputError, TooFewClasses
from nibench.plan import Group, Plan, make_plan
from nibench.record import read_record, record_path
from nibench.report import Report
from nibench.suites import Budget
from nibench.task import Site

if TYPE_CHECKING:
    from nibench.ground import Options
    from nibench.model import LanguageModel

LOCK = ".lock"


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
    controls: Sequence[str] = (),
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
    controls : where to break the chain, each in cells of their own (``nibench.control.CHAIN_CONTROLS``).
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

    where = None if data is None else str(data)
    options = Options(site, layers, aggregation, cap, where, device, budget=budget or Budget())
    start = time.perf_counter()
    folder = Path(out)
    references = [model if isinstance(model, str) else _reference(model) for model in models]
    with locked(folder):
        plan = make_plan(methods, tasks, references, seeds, options, folder, fresh, others, controls)
        if not plan.groups and not plan.done:
            reasons = "; ".join(plan.skipped) or "no tasks were named"
            raise InputError(f"Nothing to run: {reasons}. See: nibench list tasks")
        peak, left_out = _run(plan, options, folder, jobs, on_progress)
        ran = [group for group, reason in zip(plan.groups, left_out, strict=True) if reason is None]
        new = [record_path(folder, cell) for group in ran for _, cell in group.cells]
        skipped = (*plan.skipped, *filter(None, left_out))
        if not new and not plan.done:
            raise InputError(f"Nothing to run: {'; '.join(skipped)}")
        records = [read_record(path) for path in sorted([*new, *plan.done])]
    return Report(records, folder, skipped, time.perf_counter() - start, peak, len(new))


def _reference(model: "LanguageModel") -> str:
    if model.folder is None:
        raise InputError(
            f"{model.name} is in memory only; records must name what they rest on. Save it first: "
            "model.network.save_pretrained(DIR), model.tokenizer.save_pretrained(DIR), then models=[DIR]."
        )
    return model.name


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
) -> tuple[float, list[str | None]]:
    """Compute the plan's groups; returns the largest memory of this process and its workers, in MiB.

    And per group why it was left out, or None.
    """
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
        left_out = _run_groups(plan.groups, options, folder, jobs)
    finally:
        stop.set()
        watcher.join()
    if on_progress is not None:
        on_progress(total, total)
    return peak, left_out


def _stamp(path: Path) -> float:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _run_groups(groups: Sequence[Group], options: "Options", folder: Path, jobs: int) -> list[str | None]:
    """Per group why it was left out, or None; those of a model first, for they take longest."""
    order = sorted(range(len(groups)), key=lambda i: groups[i].model is None)
    if min(jobs, len(groups)) <= 1:
        found = [_attempt(groups[i], options, folder) for i in order]
    else:
        from joblib import Parallel, delayed

        workers = Parallel(n_jobs=min(jobs, len(groups)), backend="loky", pre_dispatch="all")
        found = list(workers(delayed(_attempt)(groups[i], options, folder) for i in order))
    return [reason for _, reason in sorted(zip(order, found, strict=True))]


def _attempt(group: Group, options: "Options", folder: Path) -> str | None:
    """Run a group; why not, where its text holds too few items for two classes."""
    try:
        run_group(group, options, folder)
    except TooFewClasses as error:
        return f"{group.task.id}{f' on {group.model}' if group.model else ''}: {error}"
    return None


def run_group(group: Group, options: "Options", folder: Path) -> list[Path]:
    """Score one group's cells in this process, on one thread."""
    from nibench.ground import Ground
    from nibench.harness import run_cells, single_thread
    from nibench.model import load_model

    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    model = None if group.model is None else load_model(group.model, device=options.device)
    with single_thread():
        asked = replace(options, control=group.control)
        ground = Ground(group.task.load(), model, asked, others=group.others)
        return run_cells(ground, group.cells, group.digests, group.commands, folder / "records")
