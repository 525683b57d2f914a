"""Minimal pairs of the grammar: prompts that differ in one concept, with the answers to either.

Words are separated by single spaces, one token each. The module imports no torch.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from random import Random

from nibench.errors import InputError
from nibench.truth import lexicon as lx
from nibench.truth.grammar import (
    CONCEPTS,
    HELD_STRUCTURES,
    NAME,
    NONE,
    STRUCTURES,
    UNUSED,
    Sentence,
    Split,
    draw,
)


@dataclass(frozen=True)
class Pair:
    """A minimal pair: two prompts that differ in one concept, and the answers.

    `answers` stand in the order of the concept's classes, so `base_answer` is `base_class`. There are none after
    a word on which no later word depends.
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


def answers(sentence: Sentence, concept: str, behaviour: str) -> tuple[str, ...]:
    """The answers after `sentence.prompt(behaviour)`, one for each class of the concept."""
    position = len(sentence.prompt(behaviour))
    classes = range(len(CONCEPTS[concept].classes))
    return tuple(sentence.twin(concept, to).words()[position] for to in classes)


def _pair(sentence: Sentence, source_class: int, concept: str, behaviour: str) -> Pair:
    base_class = getattr(sentence, concept)
    return Pair(
        base=" ".join(sentence.prompt(behaviour)),
        source=" ".join(sentence.twin(concept, source_class).prompt(behaviour)),
        answers=answers(sentence, concept, behaviour),
        base_answer=base_class,
        source_answer=source_class,
        template=sentence.structure,
        lexemes=(_first_form(sentence, concept),),
        concept=concept,
        behaviour=behaviour,
        base_class=base_class,
        source_class=source_class,
    )


def _first_form(sentence: Sentence, concept: str) -> str:
    """The word that shows the concept, in the form of the first class: what items are clustered by."""
    match concept:
        case "tense":
            return lx.TIMES[sentence.time][0]
        case "gender":
            return lx.GENDERED[sentence.noun][0]
        case "field":
            return lx.FIELDS[0][sentence.noun]
        case "polarity":
            return lx.ADVERBS[sentence.cue][0]
        case "sentiment":
            return lx.EVALUATIVES[sentence.cue][0]
        case "sentence_type":
            return lx.OPENERS[sentence.cue][0]
        case _:
            return (lx.GENDERED if sentence.subject == "gendered" else lx.NOUNS)[sentence.noun][0]


def sample_pairs(concept: str, behaviour: str, n: int, *, seed: int, split: Split) -> list[Pair]:
    """Draw `n` minimal pairs of one behaviour.

    Deterministic for a seed; base classes alternate; structures come in equal numbers as far as they last;
    base prompts are distinct as far as the grammar has them, then they repeat. No (lexeme, template)
    combination is in two splits, where the template is the structure before the verb.

    Parameters
    ----------
    concept, behaviour
        Names out of `CONCEPTS`, or one of `UNUSED` and `none`: the prompts then end with the word itself, without
        answers.
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
    if concept in UNUSED and behaviour == NONE:
        said = sample_pairs(*UNUSED[concept], n, seed=seed, split=split)
        return [_answered(pair, concept) for pair in said]
    if concept not in CONCEPTS:
        raise InputError(f"No concept {concept!r} in this grammar. It has: {', '.join(CONCEPTS)}.")
    if behaviour not in CONCEPTS[concept].behaviours:
        known = ", ".join(CONCEPTS[concept].behaviours)
        raise InputError(f"No behaviour {behaviour!r} of {concept}. It has: {known}.")
    if split not in ("rank", "probe", "eval"):
        raise InputError(f"No split {split!r}. Choose rank, probe or eval.")
    return list(_sampled(concept, behaviour, n, seed, split))


def _answered(pair: Pair, concept: str) -> Pair:
    """The pair with each prompt's own answer at its end: what it shows as an unused word's concept."""
    return replace(
        pair,
        base=f"{pair.base} {pair.answers[pair.base_answer]}",
        source=f"{pair.source} {pair.answers[pair.source_answer]}",
        answers=(),
        concept=concept,
        behaviour=NONE,
    )


@lru_cache(maxsize=64)
def _sampled(concept: str, behaviour: str, n: int, seed: int, split: Split) -> tuple[Pair, ...]:
    rng = Random(f"{NAME}.{concept}.{behaviour}.{split}.{seed}")
    structures = _structures(concept, behaviour, split)
    n_classes = len(CONCEPTS[concept].classes)
    pairs: list[Pair] = []
    seen: set[str] = set()
    exhausted: set[str] = set()
    while len(pairs) < n:
        left = [structure for structure in structures if structure not in exhausted] or structures
        structure = left[len(pairs) // n_classes % len(left)]
        fresh = len(exhausted) < len(structures)
        for _ in range(4000):
            sentence = draw(rng, concept, behaviour)
            if sentence.structure != structure or sentence.split(concept) != split:
                continue
            if getattr(sentence, concept) != len(pairs) % n_classes:
                continue
            shift = rng.randrange(1, n_classes) if n_classes > 2 else 1
            pair = _pair(sentence, (len(pairs) + shift) % n_classes, concept, behaviour)
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
    if behaviour == "verb" or concept not in ("number", "tense"):
        return [name for name in names if "attractor" not in name]
    return list(names)
