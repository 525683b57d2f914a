"""Records: whole or not there, checked on reading, the same bytes for the same content."""

import json
from pathlib import Path

import numpy as np
import pytest

from nibench.errors import InputError
from nibench.record import (
    Card,
    Cell,
    Environment,
    Record,
    ScoreRecord,
    fingerprint,
    read_arrays,
    read_record,
    record_paths,
    write_record,
)


def make_record(**changes: object) -> Record:
    values: dict[str, object] = {
        "cell": Cell(method="probeless", task="glass_number", model="models/tiny", seed=0),
        "status": "ok",
        "card": Card(family="corpus", claims="associated", direction="concept->neurons", needs=["LABELS"]),
        "concept": "number",
        "digests": {"method": "a", "task": "b"},
        "versions": {"numpy": "2"},
        "n_neurons": 2,
        "scores": [ScoreRecord(id="encodes", value=0.5, unit="accuracy", direction=1, ci95=(0.4, 0.6))],
        "environment": Environment(
            date="2026-01-01", platform="p", processor="x", device="cpu", threads=1, versions={}
        ),
    }
    return Record(**{**values, **changes})  # type: ignore[arg-type]


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    path = write_record(make_record(), {"scores": np.array([1.0, -np.inf])}, tmp_path)
    found = read_record(path)
    assert found.cell.label == "probeless"
    assert found.score("encodes").ci95 == (0.4, 0.6)  # type: ignore[union-attr]
    assert found.score("missing") is None
    np.testing.assert_array_equal(read_arrays(path)["scores"], [1.0, -np.inf])


def test_equal_records_are_equal_bytes(tmp_path: Path) -> None:
    first = write_record(make_record(), {"scores": np.arange(3.0)}, tmp_path / "a")
    second = write_record(make_record(), {"scores": np.arange(3.0)}, tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    assert first.with_suffix(".npz").read_bytes() == second.with_suffix(".npz").read_bytes()


def test_the_file_name_tells_cells_apart_and_is_safe(tmp_path: Path) -> None:
    plain = Cell(method="lca", task="t", model="m")
    assert plain.stem != Cell(method="lca", task="t", model="m", cap=5).stem
    strange = Cell(method="../../<script>", task="a b", model="/x/y").stem
    assert "/" not in strange
    assert "<" not in strange


def test_a_truncated_json_is_named_and_never_taken_for_a_result(tmp_path: Path) -> None:
    path = write_record(make_record(), {}, tmp_path)
    path.write_text(path.read_text()[:100])
    with pytest.raises(InputError, match=rf"{path.name} is not a whole JSON file"):
        read_record(path)


def test_arrays_of_another_record_are_refused(tmp_path: Path) -> None:
    path = write_record(make_record(), {"scores": np.zeros(2)}, tmp_path)
    path.with_suffix(".npz").write_bytes(b"PK")
    with pytest.raises(InputError, match="does not belong to"):
        read_record(path)


def test_another_schema_is_refused_by_number(tmp_path: Path) -> None:
    path = write_record(make_record(), {}, tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "schema_version": 99}))
    with pytest.raises(InputError, match="record schema 99; this nibench reads schema 1"):
        read_record(path)


def test_a_wrong_field_is_named(tmp_path: Path) -> None:
    path = write_record(make_record(), {}, tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), "status": "fine"}))
    with pytest.raises(InputError, match="field status"):
        read_record(path)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(InputError, match="Cannot write .* Choose a folder with --out"):
        write_record(make_record(), {}, blocked / "inside")


def test_an_empty_results_folder_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nibench run --out"):
        record_paths(tmp_path)


def test_the_fingerprint_follows_everything_a_number_depends_on() -> None:
    cell = make_record().cell
    base = fingerprint(cell, {"method": "a"}, {"numpy": "2"})
    assert base == fingerprint(cell, {"method": "a"}, {"numpy": "2"})
    assert base != fingerprint(cell, {"method": "b"}, {"numpy": "2"})
    assert base != fingerprint(cell, {"method": "a"}, {"numpy": "3"})
    assert base != fingerprint(cell.model_copy(update={"seed": 1}), {"method": "a"}, {"numpy": "2"})


def test_the_published_schema_is_the_one_in_force() -> None:
    published = Path(__file__).parent.parent / "leaderboard" / "record.schema.json"
    assert json.loads(published.read_text()) == json.loads(json.dumps(Record.model_json_schema()))
