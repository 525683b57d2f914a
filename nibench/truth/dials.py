"""Dials: one number that makes a world harder, everything else as it was."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from nibench.errors import InputError, unknown
from nibench.truth.worlds import WorldSpec


@dataclass(frozen=True)
class Dial:
    """What a dial turns.

    Attributes
    ----------
    about : what the number is.
    harder : whether more of it or less of it makes a world harder.
    scale : whether its values are compared by their ratio or by their difference.
    change : (spec, value) -> the fields of the spec that change.
    """

    about: str
    harder: Literal["more", "less"]
    scale: Literal["log", "linear"]
    change: Callable[[WorldSpec, float], Mapping[str, Any]]


def _weaker(spec: WorldSpec, value: float) -> dict[str, Any]:
    low, high = spec.signal_range
    distances = ("distributed_distance", "copy_distance", "sign_mixed_distance", "conjunctive_distance")
    return {"signal_range": (value * low, value * high)} | {
        name: value * getattr(spec, name) for name in distances
    }


def _rarest(spec: WorldSpec, value: float) -> dict[str, Any]:
    others = len(spec.classes) - 1
    return {"class_shares": (*((1 - value) / others,) * others, value)}


def _classes(spec: WorldSpec, value: float) -> dict[str, Any]:
    number = int(value)
    if not 2 <= number <= 8:
        raise InputError(f"classes={value:g}; expected a whole number from 2 to 8.")
    return {"classes": tuple(f"class {c}" for c in range(number)), "class_shares": (1 / number,) * number}


def _superposed(spec: WorldSpec, value: float) -> dict[str, Any]:
    if value < 1:
        return {}
    return {"n_signal": 0, "n_shared": spec.n_signal + spec.n_shared, "superposition": int(value)}


def _spread(spec: WorldSpec, value: float) -> dict[str, Any]:
    low, high = spec.signal_range
    energy = np.square(np.geomspace(low, high, spec.n_signal)).sum()
    number = int(value)
    return {
        "n_signal": 0,
        "n_distributed": number,
        "distributed_weights": (1.0,) * number,
        "distributed_distance": float(np.sqrt(energy / number)),
    }


DIALS: dict[str, Dial] = {
    "snr": Dial("how far signals move the neurons, in times of what the world has", "less", "log", _weaker),
    "tokens": Dial("labelled words over all splits", "less", "log", lambda _, value: {"n_items": int(value)}),
    "rarest": Dial("share of the rarest class", "less", "log", _rarest),
    "classes": Dial("number of classes, all of one size", "more", "linear", _classes),
    "label_noise": Dial("share of wrong labels", "more", "linear", lambda _, value: {"label_noise": value}),
    "label_budget": Dial(
        "share of the words that are labelled", "less", "log", lambda _, value: {"label_budget": value}
    ),
    "superposition": Dial(
        "other concepts that each signal neuron encodes as well", "more", "linear", _superposed
    ),
    "neurons": Dial("neurons in all", "more", "log", lambda _, value: {"n_neurons": int(value)}),
    "spread": Dial("neurons that share one signal of the same total strength", "more", "log", _spread),
}


def turned(spec: WorldSpec, dials: Mapping[str, float]) -> WorldSpec:
    """The spec with some dials turned.

    Raises
    ------
    InputError
        For an unknown dial (with the nearest name), or a value that makes no world.
    """
    for name, value in dials.items():
        if name not in DIALS:
            raise unknown("dial", name, DIALS, f"There are {', '.join(DIALS)}, and draw.")
        spec = replace(spec, **DIALS[name].change(spec, value))
    return spec
