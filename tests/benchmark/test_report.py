"""The report of a benchmark for papers and loggers."""

import string
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import wandb
import yaml
from lightning.pytorch.loggers import CSVLogger, WandbLogger
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from microevo.benchmark import Protocol, run
from microevo.benchmark.bootstrap import Samples
from microevo.benchmark.leaderboard import RMSE, Score, ScoreCurves
from microevo.benchmark.report.figures import draw_against_lead, draw_against_seconds, figure_name
from microevo.benchmark.results import ScoreTable


@pytest.fixture
def settings(small_store, tmp_path) -> dict:
    protocols = {
        "4->6": Protocol(store=str(small_store), n_past=4, horizon=6),
        "2->3 late": Protocol(store=str(small_store), n_past=2, horizon=3, starts=[10], note="a late start"),
    }
    return {"protocols": protocols, "output": str(tmp_path / "out"), "leads": [1, 6], "repeats": 1, "device": "cpu"}


@pytest.mark.slow
def test_tables_curves_and_animations_go_to_wandb(settings, tmp_path):
    run(**settings, logger=WandbLogger(offline=True, save_dir=tmp_path))
    wandb.finish()  # the next test's logger would go on with this run
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    files = [path.name for path in (folder / "files" / "media").rglob("*.*")]
    assert sum(name.endswith(".gif") for name in files) == 2  # the reference solver on both protocols
    pictures = {path.parent.name: path.read_bytes() for path in (folder / "files" / "media").rglob("*.png")}
    out = Path(settings["output"])
    assert pictures == {name: (out / figure_name(name)).read_bytes() for name in settings["protocols"]}
    assert any("summary" in name for name in files)
    for curve in ("rmse", "free_energy", "particle_count"):
        assert any(curve in name for name in files)


@pytest.mark.slow
def test_other_loggers_get_means_and_curves(settings, tmp_path, capsys):
    results = run(**settings, logger=CSVLogger(tmp_path, name="csv"))
    (path,) = (tmp_path / "csv").rglob("metrics.csv")
    table = pd.read_csv(path)
    summary = pd.read_csv(Path(settings["output"]) / "summary.csv")
    means = summary[summary.statistic == "mean over leads"].set_index(["protocol", "competitor", "name"])["mean"]
    value = means["4->6", "Persistence", "rmse"]
    assert table["benchmark/4->6/Persistence/rmse"].iloc[0] == pytest.approx(value)
    assert table["step"].tolist() == list(range(7))
    for name, horizon in (("4->6", 6), ("2->3 late", 3)):
        curve = table.set_index("step")[f"benchmark/{name}/Persistence/rmse_by_lead"].dropna()
        assert curve.index.tolist() == list(range(1, horizon + 1))
        np.testing.assert_allclose(curve, ScoreTable(results, name).samples(RMSE).mean("Persistence"))
    energies = [f"benchmark/4->6/{model}/free_energy_by_lead" for model in ("Truth", "Reference solver")]
    assert table[energies[0]].dropna().to_numpy() == pytest.approx(table[energies[1]].dropna().to_numpy(), rel=1e-3)
    printed = capsys.readouterr().out
    assert f"CSVLogger takes no pictures: see the .png files and report.html in {settings['output']}" in printed


def test_every_protocol_has_a_picture_of_its_own():
    names = ["a/b <i>", "a b  i ", "a_b__i_", "a->b", "a-to-b", "a b", "a_b", "A→b"]
    files = [figure_name(name) for name in names]
    assert len(set(files)) == len(names)
    assert {"a-to-b.png", "a_b.png", "a_b__i_.png"} <= set(files)  # nothing was lost, so nothing is added
    assert all(set(file) <= {*string.ascii_letters, *string.digits, *"-._"} for file in files[:-1])


@pytest.fixture
def drawn(monkeypatch) -> Callable[..., Axes]:
    """Panels of the picture for curves made up here, RMSE by model, and their costs."""
    monkeypatch.setattr("microevo.benchmark.bootstrap.RESAMPLES", 20)

    def draw(**models: list[float]) -> list[Axes]:
        samples = Samples({name: np.array([[values] * 6]) for name, values in models.items()})
        rmse = ScoreCurves.of(Score(key=RMSE, title="RMSE"), samples)
        axes = [Figure().add_subplot(), Figure().add_subplot()]
        draw_against_lead(axes[0], rmse)
        draw_against_seconds(axes[1], rmse, dict.fromkeys(models, 1.0))
        return axes

    return draw


def test_a_diverged_model_does_not_flatten_the_others(drawn):
    models = {"Persistence": [0.1, 0.2], "FCN": [0.05, 0.1], "Reference solver": [0.0, 0.0]}
    for axes, plain in zip(drawn(**models, Wild=[0.1, 1e5], Lost=[0.1, np.inf]), drawn(**models), strict=True):
        assert axes.get_ylim() == plain.get_ylim()
        assert axes.get_title("left") == "beyond this axis: Wild, Lost"
        assert plain.get_title("left") == ""


def test_a_model_that_is_only_bad_stays_in_sight(drawn):
    for axes in drawn(Persistence=[0.1, 0.1], Bad=[0.2, 0.25]):
        assert axes.get_ylim()[1] > 0.22
        assert axes.get_title("left") == ""


def test_what_is_at_zero_is_seen_whole(drawn):
    for axes in drawn(Persistence=[0.1, 0.2], **{"Reference solver": [0.0, 0.0]}):
        assert -0.05 < axes.get_ylim()[0] / axes.get_ylim()[1] < -0.02
    drawn(Persistence=[0.0, 0.0], FCN=[0.0, 0.1])  # where nothing moves
    drawn(FCN=[np.nan, np.nan])


@pytest.mark.slow
def test_files_for_papers(settings, capsys):
    results = run(**settings)
    folder = Path(settings["output"])
    page = (folder / "report.md").read_text()
    for text in (
        "## 4->6",
        "**Note:** a late start",
        "(4-to-6.png)",
        "Reference solver",
        "Persistence",
        "free energy",
        "## Cost",
    ):
        assert text in page
    written = {path.name for path in folder.iterdir()}
    assert {"4-to-6.png", figure_name("2->3 late"), "report.html", "summary.csv", "cost.csv"} <= written
    assert "RMSE mean" in capsys.readouterr().out
    record = results.record
    assert record["protocols"]["4->6"]["digest"] != record["protocols"]["2->3 late"]["digest"]
    assert record["versions"]["torch"]
    assert yaml.safe_load((folder / "benchmark.json").read_text())["settings"]["leads"] == [1, 6]


@pytest.mark.slow
def test_overwriting_is_asked_for(settings):
    run(**settings)
    other = settings | {"protocols": {"4->5": settings["protocols"]["4->6"]}}
    with pytest.raises(ValueError, match="the protocol 4->5 has 4 input frames and 6 target frames"):
        run(**other)
    changed = settings | {"physics": "none"}
    with pytest.raises(FileExistsError, match="made with other metrics, or leads of curves; use --overwrite"):
        run(**changed)
    run(**changed, overwrite=True)


def test_missing_data_and_unknown_protocols_are_refused(settings, tmp_path):
    with pytest.raises(ValueError, match="there is no protocol 5->95; the config has 4->6, 2->3 late"):
        run(**settings, only=["5->95"])
    with pytest.raises(FileNotFoundError, match="no trajectory store at nowhere"):
        run(**(settings | {"protocols": {"p": Protocol(store="nowhere")}}))
    with pytest.raises(ValueError, match=r"the predictions .* are for one protocol"):
        run(**settings, predictions="theirs.npy")
    with pytest.raises(FileNotFoundError, match="there is no benchmark in"):
        run(**settings, render_only=True)
    assert not (tmp_path / "out").exists()
