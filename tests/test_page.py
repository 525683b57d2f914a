"""The page without a browser: text stays text, it stands alone, it holds every view its filters can ask for."""

import base64
import gzip
import hashlib
import html
import json
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from nibench.boards import boards
from nibench.leaderboard import build
from nibench.page import packed, render
from nibench.record import Record
from nibench.results import collect
from nibench.stored import Stored, read_results
from nibench.summary import answers
from nibench.views import view
from nibench.wording import count, listed, number, plain, seconds
from tests.synthetic_records import record, results_folder, score

EVIL = "<script>alert(1)</script>"


def evil_page() -> str:
    """A page of one record in which every text is an attack."""
    scores = [score(name, 0.5, 0.5) for name in ("encodes", "abl.auc[interchange]", "gt.ndcg[carries]")]
    card = {
        "family": EVIL,
        "claims": EVIL,
        "needs": [EVIL],
        "paper": f"javascript:alert(1) {EVIL}",
        **dict.fromkeys(("summary", "scope", "scalability", "complexity", "limits", "input"), EVIL),
    }
    texts = {"top": [EVIL], "flags": [EVIL], "notes": [EVIL], "command": f"nibench {EVIL} <!--"}
    made = record(EVIL, EVIL, f"models/{EVIL}", scores=scores, card=card, **texts)
    failed = record("lca", EVIL, f"models/{EVIL}", status="failed", reason=f"ValueError: </script>{EVIL}")
    return render(collect([made, failed]), "0" * 64)


def embedded(page: str) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found.group(1))


def unpacked(page: str) -> dict:
    found = re.search(r'id="packed">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(gzip.decompress(base64.b64decode(found.group(1))))


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
    assert len(page) < 1_200_000


def test_the_table_is_there_without_javascript(tmp_path: Path) -> None:
    page = build([results_folder(tmp_path)], tmp_path / "out").read_text()
    table = page[page.index('<table id="board">') : page.index("</table>")]
    assert table.count('<th scope="row">') == 12
    assert table.count('aria-sort="descending"') == 1
    assert 'title="shares the estimand"' in table


def test_every_choice_of_places_has_its_view_and_the_same_places_have_one(tmp_path: Path) -> None:
    results = collect(read_results([results_folder(tmp_path, methods=3)]))
    page = render(results, "0" * 64)
    places, views = embedded(page)["places"], unpacked(page)["views"]
    keys = ("tier", "concept", "task", "model")
    options = [{None, *(place[key] for place in places)} for key in keys]
    found = {
        tuple(
            i for i, p in enumerate(places) if all(w in (None, p[k]) for k, w in zip(keys, want, strict=True))
        )
        for want in product(*options)
    }
    whole = tuple(range(len(places)))
    assert set(views) == {",".join(map(str, chosen)) for chosen in found - {whole, ()}}
    twins = [place for place in results.places if place.model == "glass-s-twin"]
    key = ",".join(str(results.places.index(place)) for place in twins)
    assert views[key] == json.loads(json.dumps(view(results, boards(results, twins), twins)))


def test_what_is_packed_is_the_same_each_time() -> None:
    assert packed({"a": [1, None]}) == packed({"a": [1, None]})


def test_each_method_task_and_metric_has_a_card_with_an_anchor(tmp_path: Path) -> None:
    page = render(collect(read_results([results_folder(tmp_path)])), "0" * 64)
    lca, task, metric = (
        page[page.index(f'id="{one}"') :].partition("</details>")[0]
        for one in ("method-lca", "task-number_glass", "metric-abl.auc[interchange]")
    )
    for words in (
        "<dt>scope</dt><dd>global</dd>",
        "<dt>supervision</dt><dd>yes</dd>",
        "https://example.org/paper",
    ):
        assert words in lca
    for words in (
        "<dd>number</dd>",
        "glass-s and glass-s-twin",
        "carries, required, responds and associated",
        "<dd>64</dd>",
    ):
        assert words in task
    assert "higher is better" in metric
    assert "correlation .96" in metric  # what the study of metrics found


def test_a_bundled_task_s_licence_is_shown_for_that_very_version_only() -> None:
    path = Path(__file__).parent.parent / "tasks" / "glass_tense.py"
    version = hashlib.sha256(path.read_bytes()).hexdigest()
    scores = [score("encodes", 0.5, 0.5)]
    for digest, shown in ((version, True), ("f" * 64, False)):
        one = record("lca", "glass_tense", scores=scores, digests={"task": digest})
        assert ("Apache-2.0" in render(collect([one]), "0" * 64)) == shown


def test_a_board_without_scores_says_so() -> None:
    failed = record("lca", status="failed", reason="ValueError: no")
    assert "No cell has a score yet." in render(collect([failed]), "0" * 64)


def test_not_a_number_becomes_nothing() -> None:
    scores = [score("encodes", float("nan")), score("gt.decoy", float("nan"), direction=-1)]
    data = embedded(render(collect([record("lca", scores=scores)]), "0" * 64))
    assert data["view"]["beside"]["lca"]["decoys"] is None


def test_the_first_neurons_are_counted_up_to_as_many_as_are_right() -> None:
    anatomy = {"4": {"used": 3.0, "decoy": 1.0}, "10": {"used": 4.0, "background": 6.0}}
    scores = [score("encodes", 0.5, 0.5), score("gt.anatomy", 4, direction=0, details={"anatomy": anatomy})]
    data = embedded(render(collect([record("lca", scores=scores)]), "0" * 64))
    assert data["view"]["beside"]["lca"]["anatomy"] == {
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
    view = data["view"]
    share, low, high = view["beside"]["lca"]["anatomy"]["used"]
    assert share == pytest.approx(0.625)
    assert 0.25 <= low < 0.5 < 0.75 < high <= 1
    oracle, least, most = view["oracle"]["truth.carries"]
    assert oracle == pytest.approx(0.85)
    assert 0.7 <= least < 0.8 < 0.9 < most <= 1
    assert f'>{number(oracle)}<span class="range">{number(least)} to {number(most)}</span>' in page
    assert data["figures"]["agreement_level"] == "tasks"  # four models are too few for what needs no truth
    (low, high), value = (
        data["figures"]["agreement"][0]["ends"][1],
        data["figures"]["agreement"][0]["values"][1],
    )
    assert low <= value <= high
    assert f'title="{number(low)} to {number(high)}"' in page
    few = embedded(render(collect(made[:4]), "0" * 64))
    assert few["figures"]["agreement_level"] == "nothing"
    assert few["figures"]["agreement"][0]["ends"][1] == [None, None]


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
    assert "First by the truth of their claim: own (carries, .70)." in text


def told(records: list[Record]) -> list[tuple[str, list[str]]]:
    found = collect(records)
    return answers(found, boards(found))


def test_a_first_that_computes_the_board_s_definition_is_told_from_the_best_that_does_not() -> None:
    own = truth("own", 1.0, "carries")
    own = own.model_copy(
        update={"card": own.card.model_copy(update={"shares_estimand": ["carries"]}), "n_neurons": 64}
    )
    other = truth("other", 0.7, "carries").model_copy(update={"n_neurons": 64})
    (_, which), (_, sure), _ = told([own, other])
    assert which[1].endswith("so it marks the ceiling. The best that does not: other, .70.")
    assert sure[-1].startswith(
        "The answer is known in 1 cell (one task in one model): 1 glass-box model, of 64"
    )
    assert "ceiling" not in " ".join(told([other])[0][1])
    blind = truth("loud", 0.4, "none")
    blind = blind.model_copy(update={"card": blind.card.model_copy(update={"needs": ["ACTIVATIONS"]})})
    assert (
        "Without a look at any label, loud scores .40: read the others over it." in told([other, blind])[0][1]
    )


def test_marks_of_code_and_emphasis_are_no_part_of_a_card() -> None:
    assert plain("the gender of *his* in ``rank`` and `eval`") == "the gender of his in rank and eval"
    assert plain("O(N*D*K), 2 * 3 * 4") == "O(N*D*K), 2 * 3 * 4"


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
