"""Find and load method and task files: bundled ones by name, a user's by path, a package's by entry point.

All take the same road: the file is loaded under a name unique to its path, and must hold exactly one
``Method`` (or one ``task``). Nothing is registered by being imported.
"""

import hashlib
import importlib.util
import inspect
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

from nibench import published
from nibench.disk import digest
from nibench.errors import InputError, unknown
from nibench.method import Method
from nibench.task import Task

ENTRY_POINTS = "nibench.methods"
ID = re.compile(r"[a-z][a-z0-9_]{0,59}")  # what a method or task may be called
Kind = Literal["methods", "tasks"]


def bundled(kind: Kind | Literal["tasks/models"]) -> Path:
    """The folder of bundled files: inside the package (wheel), else beside it (checkout)."""
    package = Path(__file__).parent
    inside = package / "_bundled" / kind
    return inside if inside.is_dir() else package.parent / kind


def names(kind: Kind) -> list[str]:
    """The ids of all bundled files of a kind and, for methods, of the installed packages' ones."""
    stems = {path.stem for path in bundled(kind).glob("*.py")}
    return sorted(stems | set(_entry_points())) if kind == "methods" else sorted(stems)


def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def _file(kind: Kind, name: str) -> Path:
    """The file that a name or a path means."""
    if name.endswith((".py", *published.ENDINGS)) or "/" in name:
        path = Path(name)
        if not path.is_file():
            raise InputError(f"No file {name!r}. Make one: nibench new {kind[:-1]} {path.stem}")
        return path.resolve()
    path = bundled(kind) / f"{name}.py"
    if not path.is_file():
        own = f"nibench run --{kind[:-1]} path/to/{name}.py"
        raise unknown(kind[:-1], name, names(kind), f"Your own file: {own}")
    return path


def load_file(path: Path) -> ModuleType:
    """Import a file under a name unique to its path.

    Raises
    ------
    InputError
        If it raises at import; the message names the file, the line and the error.
    """
    name = f"nibench_file_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} is not a Python file; expected a file that ends in .py.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before exec: dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # a stranger's file may raise anything
        del sys.modules[name]
        line = line_in(path, error)
        raise InputError(f"{path}{line} raised {type(error).__name__} at import: {error}") from error
    return module


def line_in(path: Path, error: Exception) -> str:
    """``, line 12,`` where an error came from this file; else nothing."""
    if isinstance(error, SyntaxError) and error.lineno:
        return f", line {error.lineno},"
    trace, line = error.__traceback__, None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(path):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f", line {line}," if line else ""


@dataclass(frozen=True)
class MethodFile:
    """A method by name or path, with the preset and the parameters it is to run with.

    Cheap to send to a worker: the file is loaded where it is used.
    """

    id: str
    path: Path
    preset: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    entry_point: str | None = None

    @property
    def label(self) -> str:
        """As people write it: ``lca`` or ``lca@dalvi2019``."""
        return f"{self.id}@{self.preset}" if self.preset else self.id

    @property
    def reference(self) -> str:
        """What to type for it after ``--method``."""
        own = self.entry_point is None and self.path.parent != bundled("methods")
        stem = str(self.path) if own else self.id
        return f"{stem}@{self.preset}" if self.preset else stem

    @property
    def digest(self) -> str:
        """sha256 of the source file."""
        return digest(self.path)

    def kind(self) -> type[Method]:
        """The one Method class of the file."""
        if self.entry_point is not None:
            found = EntryPoint(self.id, self.entry_point, ENTRY_POINTS).load()
            if isinstance(found, type) and issubclass(found, Method):
                return found
            module = found
        else:
            module = load_file(self.path)
        kinds = [
            value
            for value in vars(module).values()
            if isinstance(value, type) and issubclass(value, Method) and value.__module__ == module.__name__
        ]
        if len(kinds) != 1:
            raise InputError(f"{self.path} defines {len(kinds)} Method classes; expected exactly one.")
        if not hasattr(kinds[0], "needs"):
            raise InputError(
                f"{self.path}: {kinds[0].__name__} declares no needs. Add needs = Needs.ACTIVATIONS | ..."
            )
        return kinds[0]

    def load(self) -> Method:
        """The method with its preset's and the given parameters.

        Raises
        ------
        InputError
            For an unknown preset or parameter, or an abstract class.
        """
        kind = self.kind()
        values: dict[str, Any] = {}
        if self.preset is not None:
            if self.preset not in kind.presets:
                raise unknown(
                    f"preset of {self.id}", self.preset, kind.presets, _listed("presets", kind.presets)
                )
            values.update(kind.presets[self.preset])
        known = list(_fields(kind))
        for name in self.parameters:
            if name not in known:
                raise unknown(f"parameter of {self.id}", name, known, _listed("parameters", known))
        try:
            return kind(**{**values, **self.parameters})
        except TypeError as error:
            raise InputError(f"{self.path}: cannot make {kind.__name__}: {error}") from None


def _fields(kind: type[Method]) -> dict[str, Any]:
    """The hyper-parameters of a method and their defaults."""
    return {field.name: field.default for field in fields(kind)} if is_dataclass(kind) else {}


def _listed(what: str, options: Any) -> str:
    return f"It has the {what} {', '.join(options)}." if options else f"It has no {what}."


def find_method(name: str, parameters: Mapping[str, Any] | None = None) -> MethodFile:
    """The method that ``lca``, ``lca@dalvi2019`` or ``path/to/mine.py`` means.

    Raises
    ------
    InputError
        If there is none; the message suggests the nearest name.
    """
    stem, _, preset = name.partition("@") if not name.endswith(".py") else (name, "", "")
    points = _entry_points()
    if stem in points and not (bundled("methods") / f"{stem}.py").is_file():
        return _from_entry_point(points[stem], preset or None, parameters or {})
    path = _file("methods", stem)
    if path.suffix == ".py" and path.parent != bundled("methods"):
        _require_own_name(path)
    return MethodFile(path.stem, path, preset or None, dict(parameters or {}))


def _require_own_name(path: Path) -> None:
    """Refuse a file that would stand on a board under a bundled method's name, or under none that can be typed."""
    if not ID.fullmatch(path.stem):
        raise InputError(
            f"{path.name!r} names no method; expected lower case, digits and underscores, as in my_idea.py."
        )
    same = bundled("methods") / path.name
    if same.is_file() and digest(same) != digest(path):
        raise InputError(f"There is a method {path.stem!r} already; rename the file, as in my_{path.name}.")


def _from_entry_point(point: EntryPoint, preset: str | None, parameters: Mapping[str, Any]) -> MethodFile:
    try:
        spec = importlib.util.find_spec(point.module)
    except ImportError:
        spec = None
    if spec is None or spec.origin is None:
        raise InputError(
            f"The installed method {point.name!r} points to {point.value!r}, which cannot be imported."
        )
    return MethodFile(point.name, Path(spec.origin), preset, dict(parameters), point.value)


def method_card(method: MethodFile) -> dict[str, Any]:
    """What a method says of itself: docstring, class variables, fields and presets, as plain values."""
    kind = method.kind()
    return {
        "id": method.label,
        "summary": (inspect.getdoc(sys.modules[kind.__module__]) or "").partition("\n")[0],
        "family": kind.family,
        "claims": kind.claims,
        "direction": kind.direction,
        "needs": [need.name for need in kind.needs],
        "shares_estimand": list(kind.shares_estimand),
        **kind.criteria(),
        "complexity": kind.complexity,
        "limits": kind.limits,
        "error_rate": kind.error_rate or "no procedure with a known error rate",
        "paper": kind.paper,
        "parameters": _fields(kind),
        "presets": dict(kind.presets),
    }


@dataclass(frozen=True)
class TaskFile:
    """A task by name or path, with the dials it is turned by: ``graded_noise_world@snr=0.5,draw=3``."""

    stem: str
    path: Path
    dials: Mapping[str, float] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """The file's stem, with the dials in the order they were given."""
        return self.stem + self._turned

    @property
    def _turned(self) -> str:
        return "@" + ",".join(f"{name}={value:g}" for name, value in self.dials.items()) if self.dials else ""

    @property
    def reference(self) -> str:
        """What to type for it after ``--task``."""
        own = self.path.parent != bundled("tasks")
        return f"{self.path}{self._turned}" if own else self.id

    @property
    def digest(self) -> str:
        """sha256 of the source file."""
        return digest(self.path)

    def load(self) -> Task:
        """The file's ``task``, its dials turned.

        Raises
        ------
        InputError
            If the file has no task, or its task has no such dial.
        """
        if self.path.suffix in published.ENDINGS:
            return published.read_task(self.path)
        task = getattr(load_file(self.path), "task", None)
        if not isinstance(task, Task):
            raise InputError(f"{self.path} has no task; expected one line 'task = Task(...)'.")
        if not self.dials:
            return task
        turn = getattr(task.source, "turned", None)
        if turn is None:
            raise InputError(f"{self.id!r}: only sampled worlds have dials; type {self.stem} alone.")
        return replace(task, source=turn(self.dials))


def find_task(name: str) -> TaskFile:
    """The task that a bundled name, a path, or either with ``@dial=value,...`` means.

    Raises
    ------
    InputError
        If there is none (with the nearest name), or a dial's value is no number.
    """
    stem, dials = split_dials(name)
    path = _file("tasks", stem)
    return TaskFile(path.stem, path, dials)


def split_dials(name: str) -> tuple[str, dict[str, float]]:
    """``graded_noise_world@snr=0.5,draw=3`` -> its task and its dials; none where nothing is turned.

    Raises
    ------
    InputError
        If a dial's value is no number.
    """
    stem, at, text = name.rpartition("@")
    if not at or "=" not in text:
        return name, {}
    dials = {}
    for part in text.split(","):
        dial, _, value = part.partition("=")
        try:
            dials[dial.strip()] = float(value)
        except ValueError:
            raise InputError(f"{part!r} in {name!r}: expected dial=number, e.g. @snr=0.5,draw=3.") from None
    return stem, dials


def bundled_models() -> dict[str, Path]:
    """Names and folders of the models that come with nibench."""
    return {path.parent.name: path.parent for path in sorted(bundled("tasks/models").glob("*/config.json"))}


def resolve_model(name: str) -> str:
    """A bundled model's folder for its name; anything else (folder, hub id) as it stands.

    Raises
    ------
    InputError
        For what is all but a bundled name.
    """
    models = bundled_models()
    if name not in models and not Path(name).exists() and get_close_matches(name, models, cutoff=0.8):
        raise unknown("model", name, models, "A folder or a hub id is as good.")
    return str(models.get(name, name))
