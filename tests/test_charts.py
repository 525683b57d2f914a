"""The figures: numbers worked by hand, valid charts, and what a browser draws of them."""

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from nibench import charts, figures
from nibench.chart_specs import PALETTE
from nibench.errors import InputError
from nibench.page import render
from nibench.record import Cost, Record
from nibench.results import Place, Results, collect
from nibench.stored import Stored
from tests.synthetic_records import METHODS, record, score, with_sums
from tests.test_page_browser import until
from tests.test_studies import tiered

if TYPE_CHECKING:
    from playwright.sync_api import Browser

TEMPLATES = Path(charts.__file__).parent / "templates"
KS = (1, 2, 4)
EVIL = "<script>alert(1)</script>"


def cost(seconds: float, passes: float = 0.0) -> Cost:
    return Cost(seconds=seconds, forward=passes, backward=0.0, peak_memory_mb=1.0)


def full_results(names: dict[str, Any] = METHODS) -> Results:
    """Twelve methods on four truth models and their twins, with everything that a figure is drawn from."""
    rng = np.random.default_rng(0)
    ids, items = np.arange(40, dtype=np.uint64), np.full(40, 5.0)
    made = []
    for place, (method, (family, claims, needs, encodes, carries)) in enumerate(names.items()):
        for tier in ("glass-box", "twin"):
            for model in range(4):
                scores, arrays = (
                    [],
                    {"scores": rng.random(64), "clusters/items": ids, "clusters/behaviour": ids},
                )
                for metric, sums, level in (
                    ("probe.auc[lda]", ("hits", "items"), encodes),
                    ("abl.auc[interchange]", ("moved", "at_stake"), carries),
                ):
                    one, kept = with_sums(metric, level, items, np.zeros((40, 1)), rng, sums, KS)
                    details = {"random": 0.0, "random_curve": [0.0, 0.01, 0.02]}
                    details["random_band"] = [[-0.01, -0.02, -0.03], [0.01, 0.03, 0.05]]
                    scores.append(one.model_copy(update={"details": details}))
                    arrays |= kept
                scores.append(score("encodes", encodes, encodes))
                right = carries + 0.01 * model + 0.05 * (tier == "twin") * (place % 3)
                scores.append(score("gt.ndcg[carries]", right, right))
                roles = {"used": 3.0, "natural_decoy": 1.0, "decoy": 0.5, "background": 0.5}
                scores.append(score("gt.anatomy", 5, details={"anatomy": {"5": roles}}))
                card = {"family": family, "claims": claims, "needs": needs}
                model_name = f"g{model}{'-twin' * (tier == 'twin')}"
                took = cost(0.01 * (place + 1), 10.0 * place)
                more = {"tier": tier, "lineage": f"g{model}", "cost": took}
                one = record(method, "tense_glass", model_name, scores=scores, card=card, **more)
                made.append(Stored(one, arrays))
    return collect(made)


@pytest.fixture(scope="module")
def results() -> Results:
    return full_results()


def dataset(chart: Any, name: str) -> list[dict[str, Any]]:
    return chart.to_dict()["datasets"][name]


# numbers


def curve(seeds: list[Stored]) -> dict[str, Any]:
    found = figures.curve(seeds, "abl.auc[mean]")
    assert found is not None
    return found


def seed(number: int, sums: np.ndarray, **details: Any) -> Stored:
    counts = np.full(len(sums), 2.0)
    curve = tuple((sums.sum(axis=0) / counts.sum()).tolist())
    one = score("abl.auc[mean]", 0.5, 0.5, k=KS, curve=curve, details=details)
    arrays = {"abl.auc[mean]/moved": sums, "abl.auc[mean]/at_stake": counts}
    return Stored(record(scores=[one], seed=number), arrays)


def test_a_curve_has_the_interval_of_its_sentences() -> None:
    sums = np.zeros((10, 3))
    sums[:5, 1], sums[:, 2] = 2.0, 2.0  # nothing; half of the sentences whole; every sentence whole
    found = curve([seed(0, sums)])
    assert found["k"] == [1, 2, 4]
    assert found["value"] == [0.0, 0.5, 1.0]
    # residuals ±1 over ten sentences of two items: sqrt(10/9 * 10) / 20
    assert found["half"] == pytest.approx([0.0, 1.959964 * np.sqrt(100 / 9) / 20, 0.0])
    assert found["random"] is None
    assert found["matched"] == []
    assert curve([seed(0, sums[:9])])["half"] is None  # too few sentences
    assert figures.curve([], "abl.auc[mean]") is None


def test_three_seeds_add_their_spread() -> None:
    seeds = [seed(number, np.full((10, 3), value)) for number, value in enumerate((0.2, 0.4, 0.6))]
    found = curve(seeds)
    assert found["value"] == pytest.approx([0.2] * 3)  # 0.4 of 2 items
    assert found["half"] == pytest.approx([1.959964 * 0.1 / np.sqrt(3)] * 3)
    assert curve(seeds[:2])["half"] == pytest.approx([0.0] * 3)


def test_matched_sets_are_put_on_the_scale_of_the_curve() -> None:
    matched = {"k": [2, 8, 32], "matched": [0.3, None, 1.5]}
    nats = [0.0, 1.5, 3.0]  # where all is moved, 3 nats an item: so much is at stake
    sums = np.column_stack([np.zeros(10), np.ones(10), np.full(10, 2.0)])
    found = curve([seed(0, sums, matched=matched, nats=nats)])
    assert found["matched"] == [[2, pytest.approx(0.1)], [32, pytest.approx(0.5)]]


def test_the_null_band_is_that_of_the_records(results: Results) -> None:
    null = dataset(charts.curves(results, metric="probe.auc[lda]"), "null")
    assert [(row["k"], row["low"], row["value"], row["high"]) for row in null] == [
        (1, -0.01, 0.0, 0.01),
        (2, -0.02, 0.01, 0.03),
        (4, -0.03, 0.02, 0.05),
    ]
    cell = charts.section(results)["curves"]["cells"][0]
    assert cell[2:6] == [[1, 2, 4], [0, 10, 20], [-10, -20, -30], [10, 30, 50]]


def test_the_first_curves_are_the_best_of_five_families_and_random(results: Results) -> None:
    shown = [row["method"] for row in dataset(charts.curves(results), "lines")][:: len(KS)]
    best: dict[str, str] = {}
    for method in sorted(set(METHODS) - {"random_ranking"}, key=lambda m: -METHODS[m][4]):
        best.setdefault(METHODS[method][0], method)
    assert sorted(shown[:-1]) == sorted([*best.values()][:5])
    assert shown[-1] == "random_ranking"
    chosen = charts.curves(results, ["lca"], "tense_glass · g1-twin", "probe.auc[lda]")
    assert {row["method"] for row in dataset(chosen, "lines")} == {"lca"}


def test_page_and_notebook_have_the_same_curves(results: Results) -> None:
    cells = charts.section(results)["curves"]
    place, metric, *_, of = cells["cells"][-1]
    chart = charts.curves(results, list(of), cells["places"][place], cells["metrics"][metric][0])
    for row, at in zip(dataset(chart, "lines"), [0, 1, 2] * len(of), strict=True):
        value, half = (one[at] for one in of[row["method"]])
        assert row["value"] == pytest.approx(value / 1000, abs=0.0006)
        assert row["high"] - row["value"] == pytest.approx(half / 1000, abs=0.0006)


def test_both_sides_of_the_plane_are_of_the_same_cells() -> None:
    def at(method: str, task: str, encodes: float, carries: float | None) -> Record:
        scores = [score("encodes", encodes, encodes, chance=0.0, ceiling=1.0)]
        if carries is not None:
            scores.append(score("abl.auc[interchange]", carries, carries, chance=0.0, ceiling=1.0))
        return record(method, task, scores=scores)

    made = [
        at("m", "a", 0.8, 0.4),
        at("m", "b", 0.6, 0.2),
        at("m", "world", 0.1, None),
        at("n", "a", 0.5, 0.3),
    ]
    m, n = figures.plane_points(collect(made))
    assert (m["encodes"], m["carries"]) == pytest.approx((0.7, 0.3))  # not the mean of three, .5
    assert (m["complete"], m["covers"]) == (True, "2 of 2 cells")
    assert (n["encodes"], n["complete"], n["covers"]) == (0.5, False, "1 of 2 cells")


def test_roles_are_gathered_by_what_they_are_taken_for() -> None:
    rows = figures.anatomy_rows({"a": {"used": 0.5, "correlate": 0.2, "enabler": 0.2, "background": 0.1}})
    assert [(row["role"], row["kind"]) for row in sorted(rows, key=lambda row: row["at"])] == [
        ("used", "right"),
        ("correlate", "decoy"),
        ("background", "background"),
        ("enabler", "other"),
    ]


def test_the_bars_follow_the_board_and_are_whole(results: Results) -> None:
    rows = dataset(charts.anatomy(results), "shares")
    order = list(dict.fromkeys(row["method"] for row in rows))
    assert order[0] == "integrated_gradients"
    assert sorted(order) == sorted(METHODS)
    assert sum(row["share"] for row in rows) == pytest.approx(len(METHODS))


def test_methods_that_agree_stand_side_by_side() -> None:
    rng = np.random.default_rng(0)
    one, other, alone = (rng.random(200) for _ in range(3))
    scores = {"a": one, "b": other, "c": one, "d": alone, "e": other}
    given = [Stored(record(m, scores=[score("encodes", 0.5, 0.5)]), {"scores": s}) for m, s in scores.items()]
    rows = figures.agreement(collect(given))["rows"]
    order = [row["method"] for row in rows]
    assert abs(order.index("a") - order.index("c")) == 1
    assert abs(order.index("b") - order.index("e")) == 1
    values = {row["method"]: dict(zip(order, row["values"], strict=True)) for row in rows}
    assert values["a"]["c"] == 1
    assert values["a"]["b"] == values["b"]["a"] < 0.3


def test_ranks_and_taus_from_tier_to_tier_by_hand() -> None:
    stored = tiered({"glass-box": "abcde", "twin": "bacde", "language model": "edcb"})
    found = figures.orders(collect(stored)).claims["carries"]
    assert found["tiers"] == ["glass-box", "twin", "language model"]
    ranks = {(row["method"], row["at"]): row["rank"] for row in found["rows"]}
    assert [ranks[m, 0] for m in "bcde"] == [1, 2, 3, 4]  # a is not in every tier
    assert [ranks[m, 2] for m in "bcde"] == [4, 3, 2, 1]
    assert [(tau["at"], tau["methods"]) for tau in found["taus"]] == [(0.5, 5), (1.5, 4)]
    assert [tau["value"] for tau in found["taus"]] == [pytest.approx(0.8), pytest.approx(-1)]
    first = next(row for row in found["rows"] if (row["method"], row["at"]) == ("b", 0))
    assert (first["low"], first["high"]) == (1, 1)


def test_ties_share_a_rank() -> None:
    stored = tiered({"glass-box": "abcd", "twin": "abcd"})
    same = [
        next(s for s in stored if s.record.cell == one.record.cell.model_copy(update={"method": "b"}))
        if one.record.cell.method == "c"
        else one
        for one in stored
    ]
    tied = [
        Stored(one.record.model_copy(update={"scores": other.record.scores}), one.arrays)
        for one, other in zip(stored, same, strict=True)
    ]
    rows = figures.orders(collect(tied)).claims["carries"]["rows"]
    assert [row["rank"] for row in rows[:4]] == [1, 2.5, 2.5, 4]


# charts


@pytest.mark.parametrize("name", charts.FIGURES)
def test_every_chart_is_valid_and_has_its_data(results: Results, name: str) -> None:
    spec = charts.FIGURES[name](results).to_dict()  # altair checks it against the schema
    assert all(spec["datasets"].values()) or name in ("curves", "orders")
    named = set(re.findall(r'"data": \{"name": "(\w+)"\}', json.dumps(spec)))
    assert named == {one for one, rows in spec["datasets"].items() if rows}
    assert spec["title"]


@pytest.mark.parametrize("name", charts.FIGURES)
def test_a_figure_without_its_data_says_so(name: str) -> None:
    bare = collect([record("lca", scores=[score("sel.kappa", 0.5)])])
    with pytest.raises(InputError):
        charts.FIGURES[name](bare)


def test_a_wrong_choice_names_what_there_is(results: Results) -> None:
    with pytest.raises(InputError, match="There is: encodes|There is: truth.carries"):
        charts.pareto(results, "nowhere")
    with pytest.raises(InputError, match="Choose: seconds, passes"):
        charts.pareto(results, cost="money")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="There is: tense_glass · g0"):
        charts.curves(results, place=Place("m", "t"))
    with pytest.raises(InputError, match="for: nobody"):
        charts.curves(results, ["nobody"])
    with pytest.raises(InputError, match="There is: carries"):
        charts.orders(results, "required")


def test_the_page_s_specs_name_colours_that_the_style_has_in_light_and_dark(results: Results) -> None:
    style = "".join((TEMPLATES / name).read_text() for name in ("page.css", "figures.css"))
    dark = "".join(
        re.findall(r"@media \(prefers-color-scheme: dark\) \{\s*:root \{(.*?)\}", style, re.DOTALL)
    )
    specs = json.dumps(charts.section(results)["specs"])
    used = set(re.findall(r'"--([\w-]+)"', specs))
    assert {"accent", "line-1", "paper"} <= used <= set(PALETTE)
    assert not re.search(r"#[0-9a-f]{6}", specs)
    for name in PALETTE:
        assert f"--{name}:" in dark
        assert style.count(f"--{name}:") >= 2


# in a browser


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, results: Results) -> str:
    path = tmp_path_factory.mktemp("figures") / "index.html"
    path.write_text(render(results, "0" * 64))
    return path.as_uri()


class Opened:
    """A page whose figures can be asked for; whatever it says on the console is kept."""

    def __init__(self, browser: "Browser", address: str, width: int = 1280, scheme: Any = "light") -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        self.page = self.context.new_page()
        self.told: list[str] = []
        self.page.on("console", lambda message: self.told.append(message.text))
        self.page.on("pageerror", lambda error: self.told.append(str(error)))
        self.page.on("dialog", lambda dialog: self.told.append(dialog.message))
        alone = address.partition("#")[0]
        self.page.on(
            "request", lambda one: self.told.append(one.url) if one.url.partition("#")[0] != alone else None
        )
        self.page.goto(address)
        self.page.wait_for_selector("html[data-ready]")

    def draw(self, name: str) -> None:
        self.page.locator(f"[data-figure={name}]").scroll_into_view_if_needed()
        self.page.wait_for_selector(f"#{name}-plot[data-drawn] svg")

    def texts(self, name: str) -> list[str]:
        return self.page.eval_on_selector_all(f"#{name}-plot svg text", "all => all.map(t => t.textContent)")

    def close(self) -> None:
        self.context.close()
        assert self.told == []


NAMES = ("cost", "curves", "anatomy", "orders", "agreement")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_figure_draws_without_a_word_on_the_console(
    browser: "Browser", address: str, width: int, scheme: str
) -> None:
    opened = Opened(browser, address, width, scheme)
    assert not opened.page.query_selector("#agreement-plot svg")  # drawn when it comes near
    for name in NAMES:
        opened.draw(name)
        assert opened.page.get_attribute(f"#{name}-plot", "role") == "img"
        assert opened.page.get_attribute(f"#{name}-plot", "aria-label")
        if name != "curves":
            assert "lca" in opened.texts(name) or name == "cost"
    assert opened.page.evaluate("document.documentElement.scrollWidth") == width
    opened.close()


def test_the_front_is_named_in_the_plot_and_in_words(browser: "Browser", tmp_path: Path) -> None:
    """Cheap and poor, dear and good, dearer and worse, as good and dearer, cheap but not everywhere."""
    made = {
        "cheap": (0.01, 0.2),
        "good": (0.1, 0.8),
        "worse": (1.0, 0.6),
        "late": (2.0, 0.8),
        "part": (0.001, 0.9),
    }
    records = [
        record(m, "t", model, scores=[score("encodes", value, value)], cost=cost(seconds, 1 / seconds))
        for m, (seconds, value) in made.items()
        for model in ("x", "y")
        if (m, model) != ("part", "y")
    ]
    path = tmp_path / "index.html"
    path.write_text(render(collect(records), "0" * 64))
    opened = Opened(browser, path.as_uri())
    opened.draw("cost")
    assert {text for text in opened.texts("cost") if text in made} == {"cheap", "good"}
    words = opened.page.inner_text("[data-words-of=cost]")
    assert re.findall(r"[a-z]+(?= \(\.)", words) == ["cheap", "good"]
    opened.page.select_option("[name=cost]", "passes")  # here the dear ones need the fewest
    until(opened.page, "document.querySelector('[data-words-of=cost]').textContent.includes('passes')")
    words = opened.page.inner_text("[data-words-of=cost]")
    assert re.findall(r"[a-z]+(?= \(\.)", words) == ["late"]
    for name in ("curves", "anatomy", "orders", "agreement"):
        assert not opened.page.query_selector(f"[data-figure={name}]")  # what has no data is not there
    opened.close()


def test_curves_follow_the_choice_and_stand_in_a_table(browser: "Browser", address: str) -> None:
    opened = Opened(browser, address)
    opened.draw("curves")
    page = opened.page
    rows = "() => [...document.querySelectorAll('#curves-table tbody th')].map(t => t.textContent)"
    first = page.evaluate(rows)
    assert first[5:] == ["random_ranking", "random rankings, mean", "random rankings, 95 %"]
    cells = page.eval_on_selector_all(
        "#curves-table tbody tr:last-child td", "all => all.map(t => t.textContent)"
    )
    assert cells == ["−.01 to .01", "−.02 to .03", "−.03 to .05"]
    page.click("summary:has-text('Choose methods')")
    for method in ("lca", "variance"):
        page.check(f".choice input[value={method}]")
    assert "variance" in page.evaluate(rows)
    assert page.eval_on_selector_all(".choice input:checked", "all => all.length") == 8
    assert (
        page.eval_on_selector_all(".choice input:disabled", "all => all.length") == 4
    )  # eight can be told apart
    page.uncheck(".choice input[value=lca]")
    page.select_option("[name=place]", label="tense_glass · g1-twin")
    assert "lca" not in page.evaluate(rows)  # the choice is kept
    opened.close()


def test_the_address_names_what_the_figures_show(browser: "Browser", address: str) -> None:
    opened = Opened(browser, address)
    page = opened.page
    for name in ("cost", "curves"):
        opened.draw(name)
    assert page.evaluate("location.hash") == ""
    page.select_option("[name=cost]", "passes")
    page.select_option("[data-figure=curves] [name=metric]", index=1)
    page.select_option("[data-figure=curves] [name=place]", label="tense_glass · g1-twin")
    page.click("summary:has-text('Choose methods')")
    page.check(".choice input[value=variance]")
    link = page.evaluate("location.hash")
    assert link.startswith("#cost.cost=passes&curves.metric=1&curves.place=")
    rows = "() => [...document.querySelectorAll('#curves-table tbody th')].map(t => t.textContent)"
    seen = page.evaluate(rows)
    assert "variance" in seen
    page.go_back()
    page.wait_for_selector(".choice input[value=variance]:not(:checked)")
    opened.close()
    again = Opened(browser, address + link)
    for name in ("cost", "curves"):
        again.draw(name)
    assert again.page.input_value("[name=cost]") == "passes"
    assert again.page.evaluate(rows) == seen
    again.page.select_option("[name=cost]", "seconds")
    assert "cost.cost" not in again.page.evaluate("location.hash")
    again.close()


def test_a_tap_tells_what_a_pointer_does(browser: "Browser", address: str) -> None:
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    page.goto(address)
    page.wait_for_selector("#plane[data-drawn] svg")
    page.locator("#plane .mark-symbol path[aria-label*=lca]").first.tap()
    page.wait_for_selector("#vg-tooltip-element.visible")
    assert "lca" in page.inner_text("#vg-tooltip-element")
    context.close()


def test_figures_follow_the_table(browser: "Browser", address: str) -> None:
    opened = Opened(browser, address)
    for name in NAMES:
        opened.draw(name)
    opened.page.select_option("select[name=claims]", "required")
    for name in ("cost", "anatomy", "agreement"):
        opened.page.wait_for_selector(f'#{name}-plot[data-drawn="3"]')
    assert "lca" not in opened.texts("agreement")
    opened.close()


def test_a_method_s_name_is_text_in_every_figure(browser: "Browser", tmp_path: Path) -> None:
    names = {EVIL: METHODS["lca"], "--ink": METHODS["probeless"], "datum.own": METHODS["variance"]}
    names["</script>" + EVIL] = METHODS["neuron_ablation"]
    path = tmp_path / "index.html"
    path.write_text(render(full_results(names), "0" * 64))
    opened = Opened(browser, path.as_uri())
    for name in NAMES:
        opened.draw(name)
    assert {EVIL, "--ink", "datum.own"} <= set(opened.texts("curves"))
    assert {EVIL, "--ink", "datum.own"} <= set(opened.texts("orders"))
    opened.close()
