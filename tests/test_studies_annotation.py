"""What annotation costs: the tagger sees words only, and the study says what its labels are worth."""

import json
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from nibench.errors import InputError
from nibench.studies import annotation
from nibench.studies.annotation import Annotation, Curve, first_sentences, study, tag
from nibench.truth.worlds import sample

SMALL = replace(annotation.WORLDS["telling"], n_items=2400, n_neurons=60)


@pytest.fixture(scope="module")
def world():
    return sample(SMALL, 0)


def test_a_tagger_learns_the_word_and_its_neighbours_and_no_activation(world):
    train = np.flatnonzero(world.splits == "probe")
    rows = np.flatnonzero(world.splits == "rank")
    tags = tag(world, train, rows)
    assert np.mean(tags == world.labels[rows]) > 0.9
    blind = replace(world, activations=np.zeros_like(world.activations))
    np.testing.assert_array_equal(tag(blind, train, rows), tags)


def test_context_helps_where_the_word_is_unknown(world):
    spec = replace(
        SMALL, type_preference=(1.0, 1.0), sentence_topic=1.0, sentence_length=(12, 18), n_types=150
    )
    world = sample(spec, 0)
    train = np.flatnonzero(world.splits == "probe")
    rows = np.flatnonzero(world.splits == "rank")
    shuffled = replace(world, word_types=np.where(world.splits == "rank", 10_000, world.word_types))
    words_alone = np.mean(
        tag(shuffled, train, rows) == world.labels[rows]
    )  # no word is known, nor a neighbour
    every_other = np.where(
        (world.splits == "rank") & (np.arange(len(world.labels)) % 2 == 0), 10_000, world.word_types
    )
    hidden = rows[rows % 2 == 0]
    in_context = np.mean(tag(replace(world, word_types=every_other), train, hidden) == world.labels[hidden])
    assert in_context > words_alone + 0.1


def test_an_annotator_labels_whole_sentences_up_to_the_budget(world):
    rows = first_sentences(world, world.splits == "rank", 100, np.random.default_rng(0))
    assert 100 - max(SMALL.sentence_length) < len(rows) <= 100
    for sentence in np.unique(world.sentences[rows]):
        assert (world.sentences == sentence).sum() == (world.sentences[rows] == sentence).sum()
    assert (world.splits[rows] == "rank").all()


@pytest.fixture(scope="module")
def found():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(annotation, "WORLDS", {"telling": SMALL})
        patch.setattr(annotation, "BUDGETS", (60, 480))
        patch.setattr(annotation, "NOISES", (0.0, 0.5))
        return study(["mean_difference", "random_ranking"], draws=2)


def test_more_labels_and_cleaner_labels_find_more(found):
    for labels, better in (("gold", 1), ("automatic", 1), ("noisy", 0)):
        means = found.of("mean_difference", "telling", labels).means
        assert means[better] > means[1 - better] + 0.1
    assert found.of("mean_difference", "telling", "noisy").means[0] > 0.9
    assert abs(found.of("random_ranking", "telling", "noisy").means).max() < 0.25
    assert found.methods[0] == "mean_difference"
    assert found.tagger["telling"].shape == (2, 2)


def test_the_same_study_again_gives_the_same_numbers(found, monkeypatch):
    monkeypatch.setattr(annotation, "WORLDS", {"telling": SMALL})
    monkeypatch.setattr(annotation, "BUDGETS", (60, 480))
    monkeypatch.setattr(annotation, "NOISES", (0.0, 0.5))
    seen = []
    again = study(["mean_difference"], draws=1, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 1)]
    for labels in annotation.TITLES:
        np.testing.assert_array_equal(
            again.of("mean_difference", "telling", labels).scores[:, 0],
            found.of("mean_difference", "telling", labels).scores[:, 0],
        )


def by_hand(n_draws: int) -> Annotation:
    rng = np.random.default_rng(0)
    curves = tuple(
        Curve(
            "m",
            "telling",
            labels,
            (60, 120),
            np.full((2, n_draws), level) + rng.normal(0, 0.01, (2, n_draws)),
        )
        for labels, level in (("gold", 0.5), ("automatic", 0.7), ("noisy", 0.9))
    )
    return Annotation(curves, {"telling": np.full((2, n_draws), 0.8)})


def test_the_gain_is_automatic_minus_gold_with_an_interval_from_ten_draws_on():
    np.testing.assert_allclose(by_hand(20).gain("telling").mean(axis=1), 0.2, atol=0.02)
    whole = by_hand(20).as_dict()
    low, high = whole["gain"]["telling"]["m"]["ci95"][0]
    assert 0.18 < low < whole["gain"]["telling"]["m"]["mean"][0] < high < 0.22
    assert by_hand(9).as_dict()["curves"][0]["ci95"] is None
    assert json.loads(json.dumps(whole)) == whole


def test_tables_fit_80_columns():
    console = Console(width=80, record=True, file=StringIO())
    console.print(by_hand(20).table())
    text = console.export_text()
    assert "telling words: only n, labelled by hand" in text
    assert "(tagger is right)" in text
    assert max(map(len, text.splitlines())) <= 80


def test_a_method_that_needs_a_model_is_refused():
    with pytest.raises(
        InputError, match=r"neuron_ablation needs MODEL; this study has sampled activations only"
    ):
        study(["neuron_ablation"], draws=1)
    with pytest.raises(InputError, match=r"draws is 0"):
        study(draws=0)
    assert {"neuron_ablation", "random_ranking", "variance"}.isdisjoint(annotation.label_readers())
