"""What does annotation cost? True scores against few labels, wrong labels, and labels that a tagger wrote.

A user with n words labelled by hand may rank neurons on these words alone, or train a tagger on them and let
it label everything. Both are done here on sampled worlds in which the right neurons are known. Word types
prefer a class and words of a sentence are alike, so a tagger has something to learn; neurons know word types
a little, so its mistakes, which go by the word, are mistakes that neurons can agree with.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from nibench.errors import InputError
from nibench.harness import rank
from nibench.method import Needs
from nibench.metrics.truth import chance_ndcg, expected_ndcg
from nibench.submissions import find_method, names
from nibench.task import World
from nibench.truth.dials import turned
from nibench.truth.worlds import WorldSpec, sample
from nibench.uncertainty import MIN_CLUSTERS, cluster_weights
from nibench.wording import number

if TYPE_CHECKING:
    from rich.console import Group

Labels = Literal["gold", "automatic", "noisy"]

BUDGETS = (60, 120, 240, 480, 960)  # words labelled by hand
NOISES = (0.0, 0.1, 0.2, 0.3, 0.4)  # share of wrong labels
TITLES: dict[Labels, str] = {
    "gold": "only n, labelled by hand",
    "automatic": "all, labelled by a tagger that learnt from n",
    "noisy": "all, a share of the labels wrong at random",
}
WORLDS: dict[str, WorldSpec] = {
    words: WorldSpec(
        class_shares=(0.6, 0.4),
        n_items=4500,
        sentence_topic=0.4,
        n_types=200,
        type_effect=0.7,
        type_preference=(preference, preference),
        n_signal=20,
        signal_range=(0.2, 0.7),
        n_distributed=0,
        n_correlate=0,
        n_loud=0,
        n_dead=0,
        n_neurons=150,
    )
    for words, preference in (("telling", 0.95), ("ambiguous", 0.6))
}


@dataclass(frozen=True, eq=False)
class Curve:
    """One method, one world's words, one kind of labels: normalised true scores (V, R), a column per draw."""

    method: str
    words: str
    labels: Labels
    amounts: tuple[float, ...]
    scores: np.ndarray

    @property
    def means(self) -> np.ndarray:
        """(V,): mean over draws."""
        return self.scores.mean(axis=1)


@dataclass(frozen=True, eq=False)
class Annotation:
    """What the study found.

    Attributes
    ----------
    curves : one per method, world and kind of labels, 0 for random rankings and 1 for a perfect one.
    tagger : world -> float64 (V, R)
        Share of the ``rank`` words that the tagger labels rightly, per budget and draw.
    """

    curves: tuple[Curve, ...]
    tagger: Mapping[str, np.ndarray]

    @property
    def n_draws(self) -> int:
        """R: how many times each world was drawn."""
        return self.curves[0].scores.shape[1]

    def of(self, method: str, words: str, labels: Labels) -> Curve:
        """The curve of a method in a world with a kind of labels."""
        wanted = (method, words, labels)
        return next(curve for curve in self.curves if (curve.method, curve.words, curve.labels) == wanted)

    @property
    def methods(self) -> tuple[str, ...]:
        """Best first, by the mean over everything."""
        found = {curve.method for curve in self.curves}
        overall = {m: np.mean([c.means.mean() for c in self.curves if c.method == m]) for m in found}
        return tuple(sorted(found, key=lambda m: (-overall[m], m)))

    def gain(self, words: str, method: str | None = None) -> np.ndarray:
        """(V, R): automatic minus gold at the same number of hand-labelled words; mean over methods if None."""
        chosen = self.methods if method is None else (method,)
        differences = [
            self.of(m, words, "automatic").scores - self.of(m, words, "gold").scores for m in chosen
        ]
        return np.mean(differences, axis=0)

    def as_dict(self) -> dict[str, Any]:
        """Plain JSON: curves with intervals, the tagger's accuracy, and what it gains."""
        return {
            "draws": self.n_draws,
            "metric": "gt.ndcg[associated], 0 random, 1 perfect",
            "curves": [
                {
                    "method": curve.method,
                    "words": curve.words,
                    "labels": curve.labels,
                    "amounts": list(curve.amounts),
                    **_summary(curve.scores),
                }
                for curve in self.curves
            ],
            "tagger": {words: {"amounts": list(BUDGETS), **_summary(a)} for words, a in self.tagger.items()},
            "gain": {
                words: {"amounts": list(BUDGETS), **_summary(self.gain(words))}
                | {method: _summary(self.gain(words, method)) for method in self.methods}
                for words in self.tagger
            },
        }

    def table(self) -> "Group":
        """A table of at most 80 columns per world and kind of labels: scores, each with its half interval."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        parts: list[Any] = []
        for words in self.tagger:
            for labels, title in TITLES.items():
                table = Table(box=None, padding=(0, 1, 0, 0), pad_edge=False, header_style="bold")
                table.add_column("method", overflow="fold", min_width=16)
                for amount in self.of(self.methods[0], words, labels).amounts:
                    table.add_column(number(amount) if labels == "noisy" else f"{amount:g}", justify="right")
                for method in self.methods:
                    table.add_row(method, *_cells(self.of(method, words, labels).scores))
                if labels == "automatic":
                    table.add_row("(tagger is right)", *_cells(self.tagger[words]), style="dim")
                    table.add_row("(gain on n words)", *_cells(self.gain(words)), style="dim")
                parts += [Text(f"\n{words} words: {title}"), table]
        return Group(*parts, Text(f"\n0 = random rankings, 1 = perfect; {self.n_draws} draws of each world."))


def study(
    methods: Sequence[str] | None = None,
    *,
    draws: int = 10,
    jobs: int = 1,
    on_progress: Callable[[int, int], None] | None = None,
) -> Annotation:
    """Score methods on worlds with few, wrong and automatic labels.

    Parameters
    ----------
    methods : ids, presets or paths
        Of methods that need activations and labels only; None means every bundled one.
    draws : int
        Draws of each world, the same for all methods and labels; fewer than ten give no interval.
    jobs : int
        Worker processes; numbers do not depend on it.
    on_progress : callable, optional
        Called with (draws done, draws in all).

    Raises
    ------
    InputError
        For an unknown method, one that needs more than arrays, or no draws.
    """
    from joblib import Parallel, delayed

    if draws < 1:
        raise InputError(f"draws is {draws}; expected 1 or more.")
    chosen = list(methods) if methods else label_readers()
    for method in chosen:
        _require_arrays_only(method)
    pairs = [(words, draw) for words in WORLDS for draw in range(draws)]
    work: Any = Parallel(n_jobs=jobs, return_as="generator")(
        delayed(_one_world)(chosen, *pair) for pair in pairs
    )
    found: dict[tuple[str, int], tuple[dict[tuple[str, Labels], list[float]], list[float]]] = {}
    for pair, one in zip(pairs, work, strict=True):
        found[pair] = one
        if on_progress is not None:
            on_progress(len(found), len(pairs))
    curves = []
    for words in WORLDS:
        for method in chosen:
            for labels in TITLES:
                scores = np.array([found[words, draw][0][method, labels] for draw in range(draws)]).T
                amounts = NOISES if labels == "noisy" else BUDGETS
                curves.append(Curve(method, words, labels, amounts, scores))
    tagger = {words: np.array([found[words, draw][1] for draw in range(draws)]).T for words in WORLDS}
    return Annotation(tuple(curves), tagger)


def label_readers() -> list[str]:
    """The bundled methods that read activations and labels, and nothing else."""
    wanted = Needs.ACTIVATIONS | Needs.LABELS
    return [name for name in names("methods") if find_method(name).kind().needs == wanted]


def _require_arrays_only(method: str) -> None:
    beyond = find_method(method).load().needs & ~(Needs.ACTIVATIONS | Needs.LABELS)
    if beyond:
        raise InputError(
            f"{method} needs {' and '.join(str(need.name) for need in beyond)}; this study has sampled activations "
            "only. Choose methods that need ACTIVATIONS and LABELS: nibench list methods"
        )


def _one_world(
    methods: Sequence[str], words: str, draw: int
) -> tuple[dict[tuple[str, Labels], list[float]], list[float]]:
    from nibench.harness import single_thread

    spec = WORLDS[words]
    world = sample(spec, draw)
    in_rank, in_probe = world.splits == "rank", world.splits == "probe"
    order = np.random.default_rng([draw, 11])
    scores: dict[tuple[str, Labels], list[float]] = {(m, labels): [] for m in methods for labels in TITLES}
    accuracy: list[float] = []

    def add(kind: Labels, rows: np.ndarray, labels: np.ndarray) -> None:
        for method in methods:
            scores[method, kind].append(_score(method, world, rows, labels, draw))

    with single_thread():
        for budget in BUDGETS:
            rows = first_sentences(world, in_rank, budget, order)
            add("gold", rows, world.labels[rows])
        for budget in BUDGETS:
            rows = np.flatnonzero(in_rank)
            tags = tag(world, first_sentences(world, in_probe, budget, order), rows)
            accuracy.append(float(np.mean(tags == world.labels[rows])))
            add("automatic", rows, tags)
        for noise in NOISES:
            rows = np.flatnonzero(in_rank)
            add("noisy", rows, sample(turned(spec, {"label_noise": noise}), draw).labels[rows])
    return scores, accuracy


def first_sentences(world: World, where: np.ndarray, n_words: int, rng: np.random.Generator) -> np.ndarray:
    """Rows of whole sentences, drawn from a split, up to ``n_words``: what an annotator does in a day."""
    sentences = np.unique(world.sentences[where])
    lengths = np.bincount(world.sentences, minlength=sentences.max() + 1)
    drawn = rng.permutation(sentences)
    kept = drawn[np.cumsum(lengths[drawn]) <= n_words]
    return np.flatnonzero(np.isin(world.sentences, kept))


def tag(world: World, train: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Labels (n,) of some rows by a logistic regression that learnt from others: the word and its neighbours.

    It sees what a user's tagger would see, the words; never an activation.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    words = world.word_types
    same = np.append(world.sentences[1:] == world.sentences[:-1], False)
    following = np.where(same, np.roll(words, -1), -1)
    previous = np.where(np.roll(same, 1), np.roll(words, 1), -1)
    features = np.stack([words, previous, following], axis=1)
    tagger = make_pipeline(OneHotEncoder(handle_unknown="ignore"), LogisticRegression(max_iter=1000))
    return tagger.fit(features[train], world.labels[train]).predict(features[rows])


def _score(method: str, world: World, rows: np.ndarray, labels: np.ndarray, seed: int) -> float:
    """Normalised NDCG of *associated*: 0 for random rankings, 1 for a perfect one."""
    assert world.truth is not None
    gains = world.truth.gains["associated"]
    ranking = rank(
        method,
        world.activations[rows],
        labels,
        sentences=world.sentences[rows],
        word_types=world.word_types[rows],
        seed=seed,
    )
    chance = chance_ndcg(gains)
    return (expected_ndcg(ranking, gains) - chance) / (1 - chance)


# ---------------------------------------------------------------- shown


def _intervals(scores: np.ndarray) -> np.ndarray | None:
    """(V, 2): 95 % intervals of the means over draws; None with fewer than ten."""
    n_draws = scores.shape[1]
    if n_draws < MIN_CLUSTERS:
        return None
    drawn = cluster_weights(n_draws) @ scores.T / n_draws
    return np.quantile(drawn, [0.025, 0.975], axis=0).T


def _summary(scores: np.ndarray) -> Mapping[str, Any]:
    intervals = _intervals(scores)
    return {
        "mean": [round(float(x), 4) for x in scores.mean(axis=1)],
        "ci95": None if intervals is None else np.round(intervals, 4).tolist(),
    }


def _cells(scores: np.ndarray) -> list[str]:
    intervals = _intervals(scores)
    means = [number(float(x)) for x in scores.mean(axis=1)]
    if intervals is None:
        return means
    halves = [number(float(high - low) / 2) for low, high in intervals]
    return [f"{mean}±{half}" for mean, half in zip(means, halves, strict=True)]
