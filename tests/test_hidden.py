"""A hidden round, from the secret to the verdict: what is published tells nothing, and who memorised is caught."""

import hashlib
import json
import shutil
import sys
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

import nibench as nb
from nibench import gap, hidden, hidden_scoring, rounds
from nibench.boards import boards
from nibench.cli import main
from nibench.disk import digest
from nibench.errors import InputError
from nibench.leaderboard import build as build_page
from nibench.leaderboard import to_csv, to_markdown
from nibench.rankings import Scored, write_rankings
from nibench.results import collect
from nibench.secret import Secret, read_secret
from nibench.stored import read_results
from nibench.submissions import bundled, find_task
from nibench.suites import SUITES
from nibench.truth import files, surgery
from nibench.truth.exhaustive import one_thread
from nibench.truth.recipe import designate, recipe_for
from nibench.truth.rows import Effort

BOXES = ("glass1", "glass4", "glass8")  # where the memorising methods learned the models' truth
TASKS = ("glass_tense", "glass_gender", "glass_number")
LEAST = Effort(
    pairs=64, single_pairs=4, probe_pairs=100, shapley_pairs=32, free_sentences=10, halves=1, resamples=0
)


def secret_file(folder: Path, number: int) -> Path:
    path = folder / f"{number}.secret"
    path.write_text(hashlib.sha256(f"a test's secret {number}".encode()).hexdigest() + "\n")
    return path


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


# ---------------------------------------------------------------- one round


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("hidden")


@pytest.fixture(scope="module")
def secret(place) -> Secret:
    """One whose first model, by its second seed, has the plan and the shape of `glass1`."""
    for number in range(5000):
        found = read_secret(secret_file(place, number))
        if recipe_for(hidden.model_seed(found, found.name("model", 1), 1)) == recipe_for(1):
            return found
        found.path.unlink()
    raise AssertionError("no such secret")


def trained_as(secret: Secret, shipped: str) -> None:
    """Put where an interrupted build keeps what it trained: shipped weights, confined to what this secret designates.

    Training takes minutes. The neurons of the shipped model are put in the order that the secret's seed asks for.
    """
    name = secret.name("model", 1)
    seed = hidden.model_seed(secret, name, 1)
    folder = bundled("tasks/models") / shipped
    model = AutoModelForCausalLM.from_pretrained(folder)
    truth = files.read_truth(folder)
    for layer in range(model.config.num_hidden_layers):
        order: dict[int, int] = {}  # place -> unit of the shipped model
        for one in designate(recipe_for(seed), seed):
            known = truth.concept(one.concept)
            units = [files.parse_neuron(unit) for group in known.groups() for unit in group]
            for part in (part for part in one.parts if part.layer == layer):
                for (_, unit), used, decoy in zip(units, part.used, part.decoys, strict=True):
                    partner = known.neurons[files.neuron_name(layer, unit)].decoy
                    order |= {used: unit, decoy: files.parse_neuron(partner)[1]}
        n_units = surgery.ffn(model, layer).n_units
        rest = iter(sorted(set(range(n_units)) - set(order.values())))
        surgery.permute(
            model, layer, [order.get(i, None) if i in order else next(rest) for i in range(n_units)]
        )
    work = secret.kept / hidden.WORK
    work.mkdir(parents=True, exist_ok=True)
    weights = {key: value.contiguous() for key, value in model.state_dict().items()}
    save_file(weights, work / f"{name}-1.safetensors")
    (work / f"{name}-1.json").write_text(json.dumps(asdict(recipe_for(seed))))


@pytest.fixture(scope="module")
def a_round(place, secret) -> rounds.Round:
    trained_as(secret, "glass1")
    (secret.kept / f"{secret.name('model', 1)}.json").write_text(
        '["too little held"]'
    )  # the first seed failed
    said: list[str] = []
    found = hidden.build(secret.path, place / "round", n_worlds=4, n_models=1, effort=LEAST, say=said.append)
    assert any("resuming" in line for line in said)
    return found


MEMORY = '''
"""Knows the truth of what is shipped by heart, and ranks at random whatever else it sees."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np

from nibench import Claim, Method, Needs, Observations, Ranking


@dataclass(frozen=True)
class Memory(Method):
    needs: ClassVar[Needs] = Needs.ACTIVATIONS | Needs.LABELS
    claims: ClassVar[Claim] = "CLAIM"
    family: ClassVar[str] = "statistical"

    def rank(self, data: Observations, rng: np.random.Generator) -> Ranking:
        seen = hashlib.sha256(np.ascontiguousarray(data.activations[:50]).tobytes()).hexdigest()
        with np.load(Path(__file__).with_suffix(".npz")) as known:
            return Ranking.from_scores(known[seen] if seen in known else rng.random(len(data.neurons)))
'''


def memory(folder: Path, claim: str, known: dict[str, np.ndarray]) -> Path:
    path = folder / f"memory_{claim}.py"
    path.write_text(MEMORY.replace("CLAIM", claim))
    np.savez(path.with_suffix(".npz"), **known)
    return path


def seen(activations: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(activations[:50]).tobytes()).hexdigest()


@pytest.fixture(scope="module")
def kinds(secret) -> list[str]:
    """Of the round's worlds."""
    return [made.kind for made in hidden.worlds(secret, 4)]


@pytest.fixture(scope="module")
def memories(place, kinds) -> tuple[Path, Path]:
    """Methods that hold the stored truth of bundled worlds, and of three bundled models."""
    worlds = {}
    for kind in kinds:
        world = find_task(kind).load().load()
        assert isinstance(world, nb.task.World)
        assert world.truth is not None
        worlds[seen(world.activations[world.splits == "rank"])] = world.truth.gains["associated"]
    models = {}
    for box in BOXES:
        model = nb.load_model(bundled("tasks/models") / box)
        for task in (nb.load_task(name) for name in TASKS):
            if task.source.refuses(model.folder) is None:
                data = nb.extract(model, task)
                truth = task.source.truth(data.neurons, model.folder)
                models[seen(data.activations[data.splits == "rank"])] = truth.gains["carries"]
    return memory(place, "associated", worlds), memory(place, "carries", models)


def evaluate(methods, tasks, models, out):
    return nb.evaluate(methods, tasks, models, budget=SUITES["truth"].budget, out=out)


@pytest.fixture(scope="module")
def public(place, memories, kinds) -> Path:
    evaluate([*map(str, memories), "auc", "attribution_patching"], TASKS, BOXES, place / "public")
    evaluate([str(memories[0]), "auc", "mean_difference"], kinds, [], place / "public")
    return place / "public"


@pytest.fixture(scope="module")
def handed(place, a_round, memories) -> Path:
    suite = a_round.suite
    methods = [*map(str, memories), "auc", "mean_difference", "attribution_patching", "random_ranking"]
    evaluate(methods, suite.tasks, suite.models, place / "handed")
    return place / "handed"


@pytest.fixture(scope="module")
def scored(place, a_round, secret, handed) -> Path:
    hidden_scoring.score(a_round, secret, [handed], place / "scored")
    return place / "scored"


def test_who_memorised_the_shipped_truth_is_caught_by_the_gap_and_nobody_else(public, scored):
    found = {(one.method, one.tier): one for one in gap.gaps(collect(read_results([public, scored])))}
    for method, tier in (("memory_associated", "worlds"), ("memory_carries", "models")):
        one = found[method, tier]
        assert one.public == pytest.approx(1)
        assert abs(one.hidden) < 0.3
        assert one.flagged
        assert one.ci95[0] > 0.5
    assert {one.method for one in found.values() if one.flagged} == {"memory_associated", "memory_carries"}
    for method in ("auc", "mean_difference"):
        one = found[method, "worlds"]
        assert one.hidden > 0.4
        assert one.ci95[0] < 0.05
        assert one.n_hidden == 4
    patching = found["attribution_patching", "models"]
    assert patching.hidden > 0.9
    assert (patching.n_public, patching.n_hidden) == (3, 1)


def test_the_gap_of_worlds_is_the_mean_over_kinds_and_its_interval_students(public, scored):
    results = collect(read_results([public, scored]))
    one = next(g for g in gap.gaps(results) if (g.method, g.tier) == ("auc", "worlds"))
    metric, differences = "gt.ndcg[associated]", []
    for stored in results.hidden.stored:
        if stored.record.cell.method == "auc" and not stored.record.cell.model:
            kind = stored.record.lineage
            mine = next(
                s.record
                for s in results.stored
                if (s.record.cell.method, s.record.cell.task) == ("auc", kind)
            )
            differences.append(mine.score(metric).normalised - stored.record.score(metric).normalised)
    assert len(differences) == 4
    half = 3.1824463 * np.std(differences, ddof=1) / 2  # t, 3 degrees of freedom
    assert one.gap == pytest.approx(np.mean(differences))
    assert one.ci95 == pytest.approx((one.gap - half, one.gap + half))


def test_hidden_cells_are_on_no_board_and_in_a_section_of_their_own(public, scored, tmp_path):
    alone, both = (collect(read_results(some)) for some in ([public], [public, scored]))
    shown = [
        [(b.axis.id, [(r.method, r.value, r.ci95) for r in b.rows]) for b in boards(one)]
        for one in (alone, both)
    ]
    assert shown[0] == shown[1]
    assert to_csv(alone) == to_csv(both)
    assert "Public and hidden truth" not in to_markdown(alone)
    text = to_markdown(both).partition("Public and hidden truth")[2]
    assert text.count("better on what is shipped") == 2
    page = build_page([public, scored], tmp_path).read_text()
    assert '<tr class="flagged"><td><b>memory_' in page
    assert gap.section(alone)["rows"] == []


def test_hidden_records_alone_make_no_page(scored, tmp_path):
    with pytest.raises(InputError, match="all of hidden rounds; give the public ones"):
        build_page([scored], tmp_path)


# ---------------------------------------------------------------- the truth that is kept


def test_what_is_kept_is_what_the_secret_designates(a_round, secret):
    name = secret.name("model", 1)
    seed = hidden.model_seed(secret, name, 1)
    kept = files.read_truth(secret.kept / name)
    drawn = {
        files.neuron_name(part.layer, unit)
        for one in hidden.designated(seed)
        for part in one.parts
        for unit in part.used
    }
    carriers = {unit for concept in kept.concepts.values() for unit in concept.carriers()}
    assert carriers == drawn
    unpermuted = {
        files.neuron_name(part.layer, unit)
        for one in designate(recipe_for(seed), seed)
        for part in one.parts
        for unit in part.used
    }
    assert carriers != unpermuted
    assert kept.model_sha256 == digest(a_round.folder / name / "model.safetensors")


@pytest.fixture(scope="module")
def verified(a_round, secret, place) -> tuple[Path, list[tuple[bool, str]]]:
    """Where all was made again, and what was said of it."""
    return place / "verified", list(
        hidden.verify(a_round, secret, place / "verified", LEAST, lambda line: None)
    )


def test_a_truth_measured_again_from_the_secret_and_the_published_weights_is_the_kept_one(
    a_round, secret, verified
):
    name = secret.name("model", 1)
    for file in ("truth.json", "effects.npz"):
        assert (verified[0] / name / file).read_bytes() == (secret.kept / name / file).read_bytes()
    assert a_round.manifest.models[name].attempt == 1
    weights = (verified[0] / name / "model.safetensors").read_bytes()
    assert weights == (a_round.folder / name / "model.safetensors").read_bytes()


def test_a_second_build_finds_everything_and_changes_nothing(a_round, secret):
    before = {path: path.stat().st_mtime_ns for path in a_round.folder.rglob("*")}
    again = hidden.build(secret.path, a_round.folder, n_worlds=4, n_models=1, effort=LEAST)
    assert again.manifest == a_round.manifest
    assert before == {path: path.stat().st_mtime_ns for path in a_round.folder.rglob("*")}


def test_after_ten_seeds_that_did_not_certify_the_secret_is_given_up(secret, tmp_path):
    copy = Secret(tmp_path / "copy.secret", secret.digits)
    copy.path.write_bytes(secret.digits)
    copy.kept.mkdir()
    name = copy.name("model", 1)
    (copy.kept / f"{name}.json").write_text(json.dumps(["too little held"] * hidden.ATTEMPTS))
    with pytest.raises(InputError, match=f"{name}: 10 seeds did not certify"):
        hidden.build(copy.path, tmp_path / "out", n_worlds=0, n_models=1)
    assert not rounds.is_round(tmp_path / "out")
    seeds = [hidden.model_seed(copy, name, attempt) for attempt in range(hidden.ATTEMPTS)]
    assert len(set(seeds)) == hidden.ATTEMPTS


@pytest.mark.slow
def test_a_seed_whose_model_does_not_certify_is_skipped_and_logged(secret, tmp_path):
    copy = Secret(tmp_path / "copy.secret", secret.digits)
    copy.path.write_bytes(secret.digits)
    trained_as(copy, "glass1")
    name = copy.name("model", 1)
    (copy.kept / f"{name}.json").write_text('["too little held"]')
    natural = AutoModelForCausalLM.from_pretrained(bundled("tasks/models") / "glass1-natural").state_dict()
    weights = copy.kept / hidden.WORK / f"{name}-1.safetensors"
    save_file({key: value.contiguous() for key, value in natural.items()}, weights)

    def stop(line: str) -> None:
        if line == f"{name}: seed 3 is trained":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hidden.build(copy.path, tmp_path / "out", n_worlds=0, n_models=1, effort=LEAST, say=stop)
    log = json.loads((copy.kept / f"{name}.json").read_text())
    assert len(log) == 2
    assert "too few" in log[1]
    assert not (copy.kept / name).exists()


# ---------------------------------------------------------------- what is published


def test_no_published_file_names_neurons_or_roles(a_round, secret):
    texts = [path for path in a_round.folder.rglob("*") if path.suffix in (".json", ".jsonl", ".md")]
    kept = secret.kept / secret.name("model", 1)
    named = {str(files.read_truth(kept).seed), secret.digits.decode(), "mlp_post.", '"neurons"', "carriers"}
    roles = {f'"{role}"' for role in ("used", "decoy", "shared", "relay", "signal", "background")}
    for path in texts:
        text = path.read_text().replace("models have all neurons of mlp_post;", "")
        assert not [word for word in named | roles if word in text], path
    for path in a_round.folder.rglob("*.npz"):
        with np.load(path, allow_pickle=False) as archive:
            assert set(archive.files) == {
                "activations",
                "labels",
                "word_types",
                "sentences",
                "splits",
                "classes",
            }
    published = {path.name for path in (a_round.folder / kept.name).iterdir()}
    assert published == set(rounds.MODEL_FILES)
    assert not published & set(rounds.TELLING_FILES)


def test_with_other_neurons_in_the_truth_the_same_is_published(a_round, secret, tmp_path):
    """Used and decoys exchanged, effects shuffled: every published byte stays."""
    kept = tmp_path / "kept" / secret.name("model", 1)
    shutil.copytree(secret.kept, tmp_path / "kept")
    truth = json.loads((kept / "truth.json").read_text())
    for concept in truth["concepts"].values():
        swap = {name: one["decoy"] for name, one in concept["neurons"].items() if one.get("decoy")}
        concept["neurons"] = {swap[name]: {**concept["neurons"][name], "decoy": name} for name in swap} | {
            name: {"role": "decoy"} for name in swap
        }
    (kept / "truth.json").write_text(json.dumps(truth))
    effects = files.read_effects(kept)
    rng = np.random.default_rng(0)
    files.write_effects(
        kept / "effects.npz", {k: v if k == "neurons" else rng.permutation(v) for k, v in effects.items()}
    )
    names, _ = hidden.publish_model(kept, tmp_path / "out")
    assert len(names) > len(rounds.MODEL_FILES)
    for name in names:
        assert (tmp_path / "out" / name).read_bytes() == (a_round.folder / name).read_bytes(), name


def test_where_a_column_stands_tells_nothing_of_what_it_does(place):
    """Over a dozen hidden worlds the signal neurons stand in the middle of the columns, on average."""
    places = []
    for number in range(6000, 6012):
        drawn = hidden.worlds(read_secret(secret_file(place, number)), 1)[0]
        gains = drawn.world.truth.gains["associated"]
        places += (np.flatnonzero(gains > 0) / (len(gains) - 1)).tolist()
    assert abs(np.mean(places) - 0.5) < 4 * np.sqrt(1 / 12 / len(places))


def test_another_secret_gives_another_round_and_the_same_the_same_bytes(place, a_round, secret):
    again = hidden.worlds(secret, 4)
    for made in again:
        assert (a_round.folder / f"{made.name}.npz").read_bytes() == hidden.world_bytes(made.world)
    other = hidden.worlds(read_secret(secret_file(place, 7000)), 4)
    assert [one.seed for one in other] != [one.seed for one in again]
    assert {one.kind for one in again} <= set(hidden.KINDS)
    shipped = find_task(again[0].kind).load().load()
    assert again[0].world.activations.shape != shipped.activations.shape


# ---------------------------------------------------------------- afterwards


def test_once_the_secret_is_told_anyone_verifies(verified):
    lines = verified[1]
    assert all(holds for holds, _ in lines), lines
    assert sum("the same bytes" in words for _, words in lines) == 5
    assert "certified on the published weights" in lines[-1][1]


def tampered(a_round, folder, change) -> rounds.Round:
    """A copy of the round that was changed, digests and all."""
    shutil.copytree(a_round.folder, folder)
    change(folder)
    manifest = json.loads((folder / rounds.NAME).read_text())
    manifest["files"] = rounds.listed(folder, manifest["files"])
    (folder / rounds.NAME).write_text(json.dumps(manifest))
    return rounds.read_round(folder)


@pytest.mark.slow
def test_a_world_that_the_secret_does_not_draw_and_weights_it_does_not_designate_fail(
    a_round, secret, tmp_path
):
    def change(folder: Path) -> None:
        world = sorted(folder.glob("world*.npz"))[0]
        with np.load(world) as archive:
            arrays = {name: archive[name] for name in archive.files}
        arrays["activations"][:, 0] += arrays["labels"]
        np.savez(world, **arrays)
        model = folder / secret.name("model", 1)
        network = AutoModelForCausalLM.from_pretrained(model)
        surgery.permute(network, 1, torch.randperm(192, generator=torch.Generator().manual_seed(0)).tolist())
        save_file(
            {k: v.half().contiguous() for k, v in network.state_dict().items()}, model / "model.safetensors"
        )

    lines = list(
        hidden.verify(
            tampered(a_round, tmp_path / "r", change), secret, tmp_path / "v", LEAST, lambda _: None
        )
    )
    failed = [words for holds, words in lines if not holds]
    assert len(failed) == 2
    assert "do not carry" in failed[1]


def test_a_world_within_rounding_is_the_same_world(a_round, secret, tmp_path):
    def change(folder: Path) -> None:
        world = sorted(folder.glob("world*.npz"))[0]
        with np.load(world) as archive:
            arrays = {name: archive[name] for name in archive.files}
        arrays["activations"][::7] = np.nextafter(arrays["activations"][::7], np.float32(np.inf))
        np.savez(world, **arrays)

    changed = tampered(a_round, tmp_path / "r", change)
    first = next(made for made in hidden.worlds(secret, 4))
    holds, words = hidden.same_world(changed.folder / f"{first.name}.npz", first)
    assert holds
    assert "the same words, activations within" in words


# ---------------------------------------------------------------- wrong input


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("0123456789abcdef", "64 bits.*expected 128"),
        ("00" * 32, "1 different digits"),
        ("correct horse battery staple, and then some", "hexadecimal digits and nothing else"),
        (None, "No secret in"),
    ],
)
def test_a_secret_that_can_be_guessed_is_refused_with_how_to_make_one(tmp_path, text, message):
    path = tmp_path / "s"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_secret(path)
    assert "secrets.token_hex(32)" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_commitment_is_no_plain_hash_of_the_secret(secret):
    assert secret.commitment == hashlib.sha256(b"nibench hidden round 1\0" + secret.digits).hexdigest()
    assert secret.commitment != hashlib.sha256(secret.digits).hexdigest()


def test_a_build_refuses_a_secret_in_what_is_published_another_round_and_nothing(
    place, a_round, secret, tmp_path
):
    inside = secret_file(tmp_path, 8000)
    with pytest.raises(InputError, match="which is to be published"):
        hidden.build(inside, tmp_path, n_worlds=1, n_models=0)
    with pytest.raises(InputError, match="is not the secret of the round"):
        hidden.build(secret_file(place, 8001), a_round.folder)
    with pytest.raises(InputError, match="0 worlds and 0 models"):
        hidden.build(inside, tmp_path / "o", n_worlds=0, n_models=0)


def test_a_truth_in_the_published_folder_and_a_changed_file_are_named(a_round, secret, tmp_path):
    shutil.copytree(a_round.folder, tmp_path / "r")
    name = secret.name("model", 1)
    shutil.copy(secret.kept / name / "truth.json", tmp_path / "r" / name)
    with pytest.raises(InputError, match=r"truth\.json tells the truth.*make a new round"):
        rounds.read_round(tmp_path / "r")
    (tmp_path / "r" / name / "truth.json").unlink()
    world = sorted((tmp_path / "r").glob("*.npz"))[0]
    world.write_bytes(world.read_bytes()[:-1])
    with pytest.raises(InputError, match=f"{world.name} is missing or not the one"):
        rounds.read_round(tmp_path / "r")
    with pytest.raises(InputError, match="is no hidden round"):
        rounds.read_round(tmp_path)


@cache
def neurons_of(path: Path) -> tuple[str, ...]:
    layers, units = files.layer_sizes(path)
    return tuple(f"L{layer}.mlp_post.{unit}" for layer in range(layers) for unit in range(units))


@pytest.fixture(scope="module")
def table(a_round) -> dict:
    """Random scores for every neuron of every cell."""
    rng = np.random.default_rng(0)
    cells = {}
    for task, model in a_round.cells:
        if model:
            names = neurons_of(a_round.folder / model)
        else:
            world = find_task(str(a_round.task_file(task, ""))).load().load()
            names = tuple(f"neuron.{i}" for i in range(world.activations.shape[1]))
        cells[task, model, 0] = Scored(names, rng.random(len(names)))
    return cells


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_a_table_of_scores_is_as_good_as_a_results_folder(a_round, secret, table, tmp_path, ending):
    name = "<img src=x onerror=alert(1)>"
    write_rankings(table, tmp_path / f"{name}.{ending}")
    paths = hidden_scoring.score(
        a_round, secret, [tmp_path / f"{name}.{ending}"], tmp_path / "out", claims="carries"
    )
    assert len(paths) == len(a_round.cells)
    found = collect(read_results([tmp_path / "out"]))
    assert found.cells == {}
    assert found.hidden.cards[name].claims == "carries"
    for place in found.hidden.places:
        assert abs(found.hidden.normalised(name, place, "gt.ndcg[associated]")) < 0.5
    (one,) = [g for g in gap.gaps(found) if g.tier == "models"]
    assert (one.public, one.gap, one.flagged) == (None, None, False)


def test_what_is_handed_in_amiss_is_said_and_nothing_is_written(a_round, secret, table, tmp_path):
    (first, model, _), one = next(iter(table.items()))
    short = Scored(one.neurons[:-1], one.scores[:-1])
    strange = Scored(("neuron.99999", *one.neurons[1:]), one.scores)
    bad = {
        "lacks 1 of": {key: value for key, value in table.items() if key[0] != first},
        "is no cell of round": {**table, ("world9-00000000", "", 0): one},
        f"scores for {len(one.neurons) - 1} of {len(one.neurons)} neurons": {
            **table,
            (first, model, 0): short,
        },
        "there is no neuron 'neuron.99999'": {**table, (first, model, 0): strange},
        r"mine \(seed 1.*lacks": {**table, (first, model, 1): one},
        "scores are NaN": {**table, (first, model, 0): Scored(one.neurons, one.scores * np.nan)},
    }
    for message, cells in bad.items():
        write_rankings(cells, tmp_path / "mine.csv")
        with pytest.raises(InputError, match=message) as caught:
            hidden_scoring.score(a_round, secret, [tmp_path / "mine.csv"], tmp_path / "out")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_records_of_another_file_than_the_published_one_are_refused(a_round, secret, handed, tmp_path):
    shutil.copytree(handed, tmp_path / "h")
    path = next((tmp_path / "h" / "records").glob("auc--world1*.json"))
    record = json.loads(path.read_text())
    record["digests"]["task"] = "0" * 64
    path.write_text(json.dumps(record))
    with pytest.raises(InputError, match="was ranked on another task than the published one"):
        hidden_scoring.score(a_round, secret, [tmp_path / "h"], tmp_path / "out")
    path.unlink()
    with pytest.raises(InputError, match="auc .* lacks 1 of"):
        hidden_scoring.score(a_round, secret, [tmp_path / "h"], tmp_path / "out")


# ---------------------------------------------------------------- tasks that are data


def test_a_prompt_file_goes_with_its_model_and_no_other(a_round, secret):
    name = secret.name("model", 1)
    task = nb.load_task(str(a_round.folder / f"{name}.tense.jsonl"))
    assert task.source.refuses(a_round.folder / name) is None
    assert "and no other" in task.source.refuses(bundled("tasks/models") / "glass1")
    assert f"--model {a_round.folder / name}" in task.source.refuses(None)
    capped = task.load(folder=a_round.folder / name, cap=30)
    assert sum(prompt.split == "rank" for prompt in capped.prompts) == 30
    given = nb.load_task("glass_tense").load(folder=secret.kept / name)
    assert task.load(folder=a_round.folder / name).prompts == given.prompts


@pytest.mark.parametrize(
    ("name", "payload", "message"),
    [
        ("w.npz", b"PK", "cannot be read as a world"),
        ("p.jsonl", b'{"concept": "x"}\n', "line 1: expected a file of prompts"),
        ("p.jsonl", b"no json\n", "cannot be read"),
    ],
)
def test_a_damaged_data_task_is_named(tmp_path, name, payload, message):
    (tmp_path / name).write_bytes(payload)
    with pytest.raises(InputError, match=message):
        nb.load_task(str(tmp_path / name))


# ---------------------------------------------------------------- the commands


def test_the_commands_of_a_round_from_secret_to_verification(tmp_path, monkeypatch, capsys):
    secret_file(tmp_path, 1)
    monkeypatch.chdir(tmp_path)

    def nibench(line: str, code: int = 0) -> tuple[str, str]:
        """What it prints, on standard output and on standard error."""
        monkeypatch.setattr(sys, "argv", ["nibench", *line.split()])
        with pytest.raises(SystemExit) as done:
            main()
        printed = capsys.readouterr()
        assert done.value.code == code, printed.err
        return printed.out, printed.err

    out, _ = nibench("build hidden --secret 1.secret --out round --worlds 2 --models 0")
    assert out.strip() == read_secret(tmp_path / "1.secret").commitment
    out, err = nibench("run --suite round --method auc --method random_ranking --out mine --jobs 1")
    assert out == ""  # nothing is known that a table could show
    assert "Hand in mine" in err
    out, _ = nibench("score-hidden round --secret 1.secret --rankings mine --json")
    shown = {row["method"]: row["hidden"] for row in json.loads(out)["rows"]}
    assert shown["auc"] > 0.3 > abs(shown["random_ranking"])
    assert "auc" in nibench("score-hidden round --secret 1.secret --rankings mine")[0]
    assert "2 cells ranked" in nibench("rank auc --task round --out auc.parquet")[1]
    out, _ = nibench("score-hidden round --secret 1.secret --rankings auc.parquet --out again --json")
    assert {row["method"]: row["hidden"] for row in json.loads(out)["rows"]} == {"auc": shown["auc"]}
    assert nibench("score-hidden round --secret 1.secret --verify")[0].count("ok  ") == 3
    (tmp_path / "2.secret").write_text("0123456789abcdef" * 4)
    for line, message in {
        "score-hidden round --secret 2.secret --rankings mine": "is not the secret of the round",
        "score-hidden round --secret 1.secret": "give --rankings",
        "rank auc --task round": "add --out FILE.parquet",
        "build hidden --secret 1.secret --out . --worlds 1": "which is to be published",
    }.items():
        _, err = nibench(line, code=2)
        assert message in err
        assert err.count("\n") == 1
