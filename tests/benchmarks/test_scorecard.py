"""The full scorecard from stored records: every board, view and comparison, without a forward pass."""

import time
from pathlib import Path

import pytest

from nibench.comparison import compare
from nibench.leaderboard import to_markdown
from nibench.page import page_data
from nibench.results import collect
from nibench.stored import read_results
from nibench.tables import tables
from tests.synthetic_records import scorecard_folder

SECONDS = 60  # of one core


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 methods x 10 tasks in five models, 600 sentences each with their own sums, 2,000 draws."""
    return scorecard_folder(tmp_path_factory.mktemp("scorecard"))


def scorecard(folder: Path) -> tuple[int, int]:
    results = collect(read_results([folder]))
    page, text = page_data(results), to_markdown(results)
    tables(results)
    pairs = compare(results, list(results.cards)).as_dict()
    assert text
    return len(page["views"]), sum(len(board["pairs"]) for board in pairs["boards"])


def test_twenty_methods_on_ten_tasks_take_less_than_a_minute(benchmark, records):
    start = time.process_time()
    views, pairs = benchmark.pedantic(scorecard, args=(records,), rounds=1)
    assert time.process_time() - start < SECONDS
    assert views >= 1 + 10 + 5
    assert pairs == 7 * 190
