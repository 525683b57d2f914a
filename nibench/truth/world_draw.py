"""Draw a world: its words, what each neuron does, and the activations.

Every part has a random stream of its own, so that a change of one (label noise, a new role) leaves the
others as they were.
"""

from dataclasses import dataclass
from math import comb
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import ndtri

from nibench.task import SPLITS

if TYPE_CHECKING:
    from nibench.truth.worlds import WorldSpec

LOUD = 20.0  # times a neuron's usual scale
HEAVY_FREEDOM = 3  # degrees of freedom of heavy noise
SHAPED = ("signal", "distributed", "correlate", "loud", "background")  # roles that may have any shape


@dataclass(frozen=True, eq=False)
class Words:
    """The words of a world before any neuron looks at them; every array is (N,)."""

    labels: np.ndarray  # the concept
    given: np.ndarray  # what the annotator wrote
    annotated: np.ndarray  # bool: whether the word is labelled at all
    confound: np.ndarray  # a class id, agreeing with the label in ``rank`` only
    types: np.ndarray
    sentences: np.ndarray
    splits: np.ndarray


@dataclass(frozen=True, eq=False)
class Mechanism:
    """What each of D neurons does. Effects are in standard deviations of the noise."""

    roles: np.ndarray  # (D,) str
    shapes: np.ndarray  # (D,) str
    class_effects: np.ndarray  # (C, D)
    confound_effects: np.ndarray  # (C, D)
    residue_effects: np.ndarray  # (C, D), conjunctive neurons: by their own residue
    type_effects: np.ndarray  # (T, D)
    concept_effects: np.ndarray  # (K, D): distance between words with and without another concept
    humps: np.ndarray  # (D,): distance between the humps of bimodal neurons
    groups: np.ndarray  # (D,) int, of copies or of conjunctive neurons; -1: none
    originals: np.ndarray  # (D,) int: the neuron whose noise this one repeats; itself, but for copies
    thresholds: np.ndarray  # (D,): sparse neurons are silent below; -inf for others
    location: np.ndarray  # (D,)
    scale: np.ndarray  # (D,), 0 for dead neurons


def type_shares(spec: "WorldSpec", *, in_rank: bool = False) -> np.ndarray:
    """(C, T): distribution of the word types of each class, in ``rank`` or elsewhere."""
    preference = spec.type_preference[0 if in_rank else 1]
    weights = 1 / np.arange(1, spec.n_types + 1)
    own = preferred_class(spec) == np.arange(len(spec.classes))[:, None]
    favoured = weights * own
    return (1 - preference) * weights / weights.sum() + preference * favoured / favoured.sum(
        axis=1, keepdims=True
    )


def preferred_class(spec: "WorldSpec") -> np.ndarray:
    """(T,): the class that each word type prefers, in turn down the frequencies."""
    return np.arange(spec.n_types) % len(spec.classes)


def draw_words(spec: "WorldSpec", seed: int) -> Words:
    """Sentences, classes, word types, splits, the confound and the given labels."""
    rng = np.random.default_rng([seed, 0])
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
    confound = np.where(agrees, labels, chance)
    weights = 1 / np.arange(1, spec.n_types + 1)
    types = rng.choice(spec.n_types, size=n_items, p=weights / weights.sum())

    typing = np.random.default_rng([seed, 3])
    prefers = typing.random(n_items) < np.where(splits == "rank", *spec.type_preference)
    for label in range(n_classes if prefers.any() else 0):
        here = prefers & (labels == label)
        favoured = weights * (preferred_class(spec) == label)
        types[here] = typing.choice(spec.n_types, size=here.sum(), p=favoured / favoured.sum())

    annotator = np.random.default_rng([seed, 4])
    noisy, cued, labelled, step = annotator.random((4, n_items))
    other = (labels + 1 + np.floor(step * (n_classes - 1)).astype(int)) % n_classes
    given = np.where(cued < spec.label_cue, confound, np.where(noisy < spec.label_noise, other, labels))
    return Words(
        labels=labels,
        given=np.where(splits == "eval", labels, given),
        annotated=(splits != "rank") | (labelled < spec.label_budget),
        confound=confound,
        types=types,
        sentences=sentences,
        splits=splits,
    )


def draw_mechanism(spec: "WorldSpec", seed: int) -> Mechanism:
    """Roles in random order, and the effects that go with them."""
    rng, extra = np.random.default_rng([seed, 1]), np.random.default_rng([seed, 5])
    width, n_classes = spec.width, len(spec.classes)
    roles = rng.permutation(np.repeat(*map(np.array, zip(*spec.role_counts, strict=True))))
    low, high = spec.signal_range
    weights = rng.normal(size=spec.n_distributed)
    if spec.distributed_weights:
        weights = np.array(spec.distributed_weights)
    rms = np.sqrt(np.square(weights).mean()) if spec.n_distributed else 1.0
    distances = {
        "signal": np.geomspace(low, high, spec.n_signal),
        "distributed": spec.distributed_distance * np.abs(weights) / rms,
        "correlate": np.full(spec.n_correlate, spec.correlate_distance),
        "shared": np.geomspace(low, high, spec.n_shared),
        "copy": np.full(spec.n_copy_groups * spec.copy_size, spec.copy_distance),
        "conjunctive": np.full(spec.n_conjunctive, spec.conjunctive_distance),
    }
    patterns = _patterns(rng, n_classes, width)
    if spec.classes_per_neuron:
        patterns = _selective_patterns(extra, n_classes, width, spec.classes_per_neuron)
    effects = {role: np.zeros((n_classes, width)) for role in distances}
    for role, values in distances.items():
        here = np.flatnonzero(roles == role)
        shuffled = (rng if role in ("signal", "distributed", "correlate") else extra).permutation(values)
        effects[role][:, here] = patterns[:, here] * shuffled
    type_scale = rng.uniform(0, spec.type_effect, size=width)
    scale = rng.lognormal(sigma=0.5, size=width)
    scale = scale * np.where(roles == "loud", LOUD, 1.0) * np.where(roles == "dead", 0.0, 1.0)
    type_effects = rng.normal(size=(spec.n_types, width)) * type_scale
    location = rng.normal(size=width)

    shapes = _shapes(spec, roles, extra)
    mixed = np.flatnonzero(roles == "sign_mixed")
    class_effects = effects["signal"] + effects["distributed"] + effects["shared"] + effects["copy"]
    class_effects[extra.integers(n_classes, size=len(mixed)), mixed] = spec.sign_mixed_distance
    groups, originals = _groups(spec, roles)
    class_effects, type_effects = class_effects[:, originals], type_effects[:, originals]
    spread = np.sqrt(1 + class_effects.var(axis=0) + type_effects.var(axis=0))
    silent = shapes == "sparse"
    return Mechanism(
        roles=roles,
        shapes=shapes,
        class_effects=class_effects,
        confound_effects=effects["correlate"],
        residue_effects=effects["conjunctive"],
        type_effects=type_effects,
        concept_effects=_concept_effects(spec, roles, extra) if spec.n_shared else np.zeros((0, spec.width)),
        humps=np.where(shapes == "bimodal", spec.bimodal_distance, 0.0),
        groups=groups,
        originals=originals,
        thresholds=np.where(silent, ndtri(1 - spec.sparse_rate) * spread, -np.inf),
        location=np.where(silent, 0.0, location),
        scale=scale,
    )


def _patterns(rng: np.random.Generator, n_classes: int, width: int) -> np.ndarray:
    """(C, D): class means of each neuron, in random order; root mean square distance 1."""
    return _unit(rng.normal(size=(n_classes, width)))


def _selective_patterns(rng: np.random.Generator, n_classes: int, width: int, n_own: int) -> np.ndarray:
    """(C, D): the same for neurons that are higher (or lower) in ``n_own`` of the classes."""
    order = rng.permuted(np.tile(np.arange(n_classes)[:, None], width), axis=0)
    return _unit(np.where(order < n_own, 1.0, 0.0) * rng.choice([-1.0, 1.0], size=width))


def _unit(patterns: np.ndarray) -> np.ndarray:
    n_classes = len(patterns)
    patterns = patterns - patterns.mean(axis=0)
    squares = n_classes * np.square(patterns).sum(axis=0)  # = sum over pairs of the squared distance
    return patterns / np.sqrt(squares / comb(n_classes, 2))


def _shapes(spec: "WorldSpec", roles: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    from nibench.truth.worlds import SHAPES

    drawn = rng.choice(SHAPES, size=len(roles), p=spec.shape_shares)
    return np.where(np.isin(roles, SHAPED), drawn, "gaussian")


def _groups(spec: "WorldSpec", roles: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(D,), (D,): the group of each copy and conjunctive neuron, and the first neuron of a copy's group."""
    groups, originals = np.full(len(roles), -1), np.arange(len(roles))
    for role, size in (("copy", spec.copy_size), ("conjunctive", spec.conjunctive_size)):
        members = np.flatnonzero(roles == role).reshape(-1, size)
        groups[members] = groups.max() + 1 + np.arange(len(members))[:, None]
        if role == "copy":
            originals[members] = members[:, :1]
    return groups, originals


def _concept_effects(spec: "WorldSpec", roles: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(K, D): distances by which other concepts move shared neurons, and background ones alike."""
    places = np.flatnonzero(np.isin(roles, ("shared", "background")))
    order = rng.permuted(np.tile(np.arange(spec.n_concepts)[:, None], len(places)), axis=0)
    signs = rng.choice([-1.0, 1.0], size=order.shape)
    distances = np.exp(rng.uniform(*np.log(spec.signal_range), size=order.shape))
    effects = np.zeros((spec.n_concepts, len(roles)))
    effects[:, places] = np.where(order < spec.superposition, signs * distances, 0.0)
    return effects


def activations(spec: "WorldSpec", words: Words, neurons: Mechanism, seed: int) -> np.ndarray:
    """float64 (N, D): location + scale * shape(signal + noise)."""
    rng = np.random.default_rng([seed, 6])
    own = neurons.class_effects[words.labels] + neurons.type_effects[words.types]
    mixed = neurons.roles == "sign_mixed"
    own[:, mixed] *= rng.choice([-1.0, 1.0], size=(len(own), mixed.sum()))
    own += neurons.confound_effects[words.confound]
    if len(neurons.concept_effects):
        present = rng.random((len(own), spec.n_concepts)) < 0.5
        own += (present - 0.5) @ neurons.concept_effects
    bimodal = np.flatnonzero(neurons.humps)
    own[:, bimodal] += (rng.integers(2, size=(len(own), len(bimodal))) - 0.5) * neurons.humps[bimodal]
    _add_residues(own, spec, words, neurons, rng)
    own += _noise(spec, words, neurons, seed, rng)
    sparse = np.isfinite(neurons.thresholds)
    own[:, sparse] = np.maximum(own[:, sparse] - neurons.thresholds[sparse], 0.0)
    return neurons.location + neurons.scale * own


def _add_residues(
    own: np.ndarray, spec: "WorldSpec", words: Words, neurons: Mechanism, rng: np.random.Generator
) -> None:
    """Each group of conjunctive neurons draws residues that add up to the class, modulo C."""
    members = np.flatnonzero(neurons.roles == "conjunctive")
    n_classes = len(spec.classes)
    for group in np.unique(neurons.groups[members]):
        here = members[neurons.groups[members] == group]
        residues = rng.integers(n_classes, size=(len(own), len(here)))
        residues[:, -1] = (words.labels - residues[:, :-1].sum(axis=1)) % n_classes
        own[:, here] += neurons.residue_effects[residues, here]


def _noise(
    spec: "WorldSpec", words: Words, neurons: Mechanism, seed: int, extra: np.random.Generator
) -> np.ndarray:
    """(N, D), variance 1: common factors, a part that a sentence shares, and the neuron's own."""
    rng = np.random.default_rng([seed, 2])
    n_items, width = len(words.labels), spec.width
    loadings = rng.normal(size=(spec.n_factors, width))
    loadings /= np.sqrt(np.square(loadings).sum(axis=0))
    common = rng.normal(size=(n_items, spec.n_factors)) @ loadings
    of_sentence = rng.normal(size=(words.sentences.max() + 1, width))[words.sentences]
    own = rng.normal(size=(n_items, width))
    rest = 1 - spec.factor_share - spec.sentence_share
    noise = (
        np.sqrt(spec.factor_share) * common + np.sqrt(spec.sentence_share) * of_sentence + np.sqrt(rest) * own
    )
    heavy = np.flatnonzero(neurons.shapes == "heavy")
    noise[:, heavy] /= np.sqrt(extra.chisquare(HEAVY_FREEDOM, size=(n_items, len(heavy))))
    copies = np.flatnonzero(neurons.originals != np.arange(width))
    repeated = np.sqrt(1 - spec.copy_noise) * noise[:, neurons.originals[copies]]
    noise[:, copies] = repeated + np.sqrt(spec.copy_noise) * extra.normal(size=(n_items, len(copies)))
    return noise
