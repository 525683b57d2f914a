"""A report in a terminal, in a notebook, and as a data frame: records made by hand, values one can check by hand."""

import csv
import io
import sys
from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import nibench as nb
from nibench.evaluation import evaluate
from nibench.leaderboard import build
from nibench.record import Cost, Record, write_record
from nibench.stored import Stored
from nibench.tables import tables
from tests.synthetic_records import record, results_folder, score

EVIL = "<script>alert(1)</script><b onclick='x'>[red]&\x1b[1m"
METRIC = "abl.auc[interchange]"


def with_sentences(method: str, shares: np.ndarray, **more: object) -> Stored:
    """A cell whose score is the mean share over 20 sentences of 4 items each; the ceiling is 1."""
    value = float(shares.mean())
    scored = score(METRIC, value, value, k=(1,), ceiling=1.0, details={"random": 0.0})
    arrays = {f"{METRIC}/moved": 4 * shares[:, None], f"{METRIC}/at_stake": np.full(20, 4.0)}
    return Stored(record(method, "a", "m1", scores=[scored], **more), arrays)


def report_of(folder: Path, cells: Sequence[Stored | Record]) -> nb.Report:
    for one in cells:
        stored = one if isinstance(one, Stored) else Stored(one)
        write_record(stored.record, stored.arrays, folder / "records")
    return nb.Report.read(folder)


@pytest.fixture
def by_hand(tmp_path: Path) -> nb.Report:
    """Four methods in one cell: .9 and .9 in one band, .2 in the next, a failure that counts as 0."""
    high, low = np.tile([0.85, 0.95], 10), np.full(20, 0.2)
    cost = Cost(seconds=1.5, forward=1000, backward=250, peak_memory_mb=1)
    cells = [
        with_sentences("first", high, cost=cost),
        with_sentences("same", high, card={"shares_estimand": ["carries"]}),
        with_sentences("worse", low),
        record("broken", "a", "m1", status="failed", reason="ValueError: no such layer"),
    ]
    return report_of(tmp_path, cells)


class Outline(HTMLParser):
    """What an HTML text is made of; every element that is opened is closed, in the right order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open, self.elements, self.attributes = list[str](), list[str](), list[str]()
        self.tables: list[list[list[str]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open.append(tag)
        self.elements.append(tag)
        self.attributes += [name for name, _ in attrs]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data


# in a notebook


def test_the_table_of_a_notebook_says_value_band_interval_and_what_failed(by_hand: nb.Report) -> None:
    found = Outline(by_hand._repr_html_())
    ((head, *rows),) = found.tables
    assert head == ["method", "claims", "carries", "decoys", "seconds", "passes"]
    cells = {row[0]: [cell.strip() for cell in row[1:]] for row in rows}
    assert cells["first"][1:3] == [".90", "1 .87 to .92"]
    assert cells["same"][1:3] == [".90", "1 .87 to .92 ="]
    assert cells["worse"][1:3] == [".20", "2 .20 to .20"]
    assert cells["broken failed*"][1] == ".00"
    assert cells["first"][5:8:2] == ["1.5", "1.5k"]  # a backward pass counts two
    assert "first best finds the neurons that carry a concept: .90 (.87 to .92)." in found.text
    assert "It is first in 50 % of resamples of sentences; it cannot be told apart from same." in found.text
    assert "Failed: broken on a (ValueError: no such layer)." in found.text


def test_every_board_is_in_the_notebook_the_others_folded(tmp_path: Path) -> None:
    report = nb.Report.read(results_folder(tmp_path, methods=3))
    found = Outline(report._repr_html_())
    first, others = (table[0] for table in found.tables)
    assert first[2:6] == ["truth: carries", "encodes", "carries", "required"]
    assert others[2:] == ["truth: required", "truth: responds", "truth: associated"]
    assert found.elements.count("details") == 1
    assert all(len(table) == 1 + 3 for table in found.tables)


def test_the_further_boards_leave_out_who_has_no_value_there(tmp_path: Path) -> None:
    shared, model = score("gt.ndcg[carries]", 0.5, 0.5), score("gt.ndcg[model]", 0.4, 0.4)
    cells = [record("a", scores=[shared, score("encodes", 0.5, 0.5), model]), record("b", scores=[shared])]
    report = report_of(tmp_path, cells)
    first, others = Outline(report._repr_html_()).tables
    assert [[row[0] for row in table] for table in (first, others)] == [["method", "a", "b"], ["method", "a"]]
    assert [table.row_count for table in tables(report.results)] == [2, 1]


def test_text_of_records_is_text_in_a_notebook(tmp_path: Path) -> None:
    scores = [score(METRIC, 0.5, 0.5), score("gt.ndcg[carries]", 0.5, 0.5)]
    card = {"claims": EVIL, "family": EVIL, "needs": []}
    cells = [
        record(method, EVIL, "m", scores=scores, card=card, versions={EVIL: EVIL}) for method in (EVIL, "x")
    ]
    cells.append(record("failing", EVIL, "m", status="failed", reason=EVIL, versions={EVIL: "1"}))
    report = report_of(tmp_path, cells)
    for shown in (report, report.compare(EVIL, "x")):
        html = shown._repr_html_()
        found = Outline(html)
        assert not {"script", "b", "img", "iframe", "link"} & set(found.elements)
        assert not [name for name in found.attributes if name.startswith("on") or name in ("src", "href")]
        assert "<script>alert(1)</script>" in found.text
        assert "http" not in html
        assert "\x1b" not in str(shown)


def test_a_report_without_a_score_says_so(tmp_path: Path) -> None:
    report = report_of(tmp_path, [record("lca", "a", "m", status="failed", reason="ValueError: no")])
    found = Outline(report._repr_html_())
    assert found.tables == []
    assert "No cell has a score yet." in found.text
    assert "Failed: lca on a (ValueError: no)." in found.text
    assert "1 failed cells count as random" in str(report)


def test_a_method_that_lacks_cells_is_grey_with_its_coverage(tmp_path: Path) -> None:
    cells = [
        record(m, t, "m", scores=[score(METRIC, 0.5, 0.5)]) for m, t in (("a", "x"), ("a", "y"), ("b", "x"))
    ]
    report = report_of(tmp_path, cells)
    rows = {row[0]: row for row in Outline(report._repr_html_()).tables[0]}
    assert rows["b"][3].strip() == "1/2"
    assert rows["a"][3].strip() == ""
    assert "Grey, not compared: b (1 of 2 cells of carries)." in " ".join(str(report).split())


def test_a_comparison_is_a_table_in_a_notebook(by_hand: nb.Report) -> None:
    html = by_hand.compare("first", "same", "worse")._repr_html_()
    found = Outline(html)
    head, carries = found.tables[1]
    assert head == ["", "A", "B", "A − B", "95 %", "p", "Holm", "won–tied–lost"]
    assert (*carries[:4], carries[-1]) == ("carries", ".90", ".20", "+.70", "1–0–0")
    assert len(found.tables) == 3 + 1  # three pairs, and who beats whom
    assert found.tables[3][0] == ["", "1", "2", "3"]
    assert found.tables[3][3] == ["3 worse", ".00", ".00", ""]
    assert "Carries, A wins: a · m1 +.70." in found.text


def test_a_real_notebook_shows_reports_comparisons_and_frames(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbclient is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    results = results_folder(tmp_path / "results", methods=3)
    sources = [
        f"import sys; sys.path.insert(0, {str(Path(nb.__file__).parent.parent)!r}); import nibench as nb",
        f"report = nb.Report.read({str(results)!r})\nreport",
        "report.compare('variance', 'mean_difference')",
        "report.to_pandas().head()",
        "print(report)",
        "import rich; rich.print(report)",
    ]
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    nbclient.NotebookClient(book, timeout=120, kernel_name="python3").execute(cwd=str(tmp_path))
    outputs = [cell.outputs for cell in book.cells]
    assert outputs[0] == []
    report, comparison, frame = (output[0]["data"] for output in outputs[1:4])
    assert Outline(report["text/html"]).tables[0][1][0] == "mean_difference"
    assert report["text/plain"].startswith("<Report: 21 cells of 3 methods, 0 failed, in")
    assert "variance" in Outline(comparison["text/html"]).text
    assert "text/html" in frame
    assert outputs[4][0]["text"].startswith("method")
    assert "mean_difference" in outputs[5][0]["data"]["text/plain"]


# in a terminal


def test_a_report_prints_itself_in_80_columns(by_hand: nb.Report) -> None:
    text = str(by_hand)
    assert max(map(len, text.splitlines())) <= 80
    assert "first          associated     –       – .90±.03        –      – 1.5" in text
    out = io.StringIO()
    Console(file=out, width=80, color_system=None).print(by_hand)
    assert out.getvalue() == text
    assert (
        repr(by_hand)
        == f"<Report: 4 cells of 4 methods, 1 failed, in {by_hand.folder}; print() shows the table>"
    )


# as a data frame


def test_the_frame_is_the_csv_with_types(tmp_path: Path) -> None:
    results = results_folder(tmp_path / "results")
    frame = nb.Report.read(results).to_pandas()
    build([results], tmp_path / "out")
    rows = list(csv.DictReader((tmp_path / "out" / "leaderboard.csv").read_text().splitlines()))
    assert list(frame.columns) == list(rows[0])
    assert len(frame) == len(rows)
    assert frame["metric"].fillna("").tolist() == [row["metric"] for row in rows]
    written = [float(row["value"]) if row["value"] else np.nan for row in rows]
    np.testing.assert_array_equal(frame["value"], written)
    assert frame["seed"].tolist() == [0] * len(rows)  # a count stays a count, also where others are missing
    assert str(frame["n_items"].dtype) == "Int64"
    best = frame[frame["metric"] == METRIC].groupby("method")["normalised"].mean().idxmax()
    assert best == "integrated_gradients"


def test_without_pandas_it_says_what_to_type(by_hand: nb.Report, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)  # as python marks what cannot be imported
    with pytest.raises(nb.InputError, match=r"needs pandas, which is not installed: pip install pandas$"):
        by_hand.to_pandas()


# from a folder


def test_a_folder_is_read_as_the_run_that_made_it_reported_it(tmp_path: Path) -> None:
    run = evaluate(["variance", "auc"], ["graded_noise_world"], out=tmp_path)
    again = nb.Report.read(str(tmp_path))
    assert again.records == run.records
    assert str(again) == str(run)
    assert "auc            associated" in str(again)


def test_a_folder_without_records_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(nb.InputError, match="No records in"):
        nb.Report.read(tmp_path)


def test_records_that_lost_their_arrays_are_one_line(by_hand: nb.Report) -> None:
    path = next((by_hand.folder / "records").glob("first*.npz"))
    path.unlink()
    with pytest.raises(nb.InputError, match="first--a--m1.*npz is gone: run the report's cells again"):
        by_hand.table()
