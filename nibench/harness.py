"""The road of one cell: activations -> method -> ranking -> metrics -> record."""

import platform
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from nibench.cost import Meter
from nibench.errors import InputError
from nibench.ground import Ground, Options, read_only
from nibench.method import Needs, Observations
from nibench.moments import ROW_BLOCK, Statistics
from nibench.neurons import Neurons
from nibench.others import companions
from nibench.ranking import Ranking
from nibench.recompute import what_to_keep
from nibench.record import (
    Card,
    Cell,
    Cost,
    Environment,
    Record,
    ScoreRecord,
    digest_of,
    write_record,
)
from nibench.reruns import Reruns, run_method
from nibench.submissions import MethodFile, find_method, find_task, method_card, resolve_model
from nibench.task import Task, Truth

if TYPE_CHECKING:
    from nibench.metrics import Score, Setting

N_TOP = 50  # neurons named in a record


# ---------------------------------------------------------------- arrays in, ranking out


def rank(
    method: str,
    X: Any,
    y: Any,
    *,
    sentences: Any = None,
    word_types: Any = None,
    others: Any = (),
    seed: int = 0,
    **parameters: Any,
) -> Ranking:
    """Rank the columns of ``X`` by their importance for the labels ``y``.

    Parameters
    ----------
    method : str
        A bundled method's id (``nibench list methods``), with or without a preset, or a path.
    X : array (N, D)
        Activations, finite. Single or half precision is taken as it is, also from a file (``np.memmap``).
    y : array (N,)
        Class of each row; any integers or strings, at least two classes.
    sentences, word_types : arrays (N,), optional
        Ids or strings; folds keep sentences together.
    others : list of arrays (N, D'), optional
        Other models' activations of the same items, for the methods that compare models.
    seed : int
        Seeds the method's randomness and the order of ties.
    **parameters
        The method's fields.

    Returns
    -------
    Ranking
        ``scores`` (D,), higher = more important; ``order`` best first.

    Raises
    ------
    InputError
        For misaligned or non-finite input, fewer than two classes, or a method that needs a model.

    Examples
    --------
    >>> import numpy as np, nibench as nb
    >>> rng = np.random.default_rng(0)
    >>> y = rng.integers(0, 2, 200)
    >>> X = rng.normal(size=(200, 5)); X[:, 3] += 2 * y
    >>> int(nb.rank("probeless", X, y).order[0])
    3
    """
    file = find_method(method, parameters)
    loaded = file.load()
    activations = _matrix(X, "X")
    beside = tuple(_matrix(other, f"others[{i}]") for i, other in enumerate(others))
    for i, other in enumerate(beside):
        if len(other) != len(activations):
            raise InputError(
                f"others[{i}] has {len(other)} rows for {len(activations)} rows of X; give the same items."
            )
    for name, values in (("y", y), ("sentences", sentences), ("word_types", word_types)):
        if values is not None and len(values) != len(activations):
            raise InputError(
                f"{name} has {len(values)} entries for {len(activations)} rows of X; give one per row."
            )
    classes, labels = np.unique(np.asarray(y), return_inverse=True)
    if len(classes) < 2:
        raise InputError(f"y has one class only ({classes[0]!r}); a concept needs at least two.")
    ids = [
        None if v is None else np.unique(np.asarray(v), return_inverse=True)[1]
        for v in (sentences, word_types)
    ]
    if Needs.MODELS in loaded.needs and not beside:
        raise InputError(
            f"{file.label} compares models: pass others=[X2, ...], what other models do on the same items."
        )
    beyond = loaded.needs & ~(Needs.ACTIVATIONS | Needs.LABELS | Needs.MODELS)
    if beyond:
        raise InputError(
            f"{file.label} needs {' and '.join(str(n.name) for n in beyond)}: arrays are not enough. "
            f"Use: nibench rank {file.reference} --task TASK --model MODEL"
        )
    data = Observations(
        Neurons.anonymous(activations.shape[1]),
        len(classes),
        loaded.needs,
        file.label,
        Statistics(activations, read_only(labels), len(classes)),
        _word_types=ids[1],
        _sentences=ids[0],
        _others=beside,
    )
    return run_method(loaded, data, file.label, seed)


def _matrix(values: Any, name: str) -> np.ndarray:
    """float32, or float16 where it is that already, (N, D), read-only, finite."""
    given = np.asarray(values)
    precision = np.float16 if given.dtype == np.float16 else np.float32
    array = np.ascontiguousarray(given, dtype=precision)  # not copied where it is that already
    if array.ndim != 2 or 0 in array.shape:
        raise InputError(
            f"{name} has shape {array.shape}; expected (N, D): a row per item, a column per neuron."
        )
    for start in range(0, len(array), ROW_BLOCK):
        finite = np.isfinite(array[start : start + ROW_BLOCK])
        if not finite.all():
            row, column = np.argwhere(~finite)[0] + [start, 0]
            raise InputError(
                f"{name} holds NaN or infinity (first: row {row}, neuron {column}); remove or repair these rows."
            )
    return read_only(array)


def load_task(name: str) -> Task:
    """The task that a bundled name (``nibench list tasks``) or a path to a task file means."""
    return find_task(name).load()


# ---------------------------------------------------------------- a model's neurons


def rank_in_model(
    method: str,
    task: str,
    model: str | None,
    options: Options,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
    others: Sequence[str] = (),
    thin: float | None = None,
) -> tuple[Ranking, Neurons, list[str]]:
    """Rank the neurons of a model for a task; also their names, and notes on what was read.

    ``progress`` is called with (items read, items in all) while the model reads the text. ``others`` are the
    models to compare with, for methods that take several (default: `nibench.others.companions`). ``thin`` puts the
    best neuron of each correlation cluster, cut at this distance, before all others.

    Raises
    ------
    InputError
        If the task does not go with the model, or the method needs what they cannot give.
    """
    from nibench.model import load_model

    file = find_method(method)
    loaded, asked = file.load(), load_task(task)
    language_model = None if model is None else load_model(resolve_model(model), device=options.device)
    folder = None if language_model is None else language_model.folder
    reason = asked.source.refuses(folder)
    if reason is not None:
        raise InputError(f"Task {task!r} does not go with {model or 'no model'}: {reason}.")
    if Needs.MODELS in loaded.needs:
        others = companions(model, folder, asked.concept, others)
    ground = Ground(asked, language_model, options, progress, others)
    lacking = ground.lacks(loaded)
    if lacking is not None:
        raise InputError(f"{file.label} {lacking}.")
    ranking = run_method(loaded, ground.observe(loaded, file.label), file.label, seed)
    if thin is not None:
        clustering = find_method("correlation_clustering", {"distance": thin}).load()
        groups = run_method(clustering, ground.observe(clustering, "correlation_clustering"), "", seed)
        ranking = ranking.thinned(groups.evidence.clusters)
    compared = [f"compared with {', '.join(ground.others)}"] if Needs.MODELS in loaded.needs else []
    return ranking, ground.data.neurons, [*ground.notes(loaded), *compared]


# ---------------------------------------------------------------- one cell


@cache
def package_versions() -> dict[str, str]:
    """Versions that a number may depend on; nibench's own carries the digest of its source."""
    found = {"python": platform.python_version()}
    for name in ("nibench", "numpy", "scipy", "scikit-learn", "torch", "transformers"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # nibench in a bare checkout
            found[name] = "not installed"
    sources = sorted(Path(__file__).parent.rglob("*.py"))
    inside = [path for path in sources if "_bundled" not in path.parts]
    found["nibench"] += f"+{digest_of([path.read_text(encoding='utf-8') for path in inside])[:12]}"
    return found


def score_cell(
    ground: Ground,
    setting: "Setting",
    method: MethodFile,
    cell: Cell,
    digests: Mapping[str, str],
    command: str,
) -> tuple[Record, dict[str, np.ndarray]]:
    """Score one method on one task with one model: its record, and the arrays beside it."""
    from nibench.metrics import Trial, measure

    card = card_of(method)
    common: dict[str, Any] = {
        "cell": cell,
        "card": card,
        "concept": ground.task.concept,
        "classes": list(ground.data.classes),
        "digests": dict(digests),
        "versions": package_versions(),
        "tier": tier_of(setting.truth, cell.model),
        "lineage": setting.truth.lineage or cell.task if setting.truth is not None else "",
        "n_neurons": len(ground.data.neurons),
        "notes": list(ground.data.notes),
        "command": command,
        "environment": environment(ground),
    }
    try:
        loaded = method.load()
        lacking = ground.lacks(loaded)
        if lacking is not None:
            return Record(status="not_applicable", reason=lacking, **common), {}
        observations = ground.observe(loaded, method.label)
        common["notes"] = ground.notes(loaded)
        passes = ground.passes(loaded)
        if passes is not None:
            passes.reset()
        with Meter() as meter:
            ranking = run_method(loaded, observations, method.label, cell.seed)
    except (KeyboardInterrupt, SystemExit):
        raise
    except Exception as error:  # a stranger's code may raise anything: a flagged record, never a missing row
        reason = f"{type(error).__name__}: {error}".strip()
        tail = traceback.format_exc(limit=-3)
        return Record(
            status="failed", reason=reason, flags=["failed"], **{**common, "notes": [*common["notes"], tail]}
        ), {}
    cost = Cost(
        seconds=meter.seconds,
        forward=passes.forward if passes else 0.0,
        backward=passes.backward if passes else 0.0,
        peak_memory_mb=meter.peak_memory_mb,
    )
    reruns = Reruns(loaded, method.label, cell.seed, partial(ground.observe, loaded, method.label))
    trial = Trial(setting, ranking, reruns)
    scores = measure(trial)
    common["notes"] = [*common["notes"], *dict.fromkeys(reruns.failures)]
    arrays = what_to_keep(trial, scores, ground.data)
    record = Record(
        status="ok",
        top=[ground.data.neurons[int(i)] for i in ranking.top(N_TOP)],
        scores=[score_record(score) for score in scores],
        flags=sorted({*ranking.flags, *_home_advantage(card)}),
        cost=cost,
        **common,
    )
    return record, arrays


def tier_of(truth: Truth | None, model: str | None) -> str:
    """What kind of thing the neurons belong to; empty where nothing is known of them."""
    return "" if truth is None else truth.tier or ("world" if model is None else "model")


def _home_advantage(card: Card) -> list[str]:
    """A metric that shares machinery with a method is marked."""
    flags = [f"shares the estimand: {claim}" for claim in card.shares_estimand]
    if card.family in ("linear", "gaussian"):
        flags.append(f"home advantage: probe.auc[{'lda' if card.family == 'linear' else 'qda'}]")
    return flags


def score_record(score: "Score") -> ScoreRecord:
    """A score as a record keeps it; what is summed per cluster goes to the arrays."""
    fields = {name: getattr(score, name) for name in ScoreRecord.model_fields}
    return ScoreRecord(**fields)


def card_of(method: MethodFile) -> Card:
    """The method's card as a record keeps it; a file that cannot be loaded has an empty one."""
    try:
        card = method_card(method)
    except InputError:
        return Card(family="unknown", claims="none", direction="none", needs=[])
    return Card(**{name: card[name] for name in Card.model_fields})


def environment(ground: Ground) -> Environment:
    """Where and when: the only block besides ``cost`` that may differ between equal runs."""
    return Environment(
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        platform=platform.platform(),
        processor=platform.machine(),
        device=str(ground.model.device) if ground.model is not None else "cpu",
        threads=1,
        versions={"platform": platform.version()},
    )


def run_cells(
    ground: Ground,
    cells: Sequence[tuple[MethodFile, Cell]],
    digests: Mapping[str, Mapping[str, str]],
    commands: Mapping[str, str],
    folder: Path,
) -> list[Path]:
    """Score these methods on one ground, writing each record as soon as it is whole."""
    settings: dict[int, Setting] = {}
    written = []
    for method, cell in cells:
        if cell.seed not in settings:
            settings[cell.seed] = ground.setting(cell.seed)
        record, arrays = score_cell(
            ground, settings[cell.seed], method, cell, digests[cell.stem], commands[cell.stem]
        )
        written.append(write_record(record, arrays, folder))
    return written


@contextmanager
def single_thread() -> Iterator[None]:
    """One thread for BLAS (and torch, where it is loaded) while open: records do not depend on ``--jobs``."""
    from threadpoolctl import threadpool_limits

    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch else 1
    if torch:
        torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield
    finally:
        if torch:
            torch.set_num_threads(before)
