"""The registry: a metric registered once is logged, tabulated, benchmarked and shown; what cannot be registered is refused."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from conftest import ROOT

from microevo.benchmark.results import Results
from microevo.metrics import (
    Metric,
    NotApplicableError,
    applicable,
    find,
    import_metrics,
    metric,
    registered,
    shown,
    unit_for,
)
from microevo.metrics.registry import rows_of
from microevo.models import Persistence


@pytest.fixture
def readme_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """README's metric in a module of a person's own, on the path."""
    (code,) = re.findall(
        r"```python\n(from microevo.metrics import metric\n.*?)```", (ROOT / "README.md").read_text(), re.DOTALL
    )
    (tmp_path / "my_metrics.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "my_metrics", raising=False)
    return "my_metrics"


@pytest.mark.slow
def test_readmes_metric_is_logged_written_scored_and_shown(
    readme_module: str, small_store: Path, in_process: Callable, tmp_path: Path
) -> None:
    config = {
        "metrics": [readme_module],
        "data": {
            "class_path": "microevo.data.TrajectoryDataModule",
            "init_args": {"store": str(small_store), "n_past": 4, "n_future": 2, "horizon": 3, "batch_size": 4},
        },
        "model": {"class_path": "microevo.models.ConvLSTM", "init_args": {"hidden": [4], "filter_size": 3}},
        "trainer": {
            "max_epochs": 1,
            "accelerator": "cpu",
            "logger": {
                "class_path": "lightning.pytorch.loggers.CSVLogger",
                "init_args": {"save_dir": str(tmp_path / "log")},
            },
        },
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(config))
    in_process("fit", "--config", "own.yaml", "--run_dir", "run")
    in_process("test", "--config", "own.yaml", "--run_dir", "run", "--ckpt_path", "last")
    logged = pd.concat([pd.read_csv(path) for path in sorted(Path("log").rglob("metrics.csv"))])
    assert logged["val/mass_drift"].dropna().between(0, 10).all()
    assert logged["val/mass_drift"].notna().any()
    for stage in ("fit", "test"):
        about = json.loads(Path(f"run/run-{stage}.json").read_text())
        assert about["field_spans"] == {"c": [0.0, 1.0, "declared by the process"]}
    tested = pd.read_csv("run/test.csv")
    own = tested[(tested["metric"] == "mass_drift") & (tested["model"] == "ConvLSTM")]
    assert logged["test/mass_drift/mean"].dropna().item() == pytest.approx(own["value"].mean(), rel=1e-5)
    in_process(
        *("benchmark", "--metrics", "[my_metrics]", "--repeats", 0, "--output", "results"),
        *("--protocols", f"{{p: {{store: {small_store}, n_past: 4, horizon: 3, starts: [0]}}}}"),
        *("--checkpoints", "{ConvLSTM: run/checkpoints/last.ckpt}"),
    )
    scored = Results(Path("results")).table.read()
    scored = scored[scored["name"] == "mass_drift"]
    first = own[own["start"] == 0].sort_values(["trajectory", "lead"])["value"]
    benchmarked = scored[scored["competitor"] == "ConvLSTM"].sort_values(["trajectory", "lead"])["value"]
    torch.testing.assert_close(torch.tensor(benchmarked.to_numpy()).double(), torch.tensor(first.to_numpy()))
    assert "| mass drift | " in Path("results/report.md").read_text()
    assert '"mass drift"' in Path("results/report.html").read_text()
    # The report keeps what it says of a metric whose module is not there any more.
    del sys.modules["my_metrics"]
    assert [own["title"] for own in Results(Path("results")).record["protocols"]["p"]["metrics"]][-1] == "mass drift"


def test_a_module_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match=r"the module nowhere_metrics, but No module .* PYTHONPATH"):
        import_metrics(["nowhere_metrics"])


def test_names_are_not_taken_twice_and_a_module_may_be_imported_again() -> None:
    def mine(prediction, target):
        return (prediction - target).amax((2, 3, 4))

    assert metric(title="largest error")(mine) is mine
    metric(title="largest error, said better")(mine)
    assert find("mine").title == "largest error, said better"
    with pytest.raises(
        ValueError, match=r"there is already a metric mse, from .*squared_error; register the one from .*mine"
    ):
        metric(title="MSE", name="mse")(mine)
    for name in ("finite", "trajectory", "a b"):
        with pytest.raises(ValueError, match="cannot be called"):
            metric(title="x", name=name)(mine)
    for settings in ({"of": "mean"}, {"of": "mean", "source": "nothing"}, {"source": "mse"}):
        with pytest.raises(ValueError, match="needs a registered metric as its source"):
            metric(title="x", name="derived", **settings)(mine)


def test_a_metric_returns_one_number_per_frame() -> None:
    frames = torch.zeros(2, 3, 1, 4, 4)
    for function, found in ((lambda p, t: (p - t).mean(), r"\(\)"), (lambda p, t: 0.0, "float")):
        with pytest.raises(ValueError, match=rf"\(B, T\) = \(2, 3\), but it returned {found}"):
            Metric(name="wrong", title="wrong", function=function)(frames, frames)


def test_the_span_of_the_field_reaches_the_metrics_that_take_it() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(2, 3, 1, 12, 12, generator=generator)
    forecast = truth + 0.1 * torch.rand(truth.shape, generator=generator)
    for name in ("ssim", "psnr"):
        found = []
        for scale in (1.0, 2.0):
            model = Persistence(n_past=1, horizon=3, data_range=scale)
            means = {key: value.mean() for key, value in model.score(scale * forecast, scale * truth).items()}
            found.append((means | model.metrics.derived(means))[name])
        torch.testing.assert_close(*found)


def test_metrics_that_are_not_defined_for_the_frames_are_left_out_with_a_sentence() -> None:
    chosen, reasons = applicable([find("mse"), find("ssim"), find("letap_microevoeval")], (2, 8, 24))
    assert [one.name for one in chosen] == ["mse"]
    assert re.search(r"SSIM is left out: SSIM needs frames of at least 11 x 11 pixels, got 8 x 24", reasons[0])
    assert "defined for one field, but there are 2" in reasons[1]
    model = Persistence(n_past=1, horizon=2)
    frames = torch.rand(2, 2, 1, 8, 24)
    assert set(model.score(frames, frames)) == {one.name for one in registered() if one.of == "frames"} - {"ssim"}
    with pytest.raises(NotApplicableError):
        find("ssim")(frames, frames)


def test_what_a_report_shows_follows_from_what_was_measured() -> None:
    assert [one.name for one in shown(["mse", "mse_scaled", "letap_microevoeval"])] == [
        "rmse",
        "psnr",
        "letap_microevoeval",
        "letap_microevoeval_total",
    ]
    assert [(one.title, one.unit) for one in shown(["correlation"])] == [
        ("correlation", "1"),
        ("correlation time, 0.8", "frames"),
        ("correlation time, 0.9", "frames"),
    ]


@pytest.mark.parametrize(
    ("unit", "fields", "expected"),
    [
        ("px", ["K"], "px"),
        ("field", ["K"], "K"),
        ("field^2", ["K"], "K^2"),
        ("field^2", ["K/m"], "(K/m)^2"),
        ("field", ["1"], "1"),
        ("field", ["K", "K"], "K"),
        ("field", ["K", "1"], "1"),
        ("field", [], "1"),
    ],
)
def test_a_metric_in_units_of_the_field_has_the_unit_of_the_fields(unit: str, fields: list[str], expected: str) -> None:
    assert unit_for(unit, fields) == expected


def test_names_of_rows() -> None:
    assert [rows_of(name) for name in ("rmse", "mae", "letap_microevoeval_total", "unknown")] == [
        "mse",
        "mae",
        "letap_microevoeval_squares",
        "unknown",
    ]
