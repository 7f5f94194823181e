"""Reports: numbers by hand, honest comparisons, complete files."""

import math

import numpy as np
import pandas as pd
import pytest

from microevo.benchmark.report import summarise, to_markdown, write_report

FILES = {"report.md", "report.png", "results.csv", "summary.csv"}


def long_table(models, leads=3, trajectories=2):
    rows = [
        ("spinodal", model, seed, metric, trajectory, lead, value)
        for model, scale, seed in models
        for trajectory in range(trajectories)
        for lead in range(1, leads + 1)
        for metric, value in (("mse", (scale * lead * (1 + trajectory)) ** 2), ("ssim", 1 - scale * lead))
    ]
    return pd.DataFrame(rows, columns=["process", "model", "seed", "metric", "trajectory", "lead", "value"])


@pytest.fixture
def table():
    return long_table([("Persistence", 0.03, -1), ("FCN", 0.02, 7), ("ConvLSTM", 0.01, 7)])


@pytest.fixture
def cost():
    rows = [
        ("FCN", 20_000_000, 8e10, 0.5, 120.0),
        ("ConvLSTM", 15_000_000, 1e12, 4.0, 300.0),
        ("Persistence", 0, 0, 1e-5, 0.1),
    ]
    cost = pd.DataFrame(rows, columns=["model", "parameters", "multiply_adds", "seconds", "peak_memory_mb"])
    return cost.assign(memory_method="live tensors", batch_size=1, device="x86_64 CPU, 2 threads")


def test_summary_by_hand(table, cost):
    summary = summarise(table, cost, leads=[1, 3, 50])
    assert list(summary.index) == ["ConvLSTM", "FCN", "Persistence"]
    root = math.sqrt((1 + 4) / 2)  # of the mean over the two trajectories
    assert summary.loc["FCN", "rmse_3"] == pytest.approx(0.02 * 3 * root)
    assert summary.loc["FCN", "rmse_mean"] == pytest.approx(0.02 * 2 * root)
    assert summary.loc["FCN", "ssim_1"] == pytest.approx(0.98)
    assert summary.loc["ConvLSTM", "parameters"] == 15_000_000
    assert "rmse_50" not in summary


def test_persistence_is_last_even_when_it_wins(cost):
    table = long_table([("Persistence", 0.01, -1), ("FCN", 0.02, 0)])
    summary = summarise(table, cost, leads=[1])
    assert list(summary.index) == ["FCN", "Persistence"]
    persistence = to_markdown(summary).splitlines()[-1]
    assert "**0.0158**" in persistence  # it has the best RMSE, and says so
    assert "**0**" not in persistence  # but costs nothing, which is no merit


def test_best_values_are_bold(table, cost):
    lines = to_markdown(summarise(table, cost, leads=[1])).splitlines()
    assert lines[0].split(" | ")[1:5] == ["parameters", "G multiply-adds", "seconds", "peak memory [MB]"]
    assert lines[2].startswith("| ConvLSTM | **15.00 M** | 1,000 | 4 | 300 | **0.0158** |")
    assert lines[3].startswith("| FCN | 20.00 M | **80** | **0.5** | **120** | 0.0316 |")


def test_a_diverged_model_is_neither_hidden_nor_averaged_away(table, cost, tmp_path):
    table.loc[(table["model"] == "FCN") & (table["trajectory"] == 1) & (table["lead"] == 3), "value"] = np.nan
    summary = write_report(table, cost, [1, 3], tmp_path, "diverged")
    assert np.isnan(summary.loc["FCN", "rmse_3"])
    assert np.isnan(summary.loc["FCN", "rmse_mean"])
    assert "NaN" in (tmp_path / "report.md").read_text()


def test_leads_beyond_the_horizon_leave_the_last_one(table, cost):
    assert "rmse_3" in summarise(table, cost, leads=[50, 90])


def test_ssim_may_be_missing(table, cost, tmp_path):
    summary = write_report(table[table["metric"] == "mse"], cost, [1], tmp_path, "small frames")
    assert not any(name.startswith("ssim") for name in summary)
    assert "SSIM" not in (tmp_path / "report.md").read_text()


def test_report_is_written_complete(table, cost, tmp_path):
    folder = tmp_path / "new" / "report"
    summary = write_report(table, cost, [1, 3], folder, "Spinodal", notes=["Trained for 10 steps."])
    assert {file.name for file in folder.iterdir()} == FILES
    pd.testing.assert_frame_equal(pd.read_csv(folder / "results.csv"), table)
    pd.testing.assert_frame_equal(pd.read_csv(folder / "summary.csv", index_col="model"), summary)
    page = (folder / "report.md").read_text()
    for text in (
        "# Spinodal",
        "](report.png)",
        "x86_64 CPU, 2 threads",
        "ConvLSTM 7; FCN 7",
        "Trained for 10 steps.",
    ):
        assert text in page


def test_an_existing_report_is_kept(table, cost, tmp_path):
    write_report(table, cost, [1], tmp_path, "first")
    with pytest.raises(FileExistsError, match="already holds results"):
        write_report(table, cost, [1], tmp_path, "second")
    assert "# first" in (tmp_path / "report.md").read_text()
    write_report(table, cost, [1], tmp_path, "second", overwrite=True)
    assert "# second" in (tmp_path / "report.md").read_text()


def test_unlike_forecasts_are_not_compared(table, cost):
    partial = table[~((table["model"] == "FCN") & (table["trajectory"] == 1))]
    with pytest.raises(ValueError, match="same forecasts"):
        summarise(partial, cost, leads=[1])


def test_one_process_per_report(table, cost):
    other = table.assign(process="dendrite")
    with pytest.raises(ValueError, match="one process, got dendrite, spinodal"):
        summarise(pd.concat([table, other]), cost, leads=[1])


def test_tables_that_do_not_fit_are_refused(table, cost):
    with pytest.raises(ValueError, match="cost table needs one row for each of"):
        summarise(table, cost[cost["model"] != "FCN"], leads=[1])
    with pytest.raises(ValueError, match="results table lacks the columns lead"):
        summarise(table.drop(columns="lead"), cost, leads=[1])


def test_seeds_are_averaged(cost):
    table = long_table([("FCN", 0.01, 0), ("FCN", 0.03, 1)], trajectories=1)
    assert summarise(table, cost, leads=[1]).loc["FCN", "rmse_1"] == pytest.approx(math.sqrt((1 + 9) / 2) * 0.01)
