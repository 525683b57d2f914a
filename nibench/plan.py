"""The plan of a run: which cells there are, which of them still hold, and what makes each again.

Planning imports neither torch nor transformers.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from nibench.control import ChainControl, chain_control
from nibench.errors import InputError
from nibench.method import Needs, choice_problem
from nibench.others import companions
from nibench.record import Cell, fingerprint, read_record, record_path
from nibench.submissions import MethodFile, TaskFile, find_method, find_task, names, resolve_model
from nibench.suites import spends_as
from nibench.task import Task

if TYPE_CHECKING:
    from nibench.ground import Options


@dataclass(frozen=True)
class Group:
    """The cells of one task in one model: they share one extraction and one setting."""

    task: TaskFile
    model: str | None
    cells: tuple[tuple[MethodFile, Cell], ...]
    digests: dict[str, dict[str, str]]
    commands: dict[str, str]
    others: tuple[str, ...] = ()  # for methods that compare models
    control: ChainControl | None = None


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


def make_plan(
    methods: Sequence[str | MethodFile] | None,
    tasks: Sequence[str],
    models: Sequence[str],
    seeds: int,
    options: "Options",
    folder: Path,
    fresh: bool,
    others: Sequence[str] = (),
    controls: Sequence[str] = (),
) -> Plan:
    """The cells to run, sorted into groups, without importing torch; with ``controls`` also under each of them."""
    from nibench.harness import package_versions
    from nibench.modelfiles import locate, model_digest

    wanted = methods if methods else names("methods")
    files = [find_method(one) if isinstance(one, str) else one for one in wanted]
    # a broken file or an unknown preset is told before any work is done
    loaded = [file.load() for file in files]
    for file, method in zip(files, loaded, strict=True):
        if problem := choice_problem(method):
            raise InputError(f"{file.path}: {problem}")
    compares = [Needs.MODELS in method.needs for method in loaded]
    chains: list[ChainControl | None] = [None, *map(chain_control, controls)]
    groups: list[Group] = []
    done: list[Path] = []
    skipped: list[str] = []
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
            for control in chains:
                if control is not None and (reason := _beyond(control, task, model)):
                    skipped.append(f"{task_file.id} on {model}, control {control}: {reason}")
                    continue
                asked = replace(options, control=control)
                cells, cell_digests, commands = [], {}, {}
                for file, several in zip(files, compares, strict=True):
                    for seed in range(seeds):
                        cell = _cell(file, task_file, task, model, seed, asked)
                        cell = cell.model_copy(update={"others": company if several else ()})
                        mine = {**digests, "method": file.digest, **(seen if cell.others else {})}
                        path = record_path(folder, cell)
                        if not fresh and _holds(path, fingerprint(cell, mine, package_versions())):
                            done.append(path)
                            continue
                        cells.append((file, cell))
                        cell_digests[cell.stem] = mine
                        commands[cell.stem] = _command(file, task_file, cell, asked)
                if cells:
                    where = None if model_folder is None else str(model_folder)
                    groups.append(
                        Group(task_file, where, tuple(cells), cell_digests, commands, company, control)
                    )
    return Plan(tuple(groups), tuple(done), tuple(skipped))


def _beyond(control: ChainControl, task: Task, model: str | None) -> str | None:
    """Why a control says nothing here, or None."""
    if model is None and control in ("random_model", "sequence"):
        return f"a sampled world has no {'weights' if control == 'random_model' else 'words'}"
    return "the task has no labels" if task.concept_free else None


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
        control=options.control,
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
    parts += [f"--control {options.control}"] if options.control else []
    parts += [f"--seeds {cell.seed + 1}"] if cell.seed else []
    return " ".join([*parts, *spends_as(options.budget)])


def _holds(path: Path, expected: str) -> bool:
    """Whether the record at ``path`` is whole, not a failure, and rests on the same inputs."""
    if not path.exists():
        return False
    try:
        record = read_record(path)
    except InputError:
        return False
    return record.status != "failed" and record.fingerprint == expected
