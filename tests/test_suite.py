"""The whole road on the models that come with nibench, and on real text with a real encoder."""

from pathlib import Path

import numpy as np
import pytest

import nibench as nb
from nibench.metrics.truth import chance_ap
from nibench.probes import Lda, ProbeData, correct
from nibench.record import Record

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
    assert used.chance == pytest.approx(chance_ap(1024, used.n_items or 0))
    assert used.value < 0.1
    assert abs(value(random, "abl.auc[interchange]")) < 0.1


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
    assert any("all neurons at once" in flag for flag in carries.flags)


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
