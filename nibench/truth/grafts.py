"""Grafts: extra FFN neurons of measured dose, spliced into a model in memory.

A panel is 24 neurons that the behaviour uses (four encoding doses x six use doses), a matched decoy for each,
and four movers, which the behaviour needs though they tell the classes nothing. A decoy has its partner's
block, shape, encoding dose, scale and lengths of rows and column, and writes where nothing reads. Natural neurons stay
as they are and unknown: they are left out of every score.
"""

import copy
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from scipy.special import ndtri

from nibench.model import LanguageModel, Passes
from nibench.order_statistics import auc
from nibench.truth.graft_inputs import (
    Affine,
    Reader,
    Readings,
    Reads,
    Shape,
    concept_reading,
    find_angle,
    mixed,
    position_gate,
    quiet_elsewhere,
    shaped,
    unrelated_reading,
)
from nibench.truth.graft_outputs import (
    Write,
    column,
    enabling_direction,
    mixing_direction,
    output_gradients,
    quiet_direction,
    quiet_directions,
    write_direction,
)
from nibench.truth.graft_scene import Scene, nonlinearity
from nibench.truth.surgery import ffn, widen

Role = Literal["used", "decoy", "mover", "compensator", "saturated", "sign_mixed", "redundant", "reader"]
ROLES: tuple[Role, ...] = get_args(Role)

ENCODING = (0.7, 0.8, 0.9, 0.99)  # AUC
USE = (0.02, -0.02, 0.06, -0.06, 0.2, -0.2)  # nats lost when set to the mean
MOVER_USE = (0.02, -0.02, 0.02, -0.02)
SHAPES: tuple[Shape, ...] = ("linear", "half", "square")
READERS: tuple[Reader, ...] = ("logistic", "mean_difference")
WRITES: tuple[Write, ...] = ("direct", "gradient", "downstream")
LOUDNESS = 0.9  # quantile of the block's own deviations that grafts start from
REACH = 2.0  # times the length of the block's own columns: no dose is planned that needs more
HOARSE = 1.0  # times that reach: what a mover may need
FLOOR = 0.4  # of a length drawn from the block's own: no graft's column is shorter
LENGTH = 1.1  # of the column that a pair's dose needs


@dataclass(frozen=True)
class Plan:
    """One graft as asked for."""

    role: Role
    pair: int  # used and decoy of one number are matched
    layer: int
    shape: Shape
    reader: Reader
    write: Write
    towards: int  # +1: fires for the first class, -1: for the others
    encoding: float  # AUC; .5 for movers
    use: float  # nats; 0 for decoys


@dataclass(eq=False)
class Planted:
    """One graft as it stands in the model: its column is ``amount`` along ``direction``, padded to ``length``."""

    plan: Plan
    unit: int
    direction: np.ndarray  # (d,)
    padding: np.ndarray  # (d,)
    reads: Reads = field(default_factory=lambda: Reads(()))
    slope: float = 0.0  # nats per unit of amount, linear estimate
    amount: float = 0.0
    length: float = 0.0
    mean: float = 0.0  # of its activation where ablations act
    deviations: np.ndarray = field(default_factory=lambda: np.zeros(0))  # (M,) from it, per item

    @property
    def name(self) -> str:
        """The neuron."""
        return f"L{self.plan.layer}.mlp_post.{self.unit}"

    @property
    def column(self) -> np.ndarray:
        """(d,) what it writes."""
        return column(self.direction, self.amount, self.padding, self.length)

    @property
    def asked(self) -> float:
        """Its use dose as asked for, in nats."""
        return self.plan.use

    @property
    def limit(self) -> float:
        """Of the size of ``amount``: thrice the linear estimate; for decoys half their length."""
        return 3 * abs(self.plan.use) / self.slope or self.length / 2


def draw_plan(scene: Scene, seed: int) -> list[Plan]:
    """The panel: each used graft and its decoy in a block where its doses can be reached, if any is.

    A mover that would have to shout in every block (`HOARSE`) is left out: it would move the model.
    """
    rng = np.random.default_rng([seed, 21])
    reach = {layer: _reach(scene, layer) for layer in scene.readings}
    gated = ffn(scene.model.network, 0).gated
    load = dict.fromkeys(reach, 0)
    plans = []
    doses = [(encoding, use) for encoding in ENCODING for use in USE]
    doses += [(0.5, use) for use in MOVER_USE]
    for pair, (encoding, use) in enumerate(doses):
        mover = encoding == 0.5
        shares = {layer: abs(use) / max(one(encoding), 1e-12) for layer, one in reach.items()}
        if mover and min(shares.values()) > HOARSE:
            continue
        able = [layer for layer, share in shares.items() if share <= 1] or [
            min(shares, key=shares.__getitem__)
        ]
        weights = np.array([1 / (1 + load[layer]) for layer in able])
        layer = int(rng.choice(able, p=weights / weights.sum()))
        load[layer] += 1
        plan = Plan(
            role="mover" if mover else "used",
            pair=pair,
            layer=layer,
            shape=SHAPES[int(rng.integers(len(SHAPES) if gated and not mover else 2))],
            reader=READERS[int(rng.integers(2))],
            write=WRITES[int(rng.integers(len(WRITES)))],
            towards=int(rng.choice([-1, 1])),
            encoding=encoding,
            use=use,
        )
        plans.append(plan)
        if use > 0 and not mover:
            plans.append(replace(plan, role="decoy", use=0.0))
    return [plans[i] for i in rng.permutation(len(plans))]


def _reach(scene: Scene, layer: int) -> Callable[[float], float]:
    """The largest use dose in nats that a graft of one AUC reaches in a block with ordinary scale and length.

    0 for an AUC that the block's concept rows do not reach.
    """
    reading, gradients = scene.readings[layer], scene.gradients[layer]
    longest = REACH * float(np.median(scene.lengths[layer])) * loudness(scene, layer)
    basis = quiet_elsewhere(reading, position_gate(reading))
    concepts = [concept_reading(reading, reader) for reader in READERS]
    ceiling = min(float(auc(one(reading.items), reading.item_labels)) for one in concepts)
    values = concepts[1](reading.items)[scene.item_rows]
    steepest = write_direction("gradient", (values - values.mean()) / values.std(), gradients, gradients)[1]
    enabling = []
    for column_ in basis.T:
        values = (reading.items @ column_)[scene.item_rows]
        enabling.append(enabling_direction((values - values.mean()) / values.std(), gradients)[1])

    def reach(encoding: float) -> float:
        if encoding == 0.5:
            return longest * float(np.median(enabling))
        share = _correlation(encoding) / _correlation(ceiling)
        return longest * steepest * share if share <= 1 else 0.0

    return reach


def _correlation(encoding: float) -> float:
    """Between a Gaussian reading of this AUC and two classes of one size."""
    apart = float(ndtri(min(encoding, 0.999))) / np.sqrt(2)
    return apart / np.sqrt(1 + apart**2)


def loudness(scene: Scene, layer: int) -> float:
    """The least deviation of a block's grafts: that of a loud neuron of its own."""
    return float(np.quantile(scene.spreads[layer], LOUDNESS))


@dataclass(frozen=True, eq=False)
class Spliced:
    """A widened copy of a model with its grafts; one compensator per block cancels what they write on average.

    ``readers`` are units that pass on what some grafts write (see `nibench.truth.graft_traps`); nobody is judged by
    them.
    """

    model: LanguageModel
    grafts: list[Planted]
    compensators: list[Planted]
    readers: list[Planted] = field(default_factory=list)

    @property
    def planted(self) -> list[Planted]:
        """Every added unit but the compensators."""
        return [*self.grafts, *self.readers]

    def finished(self) -> "Spliced":
        """The same with a digest of its own: of the model's and of all that was written."""
        digest = hashlib.sha256(self.model.digest.encode())
        for graft in self.planted:
            for row in graft.reads.rows:
                digest.update(row.weight.tobytes() + np.float64(row.offset).tobytes())
            digest.update(graft.column.tobytes())
        return replace(self, model=replace(self.model, digest=digest.hexdigest()))

    def write(self, *, rows: bool = False) -> None:
        """Write every graft's column (and rows) into the network, then the compensators'.

        The two of a pair have one length: a natural one, or what the used one needs and a little more.
        """
        for graft in self.grafts:
            needed = max(abs(other.amount) for other in self.grafts if other.plan.pair == graft.plan.pair)
            graft.length = max(graft.length, LENGTH * needed)
        for compensator in self.compensators:
            layer = compensator.plan.layer
            weights = ffn(self.model.network, layer)
            mine = [graft for graft in self.planted if graft.plan.layer == layer]
            for graft in (*mine, compensator) if rows else ():
                for matrix, offsets, row in zip(
                    weights.inputs, weights.biases, graft.reads.rows, strict=True
                ):
                    assert offsets is not None
                    matrix[graft.unit] = torch.from_numpy(row.weight).to(matrix)
                    offsets[graft.unit] = row.offset
            for graft in mine:
                weights.output[graft.unit] = torch.from_numpy(graft.column).to(weights.output)
            total = sum((graft.mean * graft.column for graft in mine), np.zeros(weights.output.shape[1]))
            weights.output[compensator.unit] = torch.from_numpy(-total / compensator.mean).to(weights.output)


def splice(scene: Scene, plans: Sequence[Plan], seed: int) -> Spliced:
    """Widen a copy of the model and plant a panel, with amounts as a linear estimate has them.

    Planted twice: rows and columns that fit the model as it was, then, since grafts of earlier blocks are read by
    those of later ones, as it has become.
    """
    network = copy.deepcopy(scene.model.network)
    grafts, compensators = [], []
    for layer in scene.readings:
        mine = [plan for plan in plans if plan.layer == layer]
        units = widen(network, layer, len(mine) + 1)
        silent = np.zeros(ffn(network, layer).output.shape[1])
        grafts += [Planted(plan, unit, silent, silent) for plan, unit in zip(mine, units, strict=False)]
        none = Plan("compensator", -1, layer, "constant", "logistic", "direct", 1, 0.5, 0.0)
        compensators.append(Planted(none, units[-1], silent, silent))
    model = replace(scene.model, network=network, passes=Passes())
    spliced = Spliced(model, grafts, compensators)
    plant_rows(spliced, scene, scene.readings, seed)
    plant_columns(spliced, scene, scene.gradients, seed)
    plant_rows(spliced, scene, scene.reread(model), seed)
    for _ in range(2):  # the slopes of early blocks hang on the columns of later ones
        plant_columns(spliced, scene, output_gradients(scene.reopen(model)), seed)
    return spliced


def plant_rows(spliced: Spliced, scene: Scene, readings: Mapping[int, Readings], seed: int) -> None:
    """Give every graft the rows that have its encoding dose in a model with these readings."""
    act = nonlinearity(scene.model)
    gated = ffn(scene.model.network, 0).gated
    for compensator in spliced.compensators:
        layer = compensator.plan.layer
        reading = readings[layer]
        gate = position_gate(reading)
        basis = quiet_elsewhere(reading, gate)
        concepts = {reader: concept_reading(reading, reader) for reader in READERS}
        for graft in (graft for graft in spliced.grafts if graft.plan.layer == layer):
            plan = graft.plan
            pair, own = _generators(plan, seed, "rows")
            scale = loudness(scene, layer) * float(pair.uniform(1, 2))
            concept = concepts[plan.reader]
            read, labels = reading.fit, reading.fit_labels
            if plan.role == "sign_mixed":  # its mean effect is to be nothing where it is measured
                read, labels = reading.items[scene.item_rows], reading.item_labels[scene.item_rows]
            unrelated = unrelated_reading(read, labels, concept, basis, own)
            graft.reads = _reads(plan, reading, concept, unrelated, gate, act, gated, scale)
            graft.deviations = graft.reads.activation(reading.items, act)[scene.item_rows]
            graft.mean = float(graft.deviations.mean())
            graft.deviations -= graft.mean
        nothing = Affine(np.zeros(reading.fit.shape[1]), 1.0)
        compensator.reads = shaped("constant", nothing, gate, reading.elsewhere, gated=gated)
        compensator.mean = float(compensator.reads.activation(reading.items, act).mean())
    spliced.write(rows=True)


def plant_columns(spliced: Spliced, scene: Scene, gradients: Mapping[int, np.ndarray], seed: int) -> None:
    """Give every graft the column that has its use dose in a model with these gradients, as a linear estimate."""
    quiet = {layer: quiet_directions(gradients[layer]) for layer in scene.readings}
    for graft in spliced.grafts:
        plan, own = graft.plan, gradients[graft.plan.layer]
        pair, rng = _generators(plan, seed, "columns")
        if plan.role == "mover":
            graft.direction, graft.slope = enabling_direction(graft.deviations, own)
        elif plan.role == "sign_mixed":
            graft.direction, graft.slope = mixing_direction(graft.deviations, own)
        else:
            last = gradients[max(gradients)]
            graft.direction, graft.slope = write_direction(plan.write, graft.deviations, own, last)
        graft.padding = quiet_direction(graft.direction, quiet[plan.layer], rng)
        graft.amount = plan.use / graft.slope
        graft.length = FLOOR * float(pair.choice(scene.lengths[plan.layer]))
    spliced.write()


def _generators(
    plan: Plan, seed: int, what: Literal["rows", "columns"]
) -> tuple[np.random.Generator, np.random.Generator]:
    """What the two of a pair draw alike, and what each draws for itself; the same at every planting."""
    key = [seed, 22, 0 if what == "rows" else 1, plan.pair]
    return np.random.default_rng(key), np.random.default_rng([*key, 1 + ROLES.index(plan.role)])


def _reads(
    plan: Plan,
    reading: Readings,
    concept: Affine,
    unrelated: Affine,
    gate: Affine,
    act: Any,
    gated: bool,
    scale: float,
) -> Reads:
    """Rows with the plan's encoding dose: the angle between the concept and the unrelated reading is searched."""

    size = 1.0 if gated else scale  # an ungated unit's gate is not scaled with it: tune it at its size

    def reads(angle: float, size: float) -> Reads:
        z = mixed(concept, unrelated, angle) * float(plan.towards)
        return shaped(plan.shape, z, gate, reading.elsewhere, gated=gated, scale=size)

    def dose(angle: float) -> float:
        value = float(auc(reads(angle, size).activation(reading.items, act), reading.item_labels))
        return value if plan.towards > 0 else 1 - value

    angle = np.pi / 2 if plan.encoding == 0.5 else find_angle(plan.encoding, dose)
    plain = float(reads(angle, size).activation(reading.items, act).std())
    return reads(angle, size * scale / max(plain, 1e-9))
