"""Head to head: paired differences, corrected p-values and wins, on records made by hand."""

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from nibench.boards import Board, boards, verdict_words
from nibench.comparison import BoardComparison, Comparison, compare
from nibench.errors import InputError
from nibench.page import page_data
from nibench.record import Cost, Record, ScoreRecord
from nibench.results import Results, collect
from nibench.stored import Stored, read_results
from nibench.tables import as_text, headline_table
from nibench.uncertainty import holm, ratio_se
from tests.synthetic_records import record, score, scorecard_folder, with_sums

ITEMS = np.full(40, 5.0)
IDS = np.arange(1000, 1040, dtype=np.uint64)


def measured(
    method: str,
    task: str,
    level: float,
    *,
    model: str = "m",
    seed: int = 0,
    ids: np.ndarray = IDS,
    noise: int = 0,
) -> Stored:
    """A cell of the *carries* board whose sentences are known; its noise is that of ``noise`` and the method."""
    rng = np.random.default_rng([noise, seed, *map(ord, method + task)])
    hard = np.random.default_rng(5).normal(0, 0.3, size=(len(ITEMS), 1))
    made, sums = with_sums("abl.auc[interchange]", level, ITEMS, hard, rng, ("moved", "at_stake"))
    cost = Cost(seconds=0.5, forward=100, backward=50, peak_memory_mb=1)
    return Stored(
        record(method, task, model, scores=[made], seed=seed, cost=cost), {**sums, "clusters/behaviour": ids}
    )


def truth_cells(values: Mapping[str, Sequence[float]]) -> list[Record]:
    """Each method's truth of *carries* on as many models as there are values."""
    return [
        record(method, "a", f"m{i}", scores=[score("gt.ndcg[carries]", v, v)], lineage=f"m{i}")
        for method, of_each in values.items()
        for i, v in enumerate(of_each)
    ]


def board_of(found: Comparison, axis: str = "carries") -> BoardComparison:
    return next(board for board in found.boards if board.axis == axis)


def carries_board(results: Results) -> Board:
    return next(board for board in boards(results) if board.axis.id == "carries")


# differences


def test_a_difference_is_paired_over_the_sentences_of_both() -> None:
    """Sentences differ far more than the methods do; the interval is that of the difference."""
    cells = [measured(m, t, level) for m, level in (("a", 0.5), ("b", 0.45)) for t in "xy"]
    results = collect(cells)
    (pair,) = board_of(compare(results, ["a", "b"])).pairs
    assert (pair.level, pair.n_units) == ("sentences", 40)
    assert pair.difference == pytest.approx(0.05, abs=0.01)
    assert pair.ci95 is not None
    assert pair.ci95[0] > 0.02
    assert pair.p is not None
    assert pair.p < 0.001
    row = carries_board(results).rows[0]
    assert row.ci95 is not None
    assert row.ci95[1] - row.ci95[0] > 4 * (pair.ci95[1] - pair.ci95[0])
    assert [cell.place for cell in pair.cells] == ["x · m", "y · m"]
    assert pair.tally == (2, 0, 0)


def test_the_interval_of_one_cell_is_that_of_the_closed_form() -> None:
    results = collect([measured("a", "x", 0.5)])
    board = carries_board(results)
    arrays = next(iter(results.stored)).arrays
    top, bottom = arrays["abl.auc[interchange]/moved"], arrays["abl.auc[interchange]/at_stake"]
    logs = np.log([1, 2, 4, 8, 16, 32])
    areas = np.trapezoid(top, logs, axis=1) / (logs[-1] - logs[0])
    assert board.rows[0].se == pytest.approx(ratio_se(areas, bottom), rel=0.06)


def test_cells_that_share_sentences_share_draws_and_others_do_not() -> None:
    def se_of_mean(ids: np.ndarray) -> float:
        cells = [measured("a", "x", 0.5), measured("a", "y", 0.5, ids=ids)]
        return carries_board(collect(cells)).rows[0].se or 0.0

    alone = carries_board(collect([measured("a", "x", 0.5)])).rows[0].se or 0.0
    assert se_of_mean(IDS) == pytest.approx(alone, rel=0.1)  # the same sentences twice: nothing is gained
    assert se_of_mean(IDS + 500) == pytest.approx(alone / np.sqrt(2), rel=0.1)


def test_a_corpus_of_the_same_size_is_another_corpus_also_without_names() -> None:
    """Records that do not name their sentences share draws within one version of the data, and only there."""

    def nameless(task: str) -> Stored:
        stored = measured("a", task, 0.5)
        return Stored(stored.record, {k: v for k, v in stored.arrays.items() if not k.startswith("clusters")})

    results = collect([nameless("x"), nameless("y"), measured("b", "x", 0.5), measured("b", "y", 0.5)])
    x, y = (results.draws("a", place, "abl.auc[interchange]") for place in results.places)
    assert x is not None
    assert y is not None
    assert abs(np.corrcoef(x, y)[0, 1]) < 0.1
    x, y = (results.draws("b", place, "abl.auc[interchange]") for place in results.places)
    assert np.corrcoef(x, y)[0, 1] > 0.9  # type: ignore[arg-type]


def test_models_are_flipped_where_the_answer_is_known() -> None:
    values = {"a": [0.9, 0.8, 0.7, 0.9, 0.8, 0.9], "b": [0.5, 0.4, 0.5, 0.6, 0.4, 0.3]}
    (pair,) = board_of(compare(collect(truth_cells(values)), ["a", "b"]), "truth.carries").pairs
    assert (pair.level, pair.n_units) == ("models", 6)
    assert pair.p == pytest.approx(2 / 2**6)


def test_several_models_are_what_varies_wherever_there_are_six() -> None:
    cells = [
        measured(m, "x", level, model=f"m{i}") for m, level in (("a", 0.6), ("b", 0.5)) for i in range(6)
    ]
    assert board_of(compare(collect(cells), ["a", "b"])).pairs[0].level == "models"
    few = [cell for cell in cells if cell.record.cell.model != "m5"]
    assert board_of(compare(collect(few), ["a", "b"])).pairs[0].level == "sentences"


def test_few_models_give_no_interval_and_no_p_value() -> None:
    found = compare(collect(truth_cells({"a": [0.9, 0.8], "b": [0.1, 0.2]})), ["a", "b"])
    (pair,) = board_of(found, "truth.carries").pairs
    assert (pair.ci95, pair.p, pair.p_holm, pair.level) == (None, None, None, "nothing")
    assert pair.tally == (2, 0, 0)
    assert "too few models or tasks for an interval" in str(found)


def test_holm_corrects_over_the_pairs_of_a_board() -> None:
    rng = np.random.default_rng(0)
    values = {
        m: (level + rng.normal(0, 0.2, 12)).tolist() for m, level in (("a", 0.6), ("b", 0.5), ("c", 0.3))
    }
    board = board_of(compare(collect(truth_cells(values)), ["a", "b", "c"]), "truth.carries")
    assert len(board.pairs) == 3
    assert [p.p_holm for p in board.pairs] == holm(np.array([p.p for p in board.pairs])).tolist()
    alone = board_of(compare(collect(truth_cells(values)), ["a", "b"]), "truth.carries").pairs[0]
    assert alone.p == alone.p_holm == board.pairs[0].p


def test_only_cells_that_both_cover_are_compared() -> None:
    cells = [measured("a", t, 0.5) for t in "xyz"] + [measured("b", t, 0.4) for t in "xy"]
    absent = record("b", "z", "m", status="not_applicable", reason="needs MODEL")
    (pair,) = board_of(compare(collect([*cells, absent]), ["a", "b"])).pairs
    assert [cell.place for cell in pair.cells] == ["x · m", "y · m"]


def test_a_failed_cell_is_compared_as_a_random_ranking() -> None:
    cells = [measured("a", "x", 0.5), record("b", "x", "m", status="failed", reason="no")]
    (pair,) = board_of(compare(collect(cells), ["a", "b"])).pairs
    assert pair.values == (pytest.approx(0.5, abs=0.1), 0.0)
    assert pair.level == "sentences"
    assert pair.p is not None
    assert pair.p < 0.001


def test_what_each_sentence_adds_sums_to_what_the_board_shows() -> None:
    """On a scale whose zero is not 0, and for a skill, from which the majority's is taken off."""
    rng = np.random.default_rng(0)
    hits = rng.binomial(5, 0.8, size=(40, 3)).astype(float)
    accuracy, majority = hits.sum(axis=0) / 200, np.array([0.6, 0.5, 0.4])
    skills = (accuracy - majority) / (1 - majority)
    kappa = float(skills[0] - skills[1:].mean())
    anchors = {"random": 0.3}
    shown = (accuracy[0] - 0.3) / (0.9 - 0.3)
    majorities = {"concept_majority": 0.6, "control_majority": [0.5, 0.4]}
    scores = [
        score("probe.auc[lda]", float(accuracy[0]), float(shown), k=(1,), ceiling=0.9, details=anchors),
        score("sel.kappa", kappa, details=majorities),
    ]
    arrays = {"probe.auc[lda]/hits": hits[:, :1], "sel.kappa/hits": hits}
    arrays |= {f"{name}/items": ITEMS for name in ("probe.auc[lda]", "sel.kappa")} | {"clusters/items": IDS}
    results = collect([Stored(record("a", "x", "m", scores=scores), arrays)])
    for metric, value in (("probe.auc[lda]", shown), ("sel.kappa", kappa)):
        ids, effects = results.effects("a", results.places[0], metric) or ((), np.zeros(1))
        draws = results.draws("a", results.places[0], metric)
        assert draws is not None
        assert effects.sum() == pytest.approx(value)
        assert draws.mean() == pytest.approx(value, abs=0.02)
        assert draws.std() == pytest.approx(np.sqrt(np.square(effects - value / 40).sum()), rel=0.1)
        assert list(ids) == IDS.tolist()


# seeds


def test_three_seeds_widen_the_interval_and_two_do_not() -> None:
    def errors(n_seeds: int, step: float) -> tuple[float, float]:
        cells = [measured("a", "x", 0.5 + step * seed, seed=seed) for seed in range(n_seeds)]
        row = carries_board(collect(cells)).rows[0]
        return row.se or 0.0, row.seed_se

    assert errors(2, 0.2)[1] == 0.0
    (quiet, _), (loud, of_seeds) = errors(3, 0.0), errors(3, 0.2)
    assert of_seeds == pytest.approx(0.2 / np.sqrt(3), rel=0.1)
    assert loud == pytest.approx(np.hypot(quiet, of_seeds), rel=0.1)


# who beats whom


def test_wins_are_counted_over_models_and_ties_are_within_the_noise() -> None:
    cells = [measured(m, t, level) for m, level in (("a", 0.5), ("b", 0.5), ("c", 0.2)) for t in "xy"]
    cells += [measured(m, "w", level, model=None) for m, level in (("a", 0.5), ("b", 0.8), ("c", 0.2))]  # type: ignore
    found = board_of(compare(collect(cells), ["a", "b", "c"]))
    assert found.wins is not None
    assert found.wins.blocks == ("w", "m")  # two tasks in one model are one block
    assert found.wins.shares[0] == (None, pytest.approx((0.5 + 0) / 2), 1.0)
    assert found.wins.shares[1] == (pytest.approx((0.5 + 1) / 2), None, 1.0)
    assert found.wins.borda[2] == 0


# what is written


def test_the_json_is_complete_and_plain(tmp_path: Path) -> None:
    results = collect(read_results([scorecard_folder(tmp_path, methods=3, tasks=4, clusters=30, models=4)]))
    found = compare(results, list(results.cards)).as_dict()
    assert json.loads(json.dumps(found)) == json.loads(json.dumps(found, allow_nan=False))
    board = next(board for board in found["boards"] if board["axis"] == "carries")
    assert len(board["pairs"]) == 3
    assert set(board["pairs"][0]) >= {"difference", "ci95", "p", "p_holm", "level", "n_units", "cells"}
    assert found["cost"]["variance"] == {"seconds": pytest.approx(0.1), "passes": pytest.approx(100)}


def test_a_comparison_fits_80_columns_and_shows_names_as_text(tmp_path: Path) -> None:
    results = collect(read_results([scorecard_folder(tmp_path, methods=12, tasks=4, clusters=30, models=2)]))
    names = ["integrated_gradients", "gradient_activation", "mean_difference"]
    out = io.StringIO()
    Console(width=80, file=out, color_system=None).print(compare(results, names))
    assert max(map(len, out.getvalue().splitlines())) <= 80
    assert "…" not in out.getvalue()
    assert out.getvalue().count("Cost a cell:") == 3
    assert "share of 2 models and worlds in which the row wins" in out.getvalue()
    evil = [measured(m, "x", 0.5) for m in ("[red]a[/red]", "<b>b</b>")]
    html = compare(collect(evil), ["[red]a[/red]", "<b>b</b>"])._repr_html_()
    assert "[red]a[/red]" in html
    assert "<b>" not in html


def test_the_command_prints_a_table_or_json_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nibench import cli

    folder = scorecard_folder(tmp_path, methods=2, tasks=2, clusters=30, models=1)
    command = ["nibench", "compare", "random_ranking", "variance", "--results", str(folder)]
    monkeypatch.setattr("sys.argv", [*command, "--json"])
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert not done.value.code
    assert json.loads(capsys.readouterr().out)["methods"] == ["random_ranking", "variance"]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit):
        cli.main()
    assert "A random_ranking, B variance" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (["a"], r"Got 1 method to compare; name two or more of: a, b, c"),
        (["a", "a"], "Got 1 method"),
        (["a", "probles"], "No method named 'probles'"),
        (["a", "bb"], "Did you mean 'b'"),
        (["a", "c"], "No cell where two of a, c have a score"),
    ],
)
def test_what_cannot_be_compared_is_one_line(asked: list[str], message: str) -> None:
    cells = [measured("a", "x", 0.5), measured("b", "x", 0.4), measured("c", "y", 0.4)]
    with pytest.raises(InputError, match=message):
        compare(collect(cells), asked)


# what a board says of itself


def test_a_board_says_what_it_resolves_in_the_terminal_and_on_the_page() -> None:
    cells = [measured(m, t, v) for m, v in (("a", 0.6), ("b", 0.5), ("c", 0.3)) for t in "xy"]
    results = collect(cells)
    board = carries_board(results)
    assert board.verdict is not None
    assert board.verdict.by == "flips"
    said = " ".join(as_text(headline_table(results)).split())
    assert "Bands by sign flips of 40 sentences, Holm over 3 pairs" in said
    assert "Smallest difference resolved: carries .0" in said
    assert (
        "the smallest difference it resolves is .0"
        in page_data(results, boards(results))["view"]["words"]["carries"]
    )


def test_few_models_say_how_many_pairs_they_can_tell_apart() -> None:
    values = {
        m: [level] * 3 + [level + 0.1] * 4 for m, level in zip("abcd", (0.1, 0.3, 0.5, 0.7), strict=True)
    }
    board = next(b for b in boards(collect(truth_cells(values))) if b.axis.id == "truth.carries")
    assert "sign flips of 7 models can tell at most 3 of 6 pairs of methods apart" in (
        verdict_words(board) or ""
    )
    assert board.rows[0].band == 1
    assert board.rows[-1].band == 4  # the paired intervals still can


def test_numbers_that_order_nothing_have_intervals_too() -> None:
    def cell(method: str, i: int) -> Record:
        rate = 0.1 * (i % 3) + (0.4 if method == "b" else 0)
        more = [score("gt.decoy", rate, 1 - 2 * rate, direction=-1), score("gt.ap[carries]", rate, rate)]
        scores: list[ScoreRecord] = [score("gt.ndcg[carries]", 0.5, 0.5), *more]
        return record(method, "a", f"m{i}", scores=scores, lineage=f"m{i}")

    results = collect([cell(m, i) for m in "ab" for i in range(6)])
    view = page_data(results, boards(results))["view"]
    value, low, high = view["beside"]["a"]["decoys"]
    assert low < value < high
    value, low, high = view["boards"]["truth.carries"]["b"][3]["AP"]
    assert low < value < high


# degenerate cells follow the conventions


def test_one_sentence_gives_a_value_and_no_interval() -> None:
    made, _ = with_sums(
        "abl.auc[interchange]", 0.5, np.array([5.0]), np.zeros((1, 1)), np.random.default_rng(0)
    )
    sums = {
        "abl.auc[interchange]/moved": np.full((1, 6), 5 * made.value),
        "abl.auc[interchange]/at_stake": [5.0],
    }
    arrays = {name: np.array(values) for name, values in sums.items()}
    row = carries_board(collect([Stored(record("a", "x", "m", scores=[made]), arrays)])).rows[0]
    assert (row.value, row.ci95, row.se) == (pytest.approx(made.value), None, None)


def test_methods_without_any_spread_cannot_be_told_apart_and_resolve_nothing() -> None:
    cells = [measured(m, "x", 0.5) for m in ("a", "b")]
    same = [
        Stored(c.record.model_copy(update={"scores": cells[0].record.scores}), cells[0].arrays) for c in cells
    ]
    board = carries_board(collect(same))
    assert [row.band for row in board.rows] == [1, 1]
    assert board.verdict is not None
    assert board.verdict.resolvable is None
    (pair,) = board_of(compare(collect(same), ["a", "b"])).pairs
    assert (pair.difference, pair.ci95, pair.p, pair.tally) == (0.0, (0.0, 0.0), 1.0, (0, 1, 0))
