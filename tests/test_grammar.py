"""The grammar: twins are aligned, labels are right, and splits share nothing."""

from dataclasses import replace
from itertools import islice
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nibench.errors import InputError
from nibench.truth import grammar
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
    assert twin.twin(concept) == sentence


@given(of_concept("number"))
def test_the_number_twin_changes_the_subject_and_at_most_its_verb(sentence):
    words, twin = sentence.words(), sentence.twin("number").words()
    differing = {word for pair in zip(words, twin, strict=True) if pair[0] != pair[1] for word in pair}
    verbs = {form for row in lx.VERBS for form in row[:2]} | {form for row in lx.BE for form in row}
    assert differing - verbs == set(lx.NOUNS[sentence.noun])


def test_labels_follow_the_words_by_hand():
    sentence = grammar.Sentence(
        tense=0, time=0, place=None, subject="noun", noun=0, number=1, gender=0, adjective=0,
        attractor=(0, 1, 0), predicate="be", verb=0, complement=0,
    )  # fmt: skip
    assert " ".join(sentence.words()) == "today , the old dogs near the cat are tired ."
    assert " ".join(sentence.twin("number").words()) == "today , the old dog near the cat is tired ."
    assert " ".join(sentence.twin("tense").words()) == "yesterday , the old dogs near the cat were tired ."
    assert grammar.answers(sentence, "number", "be") == ("is", "are")
    assert grammar.answers(sentence, "tense", "be") == ("are", "were")
    with pytest.raises(InputError, match="no twin for 'gender'"):
        sentence.twin("gender")


@pytest.mark.parametrize(("concept", "behaviour"), CELLS)
@pytest.mark.parametrize("split", SPLITS)
def test_pairs_are_minimal_balanced_and_distinct(concept, behaviour, split):
    pairs = grammar.sample_pairs(concept, behaviour, 100, seed=3, split=split)
    assert len(pairs) == len({pair.base for pair in pairs}) == 100
    assert sum(pair.base_class for pair in pairs) == 50
    for pair in pairs:
        assert pair.source_class == 1 - pair.base_class
        assert (pair.base_answer, pair.source_answer) == (pair.base_class, pair.source_class)
        assert len(pair.base.split()) == len(pair.source.split())
        assert pair.base != pair.source
        assert len(set(pair.answers)) == 2


@pytest.mark.parametrize(("concept", "behaviour"), CELLS)
def test_no_lexeme_meets_one_template_in_two_splits(concept, behaviour):
    met = {
        split: {
            (pair.lexemes, pair.template)
            for pair in grammar.sample_pairs(concept, behaviour, 200, seed=s, split=split)
        }
        for s, split in enumerate(SPLITS)
    }
    assert not met["rank"] & met["probe"]
    assert not met["eval"] & (met["rank"] | met["probe"])


@pytest.mark.parametrize("concept", grammar.CONCEPTS)
def test_every_lexeme_is_in_every_split(concept):
    table = {"number": lx.NOUNS, "tense": lx.TIMES, "gender": lx.GENDERED}[concept]
    for split in SPLITS:
        pairs = [
            pair
            for behaviour in grammar.CONCEPTS[concept].behaviours
            for pair in grammar.sample_pairs(concept, behaviour, 200, seed=0, split=split)
        ]
        assert {pair.lexemes[0] for pair in pairs} == {row[0] for row in table}


def test_training_twins_hold_no_combination_of_eval():
    rng = Random(0)
    allowed = [sentence for sentence in (grammar.draw(rng) for _ in range(2000)) if sentence.trains()]
    assert 200 < len(allowed) < 1500
    for sentence in allowed:
        assert sentence.structure not in grammar.HELD_STRUCTURES
        assert sentence.split("tense") != "eval"
        assert sentence.split("number" if sentence.subject == "noun" else "gender") != "eval"


def test_no_training_twin_begins_like_a_sentence_of_eval():
    rng = Random(1)
    longer = [one for one in (grammar.draw(rng) for _ in range(3000)) if one.attractor and one.trains()]
    assert len(longer) > 100
    assert all(replace(one, attractor=None).trains() for one in longer)


@settings(max_examples=10)
@given(st.sampled_from(CELLS), st.integers(0, 1000), st.sampled_from(SPLITS))
def test_pairs_are_the_same_for_the_same_seed(cell, seed, split):
    once = grammar.sample_pairs(cell[0], cell[1], 20, seed=seed, split=split)
    assert once == grammar.sample_pairs(cell[0], cell[1], 20, seed=seed, split=split)
    assert once != grammar.sample_pairs(cell[0], cell[1], 20, seed=seed + 1, split=split)


def test_natural_sentences_avoid_the_prompts_they_are_told_to():
    first = next(grammar.natural_sentences(5)).words()
    avoided = frozenset({first[:4]})
    others = list(islice(grammar.natural_sentences(5, without=avoided), 500))
    assert all(sentence.words()[:4] != first[:4] for sentence in others)


def test_a_wrong_name_is_refused_with_what_there_is():
    with pytest.raises(InputError, match="It has: number, tense, gender"):
        grammar.sample_pairs("animacy", "verb", 1, seed=0, split="rank")
    with pytest.raises(InputError, match="It has: pronoun, reflexive, possessive"):
        grammar.sample_pairs("gender", "verb", 1, seed=0, split="rank")
    with pytest.raises(InputError, match="rank, probe or eval"):
        grammar.sample_pairs("gender", "pronoun", 1, seed=0, split="test")  # pyright: ignore[reportArgumentType]
