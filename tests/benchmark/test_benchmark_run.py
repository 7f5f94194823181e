"""The benchmark as users call it again and again: other models, other settings, a mistake, an interruption."""

import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import wandb
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger, WandbLogger

from microevo import evaluate
from microevo.benchmark import Protocol, run
from microevo.benchmark.long_table import LongTable
from microevo.data import generate
from microevo.metrics import letap_microevoeval, microevoeval_total
from microevo.models import FCN, Persistence
from microevo.processes import Grid, PlaneWave

SEEN = {"leads": [1, 4], "repeats": 0, "reference_solver": False, "physics": "none", "device": "cpu"}


@pytest.fixture
def here(small_store, tmp_path, monkeypatch) -> Path:
    """A folder with forecasts of the two test trajectories, one a little off and one worse."""
    monkeypatch.chdir(tmp_path)
    windows = protocols(small_store)["4->6"].windows(["c"])
    truth = np.stack([window.future.numpy() for window in windows])
    np.save("good.npy", truth + np.float32(0.01))
    np.save("bad.npy", truth + np.float32(0.1))
    np.save("short.npy", truth[:, :3])
    return tmp_path


def protocols(store: Path) -> dict[str, Protocol]:
    return {
        "4->6": Protocol(store=str(store), n_past=4, horizon=6),
        "4->3": Protocol(store=str(store), n_past=4, horizon=3),
    }


def compared(store: Path, predictions: dict[str, str], **settings: object) -> None:
    named = {model: {"4->6": file} for model, file in predictions.items()}
    run(protocols(store), predictions=named, output="results", **(SEEN | {"only": ["4->6"]} | settings))


def models() -> set[str]:
    page, report = Path("results/report.html").read_text(), Path("results/report.md").read_text()
    summary = set(pd.read_csv("results/summary.csv").competitor)
    for name in ("good", "bad"):
        assert (name in summary) == (f"| {name} |" in report) == (f'"name":"{name}","seeds"' in page)
    return summary - {"Persistence"}


def test_a_mistake_loses_nothing(small_store, here):
    compared(small_store, {"good": "good.npy"})
    Path("results/mine.npy").write_bytes(b"keep me")
    Path("results/report.pdf").write_bytes(b"me too")
    before = {path: path.read_bytes() for path in Path("results").rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=r"short.npy have the shape \(2, 3, 1, 16, 16\)"):
        compared(small_store, {"good": "short.npy"}, overwrite=True)
    assert {path: path.read_bytes() for path in Path("results").rglob("*") if path.is_file()} == before
    compared(small_store, {"good": "bad.npy"}, overwrite=True)
    assert Path("results/mine.npy").read_bytes() == b"keep me"
    assert Path("results/report.pdf").read_bytes() == b"me too"


@pytest.mark.slow
def test_only_what_was_asked_for_last_is_reported(small_store, here):
    compared(small_store, {"good": "good.npy", "bad": "bad.npy"})
    assert models() == {"good", "bad"}
    compared(small_store, {"good": "good.npy"})
    assert models() == {"good"}
    compared(small_store, {"bad": "bad.npy", "good": "good.npy"})  # it is there still
    assert models() == {"good", "bad"}


def test_what_is_not_complete_is_left_out_and_said(small_store, here):
    compared(small_store, {"good": "good.npy", "bad": "bad.npy"})
    LongTable("results/table").part("4->6", "bad", 0).unlink()  # as after a kill
    run(output="results", render_only=True, leads=[1, 4])
    assert models() == {"good"}
    assert "bad is left out: 0 of its 2 forecasts are done" in Path("results/report.md").read_text()
    for path in Path("results/table").rglob("*.parquet"):
        path.unlink()
    run(output="results", render_only=True, leads=[1, 4])
    for report in ("report.md", "report.html"):
        assert "good is left out: 0 of its 2 forecasts" in Path("results", report).read_text()


@pytest.mark.slow
def test_an_interrupted_benchmark_is_reported_and_logged(small_store, here):
    run(protocols(small_store), output="results", **(SEEN | {"physics": "spinodal"}))
    LongTable("results/table").part("4->6", "Truth", 0).unlink()  # as after a kill, with several processes
    for model in ("Truth", "Persistence"):
        LongTable("results/table").part("4->3", model, 0).unlink()
    run(output="results", render_only=True, leads=[1, 4], logger=WandbLogger(offline=True, save_dir=here))
    wandb.finish()  # the next test's logger would go on with this run
    summary = pd.read_csv("results/summary.csv")
    assert set(summary.protocol) == {"4->6"}
    assert set(summary.competitor) == {"Persistence"}
    assert Path("results/report.md").read_text().count("is left out") == 3  # Truth twice
    LongTable("results/table").part("4->6", "Persistence", 0).unlink()
    run(output="results", render_only=True, leads=[1, 4], logger=CSVLogger(here))


@pytest.mark.slow
def test_changed_predictions_are_not_taken_for_the_old_ones(small_store, here):
    compared(small_store, {"good": "good.npy"})
    when = Path("good.npy").stat()
    os.utime("good.npy")  # touched, but the same
    compared(small_store, {"good": "good.npy"})
    Path("good.npy").write_bytes(Path("bad.npy").read_bytes())
    os.utime("good.npy", ns=(when.st_atime_ns, when.st_mtime_ns))
    with pytest.raises(FileExistsError, match="made with other weights or predictions"):
        compared(small_store, {"good": "good.npy"})


@pytest.mark.slow
def test_running_one_protocol_keeps_the_others(small_store, here):
    run(protocols(small_store), output="results", **SEEN)
    run(protocols(small_store), output="results", only=["4->3"], **SEEN)
    assert set(pd.read_csv("results/summary.csv").protocol) == {"4->6", "4->3"}


@pytest.mark.slow
def test_results_of_an_earlier_version_are_made_anew_on_request(small_store, here):
    compared(small_store, {"good": "good.npy"})
    path = Path("results/benchmark.json")
    path.write_text(path.read_text().replace('"version": 2', '"version": 1'))
    before = path.read_bytes()
    for settings in ({}, {"render_only": True}):
        with pytest.raises(ValueError, match="by an earlier version of microevo"):
            compared(small_store, {"good": "good.npy"}, **settings)
    with pytest.raises(ValueError, match="with --overwrite and without --only"):  # other protocols would stay
        compared(small_store, {"good": "good.npy"}, overwrite=True)
    assert path.read_bytes() == before
    everything = {"4->6": protocols(small_store)["4->6"]}
    run(everything, output="results", **(SEEN | {"overwrite": True}))
    assert set(pd.read_csv("results/summary.csv").competitor) == {"Persistence"}


@pytest.mark.slow
def test_one_protocol_is_made_anew_and_the_others_stay(small_store, here):
    run(protocols(small_store), output="results", **SEEN)
    files = [LongTable("results/table").part(name, "Persistence", 0) for name in ("4->6", "4->3")]
    files += [LongTable("results/table").frames_path(name, "Truth") for name in ("4->6", "4->3")]
    before = [path.stat().st_mtime_ns for path in files]
    run(protocols(small_store), output="results", only=["4->3"], overwrite=True, **SEEN)
    new = [path.stat().st_mtime_ns > when for path, when in zip(files, before, strict=True)]
    assert new == [False, True, False, True]
    assert set(pd.read_csv("results/summary.csv").protocol) == {"4->6", "4->3"}


def test_other_fields_are_other_results(here):
    law = PlaneWave(grid=Grid(shape=(16, 16), boundary="no-flux"))
    generate(law, here / "waves.zarr", splits={"test": 2}, frames=12, seed=2)
    both = protocols(here / "waves.zarr")
    run(both, fields=["u"], output="results", only=["4->6"], **SEEN)
    with pytest.raises(FileExistsError, match="made with other settings of the protocol or data"):
        run(both, fields=["v"], output="results", only=["4->6"], **SEEN)
    with pytest.raises(FileExistsError, match="results of 4->6 for the fields u, but v are asked for"):
        run(both, fields=["v"], output="results", only=["4->3"], **SEEN)
    assert not LongTable("results/table").group("4->3", "Truth").exists()


def test_totals_are_those_of_microevoeval(small_store, here):
    protocol = Protocol(store=str(small_store), n_past=4, horizon=6, starts=[0, 5])
    windows = protocol.windows(["c"])
    truth = torch.stack([window.future for window in windows])
    forecast = (truth + 0.3 * torch.rand(truth.shape, generator=torch.Generator().manual_seed(0))).numpy()
    np.save("theirs.npy", forecast)
    run({"4->6": protocol}, predictions="theirs.npy", output="results", **(SEEN | {"conventions": True}))
    published = microevoeval_total(letap_microevoeval(forecast, truth))
    summary = pd.read_csv("results/summary.csv").set_index(["competitor", "name"])["mean"]
    assert summary["theirs", "letap_microevoeval_total"] == pytest.approx(float(published), rel=1e-5)
    assert "| L-ETAP as in MicroEvoEval, of all forecasts |" in Path("results/report.md").read_text()
    assert '"name":"letap_microevoeval_total"' in Path("results/report.html").read_text()


@pytest.mark.slow  # two trainings and three benchmarks
def test_a_model_that_was_trained_again_is_another_one(small_store, here):
    def train(seed: int) -> dict:
        torch.manual_seed(seed)
        model = FCN(n_past=4, channels=1, hid_s=2, hid_t=4, n_t=2)
        trainer = Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False)
        trainer.strategy.connect(model)
        trainer.save_checkpoint("model.ckpt")
        return {"FCN": "model.ckpt"}

    both = protocols(small_store)
    run(both, train(0), output="results", **SEEN)
    with pytest.raises(FileExistsError, match=r"results of 4->6 by a FCN.* with other weights; run all protocols anew"):
        run(both, train(1), output="results", only=["4->3"], overwrite=True, **SEEN)
    run(both, {"FCN": "model.ckpt"}, output="results", overwrite=True, **SEEN)


def test_a_protocol_that_is_not_run_is_not_timed(small_store, here, capsys):
    run(protocols(small_store), output="results", only=["4->3"], cost_protocol="4->6", **(SEEN | {"repeats": 1}))
    assert "cost is not measured: its protocol 4->6 is not among those of --only" in capsys.readouterr().out
    assert not Path("results/cost.csv").exists()


@pytest.mark.slow
def test_cost_is_measured_on_the_device_in_use(small_store, here, monkeypatch):
    settings = SEEN | {"only": ["4->3"], "repeats": 1}
    run(protocols(small_store), output="results", **settings)
    first = Path("results/cost.csv").stat().st_mtime_ns
    run(protocols(small_store), output="results", **(settings | {"repeats": 0}))
    run(protocols(small_store), output="results", **settings)
    assert Path("results/cost.csv").stat().st_mtime_ns == first
    module = sys.modules["microevo.benchmark.run"]  # its name is that of the function, too
    monkeypatch.setattr(module, "device_name", lambda device: "another one")
    run(protocols(small_store), output="results", **settings)
    assert Path("results/cost.csv").stat().st_mtime_ns > first


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"leads": [0, 1]}, r"leads are counted from 1, but they are \[0, 1\]"),
        ({"leads": []}, "leads are counted from 1"),
        ({"batch_size": 0}, "batch_size must be at least 1, but it is 0"),
        ({"warmup": -1}, "warmup must be at least 0, but it is -1"),
        ({"repeats": -1}, "repeats must be at least 0"),
        ({"processes": 0}, "processes must be at least 1"),
        ({"predictions": {"good": {"4->66": "good.npy"}}}, "good are for 4->66, but the benchmark has 4->6, 4->3"),
        ({"predictions": {"": {"4->6": "good.npy"}}}, "has no name"),
    ],
)
def test_mistakes_are_reported_before_anything_is_made(small_store, here, settings, message):
    with pytest.raises(ValueError, match=message):
        run(protocols(small_store), output="results", **(SEEN | settings))
    assert not Path("results").exists()


@pytest.mark.slow
def test_leads_given_twice_or_in_any_order(small_store, here):
    compared(small_store, {"good": "good.npy"}, leads=[4, 1, 1])
    (head,) = (line for line in Path("results/report.md").read_text().splitlines() if line.startswith("| model |"))
    assert [cell for cell in head.split(" | ") if "RMSE" in cell] == ["RMSE at 1", "RMSE at 4", "RMSE mean"]
    written = {path: path.stat().st_mtime_ns for path in Path("results/table").rglob("*.parquet")}
    report = Path("results/report.md").read_text()
    compared(small_store, {"good": "good.npy"}, leads=[1, 4])  # the same benchmark
    assert {path: path.stat().st_mtime_ns for path in Path("results/table").rglob("*.parquet")} == written
    assert Path("results/report.md").read_text() == report


def test_forecasts_that_are_finite_and_huge(small_store, here):
    """Their squares overflow: counted as not finite, no mean, not ranked, and kept frames stay finite."""
    good = np.load("good.npy")
    np.save("huge.npy", good * np.float32(1e30))
    compared(small_store, {"good": "good.npy", "huge": "huge.npy"})
    kept = np.load(LongTable("results/table").frames_path("4->6", "huge"))
    assert np.isfinite(kept).all()
    report = Path("results/report.md").read_text()
    assert "huge: 2 of 2 forecasts are not finite (NaN, infinite, or too large to be squared)" in report
    assert "huge: one training" not in report
    assert "No significant difference in" not in report
    table = LongTable("results/table").read()
    huge = table[table["competitor"] == "huge"]
    assert (huge.loc[huge["kind"] == "finite", "value"] == 0).all()
    assert huge.loc[(huge["kind"] == "metric") & (huge["lead"] > 0), "value"].isna().all()


def test_frames_of_zeros_have_no_relative_error_and_are_counted(make_store, tmp_path, monkeypatch, caplog):
    """One of eight target frames: no mean of relative L2, one of everything else, and a sentence."""
    values = np.random.default_rng(0).random((4, 4, 1, 12, 12), dtype=np.float32) + 1
    values[1, 3] = 0
    store = str(make_store(values=values, splits=("test",) * 4).path)
    settings = SEEN | {"leads": [1], "output": str(tmp_path / "out")}
    run({"p": Protocol(store=store, n_past=2, horizon=2)}, **settings)
    summary = pd.read_csv(tmp_path / "out" / "summary.csv")
    means = summary[summary.statistic == "mean over leads"].set_index("name")["mean"]
    assert np.isinf(means["relative_l2"])
    assert np.isfinite(means[["rmse", "ssim", "psnr", "mae"]]).all()
    said = "The truth is zero everywhere in 1 of 8 target frames"
    assert said in (tmp_path / "out" / "report.md").read_text()
    assert "not finite" not in (tmp_path / "out" / "report.md").read_text().split("## Definitions")[0]
    with caplog.at_level("INFO", logger="lightning.pytorch.utilities.rank_zero"):
        evaluate(Persistence(n_past=2, horizon=2), store, accelerator="cpu")
    assert any("Persistence: the truth is zero everywhere in 1 of 8 frames" in text for text in caplog.messages)
