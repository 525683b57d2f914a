"""What there is: methods, tasks, models, suites and metrics, as plain rows and cards."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nibench import metric_cards
from nibench.errors import InputError, unknown
from nibench.submissions import bundled_models, find_method, find_task, load_file, method_card, names
from nibench.suites import SUITES

CRITERIA = (
    "scope",
    "input",
    "output",
    "scalability",
    "human_in_the_loop",
    "supervision",
    "causation",
    "complexity",
    "limits",
)


def rows(kind: str) -> list[dict[str, Any]]:
    """One row per thing of a kind: methods, tasks, models, suites or metrics."""
    return _ROWS[kind]()


def card(name: str) -> dict[str, Any]:
    """Everything about one method, task, model or suite.

    Raises
    ------
    InputError
        If nothing has this name; the message suggests the nearest.
    """
    if name.partition("@")[0] in names("methods"):
        return _method_card(name)
    if name in names("tasks"):
        return _task_card(name)
    if name in bundled_models():
        return _model_card(name, bundled_models()[name])
    if name in SUITES:
        return _suite_row(name)
    if name.endswith(".py"):
        text = Path(name).read_text(encoding="utf-8") if Path(name).is_file() else ""
        return _task_card(name) if "Task(" in text else _method_card(name)
    options = [*names("methods"), *names("tasks"), *bundled_models(), *SUITES]
    raise unknown("method, task, model or suite", name, options, "See: nibench list methods")


def _method_card(name: str) -> dict[str, Any]:
    """A method's card with its badges: which laws its scores keep, tried now (see `nibench.check`)."""
    from nibench.check import badges

    file = find_method(name)
    return {**method_card(file), "badges": badges(file)}


def anatomy_rows(name: str, folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Where a method's records know the neurons' roles: its truth on its own claim, and who fills its top.

    One row per task and model: ``truth`` is the graded score on the method's own claim (0 = random, 1 =
    perfect) with the exact oracle's in brackets where it is known, ``n`` as many neurons as are right.

    Raises
    ------
    InputError
        If the name is no method's, or the records hold nothing of it.
    """
    from nibench.results import collect
    from nibench.stored import read_results
    from nibench.wording import number

    if name.partition("@")[0] not in names("methods") and not name.endswith(".py"):
        raise InputError(f"{name!r} is no method; --results shows which roles fill a method's top neurons.")
    label = find_method(name).label
    results = collect(read_results(folders))
    claim = results.cards[label].claims if label in results.cards else ""
    rows = []
    for place in results.places:
        for stored in results.cells.get((label, place), ()):
            tops = stored.record.anatomy
            if not tops:
                continue
            n = next((k for k in tops if k != "10"), "10")
            metric = f"gt.ndcg[{claim}]"
            truth, oracle = results.normalised(label, place, metric), results.oracle(place, metric)
            shown = number(truth) + (f" ({number(oracle)})" if oracle is not None else "")
            first, ten = ({role: round(count, 1) for role, count in tops[k].items()} for k in (n, "10"))
            rows.append({"task": place.label, "truth": shown, "n": int(n), "first n": first, "first 10": ten})
    if not rows:
        raise InputError(f"No record of {label} in {', '.join(map(str, folders))} knows the neurons' roles.")
    return rows


def truth_models() -> dict[str, Path]:
    """Bundled models with a certificate."""
    return {name: path for name, path in bundled_models().items() if (path / "truth.json").is_file()}


def _methods() -> list[dict[str, Any]]:
    found = [method_card(find_method(name)) for name in names("methods")]
    return [
        {
            "method": one["id"],
            "family": one["family"],
            "claims": one["claims"],
            "needs": [need.lower() for need in one["needs"]],
            "presets": list(one["presets"]),
            **{key: one[key] for key in CRITERIA},
        }
        for one in found
    ]


def _tasks() -> list[dict[str, Any]]:
    return [
        {
            key: value
            for key, value in _task_card(name).items()
            if key in ("task", "concept", "classes", "about")
        }
        for name in names("tasks")
    ]


def _task_card(name: str) -> dict[str, Any]:
    file = find_task(name)
    task = file.load()
    return {
        "task": file.id,
        "concept": task.concept,
        "classes": list(task.classes) or ["as in the data"],
        "about": _first_line(file.path),
        "site": task.site,
        "source": repr(task.source),
        "paper": task.paper,
        "licence": task.licence,
    }


def _models() -> list[dict[str, Any]]:
    return [
        {
            key: value
            for key, value in _model_card(name, path).items()
            if key in ("model", "kind", "shape", "concepts")
        }
        for name, path in bundled_models().items()
    ]


def _model_card(name: str, folder: Path) -> dict[str, Any]:
    from nibench.truth.files import glassbox_of, layer_sizes, read_truth

    layers, units = layer_sizes(folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    try:
        box = glassbox_of(folder)
    except InputError:
        box = None
    truth = read_truth(box) if box else None
    concepts = (
        [f"{concept} ({', '.join(known.behaviours)})" for concept, known in truth.concepts.items()]
        if truth
        else []
    )
    kind = "no truth" if box is None else "glass-box" if box == folder else f"natural twin of {box.name}"
    return {
        "model": name,
        "kind": kind,
        "shape": f"{config['model_type']}, {layers} layers, {layers * units} FFN neurons",
        "concepts": concepts,
        "folder": str(folder),
    }


def _suite_row(name: str) -> dict[str, Any]:
    suite = SUITES[name]
    return {"suite": name, "about": suite.summary, "tasks": list(suite.tasks), "models": list(suite.models)}


def _suites() -> list[dict[str, Any]]:
    """How many of each; the card of a suite names them."""
    return [
        {
            "suite": name,
            "about": suite.summary,
            "tasks": len(suite.tasks),
            "models": len(suite.models),
            "methods": len(suite.methods or names("methods")),
        }
        for name, suite in SUITES.items()
    ]


def _metrics() -> list[dict[str, Any]]:
    from nibench.metrics import ABOUT

    return [
        {"metric": name, "about": about, "truth": metric_cards.words(name) or "–"}
        for name, about in ABOUT.items()
    ]


def _first_line(path: Path) -> str:
    return (load_file(path).__doc__ or "").strip().partition("\n")[0]


_ROWS = {
    "methods": _methods,
    "tasks": _tasks,
    "models": _models,
    "suites": _suites,
    "metrics": _metrics,
}
