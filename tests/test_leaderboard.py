"""Boards, and what is written from them: records made by hand, numbers one can check by hand."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from nibench.boards import (
    Board,
    Row,
    boards,
    default_axis,
    home_advantage,
    interval_words,
    mean_cost,
    null_words,
    overlap,
)
from nibench.errors import InputError
from nibench.leaderboard import build, is_current, to_markdown
from nibench.levels import means
from nibench.record import Cost, Record, ScoreRecord, write_record
from nibench.resampling import lineage_weights, ratio_of, slope, task_weights
from nibench.results import collect
from nibench.stored import Stored, read_results
from nibench.submissions import names
from nibench.tables import as_text, headline_table, tables
from nibench.tidy import to_csv, to_parquet
from tests.synthetic_records import record, results_folder, score


def carries(value: float | None, **more: object) -> ScoreRecord:
    """A score of the *carries* axis; None has no scale."""
    return score("abl.auc[interchange]", 0.5 if value is None else value, value, **more)


def cell(method: str, task: str, model: str | None, value: float | None) -> Record:
    return record(method, task, model, scores=[carries(value)])


def board_of(records: Sequence[Record | Stored], axis: str = "carries") -> Board:
    return next(board for board in boards(collect(records)) if board.axis.id == axis)


def row_of(board: Board, method: str) -> Row:
    return next(row for row in board.rows if row.method == method)


# means


def test_the_mean_is_over_tasks_within_a_model_then_over_models() -> None:
    records = [cell("lca", "a", "m1", 0.2), cell("lca", "b", "m1", 0.4), cell("lca", "a", "m2", 0.9)]
    assert row_of(board_of(records), "lca").value == pytest.approx((0.3 + 0.9) / 2)


def test_seeds_make_one_cell() -> None:
    seeds = [record("lca", "a", "m1", seed=i, scores=[carries(v)]) for i, v in enumerate((0.1, 0.5))]
    row = row_of(board_of([*seeds, cell("lca", "b", "m1", 0.9)]), "lca")
    assert (row.value, row.covered) == (pytest.approx((0.3 + 0.9) / 2), 2)


def test_a_failed_cell_counts_as_zero_and_is_counted() -> None:
    failed = record("lca", "b", "m1", status="failed", reason="ValueError: no")
    records = [
        cell("lca", "a", "m1", 0.8),
        failed,
        cell("other", "a", "m1", 0.1),
        cell("other", "b", "m1", 0.1),
    ]
    row = row_of(board_of(records), "lca")
    assert (row.value, row.failed, row.complete) == (pytest.approx(0.4), 1, True)


def test_a_cell_that_does_not_apply_is_in_no_mean() -> None:
    absent = record("ablate", "b", "m1", status="not_applicable", reason="no behaviour")
    records = [
        cell("ablate", "a", "m1", 0.8),
        absent,
        cell("lca", "a", "m1", 0.1),
        cell("lca", "b", "m1", 0.3),
    ]
    row = row_of(board_of(records), "ablate")
    assert (row.value, row.covered, row.not_applicable, row.complete) == (pytest.approx(0.8), 1, 1, False)


def test_incomplete_rows_come_after_complete_ones_and_are_not_compared() -> None:
    records = [cell("lca", task, "m1", 0.1) for task in "abc"] + [cell("new", "a", "m1", 0.9)]
    board = board_of(records)
    assert [row.method for row in board.rows] == ["lca", "new"]
    assert row_of(board, "new").missing == 2
    assert row_of(board, "new").band is None


def test_a_cell_without_a_scale_is_left_out_for_everybody_and_listed() -> None:
    records = [cell(m, "a", "m1", 0.4) for m in ("lca", "other")] + [
        cell(m, "b", "m1", None) for m in ("lca", "other")
    ]
    board = board_of(records)
    assert [place.task for place in board.left_out] == ["b"]
    assert [row.value for row in board.rows] == [pytest.approx(0.4)] * 2


def test_axes_are_never_averaged() -> None:
    both = record("lca", "a", "m1", scores=[carries(0.2), score("encodes", 0.9, 0.9)])
    assert [(b.axis.id, b.rows[0].value) for b in boards(collect([both]))] == [
        ("encodes", 0.9),
        ("carries", 0.2),
    ]


def test_the_table_is_ordered_by_truth_of_carries_where_it_is_known() -> None:
    known = record("lca", "a", "m1", scores=[carries(0.2), score("gt.ndcg[carries]", 0.9, 0.9)])
    unknown = record("lca", "a", "m1", scores=[carries(0.2), score("encodes", 0.9, 0.9)])
    assert default_axis(boards(collect([known]))) == "truth.carries"
    assert default_axis(boards(collect([unknown]))) == "carries"


def test_adding_a_method_changes_no_other_row() -> None:
    rng = np.random.default_rng(0)
    records = [cell(m, t, "m1", float(rng.random())) for m in ("lca", "probeless") for t in "abcd"]
    more = [cell("better", task, "m1", 1.5) for task in "abcd"]
    alone, together = board_of(records), board_of([*records, *more])
    for method in ("lca", "probeless"):
        before, after = row_of(alone, method), row_of(together, method)
        assert (before.value, before.ci95, before.covered) == (after.value, after.ci95, after.covered)


def test_a_board_of_some_places_shows_these_only() -> None:
    results = collect([cell("lca", "a", "m1", 0.2), cell("lca", "b", "m1", 0.4), cell("lca", "a", "m2", 0.6)])
    a_m1, b_m1, a_m2 = sorted(results.places)
    assert boards(results, [b_m1])[0].rows[0].value == pytest.approx(0.4)
    assert boards(results, [a_m2])[0].rows[0].value == pytest.approx(0.6)
    assert boards(results, [a_m1, b_m1])[0].rows[0].value == pytest.approx(0.3)
    assert boards(results, []) == ()


# intervals, bands


def test_few_tasks_give_no_interval_and_no_band() -> None:
    board = board_of([cell(m, t, "m1", v) for m, v in (("lca", 0.9), ("other", 0.1)) for t in "ab"])
    assert board.resampled == "nothing"
    assert [(row.ci95, row.band) for row in board.rows] == [(None, None)] * 2


def test_resampled_tasks_weigh_models_alike() -> None:
    weights = task_weights(["m1", "m1", "m1", "m2"])
    assert np.allclose(weights.sum(axis=1), 1)
    assert np.allclose(weights[:, 3], 0.5)


def test_methods_that_differ_everywhere_are_in_different_bands_and_equal_ones_are_not() -> None:
    values = {"best": (0.9, 0.8, 0.7, 0.9), "same": (0.8, 0.9, 0.7, 0.9), "worst": (0.2, 0.1, 0.1, 0.2)}
    board = board_of(
        [cell(m, t, "m1", v) for m, vs in values.items() for t, v in zip("abcd", vs, strict=True)]
    )
    assert {row.method: row.band for row in board.rows} == {"best": 1, "same": 1, "worst": 2}
    assert sum(row.p_first or 0 for row in board.rows) == pytest.approx(1)
    assert row_of(board, "worst").p_first == 0


def test_comparison_is_paired() -> None:
    """Tasks differ far more than methods do, yet one method is better on every task."""
    levels = np.linspace(0, 0.9, 8)
    records = [cell("a", f"t{i}", "m1", v + 0.02) for i, v in enumerate(levels)]
    records += [cell("b", f"t{i}", "m1", v) for i, v in enumerate(levels)]
    a, b = board_of(records).rows
    assert a.ci95 is not None
    assert b.value is not None
    assert a.ci95[0] < b.value
    assert (a.band, b.band) == (1, 2)


def test_a_difference_that_two_decimals_do_not_show_tells_nobody_apart() -> None:
    records = [
        cell(m, f"t{i}", "m1", v) for m, v in (("a", 0.904), ("b", 0.9), ("c", 0.89)) for i in range(4)
    ]
    assert [(row.method, row.band) for row in board_of(records).rows] == [("a", 1), ("b", 1), ("c", 2)]


def with_sentences(method: str, shares: np.ndarray) -> Stored:
    """A cell whose score is the share of items right, with 20 sentences of 4 items each."""
    hits = 4 * shares[:, None]
    value = float(shares.mean())
    scored = score("abl.auc[interchange]", value, value / 0.5, k=(1,), ceiling=0.5, details={"random": 0.0})
    arrays = {"abl.auc[interchange]/moved": hits, "abl.auc[interchange]/at_stake": np.full(20, 4.0)}
    return Stored(record(method, "a", "m1", scores=[scored]), arrays)


def test_intervals_come_from_sentences_where_every_record_holds_them() -> None:
    shares = np.tile([0.0, 0.5], 10)
    board = board_of([with_sentences("lca", shares), with_sentences("zero", 0 * shares)])
    assert board.resampled == "sentences"
    low, high = row_of(board, "lca").ci95 or (0, 0)
    assert low == pytest.approx(0.5 - 1.96 * 0.5 / np.sqrt(20), abs=0.05)  # sd .5 on the scale of the ceiling
    assert high == pytest.approx(0.5 + 1.96 * 0.5 / np.sqrt(20), abs=0.05)
    assert row_of(board, "zero").ci95 == (0, 0)


# the truth: one column per claim


def truth_cell(
    method: str, place: tuple[str, str | None], value: float, claim: str = "carries", **more
) -> Record:
    task, model = place
    metric = score(f"gt.ndcg[{claim}]", value, value, chance=0.0, ceiling=1.0)
    card = {"claims": claim, **more.pop("card", {})}
    return record(method, task, model, scores=[metric, *more.pop("scores", ())], card=card, **more)


def planted(values: dict[str, Sequence[float]], n: int, **more) -> list[Record]:
    """Each method's values on n glass-boxes and their twins, in turn."""
    return [
        truth_cell(method, ("a", f"m{i // 2}{'-twin' * (i % 2)}"), v, lineage=f"m{i // 2}", **more)
        for method, vs in values.items()
        for i, v in enumerate(vs[: 2 * n])
    ]


def test_intervals_of_the_truth_come_from_models_a_twin_drawn_with_its_glass_box() -> None:
    alternating = [0.2, 0.8] * 4  # glass-boxes low, twins high: no spread between pairs
    board = board_of(
        planted({"lca": alternating, "other": [0.2, 0.2, 0.4, 0.4, 0.6, 0.6, 0.8, 0.8]}, 4), "truth.carries"
    )
    assert (board.resampled, board.n_lineages) == ("models", 4)
    low, high = row_of(board, "lca").ci95 or (0, 0)
    assert (low, high) == (pytest.approx(0.5), pytest.approx(0.5))
    low, high = row_of(board, "other").ci95 or (0, 0)
    assert 0.2 <= low < 0.35
    assert 0.65 < high <= 0.8
    assert "95 % intervals from resampled truth models (4 models)" in interval_words(board)


@pytest.mark.parametrize(("n", "words"), [(1, "one model: no interval"), (3, "3 models: no interval")])
def test_few_truth_models_give_no_interval(n: int, words: str) -> None:
    board = board_of(planted({"lca": [0.1, 0.5] * 4}, n), "truth.carries")
    assert row_of(board, "lca").ci95 is None
    assert words in interval_words(board)


def test_worlds_are_planted_each_by_itself() -> None:
    board = board_of([truth_cell("lca", (f"w{i}", None), i / 4) for i in range(4)], "truth.carries")
    assert (board.resampled, board.n_lineages) == ("models", 4)


def test_a_model_with_more_cells_weighs_as_much_as_another() -> None:
    weights = lineage_weights(["m1", "m1", "m1", "m2"], ["m1", "m1", "m1", "m2"])
    assert np.allclose(weights.sum(axis=1), 1)
    assert np.allclose(weights[:, 0], weights[:, 1])
    assert set(np.round(weights[:, 3], 6)) == {0.0, 0.5, 1.0}  # drawn never, once, twice


def test_a_method_is_told_apart_from_its_claim_and_a_neighbour_s() -> None:
    records = [
        truth_cell("lca", ("a", "m"), 0.9, "carries", card={"claims": "associated"}),
        truth_cell("own", ("a", "m"), 0.8, "carries", card={"claims": "carries"}),
        truth_cell("none", ("a", "m"), 0.1, "carries", card={"claims": "none", "needs": ["ACTIVATIONS"]}),
    ]
    board = board_of(records, "truth.carries")
    assert [(row.method, row.own) for row in board.rows] == [("lca", False), ("own", True), ("none", False)]
    lines = to_markdown(collect(records)).splitlines()
    assert lines[2].startswith("| lca | associated | (.90) |")
    assert lines[3].startswith("| own | carries | .80 |")
    assert row_of(board_of([cell("lca", "a", "m", 0.5)]), "lca").own is None  # other axes ask for no claim


def test_gains_are_over_the_best_that_sees_no_label_on_the_same_cells() -> None:
    blind = {"card": {"needs": ["ACTIVATIONS"], "claims": "none"}}
    records = [truth_cell("variance", (t, "m"), v, **blind) for t, v in (("a", 0.2), ("b", 0.6))]
    records += [truth_cell("kurtosis", (t, "m"), v, **blind) for t, v in (("a", 0.3), ("b", 0.3))]
    records += [truth_cell("lca", (t, "m"), v) for t, v in (("a", 0.5), ("b", 0.9))]
    records += [truth_cell("half", ("b", "m"), 0.5)]
    board = board_of(records, "truth.carries")
    assert board.blind == "variance"
    gains = {row.method: row.gain.value for row in board.rows if row.gain}
    assert gains == {
        k: pytest.approx(v) for k, v in (("lca", 0.3), ("half", -0.1), ("variance", 0), ("kurtosis", -0.1))
    }


def test_the_oracle_is_shown_on_the_scale_of_the_methods() -> None:
    metric = score("gt.ndcg[carries]", 0.6, 0.5, chance=0.2, ceiling=1.0, details={"oracle": 0.8})
    board = board_of([record("lca", "a", "m", scores=[metric])], "truth.carries")
    assert board.oracle is not None
    assert board.oracle.value == pytest.approx((0.8 - 0.2) / 0.8)
    assert (board.oracle.ci95, board.oracle.level) == (None, "nothing")
    assert board_of([truth_cell("lca", ("a", "m"), 0.5)], "truth.carries").oracle is None


def test_energy_and_average_precision_stand_beside_the_value() -> None:
    more = [score("gt.energy[carries]", 0.5, 0.7), score("gt.ap[carries]", 0.5, 0.3)]
    board = board_of([truth_cell("lca", ("a", "m"), 0.5, scores=more)], "truth.carries")
    beside = {name: one.value for name, one in row_of(board, "lca").beside.items()}
    assert beside == {"energy": pytest.approx(0.7), "AP": pytest.approx(0.3)}


def test_a_null_names_who_claims_too_much_and_enters_no_mean() -> None:
    def null(method: str, claims: str, share: float) -> Record:
        moved = score("null.share", share, direction=-1)
        return record(method, "null_task", "m", scores=[moved], card={"claims": claims})

    values = (
        ("a", "carries", 0.2),
        ("b", "required", 0.04),
        ("c", "associated", 0.9),
        ("d", "required", 0.06),
    )
    records = [null(*one) for one in values] + [truth_cell("a", ("t", "m"), 0.5)]
    assert [line.partition(", yet ")[2][:1] for line in null_words(collect(records))] == ["a", "d"]
    assert row_of(board_of(records, "truth.carries"), "a").value == 0.5
    assert "its first eight move .20 of the margin" in to_markdown(collect(records))


def test_statistics_that_do_not_add_up_to_the_score_are_not_used() -> None:
    stored = with_sentences("lca", np.tile([0.0, 0.5], 10))
    arrays = {name: values * (2 if name.endswith("moved") else 1) for name, values in stored.arrays.items()}
    assert ratio_of(stored.record, stored.arrays, "abl.auc[interchange]") is not None
    assert ratio_of(stored.record, arrays, "abl.auc[interchange]") is None


def test_the_scale_of_a_score_is_read_from_its_two_ends() -> None:
    ends = score("encodes", 0.7, 0.5, ceiling=0.9, chance=0.3, details={"random": 0.5})
    assert slope(ends) == pytest.approx(1 / 0.4)
    assert slope(score("encodes", 0.7, 0.5)) is None


# what may share a board


@pytest.mark.parametrize(("what", "other"), [("task", "b"), ("data", "b"), ("model", "b"), ("method", "a")])
def test_records_of_different_versions_are_refused_by_name(what: str, other: str) -> None:
    first = record("lca", "a", "m1", scores=[carries(0.1)])
    second = record("lca" if what == "method" else "mine", "a", "m1", seed=1, digests={what: "another"})
    with pytest.raises(
        InputError, match=f"two versions of the {what} cannot share a board.*--a--m1.*another"
    ):
        collect([first, second])


def test_the_same_cell_of_another_version_of_the_suite_is_refused() -> None:
    with pytest.raises(InputError, match="nibench 0.1.0 and 0.2.0"):
        collect([record("lca", "a", "m1"), record("lca", "a", "m1", versions={"nibench": "0.2.0"})])


def test_a_record_given_twice_counts_once() -> None:
    assert row_of(board_of([cell("lca", "a", "m1", 0.2)] * 2), "lca").covered == 1


def test_a_record_of_another_schema_is_refused(tmp_path: Path) -> None:
    path = write_record(cell("lca", "a", "m1", 0.2), {}, tmp_path / "records")
    path.write_text(path.read_text().replace('"schema_version": 1', '"schema_version": 99'))
    with pytest.raises(InputError, match="record schema 99"):
        read_results([tmp_path])


def test_one_method_with_two_settings_is_two_rows() -> None:
    records = []
    for k in (1, 2):
        made = cell("lca", "a", "m1", k / 10)
        records.append(
            made.model_copy(update={"cell": made.cell.model_copy(update={"parameters": {"k": k}})})
        )
    assert [row.method for row in board_of(records).rows] == ['lca {"k": 2}', 'lca {"k": 1}']


def test_models_of_one_name_in_two_folders_are_two_models() -> None:
    results = collect([cell("lca", "a", "x/m", 0.2), cell("lca", "a", "y/m", 0.4)])
    assert results.models == ("x/m", "y/m")


# beside the boards


def test_home_advantage_is_marked() -> None:
    axes = {board.axis.id: board.axis for board in boards(collect([_everything()]))}
    ablation = record("a", card={"family": "ablation", "shares_estimand": ["required"]}).card
    assert home_advantage(ablation, axes["required"]) == "shares the estimand"
    assert home_advantage(ablation, axes["carries"]) is None
    assert home_advantage(record("lca").card, axes["encodes"]) == "home advantage"


def _everything() -> Record:
    names = ("encodes", "abl.auc[interchange]", "abl.auc[mean]", "gt.ndcg[carries]")
    return record("lca", scores=[score(name, 0.5, 0.5) for name in names])


def test_a_backward_pass_counts_two() -> None:
    cost = Cost(seconds=1.5, forward=100, backward=50, peak_memory_mb=1)
    results = collect([record("lca", "a", "m1", cost=cost)])
    assert mean_cost(results, "lca", results.places) == (1.5, 200)


def test_overlap_of_methods_is_corrected_for_chance() -> None:
    up, down = np.arange(100.0), -np.arange(100.0)
    stored = [Stored(record(m, "a", "m1"), {"scores": s}) for m, s in (("a", up), ("b", up), ("c", down))]
    methods, found = overlap(collect(stored))
    assert methods == ["a", "b", "c"]
    assert found.values[0, 1] == pytest.approx(1)
    assert found.values[0, 2] == pytest.approx((0 - 1) / (10 - 1))  # ten of a hundred: one expected by chance
    assert np.isnan(found.low).all()


def test_means_of_what_has_no_sums_weigh_models_alike_and_vary_over_tasks() -> None:
    records = [cell("a", f"t{i}", "m1", 0.5) for i in range(4)] + [cell("a", "t0", "m2", 0.5)]
    results = collect(records)
    values = np.array(
        [[1.0, 5.0], [2.0, np.nan], [3.0, np.nan], [4.0, 1.0], [9.0, np.nan]]
    )  # m1 t0..t3, m2 t0
    order = [[p.model for p in results.places].index("m2")]
    places = [p for p in results.places if p.model == "m1"] + [results.places[order[0]]]
    found = means(results, places, values, of_truth=False)
    assert found.values == pytest.approx([(2.5 + 9) / 2, 3.0])
    assert found.level == "tasks"
    assert 5.0 <= found.low[0] < 5.5 < 6.0 < found.high[0] <= 6.5  # m2 has one task: it cannot vary
    assert np.isnan(found.low[1])  # known in two tasks only
    assert means(results, places[:2], values[:2], of_truth=False).level == "nothing"
    assert means(results, (), np.empty((0, 0)), of_truth=True).values.shape == (0,)


# what is written


def test_the_markdown_has_a_row_per_method_with_interval_band_and_small_print(tmp_path: Path) -> None:
    text = to_markdown(collect(read_results([results_folder(tmp_path)])))
    lines = text.splitlines()
    assert lines[0].startswith("| method | claims | truth: carries | encodes | carries | required |")
    assert lines[2].startswith(
        "| integrated\\_gradients | required | (."
    )  # it does not claim that they carry
    assert "| **.83 [.80, .86]** |" in lines[2]
    assert len([line for line in lines if line.startswith("| ")]) == 2 + 12
    assert "Failed, counts as random: linear\\_l2 on tense\\_glass (did not converge in 30 s)." in text


EVIL = "<b>|x|</b>\n[y](z)[red]!\x1b[1m"


def evil_records() -> list[Record]:
    """Every text that a board shows is an attack, also where a vocabulary is expected."""
    known = score("gt.ndcg[carries]", 0.5, 0.5)
    card = {"claims": EVIL, "family": EVIL, "needs": []}
    made = record(
        EVIL, EVIL, f"models/{EVIL}", scores=[carries(0.5), known], card=card, versions={EVIL: EVIL}
    )
    failed = record("lca", EVIL, f"models/{EVIL}", status="failed", reason=EVIL, versions={EVIL: "1"})
    return [made, failed]


def test_markup_in_a_record_is_text_in_the_markdown() -> None:
    text = to_markdown(collect(evil_records()))
    assert "&lt;b&gt;\\|x\\|&lt;/b&gt; \\[y\\](z)" in text
    assert "<b>" not in text
    assert "[y](z)" not in text.replace("\\[", "").replace("\\]", "")
    assert "were made with 2 versions" in text  # the note names a package as the record does


def test_the_csv_is_tidy_and_holds_every_score_and_cost() -> None:
    cost = Cost(seconds=1.5, forward=100, backward=50, peak_memory_mb=1)
    records = [record("lca", "a", "m1", scores=[carries(0.25, ci95=(0.1, 0.4))], cost=cost)]
    records += [record("lca", "b", "m1", status="failed", reason="=1+1")]
    rows = list(csv.DictReader(io.StringIO(to_csv(collect(records)))))
    assert [row["metric"] for row in rows] == [
        *("abl.auc[interchange]", "cost.seconds", "cost.feq", "cost.peak_memory_mb", "")
    ]
    assert (rows[0]["normalised"], rows[0]["ci95_low"], rows[2]["value"]) == ("0.25", "0.1", "200.0")
    assert (rows[4]["status"], rows[4]["reason"]) == ("failed", "'=1+1")  # no formula for a spreadsheet


def test_the_parquet_file_is_the_csv_with_types(tmp_path: Path) -> None:
    results = collect(read_results([results_folder(tmp_path)]))
    table = parquet.read_table(io.BytesIO(to_parquet(results)))
    text = csv.DictReader(io.StringIO(to_csv(results)))
    assert table.column_names == text.fieldnames
    rows = list(text)
    assert table.num_rows == len(rows) > 12
    for name, field in zip(table.column_names, table.schema, strict=True):
        as_type = {"int64": int, "double": float, "string": str}[str(field.type)]
        absent = "" if as_type is str else None
        values = [absent if value is None else value for value in table[name].to_pylist()]
        assert values == [as_type(row[name]) if row[name] else absent for row in rows], name
    assert {str(table.schema.field(name).type) for name in ("seed", "n_items", "direction")} == {"int64"}
    assert {str(table.schema.field(name).type) for name in ("value", "ci95_low")} == {"double"}


def test_text_stands_in_the_parquet_file_as_in_the_record() -> None:
    failed = record("lca", "b", None, status="failed", reason="=1+1")
    table = parquet.read_table(io.BytesIO(to_parquet(collect([failed]))))
    assert table.num_rows == 1
    assert table["reason"].to_pylist() == ["=1+1"]
    assert table["model"].to_pylist() == table["value"].to_pylist() == [None]


def test_the_terminal_table_fits_80_columns(tmp_path: Path) -> None:
    text = as_text(headline_table(collect(read_results([results_folder(tmp_path)]))))
    assert max(map(len, text.splitlines())) <= 80
    assert "integrated_gradients required     .7" in text
    assert "linear_l2 failed*" in text
    assert "…" not in text


def test_the_terminal_tables_show_text_of_records_as_text() -> None:
    shown = tables(collect(evil_records()))
    text = "".join(map(as_text, shown))
    assert text.count("[y](z)") > 2
    assert "[red]!" in text
    assert "\x1b" not in text


def test_every_board_is_in_one_of_the_terminal_tables(tmp_path: Path) -> None:
    results = collect(read_results([results_folder(tmp_path, methods=3)]))
    text = "".join(map(as_text, tables(results)))
    heads = [
        " ".join(line.split()) for line in text.splitlines() if line.lstrip().startswith(("method", "truth:"))
    ]
    assert heads == [
        "method claims truth encodes carries required decoys sec",
        "truth: truth: truth:",
        "method claims required responds associated",
    ]
    assert max(map(len, text.splitlines())) <= 80


def test_records_without_a_score_make_an_empty_table() -> None:
    failed = record("lca", "a", "m1", status="failed", reason="ValueError: no")
    (table,) = tables(collect([failed]))
    assert "lca failed*" in as_text(table)  # what failed is never missing, also where it was run alone
    (empty,) = tables(collect([record("lca", "a", "m1", status="not_applicable", reason="no labels")]))
    assert empty.row_count == 0
    assert "1 failed cells count as random" in as_text(table)


def test_build_writes_four_files_and_nothing_twice(tmp_path: Path) -> None:
    results = results_folder(tmp_path / "results", methods=2)
    page = build([results], tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *("index.html", "leaderboard.csv", "leaderboard.md", "leaderboard.parquet")
    ]
    written = page.stat().st_mtime_ns
    assert build([results], tmp_path / "out") == page
    assert page.stat().st_mtime_ns == written
    write_record(cell("new", "number_glass", "glass-s", 0.1), {}, results / "records")
    build([results], tmp_path / "out")
    assert page.stat().st_mtime_ns != written


def test_a_file_that_is_gone_is_written_again(tmp_path: Path) -> None:
    results = results_folder(tmp_path / "results", methods=2)
    build([results], tmp_path / "out")
    (tmp_path / "out" / "leaderboard.parquet").unlink()
    build([results], tmp_path / "out")
    assert (tmp_path / "out" / "leaderboard.parquet").exists()


def test_equal_records_make_equal_files(tmp_path: Path) -> None:
    results = results_folder(tmp_path / "results", methods=3)
    one, two = (build([results], tmp_path / name).parent for name in ("one", "two"))
    files = sorted(path.name for path in one.iterdir())
    assert [(one / name).read_bytes() for name in files] == [(two / name).read_bytes() for name in files]


def test_no_records_is_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No records in"):
        build([tmp_path], tmp_path / "out")


def test_the_committed_page_is_that_of_the_committed_records_and_of_this_code() -> None:
    """Otherwise: make leaderboard, and commit what it wrote."""
    board = Path(__file__).parent.parent / "leaderboard"
    assert is_current([board], board)
    held = {stored.record.cell.method for stored in read_results([board / "records" / "default.tar.xz"])}
    assert held == set(names("methods"))
