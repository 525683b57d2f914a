"""What a graft writes: a column of measured effect on the behaviour, and padding that has next to none."""

from typing import Literal

import numpy as np

from nibench.architecture import projection
from nibench.interventions import Behaviour

Write = Literal["direct", "gradient", "downstream"]

QUIET = 0.25  # share of the stream's directions, those of least effect, that padding lies in
WEAK = 0.25  # a direction of less than this share of the best slope is not used
RIDGE = 0.1
ONE_SIDED = 30.0  # what a squared mean effect costs against the spread of the effects


def output_gradients(behaviour: Behaviour) -> dict[int, np.ndarray]:
    """Per layer (M, d): the gradient of each item's margin in the FFN's output where ablations act.

    From the gradients at the neurons: they are the output columns times it, and columns outnumber directions.
    """
    slopes = behaviour.contributions("gradient")
    found = {}
    for number, (block, tap) in enumerate(zip(behaviour.neurons.blocks, behaviour._taps, strict=True)):
        columns = projection(tap.module).detach().double().cpu().numpy()  # (F, d)
        own = slopes[:, behaviour.neurons.offsets[number] : behaviour.neurons.offsets[number + 1]]
        found[block.layer] = np.linalg.lstsq(columns, own.T)[0].T
    return found


def unit_vector(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


def write_direction(
    write: Write, deviations: np.ndarray, gradients: np.ndarray, last: np.ndarray
) -> tuple[np.ndarray, float]:
    """A unit direction to write, and its slope: the margin's drop per unit of length when the graft is ablated.

    Parameters
    ----------
    deviations : (M,)
        The graft's activation on each item minus what ablation sets it to.
    gradients, last : (M, d)
        Of the margin, in the output of the graft's block and of the last block.

    Returns
    -------
    direction : (d,), slope : float, not negative
        ``gradient`` is the steepest; ``direct`` acts through the final norm and the unembedding, ``downstream``
        is what is left of the steepest without it. One that hardly acts is replaced by the steepest.
    """
    steepest = deviations @ gradients / len(deviations)
    direct = unit_vector(deviations @ last)
    chosen = {
        "gradient": steepest,
        "direct": direct,
        "downstream": steepest - (steepest @ direct) * direct,
    }[write]
    direction = unit_vector(chosen)
    slope = float(steepest @ direction)
    best = float(np.linalg.norm(steepest))
    return (direction, slope) if slope > WEAK * best else (unit_vector(steepest), best)


def enabling_direction(deviations: np.ndarray, gradients: np.ndarray) -> tuple[np.ndarray, float]:
    """A unit direction in which a graft that tells the classes nothing is needed all the same, and its slope.

    The one of the largest mean effect for its spread over items (ridge).
    """
    effects = deviations[:, None] * gradients
    spread = np.cov(effects.T)
    ridge = RIDGE * np.trace(spread) / len(spread) * np.eye(len(spread))
    direction = unit_vector(np.linalg.solve(spread + ridge, effects.mean(axis=0)))
    return direction, float(effects.mean(axis=0) @ direction)


def mixing_direction(deviations: np.ndarray, gradients: np.ndarray) -> tuple[np.ndarray, float]:
    """A unit direction in which a graft's effects are large, of both signs, and cancel; and their mean size.

    That of the largest spread over items once the mean effect counts against it.
    """
    effects = deviations[:, None] * gradients
    mean = effects.mean(axis=0)
    direction = np.linalg.eigh(np.cov(effects.T) - ONE_SIDED * np.outer(mean, mean))[1][:, -1]
    return direction, float(np.abs(effects @ direction).mean())


def quiet_directions(gradients: np.ndarray) -> np.ndarray:
    """(k, d): orthonormal directions of least effect on any item: the low right singular vectors of (M, d)."""
    n_quiet = max(2, round(QUIET * gradients.shape[1]))
    return np.linalg.svd(gradients, full_matrices=True)[2][-n_quiet:]


def quiet_direction(direction: np.ndarray, quiet: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A random unit direction among the quiet ones (k, d), at a right angle to ``direction``."""
    drawn = rng.normal(size=len(quiet)) @ quiet
    return unit_vector(drawn - (drawn @ direction) * direction)


def column(direction: np.ndarray, amount: float, padding: np.ndarray, length: float) -> np.ndarray:
    """``amount`` along a direction, made ``length`` long by padding; as it is where it is longer already."""
    missing = max(0.0, length**2 - amount**2)
    return amount * direction + np.sqrt(missing) * padding
