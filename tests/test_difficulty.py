"""Difficulty: a curve against a dial, and where it breaks."""

import math
from io import StringIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import nibench as nb
from nibench.difficulty import Curve, crossing, curves, drawn, short, tables, words
from nibench.page import render
from nibench.results import collect
from nibench.stored import with_arrays
from nibench.suites import SUITES, SWEEP_DRAWS, SWEEPS
from nibench.truth.dials import DIALS


def curve(values, scores, dial="label_noise", **changes):
    turned = DIALS[dial]
    kinds = {"harder": turned.harder, "scale": turned.scale} | changes
    return Curve("m", "w", dial, **kinds, about="", values=np.array(values), scores=np.array(scores))


def test_a_curve_breaks_where_the_line_between_two_values_crosses_the_level():
    places = np.array([0.0, 1.0, 3.0])
    found = crossing(places, np.array([[1.0, 0.75, 0.25], [0.9, 0.1, 0.9], [0.4, 0.9, 0.9], [1, 1, 1]]), 0.5)
    np.testing.assert_allclose(found, [2.0, 0.5, -np.inf, np.inf])


@given(st.lists(st.floats(0, 1), min_size=3, max_size=6))
def test_at_the_crossing_the_curve_has_the_level(heights):
    places = np.arange(len(heights), dtype=float)
    (found,) = crossing(places, np.array([heights]), 0.5)
    if math.isinf(found):
        assert heights[0] < 0.5 if found < 0 else min(heights) >= 0.5
    else:
        assert np.interp(found, places, heights) == pytest.approx(0.5, abs=1e-9)
        assert min(heights[: max(1, math.ceil(found))]) >= 0.5


def test_a_dial_on_a_log_scale_is_read_between_values_by_ratio():
    falling = curve([8.0, 2.0], [[0.75], [0.25]], dial="snr")
    assert falling.breakdown.value == pytest.approx(4.0)
    assert falling.breakdown.low is None  # one draw


def test_the_interval_covers_the_draws_and_is_none_with_few_of_them():
    rng = np.random.default_rng(0)
    ends = rng.uniform(0.5, 0.9, size=12)  # each draw falls from 1 at 0 to 0 at its own end, in a line
    values = np.linspace(0, 1, 21)
    scores = np.maximum(0.0, 1 - values[:, None] / ends)
    at = curve(values, scores).breakdown
    assert at.low is not None
    assert at.high is not None
    assert ends.min() / 2 < at.low < at.value < at.high < ends.max() / 2
    assert curve(values, scores[:, :9]).breakdown.low is None
    same = curve(values, np.repeat(scores[:, :1], 10, axis=1)).breakdown
    assert [same.low, same.high] == pytest.approx([ends[0] / 2] * 2)


@pytest.mark.parametrize(
    ("values", "heights", "dial", "expected"),
    [
        ([0.0, 0.2, 0.4], [1.0, 0.75, 0.25], "label_noise", ".3"),
        ([0.0, 0.2, 0.4], [1.0, 0.9, 0.8], "label_noise", ">\u00a0.4"),
        ([0.0, 0.2, 0.4], [0.3, 0.2, 0.1], "label_noise", "–"),
        ([2000.0, 1000.0, 500.0], [1.0, 0.9, 0.8], "tokens", "<\u00a0500"),
    ],
)
def test_where_a_curve_breaks_is_said_in_the_dials_own_numbers(values, heights, dial, expected):
    assert words(curve(values, np.array(heights)[:, None], dial=dial)) == expected


def test_values_are_short():
    assert [short(v) for v in (1800, 45.2, 4.25, 0.35, 0.016, 0, 1)] == [
        "1800", "45", "4.2", ".35", ".016", "0", "1",
    ]  # fmt: skip


def test_the_suite_goes_from_easy_to_hard_on_every_dial():
    for dial, values in SWEEPS.items():
        assert list(values) == sorted(values, reverse=DIALS[dial].harder == "less")
    assert len(SUITES["worlds-difficulty"].tasks) == SWEEP_DRAWS * sum(map(len, SWEEPS.values()))
    assert SWEEP_DRAWS >= 10  # fewer give no interval


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> nb.Report:
    tasks = [f"difficulty_world@label_noise={v:g},draw={d}" for v in (0, 0.3, 0.5) for d in (0, 1)]
    methods = ["mean_difference", "random_ranking", "neuron_ablation"]
    return nb.evaluate(
        methods, tasks, budget=SUITES["worlds-difficulty"].budget, out=tmp_path_factory.mktemp("d")
    )


def test_a_method_falls_from_near_perfect_to_chance_as_labels_get_worse(report: nb.Report):
    found = {c.method: c for c in curves(collect(report.records))}
    assert set(found) == {"mean_difference", "random_ranking"}  # no curve where a method does not apply
    means = found["mean_difference"].means
    assert means[0] > 0.9
    assert abs(means[-1]) < 0.3
    assert 0 < found["mean_difference"].breakdown.value < 0.5
    assert found["random_ranking"].breakdown.value == -np.inf


def test_a_run_with_dials_goes_on_where_it_stopped(report: nb.Report):
    again = nb.evaluate(
        ["mean_difference"],
        ["difficulty_world@label_noise=0.3,draw=1"],
        budget=SUITES["worlds-difficulty"].budget,
        out=report.folder,
    )
    assert again.computed == 0
    assert "--task difficulty_world@label_noise=0.3,draw=1" in again.records[0].command


def test_only_the_truth_is_measured(report: nb.Report):
    assert {s.id.split(".")[0] for r in report.records for s in r.scores} == {"gt"}


def test_a_failed_cell_counts_as_a_random_ranking(report: nb.Report):
    broken = [
        r.model_copy(update={"status": "failed", "scores": []}) if r.cell.method == "mean_difference" else r
        for r in report.records
    ]
    found = {c.method: c for c in curves(collect(broken))}
    assert not found["mean_difference"].scores.any()


def test_tables_fit_80_columns_and_name_the_dial(report: nb.Report):
    console = Console(width=80, record=True, file=StringIO())
    for table in tables(curves(collect(report.records))):
        console.print(table)
    text = console.export_text()
    assert "label_noise: share of wrong labels (2 draws of difficulty_world)" in text
    assert "breaks at" in text
    assert max(map(len, text.splitlines())) <= 80


def test_cells_of_one_world_are_one_task_on_the_board(report: nb.Report):
    results = collect(with_arrays(report.records, report.folder))
    assert results.tasks == ("difficulty_world",)
    assert len(results.places) == 6


def test_the_page_draws_the_curves(report: nb.Report):
    results = collect(with_arrays(report.records, report.folder))
    page = render(results, "0" * 64)
    assert "How hard it may get" in page
    assert page.count("<polyline points=") == 2
    (world,) = drawn(curves(results))
    (sketch,) = world["rows"][0]["cells"]
    xs, ys = np.array([point.split(",") for point in sketch["line"].split()], dtype=float).T
    np.testing.assert_allclose(xs, [0, 0.6 * world["width"], world["width"]], atol=0.1)
    assert ys[0] < 0.1 * world["height"] < 0.7 * world["height"] < ys[-1]
    assert 0 < sketch["mark"] < world["width"]
