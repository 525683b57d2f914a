"""Tables of scores: what is written is read back, whatever the order of the rows; what is wrong is said in a line."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import csv, parquet

from nibench.errors import InputError
from nibench.neurons import Neurons
from nibench.rankings import Scored, read_rankings, write_rankings

NAMES = tuple(Neurons.anonymous(5))
ROW = {"task": "t", "model": "m", "neuron": "neuron.0", "score": 1.0, "seed": 0}


def write(path, rows, without=()):
    table = pa.Table.from_pylist([{k: v for k, v in row.items() if k not in without} for row in rows])
    (parquet.write_table if path.suffix == ".parquet" else csv.write_csv)(table, path)
    return path


@settings(max_examples=20, deadline=None)
@given(
    cells=st.sets(
        st.tuples(st.sampled_from("tu"), st.sampled_from(["", "m", "n"]), st.integers(0, 2)), min_size=1
    ),
    seed=st.integers(0, 99),
    ending=st.sampled_from(["parquet", "csv"]),
)
def test_a_table_is_read_back_in_whatever_order_its_rows_stand(tmp_path_factory, cells, seed, ending):
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("tables") / f"mine.{ending}"
    given = {key: Scored(NAMES, np.r_[-np.inf, rng.normal(size=4)]) for key in cells}
    write_rankings(given, path)
    assert_same(read_rankings(path), given)
    rows = [
        {"task": t, "model": m, "seed": s, "neuron": name, "score": float(score)}
        for (t, m, s), one in given.items()
        for name, score in zip(one.neurons, one.scores, strict=True)
    ]
    rng.shuffle(rows)
    assert_same(read_rankings(write(path, rows)), given)


def assert_same(found, given):
    assert set(found) == set(given)
    for key, one in given.items():
        assert np.array_equal(found[key].aligned(Neurons.anonymous(5), "here"), one.scores)


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_without_seeds_and_models_a_table_is_of_seed_0_and_no_model(tmp_path, ending):
    path = write(tmp_path / f"x.{ending}", [ROW | {"model": ""}], without=["seed"])
    assert set(read_rankings(path)) == {("t", "", 0)}


@pytest.mark.parametrize(
    ("change", "without", "message"),
    [
        ({"score": float("nan")}, (), "1 scores are NaN.*row 2, t, neuron.1"),
        ({"score": float("inf")}, (), "NaN, \\+inf or missing"),
        ({"score": None}, (), "NaN, \\+inf or missing"),
        ({"neuron": "neuron.0"}, (), "t · m scores neuron.0 twice"),
        ({}, ("neuron",), "no column 'neuron'.*Expected the columns task, model, neuron, score"),
    ],
)
@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_what_is_wrong_with_a_table_is_said(tmp_path, ending, change, without, message):
    rows = [ROW, ROW | {"neuron": "neuron.1"} | change]
    with pytest.raises(InputError, match=message):
        read_rankings(write(tmp_path / f"x.{ending}", rows, without))


def test_text_for_scores_a_cut_file_and_another_ending_are_refused(tmp_path):
    words = tmp_path / "words.csv"
    words.write_text("task,model,neuron,score\nt,m,neuron.0,high\n")
    cut = write(tmp_path / "cut.parquet", [ROW])
    cut.write_bytes(cut.read_bytes()[:-7])
    with pytest.raises(InputError, match=r"words.csv: 'high' is no number\. Expected the columns"):
        read_rankings(words)
    for path in (cut, tmp_path / "absent.csv"):
        with pytest.raises(InputError, match="cannot be read"):
            read_rankings(path)
    with pytest.raises(InputError, match=r"ends in \.parquet or \.csv"):
        read_rankings(tmp_path / "x.json")


def test_a_wrong_number_of_neurons_and_a_strange_name_are_named():
    with pytest.raises(InputError, match="here: scores for 5 of 6 neurons; neuron.5 has none"):
        Scored(NAMES, np.zeros(5)).aligned(Neurons.anonymous(6), "here")
    with pytest.raises(InputError, match="here: there is no neuron 'L9.mlp_post.1'; there are 5"):
        Scored((*NAMES[:4], "L9.mlp_post.1"), np.zeros(5)).aligned(Neurons.anonymous(5), "here")
