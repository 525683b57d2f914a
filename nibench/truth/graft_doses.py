"""Doses: amounts are fitted until each graft's measured effect is the one asked for, all grafts in place."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np

from nibench.interventions import Behaviour, Replacement
from nibench.model import Passes
from nibench.order_statistics import auc
from nibench.prompts import read_ids
from nibench.truth.graft_inputs import ffn_inputs
from nibench.truth.graft_scene import Scene, nonlinearity, text_loss
from nibench.truth.grafts import Planted, Spliced, draw_plan, splice

N_STEPS = 6
N_ATTEMPTS, ANEW = 2, 100_000
DAMPING = 0.9
USED, UNUSED = 0.015, 0.01  # nats; between them a graft is not judged
CLOSE, CLOSE_SHARE = 0.003, 0.05  # a dose has landed within either
LANDED = 0.75
ACCURACY, MARGIN, LOSS = 0.03, 0.3, 0.02  # how far the model may move


@dataclass(frozen=True)
class Graft:
    """One graft with its measured doses.

    ``auc`` is max(AUC, 1 - AUC) over the observed prompts, ``use`` the drop of the margin in nats under mean ablation,
    ``interchange`` the one when its value is taken from the twin (None without twins). ``kind`` is what it is judged
    as: used, decoy, or None (between the thresholds).
    """

    neuron: str
    role: str
    pair: int
    shape: str
    reader: str
    write: str
    auc_asked: float
    auc: float
    use_asked: float
    use: float
    interchange: float | None
    length: float

    @property
    def kind(self) -> str | None:
        """Judged as used or as a decoy by its measured use dose; None: left out."""
        return "used" if abs(self.use) >= USED else "decoy" if abs(self.use) <= UNUSED else None

    @property
    def landed(self) -> bool:
        """Whether the use dose is the one asked for."""
        return abs(self.use - self.use_asked) <= max(CLOSE, CLOSE_SHARE * abs(self.use_asked))


@dataclass(frozen=True)
class Moved:
    """How far the model moved: with grafts against without. The loss is None where there is no text."""

    accuracy: tuple[float, float]
    margin: tuple[float, float]
    loss: tuple[float, float] | None
    landed: float

    def refusals(self) -> list[str]:
        """What is out of bounds, with its figures; empty where the calibration holds."""
        found = []
        if self.accuracy[0] - self.accuracy[1] > ACCURACY:
            found.append(
                f"accuracy fell from {self.accuracy[0]:.3f} to {self.accuracy[1]:.3f} (limit {ACCURACY})"
            )
        if abs(self.margin[1] - self.margin[0]) > MARGIN:
            found.append(
                f"the margin went from {self.margin[0]:.2f} to {self.margin[1]:.2f} nats (limit {MARGIN})"
            )
        if self.loss is not None and self.loss[1] - self.loss[0] > LOSS:
            found.append(
                f"the loss on text rose from {self.loss[0]:.3f} to {self.loss[1]:.3f} nats (limit {LOSS})"
            )
        if self.landed < LANDED:
            found.append(f"{self.landed:.0%} of the use doses landed (at least {LANDED:.0%})")
        return found

    def as_dict(self) -> dict[str, object]:
        """For records."""
        return {**asdict(self), "refusals": self.refusals()}


@dataclass(frozen=True, eq=False)
class Panel:
    """A widened model, its grafts with measured doses, and how far it moved."""

    spliced: Spliced
    grafts: tuple[Graft, ...]
    moved: Moved
    attempts: int  # panels drawn until one held
    passes: float  # that fitting and measuring took


def graft_panel(scene: Scene, seed: int) -> Panel:
    """Draw, splice and fit a panel; everything random comes from ``seed``.

    One that does not hold is drawn anew, once: the last one is returned, whether it holds or not.
    """
    before = len(scene.spent)
    earlier: list[Passes] = []
    for attempt in range(N_ATTEMPTS):
        number = seed + ANEW * attempt
        spliced = splice(scene, draw_plan(scene, number), number)
        earlier.append(spliced.model.passes)
        planted = spliced.grafts
        behaviour, uses = fit_doses(scene, spliced, planted, lambda now, own=planted: use_doses(now, own))
        grafts = measure(scene, spliced, behaviour, uses)
        moved = how_far(scene, spliced, behaviour, [graft.landed for graft in grafts])
        if not moved.refusals():
            break
    spent = sum(passes.forward + passes.backward for passes in (*earlier, *scene.spent[before:]))
    return Panel(spliced.finished(), grafts, moved, attempt + 1, spent)


class Knob(Protocol):
    """Something with an amount that decides a dose: a graft's column, or the output of a pair of readers."""

    slope: float  # nats per unit of amount, linear estimate

    @property
    def amount(self) -> float:
        """Of what it writes."""
        ...

    @amount.setter
    def amount(self, value: float) -> None: ...

    @property
    def asked(self) -> float:
        """Nats."""
        ...

    @property
    def limit(self) -> float:
        """Of the size of the amount."""
        ...


def use_doses(behaviour: Behaviour, grafts: Sequence[Planted]) -> np.ndarray:
    """(G,): how much of the margin in nats goes when each graft alone is set to its mean."""
    return single_drops(behaviour, grafts).mean(axis=1)


def single_drops(behaviour: Behaviour, grafts: Sequence[Planted], to: Replacement = "mean") -> np.ndarray:
    """(G, M): each prompt's drop of the margin with each graft alone replaced."""
    return behaviour.single_effects(to, [behaviour.neurons.index(graft.name) for graft in grafts]).T


def fit_doses(
    scene: Scene, spliced: Spliced, knobs: Sequence[Knob], doses: Callable[[Behaviour], np.ndarray]
) -> tuple[Behaviour, np.ndarray]:
    """Damped secant on every amount at once; the behaviour of the model as it then is, and the doses there."""
    asked, slopes, limits, amounts = (
        np.array(values)
        for values in zip(*((one.asked, one.slope, one.limit, one.amount) for one in knobs), strict=True)
    )
    estimates = slopes.copy()
    behaviour = scene.reopen(spliced.model)
    found = doses(behaviour)
    for _ in range(N_STEPS):
        if share_landed(asked, found, CLOSE / 2) == 1:
            break
        following = np.clip(amounts + DAMPING * (asked - found) / estimates, -limits, limits)
        steps, amounts = following - amounts, following
        for knob, amount in zip(knobs, amounts, strict=True):
            knob.amount = float(amount)
        for planted in (*spliced.planted, *spliced.compensators):
            assert behaviour.means is not None
            planted.mean = float(behaviour.means[behaviour.neurons.index(planted.name)])
        spliced.write()
        behaviour = scene.reopen(spliced.model)
        before, found = found, doses(behaviour)
        large = np.abs(steps) * slopes > CLOSE / 3
        secant = np.divide(found - before, steps, out=estimates.copy(), where=large)
        estimates = np.where(large, np.clip(secant, 0.4 * slopes, 2.5 * slopes), estimates)
    return behaviour, found


def share_landed(asked: np.ndarray, found: np.ndarray, close: float) -> float:
    """The share of doses within ``close`` nats, or 5 %, of what was asked."""
    return float((np.abs(found - asked) <= np.maximum(close, CLOSE_SHARE * np.abs(asked))).mean())


def measure(scene: Scene, spliced: Spliced, behaviour: Behaviour, uses: np.ndarray) -> tuple[Graft, ...]:
    """Every graft's doses as they are with all of them in place; the use doses (G,) are measured already."""
    swaps = None
    if behaviour.has_pairs:
        swaps = single_drops(behaviour, spliced.grafts, "source").mean(axis=1)
    encodings = encoding_doses(scene, spliced)
    return tuple(
        Graft(
            neuron=graft.name,
            role=graft.plan.role,
            pair=graft.plan.pair,
            shape=graft.plan.shape,
            reader=graft.plan.reader,
            write=graft.plan.write,
            auc_asked=graft.plan.encoding,
            auc=float(encodings[number]),
            use_asked=graft.plan.use,
            use=float(uses[number]),
            interchange=None if swaps is None else float(swaps[number]),
            length=float(np.linalg.norm(graft.column)),
        )
        for number, graft in enumerate(spliced.grafts)
    )


def encoding_doses(scene: Scene, spliced: Spliced) -> np.ndarray:
    """(G,): max(AUC, 1 - AUC) of each graft over the observed prompts."""
    asked = [read_ids(spliced.model, prompt.text, prompt.word) for prompt in scene.observed]
    layers = sorted(scene.readings)
    values = ffn_inputs(spliced.model, [ids for ids, _ in asked], layers)
    read = {
        layer: np.array([one[place] for one, (_, place) in zip(found, asked, strict=True)])
        for layer, found in zip(layers, values, strict=True)
    }
    act = nonlinearity(spliced.model)
    doses = np.array(
        [auc(graft.reads.activation(read[graft.plan.layer], act), scene.labels) for graft in spliced.grafts]
    )
    return np.maximum(doses, 1 - doses)


def how_far(scene: Scene, spliced: Spliced, behaviour: Behaviour, landed: Sequence[bool]) -> Moved:
    """Accuracy, margin and loss on text with grafts against without; ``landed`` says which doses did."""
    before, after = scene.behaviour.margin(), behaviour.margin()
    loss = None
    if scene.text is not None:
        loss = (text_loss(scene.model, scene.text), text_loss(spliced.model, scene.text))
    return Moved(
        accuracy=(float((before > 0).mean()), float((after > 0).mean())),
        margin=(float(before.mean()), float(after.mean())),
        loss=loss,
        landed=float(np.mean(landed)),
    )
