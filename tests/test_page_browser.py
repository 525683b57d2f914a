"""The page in a real browser: it sorts, filters, drills down and links as it says, and asks for nothing outside."""

import csv
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nibench.boards import boards
from nibench.leaderboard import build
from nibench.results import Place, Results, collect
from nibench.stored import read_results
from nibench.wording import number
from tests.synthetic_records import METHODS, results_folder
from tests.test_page import EVIL, evil_page

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

ROOT = Path(__file__).parent.parent
LIMIT = 2.0  # seconds to a table of 40 methods on 30 tasks


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return results_folder(tmp_path_factory.mktemp("board"))


@pytest.fixture(scope="module")
def results(folder: Path) -> Results:
    return collect(read_results([folder]))


@pytest.fixture(scope="module")
def address(folder: Path) -> str:
    return build([folder], folder / "out").as_uri()


@pytest.fixture
def page(browser: "Browser", address: str) -> Iterator["Page"]:
    """The page, drawn; fails the test for anything on the console and any request but the file itself."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened = context.new_page()
    told: list[str] = []
    opened.on("console", lambda message: told.append(message.text))
    opened.on("pageerror", lambda error: told.append(str(error)))
    opened.on(
        "request",
        lambda request: told.append(request.url) if _is_asked_of_others(request.url, address) else None,
    )
    opened.goto(address)
    opened.wait_for_selector("#plane[data-drawn]")
    yield opened
    context.close()
    assert told == []


def _is_asked_of_others(url: str, address: str) -> bool:
    """Whether a request is for anything but the page itself, or what it made itself."""
    return url.partition("#")[0] != address and not url.startswith("blob:")


def until(page: "Page", expression: str) -> None:
    """Wait until this holds; the page's policy refuses what a browser's own waiting would evaluate."""
    for _ in range(200):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"not in ten seconds: {expression}")


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


def test_bands_name_their_board_where_another_column_sorts(page: "Page") -> None:
    page.click(heading("encodes"))
    assert page.inner_text('th[data-key="band"] [data-board-of]') == ""
    page.click(heading("seconds"))
    assert page.inner_text('th[data-key="band"] [data-board-of]') == "of Encodes"
    assert cell_of(page, "gaussian_probe", "band") == "1"


def test_where_the_order_s_board_has_no_value_the_next_that_has_some_orders(page: "Page") -> None:
    page.select_option("select[name=tier]", "world")  # sampled: nothing carries there
    assert page.get_attribute('th[data-key="encodes"]', "aria-sort") == "descending"
    values = [cell_of(page, method, "encodes").split()[0] for method in methods_of(page)]
    assert values[0] > values[1] > "."
    assert values[-3:] == ["–"] * 3
    assert page.inner_text("#status") == "12 of 12 methods; 3 without a value here"


def test_a_method_is_found_by_its_words(page: "Page") -> None:
    page.fill("input[name=find]", "Integrated gradients")
    assert methods_of(page) == ["integrated_gradients"]


def test_filters_choose_rows_and_the_plane_follows(page: "Page") -> None:
    page.select_option("select[name=claims]", "required")
    assert methods_of(page) == ["integrated_gradients", "neuron_ablation", "gradient_activation"]
    assert page.inner_text("#status") == "3 of 12 methods"
    page.wait_for_selector('#plane[data-drawn="3"]')
    page.click("#more summary")
    page.select_option("select[name=runs]", "gradients")
    assert methods_of(page) == ["integrated_gradients", "gradient_activation"]
    page.fill("input[name=find]", "act")
    assert methods_of(page) == ["gradient_activation"]
    page.click("text=Clear")
    page.wait_for_selector('#plane[data-drawn="12"]')
    assert len(methods_of(page)) == 12


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("claims", "none", lambda family, claims, needs: claims == "none"),
        ("family", "linear", lambda family, claims, needs: family == "linear"),
        ("scope", "both", lambda family, claims, needs: family == "ablation"),
        ("supervision", "no", lambda family, claims, needs: "LABELS" not in needs),
        ("causation", "yes", lambda family, claims, needs: "MODEL" in needs),
        ("scalability", "medium", lambda family, claims, needs: family == "gaussian"),
        ("runs", "model", lambda family, claims, needs: "MODEL" in needs),
        ("runs", "gradients", lambda family, claims, needs: family == "attribution"),
        ("runs", "activations", lambda family, claims, needs: "MODEL" not in needs),
        ("runs", "no gradients", lambda family, claims, needs: family != "attribution"),
    ],
)
def test_each_criterion_is_a_filter(page: "Page", name: str, value: str, kept: Callable[..., bool]) -> None:
    page.click("#more summary")
    page.select_option(f"select[name={name}]", value)
    assert set(methods_of(page)) == {method for method, of in METHODS.items() if kept(*of[:3])}
    assert page.inner_text("#more-set") == ("" if name == "claims" else " (1 set)")


def test_human_in_the_loop_is_a_filter(page: "Page") -> None:
    page.click("#more summary")
    page.select_option("select[name=human]", "yes")
    assert methods_of(page) == ["expert_units"]


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        ("tier", "twin", lambda place: place.model == "glass-s-twin"),
        ("tier", "world", lambda place: not place.model),
        ("concept", "number", lambda place: place.task in ("number_glass", "number_world")),
        ("task", "tense_glass", lambda place: place.task == "tense_glass"),
        ("model", "glass-s", lambda place: place.model == "glass-s"),
    ],
)
def test_a_filter_of_places_shows_the_values_there(
    page: "Page", results: Results, name: str, value: str, kept: Callable[[Place], bool]
) -> None:
    page.click("#more summary")
    page.select_option(f"select[name={name}]", value)
    there = boards(results, [place for place in results.places if kept(place)])
    assert there
    for board in there:
        for row in board.rows:
            shown = page.text_content(f'tr[data-method="{row.method}"] td[data-key="{board.axis.id}"]')
            assert (shown or "").startswith(number(row.value))
    if value == "world":
        assert cell_of(page, "lca", "carries") == "–"


def test_places_are_filtered_together_and_what_leaves_nothing_cannot_be_chosen(
    page: "Page", results: Results, address: str
) -> None:
    page.select_option("select[name=tier]", "twin")
    page.select_option("select[name=task]", "tense_glass")
    place = [p for p in results.places if (p.task, p.model) == ("tense_glass", "glass-s-twin")]
    encodes = next(board for board in boards(results, place) if board.axis.id == "encodes")
    assert cell_of(page, "lca", "encodes").startswith(
        number(next(row.value for row in encodes.rows if row.method == "lca"))
    )
    assert "6 of 7" not in cell_of(page, "integrated_gradients", "encodes")
    disabled = "options => options.filter(o => o.disabled).map(o => o.value)"
    assert page.eval_on_selector_all("select[name=task] option", disabled) == ["number_world"]
    page.goto(f"{address}#task=number_world&model=glass-s")
    page.wait_for_selector("html[data-ready]")
    assert "no cells in this selection" in page.inner_text("#status")


def test_all_columns_can_be_shown(page: "Page") -> None:
    assert not page.is_visible('th[data-key="truth.associated"]')
    assert "AP" not in cell_of(page, "lca", "truth.carries")
    page.check("input[name=all]")
    assert page.is_visible('th[data-key="truth.associated"]')
    assert "AP" in cell_of(page, "lca", "truth.carries")


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


def test_a_link_opens_the_same_view_again_and_back_goes_back(
    page: "Page", browser: "Browser", address: str
) -> None:
    page.select_option("select[name=tier]", "twin")
    page.click(heading("encodes"))
    page.fill("input[name=find]", "l")
    page.fill("input[name=find]", "li")
    seen, value = methods_of(page), cell_of(page, "linear_l1", "encodes")
    page.click("#link button")
    link = page.evaluate("navigator.clipboard.readText()")
    assert link == f"{address}#find=li&tier=twin&sort=-encodes&board=encodes"
    other = browser.new_page()
    other.goto(link)
    other.wait_for_selector("html[data-ready]")
    other.reload()
    other.wait_for_selector("html[data-ready]")
    assert methods_of(other) == seen
    assert cell_of(other, "linear_l1", "encodes") == value
    assert other.input_value("select[name=tier]") == "twin"
    other.close()
    page.go_back()  # letters typed one after the other are one step
    assert page.input_value("input[name=find]") == ""
    page.go_back()
    assert page.get_attribute('th[data-key="truth.carries"]', "aria-sort") == "descending"
    page.go_back()
    assert page.evaluate("location.hash") == ""
    assert page.input_value("select[name=tier]") == ""
    page.go_forward()
    assert page.input_value("select[name=tier]") == "twin"


def test_a_card_has_an_address_that_leaves_the_filters_alone(page: "Page", address: str) -> None:
    page.select_option("select[name=claims]", "none")
    page.click("#columns summary")
    page.click('#columns a[href="#metric-encodes"]')
    assert page.is_visible("#metric-encodes dl")
    assert methods_of(page) == ["variance", "random_ranking"]
    page.goto(f"{address}#task-tense_glass")
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.is_visible("#task-tense_glass dl")


def test_the_truth_is_pale_where_it_is_not_claimed_and_each_cell_shows_its_roles(page: "Page") -> None:
    classes = "cells => cells.map(c => c.classList.contains('unclaimed'))"
    for key in ("truth.carries", "truth.required"):
        rows = page.eval_on_selector_all(f'#board tbody td[data-key="{key}"]', classes)
        claims = [METHODS[method][1] for method in methods_of(page)]
        assert rows == [f"truth.{claim}" != key for claim in claims]
    assert not any(page.eval_on_selector_all('#board tbody td[data-key="encodes"]', classes))


def test_a_method_opens_its_tasks_then_models_then_neurons_with_the_command_of_each(
    page: "Page", browser: "Browser"
) -> None:
    page.click('tr[data-method="neuron_ablation"] button.open')
    assert "What neuron_ablation does, in a line." in page.inner_text("#details-summary")
    assert re.search(r"limits|scope", page.inner_text("#details-card"))
    assert "not applicable" in page.inner_text('details[data-task="number_world"] summary')
    page.click('details[data-task="gender_glass"] summary')
    twin = page.locator('details[data-task="gender_glass"] button.open', has_text="glass-s-twin")
    assert twin.get_attribute("aria-expanded") == "false"
    twin.click()
    assert twin.get_attribute("aria-expanded") == "true"
    until(page, "location.hash.endsWith('open=neuron_ablation&in=gender_glass&at=glass-s-twin')")
    shown = page.inner_text(f"#{twin.get_attribute('aria-controls')}")
    assert "nibench run --method neuron_ablation --task gender_glass --model glass-s-twin" in shown
    assert "first 5: used" in shown
    assert "Records keep no text" in shown
    page.click(f"#{twin.get_attribute('aria-controls')} li button")
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == "nibench inspect L0.mlp_post.0 --model glass-s-twin"
    other = browser.new_page()
    other.goto(page.url)
    other.wait_for_selector("html[data-ready]")
    assert "nibench inspect L0.mlp_post.0" in other.inner_text("#details-cells")
    other.close()
    page.keyboard.press("Escape")
    assert not page.is_visible("#details")
    assert page.evaluate("document.activeElement.closest('tr').dataset.method") == "neuron_ablation"
    until(page, "location.hash === ''")
    page.go_back()
    page.wait_for_selector("#details[open]")
    page.go_forward()
    page.wait_for_selector("#details[open]", state="hidden")


def test_a_task_leads_to_its_card(page: "Page") -> None:
    page.click('tr[data-method="lca"] button.open')
    page.click('details[data-task="tense_glass"] summary')
    page.click("text=what this task is >> visible=true")
    page.wait_for_selector("#details[open]", state="hidden")
    assert page.is_visible("#task-tense_glass dl")
    page.wait_for_timeout(100)
    assert page.evaluate("location.hash") == "#task-tense_glass"
    page.go_back()
    page.wait_for_selector("#details[open]")


def test_the_drill_down_keeps_to_the_filters(page: "Page") -> None:
    page.select_option("select[name=model]", "glass-s")
    page.click('tr[data-method="lca"] button.open')
    assert page.inner_text("#details-note") == "3 of 7 cells: those of the filters."
    page.click('details[data-task="gender_glass"] summary')
    assert page.locator('details[data-task="gender_glass"] tbody button.open').all_inner_texts() == [
        "glass-s"
    ]


def test_a_world_has_no_text_to_show(page: "Page") -> None:
    page.select_option("select[name=tier]", "world")
    page.click('tr[data-method="lca"] button.open')
    page.click('details[data-task="number_world"] button.open')
    assert "there is no text behind these neurons" in page.inner_text("#details-cells")
    assert "nibench inspect" not in page.inner_text("#details-cells")


def test_the_rows_that_are_shown_are_saved_as_csv(page: "Page") -> None:
    page.select_option("select[name=claims]", "required")
    with page.expect_download() as waiting:
        page.click("#export")
    with Path(waiting.value.path()).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["method"] for row in rows] == methods_of(page)
    assert number(float(rows[0]["truth.carries"])) == page.inner_text(
        'tr[data-method="integrated_gradients"] td[data-key="truth.carries"] .value'
    )
    assert rows[0]["encodes_cells"] == "6"
    assert rows[0]["encodes_of"] == "7"


def test_the_files_beside_the_page_are_linked(page: "Page") -> None:
    links = page.eval_on_selector_all("a[download]", "links => links.map(a => a.getAttribute('href'))")
    assert links == ["leaderboard.csv", "leaderboard.parquet"]


def test_light_and_dark_can_be_chosen(page: "Page") -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    label = "getComputedStyle(document.querySelector('#plane svg text')).fill"
    light, ink = page.evaluate(paper), page.evaluate(label)
    assert page.inner_text("#theme") == "Dark"
    page.click("#theme")
    assert page.inner_text("#theme") == "Light"
    assert page.evaluate(paper) != light
    until(page, f"{label} !== '{ink}'")  # the figures, too
    page.reload()
    page.wait_for_selector("html[data-ready]")
    assert page.inner_text("#theme") == "Light"
    page.click("#theme")
    assert page.evaluate(paper) == light


def test_every_control_is_reached_by_the_keyboard_shows_its_focus_and_has_a_name(page: "Page") -> None:
    count = "document.querySelectorAll('button, select, input, summary, a[href]').length"
    here = """(() => {
      const e = document.activeElement;
      return [e.name || e.id || e.textContent.trim(), e.closest('[data-key]')?.dataset.key ?? '',
              getComputedStyle(e).outlineStyle];
    })()"""
    seen = []
    for _ in range(60):
        page.keyboard.press("Tab")
        seen.append(page.evaluate(here))
        if seen[-1][0] == "lca":
            break
    names = [name for name, _, _ in seen]
    filters = ["find", "tier", "task", "model", "claims", "More filters", "all"]
    assert [name for name in names if name in filters] == filters
    assert {"theme", "export", "Copy link", "Clear"} <= set(names)
    assert [key for _, key, _ in seen if key][:3] == ["method", "band", "truth.carries"]
    assert all(outline != "none" for _, _, outline in seen)
    assert page.evaluate(count) > len(seen)
    unnamed = """[...document.querySelectorAll('button, select, input, a[href]')].filter(e =>
      !(e.textContent.trim() || e.ariaLabel || e.closest('label')?.textContent.trim())).length"""
    assert page.evaluate(unnamed) == 0
    page.keyboard.press("Enter")
    page.wait_for_selector("#details[open]")
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.textContent") == "lca"


def test_every_method_is_named_in_the_plane(page: "Page") -> None:
    words = page.eval_on_selector_all("#plane svg text", "texts => texts.map(t => t.textContent)")
    assert set(methods_of(page)) <= set(words)


def test_who_beats_whom_is_drawn_for_the_board_and_the_rows_that_are_shown(page: "Page") -> None:
    rows = "texts => texts.map(t => t.textContent)"
    page.locator("#wins").scroll_into_view_if_needed()
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
    page.locator("#wins").scroll_into_view_if_needed()
    page.wait_for_selector("#wins[data-drawn]")  # what stands below moves when it is drawn
    page.click("summary:has-text('Rank statistics')")
    assert page.is_visible("#rank-statistics")
    assert "Bradley–Terry" in page.inner_text("#rank-statistics")


def test_a_method_states_its_standard_errors_and_what_they_rest_on(page: "Page") -> None:
    page.click('tr[data-method="lca"] button.open')
    assert re.search(r"Encodes \.\d{3} \(tasks\)", page.inner_text("#details-card"))


def test_nothing_scrolls_sideways_on_a_phone(page: "Page") -> None:
    width = "document.documentElement.scrollWidth"
    page.set_viewport_size({"width": 390, "height": 844})
    page.wait_for_timeout(400)
    assert page.evaluate(width) == 390
    assert page.evaluate("(e => e.scrollWidth > e.clientWidth)(document.querySelector('.scroll'))")
    page.evaluate("document.querySelectorAll('main details').forEach(one => { one.open = true; })")
    assert page.evaluate(width) == 390
    page.click("button.open >> nth=0")
    page.click('details[data-task="gender_glass"] summary')
    page.click('details[data-task="gender_glass"] button.open >> nth=0')
    assert page.evaluate(width) == 390
    assert page.evaluate("(e => e.scrollWidth <= e.clientWidth)(document.getElementById('details'))")


def test_an_attack_in_a_record_does_nothing(browser: "Browser", tmp_path: Path) -> None:
    path = tmp_path / "index.html"
    path.write_text(evil_page())
    context = browser.new_context()
    opened = context.new_page()
    alarms: list[str] = []
    opened.on("dialog", lambda dialog: alarms.append(dialog.message) or dialog.dismiss())
    opened.on("console", lambda message: alarms.append(message.text))
    opened.on("pageerror", lambda error: alarms.append(str(error)))
    opened.goto(path.as_uri())
    opened.wait_for_selector("#plane[data-drawn]")
    assert opened.inner_text("button.open >> nth=0") == EVIL
    opened.click("button.open >> nth=0")
    opened.click("#details-cells tbody button.open >> nth=0")
    for part in ("title", "summary", "card", "cells"):
        assert EVIL in opened.inner_text(f"#details-{part}")
    command = (
        f"nibench inspect '{EVIL}' --model 'models/{EVIL}' --data FILE"  # of a natural model: text of yours
    )
    assert command in opened.inner_text("#details-cells")
    opened.keyboard.press("Escape")
    opened.evaluate("document.querySelectorAll('main details').forEach(one => { one.open = true; })")
    assert opened.locator("#tasks details summary").inner_text().startswith(EVIL)
    opened.select_option("select[name=task]", EVIL)
    opened.reload()
    opened.wait_for_selector("html[data-ready]")
    assert opened.input_value("select[name=task]") == EVIL
    context.close()
    assert alarms == []


@pytest.mark.slow
def test_forty_methods_on_thirty_tasks_are_ready_within_two_seconds(
    browser: "Browser", tmp_path: Path
) -> None:
    """The seconds are those that the page's own thread computes: other work on the machine does not count."""
    path = build([results_folder(tmp_path, methods=40, tasks=30)], tmp_path / "out")
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    meter = context.new_cdp_session(opened)
    meter.send("Performance.enable", {"timeDomain": "threadTicks"})
    opened.goto(path.as_uri())
    opened.wait_for_selector("html[data-ready]")
    opened.wait_for_selector("#plane[data-drawn]")
    took = {one["name"]: one["value"] for one in meter.send("Performance.getMetrics")["metrics"]}
    assert 0 < took["TaskDuration"] < LIMIT
    assert len(methods_of(opened)) == 40
    assert (
        len(set(opened.eval_on_selector_all("select[name=task] option", "all => all.map(o => o.value)")))
        == 31
    )
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
    opened.locator("#wins").scroll_into_view_if_needed()
    opened.wait_for_selector("#wins[data-drawn]")
    opened.screenshot(path=folder / f"board-{width}-{scheme}.png", full_page=True)
    context.close()
