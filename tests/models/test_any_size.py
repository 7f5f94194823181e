"""Frames of a size that a network does not take are continued as the physics has it, and the forecast is cropped."""

import numpy as np
import pytest
import torch
from toy_windows import trainer

from microevo.benchmark import Protocol
from microevo.benchmark.competitors import Model
from microevo.cli.errors import quiet
from microevo.data import TrajectoryDataModule, Window
from microevo.models import FCN, ConvLSTM, LocalNet
from microevo.models.continuation import continued, cropped, halves


@pytest.mark.parametrize(("periodic", "mode"), [(True, "wrap"), (False, "symmetric")])
def test_frames_are_wrapped_around_or_mirrored(periodic: bool, mode: str):
    frames = torch.rand(2, 3, 1, 4, 5)
    larger = continued(frames, (2, 3), (7, 0), periodic)  # by more than a whole frame, too
    expected = np.pad(frames.numpy(), [(0, 0)] * 3 + [(2, 3), (7, 0)], mode=mode)  # type: ignore[call-overload]
    np.testing.assert_array_equal(larger.numpy(), expected)
    assert torch.equal(cropped(larger, (2, 3), (7, 0)), frames)


@pytest.mark.parametrize(("size", "both"), [(16, (0, 0)), (15, (0, 1)), (13, (1, 2)), (9, (3, 4))])
def test_as_few_pixels_as_possible_are_added(size: int, both: tuple[int, int]):
    assert halves(size, 8) == both


def networks() -> dict:
    torch.manual_seed(0)
    common = {"n_past": 2, "horizon": 3}
    return {
        "FCN": FCN(hid_s=4, hid_t=8, n_s=4, n_t=2, **common),
        "ConvLSTM": ConvLSTM(hidden=[4], filter_size=3, patch_size=4, **common),
    }


@pytest.mark.parametrize("name", networks())
@pytest.mark.parametrize("boundary", ["periodic", "no-flux"])
def test_a_forecast_is_that_of_the_continued_frames(name: str, boundary: str):
    model, past = networks()[name].eval(), torch.rand(1, 2, 1, 14, 16)
    larger = continued(past, (1, 1), (0, 0), boundary == "periodic")
    forecast = model.forecast(past, 3, boundary)
    assert forecast.shape == (1, 3, 1, 14, 16)
    assert torch.equal(forecast, model(larger, 3)[..., 1:-1, :])
    fitting = past[..., :12, :]
    assert torch.equal(model.forecast(fitting, 3, boundary), model(fitting, 3))


@pytest.mark.parametrize("boundary", ["periodic", "no-flux"])
@pytest.mark.parametrize("widths", [[4], [4, 4]])
def test_a_local_network_takes_any_size_itself(widths: list[int], boundary: str):
    torch.manual_seed(0)
    model = LocalNet(widths, 1, patch=2, head="conserving", boundary=boundary, n_past=2).eval()
    torch.nn.init.normal_(model.net.head.conv.weight, std=0.1)
    past = torch.rand(1, 2, 1, 13, 11)
    forecast = model(past, 4)
    assert forecast.shape == (1, 4, 1, 13, 11)
    torch.testing.assert_close(forecast.mean((-2, -1)), past[:, -1:].mean((-2, -1)).expand(-1, 4, -1))


def test_what_a_local_network_does_not_see_does_not_matter():
    torch.manual_seed(0)
    model = LocalNet([4], 1, patch=2, boundary="periodic", n_past=2).eval()
    torch.nn.init.normal_(model.net.head.conv.weight, std=0.1)
    past, reach = torch.rand(1, 2, 1, 40, 39), model.net.receptive_field
    inside = slice(reach + 1, 38 - reach)  # far from the border, where 39 columns are as good as 38
    torch.testing.assert_close(model(past, 1)[..., inside], model(past[..., :38], 1)[..., inside])


def test_test_and_benchmark_take_any_size_and_say_so_once(make_store, capsys, caplog):
    store = make_store(splits=("train", "test", "test"), frames=5, shape=(6, 10), boundary="periodic")
    data = TrajectoryDataModule(str(store.path), n_past=2, n_future=3, horizon=3, eval_batch_size=1)
    model = networks()["ConvLSTM"]
    with caplog.at_level("INFO"):
        (scores,) = trainer().test(model, datamodule=data, verbose=False)
    assert 0 < scores["test/mse/mean"] < 10
    said = [line for line in caplog.messages if "divisible by 4" in line]
    assert said == [
        "ConvLSTM takes heights and widths divisible by 4: frames of 6 x 10 pixels are wrapped around to 8 x 12, and forecasts "
        "cropped"
    ]
    protocol = Protocol(store=str(store.path), n_past=2, horizon=3)
    windows = protocol.windows(["c"])
    model._continued.clear()
    forecast = Model("ConvLSTM", model).prepare("2->3", protocol, windows, torch.device("cpu"))
    batch = Window(*(part[None] if isinstance(part, torch.Tensor) else torch.tensor([part]) for part in windows[0]))
    with quiet("benchmark"), torch.no_grad():
        assert forecast(batch).shape == (1, 3, 1, 6, 10)
    assert caplog.messages.count(said[0]) == 2
