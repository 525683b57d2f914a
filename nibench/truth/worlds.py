"""Worlds: sampled activations in which it is known which neurons tell the concept, and how well.

A world is drawn from one frozen ``WorldSpec``: words in sentences, word types with effects of their own (so
that a control task has something to memorise), classes of unequal size, and D neurons, each with one role.
Nothing in a world can be intervened on: it has no model.

Every neuron's activation is ``location + scale * (signal + type effect + noise)``, the noise partly shared
between neurons and partly shared within a sentence, all of it Gaussian with variance 1 in total. Given the
drawn effects, a neuron's distribution in each class is a mixture of Gaussians, one per word type, so its
true AUC is a sum of normal probabilities: the truth is exact, not estimated.

============== ==================================================================================
role           what it does
============== ==================================================================================
signal         shifts with the class; the distances are graded, from hard to easy
distributed    the same with a small shift each: weak alone, strong together
correlate      shifts with something that goes with the concept in ``rank`` and not elsewhere
loud           a large scale, no signal: first by raw differences of means
dead           constant
background     type effects and noise only
============== ==================================================================================
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from math import comb

import numpy as np
from scipy.special import ndtr

from nibench.errors import InputError
from nibench.task import SPLITS, Truth, World

LOUD = 20.0  # times a neuron's usual scale


@dataclass(frozen=True)
class WorldSpec:
    """Everything that decides how hard a world is.

    Parameters
    ----------
    class_shares : tuple of float
        Share of each class, summing to 1.
    n_items : int
        Labelled words over all splits (a few more: sentences are whole).
    sentence_length : (int, int)
        Shortest and longest sentence in words.
    sentence_topic : float
        Probability that a word has its sentence's class instead of one of its own: it makes words of a
        sentence alike and leaves the class shares alone.
    n_types, type_effect : int, float
        Word types (frequencies fall as 1 / rank) and the largest deviation of their effects on a neuron.
    n_signal, signal_range : int, (float, float)
        Signal neurons, and the smallest and the largest distance between two classes in standard
        deviations of the noise; geometric steps between them.
    n_distributed, distributed_distance : int, float
        Neurons of the distributed signal and the root mean square of their distances.
    n_correlate, correlate_distance, agreement : int, float, float
        Neurons of the confound, their distance, and how often the confound agrees with the class in
        ``rank``; elsewhere it is independent of it.
    n_loud, n_dead, n_background : int
        Neurons without information.
    n_factors, factor_share, sentence_share : int, float, float
        Common causes of the noise, the share of its variance they make up, and the share that is constant
        within a sentence.
    split_shares : (float, float, float)
        Shares of the sentences in ``rank``, ``probe`` and ``eval``.
    """

    class_shares: tuple[float, ...] = (0.65, 0.35)
    classes: tuple[str, ...] = ("off", "on")
    n_items: int = 3000
    sentence_length: tuple[int, int] = (6, 18)
    sentence_topic: float = 0.2
    n_types: int = 150
    type_effect: float = 0.7
    n_signal: int = 40
    signal_range: tuple[float, float] = (0.1, 1.2)
    n_distributed: int = 40
    distributed_distance: float = 0.15
    n_correlate: int = 20
    correlate_distance: float = 1.0
    agreement: float = 0.85
    n_loud: int = 20
    n_dead: int = 10
    n_background: int = 470
    n_factors: int = 8
    factor_share: float = 0.4
    sentence_share: float = 0.1
    split_shares: tuple[float, float, float] = (1 / 3, 1 / 3, 1 / 3)

    def __post_init__(self) -> None:
        if (
            len(self.class_shares) < 2
            or abs(sum(self.class_shares) - 1) > 1e-9
            or min(self.class_shares) <= 0
        ):
            raise InputError(
                f"class_shares is {self.class_shares}; expected two or more positive numbers, sum 1."
            )
        if len(self.classes) != len(self.class_shares):
            raise InputError(
                f"{len(self.classes)} classes but {len(self.class_shares)} class_shares; give one each."
            )
        if not 0 < self.signal_range[0] <= self.signal_range[1]:
            raise InputError(f"signal_range is {self.signal_range}; expected 0 < smallest <= largest.")
        if self.n_neurons < 1 or min(count for _, count in self.role_counts) < 0:
            raise InputError("a world needs at least one neuron, and no negative counts.")
        if abs(sum(self.split_shares) - 1) > 1e-9 or min(self.split_shares) <= 0:
            raise InputError(f"split_shares is {self.split_shares}; expected three positive numbers, sum 1.")

        shares = self.factor_share, self.sentence_share, 1 - self.factor_share - self.sentence_share
        if min(shares) < 0 or (self.n_factors < 1 and self.factor_share > 0):
            raise InputError(
                f"factor_share {self.factor_share} of {self.n_factors} factors and sentence_share "
                f"{self.sentence_share}; expected shares of the noise from 0 to 1, together at most 1."
            )

    @property
    def role_counts(self) -> tuple[tuple[str, int], ...]:
        """(role, number of neurons), in a fixed order."""
        return (
            ("signal", self.n_signal),
            ("distributed", self.n_distributed),
            ("correlate", self.n_correlate),
            ("loud", self.n_loud),
            ("dead", self.n_dead),
            ("background", self.n_background),
        )

    @property
    def n_neurons(self) -> int:
        """D, over all roles."""
        return sum(count for _, count in self.role_counts)

    def digest(self, seed: int) -> str:
        """Names the content: the same spec and seed give the same world."""
        text = json.dumps({"world": 1, "seed": seed, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, eq=False)
class Words:
    """The words of a world before any neuron looks at them; every array is (N,)."""

    labels: np.ndarray
    confound: np.ndarray  # a class id, agreeing with the label in ``rank`` only
    types: np.ndarray
    sentences: np.ndarray
    splits: np.ndarray


@dataclass(frozen=True, eq=False)
class Mechanism:
    """What each of D neurons does."""

    roles: np.ndarray  # (D,) str
    class_effects: np.ndarray  # (C, D), in standard deviations of the noise
    confound_effects: np.ndarray  # (C, D)
    type_effects: np.ndarray  # (T, D)
    location: np.ndarray  # (D,)
    scale: np.ndarray  # (D,), 0 for dead neurons


def sample(spec: WorldSpec, seed: int) -> World:
    """Draw a world: activations, labels, splits by sentence, and the truth.

    The truth of ``associated`` is ``2 |AUC - .5|`` of each neuron over the distribution the ``eval`` split
    is drawn from (several classes: mean of one against the rest), of ``responds`` the mean change of the
    neuron when only a word's class is changed, in units of its standard deviation. Its set for both are
    the signal and distributed neurons. Neurons of the confound are *not* in it: what they know is an
    accident of the ``rank`` split.

    Parameters
    ----------
    spec : WorldSpec
    seed : int
        The same spec and seed give the same arrays.
    """
    draw_words, draw_mechanism, draw_noise = (np.random.default_rng([seed, stream]) for stream in range(3))
    words = _words(spec, draw_words)
    neurons = _mechanism(spec, draw_mechanism)
    signal = (
        neurons.class_effects[words.labels]
        + neurons.confound_effects[words.confound]
        + neurons.type_effects[words.types]
    )
    activations = neurons.location + neurons.scale * (signal + _noise(spec, words, draw_noise))
    for split in SPLITS:
        present = np.unique(words.labels[words.splits == split])
        if len(present) < len(spec.classes):
            raise InputError(
                f"The {split} split of this world has {len(present)} of {len(spec.classes)} classes; "
                "raise n_items or the smallest of class_shares."
            )
    return World(
        activations=activations.astype(np.float32),
        labels=words.labels,
        word_types=words.types,
        sentences=words.sentences,
        splits=words.splits,
        classes=spec.classes,
        truth=_truth(spec, neurons),
        digest=spec.digest(seed),
    )


def _words(spec: WorldSpec, rng: np.random.Generator) -> Words:
    shortest, longest = spec.sentence_length
    lengths: list[int] = []
    while sum(lengths) < spec.n_items:
        lengths.append(int(rng.integers(shortest, longest + 1)))
    sentences = np.repeat(np.arange(len(lengths)), lengths)
    n_items, n_classes = len(sentences), len(spec.classes)
    topics = rng.choice(n_classes, size=len(lengths), p=spec.class_shares)
    own = rng.choice(n_classes, size=n_items, p=spec.class_shares)
    labels = np.where(rng.random(n_items) < spec.sentence_topic, topics[sentences], own)
    borders = np.round(np.cumsum((0.0, *spec.split_shares)) * len(lengths)).astype(int)
    split_of_place = np.repeat(np.array(SPLITS, dtype="<U5"), np.diff(borders))
    splits = split_of_place[rng.permutation(len(lengths))][sentences]
    chance = rng.choice(n_classes, size=n_items, p=spec.class_shares)
    agrees = (splits == "rank") & (rng.random(n_items) < spec.agreement)
    return Words(
        labels=labels,
        confound=np.where(agrees, labels, chance),
        types=rng.choice(spec.n_types, size=n_items, p=_type_shares(spec)),
        sentences=sentences,
        splits=splits,
    )


def _type_shares(spec: WorldSpec) -> np.ndarray:
    weights = 1 / np.arange(1, spec.n_types + 1)
    return weights / weights.sum()


def _mechanism(spec: WorldSpec, rng: np.random.Generator) -> Mechanism:
    n_neurons, n_classes = spec.n_neurons, len(spec.classes)
    roles = rng.permutation(np.repeat(*map(np.array, zip(*spec.role_counts, strict=True))))
    low, high = spec.signal_range
    weights = rng.normal(size=spec.n_distributed)
    rms = np.sqrt(np.square(weights).mean()) if spec.n_distributed else 1.0
    distances = {
        "signal": np.geomspace(low, high, spec.n_signal),
        "distributed": spec.distributed_distance * np.abs(weights) / rms,
        "correlate": np.full(spec.n_correlate, spec.correlate_distance),
    }
    patterns = _patterns(rng, n_classes, n_neurons)
    effects = {role: np.zeros((n_classes, n_neurons)) for role in distances}
    for role, values in distances.items():
        here = np.flatnonzero(roles == role)
        effects[role][:, here] = patterns[:, here] * rng.permutation(values)
    type_scale = rng.uniform(0, spec.type_effect, size=n_neurons)
    scale = rng.lognormal(sigma=0.5, size=n_neurons)
    scale = scale * np.where(roles == "loud", LOUD, 1.0) * np.where(roles == "dead", 0.0, 1.0)
    return Mechanism(
        roles=roles,
        class_effects=effects["signal"] + effects["distributed"],
        confound_effects=effects["correlate"],
        type_effects=rng.normal(size=(spec.n_types, n_neurons)) * type_scale,
        location=rng.normal(size=n_neurons),
        scale=scale,
    )


def _patterns(rng: np.random.Generator, n_classes: int, n_neurons: int) -> np.ndarray:
    """(C, D): class means of each neuron, in random order; root mean square distance 1."""
    patterns = rng.normal(size=(n_classes, n_neurons))
    patterns -= patterns.mean(axis=0)
    squares = n_classes * np.square(patterns).sum(axis=0)  # = sum over pairs of the squared distance
    return patterns / np.sqrt(squares / comb(n_classes, 2))


def _noise(spec: WorldSpec, words: Words, rng: np.random.Generator) -> np.ndarray:
    """(N, D), variance 1: common factors, a part that a sentence shares, and the neuron's own."""
    n_items, n_neurons = len(words.labels), spec.n_neurons
    loadings = rng.normal(size=(spec.n_factors, n_neurons))
    loadings /= np.sqrt(np.square(loadings).sum(axis=0))
    common = rng.normal(size=(n_items, spec.n_factors)) @ loadings
    of_sentence = rng.normal(size=(words.sentences.max() + 1, n_neurons))[words.sentences]
    own = rng.normal(size=(n_items, n_neurons))
    rest = 1 - spec.factor_share - spec.sentence_share
    return (
        np.sqrt(spec.factor_share) * common + np.sqrt(spec.sentence_share) * of_sentence + np.sqrt(rest) * own
    )


def _truth(spec: WorldSpec, neurons: Mechanism) -> Truth:
    informative = np.isin(neurons.roles, ("signal", "distributed"))
    associated = np.zeros(spec.n_neurons)
    shares, types = np.array(spec.class_shares), _type_shares(spec)
    for neuron in np.flatnonzero(informative):
        aucs = one_against_rest(
            neurons.class_effects[:, neuron], neurons.type_effects[:, neuron], shares, types
        )
        associated[neuron] = np.mean(2 * np.abs(aucs - 0.5))
    spread = np.sqrt(
        1
        + _mixture_variance(neurons.class_effects, shares)
        + _mixture_variance(neurons.confound_effects, shares)
        + _mixture_variance(neurons.type_effects, types)
    )
    changes = np.abs(neurons.class_effects[:, None] - neurons.class_effects[None])  # (C, C, D)
    pairs = len(spec.classes) * (len(spec.classes) - 1)
    responds = changes.sum(axis=(0, 1)) / pairs / spread
    return Truth(
        gains={"associated": associated, "responds": np.where(informative, responds, 0.0)},
        sets={"associated": informative, "responds": informative},
        roles=neurons.roles,
    )


def one_against_rest(
    class_effects: np.ndarray, type_effects: np.ndarray, class_shares: np.ndarray, type_shares: np.ndarray
) -> np.ndarray:
    """float64 (C,): exact AUC of one neuron for each class against the others.

    The neuron is ``class effect + type effect + N(0, 1)``, class and type independent; all arguments are
    the values and probabilities of classes (C,) and types (T,).
    """
    gaps = type_effects[:, None] - type_effects[None]  # (T, T)
    weights = np.outer(type_shares, type_shares)
    distances = class_effects[:, None] - class_effects[None]  # (C, C)
    wins = np.array([[(weights * ndtr((d + gaps) / np.sqrt(2))).sum() for d in row] for row in distances])
    others = np.tile(class_shares, (len(class_shares), 1))
    np.fill_diagonal(others, 0.0)
    return (wins * others).sum(axis=1) / others.sum(axis=1)


def _mixture_variance(effects: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """(D,): variance of (K, D) values taken with probabilities (K,)."""
    return shares @ np.square(effects - shares @ effects)
