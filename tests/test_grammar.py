"""The grammar: twins are aligned, labels are right, and splits share nothing."""

from collections import Counter
from dataclasses import replace
from itertools import islice
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nibench.errors import InputError
from nibench.truth import grammar, pairs
from nibench.truth import lexicon as lx

CELLS = [(concept, behaviour) for concept, one in grammar.CONCEPTS.items() for behaviour in one.behaviours]
SPLITS = ("rank", "probe", "eval")

sentences = st.integers(0, 10**9).map(lambda seed: grammar.draw(Random(seed)))


def of_concept(concept):
    return st.integers(0, 10**9).map(lambda seed: grammar.draw(Random(seed), concept))


@given(sentences)
def test_every_word_is_a_token_of_the_vocabulary(sentence):
    assert set(sentence.words()) <= set(grammar.vocabulary())
    assert all(" " not in word for word in grammar.vocabulary())


@given(st.sampled_from(list(grammar.CONCEPTS)).flatmap(lambda c: st.tuples(st.just(c), of_concept(c))))
def test_a_twin_is_aligned_and_a_twin_of_a_twin_is_the_sentence(case):
    concept, sentence = case
    twin = sentence.twin(concept)
    assert len(twin.words()) == len(sentence.words())
    assert twin.words() != sentence.words()
    around = sentence
    for _ in grammar.CONCEPTS[concept].classes:
        around = around.twin(concept)
    assert around == sentence
    assert sentence.twin(concept, getattr(sentence, concept)) == sentence


@given(st.sampled_from(list(grammar.CONCEPTS)).flatmap(lambda c: st.tuples(st.just(c), of_concept(c))))
def test_the_words_labelled_for_a_concept_are_those_that_change_with_it(case):
    concept, sentence = case
    labels = sentence.labels(concept)
    own = grammar.CONCEPTS[concept].classes[getattr(sentence, concept)]
    assert set(labels) <= {None, own}
    assert own in labels
    changed = [a != b for a, b in zip(sentence.words(), sentence.twin(concept).words(), strict=True)]
    assert [label is not None for label in labels] == changed
    assert sentence.labels("field") == (None,) * len(labels) or sentence.subject == "field"


@given(sentences)
def test_every_word_has_a_part_of_speech(sentence):
    tags = sentence.parts_of_speech()
    assert len(tags) == len(sentence.words())
    assert set(tags) <= set(grammar.PARTS_OF_SPEECH)


@given(of_concept("number"))
def test_the_number_twin_changes_the_subject_and_at_most_its_verb(sentence):
    words, twin = sentence.words(), sentence.twin("number").words()
    differing = {word for pair in zip(words, twin, strict=True) if pair[0] != pair[1] for word in pair}
    verbs = {form for row in lx.VERBS for form in row[:2]} | {form for row in lx.BE for form in row}
    assert differing - verbs == set(lx.NOUNS[sentence.noun])


def test_labels_follow_the_words_by_hand():
    sentence = grammar.Sentence(
        tense=0, time=0, place=None, subject="noun", noun=0, number=1, gender=0, animacy=0, polarity=0,
        sentiment=0, field=0, bracket=0, sentence_type=0, adjective=0, attractor=(0, 1, 0), predicate="be",
        verb=0, complement=0, cue=0,
    )  # fmt: skip
    assert " ".join(sentence.words()) == "today , the old dogs near the cat are tired ."
    assert " ".join(sentence.twin("number").words()) == "today , the old dog near the cat is tired ."
    assert " ".join(sentence.twin("tense").words()) == "yesterday , the old dogs near the cat were tired ."
    assert pairs.answers(sentence, "number", "be") == ("is", "are")
    assert pairs.answers(sentence, "tense", "be") == ("are", "were")
    assert sentence.labels("number") == (None, None, None, None, "Plur", None, None, None, "Plur", None, None)
    assert sentence.parts_of_speech() == (
        "ADV", "PUNCT", "DET", "ADJ", "NOUN", "ADP", "DET", "NOUN", "AUX", "ADJ", "PUNCT",
    )  # fmt: skip
    baker = replace(sentence, subject="field", attractor=None, adjective=None, predicate="place")
    assert " ".join(baker.words()) == "today , the baker must go to the kitchen ."
    assert " ".join(baker.twin("field", 2).words()) == "today , the singer must go to the theatre ."
    assert pairs.answers(baker, "field", "place") == ("kitchen", "stadium", "theatre", "classroom")
    with pytest.raises(InputError, match="no twin for 'gender'"):
        sentence.twin("gender")


@pytest.mark.parametrize(("concept", "behaviour"), CELLS)
@pytest.mark.parametrize("split", SPLITS)
def test_pairs_are_minimal_balanced_and_distinct(concept, behaviour, split):
    classes = grammar.CONCEPTS[concept].classes
    found = pairs.sample_pairs(concept, behaviour, 100, seed=3, split=split)
    assert len(found) == len({pair.base for pair in found}) == 100
    assert set(Counter(pair.base_class for pair in found).values()) == {100 // len(classes)}
    assert len({pair.source_class for pair in found}) == len(classes)
    for pair in found:
        assert pair.source_class != pair.base_class
        assert (pair.base_answer, pair.source_answer) == (pair.base_class, pair.source_class)
        assert len(pair.base.split()) == len(pair.source.split())
        assert pair.base != pair.source
        assert len(set(pair.answers)) == len(classes)


@pytest.mark.parametrize("concept", grammar.UNUSED)
@pytest.mark.parametrize("split", SPLITS)
def test_after_an_unused_word_a_sentence_and_its_twin_end_alike(concept, split):
    shown, behaviour = grammar.UNUSED[concept]
    found = pairs.sample_pairs(concept, "none", 100, seed=3, split=split)
    said = pairs.sample_pairs(shown, behaviour, 100, seed=3, split=split)
    for pair, before in zip(found, said, strict=True):
        assert pair.base.split() == [*before.base.split(), before.answers[before.base_answer]]
        assert pair.source.split() == [*before.source.split(), before.answers[before.source_answer]]
        assert (pair.answers, pair.base_class, pair.source_class) == (
            (),
            before.base_class,
            before.source_class,
        )
    rng = Random(3)
    for sentence in (grammar.draw(rng, shown, behaviour) for _ in range(200)):
        words, twin = sentence.words(), sentence.twin(shown).words()
        at = len(sentence.prompt(behaviour))
        assert words[at] != twin[at]
        assert words[at + 1 :] == twin[at + 1 :] != ()


@pytest.mark.parametrize(("concept", "behaviour"), CELLS)
def test_no_lexeme_meets_one_template_in_two_splits(concept, behaviour):
    met = {
        split: {
            (pair.lexemes, pair.template)
            for pair in pairs.sample_pairs(concept, behaviour, 200, seed=s, split=split)
        }
        for s, split in enumerate(SPLITS)
    }
    assert not met["rank"] & met["probe"]
    assert not met["eval"] & (met["rank"] | met["probe"])


@pytest.mark.parametrize("concept", grammar.CONCEPTS)
def test_every_cue_is_in_every_split(concept):
    tables = {
        "number": lx.NOUNS, "tense": lx.TIMES, "gender": lx.GENDERED, "animacy": lx.NOUNS,
        "polarity": lx.ADVERBS, "sentiment": lx.EVALUATIVES, "sentence_type": lx.OPENERS,
    }  # fmt: skip
    cues = {row[0] for row in tables.get(concept, ())} or set(lx.FIELDS[0])
    if concept == "bracket":
        cues = {row[0] for row in lx.NOUNS + lx.GENDERED}
    for split in SPLITS:
        found = [
            pair
            for behaviour in grammar.CONCEPTS[concept].behaviours
            for pair in pairs.sample_pairs(concept, behaviour, 240, seed=0, split=split)
        ]
        assert {pair.lexemes[0] for pair in found} == cues


def test_training_twins_hold_no_combination_of_eval():
    rng = Random(0)
    allowed = [sentence for sentence in (grammar.draw(rng) for _ in range(2000)) if sentence.trains()]
    assert 200 < len(allowed) < 1500
    for sentence in allowed:
        assert sentence.structure not in grammar.HELD_STRUCTURES
        assert all(sentence.split(c) != "eval" for c in grammar.CONCEPTS if sentence.has(c))


def test_no_training_twin_begins_like_a_sentence_of_eval():
    rng = Random(1)
    longer = [one for one in (grammar.draw(rng) for _ in range(12000)) if one.attractor and one.trains()]
    assert len(longer) > 100
    assert all(replace(one, attractor=None).trains() for one in longer)


@settings(max_examples=10, deadline=None)
@given(st.sampled_from(CELLS), st.integers(0, 1000), st.sampled_from(SPLITS))
def test_pairs_are_the_same_for_the_same_seed(cell, seed, split):
    once = pairs.sample_pairs(cell[0], cell[1], 20, seed=seed, split=split)
    pairs._sampled.cache_clear()
    assert once == pairs.sample_pairs(cell[0], cell[1], 20, seed=seed, split=split)
    assert once != pairs.sample_pairs(cell[0], cell[1], 20, seed=seed + 1, split=split)


def test_natural_sentences_avoid_the_prompts_they_are_told_to():
    first = next(grammar.natural_sentences(5)).words()
    avoided = frozenset({first[:4]})
    others = list(islice(grammar.natural_sentences(5, without=avoided), 500))
    assert all(sentence.words()[:4] != first[:4] for sentence in others)


def test_a_wrong_name_is_refused_with_what_there_is():
    with pytest.raises(InputError, match="It has: number, tense, gender"):
        pairs.sample_pairs("colour", "verb", 1, seed=0, split="rank")
    with pytest.raises(InputError, match="It has: pronoun, reflexive, possessive"):
        pairs.sample_pairs("gender", "verb", 1, seed=0, split="rank")
    with pytest.raises(InputError, match="rank, probe or eval"):
        pairs.sample_pairs("gender", "pronoun", 1, seed=0, split="test")  # pyright: ignore[reportArgumentType]
