"""nibench calibrate: what each method can detect in the user's own model, on neurons of known dose.

Neurons with measured encoding and use doses are spliced into a copy of the model (`nibench.truth.grafts`); the
methods rank all neurons, and only the grafts are judged, against each other. It shows what a method *can* detect here;
it promises nothing about natural neurons.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from scipy.stats import kendalltau

from nibench.disk import write_atomic
from nibench.errors import InputError
from nibench.ground import Ground, Options
from nibench.harness import load_task, package_versions, run_method, single_thread
from nibench.ranking import Ranking
from nibench.submissions import find_method, resolve_model
from nibench.uncertainty import MeanOfDraws

if TYPE_CHECKING:
    from nibench.interventions import Behaviour
    from nibench.model import LanguageModel
    from nibench.truth.graft_doses import Graft
    from nibench.truth.graft_traps import Trap

DEFAULT_METHODS = (
    "random_ranking", "variance", "mean_difference", "probeless", "linear_l2",
    "gradient_activation", "integrated_gradients", "neuron_ablation",
)  # fmt: skip
READOUT_PROMPTS = 72  # two that change their answer are within the limit of accuracy
SCORES = ("recall", "decoy_first", "rho_encoding", "rho_use")
MIN_DRAWS = 3
READOUT_ATTEMPTS = 2  # panels of traps that are tried: one takes a minute
AFFORDABLE = 400_000  # items x neurons, each replaced alone
SCHEMA = 1

Advance = Callable[[int, int], None]
Axis = Literal["uses", "propagates"]  # what the model answers by; what reaches a frozen readout


@dataclass(frozen=True)
class TrapDraw:
    """One panel of traps: how far it moved the model, and the share of each kind that a method finds."""

    traps: tuple["Trap", ...]
    n_plain: int
    moved: dict[str, Any]
    scores: dict[str, dict[str, float]]  # empty where the model moved too far


@dataclass(frozen=True)
class Draw:
    """One panel: its grafts, how far the model moved, and each method's figures (empty where it was refused)."""

    seed: int
    grafts: tuple["Graft", ...]
    moved: dict[str, Any]
    scores: dict[str, dict[str, float]]
    skipped: dict[str, str]
    trapped: TrapDraw | None = None  # None where a model has too few blocks for traps

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
    axis: Axis = "uses"
    left_out: dict[str, str] = field(default_factory=dict)  # default methods that cost too much here, and why

    @property
    def skipped(self) -> dict[str, str]:
        """Methods that were not run, and why."""
        return {**self.left_out, **self.draws[0].skipped}

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

    def table(self) -> dict[str, dict[str, MeanOfDraws]]:
        """Per method and figure the mean over draws; empty where a draw was refused."""
        if self.refusals:
            return {}
        ran = [name for name in self.methods if all(name in draw.scores for draw in self.draws)]
        keys = (*SCORES, *(("natural",) if self.natural else ()))
        return {
            name: {key: MeanOfDraws.of([draw.scores[name][key] for draw in self.draws]) for key in keys}
            for name in ran
        }

    def traps(self) -> dict[str, dict[str, MeanOfDraws]]:
        """Per method and kind of trap the share found; kinds of which some draw has none that holds are left out."""
        drawn = [draw.trapped.scores if draw.trapped else {} for draw in self.draws]
        if self.refusals or not all(drawn):
            return {}
        ran = [name for name in self.methods if all(name in scores for scores in drawn)]
        kinds = (
            [kind for kind in drawn[0][ran[0]] if all(kind in scores[ran[0]] for scores in drawn)]
            if ran
            else []
        )
        return {
            name: {kind: MeanOfDraws.of([scores[name][kind] for scores in drawn]) for kind in kinds}
            for name in ran
        }

    def trap_counts(self) -> dict[str, tuple[int, int]]:
        """Per kind of trap how many hold, and how many were made, over all draws."""
        made = [trap for draw in self.draws if draw.trapped for trap in draw.trapped.traps]
        return {
            kind: (sum(trap.holds for trap in made if trap.kind == kind), kinds.count(kind))
            for kinds in [[trap.kind for trap in made]]
            for kind in dict.fromkeys(kinds)
        }

    def agreement(self) -> MeanOfDraws | None:
        """Kendall's tau between the methods' orders: by recall of grafts, and by the natural neurons they find."""
        ran = list(self.table())
        if not self.natural or len(ran) < 3:
            return None
        taus = []
        for draw in self.draws:
            pairs = np.array([(draw.scores[name]["recall"], draw.scores[name]["natural"]) for name in ran])
            taus.append(float(np.asarray(kendalltau(pairs[:, 0], pairs[:, 1]))[0]))
        return MeanOfDraws.of(taus)

    def document(self) -> dict[str, Any]:
        """Everything, for ``--json`` and the record."""
        agreement = self.agreement()
        return {
            "schema": SCHEMA,
            "task": self.task,
            "model": self.model,
            "axis": self.axis,
            "command": f"nibench calibrate --model {self.model} --task {self.task} --draws {len(self.draws)}"
            + "".join(f" --method {name}" for name in self.methods),
            "refused": self.refusals,
            "methods": {
                name: {key: asdict(value) for key, value in row.items()} for name, row in self.table().items()
            },
            "traps": {
                name: {kind: asdict(value) for kind, value in row.items()}
                for name, row in self.traps().items()
            },
            "traps_that_hold": self.trap_counts(),
            "skipped": self.skipped,
            "kendall_tau_with_natural": None if agreement is None else asdict(agreement),
            "draws": [
                {
                    "seed": draw.seed,
                    "moved": draw.moved,
                    "grafts": [{**asdict(graft), "judged_as": graft.kind} for graft in draw.grafts],
                    "scores": draw.scores,
                    "traps": None if draw.trapped is None else _trap_document(draw.trapped),
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


def _trap_document(drawn: TrapDraw) -> dict[str, Any]:
    traps = [{**asdict(trap), "holds": trap.holds} for trap in drawn.traps]
    return {**asdict(drawn), "traps": traps}


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
    chosen = tuple(methods)
    for name in chosen:
        find_method(name).load()
    opened = _Stage(model, task, options or Options())
    left_out = {} if chosen else opened.too_dear
    chosen = chosen or tuple(name for name in DEFAULT_METHODS if name not in left_out)
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
    return Calibration(task, model, chosen, tuple(found), opened.n_natural, passes, opened.axis, left_out)


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

        self.options = replace(options, site="mlp_post")  # where grafts go
        self.task = load_task(task)
        self.model: LanguageModel = load_model(resolve_model(model), device=options.device)
        reason = self.task.source.refuses(self.model.folder)
        if reason is not None:
            raise InputError(f"Task {task!r} does not go with {model}: {reason}.")
        self.axis: Axis = "uses"
        with single_thread():
            if self.model.has_head is None and not self.task.concept_free:
                self._add_readout()
            self.ground = Ground(self.task, self.model, self.options)
            if self.ground.no_behaviour is not None:
                raise InputError(
                    f"Nothing to calibrate on: {self.ground.no_behaviour}. Choose a task with answers."
                )
            self._open()

    def _add_readout(self) -> None:
        """A model without a head is asked for the task's classes by a readout trained on ``probe``."""
        from nibench.readout import readout_task, with_readout

        self.axis = "propagates"
        self.task = readout_task(self.task)
        self.options = replace(
            self.options, budget=replace(self.options.budget, rank_prompts=READOUT_PROMPTS)
        )
        read = Ground(self.task, self.model, self.options)
        self.model = with_readout(self.model, read.data.split_prompts("probe"))

    def _open(self) -> None:
        from nibench.truth.graft_scene import make_scene

        behaviour = self.ground.behaviour("rank")
        assert behaviour is not None
        observed, fit = (self.ground.data.split_prompts(split) for split in ("rank", "probe"))
        self.scene = make_scene(self.model, behaviour, observed, fit)
        self.behaviour, self.n_natural = behaviour, len(self.ground.data.neurons)

    @property
    def too_dear(self) -> dict[str, str]:
        """Default methods that are left out unless asked for, and why: exact ablation, where whole sequences run."""
        n_items, n_neurons = self.behaviour.n_items, self.n_natural
        if self.axis == "uses" or n_items * n_neurons <= AFFORDABLE:
            return {}
        work = f"each of {n_neurons:,} neurons alone on {n_items} prompts, in whole sequences"
        return {"neuron_ablation": f"it would ablate {work}; ask with --method"}

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
        from nibench.truth.graft_scores import natural_share, score_grafts

        with single_thread():
            panel = graft_panel(self.scene, seed)
            moved = {**panel.moved.as_dict(), "attempts": panel.attempts}
            if panel.moved.refusals():
                return Draw(seed, panel.grafts, moved, {}, {}), panel.passes
            ground = Ground(self.task, panel.spliced.model, self.options)
            places = np.array([ground.data.neurons.index(graft.neuron) for graft in panel.grafts])
            own = np.array([ground.data.neurons.index(name) for name in self.ground.data.neurons])
            rankings, skipped = _rankings(ground, methods, seed)
            scores = {name: score_grafts(one, places, panel.grafts) for name, one in rankings.items()}
            if self.natural is not None:
                for name, one in rankings.items():
                    scores[name]["natural"] = natural_share(one, own, self.natural)
            trapped, passes = self._traps(methods, seed)
            spent = panel.passes + _passes(ground) + passes
            return Draw(seed, panel.grafts, moved, scores, skipped, trapped), spent

    def _traps(self, methods: Sequence[str], seed: int) -> tuple[TrapDraw | None, float]:
        """A panel of traps and every method on it."""
        from nibench.truth.graft_scores import score_traps
        from nibench.truth.graft_traps import ATTEMPTS, trap_panel

        if not self.behaviour.fast:  # whole passes for everything: a second panel would double hours
            return None, 0.0
        panel = trap_panel(self.scene, seed, ATTEMPTS if self.axis == "uses" else READOUT_ATTEMPTS)
        if panel is None:
            return None, 0.0
        drawn = TrapDraw(panel.traps, len(panel.plain), panel.moved.as_dict(), {})
        if panel.moved.refusals():
            return drawn, panel.passes
        ground = Ground(self.task, panel.spliced.model, self.options)
        rankings, _ = _rankings(ground, methods, seed)
        scores = {name: score_traps(one, ground.data.neurons, panel) for name, one in rankings.items()}
        return replace(drawn, scores=scores), panel.passes + _passes(ground)


def _rankings(ground: Ground, methods: Sequence[str], seed: int) -> tuple[dict[str, Ranking], dict[str, str]]:
    """Each method's ranking of all neurons, and why others were not run."""
    rankings: dict[str, Ranking] = {}
    skipped: dict[str, str] = {}
    for name in methods:
        file = find_method(name)
        loaded = file.load()
        lacking = ground.lacks(loaded)
        if lacking is not None:
            skipped[file.label] = lacking
        else:
            rankings[file.label] = run_method(loaded, ground.observe(loaded, file.label), file.label, seed)
    return rankings, skipped


def _passes(ground: Ground) -> float:
    behaviour = ground.behaviour("rank")
    return behaviour.passes.forward + behaviour.passes.backward if behaviour else 0.0
