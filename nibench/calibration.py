"""nibench calibrate: what each method can detect in the user's own model, on neurons of known dose.

Neurons with measured encoding and use doses are spliced into a copy of the model (`nibench.truth.grafts`); the
methods rank all neurons, and only the grafts are judged, against each other. It shows what a method *can* detect here;
it promises nothing about natural neurons.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.stats import kendalltau, rankdata, spearmanr, t

from nibench.disk import write_atomic
from nibench.errors import InputError
from nibench.ground import Ground, Options
from nibench.harness import load_task, package_versions, run_method, single_thread
from nibench.ranking import Ranking
from nibench.submissions import find_method, resolve_model

if TYPE_CHECKING:
    from nibench.interventions import Behaviour
    from nibench.model import LanguageModel
    from nibench.truth.graft_doses import Graft

DEFAULT_METHODS = (
    "random_ranking", "variance", "mean_difference", "probeless", "linear_l2",
    "gradient_activation", "integrated_gradients", "neuron_ablation",
)  # fmt: skip
SCORES = ("recall", "decoy_first", "rho_encoding", "rho_use")
MIN_DRAWS = 3
AFFORDABLE = 400_000  # items x neurons of an exhaustive interchange
N_NATURAL = 50  # natural neurons of largest interchange effect that a method is to find
SCHEMA = 1

Advance = Callable[[int, int], None]


@dataclass(frozen=True)
class Estimate:
    """A mean over draws with its 95 % t-interval; the interval is None where a draw has no value."""

    mean: float
    ci95: tuple[float, float] | None
    draws: tuple[float, ...]

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        """The mean of n draws, plus and minus t(n - 1) standard errors."""
        array = np.array(values, dtype=np.float64)
        mean = float(array.mean())
        if len(array) < 2 or not np.isfinite(array).all():
            return cls(mean, None, tuple(array.tolist()))
        half = float(t.ppf(0.975, len(array) - 1) * array.std(ddof=1) / math.sqrt(len(array)))
        return cls(mean, (mean - half, mean + half), tuple(array.tolist()))


@dataclass(frozen=True)
class Draw:
    """One panel: its grafts, how far the model moved, and each method's figures (empty where it was refused)."""

    seed: int
    grafts: tuple["Graft", ...]
    moved: dict[str, Any]
    scores: dict[str, dict[str, float]]
    skipped: dict[str, str]

    @property
    def refusals(self) -> list[str]:
        """Why this draw does not hold; empty where it does."""
        return list(self.moved["refusals"])


@dataclass(frozen=True)
class Calibration:
    """What ``nibench calibrate`` found."""

    task: str
    model: str
    methods: tuple[str, ...]
    draws: tuple[Draw, ...]
    n_natural: int
    passes: float

    @property
    def natural(self) -> bool:
        """Whether the natural neurons' own effects were measured."""
        return all("natural" in row for draw in self.draws for row in draw.scores.values())

    @property
    def chance(self) -> float:
        """The recall of a random ranking: the share of the judged grafts that are used."""
        kinds = [graft.kind for draw in self.draws for graft in draw.grafts]
        return kinds.count("used") / max(1, kinds.count("used") + kinds.count("decoy"))

    @property
    def refusals(self) -> list[str]:
        """Why the calibration does not hold, draw by draw."""
        return [f"draw {draw.seed}: {reason}" for draw in self.draws for reason in draw.refusals]

    def table(self) -> dict[str, dict[str, Estimate]]:
        """Per method and figure the mean over draws; empty where a draw was refused."""
        if self.refusals:
            return {}
        ran = [name for name in self.methods if all(name in draw.scores for draw in self.draws)]
        keys = (*SCORES, *(("natural",) if self.natural else ()))
        return {
            name: {key: Estimate.of([draw.scores[name][key] for draw in self.draws]) for key in keys}
            for name in ran
        }

    def agreement(self) -> Estimate | None:
        """Kendall's tau between the methods' orders: by recall of grafts, and by the natural neurons they find."""
        ran = list(self.table())
        if not self.natural or len(ran) < 3:
            return None
        taus = []
        for draw in self.draws:
            pairs = np.array([(draw.scores[name]["recall"], draw.scores[name]["natural"]) for name in ran])
            taus.append(float(np.asarray(kendalltau(pairs[:, 0], pairs[:, 1]))[0]))
        return Estimate.of(taus)

    def document(self) -> dict[str, Any]:
        """Everything, for ``--json`` and the record."""
        agreement = self.agreement()
        return {
            "schema": SCHEMA,
            "task": self.task,
            "model": self.model,
            "command": f"nibench calibrate --model {self.model} --task {self.task} --draws {len(self.draws)}"
            + "".join(f" --method {name}" for name in self.methods),
            "refused": self.refusals,
            "methods": {
                name: {key: asdict(value) for key, value in row.items()} for name, row in self.table().items()
            },
            "skipped": self.draws[0].skipped,
            "kendall_tau_with_natural": None if agreement is None else asdict(agreement),
            "draws": [
                {
                    "seed": draw.seed,
                    "moved": draw.moved,
                    "grafts": [{**asdict(graft), "judged_as": graft.kind} for graft in draw.grafts],
                    "scores": draw.scores,
                }
                for draw in self.draws
            ],
            "recall_by_chance": self.chance,
            "n_natural_neurons": self.n_natural,
            "passes": self.passes,
            "versions": package_versions(),
        }

    def write(self, out: Path) -> Path:
        """Write the record under ``out``; returns its path."""
        import json

        slug = "_".join(Path(name).name.removesuffix(".py") for name in (self.model, self.task))
        path = out / "calibrations" / f"{slug}.json"
        write_atomic(path, (json.dumps(self.document(), indent=1) + "\n").encode())
        return path


def calibrate(
    model: str,
    task: str,
    methods: Sequence[str] = (),
    *,
    draws: int = MIN_DRAWS,
    options: Options | None = None,
    jobs: int = 1,
    on_progress: Advance | None = None,
) -> Calibration:
    """Splice panels of grafts into a model and see which methods find them.

    Parameters
    ----------
    model : str
        Bundled name, folder or hub id; its blocks are widened in memory.
    task : str
        With a behaviour that the model has.
    methods : ids, id@preset or files; default `DEFAULT_METHODS`.
    draws : at least 3, one panel each.
    jobs : draws at a time.

    Raises
    ------
    InputError
        For a block that cannot be widened (naming the module), a task without a behaviour, a model that does not have
        it (with its accuracy), fewer than three draws.
    """
    if draws < MIN_DRAWS:
        raise InputError(f"--draws {draws}: an interval needs {MIN_DRAWS} draws or more.")
    chosen = tuple(methods) or DEFAULT_METHODS
    for name in chosen:
        find_method(name).load()
    opened = _Stage(model, task, options or Options())
    if on_progress:
        on_progress(0, draws)
    found: list[Draw] = []
    if jobs > 1:
        from joblib import Parallel, delayed

        results = Parallel(n_jobs=min(jobs, draws), return_as="generator")(
            delayed(_one_draw)(model, task, options or Options(), chosen, seed) for seed in range(draws)
        )
    else:
        results = (opened.draw(chosen, seed) for seed in range(draws))
    passes = 0.0
    for draw, spent in results:  # type: ignore[misc]
        found.append(draw)
        passes += spent
        if on_progress:
            on_progress(len(found), draws)
    return Calibration(task, model, chosen, tuple(found), opened.n_natural, passes)


def _one_draw(
    model: str, task: str, options: Options, methods: Sequence[str], seed: int
) -> tuple[Draw, float]:
    import torch

    torch.set_num_threads(1)
    return _Stage(model, task, options).draw(methods, seed)


class _Stage:
    """The task in the model as it is: opened once, or once per worker."""

    def __init__(self, model: str, task: str, options: Options) -> None:
        from nibench.model import load_model

        self.options = options
        self.task = load_task(task)
        self.model: LanguageModel = load_model(resolve_model(model), device=options.device)
        reason = self.task.source.refuses(self.model.folder)
        if reason is not None:
            raise InputError(f"Task {task!r} does not go with {model}: {reason}.")
        with single_thread():
            self.ground = Ground(self.task, self.model, options)
            if self.ground.no_behaviour is not None:
                raise InputError(
                    f"Nothing to calibrate on: {self.ground.no_behaviour}. Choose a task with answers."
                )
            self._open()

    def _open(self) -> None:
        from nibench.truth.graft_scene import make_scene

        behaviour = self.ground.behaviour("rank")
        assert behaviour is not None
        observed, fit = (self.ground.data.split_prompts(split) for split in ("rank", "probe"))
        self.scene = make_scene(self.model, behaviour, observed, fit)
        self.behaviour, self.n_natural = behaviour, len(self.ground.data.neurons)

    @cached_property
    def natural(self) -> np.ndarray | None:
        """(D,) size of every natural neuron's interchange effect in nats, where that is affordable."""
        behaviour: Behaviour = self.behaviour
        if not (behaviour.has_pairs and behaviour.fast):
            return None
        if behaviour.n_items * len(behaviour.neurons) > AFFORDABLE:
            return None
        return np.abs(behaviour.single_effects("source").mean(axis=0))

    def draw(self, methods: Sequence[str], seed: int) -> tuple[Draw, float]:
        """One panel and every method on it; also how many passes all of it took."""
        from nibench.truth.graft_doses import graft_panel

        with single_thread():
            panel = graft_panel(self.scene, seed)
            moved = {**panel.moved.as_dict(), "attempts": panel.attempts}
            if panel.moved.refusals():
                return Draw(seed, panel.grafts, moved, {}, {}), panel.passes
            ground = Ground(self.task, panel.spliced.model, self.options)
            names = {name: place for place, name in enumerate(ground.data.neurons)}
            places = np.array([names[graft.neuron] for graft in panel.grafts])
            own = np.array([names[name] for name in self.ground.data.neurons])
            scores: dict[str, dict[str, float]] = {}
            skipped: dict[str, str] = {}
            for name in methods:
                file = find_method(name)
                loaded = file.load()
                lacking = ground.lacks(loaded)
                if lacking is not None:
                    skipped[file.label] = lacking
                    continue
                ranking = run_method(loaded, ground.observe(loaded, file.label), file.label, seed)
                scores[file.label] = score_grafts(ranking, places, panel.grafts)
                if self.natural is not None:
                    scores[file.label]["natural"] = natural_share(ranking, own, self.natural)
            behaviour = ground.behaviour("rank")
            spent = panel.passes + (behaviour.passes.forward + behaviour.passes.backward if behaviour else 0)
            return Draw(seed, panel.grafts, moved, scores, skipped), spent


def score_grafts(ranking: Ranking, places: np.ndarray, grafts: Sequence["Graft"]) -> dict[str, float]:
    """One method's figures on one panel; natural neurons and grafts between the thresholds are left out.

    Parameters
    ----------
    places : int (G,)
        The flat ids of the grafts.

    Returns
    -------
    dict
        ``recall``: share of the used grafts among the first |used| of the judged ones (ties shared out);
        ``decoy_first``: share of (decoy, used) pairs in which the decoy comes first (ties half);
        ``rho_encoding``, ``rho_use``: Spearman's rho of the scores with the encoding dose and with the size of the use
        dose (0 where the scores are all alike).
    """
    kinds = np.array([graft.kind or "" for graft in grafts])
    judged = kinds != ""
    scores = ranking.scores[places][judged]
    used = kinds[judged] == "used"
    inside = Ranking.from_scores(scores).inclusion(int(used.sum()))
    ranks = rankdata(scores)
    n_used, n_decoys = int(used.sum()), int((~used).sum())
    wins = ranks[~used].sum() - n_decoys * (n_decoys + 1) / 2
    doses = np.array([(graft.auc, abs(graft.use)) for graft in grafts])[judged]
    return {
        "recall": float(inside[used].sum() / max(1, n_used)),
        "decoy_first": float(wins / max(1, n_used * n_decoys)),
        "rho_encoding": _rho(ranks, doses[:, 0]),
        "rho_use": _rho(ranks, doses[:, 1]),
    }


def _rho(ranks: np.ndarray, doses: np.ndarray) -> float:
    return float(np.asarray(spearmanr(ranks, doses))[0]) if np.ptp(ranks) and np.ptp(doses) else 0.0


def natural_share(ranking: Ranking, own: np.ndarray, effects: np.ndarray) -> float:
    """Share of the interchange effect of the ``N_NATURAL`` natural neurons that have most, in a method's first as many.

    Parameters
    ----------
    own : int (D,)
        The flat ids of the natural neurons in the ranking.
    effects : (D,)
        The size of their effects.
    """
    k = min(N_NATURAL, len(own))
    caught = Ranking.from_scores(ranking.scores[own]).inclusion(k) @ effects
    most = np.sort(effects)[-k:].sum()
    return float(caught / most) if most > 0 else 0.0
