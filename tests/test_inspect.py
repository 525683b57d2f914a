"""Inspect: what is shown of a neuron is what the model does, text stays text, and wrong input is one line."""

import json
import re
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nibench import reading as reading_module
from nibench.activations import extract
from nibench.archive import pack
from nibench.errors import InputError
from nibench.inspection import Inspection, in_short, inspect, render
from nibench.model import LanguageModel, load_model
from nibench.neuron_facts import effects, output_tokens, places
from nibench.passages import Label, Passage, Passages, find_passages, inspect_command
from nibench.reading import bands, by_token, concepts, context, extremes, find_neuron, read_neuron
from nibench.record import write_record
from nibench.submissions import resolve_model
from nibench.task import Sentence, TextCorpus
from nibench.truth.files import read_truth
from tests.references.reading import activations, pairs_won
from tests.synthetic_records import record
from tests.test_cli import nibench
from tests.test_page import EVIL
from tests.tiny import WORDS, byte_tokenizer, network, piece_tokenizer, tiny

if TYPE_CHECKING:
    from playwright.sync_api import Browser

ROOT = Path(__file__).parent.parent
NAMES = ["L1.mlp_post.5", "L2.mlp_pre.7", "L0.attn_out.3", "L1.residual.11", "embed.2"]


def passages(n: int = 30, seed: int = 0, longest: int = 12) -> Passages:
    """Random words of the tiny vocabulary, the last of each passage labelled by its length."""
    rng = np.random.default_rng(seed)
    items = []
    for _ in range(n):
        words = tuple(rng.choice(WORDS, rng.integers(1, longest)).tolist())
        name = ("short", "middle", "long")[min(2, len(words) // 4)]
        items.append(Passage(words, (Label(len(words) - 1, "length", name),)))
    return Passages(tuple(items), "a test")


@pytest.fixture(scope="module")
def gpt2() -> LanguageModel:
    return tiny("gpt2")


# what the model does


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert_mlm", "distilbert"])
@pytest.mark.parametrize("name", NAMES)
def test_activations_are_those_of_a_direct_pass(kind: str, name: str) -> None:
    model, text = tiny(kind), passages()
    found = read_neuron(model, name, text)
    tap, unit = find_neuron(model, name)
    direct = [v for passage in text.items for v in activations(model, tap, unit, " ".join(passage.words))]
    assert len(direct) == len(found.values)
    np.testing.assert_allclose(found.values, direct, atol=2e-5)


def test_the_same_words_have_the_same_activations_as_in_a_task(gpt2: LanguageModel) -> None:
    text = passages()
    corpus = TextCorpus(
        tuple(Sentence(p.words, (0,) * len(p.words), "rank") for p in text.items), ("a", "b"), "x"
    )
    labelled = replace(
        corpus,
        sentences=(
            replace(corpus.sentences[0], labels=(1,) * len(text.items[0].words)),
            *corpus.sentences[1:],
        ),
    )
    read = extract(gpt2, labelled, cache=False)
    column = read.activations[:, read.neurons.index("L1.mlp_post.5")]
    np.testing.assert_allclose(read_neuron(gpt2, "L1.mlp_post.5", text).values, column, atol=2e-5)


def test_text_longer_than_the_window_is_read_to_its_end_in_parts(gpt2: LanguageModel) -> None:
    words = tuple(np.random.default_rng(1).choice(WORDS, 100).tolist())
    found = read_neuron(gpt2, "L1.mlp_post.5", Passages((Passage(words),), "a test"))
    assert [found.token(row) for row in range(len(found.values))] == list(words)
    room = gpt2.window - 1
    tap, unit = find_neuron(gpt2, "L1.mlp_post.5")
    parts = [words[i : i + room] for i in range(0, 100, room)]
    direct = [v for part in parts for v in activations(gpt2, tap, unit, " ".join(part))]
    np.testing.assert_allclose(found.values, direct, atol=2e-5)


def test_text_read_in_small_chunks_is_the_same(gpt2: LanguageModel, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = read_neuron(gpt2, "L1.mlp_post.5", passages())
    monkeypatch.setattr(reading_module, "AT_ONCE", 1)
    steps: list[tuple[int, int]] = []
    parts = read_neuron(gpt2, "L1.mlp_post.5", passages(), lambda *step: steps.append(step))
    np.testing.assert_allclose(parts.values, whole.values, atol=2e-5)
    assert np.array_equal(parts.spans, whole.spans)
    assert len(steps) == 30
    assert steps[-1][0] == steps[-1][1] == passages().n_words


# what is shown of it


@pytest.mark.parametrize("kind", ["gpt2", "bert_mlm"])
def test_the_strongest_contexts_are_those_that_a_loop_finds(kind: str) -> None:
    model, text = tiny(kind), passages(60)
    found = read_neuron(model, "L1.residual.11", text)
    for side, sign in (("highest", 1), ("lowest", -1)):
        best: dict[str, float] = {}
        for number, passage in enumerate(text.items):
            own = sign * found.values[found.starts[number] : found.starts[number + 1]]
            at = int(np.argmax(own))
            seen = passage.words[: at + 1] if kind == "gpt2" else passage.words
            best.setdefault(" ".join(seen), float(own[at]))
        expected = sorted(best.values(), reverse=True)[:7]
        got = extremes(found, 7)[side]
        assert [sign * one["value"] for one in got] == pytest.approx(expected)
        for one in got:
            assert one["pieces"][one["peak"]][1] == one["value"]
            assert one["pieces"][one["peak"]][0] == one["token"]


def test_where_many_tokens_are_lowest_none_is_shown_as_such(gpt2: LanguageModel) -> None:
    found = read_neuron(gpt2, "L1.mlp_post.5", passages())
    clipped = replace(found, values=np.maximum(found.values, np.median(found.values)))
    assert extremes(clipped, 3)["lowest"] == []
    first = bands(clipped)[0]
    assert first["low"] == first["high"]
    assert first["share"] >= 0.5
    assert {one["value"] for one in first["contexts"]} == {first["low"]}


def test_a_constant_neuron_is_one_band_and_tells_nothing(gpt2: LanguageModel) -> None:
    found = read_neuron(gpt2, "L1.mlp_post.5", passages())
    constant = replace(found, values=np.full_like(found.values, 0.5))
    assert [(band["low"], band["high"], band["share"]) for band in bands(constant)] == [(0.5, 0.5, 1.0)]
    assert {row["auc"] for row in concepts(constant)[0]["classes"]} == {0.5}
    document = inspect(gpt2, "L1.mlp_post.5", passages()).document
    shown = document | {
        "statistics": reading_module.statistics(constant),
        "colour": {"centre": constant.centre, "limit": constant.limit},
        "bands": bands(constant),
    }
    assert "At .5" in render(shown)


def test_bands_hold_every_token_once_and_their_own_contexts(gpt2: LanguageModel) -> None:
    found = read_neuron(gpt2, "L1.mlp_post.5", passages(60))
    made = bands(found)
    assert sum(band["share"] for band in made) == pytest.approx(1)
    for before, after in pairwise(made):
        assert before["high"] == after["low"]
    for number, band in enumerate(made):
        values = [one["value"] for one in band["contexts"]]
        assert all(band["low"] < v <= band["high"] or (number == 0 and v == band["low"]) for v in values)
        assert len({one["passage"] for one in band["contexts"]}) == len(values)


def test_classes_are_told_apart_as_often_as_pairs_say(gpt2: LanguageModel) -> None:
    text = passages(60)
    found = read_neuron(gpt2, "L1.mlp_post.5", text)
    last = found.values[found.starts[1:] - 1].tolist()
    names = [passage.labels[0].name for passage in text.items]
    (length,) = concepts(found)
    assert {row["class"]: row["items"] for row in length["classes"]} == {
        n: names.count(n) for n in set(names)
    }
    for row in length["classes"]:
        own = [name == row["class"] for name in names]
        assert row["auc"] == pytest.approx(pairs_won(last, own), abs=1e-4)
        assert row["mean"] == pytest.approx(
            np.mean([v for v, x in zip(last, own, strict=True) if x]), rel=1e-5
        )


def test_means_by_token_are_those_of_a_loop(gpt2: LanguageModel) -> None:
    found = read_neuron(gpt2, "L1.mlp_post.5", passages(60))
    values = defaultdict(list)
    words = [word for passage in found.passages.items for word in passage.words]
    for word, value in zip(words, found.values.tolist(), strict=True):
        values[word].append(value)
    means = {word: np.mean(some) for word, some in values.items() if len(some) >= 5}
    made = by_token(found, 4)
    assert [row["token"] for row in made["highest"]] == sorted(means, key=means.__getitem__)[::-1][:4]
    assert [row["token"] for row in made["lowest"]] == sorted(means, key=means.__getitem__)[:4]
    for row in made["highest"] + made["lowest"]:
        assert row["mean"] == pytest.approx(means[row["token"]], rel=1e-5)
        assert row["count"] == len(values[row["token"]])


def rejoined(one: dict) -> str:
    return "".join((" " if spaced else "") + piece for piece, _, spaced in one["pieces"])


BYTES = LanguageModel.from_network(network("gpt2", 300), byte_tokenizer())


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text("dogcat é漢😀<>&\"'", min_size=1, max_size=5), min_size=1, max_size=4))
def test_the_pieces_of_a_context_are_its_text(words: list[str]) -> None:
    split = " ".join(words).split()
    if not split:
        return
    found = read_neuron(BYTES, "L1.mlp_post.5", Passages((Passage(tuple(split)),), "a test"))
    row = int(found.values[: 2 * reading_module.AFTER].argmax())
    one = context(found, row)
    if one["cut"] == [False, False]:
        assert rejoined(one).replace(" ␣", "") == " ".join(split)  # ␣: the peak is a token of a space alone
        assert one["pieces"][one["peak"]][1] == one["value"] == pytest.approx(float(found.values[row]))


def test_sub_words_join_to_the_words_that_were_given() -> None:
    model = LanguageModel.from_network(network("bert", 64), piece_tokenizer())
    found = read_neuron(
        model, "L1.mlp_post.5", Passages((Passage(("The", "Dogs", "running", ".")),), "a test")
    )
    assert rejoined(context(found, 0)) == "The Dogs running ."
    assert found.tokens.tolist() == ["The", "Dog", "…s", "run", "…ning", "."]


@pytest.mark.parametrize(
    ("aucs", "line"),
    [
        ((0.2, 0.8), "Of c, it is higher for b than for the rest (AUC .80)."),
        ((0.1, 0.7), "Of c, it is lower for a than for the rest (AUC .10)."),
        ((0.45, 0.55), "It hardly tells c (AUC .55)."),
        ((None,), None),
    ],
)
def test_the_summary_says_what_a_neuron_tells(
    gpt2: LanguageModel, aucs: tuple[float | None, ...], line: str | None
) -> None:
    rows = [{"class": name, "auc": auc} for name, auc in zip("ab", aucs, strict=False)]
    document = inspect(gpt2, "L1.mlp_post.5", passages()).document
    lines = in_short(document | {"concepts": [{"concept": "c", "classes": rows}]})
    assert [one for one in lines if "AUC" in one] == ([] if line is None else [line])


def test_the_summary_points_to_the_side_that_reaches_farther(gpt2: LanguageModel) -> None:
    document = inspect(gpt2, "L1.mlp_post.5", passages()).document
    ends = document["statistics"] | {"min": -8.0, "max": 1.0}
    lines = in_short(document | {"statistics": ends, "colour": {"centre": 0.0, "limit": 8.0}})
    assert "farther down (to −8) than up (1)" in lines[-1]
    assert not any("farther" in one for one in in_short(document | {"statistics": ends | {"max": 8.0}}))


# what is known beside


def test_what_a_neuron_writes_is_the_change_of_the_logits_with_the_norm_held() -> None:
    for kind in ("gpt2", "llama", "gemma2"):
        model = tiny(kind)
        found = output_tokens(model, "L1.mlp_post.5", 30)
        assert found is not None
        tap, unit = find_neuron(model, "L1.mlp_post.5")
        weight = tap.module.weight
        row = (weight[unit] if kind == "gpt2" else weight[:, unit]).double()
        norm = model.architecture.final_norm()
        if kind == "gpt2":
            row = row - row.mean()
        row = row * ((1 + norm.weight) if kind == "gemma2" else norm.weight)
        logits = model.network.lm_head.weight.double() @ row
        logits -= logits.mean()
        names = model.tokenizer.convert_ids_to_tokens(list(range(len(logits))))
        expected = {name: float(v) for name, v in zip(names, logits, strict=True)}
        assert {one["token"]: one["logit"] for one in found["promoted"]} == pytest.approx(expected, abs=1e-4)
        assert found["promoted"][0]["logit"] == pytest.approx(max(expected.values()), abs=1e-4)
        assert found["suppressed"][0]["logit"] == pytest.approx(min(expected.values()), abs=1e-4)
    assert output_tokens(tiny("gpt2"), "L1.residual.5", 3) is None
    assert output_tokens(tiny("bert_mlm"), "L1.mlp_post.5", 3) is None


def test_a_truth_model_says_what_its_neuron_does() -> None:
    folder = Path(resolve_model("glass8"))
    truth = read_truth(folder).concept("tense")
    name = truth.carriers()[0]
    planted, twin = load_model(folder), load_model(resolve_model("glass8-natural"))
    first = effects(planted, name)[0]
    assert (first["concept"], first["role"]) == ("tense", "used")
    assert first["weight"] == truth.neurons[name].weight
    assert first["interchange"] == pytest.approx(first["weight"], abs=0.05)
    decoy = truth.neurons[name].decoy
    assert {row["concept"]: row["role"] for row in effects(planted, decoy)}["tense"] == "decoy"
    assert {row["role"] for row in effects(twin, name)} == {None}
    assert effects(planted, "L2.residual.3") == effects(tiny("gpt2"), name) == []


def test_ranks_are_counted_from_the_records_of_this_model(gpt2: LanguageModel, tmp_path: Path) -> None:
    scores = np.zeros(72)
    scores[[3, 29, 40]] = 2, 1, 1  # L1.mlp_post.5 is column 29
    mine, other = {"model": gpt2.digest}, {"model": "another"}
    gains = {"truth/gains[carries]": np.arange(72.0)}
    for method, digests, arrays in (
        ("lca", mine, {"scores": scores} | gains),
        ("auc", mine, {"scores": np.arange(72.0)}),
        ("lda", other, {"scores": scores}),
    ):
        made = record(method, "t", "tiny gpt2", digests=digests, n_neurons=72)
        sums = {"abl.auc[mean]/moved": np.ones(3)}  # an archive keeps arrays with sums whole
        write_record(made, arrays | sums, tmp_path / "records")
    found = places(gpt2, "L1.mlp_post.5", [tmp_path])
    assert found is not None
    assert {row["method"]: row["ranks"] for row in found["methods"]} == {"lca": {"t": 2.5}, "auc": {"t": 43}}
    assert found["measured"] == {"t": {"carries": [29, 43]}}
    assert places(gpt2, "L1.mlp_post.5", [pack(tmp_path, tmp_path / "all.tar.xz")]) == found
    with pytest.raises(InputError, match="No record of L1.residual.5"):
        places(gpt2, "L1.residual.5", [tmp_path])


# text


FILES = {
    "a.txt": "the dog runs\n\nred   ball\n",
    "b.csv": 'label,sentence\n1,the dog runs\n0,"red\nball"\n',
    "c.tsv": "text\nthe dog runs\nred ball\n",
    "d.jsonl": '{"text": "the dog runs", "id": 1}\n\n{"text": "red ball"}\n',
    "e.jsonl": '{"only": "the dog runs"}\n{"only": "red ball"}\n',
    "f.conllu": "".join(
        "".join(f"{i}\t{w}{chr(9)}{chr(9).join('_' * 8)}\n" for i, w in enumerate(text.split(), 1)) + "\n"
        for text in ("the dog runs", "red ball")
    ),
}


@pytest.mark.parametrize("name", FILES)
def test_text_of_every_format_is_read(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(FILES[name])
    found = find_passages(None, data=tmp_path / name, cap=100)
    assert [passage.words for passage in found.items] == [("the", "dog", "runs"), ("red", "ball")]
    assert found.source == name
    assert found.notes == ()
    some = find_passages(None, data=tmp_path / name, cap=4)
    assert [passage.words for passage in some.items] == [("the", "dog", "runs"), ("red",)]
    assert some.notes == ("reading stopped after 4 words",)


@pytest.mark.parametrize(
    ("name", "content", "column", "line"),
    [
        ("a.txt", b"", None, "has no words"),
        ("a.txt", b" \n\n", None, "has no words"),
        ("a.txt", b"\xff\xfe\x00", None, "is not text in UTF-8"),
        ("a.txt", b"ab\0cd", None, "is a binary file"),
        ("a.txt", b"words", "text", "has no columns"),
        ("a.csv", b"x,y\n1,2\n", None, "It has x, y; say which holds the text: --column NAME"),
        ("a.csv", b"x,sentense\n1,2\n", "sentence", "Did you mean 'sentense'?"),
        ("a.csv", b"", None, "has no column named text. It has none"),
        ("a.jsonl", b'{"text": 3}\n', None, "has no column named text. It has none"),
        ("a.jsonl", b"words\n", None, "line 1 is no JSON"),
        ("a.jsonl", b"[1]\n", None, "line 1 is '[1]'; expected an object"),
        ("a.conllu", b"", None, "is empty; expected sentences in CoNLL-U"),
        ("a.conllu", b"words\n", None, "CoNLL-U has 10"),
    ],
)
def test_a_file_that_holds_no_text_is_one_line(
    name: str, content: bytes, column: str | None, line: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=re.escape(line)):
        find_passages(None, data=tmp_path / name, column=column, cap=100)


def test_a_truth_model_brings_its_own_sentences_with_their_classes() -> None:
    folder = Path(resolve_model("glass8"))
    own = find_passages(folder, cap=500)
    assert 400 < own.n_words <= 500
    assert {label.concept for p in own.items for label in p.labels} == set(read_truth(folder).concepts)
    assert len(set(own.items)) == len(own.items)
    assert own == find_passages(folder, cap=500)
    tense = find_passages(folder, task="glass_tense", cap=500)
    assert {label.name for p in tense.items for label in p.labels} == {"Pres", "Past"}
    assert all(p.labels[0].word == len(p.words) - 1 for p in tense.items)


@pytest.mark.parametrize(
    ("more", "line"),
    [
        ({}, "Add --data FILE"),
        ({"task": "graded_noise_world"}, "it takes no model"),
        ({"task": "glass_tense"}, "for glass-box models and their twins only"),
        ({"data": "tests"}, "is a folder"),
        ({"data": "nowhere.txt"}, "No file 'nowhere.txt'"),
        ({"column": "text"}, "add --data FILE.csv"),
    ],
)
def test_text_that_is_not_there_is_one_line(more: dict, line: str) -> None:
    with pytest.raises(InputError, match=re.escape(line)):
        find_passages(ROOT / "tests", cap=100, **more)


@pytest.mark.parametrize(
    ("cell", "tier", "command"),
    [
        ({}, "glass-box", "nibench inspect L2.mlp_post.1 --model glass8 --task glass_tense"),
        (
            {"task": "number_ewt", "model": "a b"},
            "",
            "nibench inspect L2.mlp_post.1 --model 'a b' --task number_ewt --data DIR",
        ),
        ({"task": "somebody_s_own"}, "glass-box", "nibench inspect L2.mlp_post.1 --model glass8"),
        ({"task": "somebody_s_own"}, "", "nibench inspect L2.mlp_post.1 --model glass8 --data FILE"),
        ({"model": None}, "world", ""),
        ({"control": "random_model"}, "", ""),
    ],
)
def test_the_command_of_a_cell_names_whose_text_it_needs(cell: dict, tier: str, command: str) -> None:
    made = record("lca", "glass_tense", "glass8", tier=tier)
    made = made.model_copy(update={"cell": made.cell.model_copy(update=cell)})
    assert inspect_command(made, "L2.mlp_post.1") == command


# names


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("L1.mlp_pots.5", "Did you mean 'L1.mlp_post.5'?"),
        ("L9.mlp_post.5", "tiny gpt2 has 3 layers, L0 to L2"),
        ("L1.mlp_post.24", "there are 24, L1.mlp_post.0 to L1.mlp_post.23"),
        ("embed.16", "there are 16, embed.0 to embed.15"),
        ("15", "Expected L2.mlp_post.15"),
        ("", "Expected L2.mlp_post.15"),
    ],
)
def test_an_unknown_neuron_is_one_line(gpt2: LanguageModel, name: str, line: str) -> None:
    with pytest.raises(InputError, match=re.escape(line)):
        find_neuron(gpt2, name)


# the page


def hostile(model: LanguageModel) -> Inspection:
    """A page in which every text is an attack."""
    words = (EVIL, '"onmouseover="alert(1)', "</bdi></style>", "<!--", "\u202ereversed", "dog")
    text = Passages(
        (Passage(words, (Label(0, EVIL, EVIL), Label(5, EVIL, "b"))), *passages(20).items), EVIL, (EVIL,)
    )
    found = inspect(replace(model, name=f"{EVIL}"), "L1.mlp_post.5", text)
    found.document["places"] = {
        "tasks": [EVIL],
        "of": {EVIL: 72},
        "methods": [{"method": EVIL, "claims": EVIL, "ranks": {EVIL: 1.0}}],
        "measured": {},
    }
    return found


def test_text_is_never_markup(gpt2: LanguageModel) -> None:
    found = hostile(gpt2)
    page = found.page()
    assert "<script" not in page
    assert "onmouseover" in page
    assert '"onmouseover' not in page
    assert "<!--" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert page.count("</style>") == 1
    assert "default-src &#39;none&#39;" in page
    assert "<script" not in found._repr_html_()


@pytest.fixture(scope="module")
def known() -> Inspection:
    """A used neuron of a glass-box on its own sentences."""
    model = load_model(resolve_model("glass8"))
    return inspect(model, "L2.mlp_post.23", find_passages(model.folder, cap=4000))


def test_an_attack_in_the_text_does_nothing(browser: "Browser", gpt2: LanguageModel, tmp_path: Path) -> None:
    hostile(gpt2).write(tmp_path / "neuron.html")
    context_ = browser.new_context()
    opened = context_.new_page()
    alarms: list[str] = []
    opened.on("dialog", lambda dialog: (alarms.append(dialog.message), dialog.dismiss()))
    opened.on("console", lambda message: alarms.append(message.text))
    opened.on("pageerror", lambda error: alarms.append(str(error)))
    opened.goto((tmp_path / "neuron.html").as_uri())
    assert EVIL in opened.inner_text("header")
    assert opened.inner_text("#ranks th[scope=row]") == EVIL
    context_.close()
    assert alarms == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_stands_alone_and_fits(
    browser: "Browser", known: Inspection, tmp_path: Path, width: int, scheme: str
) -> None:
    path = tmp_path / "neuron.html"
    known.write(path)
    context_ = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    opened = context_.new_page()
    told: list[str] = []
    opened.on("console", lambda message: told.append(message.text))
    opened.on("pageerror", lambda error: told.append(str(error)))
    opened.on("request", lambda request: told.append(request.url) if request.url != path.as_uri() else None)
    opened.goto(path.as_uri())
    assert opened.evaluate("document.documentElement.scrollWidth") == width
    assert "used for tense" in opened.inner_text(".answer")
    shown = opened.eval_on_selector_all(".contexts mark", "marks => marks.map(m => m.title)")
    assert float(shown[0]) > 7  # the present tense is its high side
    assert len(shown) == sum(len(known.document[key]) for key in ("highest", "lowest")) + sum(
        len(band["contexts"]) for band in known.document["bands"]
    )
    folder = ROOT / "test-artifacts"
    folder.mkdir(exist_ok=True)
    opened.screenshot(path=folder / f"neuron-{width}-{scheme}.png", full_page=True)
    context_.close()
    assert told == []


COLOURS = """marks => marks.map(m => {
  const canvas = Object.assign(document.createElement('canvas'), {width: 1, height: 1}).getContext('2d');
  const seen = [];
  for (const layers of [[getComputedStyle(document.body).backgroundColor, getComputedStyle(m).backgroundColor],
                        [getComputedStyle(m).color]]) {
    for (const layer of layers) { canvas.fillStyle = layer; canvas.fillRect(0, 0, 1, 1); }
    seen.push([...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3));
  }
  return seen;
})"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stays_readable_on_the_fullest_colour(
    browser: "Browser", known: Inspection, tmp_path: Path, scheme: str
) -> None:
    def luminance(colour: list[int]) -> float:
        linear = [c / 3294.6 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
        return float(np.dot([0.2126, 0.7152, 0.0722], linear))

    path = tmp_path / "neuron.html"
    path.write_text(re.sub(r"--c:\d+%", "--c:100%", known.page()))
    opened = browser.new_context(color_scheme=scheme).new_page()  # type: ignore[arg-type]
    opened.goto(path.as_uri())
    for side in (".t.b", ".t:not(.b)"):
        behind, text = opened.eval_on_selector_all(f"{side} >> nth=0", COLOURS)[0]
        lighter, darker = sorted((luminance(behind), luminance(text)), reverse=True)
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5
    opened.context.close()


# the command


def test_json_is_all_that_is_printed_and_all_that_the_page_shows(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("today , the cows sleep .\nyesterday , the old aunt ran .\n" * 3)
    out = tmp_path / "neuron.html"
    done = nibench(
        *("inspect", "L2.mlp_post.23", "--model", "glass8", "--data", str(file), "--out", str(out), "--json")
    )
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["source"] == {"text": "text.txt", "passages": 6, "words": 39, "notes": []}
    assert out.read_text() == render(document)
    assert len(document["highest"]) == 2  # what was said before is not said again


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["L2.mlp_post.999", "--model", "glass8"], "L2.mlp_post.0 to L2.mlp_post.191"),
        (["L2.mlp_post.3", "--model", "glass8", "--cap", "0"], "cap"),
        (["L2.mlp_post.3", "--model", "glass8", "--out", "page.txt"], "ends in .html"),
        (["L2.mlp_post.3", "--model", "glass8", "--data", "nowhere.csv"], "No file 'nowhere.csv'"),
        (["L2.mlp_post.3"], "model"),
    ],
)
def test_wrong_use_is_one_line(arguments: list[str], line: str, tmp_path: Path) -> None:
    done = nibench("inspect", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(done.stderr.strip().splitlines()) == 1
    assert line in done.stderr
    assert list(tmp_path.iterdir()) == []


# real text


def test_a_real_model_on_a_treebank(shared: Path) -> None:
    model = load_model(shared / "models" / "stories260K")
    with pytest.raises(InputError, match="stories260K ships none. Add --data FILE"):
        find_passages(model.folder, cap=100)
    text = find_passages(model.folder, data=shared / "data/ud/en_ewt-ud-dev.conllu", cap=2000)
    found = inspect(model, "L2.mlp_post.15", text)
    tap, unit = find_neuron(model, "L2.mlp_post.15")
    best = found.document["highest"][0]
    direct = activations(model, tap, unit, " ".join(text.items[best["passage"]].words))
    assert max(direct) == pytest.approx(best["value"], abs=1e-4)
    assert float(found.reading.values.max()) == pytest.approx(best["value"])
    shown = best["pieces"][best["peak"]]
    assert shown[1] == best["value"]
    assert torch.tensor(direct).argmax() == int(
        found.reading.values[
            found.reading.starts[best["passage"]] : found.reading.starts[best["passage"] + 1]
        ].argmax()
    )


def test_classes_of_a_treebank_task(shared: Path) -> None:
    model = load_model(shared / "models" / "stories260K")
    text = find_passages(model.folder, task="number_ewt", data=shared / "data", cap=1500)
    found = inspect(model, "L3.residual.7", text).document
    (number,) = found["concepts"]
    assert {row["class"] for row in number["classes"]} == {"Plur", "Sing"}
    assert number["classes"][0]["auc"] == pytest.approx(1 - number["classes"][1]["auc"], abs=2e-4)
