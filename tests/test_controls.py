"""Controls of the whole chain: with nothing to be found, what is left of a score?"""

from pathlib import Path

import numpy as np
import pytest

from nibench.errors import InputError
from nibench.evaluation import evaluate
from nibench.ground import Ground, Options
from nibench.harness import load_task
from nibench.model import load_model
from nibench.results import collect
from nibench.submissions import find_method, resolve_model
from nibench.suites import Budget

QUICK = Budget(eval_prompts=20, n_random=5, n_controls=1, ablation_ks=(1, 4))


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory):
    return evaluate(
        ["probeless", "variance"], ["graded_noise_world", "glass_tense"], ["glass8"],
        budget=QUICK, out=tmp_path_factory.mktemp("controls"), controls=["random_model", "type", "shuffle"],
    )  # fmt: skip


def test_a_control_is_a_cell_of_its_own_and_on_no_board(report) -> None:
    results = collect(report.records)
    assert set(results.controls) == {"random_model", "type", "shuffle"}
    assert {place.task for place in results.places} == {"graded_noise_world", "glass_tense"}
    assert all(stored.record.cell.control is None for stored in results.stored)
    assert {place.task for place in results.controls["random_model"].places} == {"glass_tense"}
    assert any("no weights" in reason for reason in report.skipped)
    assert all(
        f"--control {record.cell.control}" in record.command
        for record in report.records
        if record.cell.control
    )


def test_labels_that_mean_nothing_leave_nothing(report) -> None:
    shuffled = collect(report.records).controls["shuffle"]
    for place in shuffled.places:
        assert shuffled.status("variance", place) == "not_applicable"  # it reads no label
        assert shuffled.known(place, "encodes") == "unscaled"  # all neurons read no more than random ones
        assert shuffled.known(place, "gt.ndcg[carries]") == "unknown"  # nothing is true of random labels
        if place.model:
            moved = shuffled.normalised("probeless", place, "abl.auc[interchange]")
            assert moved is not None
            assert abs(moved) < 0.1


def test_new_weights_know_nothing_but_the_words(report) -> None:
    plain = collect(report.records)
    (place,) = plain.controls["random_model"].places
    (score,) = plain.controls["random_model"].scores("probeless", place, "encodes")
    (real,) = plain.scores("probeless", place, "encodes")
    assert score.value < real.value - 0.2


def test_a_reinitialised_model_is_the_same_each_time_and_leaves_the_first_alone() -> None:
    model = load_model(resolve_model("glass8"))
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    one, two, other = model.reinitialised(), model.reinitialised(), model.reinitialised(1)
    assert one.digest == two.digest != other.digest != model.digest
    for name, value in model.network.state_dict().items():
        assert (value == before[name]).all()
    weights = [m.network.get_output_embeddings().weight for m in (one, two, other, model)]
    assert (weights[0] == weights[1]).all()
    assert not (weights[0] == weights[2]).all()
    assert not (weights[0] == weights[3]).all()


def test_shuffled_labels_reach_the_prompts_too() -> None:
    model = load_model(resolve_model("glass8"))
    ground = Ground(load_task("glass_tense"), model, Options(control="shuffle", budget=QUICK))
    plain = Ground(load_task("glass_tense"), model, Options(budget=QUICK))
    assert ground.data.prompts is not None
    assert [prompt.label for prompt in ground.data.prompts] == ground.data.labels.tolist()
    assert (ground.data.labels != plain.data.labels).mean() == pytest.approx(0.5, abs=0.1)
    assert np.array_equal(ground.data.activations, plain.data.activations)


def test_an_unknown_control_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"shufle.*shuffle"):
        evaluate(["variance"], ["graded_noise_world"], out=tmp_path, controls=["shufle"])


def test_a_kind_of_sentence_has_one_random_label_in_all_splits() -> None:
    model = load_model(resolve_model("glass8"))
    ground = Ground(load_task("glass_tense"), model, Options(control="sequence", budget=QUICK))
    label_of: dict[tuple[str, int], set[int]] = {}
    for words, label in zip(ground.data.texts, ground.data.labels.tolist(), strict=True):
        label_of.setdefault((words[0], len(words)), set()).add(label)
    assert len(label_of) > 5
    assert all(len(labels) == 1 for labels in label_of.values())
    assert {label for labels in label_of.values() for label in labels} == {0, 1}
    assert "reads no label" in str(ground.lacks(find_method("variance").load()))
    assert ground.lacks(find_method("auc").load()) is None
