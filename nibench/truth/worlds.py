"""Worlds: sampled activations in which it is known which neurons tell the concept, and how well.

A world is drawn from one frozen ``WorldSpec``: words in sentences, word types with effects of their own (so
that a control task has something to memorise), classes of unequal size, and D neurons, each with one role.
Nothing in a world can be intervened on, it has no model; so the roles that need a behaviour (used, relay,
backup, saturated, decoy, cancelled, enabler) do not occur.

Every neuron's activation is ``location + scale * f(signal + type effect + noise)``, the noise partly shared
between neurons and partly shared within a sentence, with variance 1 in total. ``world_truth`` computes what
each neuron tells, exactly.

============== ==================================================================================
role           what it does
============== ==================================================================================
signal         shifts with the class; the distances are graded, from hard to easy
shared         the same, and shifts with other concepts just as much (superposition); so does background
distributed    the same with a small shift each: weak alone, strong together
copy           the same; a group of copies has one signal and one noise between them
sign_mixed     leaves its centre in one class, upwards in some words and downwards in others
conjunctive    tells nothing alone: the residues of a whole group add up to the class (of two: XOR)
correlate      shifts with something that goes with the concept in ``rank`` and not elsewhere
loud           a large scale, no signal: first by raw differences of means
dead           constant
background     type effects and noise only
============== ==================================================================================

Beside its role a neuron has a shape f, drawn independently of it (signal, distributed, correlate, loud and
background neurons): ``gaussian``; ``heavy``, noise of Student's t with 3 degrees of freedom; ``sparse``,
silent but for its highest values; ``bimodal``, two humps that have nothing to do with the class.
"""

import hashlib
import json
from dataclasses import asdict, dataclass

import numpy as np

from nibench.errors import InputError
from nibench.task import SPLITS, World
from nibench.truth.world_draw import activations, draw_mechanism, draw_words
from nibench.truth.world_truth import one_against_rest, truth_of

__all__ = ["SHAPES", "WorldSpec", "one_against_rest", "sample"]

SHAPES = ("gaussian", "heavy", "sparse", "bimodal")


@dataclass(frozen=True)
class WorldSpec:
    """Everything that decides how hard a world is.

    Parameters
    ----------
    class_shares : tuple of float
        Share of each class, summing to 1.
    classes : tuple of str
        Their names, as many.
    n_items : int
        Labelled words over all splits (a few more: sentences are whole).
    sentence_length : (int, int)
        Shortest and longest sentence in words.
    sentence_topic : float
        Probability that a word has its sentence's class instead of one of its own: it makes words of a
        sentence alike and leaves the class shares alone.
    n_types, type_effect : int, float
        Word types (frequencies fall as 1 / rank) and the largest deviation of their effects on a neuron.
    type_preference : (float, float)
        Probability that a word's type is one of those that prefer its class (every type prefers one): in
        ``rank``, and elsewhere.
    n_signal, signal_range : int, (float, float)
        Signal neurons, and the smallest and the largest distance between two classes (root mean square over
        pairs of classes) in standard deviations of the noise; geometric steps between them.
    n_shared, superposition, n_concepts : int, int, int
        Shared neurons (distances as for signal neurons), how many other concepts each of them and each
        background neuron also encodes, at distances of the same range, and how many others there are:
        independent of the class, present in half of the words.
    classes_per_neuron : int
        How many classes a neuron tells from the rest; more than one: polysemantic. 0: it has a mean of its
        own in every class.
    n_distributed, distributed_distance, distributed_weights : int, float, tuple of float
        Neurons of the distributed signal, the root mean square of their distances, and their relative
        distances (empty: drawn from a half-normal distribution).
    n_copy_groups, copy_size, copy_distance, copy_noise : int, int, float, float
        Groups of copies, neurons in each, the distance of each, and the share of a copy's noise that is its
        own.
    n_sign_mixed, sign_mixed_distance : int, float
        Sign-mixed neurons and how far they go from their centre.
    n_conjunctive, conjunctive_size, conjunctive_distance : int, int, float
        Conjunctive neurons, how many make up a group, and their distance between residues.
    n_correlate, correlate_distance, agreement : int, float, float
        Neurons of the confound, their distance, and how often the confound agrees with the class in
        ``rank``; elsewhere it is independent of it.
    n_loud, n_dead, n_background : int
        Neurons without information.
    n_neurons : int, optional
        D. Background fills what the other roles leave, whatever ``n_background`` is.
    shape_shares : (float, float, float, float)
        Shares of the shapes gaussian, heavy, sparse and bimodal.
    sparse_rate, bimodal_distance : float, float
        Share of the words for which a sparse neuron is not silent; distance of a bimodal one's humps.
    n_factors, factor_share, sentence_share : int, float, float
        Common causes of the noise, the share of its variance they make up, and the share that is constant
        within a sentence.
    split_shares : (float, float, float)
        Shares of the sentences in ``rank``, ``probe`` and ``eval``.
    label_noise : float
        Share of the ``rank`` and ``probe`` words whose label is exchanged for another, drawn at random.
    label_cue : float
        Share of the ``rank`` and ``probe`` words that are labelled by the confound instead of the concept.
    label_budget : float
        Share of the ``rank`` words that are labelled; the others are left out.
    """

    class_shares: tuple[float, ...] = (0.65, 0.35)
    classes: tuple[str, ...] = ("off", "on")
    n_items: int = 3000
    sentence_length: tuple[int, int] = (6, 18)
    sentence_topic: float = 0.2
    n_types: int = 150
    type_effect: float = 0.7
    type_preference: tuple[float, float] = (0.0, 0.0)
    n_signal: int = 40
    signal_range: tuple[float, float] = (0.1, 1.2)
    n_shared: int = 0
    superposition: int = 3
    n_concepts: int = 12
    classes_per_neuron: int = 0
    n_distributed: int = 40
    distributed_distance: float = 0.15
    distributed_weights: tuple[float, ...] = ()
    n_copy_groups: int = 0
    copy_size: int = 4
    copy_distance: float = 0.8
    copy_noise: float = 0.1
    n_sign_mixed: int = 0
    sign_mixed_distance: float = 2.0
    n_conjunctive: int = 0
    conjunctive_size: int = 2
    conjunctive_distance: float = 2.0
    n_correlate: int = 20
    correlate_distance: float = 1.0
    agreement: float = 0.85
    n_loud: int = 20
    n_dead: int = 10
    n_background: int = 470
    n_neurons: int | None = None
    shape_shares: tuple[float, float, float, float] = (1.0, 0.0, 0.0, 0.0)
    sparse_rate: float = 0.15
    bimodal_distance: float = 4.0
    n_factors: int = 8
    factor_share: float = 0.4
    sentence_share: float = 0.1
    split_shares: tuple[float, float, float] = (1 / 3, 1 / 3, 1 / 3)
    label_noise: float = 0.0
    label_cue: float = 0.0
    label_budget: float = 1.0

    def __post_init__(self) -> None:
        self._check_shares()
        self._check_neurons()
        for name in ("sentence_topic", "agreement", "copy_noise", "label_noise", "label_cue"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected a share from 0 to 1.")
        if min(self.type_preference) < 0 or max(self.type_preference) > 1:
            raise InputError(f"type_preference is {self.type_preference}; expected two shares from 0 to 1.")
        if any(self.type_preference) and self.n_types < len(self.classes):
            raise InputError(
                f"{self.n_types} word types cannot prefer {len(self.classes)} classes; raise n_types."
            )
        for name in ("label_budget", "sparse_rate"):
            if not 0 < getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}; expected a share above 0, at most 1.")

    def _check_shares(self) -> None:
        for name, least in (("class_shares", 2), ("split_shares", 3)):
            shares = getattr(self, name)
            if len(shares) < least or abs(sum(shares) - 1) > 1e-9 or min(shares) <= 0:
                many = "two or more" if name == "class_shares" else "three"
                raise InputError(f"{name} is {shares}; expected {many} positive numbers, sum 1.")
        if len(self.classes) != len(self.class_shares):
            raise InputError(
                f"{len(self.classes)} classes but {len(self.class_shares)} class_shares; give one each."
            )
        if min(self.shape_shares) < 0 or abs(sum(self.shape_shares) - 1) > 1e-9:
            raise InputError(f"shape_shares is {self.shape_shares}; expected four shares, sum 1.")
        shares = self.factor_share, self.sentence_share, 1 - self.factor_share - self.sentence_share
        if min(shares) < 0 or (self.n_factors < 1 and self.factor_share > 0):
            raise InputError(
                f"factor_share {self.factor_share} of {self.n_factors} factors and sentence_share "
                f"{self.sentence_share}; expected shares of the noise from 0 to 1, together at most 1."
            )

    def _check_neurons(self) -> None:
        if not 0 < self.signal_range[0] <= self.signal_range[1]:
            raise InputError(f"signal_range is {self.signal_range}; expected 0 < smallest <= largest.")
        planted = [(role, count) for role, count in self.role_counts if role != "background"]
        total = sum(count for _, count in planted)
        if self.n_neurons is not None and total > self.n_neurons:
            listed = ", ".join(f"{count} {role}" for role, count in planted if count)
            raise InputError(
                f"{total} planted neurons ({listed}) do not fit into n_neurons={self.n_neurons}; "
                "raise it or plant fewer."
            )
        if self.width < 1 or min(count for _, count in self.role_counts) < 0:
            raise InputError("a world needs at least one neuron, and no negative counts.")
        if self.distributed_weights and len(self.distributed_weights) != self.n_distributed:
            raise InputError(
                f"{len(self.distributed_weights)} distributed_weights for {self.n_distributed} neurons; "
                "give one each, or none."
            )
        if self.n_copy_groups and self.copy_size < 2:
            raise InputError(f"copy_size is {self.copy_size}; expected 2 or more neurons in a group.")
        if self.conjunctive_size < 2 or self.n_conjunctive % self.conjunctive_size:
            raise InputError(
                f"{self.n_conjunctive} conjunctive neurons in groups of {self.conjunctive_size}; "
                "expected groups of 2 or more, and a multiple of that."
            )
        if not 0 <= self.superposition <= self.n_concepts:
            raise InputError(
                f"superposition is {self.superposition}; expected 0 to {self.n_concepts} (n_concepts)."
            )
        if not 0 <= self.classes_per_neuron < len(self.classes):
            raise InputError(
                f"classes_per_neuron is {self.classes_per_neuron}; expected fewer than the "
                f"{len(self.classes)} classes."
            )

    @property
    def role_counts(self) -> tuple[tuple[str, int], ...]:
        """(role, number of neurons), in a fixed order."""
        planted = (
            ("signal", self.n_signal),
            ("distributed", self.n_distributed),
            ("correlate", self.n_correlate),
            ("loud", self.n_loud),
            ("dead", self.n_dead),
            ("shared", self.n_shared),
            ("copy", self.n_copy_groups * self.copy_size),
            ("sign_mixed", self.n_sign_mixed),
            ("conjunctive", self.n_conjunctive),
        )
        if self.n_neurons is None:
            return *planted, ("background", self.n_background)
        return *planted, ("background", max(0, self.n_neurons - sum(count for _, count in planted)))

    @property
    def width(self) -> int:
        """D, over all roles."""
        return sum(count for _, count in self.role_counts)

    def digest(self, seed: int) -> str:
        """Names the content: the same spec and seed give the same world."""
        text = json.dumps({"world": 2, "seed": seed, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def sample(spec: WorldSpec, seed: int) -> World:
    """Draw a world: activations, labels, splits by sentence, and the truth.

    Specs that differ only in ``label_noise``, ``label_cue`` or ``label_budget`` give the same activations
    (fewer rows) under the same seed, and the wrong labels of the lower value are wrong under the higher.

    Parameters
    ----------
    spec : WorldSpec
    seed : int
        The same spec and seed give the same arrays.

    Returns
    -------
    World
        Its truth as ``world_truth.truth_of`` says.

    Raises
    ------
    InputError
        If a class has no word in some split.
    """
    words = draw_words(spec, seed)
    neurons = draw_mechanism(spec, seed)
    for split in SPLITS:
        present = np.unique(words.labels[words.splits == split])
        if len(present) < len(spec.classes):
            raise InputError(
                f"The {split} split of this world has {len(present)} of {len(spec.classes)} classes; "
                "raise n_items or the smallest of class_shares."
            )
    kept = words.annotated
    return World(
        activations=activations(spec, words, neurons, seed)[kept].astype(np.float32),
        labels=words.given[kept],
        word_types=words.types[kept],
        sentences=words.sentences[kept],
        splits=words.splits[kept],
        classes=spec.classes,
        truth=truth_of(spec, neurons),
        digest=spec.digest(seed),
    )
