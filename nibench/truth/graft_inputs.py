"""What a graft reads: a position gate, a concept row of chosen strength, and the shape of its response.

All on the input of a block's FFN. At the position where the behaviour is read a graft's activation follows
``z``, a linear reading of the concept mixed with one that has nothing to do with it; elsewhere it is silent, in models
where the position can be told.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from scipy.linalg import eigh
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from nibench.architecture import End, Tap
from nibench.model import LanguageModel
from nibench.neurons import Block
from nibench.prompts import by_length

Shape = Literal["linear", "half", "square", "constant"]
Reader = Literal["logistic", "mean_difference"]

OPEN = 6.0  # a linear gate at the position
SHUT = -7.0  # any gate elsewhere
BLURRED = 0.1  # of a gate where it should be 0, on new prompts (root mean square): it does not hold
UNCLEAR = 0.5  # a position with the gate above minus this looks like the one where the behaviour is read
RIDGE = 1e-4  # of the position gate, per coordinate
AT_POSITION = 10.0  # weight of the position against everything else in the gate's regression
ELSEWHERE = 0.1  # weight of the other positions in the spread that unrelated readings are drawn by
DEAF = 10.0  # weight of what other grafts change at the position
N_BISECTIONS = 12


@dataclass(frozen=True, eq=False)
class Readings:
    """What enters the FFN of one block.

    Attributes
    ----------
    layer : int
    fit : (N, d), fit_labels : bool (N,)
        Where the behaviour is read, on the prompts that rows are made from.
    items : (M, d), item_labels : bool (M,)
        The same on the prompts that doses are measured on.
    elsewhere : (K, d)
        All other positions.
    induced : (d, d)
        Second moment of what other grafts change in the inputs at the position; 0 without any.
    """

    layer: int
    fit: np.ndarray
    fit_labels: np.ndarray
    items: np.ndarray
    item_labels: np.ndarray
    elsewhere: np.ndarray
    induced: np.ndarray


@dataclass(frozen=True, eq=False)
class Affine:
    """``x @ weight + offset``: a reading of the FFN's input."""

    weight: np.ndarray  # (d,)
    offset: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return x @ self.weight + self.offset

    def __mul__(self, factor: float) -> "Affine":
        return Affine(self.weight * factor, self.offset * factor)

    def __add__(self, other: "Affine | float") -> "Affine":
        if isinstance(other, Affine):
            return Affine(self.weight + other.weight, self.offset + other.offset)
        return Affine(self.weight, self.offset + other)


@dataclass(frozen=True, eq=False)
class Instead:
    """Values (N,) that one unit of a block takes at one place (N,) of each sequence, instead of its own."""

    layer: int
    unit: int
    values: np.ndarray
    places: np.ndarray


def ffn_inputs(
    model: LanguageModel,
    sequences: Sequence[Sequence[int]],
    layers: Sequence[int],
    instead: Sequence[Instead] = (),
) -> list[list[np.ndarray]]:
    """For each layer and sequence the input of the block's FFN at every token, (T, d) float64."""
    found: list[list[np.ndarray]] = [[np.zeros(0)] * len(sequences) for _ in layers]
    end: End = "input"
    for rows in by_length(sequences):
        handles: list[Any] = []
        try:
            for one in instead:

                def put(values: Tensor, one: Instead = one, rows: np.ndarray = rows) -> Tensor:
                    shaped = values.view(len(rows), -1, values.shape[-1]).clone()
                    new = torch.from_numpy(one.values[rows]).to(shaped)
                    shaped[torch.arange(len(rows)), torch.from_numpy(one.places[rows]), one.unit] = new
                    return shaped.view(values.shape)

                handles.append(model.taps("mlp_post", one.layer)[0].attach(put))
            for place, layer in enumerate(layers):
                module = model.architecture.ffn_modules(layer)[0][0]
                tap = Tap(Block(f"L{layer}.input", layer, 0), module, end)

                def keep(values: Tensor, place: int = place, rows: np.ndarray = rows) -> None:
                    shaped = values.view(len(rows), -1, values.shape[-1]).double().cpu().numpy()
                    for row, one in zip(rows, shaped, strict=True):
                        found[place][row] = one

                handles.append(tap.attach(keep))
            model.run([sequences[row] for row in rows])
        finally:
            for handle in handles:
                handle.remove()
    return found


def position_gate(reading: Readings) -> Affine:
    """A reading that is 0 where the behaviour is read and -1 elsewhere: weighted ridge, deaf to other grafts.

    0 everywhere where it would not hold on other prompts (`BLURRED`), as when any word of a sentence may be the one
    that is read: such a gate's errors at the position would drown what grafts read. Grafts then fire at every word.
    """
    held_out = _gate(reading, reading.fit)(reading.items)
    if np.sqrt(np.mean(held_out**2)) > BLURRED:
        return Affine(np.zeros(reading.fit.shape[1]), 0.0)
    return _gate(reading, np.concatenate([reading.fit, reading.items]))


def _gate(reading: Readings, read: np.ndarray) -> Affine:
    elsewhere = reading.elsewhere
    x = np.concatenate([read, elsewhere])
    target = np.repeat([0.0, -1.0], [len(read), len(elsewhere)])
    weights = np.repeat([AT_POSITION / len(read), 1 / len(elsewhere)], [len(read), len(elsewhere)])
    design = np.column_stack([x, np.ones(len(x))])
    penalty = np.zeros((design.shape[1], design.shape[1]))
    penalty[:-1, :-1] = RIDGE * np.eye(x.shape[1]) + AT_POSITION * DEAF * reading.induced
    solved = np.linalg.solve(design.T @ (design * weights[:, None]) + penalty, design.T @ (weights * target))
    return Affine(solved[:-1], float(solved[-1]))


def concept_reading(reading: Readings, reader: Reader) -> Affine:
    """The concept as a linear reading with mean 0 and deviation 1 over ``reading.fit``.

    The logistic one is penalised in units of the spread over all positions, so that it is not loud elsewhere,
    and of what other grafts change.
    """
    read, labels = reading.fit, reading.fit_labels
    if reader == "mean_difference":
        return _standard(read[labels].mean(axis=0) - read[~labels].mean(axis=0), read)
    spread = np.diag(np.concatenate([read, reading.elsewhere]).var(axis=0) + 1e-12) + DEAF * reading.induced
    whiten = np.linalg.inv(np.linalg.cholesky(spread)).T
    fitted = LogisticRegression(C=0.1, max_iter=1000).fit((read - read.mean(axis=0)) @ whiten, labels)
    return _standard(whiten @ fitted.coef_[0], read)


def quiet_elsewhere(reading: Readings, gate: Affine) -> np.ndarray:
    """(d, k): readings that vary much at the position (deviation 1, uncorrelated) for how loud they are elsewhere.

    Generalised eigenvectors; other positions that the gate cannot tell from the position, and what other grafts
    change, count most.
    """
    position = gate(reading.elsewhere)
    around = reading.elsewhere - reading.fit.mean(axis=0)
    unclear = position > -UNCLEAR
    weights = np.where(unclear, 1 / max(1, unclear.sum()), ELSEWHERE / len(around))
    own = np.cov(reading.fit.T)
    loud = own + (around * weights[:, None]).T @ around + DEAF * reading.induced
    ridge = 1e-6 * np.trace(loud) / len(loud) * np.eye(len(loud))
    n_chosen = max(4, len(own) // 4)
    vectors = eigh(own, loud + ridge)[1][:, -n_chosen:]
    return vectors / np.sqrt(np.einsum("dk,de,ek->k", vectors, own, vectors))


def unrelated_reading(
    read: np.ndarray, labels: np.ndarray, concept: Affine, basis: np.ndarray, rng: np.random.Generator
) -> Affine:
    """A random reading in the span of ``basis`` without class gap, and uncorrelated with the concept's, over ``read``.

    Mean 0 and deviation 1 over ``read`` (N, d).
    """
    gap = read[labels].mean(axis=0) - read[~labels].mean(axis=0)
    avoid = np.linalg.qr(basis.T @ np.column_stack([gap, np.cov(read.T) @ concept.weight]))[0]
    drawn = rng.normal(size=basis.shape[1])
    return _standard(basis @ (drawn - avoid @ (avoid.T @ drawn)), read)


def _standard(weight: np.ndarray, read: np.ndarray) -> Affine:
    values = read @ weight
    deviation = max(float(values.std()), 1e-12)
    return Affine(weight / deviation, -float(values.mean()) / deviation)


@dataclass(frozen=True, eq=False)
class Reads:
    """One unit's input: a reading per input projection (one, or the gate's and up's)."""

    rows: tuple[Affine, ...]

    def activation(self, x: np.ndarray, act: Any) -> np.ndarray:
        """(N,): the unit's activation on inputs (N, d)."""
        values = act(torch.from_numpy(self.rows[0](x))).numpy()
        return values * self.rows[1](x) if len(self.rows) == 2 else values


def shaped(
    shape: Shape, z: Affine, gate: Affine, elsewhere: np.ndarray, *, gated: bool, scale: float = 1.0
) -> Reads:
    """The rows of a unit that responds to ``z`` in a certain shape where ``gate`` is 0, and not elsewhere.

    ``linear`` follows z, ``half`` the part of it above the mean, ``square`` (gated only) grows as its square,
    ``constant`` does not vary. ``scale`` multiplies the activation (an ungated ``linear`` unit's slope).
    """
    one = Affine(np.zeros_like(z.weight), 1.0)
    if gated:
        opening, up = {
            "linear": (one * OPEN, z * (scale / OPEN)),
            "half": (z * 2 + 2, one * scale),
            "square": (z * 2 + 2, (z + 1) * scale),
            "constant": (one * OPEN, one * (scale / OPEN)),
        }[shape]
        return Reads((closed(opening, gate, elsewhere), up))
    opening = {
        "linear": z * min(scale, 1.0) + OPEN / 2,
        "half": z * (2 * scale),
        "square": z * (2 * scale),
        "constant": one * (OPEN / 2),
    }[shape]
    return Reads((closed(opening, gate, elsewhere),))


def closed(opening: Affine, gate: Affine, elsewhere: np.ndarray) -> Affine:
    """``opening`` plus as much of the gate as brings it to ``SHUT`` at all other positions (K, d) that are clear."""
    position = gate(elsewhere)
    clear = position < -UNCLEAR
    needed = (opening(elsewhere[clear]) - SHUT) / -position[clear]
    return opening + gate * max(0.0, float(needed.max(initial=0.0)))


def mixed(concept: Affine, unrelated: Affine, angle: float) -> Affine:
    """``cos(angle) concept + sin(angle) unrelated``."""
    return concept * float(np.cos(angle)) + unrelated * float(np.sin(angle))


def find_angle(target: float, measure: Any) -> float:
    """The angle in [0, pi/2] at which ``measure(angle)``, an AUC that falls with it, is ``target``; bisection.

    0 where even the pure concept row does not reach the target.
    """
    low, high = 0.0, np.pi / 2
    if measure(low) <= target:
        return low
    if measure(high) >= target:
        return high
    for _ in range(N_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if measure(middle) > target else (low, middle)
    return (low + high) / 2
