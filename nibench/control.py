"""Controls: labels that mean nothing, to see what a probe can memorise, and what a whole chain makes of nothing."""

from typing import Literal

import numpy as np

from nibench.errors import unknown
from nibench.task import UNLABELLED, Control

CLOSE = 0.02  # total variation at which a draw is accepted
MAX_DRAWS = 200

ChainControl = Literal["random_model", "type", "sequence", "shuffle"]
CHAIN_CONTROLS: dict[ChainControl, str] = {
    "random_model": "the same model with re-initialised weights",
    "type": "a random label for each word type (of a prompt, its last word)",
    "sequence": "a random label for each kind of sentence: its first word and its number of words",
    "shuffle": "labels permuted by sentence",
}


def chain_control(name: str) -> ChainControl:
    """The control with this name (InputError with the nearest name otherwise)."""
    if name in CHAIN_CONTROLS:
        return name
    raise unknown("control", name, CHAIN_CONTROLS, f"There are {', '.join(CHAIN_CONTROLS)}.")


def label_distance(labels: np.ndarray, control: np.ndarray, n_classes: int) -> float:
    """Total variation between the shares of classes in two label sets, in [0, 1]; 0 is equal shares."""
    counts = [np.bincount(one[one != UNLABELLED], minlength=n_classes) for one in (labels, control)]
    shares = [count / max(1, count.sum()) for count in counts]
    return float(0.5 * np.abs(shares[0] - shares[1]).sum())


def random_label_per_word_type() -> Control:
    """Every word type draws one label at random; all its tokens, in all splits, get it.

    Labels are drawn from the task's own distribution. A few frequent types carry most tokens, so the shares
    of classes can be far off over tokens: the labels are redrawn until they are within .02 (total
    variation) of the task's, or the best of 200 draws is taken. Types are visited in sorted order: the
    labels depend on the generator only. Pass all splits at once, so that a type has one label.

    A probe that predicts these labels has memorised types. Types unseen by the probe cannot be predicted,
    so the ceiling is below 1.

    References
    ----------
    Hewitt & Liang, Designing and Interpreting Probes with Control Tasks, EMNLP 2019.
    """
    return _label_per_word_type


def _label_per_word_type(
    labels: np.ndarray, word_types: np.ndarray, n_classes: int, rng: np.random.Generator
) -> np.ndarray:
    labelled = labels != UNLABELLED
    shares = np.bincount(labels[labelled], minlength=n_classes) / max(1, labelled.sum())
    types, type_of = np.unique(word_types[labelled], return_inverse=True)  # sorted
    tokens = np.bincount(type_of, minlength=len(types))
    best, nearest = np.zeros(len(types), dtype=int), np.inf
    for _ in range(MAX_DRAWS):
        drawn = rng.choice(n_classes, size=len(types), p=shares)
        realised = np.bincount(drawn, weights=tokens, minlength=n_classes) / max(1, tokens.sum())
        distance = 0.5 * np.abs(realised - shares).sum()
        if distance < nearest:
            best, nearest = drawn, distance
        if nearest <= CLOSE:
            break
    control = np.full(len(labels), UNLABELLED, dtype=labels.dtype)
    control[labelled] = best[type_of]
    return control
