"""The long table: typed columns, one folder per competitor, nothing mixed."""

import json

import numpy as np
import pandas as pd
import pytest
import scored

from microevo.benchmark.long_table import Block, Key, LongTable
from microevo.benchmark.results import Results, ScoreTable

MSE = Key("metric", "mse")


@pytest.fixture
def table(tmp_path):
    return LongTable(tmp_path / "table")


def test_pandas_reads_the_folder_as_one_table(tmp_path):
    scores = {("A", None): {MSE: np.ones((3, 2))}, ("B", 4): {MSE: np.zeros((3, 2))}}
    results = scored.write(tmp_path, scores)
    whole = pd.read_parquet(results.table.folder)
    assert len(whole) == 2 * 2 * 3 * 2
    assert set(whole.columns) == {
        *("process", "protocol", "competitor", "seed", "kind", "name", "bin"),
        *("trajectory", "start", "lead", "value", "censored", "git", "data"),
    }
    assert set(whole[whole.competitor == "B"].seed) == {4}
    assert len(whole[(whole.competitor == "A") & (whole.name == "mse")]) == 6
    pd.testing.assert_frame_equal(results.table.read("p"), results.table.read())


def test_each_column_says_one_thing(tmp_path):
    """A curve has bins, a number of the whole forecast has no lead time, and a lower bound is marked."""
    blocks = {
        MSE: np.full((2, 3), 0.5),
        Key("quantity", "spectrum", 1): Block(np.full((2, 1), 7.0), np.array([3])),
        Key("metric", "correlation_time_0.9"): Block(np.array([[2.0], [4.0]]), None, np.array([[False], [True]])),
    }
    results = scored.write(tmp_path, {("A", None): blocks})
    rows = pd.read_parquet(results.table.folder).set_index("name")
    assert rows.loc["spectrum", ["bin", "lead"]].drop_duplicates().to_numpy().tolist() == [[1, 3]]
    assert rows.loc["mse", "bin"].isna().all()
    assert rows.loc["correlation_time_0.9", "lead"].isna().all()
    assert rows.loc["correlation_time_0.9", "censored"].tolist() == [False, True]
    assert not rows.loc["mse", "censored"].any()
    read = ScoreTable(results, "p")
    for key, block in blocks.items():
        found = read.block("A", key)
        assert found.values.tolist() == np.asarray(block.values if isinstance(block, Block) else block).tolist()
    assert read.leads(Key("metric", "correlation_time_0.9")) == []
    assert read.censored(Key("metric", "correlation_time_0.9")) == {"A": 0.5}


def test_results_of_other_settings_are_kept(table):
    settings = {"protocol": {"digest": "1"}, "fingerprint": "weights", "scores": ["mse"], "spans": {"c": [0, 1, ""]}}
    table.begin("p", "A", settings)
    table.begin("p", "A", settings)
    for name, value, said in (
        ("protocol", {"digest": "2"}, "settings of the protocol or data"),
        ("fingerprint", "others", "weights or predictions"),
        ("scores", ["mae"], "metrics, or leads of curves"),
        ("spans", {"c": [0, 255, ""]}, "ranges of the fields"),
    ):
        with pytest.raises(FileExistsError, match=f"made with other {said}.*; use --overwrite"):
            table.begin("p", "A", settings | {name: value})
    assert json.loads((table.group("p", "A") / "_about.json").read_text()) == settings


def test_no_two_names_share_a_folder(table):
    names = ["a->b", "a-to-b", "a-%3eb", "a b", "a%20b", "a/b", "a_b"]
    assert len({table.group(name, "A") for name in names}) == len(names)
    assert table.group("10->90", "A").parent.name == "10-to-90"


def test_an_empty_folder_is_not_a_table(table):
    with pytest.raises(FileNotFoundError, match=r"no results in .*; run the benchmark first"):
        table.read("p")


def test_results_of_an_earlier_version_are_refused(tmp_path):
    results = scored.write(tmp_path, {("A", None): {MSE: np.ones((3, 2))}})
    path = tmp_path / "benchmark.json"
    path.write_text(json.dumps({name: value for name, value in results.record.items() if name != "version"}))
    with pytest.raises(
        ValueError, match=r"earlier version of microevo.*; run the benchmark with --overwrite and without"
    ):
        ScoreTable(Results(tmp_path), "p")
