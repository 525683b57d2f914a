"""Archives of records: what comes back, what may be left out, what is refused."""

import io
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from nibench.archive import pack, read_archive
from nibench.errors import InputError
from nibench.leaderboard import build, to_csv
from nibench.record import write_record
from nibench.results import collect
from nibench.stored import read_results
from tests.synthetic_records import record, results_folder, score

SUMS = {"encodes/hits": np.ones((3, 2)), "encodes/items": np.ones(3), "scores": np.arange(4.0)}


def folder_of(where: Path, *cells: tuple[str, dict[str, np.ndarray]]) -> Path:
    (where / "records").mkdir(parents=True)
    for method, arrays in cells:
        write_record(record(method, scores=[score("encodes", 0.5, 0.5)]), arrays, where / "records")
    return where


def test_an_archive_gives_the_records_and_arrays_of_its_folder(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "run", ("lca", SUMS), ("auc", SUMS))
    packed, plain = read_archive(pack(folder, tmp_path / "a.tar.xz")), read_results([folder])
    assert [one for one, _ in packed] == [stored.record for stored in plain]
    for (_, arrays), stored in zip(packed, plain, strict=True):
        assert arrays.keys() == stored.arrays.keys()
        for name, values in arrays.items():
            np.testing.assert_array_equal(values, stored.arrays[name])


def test_the_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    first = folder_of(tmp_path / "one", ("lca", SUMS), ("auc", SUMS))
    second = folder_of(tmp_path / "two", ("auc", SUMS), ("lca", SUMS))
    assert pack(first, tmp_path / "1.tar.xz").read_bytes() == pack(second, tmp_path / "2.tar.xz").read_bytes()


def test_a_record_without_sums_is_kept_without_its_arrays(tmp_path: Path) -> None:
    truth = {"scores": np.arange(4.0), "truth/roles": np.zeros(4), "evidence/clusters": np.zeros(4)}
    folder = folder_of(tmp_path / "run", ("lca", SUMS), ("auc", truth))
    found = {one.cell.method: arrays for one, arrays in read_archive(pack(folder, tmp_path / "a.tar.xz"))}
    assert found["lca"].keys() == SUMS.keys()
    assert not found["auc"]


def test_a_board_of_an_archive_is_the_board_of_its_folder(tmp_path: Path) -> None:
    archive = pack(results_folder(tmp_path / "run", methods=4, tasks=2), tmp_path / "a.tar.xz")
    assert to_csv(collect(read_results([archive]))) == to_csv(collect(read_results([tmp_path / "run"])))
    page = build([archive], tmp_path / "out")
    written = page.stat().st_mtime_ns
    assert build([archive], tmp_path / "out").stat().st_mtime_ns == written  # current: nothing is done


def test_archives_among_the_records_of_a_folder_are_read_first(tmp_path: Path) -> None:
    board = folder_of(tmp_path / "board", ("probeless", SUMS))
    pack(folder_of(tmp_path / "one", ("lca", SUMS)), board / "records" / "one.tar.xz")
    pack(folder_of(tmp_path / "two", ("auc", SUMS)), board / "records" / "two.tar.xz")
    assert [s.record.cell.method for s in read_results([board])] == ["lca", "auc", "probeless"]


def archive_of(where: Path, **members: bytes) -> Path:
    with tarfile.open(where, "w:xz") as tar:
        for name, payload in members.items():
            member = tarfile.TarInfo(name.replace("__", "/"))
            member.size = len(payload)
            tar.addfile(member, io.BytesIO(payload))
    return where


def test_what_is_no_archive_of_records_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.tar.xz").write_text("no archive")
    with pytest.raises(InputError, match="not a whole archive"):
        read_results([tmp_path / "text.tar.xz"])
    with pytest.raises(InputError, match=r"holds 'elsewhere/a.json'; expected records"):
        read_archive(archive_of(tmp_path / "b.tar.xz", **{"elsewhere__a.json": b"{}"}))
    with pytest.raises(InputError, match=r"holds 'records/../a.json'"):
        read_archive(archive_of(tmp_path / "c.tar.xz", **{"records__..__a.json": b"{}"}))
    with pytest.raises(InputError, match="not a whole JSON file"):
        read_archive(archive_of(tmp_path / "d.tar.xz", **{"records__a.json": b"{"}))
    with pytest.raises(InputError, match="No records in"):
        read_archive(archive_of(tmp_path / "e.tar.xz"))


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    archive = pack(folder_of(tmp_path / "run", ("lca", SUMS)), tmp_path / "a.tar.xz")
    archive.write_bytes(archive.read_bytes()[:-40])
    with pytest.raises(InputError, match="not a whole archive"):
        read_archive(archive)


def test_arrays_of_another_record_are_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "run", ("lca", SUMS))
    path = next((folder / "records").glob("*.npz"))
    np.savez_compressed(path, **{**SUMS, "scores": np.zeros(4)})
    stem = path.stem
    files = {f"records__{stem}{end}": path.with_suffix(end).read_bytes() for end in (".json", ".npz")}
    with pytest.raises(InputError, match="do not belong to it"):
        read_archive(archive_of(tmp_path / "a.tar.xz", **files))


def test_a_cell_of_two_budgets_is_shown_as_first_given_and_said(tmp_path: Path) -> None:
    for name, budget, value in (("a", "small", 0.25), ("b", "large", 0.75)):
        (tmp_path / name / "records").mkdir(parents=True)
        digests = {"method": "m", "task": "t", "data": "d", "model": "x", "budget": budget}
        made = record("lca", scores=[score("encodes", value, value)], digests=digests)
        write_record(made, {}, tmp_path / name / "records")
    found = collect(read_results([tmp_path / "b", tmp_path / "a"]))
    assert [stored.record.scores[0].value for stored in found.stored] == [0.75]
    assert found.notes == (
        "1 cells were measured with several budgets of prompts and draws: shown is the first of the folders given.",
    )


def test_packing_from_the_command_line(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "run", ("lca", SUMS))
    command = [sys.executable, "-m", "nibench", "leaderboard", "--results", str(folder), "--pack"]
    done = subprocess.run([*command, str(tmp_path / "a.tar.xz")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(read_archive(tmp_path / "a.tar.xz")) == 1
    more = subprocess.run(
        [*command, str(tmp_path / "b.tar.xz"), "--results", "x"], capture_output=True, text=True, check=False
    )
    assert more.returncode == 2
    assert "--pack takes one --results folder; got 2" in more.stderr
