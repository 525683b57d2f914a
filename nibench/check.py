"""The contract as executable checks: the same for bundled files and for a stranger's.

Required checks decide the verdict; the others are badges (a fact, not a failure): whether a planted neuron is found,
and which changes of the input leave the scores as they are.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nibench.arena import N_NEURONS, PLANTED, Arena, Change
from nibench.errors import InputError
from nibench.method import Method, Needs, choice_problem
from nibench.submissions import MethodFile, find_method, find_task, line_in
from nibench.task import SPLITS, PromptCorpus, Task, TextCorpus, World

COPY, CONSTANT = 3, (8, 9)  # neurons that a law makes a copy of the planted one, or constant
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Result:
    """The outcome of one check."""

    name: str
    required: bool
    passed: bool
    detail: str = ""

    def as_dict(self) -> dict[str, Any]:
        """As plain values."""
        return asdict(self)


def check_file(name: str) -> list[Result]:
    """Run every check that applies to a method or task, given by name or by path.

    Raises
    ------
    InputError
        If there is no such file. What is wrong inside the file is a failed check, not an error.
    """
    if _is_task(name):
        return check_task(name)
    return check_method(find_method(name))


def _is_task(name: str) -> bool:
    if name.endswith(".py") or "/" in name:
        path = Path(name)
        return path.is_file() and "Task(" in path.read_text(encoding="utf-8", errors="replace")
    try:
        find_method(name)
    except InputError:
        try:
            find_task(name)
        except InputError:
            return False
        return True
    return False


# ---------------------------------------------------------------- methods


Law = Callable[[Arena], str | None]


def check_method(file: MethodFile) -> list[Result]:
    """Every check of a method file; the badges only where all required checks pass."""
    results: list[Result] = []

    def attempt(name: str, required: bool, test: Callable[[], str | None]) -> bool:
        """Run one check: None is a pass, a text says why not."""
        try:
            problem = test()
        except Exception as error:  # a stranger's code may raise anything
            problem = f"{type(error).__name__}{line_in(file.path, error)} {error}"
        results.append(Result(name, required, problem is None, problem or ""))
        return problem is None

    loaded: list[Method] = []

    def loads() -> None:
        loaded.append(file.load())

    if not attempt("loads: one Method with needs", True, loads):
        return results
    method = loaded[0]
    arena = Arena(method)
    attempt("card: complete, and of the contract", True, lambda: card_problem(method))
    ranks = "ranks every neuron once, from what it declares to need"
    if not attempt(ranks, True, lambda: _rank_problem(arena)):
        return results  # the rest would fail alike
    same = attempt("same seed, same scores", True, lambda: _determinism_problem(arena))
    if not attempt("leaves its input unchanged", True, lambda: _mutation_problem(arena)) or not same:
        return results
    for badge, law in (LAWS if arena.on_model else LAWS | ARRAY_LAWS).items():
        attempt(badge, False, lambda law=law: law(arena))
    return results


def badges(file: MethodFile) -> dict[str, bool]:
    """Which laws a method's scores keep; none where it fails a required check."""
    results = check_method(file)
    if any(result.required and not result.passed for result in results):
        return {}
    return {result.name: result.passed for result in results if not result.required}


def card_problem(method: Method) -> str | None:
    if not isinstance(method.needs, Needs):
        return f"needs = {method.needs!r}; expected e.g. Needs.ACTIVATIONS | Needs.LABELS."
    if wrong := choice_problem(method):
        return wrong
    if not isinstance(method.human_in_the_loop, bool):
        return f"human_in_the_loop = {method.human_in_the_loop!r}; expected True or False."
    for name, example in (("complexity", "O(ND), one pass"), ("limits", "One neuron at a time.")):
        if not getattr(method, name):
            return f'{name} is empty; say it in a line, e.g. {name}: ClassVar[str] = "{example}"'
    return None


def _rank_problem(arena: Arena) -> str | None:
    ranking = arena.rank(arena.observe()[0])
    return None if np.array_equal(np.sort(ranking.order), np.arange(arena.n_neurons)) else "not a permutation"


def _determinism_problem(arena: Arena) -> str | None:
    first, second = (arena.rank(arena.observe()[0], seed=5).scores for _ in range(2))
    if np.array_equal(first, second):
        return None
    return "two runs with one seed differ; draw all randomness from rng"


def _mutation_problem(arena: Arena) -> str | None:
    data, _ = arena.observe()
    assert data._statistics is not None
    matrix, labels = data._statistics.activations, data._statistics.labels
    before = (matrix.copy(), labels.copy())
    arena.rank(data)
    same = np.array_equal(before[0], matrix) and np.array_equal(before[1], labels)
    return None if same else "activations or labels were changed; work on a copy"


def _planted_problem(arena: Arena) -> str | None:
    data, place = arena.observe()
    order = arena.rank(data).order
    found = int(np.flatnonzero(order == place)[0]) + 1
    return None if found == 1 else f"the planted neuron comes at place {found} of {arena.n_neurons}"


def _permutation_problem(arena: Arena) -> str | None:
    order = arena.permutation()
    plain = arena.rank(arena.observe()[0]).scores
    moved = arena.rank(arena.observe(order)[0]).scores
    return _difference(plain[order], moved)


def _seed_problem(arena: Arena) -> str | None:
    first, second = (arena.rank(arena.observe()[0], seed=seed).scores for seed in (0, 1))
    return _difference(first, second)


def _copy_problem(arena: Arena) -> str | None:
    scores = arena.scores(_with(COPY, lambda x: x[:, PLANTED]))
    return _difference(scores[[PLANTED]], scores[[COPY]])


def _constant_problem(arena: Arena) -> str | None:
    scores = arena.scores(_with(CONSTANT, lambda x: 0.1))
    behind = int((np.delete(scores, CONSTANT) < scores[list(CONSTANT)].max()).sum())
    return (
        f"{behind} of {len(scores) - len(CONSTANT)} other neurons come after a constant one"
        if behind
        else None
    )


def _with(columns: int | tuple[int, ...], values: Callable[[np.ndarray], Any]) -> Change:
    def change(matrix: np.ndarray) -> np.ndarray:
        matrix = matrix.copy()
        matrix[:, columns] = values(matrix)
        return matrix

    return change


def _unchanged(change: Change | None = None, shuffled: bool = False, swapped: bool = False) -> Law:
    """The law that scores stay as they are under a change of the matrix, of the items' order, of the classes' names."""
    return lambda arena: _difference(arena.scores(), arena.scores(change, shuffled, swapped))


def _tied_problem(arena: Arena) -> str | None:
    return _difference(arena.scores(np.round), arena.scores(np.round, shuffled=True))


def _difference(expected: np.ndarray, found: np.ndarray) -> str | None:
    finite = np.isfinite(expected)
    if not np.array_equal(finite, np.isfinite(found)):
        return "other neurons are scored -inf"
    scale = max(float(np.abs(expected[finite]).max(initial=0.0)), 1e-12)
    gap = float(np.abs(expected[finite] - found[finite]).max(initial=0.0)) / scale
    # float32 input: a change of scale rounds the activations themselves by up to 6e-8 of their size
    return None if gap <= TOLERANCE * 10 else f"scores change by up to {gap:.2g} of the largest"


def _scales() -> np.ndarray:
    return 2.0 ** np.random.default_rng(1).integers(-4, 5, N_NEURONS)  # powers of two: exact in float32


def _signs() -> np.ndarray:
    return np.random.default_rng(2).choice([-1.0, 1.0], N_NEURONS)


LAWS: dict[str, Law] = {
    "finds a planted neuron": _planted_problem,
    "scores move with the neurons (permutation)": _permutation_problem,
    "seed-invariant": _seed_problem,
}
ARRAY_LAWS: dict[str, Law] = {
    "scale-invariant": _unchanged(lambda x: x * _scales()),
    "sign-invariant": _unchanged(lambda x: x * _signs()),
    "shift-invariant": _unchanged(lambda x: x + 10 * _signs()),
    "copies of a neuron score alike": _copy_problem,
    "constant neurons come last": _constant_problem,
    "names of the classes do not matter": _unchanged(swapped=True),
    "order of the items does not matter": _unchanged(shuffled=True),
    "order of tied items does not matter": _tied_problem,
}


# ---------------------------------------------------------------- tasks


def check_task(name: str) -> list[Result]:
    """Every check of a task file; loading its items is reported only, where they need data or a model."""
    results: list[Result] = []
    try:
        task = find_task(name).load()
    except InputError as error:
        return [Result("loads: one task", True, False, str(error))]
    results.append(Result("loads: one task", True, True))
    results.append(_control_result(task))
    try:
        first, second = (task.load(folder=_folder_for(task)) for _ in range(2))
    except InputError as error:
        results.append(Result("its items load here", False, False, str(error)))
        return results
    results.append(Result("its items load here", False, True))
    same = first.digest == second.digest
    results.append(Result("same seed, same items", True, same, "" if same else "two loads differ"))
    results.append(_items_result(first))
    return results


def _folder_for(task: Task) -> Path | None:
    from nibench.submissions import bundled_models

    fitting = [folder for folder in bundled_models().values() if task.source.refuses(folder) is None]
    return None if task.source.refuses(None) is None or not fitting else fitting[0]


def _control_result(task: Task) -> Result:
    labels = np.arange(200) % 2
    types = np.arange(200) // 4
    made = task.control(labels, types, 2, np.random.default_rng(0))
    good = made.shape == labels.shape and set(np.unique(made)) <= {0, 1}
    return Result("its control gives a label per item", True, good, "" if good else f"got shape {made.shape}")


def _items_result(corpus: TextCorpus | PromptCorpus | World) -> Result:
    if isinstance(corpus, World):
        splits, labels = set(corpus.splits), corpus.labels
    elif isinstance(corpus, PromptCorpus):
        splits, labels = {p.split for p in corpus.prompts}, np.array([p.label for p in corpus.prompts])
    else:
        splits = {s.split for s in corpus.sentences}
        labels = np.array([label for s in corpus.sentences for label in s.labels])
    if splits != set(SPLITS):
        return Result("items in rank, probe and eval", True, False, f"only {', '.join(sorted(splits))}")
    outside = labels[(labels < -1) | (labels >= len(corpus.classes))]
    good = outside.size == 0
    return Result(
        "labels are classes", True, good, "" if good else f"label {outside[0]} of {len(corpus.classes)}"
    )
