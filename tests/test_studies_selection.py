"""Realised shares of false discoveries: the study's arithmetic, its random labels, and what it prints."""

import json
from dataclasses import replace
from io import StringIO

import numpy as np
import pytest
from rich.console import Console

from nibench.cli import app
from nibench.errors import InputError
from nibench.moments import Statistics
from nibench.studies import selection
from nibench.studies.selection import Study, study

SMALL = {"n_items": 600, "n_neurons": 60}


@pytest.fixture(scope="module")
def small():
    worlds = {name: replace(selection.WORLDS[name], **SMALL) for name in ("per token", "null, word type")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(selection, "WORLDS", worlds)
        patch.setattr(selection, "PLACES", ())
        patch.setattr(selection, "HALVED", ("linear_l2",))
        yield


@pytest.fixture(scope="module")
def found(small):
    return study(3)


def test_every_procedure_meets_every_kind_of_labels(found):
    units = ("token", "sentence", "word type", "larger p", "both")
    for labels in ("per token", "null, word type"):
        for method in ("auc", "mean_difference"):
            for unit in units:
                row = found.of(labels, method, unit)
                assert 0 <= row.fdr <= 1
                assert row.draws == 3
    assert found.of("per token", "linear_l2", "halves", 0.2).draws == 3
    assert found.of("per token", "auc", "both").power > 0.3
    assert found.of("null, word type", "auc", "token").any == 1  # what a permutation of tokens does there
    assert found.of("null, word type", "auc", "token").fdr == 1
    assert np.isnan(found.of("null, word type", "auc", "both").power)
    assert found.of("null, word type", "auc", "both").size <= 1


def test_a_set_at_a_higher_level_is_no_smaller(found):
    for row in found.rows:
        if row.nominal < 0.2:
            assert row.size <= found.of(row.labels, row.method, row.unit, 0.2).size


def test_one_draw_is_that_draw_again_and_has_no_interval(small):
    seen = []
    found = study(1, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]
    assert all(row.ci95 is None for row in found.rows)
    again = selection._in_world(selection.WORLDS["per token"], 0, ())
    for (method, unit, level), (share, power, size) in again.items():
        row = found.of("per token", method, unit, level)
        assert (row.fdr, row.power, row.size) == (share, power, size)
    with pytest.raises(InputError, match="draws is 0"):
        study(0)


def test_means_and_intervals_by_hand():
    values = np.array([[0.0, 0.5, 4], [0.2, 0.5, 5], [0.4, 1.0, 0], [0.2, 1.0, 3]])
    row = selection._row("labels", "auc", "both", 0.05, values)
    assert (row.fdr, row.power, row.size, row.any, row.draws) == pytest.approx((0.2, 0.75, 3, 0.75, 4))
    half = 1.96 * np.sqrt((0.04 + 0.04) / 3) / 2
    assert row.ci95 == pytest.approx((0.2 - half, 0.2 + half))
    assert not row.exceeds
    assert selection._row("labels", "auc", "both", 0.01, values).exceeds


@pytest.mark.parametrize(
    ("by", "unit"), [("prompt", "token"), ("template", "sentence"), ("word", "word type")]
)
def test_labels_at_random_go_by_what_they_are_drawn_for(by, unit):
    rng = np.random.default_rng(4)
    templates, words = np.repeat(np.arange(40), 12), rng.integers(0, 40, 480)
    x = rng.normal(size=(40, 50))[templates] + rng.normal(size=(40, 50))[words] + rng.normal(size=(480, 50))
    data = selection._observations(
        Statistics(x.astype(np.float32), np.zeros(480, dtype=int), 2), templates, words
    )
    found = [selection._at_random(data, by, draw) for draw in range(3)]
    assert np.mean([one["auc", unit, 0.1][2] for one in found]) < 5
    assert all(one["auc", "both", 0.1][2] <= 5 for one in found)
    if by != "prompt":
        assert all(one["auc", "token", 0.1][2] > 10 for one in found)


def test_tables_fit_80_columns_and_json_is_plain(found, small, monkeypatch, capsys):
    console = Console(width=80, record=True, file=StringIO())
    long = [
        replace(row, labels="glass_number glass3, per template", fdr=0.4, ci95=(0.3, 0.5))
        for row in found.rows
    ]
    console.print(Study((*found.rows, *(row for row in long if row.method != "linear_l2"))).table())
    text = console.export_text()
    assert ".40±.10!" in text
    assert "auc at .1, labels re-assigned by" in text
    assert max(map(len, text.splitlines())) <= 80
    app(["study", "selection", "--draws", "1", "--jobs", "1", "--json"], standalone_mode=False)
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert {"labels", "method", "unit", "nominal", "fdr", "power", "size", "exceeds"} <= rows[0].keys()
