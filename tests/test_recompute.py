"""Every number on a board, again, from the records alone: no model, no torch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import nibench as nb
from nibench.axes import AXES, FLAGGING
from nibench.metrics import Setting, Trial, measure
from nibench.neurons import Neurons
from nibench.ranking import Ranking
from nibench.recompute import kept_truth, recompute, what_to_keep
from nibench.record import read_arrays, read_record, record_paths
from nibench.suites import Budget
from nibench.task import Truth
from nibench.views import FLAGS

ROOT = Path(__file__).parent.parent
WITHOUT_TORCH = """
import json, sys
from importlib.abc import MetaPathFinder
from pathlib import Path
class Refuse(MetaPathFinder):
    def find_spec(self, name, *_):
        if name.partition(".")[0] in ("torch", "transformers"):
            raise ImportError(f"{name} is not to be imported here")
sys.meta_path.insert(0, Refuse())
from nibench.recompute import recompute
from nibench.stored import read_results
print(json.dumps({s.record.cell.stem: recompute(s.record, s.arrays) for s in read_results([Path(sys.argv[1])])}))
"""


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A glass-box, its twin and a world with groups, scored by methods with and without native results."""
    out = tmp_path_factory.mktemp("run")
    methods = ["mean_difference", "correlation_clustering", "top_contexts"]
    budget = Budget(eval_prompts=12, ablation_ks=(1, 4), n_random=2, n_controls=2)
    nb.evaluate(
        methods,
        ["glass_tense", "glass_polarity", "copies_world"],
        ["glass8"],
        cap=120,
        budget=budget,
        out=out,
    )
    return out


@pytest.fixture(scope="module")
def detailed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is measured where all metrics are asked for, by a method with ties and one without."""
    out = tmp_path_factory.mktemp("all")
    budget = Budget(
        rank_prompts=20, eval_prompts=12, ablation_ks=(1, 4), null_ks=(), n_random=3, n_controls=2,
        n_halves=3, metrics="all",
    )  # fmt: skip
    nb.evaluate(
        ["mean_difference", "concept_iou"], ["glass_tense"], ["glass8"], cap=120, budget=budget, out=out
    )
    return out


def come_back(folder: Path, needed: tuple[str, ...]) -> set[str]:
    """The scores that come back without torch, all as they were; those that begin like this have to."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", WITHOUT_TORCH, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    again, seen = json.loads(done.stdout), set()
    for record in map(read_record, record_paths(folder)):
        assert record.status == "ok", record.reason
        for score in record.scores:
            if score.id not in again[record.cell.stem]:
                assert not score.id.startswith(needed), score.id
                continue
            value, normalised = again[record.cell.stem][score.id]
            assert value == pytest.approx(score.value, abs=1e-9), (record.cell.stem, score.id)
            if score.normalised is not None:
                assert normalised == pytest.approx(score.normalised, abs=1e-9), (record.cell.stem, score.id)
            seen.add(score.id)
    return seen


def test_every_score_on_a_board_or_beside_it_comes_back_without_torch(records: Path, detailed: Path) -> None:
    seen = come_back(records, needed=("",))
    assert "stab.data" not in seen  # the method is called again only where all metrics are asked for
    behind = come_back(detailed, needed=("abl.", "stab.data", "encodes", "gt.", "sel.kappa"))
    ablations = {"abl.spec", "abl.cause", "abl.isolate", "abl.comp", "abl.cpr", "abl.cmd", "abl.cmd_log"}
    assert {*ablations, "abl.auc[zero]", "abl.auc[resample]", "stab.data"} <= behind
    seen |= behind
    shown = {*FLAGGING, *FLAGS.values(), *(axis.metric for axis in AXES)}
    shown |= {metric for axis in AXES for _, metric in axis.beside}
    shown -= {"gt.ndcg[model]", "gt.energy[model]"}  # asked where there is no concept
    shown -= {"gt.ap[required]"}  # no truth says which neurons are required as a set
    assert shown <= seen


def test_the_truth_takes_little_room(records: Path) -> None:
    for path in record_paths(records):
        assert path.with_suffix(".npz").stat().st_size < 100_000


def test_a_changed_ranking_changes_what_comes_back(records: Path) -> None:
    path = next(path for path in record_paths(records) if "mean_difference--glass_tense" in path.name)
    record, arrays = read_record(path), read_arrays(path)
    other = {**arrays, "scores": -arrays["scores"]}
    before, after = (recompute(record, one)["gt.ndcg[carries]"][0] for one in (arrays, other))
    assert after < before - 0.01


def test_clusters_of_one_text_have_one_name_in_every_record(records: Path) -> None:
    """The behaviour's prompts are some of the items', so their groups are among the items' groups."""
    paths = [path for path in record_paths(records) if "glass_tense" in path.name]
    arrays = [read_arrays(path) for path in paths]
    for one in arrays:
        np.testing.assert_array_equal(one["clusters/items"], arrays[0]["clusters/items"])
        assert set(one["clusters/behaviour"]) <= set(one["clusters/items"])
        assert (
            len(one["clusters/items"]) == len(one["probe.auc[lda]/items"]) == len(set(one["clusters/items"]))
        )
    world = next(read_arrays(path) for path in record_paths(records) if "copies_world" in path.name)
    assert not set(world["clusters/items"]) & set(arrays[0]["clusters/items"])


def test_a_truth_comes_back_as_it_was_and_of_an_oracle_the_order() -> None:
    truth = Truth(
        gains={"carries": np.array([0.0, 0.3, 0.7])},
        sets={"carries": np.array([False, True, True])},
        roles=np.array(["background", "used", "shared"]),
        oracles={"carries": np.array([-np.inf, 5.0, 2.5])},
        groups=np.array([-1, 0, 0]),
    )
    setting = Setting(
        neurons=Neurons.anonymous(3), n_classes=2, splits={}, controls=(), truth=truth, behaviour=None,
        ks=(1, 2, 64), ablation_ks=(), seed=0, metrics="truth",
    )  # fmt: skip
    for scores in ([1.0, 2.0, 3.0], [1.0, 1.0, 1.0]):  # also where all neurons are tied, and k > D
        trial = Trial(setting, Ranking.from_scores(scores))
        kept = what_to_keep(trial, measure(trial), None)  # type: ignore[arg-type]
        back = kept_truth(kept)
        assert back is not None
        assert back.roles.tolist() == truth.roles.tolist()
        np.testing.assert_array_equal(back.gains["carries"], truth.gains["carries"])
        np.testing.assert_array_equal(back.groups, truth.groups)  # type: ignore[arg-type]
        assert np.argsort(back.oracles["carries"]).tolist() == [0, 2, 1]
        assert (back.neuron_labels, back.null) == (None, False)
    tied = {score.id: score for score in measure(trial)}
    assert tied["gt.ndcg[carries]"].normalised == pytest.approx(0)  # all tied is what random rankings score
    assert tied["gt.ap[carries]"].normalised == pytest.approx(0)
    assert tied["gt.energy[carries]"].k == (1, 2, 3)  # k beyond D is D
    assert tied["gt.cover_any"].normalised == pytest.approx(0)
