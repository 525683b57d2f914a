"""The synthetic English: sentences with latent choices, and their twins.

A `Sentence` is a set of latent choices (tense, number, gender, words); `words()` renders it. Its twin for a
concept changes that choice and renders again: every word that depends on the concept changes, and only those,
so the two are aligned and equally long. Where the next word's distribution differs between the twins is a
*site*; all sites of a concept belong to one of its behaviours.

Words are separated by single spaces, one token each. The module imports no torch.

Held out: a (lexeme, structure) combination is the word that shows the concept, with the shape of what comes
before the predicate. A third of the combinations and every structure with both a place and something else are
`eval`; training twins are drawn from the others, which are halved into `rank` and `probe`. A structure with
an attractor is in the split of the same without, since the one begins like the other.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Literal

from nibench.errors import InputError
from nibench.truth import lexicon as lx

Split = Literal["rank", "probe", "eval"]

NAME = "english"
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
    "animacy": Concept(("Anim", "Inan"), ("relative", "indefinite")),
    "polarity": Concept(("Pos", "Neg"), ("quantifier", "additive", "likewise")),
    "sentiment": Concept(("Good", "Bad"), ("verdict", "cheer", "face")),
    "field": Concept(("Cooking", "Sport", "Music", "School"), ("place", "tool", "topic")),
    "bracket": Concept(("Round", "Square"), ("short", "long")),
    "sentence_type": Concept(("Statement", "Question"), ("mark", "report")),
}

#: Concepts of a word on which no later word depends, as the (concept, behaviour) whose answer that word is.
UNUSED: dict[str, tuple[str, str]] = {"possessor": ("gender", "possessive")}
NONE = "none"  # the behaviour of such a concept: read at the word itself, without answers

Subject = Literal["noun", "gendered", "field"]
Predicate = Literal[
    "verb", "be", "modal",
    "pronoun", "reflexive", "possessive",
    "relative", "indefinite",
    "quantifier", "additive", "likewise",
    "verdict", "cheer", "face",
    "place", "tool", "topic",
    "short", "long",
    "mark", "report",
]  # fmt: skip

#: Words of the predicate before the answer, for each behaviour; the others answer with its first word.
_AFTER: dict[str, int] = {
    "pronoun": 2, "reflexive": 1, "possessive": 1,
    "indefinite": 2,
    "quantifier": 3, "additive": 4, "likewise": 4,
    "verdict": 2, "cheer": 2, "face": 1,
    "place": 4, "tool": 3, "topic": 3,
    "short": 2, "long": 4,
    "mark": 2, "report": 3,
}  # fmt: skip

#: Behaviours whose answers (is, are, was, were) are told apart by two concepts at once.
MEETING: frozenset[tuple[str, str]] = frozenset({("number", "be"), ("tense", "be")})


@dataclass(frozen=True)
class Sentence:
    """The latent choices behind one sentence; numbers index the tuples of `lexicon`.

    Choices that the predicate does not show are 0.
    """

    tense: int
    time: int
    place: int | None
    subject: Subject
    noun: int
    number: int
    gender: int
    animacy: int
    polarity: int
    sentiment: int
    field: int
    bracket: int
    sentence_type: int
    adjective: int | None
    attractor: tuple[int, int, int] | None  # preposition, noun, its number
    predicate: Predicate
    verb: int
    complement: int
    cue: int  # of the adverbs, evaluatives or openers

    @property
    def structure(self) -> str:
        """The shape of what comes before the predicate."""
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
        """The words up to the predicate, which is not among them."""
        words: list[str] = []
        if self.has("sentence_type"):
            words.append(lx.OPENERS[self.cue][self.sentence_type])
        if self.place is not None:
            words += ["in", "the", lx.PLACES[self.place]]
        words += [lx.TIMES[self.time][self.tense], ",", "the"]
        if self.adjective is not None:
            words.append(lx.ADJECTIVES[self.adjective])
        if self.has("sentiment"):
            words.append(lx.EVALUATIVES[self.cue][self.sentiment])
        if self.subject == "gendered":
            words.append(lx.GENDERED[self.noun][self.gender])
        elif self.subject == "field":
            words.append(lx.FIELDS[self.field][self.noun])
        else:
            words.append((lx.NOUNS, lx.THINGS)[self.animacy][self.noun][self.number])
        if self.attractor is not None:
            preposition, noun, number = self.attractor
            words += [lx.PREPOSITIONS[preposition], "the", lx.NOUNS[noun][number]]
        return tuple(words)

    def closing(self) -> tuple[str, ...]:
        """The predicate and all that follows it."""
        number = self.number if self.subject == "noun" else 0
        bare, singular, past = lx.VERBS[self.verb % len(lx.VERBS)]
        inflected = past if self.tense else (singular, bare)[number]
        adverb = lx.ADVERBS[self.cue][self.polarity]
        some_object = lx.OBJECTS[self.complement % len(lx.OBJECTS)]
        opened, closed = lx.BRACKETS[self.bracket]
        match self.predicate:
            case "verb":
                return inflected, "."
            case "be":
                return lx.BE[self.tense][number], lx.PREDICATES[self.complement % len(lx.PREDICATES)], "."
            case "modal":
                return lx.MODALS[self.tense], bare, "."
            case "pronoun":
                return inflected, "because", lx.PRONOUNS[self.gender], "must", "."
            case "reflexive":
                verb = lx.REFLEXIVE_VERBS[self.verb % len(lx.REFLEXIVE_VERBS)][self.tense]
                return verb, lx.REFLEXIVES[self.gender], "."
            case "possessive":
                verb = lx.POSSESSIVE_VERBS[self.verb % len(lx.POSSESSIVE_VERBS)][self.tense]
                return verb, lx.POSSESSIVES[self.gender], some_object, "."
            case "relative":
                return lx.RELATIVES[self.animacy], "may", bare, "."
            case "indefinite":
                return "must", "be", lx.INDEFINITES[self.animacy], "."
            case "quantifier":
                verb = lx.TRANSITIVE_VERBS[self.verb % len(lx.TRANSITIVE_VERBS)]
                return "would", adverb, verb, lx.QUANTIFIERS[self.polarity], some_object, "."
            case "additive":
                return "would", adverb, bare, ",", lx.ADDITIVES[self.polarity], "."
            case "likewise":
                return "would", adverb, bare, "and", lx.LIKEWISE[self.polarity], "would", "others", "."
            case "verdict":
                return "must", "be", lx.VERDICTS[self.sentiment], "."
            case "cheer":
                return inflected, ",", lx.CHEERS[self.sentiment], "."
            case "face":
                return "may", lx.FACES[self.sentiment], "."
            case "place":
                return "must", "go", "to", "the", lx.FIELD_PLACES[self.field], "."
            case "tool":
                return "must", "take", "the", lx.FIELD_TOOLS[self.field], "."
            case "topic":
                return "must", "talk", "about", lx.FIELD_TOPICS[self.field], "."
            case "short":
                return opened, lx.ADJECTIVES[self.complement % len(lx.ADJECTIVES)], closed, inflected, "."
            case "long":
                preposition = lx.PREPOSITIONS[self.verb % len(lx.PREPOSITIONS)]
                place = lx.PLACES[self.complement % len(lx.PLACES)]
                return opened, preposition, "the", place, closed, inflected, "."
            case "mark":
                return "must", bare, lx.MARKS[self.sentence_type]
            case "report":
                return "must", bare, ",", lx.REPORTS[self.sentence_type], "everyone", "."

    def words(self) -> tuple[str, ...]:
        """The whole sentence, one word a token."""
        return self.opening() + self.closing()

    def parts_of_speech(self) -> tuple[str, ...]:
        """The part of speech of each word (Universal Dependencies' tags)."""
        return tuple(_TAGS[word] for word in self.words())

    def has(self, concept: str) -> bool:
        """Whether the sentence shows the concept, so that it has a twin for it."""
        match concept:
            case "tense":
                return True
            case "number":
                return self.subject == "noun"
            case "gender":
                return self.subject == "gendered"
            case _:
                return self.predicate in CONCEPTS[concept].behaviours

    def twin(self, concept: str, to: int | None = None) -> "Sentence":
        """The same sentence with another class of the concept: class `to`, or the next one.

        Raises
        ------
        InputError
            If the sentence has no such concept (a gendered subject has no number here, a noun no gender).
        """
        if concept not in CONCEPTS or not self.has(concept):
            raise InputError(f"'{' '.join(self.words())}' has no twin for {concept!r}; see Sentence.has().")
        following = (getattr(self, concept) + 1) % len(CONCEPTS[concept].classes)
        return replace(self, **{concept: following if to is None else to})

    def prompt(self, behaviour: str) -> tuple[str, ...]:
        """The words before the behaviour's answer."""
        return self.opening() + self.closing()[: _AFTER.get(behaviour, 0)]

    def lexeme(self, concept: str) -> int:
        """Index of the word that shows the concept."""
        if concept == "tense":
            return self.time
        return self.cue if concept in ("polarity", "sentiment", "sentence_type") else self.noun

    def split(self, concept: str) -> Split:
        """Which split the sentence belongs to when it serves the concept."""
        if self.structure in HELD_STRUCTURES:
            return "eval"
        return _SLOTS[(self.lexeme(concept) + 2 * STRUCTURES.index(self.structure)) % len(_SLOTS)]

    def trains(self, concepts: Sequence[str] = tuple(CONCEPTS)) -> bool:
        """Whether training twins may be made of it: no `eval` combination of these concepts is in it."""
        return all(self.split(concept) != "eval" for concept in concepts if self.has(concept))

    def labels(self, concept: str) -> tuple[str | None, ...]:
        """The concept's class for each word that shows it or depends on it, `None` for every other word."""
        words = self.words()
        if concept not in CONCEPTS or not self.has(concept):
            return (None,) * len(words)
        own = CONCEPTS[concept].classes[getattr(self, concept)]
        return tuple(
            own if word != other else None
            for word, other in zip(words, self.twin(concept).words(), strict=True)
        )


PARTS_OF_SPEECH = (
    "ADJ", "ADP", "ADV", "AUX", "CCONJ", "DET", "INTJ", "NOUN", "PRON", "PUNCT", "SCONJ", "VERB",
)  # fmt: skip


def _tags() -> dict[str, str]:
    """The part of speech of every word: in this English a word has one."""
    groups: dict[str, Sequence[Sequence[str]]] = {
        "ADV": (*lx.TIMES, *lx.ADVERBS, *lx.OPENERS, lx.ADDITIVES, lx.LIKEWISE),
        "NOUN": (
            *lx.NOUNS, *lx.THINGS, *lx.GENDERED, *lx.FIELDS, lx.PLACES, lx.OBJECTS,
            lx.FIELD_PLACES, lx.FIELD_TOOLS, lx.FIELD_TOPICS,
        ),
        "ADP": (lx.PREPOSITIONS, ("in", "to", "about")),
        "ADJ": (lx.ADJECTIVES, lx.PREDICATES, *lx.EVALUATIVES, lx.VERDICTS),
        "VERB": (
            *lx.VERBS, *lx.REFLEXIVE_VERBS, *lx.POSSESSIVE_VERBS, lx.TRANSITIVE_VERBS, lx.FACES, lx.REPORTS,
            ("go", "take", "talk"),
        ),
        "AUX": (*lx.BE, lx.MODALS, ("must", "would", "be", "may")),
        "PRON": (lx.PRONOUNS, lx.REFLEXIVES, lx.POSSESSIVES, lx.RELATIVES, lx.INDEFINITES, ("others", "everyone")),
        "DET": (("the",), lx.QUANTIFIERS),
        "INTJ": (lx.CHEERS,),
        "CCONJ": (("and",),),
        "SCONJ": (("because",),),
        "PUNCT": (*lx.BRACKETS, lx.MARKS, (",",)),
    }  # fmt: skip
    return {word: tag for tag, tables in groups.items() for table in tables for word in table}


_TAGS = _tags()


def draw(rng: Random, concept: str | None = None, behaviour: str | None = None) -> Sentence:
    """Draw the latent choices of one sentence, at will of one that shows a concept's behaviour."""
    asked = concept or rng.choice(tuple(CONCEPTS))
    behaviour = behaviour or rng.choice(CONCEPTS[asked].behaviours)
    subject: Subject = "noun"
    if asked == "gender" or (asked in ("tense", "sentiment", "bracket") and rng.random() < 0.4):
        subject = "gendered"
    elif asked == "field":
        subject = "field"
    attractor = None
    may_attract = asked == "number" or (asked == "tense" and subject == "noun")
    if may_attract and (behaviour == "attractor" or (behaviour != "verb" and rng.random() < 0.4)):
        attractor = (rng.randrange(len(lx.PREPOSITIONS)), rng.randrange(len(lx.NOUNS)), rng.randrange(2))
    present = asked == "number" and behaviour in ("verb", "attractor")  # past verbs show no number
    table = {"noun": lx.NOUNS, "gendered": lx.GENDERED, "field": lx.FIELDS[0]}[subject]
    return Sentence(
        tense=0 if present else rng.randrange(2),
        time=rng.randrange(len(lx.TIMES)),
        place=rng.randrange(len(lx.PLACES)) if rng.random() < 0.35 else None,
        subject=subject,
        noun=rng.randrange(len(table)),
        number=rng.randrange(2) if subject == "noun" else 0,
        gender=rng.randrange(2) if subject == "gendered" else 0,
        animacy=rng.randrange(2) if asked == "animacy" else 0,
        polarity=rng.randrange(2) if asked == "polarity" else 0,
        sentiment=rng.randrange(2) if asked == "sentiment" else 0,
        field=rng.randrange(len(lx.FIELDS)) if asked == "field" else 0,
        bracket=rng.randrange(2) if asked == "bracket" else 0,
        sentence_type=rng.randrange(2) if asked == "sentence_type" else 0,
        adjective=rng.randrange(len(lx.ADJECTIVES)) if rng.random() < 0.4 else None,
        attractor=attractor,
        predicate="verb" if behaviour == "attractor" else behaviour,  # pyright: ignore[reportArgumentType]
        verb=rng.randrange(60),
        complement=rng.randrange(120),
        cue=rng.randrange(len(lx.ADVERBS)),
    )


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
    words: set[str] = set()
    for name, group in vars(lx).items():
        if name.isupper():
            words.update(word for row in group for word in ((row,) if isinstance(row, str) else row))
    return (PAD, BOS, UNKNOWN, *sorted(words))
