"""How much memory methods need beside the activations: each in a process of its own, watched from outside.

What is counted is anonymous memory (RssAnon of Linux): pages of a mapped file are the system's to drop.

pytest tests/benchmarks/test_memory.py --benchmark-only -s
"""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from nibench.method import Needs
from nibench.submissions import find_method, names

pytest.importorskip("pytest_benchmark")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc of Linux"),
]

FROM_ARRAYS = Needs.ACTIVATIONS | Needs.LABELS
# One pass of sums, or a block of columns at a time: activations may lie on disk, whatever their size.
BY_SUMS = [
    "fisher_score",
    "mean_difference",
    "mean_select",
    "point_biserial",
    "probeless",
    "random_ranking",
    "variance",
]
BY_ROWS = ["activation_heatmap", "bimodality", "kurtosis"]
BY_COLUMNS = [
    "auc",
    "concept_iou",
    "expert_units",
    "expert_units@neurox",
    "mutual_information",
    "top_contexts",
]
SORTED_NEURONS = 256  # of the large file: a block of columns takes the same memory whatever their number

CHILD = """
import sys, numpy as np, nibench as nb
from nibench.submissions import find_method
method, folder, mapped, width = sys.argv[1:]
x = np.load(folder + "/x.npy", mmap_mode="r" if int(mapped) else None)[:, :int(width)]
y = np.load(folder + "/y.npy")
find_method(method).load()
status = open("/proc/self/status").read()
print(status.split("RssAnon:")[1].split()[0], flush=True)
nb.rank(method, x, y, sentences=np.arange(len(y)) // 10, word_types=np.arange(len(y)) % 500)
"""


def write(folder: Path, n_items: int, n_neurons: int, n_classes: int, precision: str) -> None:
    """Noise, of which each class lifts every 16th neuron; one block of it, turned a little further each time."""
    rng, block = np.random.default_rng(0), 4000
    labels = rng.integers(0, n_classes, n_items)
    noise = rng.standard_normal((block, n_neurons), dtype=np.float32)
    x = np.lib.format.open_memmap(folder / "x.npy", "w+", precision, (n_items, n_neurons))
    for start in range(0, n_items, block):
        lifted = labels[start : start + block, None] == np.arange(n_neurons) % 16
        x[start : start + block] = np.roll(noise, start // block * 7, axis=1)[: len(lifted)] + lifted
    x.flush()
    np.save(folder / "y.npy", labels)


def measure(method: str, folder: Path, mapped: bool, width: int) -> tuple[float, float]:
    """Most GB of a process, and how many more that is than before the method ran; of 1e9 bytes."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, method, str(folder), str(int(mapped)), str(width)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stdout is not None
    most, status = 0, Path(f"/proc/{child.pid}/status")
    before = child.stdout.readline()
    while child.poll() is None:
        text = status.read_text()
        if "RssAnon:" in text:
            most = max(most, int(text.split("RssAnon:")[1].split()[0]))
        time.sleep(0.003)
    _, errors = child.communicate()
    assert child.returncode == 0, f"{method}: {errors[-500:]}"
    return most * 1024 / 1e9, (most - int(before)) * 1024 / 1e9


def test_no_method_needs_two_gigabytes_more_than_the_activations(benchmark, tmp_path) -> None:
    """8,000 items, 2,688 neurons, 16 classes, single precision in memory."""
    write(tmp_path, 8000, 2688, 16, "float32")
    kinds = {name: find_method(name).kind() for name in names("methods")}
    methods = [
        f"{name}@{preset}" if preset else name
        for name, kind in kinds.items()
        if kind.needs & ~FROM_ARRAYS == Needs.NOTHING
        for preset in ("", *kind.presets)
    ]
    more = {}

    def all_methods() -> None:
        for method in methods:
            start = time.perf_counter()
            more[method] = measure(method, tmp_path, mapped=False, width=2688)[1]
            print(f"{method:40} {more[method]:5.2f} GB {time.perf_counter() - start:6.1f} s", flush=True)

    benchmark.pedantic(all_methods, rounds=1)
    benchmark.extra_info.update({name: round(value, 2) for name, value in more.items()})
    assert {name: value for name, value in more.items() if value >= 2} == {}


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """200,000 items of 9,216 neurons in half precision: 3.7 GB on disk while the tests run."""
    folder = tmp_path_factory.mktemp("large")
    write(folder, 200_000, 9216, 16, "float16")
    yield folder
    (folder / "x.npy").unlink()


@pytest.mark.parametrize("method", BY_SUMS + BY_ROWS + BY_COLUMNS)
def test_a_file_larger_than_memory_is_streamed(benchmark, large, method: str) -> None:
    """All neurons where a pass over the rows is enough; of the sorted ones the first 256."""
    width = SORTED_NEURONS if method in BY_COLUMNS else 9216
    most, _ = benchmark.pedantic(measure, args=(method, large, True, width), rounds=1)
    benchmark.extra_info["GB"] = round(most, 2)
    print(f"{method:40} {most:5.2f} GB of {width} neurons", flush=True)
    assert most < 4
