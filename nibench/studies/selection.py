"""Does `select` keep its word? The realised share of false discoveries beside the nominal one.

In sampled worlds it is known which neurons are associated with the label; there labels go by the token, the sentence,
the word type, or two of them. In real activations no label is, when it is drawn at random: for each prompt, for each
template, for each word.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nibench.errors import InputError
from nibench.method import Needs, Observations
from nibench.moments import Statistics
from nibench.neurons import Neurons
from nibench.permutation import N_DRAWS, p_values, ranks, reassigned, shuffled, standard_values
from nibench.selection import mirror_q_values, mirror_statistics
from nibench.studies.draws import plain
from nibench.submissions import find_method
from nibench.truth.worlds import WorldSpec, sample
from nibench.wording import number

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

LEVELS = (0.05, 0.1, 0.2)
COLUMNS = {"auc": ranks, "mean_difference": standard_values}
MIRRORED = {
    "per token",
    "per sentence",
    "per word type",
    "null, sentence",
}  # worlds in which probes are halved
HALVED = ("linear_l2", "lca")
FOUR = {"class_shares": (0.4, 0.3, 0.2, 0.1), "classes": tuple("abcd")}


def _spec(**changes: Any) -> WorldSpec:
    plan: dict[str, Any] = {
        "class_shares": (0.5, 0.5),
        "n_items": 1600,
        "sentence_length": (2, 30),
        "sentence_topic": 0.0,
        "n_signal": 20,
        "signal_range": (0.2, 0.8),
        "n_distributed": 0,
        "n_correlate": 0,
        "n_loud": 5,
        "n_dead": 5,
        "n_neurons": 300,
        "sentence_share": 0.2,
    }
    return WorldSpec(**(plan | changes))


BY_WORD = {"type_preference": (1.0, 1.0)}
WORLDS: dict[str, WorldSpec] = {
    "per token": _spec(),
    "per sentence": _spec(sentence_topic=1.0),
    "per word type": _spec(**BY_WORD),
    "partly by both": _spec(sentence_topic=0.6, type_preference=(0.6, 0.6)),
    "by both": _spec(sentence_topic=1.0, **BY_WORD),
    "rare, sentence": _spec(sentence_topic=0.8, class_shares=(0.9, 0.1)),
    "heavy, sentence": _spec(sentence_topic=0.8, shape_shares=(0.0, 0.5, 0.5, 0.0), sparse_rate=0.05),
    "4 classes, sentence": _spec(sentence_topic=0.8, **FOUR),
    "4 classes, word": _spec(**FOUR, **BY_WORD),
    "null, sentence": _spec(n_signal=0, sentence_topic=1.0),
    "null, word type": _spec(n_signal=0, **BY_WORD),
    "null, random_labels_world": WorldSpec(
        n_items=2400, n_signal=0, n_distributed=0, n_correlate=0, n_neurons=200
    ),
}
PLACES = (("glass_tense", "glass8"), ("glass_number", "glass3"))  # real activations, labels at random
REDRAWN = ("prompt", "template", "word")


@dataclass(frozen=True)
class Row:
    """One procedure on one kind of labels at one nominal level: means over draws.

    ``fdr`` is the share of false neurons among the selected (0 where none is), ``power`` that of the true ones that
    are selected (NaN where there are none), ``size`` the number selected, ``any`` how often it is not 0.
    """

    labels: str
    method: str
    unit: str
    nominal: float
    fdr: float
    ci95: tuple[float, float] | None
    power: float
    size: float
    any: float
    draws: int

    @property
    def exceeds(self) -> bool:
        """Whether the realised share lies above the nominal one beyond its interval."""
        return self.ci95 is not None and self.ci95[0] > self.nominal


@dataclass(frozen=True)
class Study:
    """What was measured."""

    rows: tuple[Row, ...]

    def as_dict(self) -> dict[str, Any]:
        """As plain JSON values."""
        rows = [plain(asdict(row)) | {"exceeds": row.exceeds} for row in self.rows]
        return {"permutations": N_DRAWS, "rows": rows}

    def of(self, labels: str, method: str, unit: str, nominal: float = 0.1) -> Row:
        """One row."""
        wanted = (labels, method, unit, nominal)
        return next(r for r in self.rows if (r.labels, r.method, r.unit, r.nominal) == wanted)

    def table(self) -> "Group":
        """Tables of at most 80 columns: each method by unit at .1, then what `select` does at every level."""
        from rich.console import Group
        from rich.text import Text

        parts: list[Any] = []
        for method in dict.fromkeys(row.method for row in self.rows):
            chosen = [row for row in self.rows if row.method == method]
            units = list(dict.fromkeys(row.unit for row in chosen))
            if len(units) > 1:
                cells = _by_labels([row for row in chosen if row.nominal == 0.1], lambda row: row.unit)
                by_unit = [[kind, *map(_cell, (here[u] for u in units))] for kind, here in cells.items()]
                parts += [Text(f"\n{method} at .1, labels re-assigned by"), _table(units, by_unit)]
            cells = _by_labels(
                [row for row in chosen if row.unit == units[-1]], lambda row: f"{row.nominal:g}"
            )
            shown = []
            for kind, here in cells.items():
                middle = here["0.1"]
                power = "–" if np.isnan(middle.power) else number(middle.power)
                numbers = (power, f"{middle.size:.1f}", number(middle.any), str(middle.draws))
                shown.append([kind, *map(_cell, here.values()), *numbers])
            levels = [f"{level:g}" for level in LEVELS]
            title = f"\n{method}, labels re-assigned by {units[-1]}, at nominal"
            parts += [Text(title), _table([*levels, "power", "size", "any", "draws"], shown)]
        legend = (
            "\nMean share of false neurons, with 95 % half intervals; ! lies above its level beyond that. power, "
            "size and any (how often something is selected) at .1; of a null or random labels all selected are false."
        )
        return Group(*parts, Text(legend))


def _by_labels(rows: Sequence[Row], key: Callable[[Row], str]) -> dict[str, dict[str, Row]]:
    found: dict[str, dict[str, Row]] = {}
    for row in rows:
        found.setdefault(row.labels, {})[key(row)] = row
    return found


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> "Table":
    from rich.table import Table

    table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
    table.add_column("labels", overflow="fold")
    for column in columns:
        table.add_column(column, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def study(draws: int = 60, *, jobs: int = 1, on_progress: Callable[[int, int], None] | None = None) -> Study:
    """Measure realised shares of false discoveries, power and sizes of sets.

    Parameters
    ----------
    draws : int
        Of each world, and of random labels in each model; fewer than two give no interval.
    jobs : int
        Worker processes; numbers do not depend on it.
    on_progress : callable, optional
        Called with (draws done, draws in all).

    Raises
    ------
    InputError
        For no draws.
    """
    from joblib import Parallel, delayed

    if draws < 1:
        raise InputError(f"draws is {draws}; expected 1 or more.")
    places = [_place(*place) for place in PLACES]
    tasks = [
        (kind, delayed(_in_world)(spec, draw, HALVED if kind in MIRRORED else ()))
        for kind, spec in WORLDS.items()
        for draw in range(draws)
    ]
    tasks += [
        (f"{name}, per {by}", delayed(_at_random)(data, by, draw))
        for name, data in zip([f"{task} {model}" for task, model in PLACES], places, strict=True)
        for by in REDRAWN
        for draw in range(draws)
    ]
    work: Any = Parallel(n_jobs=jobs, return_as="generator")([job for _, job in tasks])
    found: dict[tuple[str, str, str, float], list[tuple[float, float, float]]] = {}
    for done, ((kind, _), one) in enumerate(zip(tasks, work, strict=True)):
        for (method, unit, level), values in one.items():
            found.setdefault((kind, method, unit, level), []).append(values)
        if on_progress is not None:
            on_progress(done + 1, len(tasks))
    return Study(tuple(_row(*key, np.array(values)) for key, values in found.items()))


def _row(labels: str, method: str, unit: str, nominal: float, values: np.ndarray) -> Row:
    """From (R, 3): share of false ones, power and size of each draw."""
    shares, power, sizes = values.T
    half = 1.96 * float(shares.std(ddof=1)) / len(shares) ** 0.5 if len(shares) > 1 else np.nan
    mean = float(shares.mean())
    ci95 = (max(0.0, mean - half), min(1.0, mean + half)) if np.isfinite(half) else None
    return Row(
        labels, method, unit, nominal, mean, ci95, float(power.mean()), float(sizes.mean()),
        float((sizes > 0).mean()), len(values),
    )  # fmt: skip


Outcomes = Mapping[tuple[str, str, float], tuple[float, float, float]]


def _in_world(spec: WorldSpec, draw: int, halved: Sequence[str]) -> Outcomes:
    world = sample(spec, draw)
    assert world.truth is not None  # sampled, so known
    statistics = Statistics(world.activations, world.labels, len(world.classes))
    data = _observations(statistics, world.sentences, world.word_types)
    return outcomes(data, world.truth.sets["associated"], draw, halved)


def _observations(statistics: Statistics, sentences: np.ndarray, word_types: np.ndarray) -> Observations:
    return Observations(
        Neurons.anonymous(statistics.activations.shape[1]),
        statistics.n_classes,
        Needs.ACTIVATIONS | Needs.LABELS,
        _statistics=statistics,
        _sentences=sentences,
        _word_types=word_types,
    )


def _place(task: str, model: str) -> Observations:
    """The ``rank`` items of a task in a model; their labels will not be used."""
    from nibench.ground import Ground, Options
    from nibench.harness import load_task
    from nibench.model import load_model
    from nibench.submissions import resolve_model

    ground = Ground(load_task(task), load_model(resolve_model(model)), Options())
    seen = ground.observe(find_method("auc").load(), "auc")
    return _observations(seen.statistics, seen.sentences, seen.word_types)


def _at_random(data: Observations, by: str, draw: int) -> Outcomes:
    """Labels at random, for each prompt, template or word: every selected neuron is a false one."""
    clusters = {"prompt": np.arange(len(data.labels)), "template": data.sentences, "word": data.word_types}[
        by
    ]
    _, cluster_of = np.unique(clusters, return_inverse=True)
    n_clusters = cluster_of.max() + 1
    labels = np.random.default_rng([draw, 31]).permutation(np.arange(n_clusters) % 2)[cluster_of]
    relabelled = _observations(data.statistics.relabel(labels, 2), data.sentences, data.word_types)
    return outcomes(relabelled, np.zeros(len(data.neurons), dtype=bool), draw, ())


def outcomes(data: Observations, true: np.ndarray, draw: int, halved: Sequence[str]) -> Outcomes:
    """(method, unit, nominal) -> share of false ones, power and size of the set, for every procedure."""
    from scipy.stats import false_discovery_control

    from nibench.harness import single_thread

    found: dict[tuple[str, str, float], tuple[float, float, float]] = {}
    labels, rng = data.labels.astype(np.int16), np.random.default_rng([draw, 32])

    def add(method: str, unit: str, q_values: np.ndarray) -> None:
        for level in LEVELS:
            chosen = q_values <= level
            right = int((chosen & true).sum())
            share = (chosen.sum() - right) / max(1, chosen.sum())
            power = right / true.sum() if true.any() else np.nan
            found[method, unit, level] = (float(share), float(power), float(chosen.sum()))

    with single_thread():
        drawn = {
            "token": shuffled(labels, N_DRAWS, rng),
            "sentence": reassigned(labels, data.sentences, N_DRAWS, rng, in_order=True),
            "word type": reassigned(labels, data.word_types, N_DRAWS, rng, in_order=False),
        }
        for method, columns in COLUMNS.items():
            blocks = list(columns(data.statistics))
            p = {unit: p_values(blocks, labels, [d], len(true)) for unit, d in drawn.items()}
            p["both"] = p_values(blocks, labels, [drawn["sentence"], drawn["word type"]], len(true))
            p["larger p"] = np.maximum(p["sentence"], p["word type"])
            for unit, values in p.items():
                add(method, unit, false_discovery_control(values))
        for method in halved:
            loaded = find_method(method).load()
            add(method, "halves", mirror_q_values(mirror_statistics(loaded, data, data.sentences, draw)))
    return found


def _cell(row: Row) -> str:
    """A mean with half its interval, marked where it lies above its level."""
    half = "" if row.ci95 is None else f"±{number(row.ci95[1] - row.fdr)}"
    return f"{number(row.fdr)}{half}{'!' if row.exceeds else ''}"
