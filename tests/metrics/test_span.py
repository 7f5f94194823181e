"""Scores that do not depend on the unit of a field: where its range comes from, where it goes, and that it is said."""

import json
from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import torch
from shared import small_process
from toy_windows import trainer, waves

import microevo
from microevo.benchmark import Protocol, run
from microevo.data import TrajectoryDataModule, TrajectoryStore, generate
from microevo.metrics import Metric, find, psnr, ssim, ssim_openstl
from microevo.metrics.table import mean_at_leads
from microevo.models import FCN, ConvLSTM, Forecaster
from microevo.processes import GrainGrowth, PlaneWave
from microevo.span import Span, options_of

UNITS = {"c": (1.0, 0.0), "2c - 1": (2.0, -1.0), "255 c": (255.0, 0.0)}  # factor and offset


class Mean(Forecaster):
    """Repeats the mean of the past, whatever its unit."""

    def __init__(
        self,
        n_past: int = 2,
        channels: int = 1,
        horizon: int = 3,
        data_range: float | None = None,
        ssim_weight: float = 0.0,
    ):
        super().__init__(n_past, channels, horizon, data_range=data_range, ssim_weight=ssim_weight)
        self.save_hyperparameters(logger=False)

    def forward(self, past, horizon):
        return past.mean(dim=1, keepdim=True).repeat(1, horizon, 1, 1, 1)


@pytest.fixture
def in_units(make_store) -> Callable[..., TrajectoryStore]:
    """Imported waves of one field, in one of the units."""
    values = waves(samples=4, frames=6).numpy()
    return lambda unit, **settings: make_store(
        f"{unit}.zarr", values=UNITS[unit][0] * values + np.float32(UNITS[unit][1]), **settings
    )


def test_values_by_hand():
    """Two fields in [0, 1], forecast 0.1 too high, and the same in degrees and in [-1, 1]."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(1, 1, 2, 12, 12, generator=generator)
    forecast = truth + 0.1
    expected = {"ssim": ssim(forecast, truth).item(), "mse_scaled": pytest.approx(0.01, rel=1e-5)}
    scale, offset = torch.tensor([300.0, 2.0])[:, None, None], torch.tensor([-273.0, -1.0])[:, None, None]
    each = [Span(-273.0, 27.0, ""), Span(-1.0, 1.0, "")]
    for name, value in expected.items():
        found = find(name).on(each)(scale * forecast + offset, scale * truth + offset).item()
        assert found == (pytest.approx(value, abs=1e-5) if name == "ssim" else value)
    same = find("ssim").on([Span(0.0, 1.0, "")] * 2)(forecast, truth)
    torch.testing.assert_close(same, ssim(forecast, truth), rtol=0, atol=0)  # as before fields had spans
    assert psnr(255 * forecast, 255 * truth, data_range=255.0).item() == pytest.approx(20.0, abs=1e-3)
    assert options_of([Span(-1.0, 1.0, "")] * 2) == {"data_range": 2.0, "lowest": -1.0}


@pytest.mark.slow
def test_scores_do_not_depend_on_the_unit(in_units):
    found = {}
    for unit in UNITS:
        table = microevo.evaluate(Mean(), in_units(unit).path, accelerator="cpu")
        found[unit] = pd.concat({name: mean_at_leads(table, name) for name in ("ssim", "psnr", "correlation")})
        low, high, source = table.attrs["field_spans"]["c"]
        assert (high - low, source) == (pytest.approx(UNITS[unit][0], rel=1e-2), "range of the training split")
    assert 0.1 < found["c"].loc[("ssim", "Persistence"), 1] < 0.999
    for unit in UNITS:
        np.testing.assert_allclose(found[unit], found["c"], rtol=1e-4)


def test_a_loss_and_its_validation_do_not_depend_on_the_unit(in_units):
    found = {}
    for unit in ("c", "2c - 1"):
        model = Mean(ssim_weight=1e4)  # beside which the squared error does not round it
        data = TrajectoryDataModule(str(in_units(unit).path), n_past=2, n_future=3, horizon=3)
        (logged,) = trainer().validate(model, data, verbose=False)
        batch = next(iter(data.val_dataloader()))
        forecast = model(batch.past, 3)
        lost = model.objective(forecast, batch.future) - (forecast - batch.future).square().mean()
        found[unit] = [logged["val/ssim"], logged["val/psnr"], lost.item() / 1e4]
        assert found[unit][2] == pytest.approx(1 - logged["val/ssim"], rel=1e-4)
    np.testing.assert_allclose(*found.values(), rtol=2e-4)


@pytest.mark.slow
def test_a_benchmark_does_not_depend_on_the_unit_and_says_the_range(in_units, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    means = {}
    for unit in ("c", "255 c"):
        protocol = Protocol(store=str(in_units(unit).path), n_past=2, horizon=3)
        output = tmp_path / f"results {unit}"
        settings = {"repeats": 0, "leads": [1], "device": "cpu", "physics": "none", "conventions": True}
        settings["output"] = str(output)
        run({"p": protocol}, **settings)
        summary = pd.read_csv(output / "summary.csv")
        means[unit] = summary[summary.statistic == "mean over leads"].set_index("name")["mean"]
        record = json.loads((output / "benchmark.json").read_text())["protocols"]["p"]
        assert record["spans"]["c"][1] - record["spans"]["c"][0] == pytest.approx(UNITS[unit][0], rel=1e-2)
        said = "range of the training split"
        assert said in capsys.readouterr().out
        assert said in (output / "report.md").read_text()
        assert said in (output / "report.html").read_text()
    names = ["ssim", "psnr", "correlation"]
    np.testing.assert_allclose(means["255 c"][names], means["c"][names], rtol=1e-4)
    # the convention of others stays what it is: values in [0, 1] and a range of 2
    assert means["255 c"]["ssim_openstl"] != pytest.approx(means["c"]["ssim_openstl"], rel=1e-2)
    assert find("ssim_openstl").on([Span(0.0, 255.0, "")]).function is ssim_openstl


def test_results_with_another_range_are_not_mixed(small_store, tmp_path, monkeypatch):
    store = TrajectoryStore.open(small_store)
    protocol = Protocol(store=str(small_store), n_past=2, horizon=3)
    settings = {"repeats": 0, "leads": [1], "device": "cpu", "physics": "none", "output": str(tmp_path / "out")}
    run({"p": protocol}, **settings)
    digest = protocol.digest(protocol.windows(["c"]))
    assert store.spans == {"c": (0.0, 1.0, "declared by the process")}
    monkeypatch.setattr(TrajectoryStore, "spans", {"c": Span(0.0, 2.0, "declared by the process")})
    assert protocol.digest(protocol.windows(["c"])) != digest
    with pytest.raises(FileExistsError, match="made with other settings of the protocol or data"):
        run({"p": protocol}, **settings)


# ------------------------------------------------------------------ where it comes from


def test_a_process_declares_the_span_of_its_fields(small_store, tmp_path):
    store = TrajectoryStore.open(small_store)
    assert store.attributes["spans"] == {"c": [0.0, 1.0]}
    earlier = generate(small_process(), tmp_path / "earlier.zarr", splits={"test": 1}, frames=2)
    earlier.attributes.pop("spans")  # as stores had none before
    assert earlier.spans == store.spans
    assert {field.name: field.span for law in (PlaneWave, GrainGrowth) for field in law.fields} == {
        "u": (0.0, 1.0),
        "v": (-0.5, 0.5),
        "micrograph": (0.0, 1.0),
        "grain": None,  # a number has no span
    }


def test_a_store_without_a_declaration_gives_the_range_of_its_training_split(make_store):
    values = np.zeros((3, 2, 2, 4, 4), dtype=np.float32)
    values[0, :, 0, 0] = 3.0
    values[1, :, 0, 0] = 7.0  # of the test split
    values[:, :, 1] = 5.0
    store = make_store("a.zarr", values=values, splits=("train", "test", "test"), fields=("c", "T"))
    assert store.spans == {
        "c": (0.0, 3.0, "range of the training split"),
        "T": (5.0, 6.0, "constant, range of the training split"),
    }
    alone = make_store("b.zarr", values=values, splits=("test",) * 3, fields=("c", "T"))
    assert alone.spans["c"] == (0.0, 7.0, "range of all trajectories")


# ------------------------------------------------------------------ that it is kept and said


@pytest.mark.slow
def test_a_checkpoint_keeps_the_range_and_a_test_says_where_it_differs(in_units, tmp_path, caplog):
    torch.manual_seed(0)
    model = FCN(n_past=2, horizon=3, hid_s=2, hid_t=4, n_t=2)
    data = TrajectoryDataModule(str(in_units("255 c").path), n_past=2, n_future=3, horizon=3)
    fitted = trainer(max_steps=1, limit_val_batches=0, default_root_dir=tmp_path)
    with caplog.at_level("INFO", logger="lightning.pytorch.utilities.rank_zero"):
        fitted.fit(model, data)
        fitted.save_checkpoint(tmp_path / "model.ckpt")
        assert any("SSIM and PSNR are for c from 0" in text for text in caplog.messages)
        again = microevo.load_model(tmp_path / "model.ckpt")
        assert again.trained_spans["c"] == model.spans["c"]
        assert again.score(255 * torch.ones(1, 3, 1, 16, 16), 254 * torch.ones(1, 3, 1, 16, 16))["ssim"].min() > 0.99
        caplog.clear()
        trainer(callbacks=[]).test(
            again, TrajectoryDataModule(str(in_units("c").path), n_past=2, horizon=3), verbose=False
        )
        assert any("trained and validated with c from 0" in text for text in caplog.messages)
        caplog.clear()
        fixed = Mean(data_range=1.0)
        trainer().test(fixed, data, verbose=False)
        assert any(
            "data_range = 1 is set for the model, although the data have c from" in text for text in caplog.messages
        )


# ------------------------------------------------------------------ frames too small for SSIM


@pytest.fixture
def flat(make_store) -> TrajectoryDataModule:
    """Frames of 8 x 24 pixels, smaller than the window of SSIM."""
    return TrajectoryDataModule(
        str(make_store("flat.zarr", shape=(8, 24)).path), n_past=2, n_future=2, horizon=2, batch_size=2
    )


def test_frames_too_small_for_ssim_are_told_before_the_training(flat, caplog):
    model = ConvLSTM(hidden=[2], filter_size=3, n_past=2, horizon=2)
    with caplog.at_level("INFO", logger="lightning.pytorch.utilities.rank_zero"):
        runner = trainer(max_epochs=1, limit_train_batches=1)
        runner.fit(model, flat)
    told = [text for text in caplog.messages if "SSIM is left out" in text]
    assert told == [
        "SSIM is left out: SSIM needs frames of at least 11 x 11 pixels, got 8 x 24: use larger frames or leave SSIM out."
    ]
    assert "val/mse" in runner.callback_metrics
    assert "val/ssim" not in runner.callback_metrics


@pytest.mark.parametrize(
    ("settings", "monitor", "said"),
    [
        ({"ssim_weight": 0.1}, "val/mse", "ssim_weight is 0.1, but SSIM is not defined for these frames"),
        (
            {},
            "val/ssim",
            "EarlyStopping monitors val/ssim, which is not defined for these frames; set monitor to val/mse",
        ),
    ],
)
def test_a_training_that_depends_on_ssim_is_refused_before_it_begins(flat, settings, monitor, said):
    from lightning.pytorch.callbacks import EarlyStopping

    model = ConvLSTM(hidden=[2], filter_size=3, n_past=2, horizon=2, **settings)
    runner = trainer(max_steps=1, callbacks=[EarlyStopping(monitor)])
    with pytest.raises(ValueError, match=said):
        runner.fit(model, flat)
    assert runner.global_step == 0


def test_a_metric_of_ones_own_gets_the_range() -> None:
    def relative(prediction, target, data_range=1.0, lowest=0.0):
        return ((prediction - target) / data_range + 0 * lowest).mean((2, 3, 4))

    one = Metric(name="mine", title="mine", function=relative).on([Span(1.0, 5.0, "")])
    frames = torch.ones(1, 2, 1, 4, 4)
    assert one(3 * frames, frames).tolist() == [[0.5, 0.5]]
