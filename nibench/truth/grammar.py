"""The first synthetic English: sentences with latent choices, and their twins.

A `Sentence` is a set of latent choices (tense, number, gender, words); `words()` renders it. Its twin for a
concept flips that choice and renders again: every word that depends on the concept changes, and only those,
so the two are aligned and equally long. Where the next word's distribution differs between the twins is a
*site*; all sites of a concept belong to one of its behaviours.

Words are separated by single spaces, one token each. The module imports no torch.

Held out: a (lexeme, structure) combination is the subject noun, or the time adverb, with the shape of what
comes before the verb. A third of the combinations and every structure with both a place and something else
are `eval`; training twins are drawn from the others, which are halved into `rank` and `probe`. A structure
with an attractor is in the split of the same without, since the one begins like the other.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random
from typing import Literal

from nibench.errors import InputError
from nibench.truth import lexicon as lx

Split = Literal["rank", "probe", "eval"]

NAME = "small-english"
BOS, PAD, UNKNOWN = "<bos>", "<pad>", "<unk>"

STRUCTURES = ("plain", "adjective", "place", "attractor", "adjective+attractor")
HELD_STRUCTURES = ("place+adjective", "place+attractor", "place+adjective+attractor")
_SLOTS: tuple[Split, ...] = ("rank", "rank", "probe", "probe", "eval", "eval")


@dataclass(frozen=True)
class Concept:
    """A concept of the grammar: its classes, and the behaviours that depend on it."""

    classes: tuple[str, ...]
    behaviours: tuple[str, ...]


CONCEPTS: dict[str, Concept] = {
    "number": Concept(("Sing", "Plur"), ("verb", "attractor", "be")),
    "tense": Concept(("Pres", "Past"), ("verb", "be", "modal")),
    "gender": Concept(("Masc", "Fem"), ("pronoun", "reflexive", "possessive")),
}

#: Behaviours whose answers (is, are, was, were) are told apart by two concepts at once.
MEETING: frozenset[tuple[str, str]] = frozenset({("number", "be"), ("tense", "be")})


@dataclass(frozen=True)
class Pair:
    """A minimal pair: two prompts that differ in one concept, and the two answers.

    `answers` stand in the order of the concept's classes, so `base_answer` is `base_class`.
    """

    base: str
    source: str
    answers: tuple[str, ...]
    base_answer: int
    source_answer: int
    template: str
    lexemes: tuple[str, ...]
    concept: str
    behaviour: str
    base_class: int
    source_class: int


@dataclass(frozen=True)
class Sentence:
    """The latent choices behind one sentence; numbers index the tuples of `lexicon`."""

    tense: int
    time: int
    place: int | None
    subject: Literal["noun", "gendered"]
    noun: int
    number: int
    gender: int
    adjective: int | None
    attractor: tuple[int, int, int] | None  # preposition, noun, its number
    predicate: Literal["verb", "be", "modal", "pronoun", "reflexive", "possessive"]
    verb: int
    complement: int

    @property
    def structure(self) -> str:
        """The shape of what comes before the verb."""
        parts = [
            name
            for name, value in (
                ("place", self.place),
                ("adjective", self.adjective),
                ("attractor", self.attractor),
            )
            if value is not None
        ]
        return "+".join(parts) or "plain"

    def opening(self) -> tuple[str, ...]:
        """The words up to the verb, which is not among them."""
        words: list[str] = []
        if self.place is not None:
            words += ["in", "the", lx.PLACES[self.place]]
        words += [lx.TIMES[self.time][self.tense], ",", "the"]
        if self.adjective is not None:
            words.append(lx.ADJECTIVES[self.adjective])
        if self.subject == "gendered":
            words.append(lx.GENDERED[self.noun][self.gender])
        else:
            words.append(lx.NOUNS[self.noun][self.number])
        if self.attractor is not None:
            preposition, noun, number = self.attractor
            words += [lx.PREPOSITIONS[preposition], "the", lx.NOUNS[noun][number]]
        return tuple(words)

    def closing(self) -> tuple[str, ...]:
        """The verb and all that follows it."""
        number = self.number if self.subject == "noun" else 0
        inflected = lx.VERBS[self.verb % len(lx.VERBS)][2 if self.tense else 1 - number]
        match self.predicate:
            case "verb":
                return inflected, "."
            case "be":
                return lx.BE[self.tense][number], lx.PREDICATES[self.complement % len(lx.PREDICATES)], "."
            case "modal":
                return lx.MODALS[self.tense], lx.VERBS[self.verb % len(lx.VERBS)][0], "."
            case "pronoun":
                return inflected, "because", lx.PRONOUNS[self.gender], "must", "."
            case "reflexive":
                verb = lx.REFLEXIVE_VERBS[self.verb % len(lx.REFLEXIVE_VERBS)][self.tense]
                return verb, lx.REFLEXIVES[self.gender], "."
            case "possessive":
                verb = lx.POSSESSIVE_VERBS[self.verb % len(lx.POSSESSIVE_VERBS)][self.tense]
                return verb, lx.POSSESSIVES[self.gender], lx.OBJECTS[self.complement % len(lx.OBJECTS)], "."

    def words(self) -> tuple[str, ...]:
        """The whole sentence, one word a token."""
        return self.opening() + self.closing()

    def has(self, concept: str) -> bool:
        """Whether the sentence has a twin for the concept."""
        return concept == "tense" or (concept == "number") == (self.subject == "noun")

    def twin(self, concept: str) -> "Sentence":
        """The same sentence with the concept's class exchanged.

        Raises
        ------
        InputError
            If the sentence has no such concept (a gendered subject has no number here, a noun no gender).
        """
        if concept not in CONCEPTS or not self.has(concept):
            raise InputError(f"'{' '.join(self.words())}' has no twin for {concept!r}; see Sentence.has().")
        return replace(self, **{concept: 1 - getattr(self, concept)})

    def prompt(self, behaviour: str) -> tuple[str, ...]:
        """The words before the behaviour's answer."""
        after_verb = {"pronoun": 2, "reflexive": 1, "possessive": 1}.get(behaviour, 0)
        return self.opening() + self.closing()[:after_verb]

    def split(self, concept: str) -> Split:
        """Which split the sentence belongs to when it serves the concept."""
        if self.structure in HELD_STRUCTURES:
            return "eval"
        lexeme = self.time if concept == "tense" else self.noun
        return _SLOTS[(lexeme + 2 * STRUCTURES.index(self.structure)) % len(_SLOTS)]

    def trains(self) -> bool:
        """Whether training twins may be made of it: no concept's `eval` combination is in it."""
        return all(self.split(concept) != "eval" for concept in CONCEPTS if self.has(concept))


def draw(rng: Random, concept: str | None = None, behaviour: str | None = None) -> Sentence:
    """Draw the latent choices of one sentence, at will of one that shows a concept's behaviour."""
    gendered = concept == "gender" or (concept != "number" and rng.random() < 0.4)
    if behaviour is not None:
        predicate = "verb" if behaviour == "attractor" else behaviour
    elif gendered:
        predicate = rng.choice(
            ("pronoun", "reflexive", "possessive", "pronoun", "reflexive", "possessive", *_COMMON)
        )
    else:
        predicate = rng.choice(("verb", "verb", "be", "be", "modal"))
    attractor = None
    if not gendered and behaviour != "verb" and (behaviour == "attractor" or rng.random() < 0.4):
        attractor = (rng.randrange(len(lx.PREPOSITIONS)), rng.randrange(len(lx.NOUNS)), rng.randrange(2))
    present = concept == "number" and behaviour in ("verb", "attractor")  # past verbs show no number
    return Sentence(
        tense=0 if present else rng.randrange(2),
        time=rng.randrange(len(lx.TIMES)),
        place=rng.randrange(len(lx.PLACES)) if rng.random() < 0.35 else None,
        subject="gendered" if gendered else "noun",
        noun=rng.randrange(len(lx.GENDERED if gendered else lx.NOUNS)),
        number=0 if gendered else rng.randrange(2),
        gender=rng.randrange(2) if gendered else 0,
        adjective=rng.randrange(len(lx.ADJECTIVES)) if rng.random() < 0.4 else None,
        attractor=attractor,
        predicate=predicate,  # pyright: ignore[reportArgumentType]
        verb=rng.randrange(len(lx.VERBS)),
        complement=rng.randrange(30),
    )


_COMMON = ("verb", "be", "modal")


def natural_sentences(seed: int, *, without: frozenset[tuple[str, ...]] = frozenset()) -> Iterator[Sentence]:
    """Endless sentences of the grammar, none of which begins with one of the prompts in `without`."""
    rng = Random(f"{NAME}.natural.{seed}")
    while True:
        sentence = draw(rng)
        words = sentence.words()
        if not any(words[:end] in without for end in range(3, len(words))):
            yield sentence


def vocabulary() -> tuple[str, ...]:
    """Every token, special ones first; the position is the token's id."""
    words: set[str] = set(lx.FUNCTION_WORDS)
    for group in (lx.PLACES, lx.PREPOSITIONS, lx.ADJECTIVES, lx.MODALS, lx.PRONOUNS, lx.REFLEXIVES):
        words.update(group)
    for group in (lx.POSSESSIVES, lx.OBJECTS, lx.PREDICATES):
        words.update(group)
    for table in (lx.TIMES, lx.NOUNS, lx.GENDERED, lx.VERBS, lx.REFLEXIVE_VERBS, lx.POSSESSIVE_VERBS, lx.BE):
        for row in table:
            words.update(row)
    return (PAD, BOS, UNKNOWN, *sorted(words))


def answers(sentence: Sentence, concept: str, behaviour: str) -> tuple[str, str]:
    """The answers after `sentence.prompt(behaviour)`, one for each class of the concept."""
    position = len(sentence.prompt(behaviour))
    pair = (sentence, sentence.twin(concept))
    by_class = sorted(pair, key=lambda one: getattr(one, concept))
    return by_class[0].words()[position], by_class[1].words()[position]


def _pair(sentence: Sentence, concept: str, behaviour: str) -> Pair:
    twin = sentence.twin(concept)
    base_class = getattr(sentence, concept)
    if concept == "tense":
        lexeme = lx.TIMES[sentence.time][0]
    else:
        lexeme = (lx.NOUNS if concept == "number" else lx.GENDERED)[sentence.noun][0]
    return Pair(
        base=" ".join(sentence.prompt(behaviour)),
        source=" ".join(twin.prompt(behaviour)),
        answers=answers(sentence, concept, behaviour),
        base_answer=base_class,
        source_answer=1 - base_class,
        template=sentence.structure,
        lexemes=(lexeme,),
        concept=concept,
        behaviour=behaviour,
        base_class=base_class,
        source_class=1 - base_class,
    )


def sample_pairs(concept: str, behaviour: str, n: int, *, seed: int, split: Split) -> list[Pair]:
    """Draw `n` minimal pairs of one behaviour.

    Deterministic for a seed; base classes alternate; structures come in equal numbers as far as they last;
    base prompts are distinct as far as the grammar has them, then they repeat. No (lexeme, template)
    combination is in two splits, where the template is the structure before the verb.

    Parameters
    ----------
    concept, behaviour
        Names out of `CONCEPTS`.
    n
        Number of pairs.
    seed
        Any integer; other seeds draw other pairs of the same split.
    split
        `rank` and `probe` share what training twins are drawn from; `eval` is what they never saw.

    Raises
    ------
    InputError
        If the grammar lacks the concept, the behaviour or the split.
    """
    if concept not in CONCEPTS:
        raise InputError(f"No concept {concept!r} in this grammar. It has: {', '.join(CONCEPTS)}.")
    if behaviour not in CONCEPTS[concept].behaviours:
        known = ", ".join(CONCEPTS[concept].behaviours)
        raise InputError(f"No behaviour {behaviour!r} of {concept}. It has: {known}.")
    if split not in ("rank", "probe", "eval"):
        raise InputError(f"No split {split!r}. Choose rank, probe or eval.")
    return list(_sampled(concept, behaviour, n, seed, split))


@lru_cache(maxsize=64)
def _sampled(concept: str, behaviour: str, n: int, seed: int, split: Split) -> tuple[Pair, ...]:
    rng = Random(f"{NAME}.{concept}.{behaviour}.{split}.{seed}")
    structures = _structures(concept, behaviour, split)
    pairs: list[Pair] = []
    seen: set[str] = set()
    exhausted: set[str] = set()
    while len(pairs) < n:
        left = [structure for structure in structures if structure not in exhausted] or structures
        structure = left[len(pairs) // 2 % len(left)]
        fresh = len(exhausted) < len(structures)
        for _ in range(4000):
            sentence = draw(rng, concept, behaviour)
            if sentence.structure != structure or sentence.split(concept) != split:
                continue
            if getattr(sentence, concept) != len(pairs) % 2:
                continue
            pair = _pair(sentence, concept, behaviour)
            if pair.base in seen and fresh:
                continue
            seen.add(pair.base)
            pairs.append(pair)
            break
        else:
            exhausted.add(structure)
    rng.shuffle(pairs)
    return tuple(pairs)


def _structures(concept: str, behaviour: str, split: Split) -> list[str]:
    """The structures in which the behaviour occurs in the split."""
    names = STRUCTURES + HELD_STRUCTURES if split == "eval" else STRUCTURES
    if behaviour == "attractor":
        return [name for name in names if "attractor" in name]
    if behaviour == "verb" or concept == "gender":
        return [name for name in names if "attractor" not in name]
    return list(names)
