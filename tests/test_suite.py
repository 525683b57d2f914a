"""The whole road on the models that come with nibench, and on real text with a real encoder."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import nibench as nb
from nibench.metrics import Setting, Trial, measure
from nibench.metrics.curves import k_grid
from nibench.metrics.truth import chance_ap
from nibench.neurons import Block, Neurons
from nibench.probes import Lda, ProbeData, correct
from nibench.ranking import Ranking
from nibench.record import Record
from nibench.submissions import bundled_models, names
from nibench.suites import find_suite
from nibench.task import Truth
from nibench.truth.files import layer_sizes

MODELS = Path(__file__).parent.parent / "tasks" / "models"
METHODS = ["gradient_activation", "neuron_ablation", "probeless", "random_ranking", "variance"]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], Record]:
    out = tmp_path_factory.mktemp("suite")
    report = nb.evaluate(METHODS, ["glass_gender"], ["glass1", "glass1-natural"], out=out)
    return {(str(record.cell.model), record.cell.method): record for record in report.records}


def value(record: Record, metric: str) -> float:
    score = record.score(metric)
    assert score is not None, f"{record.cell.label} has no {metric}"
    return score.value


def test_every_cell_is_scored_on_both_models(records: dict[tuple[str, str], Record]) -> None:
    assert {record.status for record in records.values()} == {"ok"}
    assert len(records) == 2 * len(METHODS)


def test_the_exhaustive_oracle_reaches_what_the_certificate_demands(
    records: dict[tuple[str, str], Record],
) -> None:
    score = records["glass1", "probeless"].score("gt.ap[carries]")
    assert score is not None
    assert score.details["oracle"] >= 0.95


def test_a_random_ranking_is_at_chance(records: dict[tuple[str, str], Record]) -> None:
    random = records["glass1", "random_ranking"]
    used = random.score("gt.ap[carries]")
    assert used is not None
    assert used.chance == pytest.approx(chance_ap(576, used.n_items or 0))
    assert used.value < 0.1
    assert abs(value(random, "abl.auc[interchange]")) < 0.1


@pytest.mark.parametrize(
    ("task", "model"),
    [("glass_tense", "glass1"), ("glass_gender", "glass1-natural"), ("graded_noise_world", None)],
)
def test_random_rankings_are_at_chance_on_every_measure_of_the_truth(task: str, model: str | None) -> None:
    source = nb.load_task(task).source
    if model is None:
        truth = source.load(seed=0, data=None, folder=None, cap=None).truth  # type: ignore[union-attr]
        neurons = Neurons.anonymous(len(truth.roles))
    else:
        layers, units = layer_sizes(MODELS / model)
        neurons = Neurons(tuple(Block(f"L{layer}.mlp_post", layer, units) for layer in range(layers)))
        truth = source.truth(neurons, MODELS / model)
        assert truth is not None
    groups = np.where(np.arange(len(neurons)) < 12, np.arange(len(neurons)) // 3, -1)
    truth = replace(truth, groups=groups)  # copies, to have every measure
    setting = Setting(neurons, 2, {}, (), truth, None, k_grid(len(neurons)), (1,), 0, metrics="truth")
    rng = np.random.default_rng(0)
    found: dict[str, list[float]] = {}
    for _ in range(50):
        for score in measure(Trial(setting, Ranking.from_scores(rng.random(len(neurons))))):
            found.setdefault(score.id, []).append(score.normalised or 0.0)
    found.pop("gt.anatomy", None)
    assert {"gt.ndcg[associated]", "gt.energy[responds]", "gt.cover_any"} <= set(found)
    for name, values in found.items():
        spread = np.std(values) / np.sqrt(len(values))
        assert abs(np.mean(values)) < 4 * spread + 1e-3, f"{name}: {np.mean(values):.3f} +- {spread:.3f}"


def test_the_truth_suite_scores_the_truth_and_nothing_else(tmp_path: Path) -> None:
    suite = find_suite("truth")
    assert set(suite.methods) <= set(names("methods"))
    assert set(suite.tasks) <= set(names("tasks"))
    assert set(suite.models) <= set(bundled_models())
    report = nb.evaluate(
        ["probeless", "top_contexts", "weight_norm"],
        ["glass_gender"],
        ["glass1"],
        budget=suite.budget,
        out=tmp_path,
    )
    for record in report.records:
        assert all(score.id.startswith("gt.") for score in record.scores)
        assert (record.tier, record.lineage) == ("glass-box", "glass1")
        assert record.command.endswith("--suite truth")
        assert len(record.anatomy) == 2
        assert sum(record.anatomy["10"].values()) == pytest.approx(10)
    by_method = {record.cell.method: record for record in report.records}
    named = by_method["top_contexts"].score("gt.label")
    assert named is not None
    assert named.normalised is not None
    assert named.normalised > 0.5  # most neurons that tell the genders apart do so on the active side
    assert by_method["weight_norm"].score("gt.label") is None


def test_copies_are_found_by_clustering_and_not_by_chance() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 60))
    groups = np.where(np.arange(60) < 20, np.arange(60) // 4, -1)
    for group in range(5):
        x[:, groups == group] = rng.normal(size=(300, 1)) + 0.2 * rng.normal(size=(300, 4))
    truth = Truth({}, {}, np.where(groups >= 0, "copy", "used"), groups=groups)
    setting = Setting(Neurons.anonymous(60), 2, {}, (), truth, None, (1, 8), (1,), 0, metrics="truth")
    y = np.arange(300) % 2
    scores = {s.id: s.value for s in measure(Trial(setting, nb.rank("correlation_clustering", x, y)))}
    assert scores["gt.group"] == pytest.approx(1)
    assert scores["gt.cover_any"] > 0.4
    shuffled = nb.rank("correlation_clustering", x[:, rng.permutation(60)], y)
    assert abs({s.id: s.value for s in measure(Trial(setting, shuffled))}["gt.group"]) < 0.2


def test_exact_ablation_finds_the_neurons_the_model_uses_and_no_decoy(
    records: dict[tuple[str, str], Record],
) -> None:
    exact = records["glass1", "neuron_ablation"]
    assert value(exact, "gt.ap[carries]") >= 0.95
    assert value(exact, "gt.decoy") == 0
    assert exact.flags == ["shares the estimand: required"]
    assert exact.cost is not None
    assert exact.cost.forward > 1000


def test_what_encodes_is_not_what_carries(records: dict[tuple[str, str], Record]) -> None:
    for method in ("neuron_ablation", "probeless"):
        assert value(records["glass1", method], "encodes") > 0.97
    assert value(records["glass1", "probeless"], "gt.decoy") > 0.2
    carried = {method: value(records["glass1", method], "abl.auc[interchange]") for method in METHODS}
    assert carried["neuron_ablation"] > carried["probeless"] + 0.1
    assert carried["probeless"] > carried["random_ranking"] + 0.1


def test_the_natural_twin_has_graded_truth_and_no_set(records: dict[tuple[str, str], Record]) -> None:
    twin = records["glass1-natural", "neuron_ablation"]
    assert twin.score("gt.ap[carries]") is None
    assert twin.score("gt.decoy") is None
    assert value(twin, "gt.ndcg[required]") > value(
        records["glass1-natural", "random_ranking"], "gt.ndcg[required]"
    )
    carries = twin.score("abl.auc[interchange]")
    assert carries is not None
    assert any("a set built greedily on the probe split" in flag for flag in carries.flags)
    assert carries.ceiling is not None
    assert carries.ceiling > value(records["glass1-natural", "probeless"], "abl.auc[interchange]")


def test_a_linear_probe_reads_part_of_speech_from_a_real_encoder(
    shared: Path, minilm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NIBENCH_CACHE", str(tmp_path))
    task, model = nb.load_task("part_of_speech_ewt"), nb.load_model(str(minilm))
    data = nb.extract(model, task, site="residual", data=shared / "data", cap=16_000)
    rank, probe, held_out = (data.split(name) for name in ("rank", "probe", "eval"))
    assert data.activations.shape[1] == 7 * 384
    assert len(held_out.labels) > 24_000
    fitted = Lda.fit(ProbeData(probe.activations), probe.labels, len(data.classes))
    everything = fitted.log_joint(held_out.activations, np.arange(2688), (2688,))
    assert correct(everything, held_out.labels).mean() >= 0.92
    order = nb.rank("linear_l1", rank.activations, rank.labels).order
    curve = correct(fitted.log_joint(held_out.activations, order, (1, 16, 256)), held_out.labels).mean(axis=1)
    assert np.bincount(held_out.labels).max() / len(held_out.labels) < 0.2
    assert 0.15 < curve[0] < 0.5 < curve[1] < 0.85 < curve[2] < 0.92
