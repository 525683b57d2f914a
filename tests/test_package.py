"""The built wheel works from any folder: methods, tasks, models and templates are really in it."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    done = subprocess.run(build, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.whl"))


def test_the_wheel_holds_every_file_a_user_needs(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    for kind in ("methods", "tasks"):
        for path in (ROOT / kind).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert f"nibench/_bundled/{path.relative_to(ROOT)}" in held
    for path in (ROOT / "nibench").rglob("*"):
        if path.is_file() and "__pycache__" not in path.parts:
            assert str(path.relative_to(ROOT)) in held


def test_what_is_installed_stays_small(wheel: Path) -> None:
    assert sum(one.file_size for one in zipfile.ZipFile(wheel).infolist()) < 60e6


def test_the_unpacked_wheel_runs_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = (
        "import json, nibench, nibench.submissions as s; "
        "r = nibench.evaluate(['variance'], ['graded_noise_world'], out='out'); "
        "print(json.dumps([nibench.__file__, sorted(s.bundled_models()), r.records[0].status]))"
    )
    environment = {**os.environ, "PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    file, models, status = json.loads(done.stdout)
    assert file == str(site / "nibench" / "__init__.py")
    assert len(models) >= 2
    assert status == "ok"
