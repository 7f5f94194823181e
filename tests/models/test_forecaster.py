"""What a Lightning run does with a forecaster: logging, stopping, resuming, loading."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from toy_windows import ToyWindow, loader, trainer, windows

from microevo.metrics import ssim
from microevo.models import FCN, ConvLSTM, Forecaster, Persistence


def tiny(**settings: Any) -> FCN:
    torch.manual_seed(0)
    return FCN(**{"hid_s": 4, "hid_t": 8, "n_s": 2, "n_t": 2, "n_past": 4, "horizon": 4} | settings)


def corrupted(batch: ToyWindow, sample: int) -> ToyWindow:
    future = batch.future.clone()
    future[sample, 1, 0, 3, 3] = torch.nan
    return batch._replace(future=future)


class Rates(Callback):
    """Notes the learning rate used at each step."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


# Logging


def test_validation_logs_means_and_leads():
    batch = windows(n_future=12)
    model = Persistence(n_past=4, horizon=12)
    squared = (model(batch.past, 12) - batch.future).square().mean(dim=(0, 2, 3, 4))
    similarity = ssim(model(batch.past, 12), batch.future).mean()
    for batch_size in (4, 3):
        (logged,) = trainer().validate(model, loader(batch, batch_size), verbose=False)
        assert logged["val/mse"] == pytest.approx(squared.mean().item(), rel=1e-5)
        assert logged["val/rmse"] == pytest.approx(squared.mean().sqrt().item(), rel=1e-5)
        assert logged["val/ssim"] == pytest.approx(similarity.item(), rel=1e-5)
        assert {k for k in logged if "lead" in k} == {f"val/mse_lead{lead}" for lead in ("001", "010", "012")}
        assert logged["val/mse_lead010"] == pytest.approx(squared[9].item(), rel=1e-5)


def test_test_logs_leads():
    batch = windows(n_future=12)
    model = Persistence(n_past=4, horizon=12)
    (logged,) = trainer().test(model, loader(batch, 3), verbose=False)
    names = ("mse", "rmse", "mae", "ssim", "mse_scaled", "psnr", "relative_l2", "correlation")
    assert set(logged) == {f"test/{name}/{lead}" for name in names for lead in ("1", "10", "mean")}
    error = (model(batch.past, 12) - batch.future)[:, 9]
    assert logged["test/mae/10"] == pytest.approx(error.abs().mean().item(), rel=1e-5)
    assert logged["test/rmse/10"] == pytest.approx(error.square().mean().sqrt().item(), rel=1e-5)
    assert logged["test/rmse/mean"] == pytest.approx(logged["test/mse/mean"] ** 0.5, rel=1e-5)


def test_test_step_returns_rows_of_the_long_table():
    batch = windows()
    rows = Persistence(n_past=4, horizon=4).test_step(batch, 0)
    assert set(rows) == {"mse", "mse_scaled", "mae", "ssim", "relative_l2", "correlation", "trajectory", "start"}
    error = batch.past[:, -1:] - batch.future
    torch.testing.assert_close(rows["mse"], error.square().mean(dim=(2, 3, 4)))
    assert torch.equal(rows["trajectory"], batch.trajectory)
    assert torch.equal(rows["start"], batch.start)


def test_predict_returns_forecasts():
    batch = windows(n_future=1)
    (forecast,) = trainer().predict(Persistence(n_past=4, horizon=6), loader(batch)) or []
    assert isinstance(forecast, torch.Tensor)
    assert forecast.shape == (4, 6, 1, 16, 16)


def test_training_logs_the_loss_and_its_squared_error():
    runner = trainer(max_epochs=1)
    runner.fit(tiny(ssim_weight=0.5), loader(windows()))
    assert runner.callback_metrics["train/loss"] > runner.callback_metrics["train/mse"] > 0


def test_objective_adds_the_lost_similarity():
    batch = windows()
    model = Persistence(n_past=4, ssim_weight=0.5)
    forecast = model(batch.past, 4)
    lost = 1 - ssim(forecast, batch.future).mean()
    expected = (forecast - batch.future).square().mean() + 0.5 * lost
    torch.testing.assert_close(model.loss(batch.past, batch.future), expected)


# Windows that do not fit


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (windows(n_past=3), "n_past = 4 .* holds 3 past frames of 1 field"),
        (windows(channels=2), "channels = 1, .* holds 4 past frames of 2 field"),
        (windows(n_future=3), "horizon = 4 frames, but the batch holds 3 future"),
    ],
)
def test_other_windows_are_refused(batch: ToyWindow, message: str):
    with pytest.raises(ValueError, match=message):
        trainer().validate(tiny(), loader(batch), verbose=False)


@pytest.mark.parametrize("n_future", [1, 3, 6, 9])
def test_training_takes_any_number_of_future_frames(n_future: int):
    model, batch = tiny(horizon=4), windows(n_future=n_future)
    expected = (model.train()(batch.past, n_future) - batch.future).square().mean().item()
    model = tiny(horizon=4)
    runner = trainer(max_epochs=1)
    runner.fit(model, loader(batch), loader(windows(n_future=4)))
    assert runner.global_step == 1
    assert runner.callback_metrics["train/mse"].item() == pytest.approx(expected, rel=1e-5)
    assert runner.callback_metrics["val/mse"] > 0


# A loss that is not finite


@pytest.mark.parametrize("bad", [1, 3])
def test_nonfinite_loss_stops_before_its_weights_are_saved(bad: int, tmp_path: Path):
    checkpoints = ModelCheckpoint(tmp_path, every_n_train_steps=1, save_top_k=-1, save_on_exception=True)
    end_of_epoch = ModelCheckpoint(tmp_path, filename="end", every_n_epochs=1, save_on_train_epoch_end=True)
    runner = trainer(max_epochs=1, enable_checkpointing=True, callbacks=[checkpoints, end_of_epoch])
    batch = loader(corrupted(windows(), sample=bad), batch_size=1)
    with pytest.raises(ValueError, match=rf"not finite at optimiser step {bad}, .* trajectories \[{10 + bad}\]"):
        runner.fit(tiny(), batch)
    saved = list(tmp_path.glob("*.ckpt"))
    assert len(saved) == bad
    for path in saved:
        weights = torch.load(path, weights_only=True)["state_dict"].values()
        assert all(weight.isfinite().all() for weight in weights)


def test_nonfinite_loss_stops_without_checkpoints():
    with pytest.raises(ValueError, match=r"trajectories \[10, 11, 12, 13\]"):
        trainer(max_epochs=1).fit(tiny(), loader(corrupted(windows(), sample=2)))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_nonfinite_loss_stops_on_a_gpu():
    with pytest.raises(ValueError, match=r"not finite at optimiser step 1, .* trajectories \[11\]"):
        trainer(max_epochs=1, accelerator="cuda").fit(tiny(), loader(corrupted(windows(), sample=1), batch_size=1))


def test_nonfinite_validation_goes_on():
    runner = trainer(max_epochs=2)
    runner.fit(tiny(), loader(windows()), loader(corrupted(windows(), sample=0)))
    assert runner.callback_metrics["val/mse"].isnan()
    assert runner.global_step == 2


# Schedules and resuming


def test_onecycle_spans_the_run():
    rates = Rates()
    trainer(max_epochs=5, callbacks=[rates]).fit(tiny(lr=0.01), loader(windows(), batch_size=2))
    assert max(rates.rates) == pytest.approx(0.01)
    assert rates.rates[-1] < 1e-6 < rates.rates[0]


def test_constant_rate():
    rates = Rates()
    runner = trainer(max_epochs=2, callbacks=[rates])
    runner.fit(tiny(lr=0.01, schedule="constant", weight_decay=0.3), loader(windows()))
    assert rates.rates == [0.01] * 2
    assert runner.optimizers[0].param_groups[0]["weight_decay"] == 0.3


def test_a_run_without_end_has_no_schedule():
    with pytest.raises(ValueError, match=r"set trainer\.max_epochs, trainer\.max_steps or trainer\.max_time"):
        trainer(max_epochs=-1).fit(tiny(), loader(windows()))


@pytest.mark.slow
def test_resumed_run_can_be_prolonged(tmp_path: Path):
    batch, path = loader(windows(), batch_size=1), tmp_path / "short.ckpt"
    short = trainer(max_epochs=2)
    short.fit(tiny(), batch)
    short.save_checkpoint(path)
    rates, unbroken = Rates(), Rates()
    longer = trainer(max_epochs=4, callbacks=[rates])
    longer.fit(tiny(), batch, ckpt_path=path)
    trainer(max_epochs=4, callbacks=[unbroken]).fit(tiny(), batch)
    assert longer.global_step == 16
    # The first step after the resume still has the last rate of the short run.
    assert rates.rates[1:] == pytest.approx(unbroken.rates[9:])


@pytest.mark.parametrize("change", [{"lr": 0.5}, {"schedule": "constant"}, {"weight_decay": 0.1}])
def test_resumed_run_keeps_its_optimiser(change: dict[str, Any], tmp_path: Path):
    runner, path = trainer(max_epochs=1), tmp_path / "model.ckpt"
    runner.fit(tiny(), loader(windows()))
    runner.save_checkpoint(path)
    (name,) = change
    with pytest.raises(ValueError, match=f"keeps the optimiser of its checkpoint, made with {name} = "):
        trainer(max_epochs=2).fit(tiny(**change), loader(windows()), ckpt_path=path)
    trainer().test(tiny(**change), loader(windows()), ckpt_path=path, verbose=False)


# Weights of another run


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("trained") / "fcn.ckpt"
    runner = trainer(max_epochs=1)
    runner.fit(tiny(), loader(windows()))
    runner.save_checkpoint(path)
    return path


class Start(Callback):
    """Keeps the weights a run starts from."""

    def on_train_start(self, trainer: Trainer, model: LightningModule) -> None:
        self.weights = {name: weight.clone() for name, weight in model.state_dict().items()}


def test_init_from_takes_the_weights_only(trained: Path, tmp_path: Path):
    start = Start()
    torch.manual_seed(9)
    other = FCN(hid_s=4, hid_t=8, n_s=2, n_t=2, n_past=4, horizon=4, lr=0.2, init_from=str(trained))
    runner = trainer(max_epochs=1, callbacks=[start])
    runner.fit(other, loader(windows()))
    expected = torch.load(trained, weights_only=True)["state_dict"]
    assert start.weights.keys() == expected.keys()
    assert all(torch.equal(start.weights[name], weight) for name, weight in expected.items())
    assert runner.global_step == 1
    # The new checkpoint stands on its own: neither loading nor resuming looks for the old one.
    runner.save_checkpoint(tmp_path / "new.ckpt")
    settings = torch.load(tmp_path / "new.ckpt", weights_only=True)["hyper_parameters"]
    gone = tiny(**{k: v for k, v in settings.items() if k[0] != "_"} | {"init_from": "gone.ckpt"})
    trainer(max_epochs=2).fit(gone, loader(windows()), ckpt_path=tmp_path / "new.ckpt")


def test_init_from_a_missing_file():
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at gone\.ckpt"):
        trainer(max_epochs=1).fit(tiny(init_from="gone.ckpt"), loader(windows()))


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (lambda **s: ConvLSTM([4], n_past=4, horizon=4, **s), "holds FCN, but the model is ConvLSTM"),
        (lambda **s: tiny(hid_t=12, lr=0.1, **s), r"is \(8, .* and \(12, .*made with .*hid_t = 8 \(now 12\)"),
        (lambda **s: tiny(n_t=4, **s), r"absent in the checkpoint .*n_t = 2 \(now 4\)"),
    ],
)
def test_checkpoint_of_another_model(other: Any, message: str, trained: Path):
    batch = loader(windows())
    with pytest.raises(ValueError, match=message):
        trainer().test(other(), batch, ckpt_path=trained, verbose=False)
    with pytest.raises(ValueError, match=message):
        trainer(max_epochs=2).fit(other(), batch, ckpt_path=trained)
    with pytest.raises(ValueError, match=message):
        trainer(max_epochs=1).fit(other(init_from=str(trained)), batch)


def test_loading_into_another_shape(trained: Path):
    with pytest.raises(ValueError, match="does not fit this FCN"):
        FCN.load_from_checkpoint(trained, hid_t=12)
    with pytest.raises(ValueError, match=r"FCN.*ConvLSTM"):
        ConvLSTM.load_from_checkpoint(trained)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"horizon": 0}, "horizon must be at least 1, got 0"),
        ({"n_past": 0}, "n_past must be at least 1"),
        ({"lr": -1.0}, "lr must be positive"),
    ],
)
def test_wrong_settings(settings: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Persistence(**settings)


def test_a_new_forecaster_needs_only_forward():
    class Mean(Forecaster):
        def forward(self, past: torch.Tensor, horizon: int) -> torch.Tensor:
            return past.mean(dim=1, keepdim=True).expand(-1, horizon, -1, -1, -1)

    (logged,) = trainer().validate(Mean(n_past=4, horizon=4), loader(windows()), verbose=False)
    assert logged["val/mse"] > 0
