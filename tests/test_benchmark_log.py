"""What a benchmark sends to loggers, and the report files for papers."""

from pathlib import Path

import pandas as pd
import pytest
import yaml
from lightning.pytorch.loggers import CSVLogger, WandbLogger

from microevo.benchmark import Protocol, run


@pytest.fixture
def settings(small_store, tmp_path) -> dict:
    protocols = {
        "4->6": Protocol(store=str(small_store), n_past=4, horizon=6),
        "2->3 late": Protocol(store=str(small_store), n_past=2, horizon=3, starts=[10], note="a late start"),
    }
    return {"protocols": protocols, "output": str(tmp_path / "out"), "leads": [1, 6], "repeats": 1, "device": "cpu"}


def test_tables_curves_and_animations_go_to_wandb(settings, tmp_path):
    run(**settings, logger=WandbLogger(offline=True, save_dir=tmp_path))
    (folder,) = (tmp_path / "wandb").glob("offline-run-*")
    files = [path.name for path in (folder / "files" / "media").rglob("*.*")]
    assert sum(name.endswith(".gif") for name in files) == 2  # known physics on both protocols
    assert sum(name.endswith(".png") for name in files) == 4
    assert any("summary" in name for name in files)
    assert any("rmse" in name for name in files)


def test_other_loggers_get_the_means(settings, tmp_path):
    run(**settings, logger=CSVLogger(tmp_path, name="csv"))
    (path,) = (tmp_path / "csv").rglob("metrics.csv")
    table = pd.read_csv(path)
    summary = pd.read_csv(Path(settings["output"]) / "summary.csv").set_index(["protocol", "model", "metric", "lead"])[
        "mean"
    ]
    value = summary["4->6", "Persistence", "rmse", 0]
    assert table["benchmark/4->6/Persistence/rmse"].iloc[0] == pytest.approx(value)


def test_files_for_papers(settings, capsys):
    results = run(**settings)
    folder = Path(settings["output"])
    page = (folder / "report.md").read_text()
    for text in (
        "## 4->6",
        "**Note:** a late start",
        "(4-to-6.png)",
        "Known physics",
        "Persistence",
        "free energy",
        "## Cost",
    ):
        assert text in page
    assert {"4-to-6.png", "2-to-3_late.png", "report.html", "summary.csv", "cost.csv"} <= {
        p.name for p in folder.iterdir()
    }
    assert "RMSE mean" in capsys.readouterr().out
    about = results.about
    assert about["protocols"]["4->6"]["digest"] != about["protocols"]["2->3 late"]["digest"]
    assert about["versions"]["torch"]
    assert yaml.safe_load((folder / "benchmark.json").read_text())["settings"]["leads"] == [1, 6]


def test_overwriting_is_asked_for(settings):
    run(**settings)
    other = settings | {"protocols": {"4->5": settings["protocols"]["4->6"]}}
    with pytest.raises(ValueError, match="the protocol 4->5 shows 4 frames and asks for 6"):
        run(**other)
    changed = settings | {"physics": "none"}
    with pytest.raises(FileExistsError, match="made with other metrics; use --overwrite"):
        run(**changed)
    run(**changed, overwrite=True)


def test_missing_data_and_unknown_protocols_are_refused(settings, tmp_path):
    with pytest.raises(ValueError, match="there is no protocol 5->95; the config has 4->6, 2->3 late"):
        run(**settings, only=["5->95"])
    with pytest.raises(FileNotFoundError, match="no trajectory store at nowhere"):
        run(**(settings | {"protocols": {"p": Protocol(store="nowhere")}}))
    with pytest.raises(ValueError, match=r"the predictions .* answer one protocol"):
        run(**settings, predictions="theirs.npy")
    with pytest.raises(FileNotFoundError, match="there is no benchmark in"):
        run(**settings, render_only=True)
    assert not (tmp_path / "out").exists()
