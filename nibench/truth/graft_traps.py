"""Traps: grafts that one way of looking at effects misses, each beside a plain graft that it does not miss.

``saturated`` and ``redundant`` neurons act through a pair of readers in the last block with grafts, whose difference
is a clipped reading of what they write: flat in either class, so that slopes see nothing (saturated), and flat still
when one of two is at its mean, so that single ablations see nothing (redundant). A ``sign_mixed`` neuron moves the
margin up on some prompts and down on others, by nothing on average. They stand in a panel of their own:
their effects are several times those of other grafts, and would move the first panel's model beyond its limits.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from scipy.stats import ortho_group

from nibench.interventions import Behaviour, Replacement
from nibench.order_statistics import auc
from nibench.prompts import read_ids
from nibench.truth.graft_doses import ANEW, Knob, Moved, fit_doses, how_far, single_drops, use_doses
from nibench.truth.graft_inputs import (
    Affine,
    Instead,
    Reads,
    closed,
    concept_reading,
    ffn_inputs,
    position_gate,
)
from nibench.truth.graft_outputs import (
    output_gradients,
    quiet_direction,
    quiet_directions,
    write_direction,
)
from nibench.truth.graft_scene import Scene, nonlinearity
from nibench.truth.grafts import READERS, Plan, Planted, Spliced, splice
from nibench.truth.surgery import ffn, widen

TrapKind = Literal["saturated", "sign_mixed", "redundant"]
TRAP_KINDS: tuple[TrapKind, ...] = get_args(TrapKind)

N_TRAPS = 4  # neurons of each kind
ATTEMPTS = 8  # panels drawn until one holds: traps move a model more than other grafts do
PLAIN = 0.15  # nats lost with a plain graft
STRONG = 0.5  # nats that a trap moves, seen rightly
MIXED = 0.4  # the same of a sign-mixed one
AT_LEAST = 0.3  # what it must have been measured to move ...
AT_MOST = 0.14  # ... and how much of it may be seen in the way that it traps
LOUD = 0.7  # what a source writes, in units of what its block's own neurons write together
GAIN = 10.0  # one deviation of a source is this many times what clips a reader
SHARP = 4.0  # of a reader's threshold
N_SHUFFLES = 4  # of the sources' values over the prompts, for the fit of a reader
RIDGE = 1e-3
QUIET = 0.05  # weight of other positions in that fit


@dataclass(frozen=True)
class Trap:
    """One trap with its measured doses in nats.

    ``dose`` is what it moves: the drop of the margin under interchange (saturated; under mean ablation where prompts
    have no twins), the mean size of the single prompts' drops (sign_mixed), the drop with both at their
    means (redundant). ``seen`` is what the trapped view sees: the mean size of the linear estimates, the size of the
    mean drop, the larger one of the drops alone.
    """

    kind: TrapKind
    neurons: tuple[str, ...]
    dose: float
    seen: float

    @property
    def holds(self) -> bool:
        """Whether it is a trap: much moved, little seen."""
        return self.dose >= AT_LEAST and self.seen <= AT_MOST


@dataclass(frozen=True, eq=False)
class TrapPanel:
    """A widened model with traps and, for each trapped neuron, a plain graft as loud and as long in the same block."""

    spliced: Spliced
    traps: tuple[Trap, ...]
    plain: tuple[str, ...]
    moved: Moved
    passes: float


@dataclass(eq=False)
class Clip:
    """A pair of readers whose difference is a clipped reading of its sources; its amount is what the pair writes."""

    kind: TrapKind
    sources: tuple[Planted, ...]
    units: tuple[Planted, Planted]
    asked: float
    slope: float = 0.0

    @property
    def amount(self) -> float:
        """What the first unit writes; the second writes its opposite."""
        return self.units[0].amount

    @amount.setter
    def amount(self, value: float) -> None:
        for unit, sign in zip(self.units, (1, -1), strict=True):
            unit.amount = sign * value

    @property
    def limit(self) -> float:
        """Of the size of the amount: thrice the linear estimate."""
        return 3 * abs(self.asked) / self.slope


def trap_panel(scene: Scene, seed: int, attempts: int = ATTEMPTS) -> TrapPanel | None:
    """Draw, splice and fit a panel of traps; None where a model has too few blocks for readers.

    One that moves the model too far is drawn anew, up to ``attempts`` panels in all; the last is returned.
    """
    if len(scene.readings) < 2:
        return None
    before, spent = len(scene.spent), 0.0
    for attempt in range(attempts):
        number = seed + ANEW * attempt
        spliced = splice(scene, draw_traps(scene, number), number)
        lengthen(scene, spliced, number)
        clips = add_readers(scene, spliced, number)
        mixed = [graft for graft in spliced.grafts if graft.plan.role in ("used", "sign_mixed")]
        knobs: list[Knob] = [*mixed, *clips]
        behaviour, _ = fit_doses(scene, spliced, knobs, lambda now, on=spliced, by=clips: doses(now, on, by))
        traps = measure_traps(behaviour, spliced, clips)
        plain = [graft for graft in spliced.grafts if graft.plan.role == "used"]
        landed = np.abs(use_doses(behaviour, plain)) >= PLAIN / 2
        moved = how_far(scene, spliced, behaviour, landed.tolist())
        spent += spliced.model.passes.forward + spliced.model.passes.backward
        if not moved.refusals():
            break
    spent += sum(passes.forward + passes.backward for passes in scene.spent[before:])
    names = tuple(graft.name for graft, there in zip(plain, landed, strict=True) if there)
    return TrapPanel(spliced.finished(), traps, names, moved, spent)


def draw_traps(scene: Scene, seed: int) -> list[Plan]:
    """Traps with a plain partner each; their blocks are those before the last in which the concept is read best."""
    rng = np.random.default_rng([seed, 23])
    readable = {layer: _ceiling(scene, layer) for layer in sorted(scene.readings)[:-1]}
    best = max(readable.values())
    able = [layer for layer, ceiling in readable.items() if ceiling >= best - 0.02]
    plans = []
    for kind in TRAP_KINDS:
        for number in range(N_TRAPS):
            plan = Plan(
                role=kind,
                pair=len(plans) // 2,
                layer=int(rng.choice(able)),
                shape="linear",
                reader=READERS[int(rng.integers(2))],
                write="gradient",
                towards=int(rng.choice([-1, 1])),
                encoding=0.5 if kind == "sign_mixed" else 0.99,
                use=MIXED if kind == "sign_mixed" else 0.0,
            )
            plain = replace(plan, role="used", encoding=0.99, use=PLAIN * (1 - 2 * (number % 2)))
            plans += [plan, plain]
    return plans


def _ceiling(scene: Scene, layer: int) -> float:
    reading = scene.readings[layer]
    return float(auc(concept_reading(reading, "logistic")(reading.items), reading.item_labels))


def lengthen(scene: Scene, spliced: Spliced, seed: int) -> None:
    """Make sources, and their partners, loud enough to be read: as the block's own neurons together, where it is quiet.

    Sources write at right angles to each other and to what pads the others.
    """
    gradients = output_gradients(scene.reopen(spliced.model))
    for layer in {graft.plan.layer for graft in spliced.grafts}:
        rng = np.random.default_rng([seed, 25, layer])
        quiet = quiet_directions(gradients[layer])
        quiet = ortho_group.rvs(len(quiet), random_state=rng) @ quiet
        loud = LOUD * float(np.linalg.norm(scene.spreads[layer] * scene.lengths[layer]))
        mine = [graft for graft in spliced.grafts if graft.plan.layer == layer]
        sources = [graft for graft in mine if graft.plan.role in ("saturated", "redundant")]
        longest = {graft.plan.pair: loud / float(graft.deviations.std()) for graft in sources}
        for graft in mine:
            graft.length = max(graft.length, longest.get(graft.plan.pair, 0.0))
            if graft in sources:
                graft.padding = quiet[sources.index(graft)]
            else:
                graft.padding = quiet_direction(graft.direction, quiet[len(sources) :], rng)
    spliced.write()


def add_readers(scene: Scene, spliced: Spliced, seed: int) -> list[Clip]:
    """A pair of readers for each saturated neuron and for each two redundant ones, half of them against the answer."""
    layer = max(scene.readings)
    by_kind = {
        kind: [graft for graft in spliced.grafts if graft.plan.role == kind]
        for kind in ("saturated", "redundant")
    }
    groups = [("saturated", (graft,)) for graft in by_kind["saturated"]]
    groups += [
        ("redundant", pair)
        for pair in zip(by_kind["redundant"][::2], by_kind["redundant"][1::2], strict=True)
    ]
    units = iter(widen(spliced.model.network, layer, 2 * len(groups)))
    silent = np.zeros(ffn(spliced.model.network, layer).output.shape[1])
    blank = Plan("reader", -1, layer, "half", "logistic", "gradient", 1, 0.5, 0.0)
    clips: list[Clip] = []
    for number, (kind, sources) in enumerate(groups):
        pair = tuple(Planted(replace(blank, pair=-2 - number), next(units), silent, silent) for _ in range(2))
        clips.append(Clip(kind, sources, pair, STRONG * (1 - 2 * (number % 2))))  # type: ignore[arg-type]
        spliced.readers.extend(pair)
    _fit_readers(scene, spliced, clips, layer, np.random.default_rng([seed, 24]))
    return clips


def _fit_readers(
    scene: Scene, spliced: Spliced, clips: Sequence[Clip], layer: int, rng: np.random.Generator
) -> None:
    """Rows that read the sources and nothing else, and columns along the behaviour.

    Fitted with the sources' values shuffled over the prompts: what else tells the concept then tells nothing of them.
    """
    model, act = spliced.model, nonlinearity(scene.model)
    reading = scene.reread(model)[layer]
    x, elsewhere, shuffled = _shuffled(scene, spliced, clips, layer, rng)
    gate, gated = position_gate(reading), ffn(model.network, layer).gated
    gradients = output_gradients(scene.reopen(model))
    for clip in clips:
        target = np.mean([source.plan.towards * shuffled[source.name] for source in clip.sources], axis=0)
        row = _reading_of(target, x, elsewhere) * GAIN
        row = row + -float(np.mean(row(reading.items[scene.item_rows])))
        values = []
        for unit, threshold in zip(clip.units, (1, -1), strict=True):
            opening = closed((row + float(threshold)) * SHARP, gate, reading.elsewhere)
            unit.reads = Reads((opening, Affine(np.zeros_like(row.weight), 1.0)) if gated else (opening,))
            values.append(unit.reads.activation(reading.items, act)[scene.item_rows])
            unit.mean = float(values[-1].mean())
        clipped = values[0] - values[1]
        clipped -= clipped.mean()
        direction, clip.slope = write_direction(
            "gradient", clipped, gradients[layer], gradients[max(gradients)]
        )
        for unit in clip.units:
            unit.direction = direction
        clip.amount = clip.asked / clip.slope / (2 if clip.kind == "saturated" else 1)
    spliced.write(rows=True)


def _shuffled(
    scene: Scene, spliced: Spliced, clips: Sequence[Clip], layer: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """What enters the readers' block at the position (N, d) and elsewhere, and each source's value there (N,).

    Every source's values are shuffled over the prompts, several times over; in units of their deviation.
    """
    model, act = spliced.model, nonlinearity(scene.model)
    asked = [read_ids(model, prompt.text, prompt.word) for prompt in (*scene.observed, *scene.fit)]
    sequences, places = [ids for ids, _ in asked], np.array([place for _, place in asked])
    sources = [source for clip in clips for source in clip.sources]
    layers = sorted({source.plan.layer for source in sources})
    inputs = dict(zip(layers, ffn_inputs(model, sequences, layers), strict=True))
    instead, values = [], {}
    for source in sources:
        read = np.array([one[at] for one, at in zip(inputs[source.plan.layer], places, strict=True)])
        own = source.reads.activation(read, act)
        drawn = np.concatenate([rng.permutation(own) for _ in range(N_SHUFFLES)])
        instead.append(Instead(source.plan.layer, source.unit, drawn, np.tile(places, N_SHUFFLES)))
        values[source.name] = (drawn - own.mean()) / own.std()
    (found,) = ffn_inputs(model, sequences * N_SHUFFLES, [layer], instead)
    everywhere = np.tile(places, N_SHUFFLES)
    read = np.array([one[at] for one, at in zip(found, everywhere, strict=True)])
    others = np.concatenate([np.delete(one, at, axis=0) for one, at in zip(found, places, strict=False)])
    return read, others, values


def _reading_of(target: np.ndarray, x: np.ndarray, elsewhere: np.ndarray) -> Affine:
    """The linear reading of a value (N,) from inputs (N, d) that is quiet at other positions: ridge."""
    centre = x.mean(axis=0)
    own, other = x - centre, elsewhere - centre
    gram = own.T @ own / len(own) + QUIET * other.T @ other / len(other)
    gram += RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    weight = np.linalg.solve(gram, own.T @ target / len(own))
    return Affine(weight, -float(centre @ weight))


# ---------------------------------------------------------------- measuring


def doses(behaviour: Behaviour, spliced: Spliced, clips: Sequence[Clip]) -> np.ndarray:
    """What each plain graft, each sign-mixed one and each pair of readers moves, in nats, signed but for the second."""
    alone = [graft for graft in spliced.grafts if graft.plan.role in ("used", "sign_mixed")]
    drops = single_drops(behaviour, alone)
    own = [
        np.abs(drop).mean() if graft.plan.role == "sign_mixed" else drop.mean()
        for graft, drop in zip(alone, drops, strict=True)
    ]
    return np.array([*own, *(drop.mean() for drop in _through_readers(behaviour, clips))])


def _through_readers(behaviour: Behaviour, clips: Sequence[Clip]) -> np.ndarray:
    """(pairs of readers, M): the drops with its sources swapped (saturated) or at their means (redundant)."""
    margins = np.empty((len(clips), behaviour.n_items))
    swapped = np.array([clip.kind == "saturated" and behaviour.has_pairs for clip in clips])
    ways: list[tuple[Replacement, np.ndarray]] = [("source", swapped), ("mean", ~swapped)]
    for to, mine in ways:
        chosen = [clip.sources for clip, own in zip(clips, mine, strict=True) if own]
        sets = [[behaviour.neurons.index(source.name) for source in sources] for sources in chosen]
        if sets:
            margins[mine] = behaviour.ablate_sets(sets, to)
    return behaviour.margin() - margins


def measure_traps(behaviour: Behaviour, spliced: Spliced, clips: Sequence[Clip]) -> tuple[Trap, ...]:
    """Every trap with what it moves and what is seen of it, all of them in place."""
    linear = np.abs(behaviour.contributions("gradient_activation")).mean(axis=0)
    traps = []
    for clip, drop in zip(clips, _through_readers(behaviour, clips), strict=True):
        if clip.kind == "saturated":
            seen = float(linear[behaviour.neurons.index(clip.sources[0].name)])
        else:
            alone = single_drops(behaviour, clip.sources)
            seen = float(np.abs(alone.mean(axis=1)).max())
        names = tuple(source.name for source in clip.sources)
        traps.append(Trap(clip.kind, names, float(abs(drop.mean())), seen))
    mixed = [graft for graft in spliced.grafts if graft.plan.role == "sign_mixed"]
    for graft, drop in zip(mixed, single_drops(behaviour, mixed), strict=True):
        traps.append(Trap("sign_mixed", (graft.name,), float(np.abs(drop).mean()), float(abs(drop.mean()))))
    return tuple(traps)
