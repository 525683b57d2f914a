"""The page: text stays text, it stands alone, and it does what it says in a real browser."""

import html
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from nibench.leaderboard import build
from nibench.page import render
from nibench.record import Record
from nibench.results import Stored, collect
from nibench.wording import count, listed, number, seconds
from tests.synthetic_records import METHODS, record, results_folder, score

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parent.parent
EVIL = "<script>alert(1)</script>"
ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]


def evil_page() -> str:
    """A page of one record in which every text is an attack."""
    scores = [score(name, 0.5, 0.5) for name in ("encodes", "abl.auc[interchange]", "gt.ndcg[carries]")]
    card = {
        "family": EVIL,
        "claims": EVIL,
        "needs": [EVIL],
        "paper": f"javascript:alert(1) {EVIL}",
        "summary": EVIL,
    }
    texts = {"top": [EVIL], "flags": [EVIL], "notes": [EVIL], "command": f"nibench {EVIL} <!--"}
    made = record(EVIL, EVIL, f"models/{EVIL}", scores=scores, card=card, **texts)
    failed = record("lca", EVIL, f"models/{EVIL}", status="failed", reason=f"ValueError: </script>{EVIL}")
    return render(collect([made, failed]), "0" * 64)


def embedded(page: str) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found.group(1))


# without a browser


def test_text_of_records_is_never_markup() -> None:
    page = evil_page()
    assert "<script>alert" not in page
    assert "<!--" not in re.sub(r'<script type="module">.*?</script>', "", page, flags=re.DOTALL)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert EVIL in embedded(page)["methods"]


def test_a_link_goes_to_the_web_or_nowhere() -> None:
    papers = {"a": "A, 2020. https://example.org/a.", "b": "javascript:alert(1)", "c": ""}
    records = [
        record(m, card={"paper": paper}, scores=[score("encodes", 0.5, 0.5)]) for m, paper in papers.items()
    ]
    methods = embedded(render(collect(records), "0" * 64))["methods"]
    assert {m: card["link"] for m, card in methods.items()} == {
        "a": "https://example.org/a",
        "b": None,
        "c": None,
    }


def test_the_page_stands_alone(tmp_path: Path) -> None:
    page = build([results_folder(tmp_path, methods=2)], tmp_path / "out").read_text()
    without_scripts = re.sub(r'<script type="module">.*?</script>', "", page, flags=re.DOTALL)
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", without_scripts)
    policy = html.unescape(page[: page.index("<title>")])
    assert "default-src 'none'; script-src 'sha256-" in policy
    assert "unsafe-eval" not in policy
    assert len(page) < 1_500_000


def test_the_table_is_there_without_javascript(tmp_path: Path) -> None:
    page = build([results_folder(tmp_path)], tmp_path / "out").read_text()
    table = page[page.index('<table id="board">') : page.index("</table>")]
    assert table.count('<th scope="row">') == 12
    assert table.count('aria-sort="descending"') == 1
    assert 'title="shares the estimand"' in table


def test_a_board_without_scores_says_so() -> None:
    failed = record("lca", status="failed", reason="ValueError: no")
    assert "No cell has a score yet." in render(collect([failed]), "0" * 64)


def test_not_a_number_becomes_nothing() -> None:
    scores = [score("encodes", float("nan")), score("gt.decoy", float("nan"), direction=-1)]
    data = embedded(render(collect([record("lca", scores=scores)]), "0" * 64))
    assert data["views"]["\t"]["beside"]["lca"]["decoys"] is None


def test_the_first_neurons_are_counted_up_to_as_many_as_are_right() -> None:
    anatomy = {"4": {"used": 3.0, "decoy": 1.0}, "10": {"used": 4.0, "background": 6.0}}
    scores = [score("encodes", 0.5, 0.5), score("gt.anatomy", 4, direction=0, details={"anatomy": anatomy})]
    data = embedded(render(collect([record("lca", scores=scores)]), "0" * 64))
    assert data["views"]["\t"]["beside"]["lca"]["anatomy"] == {
        "used": [0.75, None, None],
        "decoy": [0.25, None, None],
    }


def test_what_no_sentences_are_kept_of_varies_over_the_truth_models() -> None:
    rng = np.random.default_rng(0)
    made = []
    for model, used in zip("abcd", (1.0, 2.0, 3.0, 4.0), strict=True):
        anatomy = {"4": {"used": used, "decoy": 4 - used}}
        details = {"random": 0.0, "oracle": 0.6 + used / 10}
        scores = [
            score("gt.ndcg[carries]", 0.5, 0.5, chance=0.0, ceiling=1.0, details=details),
            score("gt.anatomy", 4, direction=0, details={"anatomy": anatomy}),
        ]
        for method in ("lca", "auc"):
            one = record(method, model=model, scores=scores, tier="glass-box", lineage=model)
            made.append(Stored(one, {"scores": rng.random(64)}))
    page = render(collect(made), "0" * 64)
    data = embedded(page)
    view = data["views"]["\t"]
    share, low, high = view["beside"]["lca"]["anatomy"]["used"]
    assert share == pytest.approx(0.625)
    assert 0.25 <= low < 0.5 < 0.75 < high <= 1
    oracle, least, most = view["oracle"]["truth.carries"]
    assert oracle == pytest.approx(0.85)
    assert 0.7 <= least < 0.8 < 0.9 < most <= 1
    assert f'>{number(oracle)}<span class="range">{number(least)} to {number(most)}</span>' in page
    assert data["agreement_level"] == "tasks"  # four models are too few for what needs no truth
    (low, high), value = data["agreement"][0]["ends"][1], data["agreement"][0]["values"][1]
    assert low <= value <= high
    assert f'title="{number(low)} to {number(high)}"' in page
    few = embedded(render(collect(made[:4]), "0" * 64))
    assert few["agreement_level"] == "nothing"
    assert few["agreement"][0]["ends"][1] == [None, None]


def truth(method: str, value: float, claims: str) -> Record:
    metric = score("gt.ndcg[carries]", value, value, chance=0.0, ceiling=1.0, details={"oracle": 0.97})
    return record(method, scores=[metric], card={"claims": claims}, tier="glass-box", lineage="g")


def test_what_is_not_claimed_is_marked_and_nobody_is_right_for_a_neighbour_s_claim() -> None:
    page = render(collect([truth("near", 0.9, "required"), truth("own", 0.7, "carries")]), "0" * 64)
    table = page[page.index("<tbody>") : page.index("</tbody>")]
    rows = dict(
        re.findall(
            r'<tr data-method="(\w+)">.*?<td data-key="truth.carries" class="([^"]+)"', table, re.DOTALL
        )
    )
    assert rows == {"near": "axis unclaimed", "own": "axis"}
    text = html.unescape(page[: page.index("<main>")])
    assert (
        "near best finds the neurons that are known to carry a concept: .90. Its card claims something else: required."
        in text
    )
    assert "Of those that claim it, first by the truth: own (carries, .70)." in text


def test_the_exact_oracle_has_a_row_where_it_is_known() -> None:
    known = render(collect([truth("own", 0.7, "carries")]), "0" * 64)
    foot = known[known.index("<tfoot>") : known.index("</tfoot>")]
    assert re.search(r'data-oracle="truth.carries"[^>]*>.97<', foot)
    assert "<tfoot>" not in render(collect([record("lca", scores=[score("encodes", 0.5, 0.5)])]), "0" * 64)


def test_studies_are_on_the_page_where_the_records_can_tell() -> None:
    scores = {m: i / 5 for i, m in enumerate("abcd")}
    made = [
        Stored(one.model_copy(update={"arrays": ""}), {"scores": np.random.default_rng(i).random(64)})
        for i, one in enumerate(truth(m, value, "carries") for m, value in scores.items())
    ]
    page = render(collect(made), "0" * 64)
    assert 'id="study-agreement"' in page
    assert 'id="study-transfer"' not in page  # one tier only: nothing to compare
    assert 'id="study-' not in render(collect([record("lca", scores=[score("encodes", 0.5, 0.5)])]), "0" * 64)


def test_numbers_are_written_in_one_way() -> None:
    assert [number(x) for x in (0.824, -0.05, 1.0, -0.001, None)] == [
        ".82",
        "−.05",
        "1.00",
        ".00",
        "–",
    ]
    assert [number(x) for x in (0.125, 0.745, -0.125, 0.7449999)] == [
        ".13",
        ".74",
        "−.13",
        ".74",
    ]  # as in JavaScript
    assert [seconds(x) for x in (0.001, 0.41, 2.84, 130.2)] == ["<.01", ".41", "2.8", "130"]
    assert [listed(x) for x in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]
    assert listed("abcdef") == "a, b, c, d and 2 more"
    assert [count(x) for x in (0, 999, 4096, 1234567)] == ["0", "999", "4.1k", "1235k"]


# in a browser


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on this machine (apt-get install chromium)")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield started
        started.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("board")
    return build([results_folder(folder)], folder / "out").as_uri()


@pytest.fixture
def page(browser: "Browser", address: str) -> Iterator["Page"]:
    """The page, drawn; fails the test for anything on the console and any request but the file itself."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    told: list[str] = []
    opened.on("console", lambda message: told.append(message.text))
    opened.on("pageerror", lambda error: told.append(str(error)))
    opened.on("request", lambda request: told.append(request.url) if request.url != address else None)
    opened.goto(address)
    opened.wait_for_selector("#plane[data-drawn]")
    yield opened
    context.close()
    assert told == []


def methods_of(page: "Page") -> list[str]:
    return page.eval_on_selector_all(
        "#board tbody tr:not([hidden])", "rows => rows.map(r => r.dataset.method)"
    )


def cell_of(page: "Page", method: str, key: str) -> str:
    return page.inner_text(f'tr[data-method="{method}"] td[data-key="{key}"]')


def heading(key: str) -> str:
    return f'#board th[data-key="{key}"] button'


def test_the_script_writes_the_numbers_that_stand_in_the_html(
    page: "Page", browser: "Browser", address: str
) -> None:
    numbers = "cells => cells.map(c => c.textContent.trim())"
    still = browser.new_page(java_script_enabled=False)
    still.goto(address)
    for where in ("td .value", 'td[data-key="seconds"]', 'td[data-key="first"]', 'td[data-key="passes"]'):
        assert page.eval_on_selector_all(where, numbers) == still.eval_on_selector_all(where, numbers)
    still.close()


def test_a_heading_sorts_by_click_and_by_key(page: "Page") -> None:
    assert methods_of(page)[0] == "integrated_gradients"
    page.click(heading("encodes"))
    assert methods_of(page)[0] == "gaussian_probe"
    assert methods_of(page)[-3:] == [
        "integrated_gradients",
        "gradient_activation",
        "neuron_ablation",
    ]  # incomplete
    assert page.get_attribute('th[data-key="encodes"]', "aria-sort") == "descending"
    assert page.get_attribute('th[data-key="truth.carries"]', "aria-sort") is None
    page.focus(heading("encodes"))
    page.keyboard.press("Enter")
    assert page.get_attribute('th[data-key="encodes"]', "aria-sort") == "ascending"
    assert methods_of(page)[0] == "random_ranking"


def test_bands_speak_of_the_board_that_sorts(page: "Page") -> None:
    assert cell_of(page, "gaussian_probe", "band") != "1"
    page.click(heading("encodes"))
    assert cell_of(page, "gaussian_probe", "band") == "1"
    assert cell_of(page, "integrated_gradients", "band") == "–"  # covers six of seven cells


def test_filters_choose_rows_and_the_plane_follows(page: "Page") -> None:
    page.select_option("select[name=claims]", "required")
    assert methods_of(page) == ["integrated_gradients", "neuron_ablation", "gradient_activation"]
    assert page.inner_text("#status") == "3 of 12 methods"
    page.wait_for_selector('#plane[data-drawn="3"]')
    page.select_option("select[name=runs]", "gradients")
    assert methods_of(page) == ["integrated_gradients", "gradient_activation"]
    page.fill("input[name=find]", "act")
    assert methods_of(page) == ["gradient_activation"]
    page.click("text=Clear")
    page.wait_for_selector('#plane[data-drawn="12"]')
    assert len(methods_of(page)) == 12


def test_a_task_or_a_model_shows_its_own_values(page: "Page") -> None:
    overall = cell_of(page, "lca", "encodes")
    page.select_option("select[name=task]", "number_world")
    assert cell_of(page, "lca", "encodes") != overall
    assert cell_of(page, "lca", "carries") == "–"
    page.select_option("select[name=model]", "glass-s")
    assert "no cells for this task and model" in page.inner_text("#status")
    page.select_option("select[name=task]", "")
    assert "6 of 7" not in cell_of(page, "integrated_gradients", "encodes")  # all three cells of this model


def test_all_columns_can_be_shown(page: "Page") -> None:
    assert not page.is_visible('th[data-key="truth.associated"]')
    page.check("input[name=all]")
    assert page.is_visible('th[data-key="truth.associated"]')


def test_the_address_names_the_view(page: "Page", address: str) -> None:
    page.select_option("select[name=claims]", "associated")
    page.click(heading("encodes"))
    named = page.evaluate("location.hash")
    assert named == "#claims=associated&sort=-encodes&board=encodes"
    seen = methods_of(page)
    page.click("text=Clear")
    page.evaluate("hash => { location.hash = hash; }", named)
    page.wait_for_selector('#plane[data-drawn="7"]')
    assert methods_of(page) == seen
    page.evaluate("location.hash = 'task=nowhere&sort=-nothing&board=x'")
    page.wait_for_selector('#plane[data-drawn="12"]')
    assert methods_of(page)[0] == "integrated_gradients"


def test_the_truth_is_pale_where_it_is_not_claimed_and_each_cell_shows_its_roles(page: "Page") -> None:
    classes = "cells => cells.map(c => c.classList.contains('unclaimed'))"
    for key in ("truth.carries", "truth.required"):
        rows = page.eval_on_selector_all(f'#board tbody td[data-key="{key}"]', classes)
        claims = [METHODS[method][1] for method in methods_of(page)]
        assert rows == [f"truth.{claim}" != key for claim in claims]
    assert not any(page.eval_on_selector_all('#board tbody td[data-key="encodes"]', classes))
    page.click('tr[data-method="lca"] button.open')
    shown = page.inner_text("#details-cells")
    assert "first 5: used" in shown
    assert "first 10: used" in shown


def test_a_method_opens_its_cells_with_the_command_that_reproduces_each(page: "Page") -> None:
    page.click('tr[data-method="neuron_ablation"] button.open')
    dialog = page.inner_text("#details")
    assert "nibench run --method neuron_ablation --task gender_glass --model glass-s-twin" in dialog
    assert "not applicable: a world has no model" in dialog
    page.keyboard.press("Escape")
    assert not page.is_visible("#details")


def test_every_method_is_named_in_the_plane(page: "Page") -> None:
    words = page.eval_on_selector_all("#plane svg text", "texts => texts.map(t => t.textContent)")
    assert set(methods_of(page)) <= set(words)


def test_who_beats_whom_is_drawn_for_the_board_and_the_rows_that_are_shown(page: "Page") -> None:
    rows = "texts => texts.map(t => t.textContent)"
    page.wait_for_selector('#wins[data-drawn="12"]')
    names = page.eval_on_selector_all("#wins svg text", rows)
    assert {name for name in names if name in METHODS} == set(METHODS)
    page.click(heading("encodes"))
    page.wait_for_selector('#wins[data-drawn="9"]')  # three do not cover every cell
    page.select_option("select[name=claims]", "none")
    page.wait_for_selector('#wins[data-drawn="2"]')
    page.fill("input[name=find]", "variance")
    assert "Fewer than two" in page.inner_text("#wins")


def test_the_rank_statistics_are_an_appendix(page: "Page") -> None:
    assert not page.is_visible("#rank-statistics")
    page.click("summary:has-text('Rank statistics')")
    assert page.is_visible("#rank-statistics")
    assert "Bradley–Terry" in page.inner_text("#rank-statistics")


def test_a_method_states_its_standard_errors_and_what_they_rest_on(page: "Page") -> None:
    page.click('tr[data-method="lca"] button.open')
    assert re.search(r"Encodes \.\d{3} \(tasks\)", page.inner_text("#details-card"))


def test_nothing_scrolls_sideways_on_a_phone(page: "Page") -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(400)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.evaluate("(e => e.scrollWidth > e.clientWidth)(document.querySelector('.scroll'))")
    page.click("button.open >> nth=0")
    assert page.evaluate("document.documentElement.scrollWidth") == 390


def test_an_attack_in_a_record_does_nothing(browser: "Browser", tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    path.write_text(evil_page())
    context = browser.new_context()
    opened = context.new_page()
    alarms: list[str] = []
    opened.on("dialog", lambda dialog: (alarms.append(dialog.message), dialog.dismiss()))
    opened.on("console", lambda message: alarms.append(message.text))
    opened.on("pageerror", lambda error: alarms.append(str(error)))
    opened.goto(path.as_uri())
    opened.wait_for_selector("#plane[data-drawn]")
    assert opened.inner_text("button.open >> nth=0") == EVIL
    opened.click("button.open >> nth=0")
    assert EVIL in opened.inner_text("#details")
    context.close()
    assert alarms == []


def test_forty_methods_are_ready_within_two_seconds(browser: "Browser", tmp_path: Path) -> None:
    path = build([results_folder(tmp_path, methods=40, tasks=4)], tmp_path / "out")
    context = browser.new_context()
    opened = context.new_page()
    opened.goto(path.as_uri())
    opened.wait_for_selector("html[data-ready]")
    assert opened.evaluate("performance.now()") < 10_000  # two seconds on an idle machine
    assert len(methods_of(opened)) == 40
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_screenshots_are_kept(browser: "Browser", address: str, width: int, scheme: str) -> None:
    folder = ROOT / "test-artifacts"
    folder.mkdir(exist_ok=True)
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    opened = context.new_page()
    opened.goto(address)
    opened.wait_for_selector("#plane[data-drawn]")
    opened.screenshot(path=folder / f"board-{width}-{scheme}.png", full_page=True)
    context.close()
