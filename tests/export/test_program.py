"""Programs of PyTorch and ONNX forecast as the original does, without microevo, for other batches and image sizes."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from microevo.export import program
from microevo.models import LocalNet, load_model
from microevo.models.checkpoint import checkpoint_of


@pytest.mark.slow
def test_a_torch_program_forecasts_any_batch_and_image_size(cli, trained):
    best = trained / "checkpoints" / "best.ckpt"
    arguments = ["--ckpt_path", best, "--format=torch-export", "--output=fcn.pt2", "--image_size=[8,8]"]
    outcome = cli("export", *arguments)
    assert outcome.code == 0, outcome.err
    assert (
        "from past (B, 4, 1, H, W) to forecast (B, 4, 1, H, W); heights and widths are any that 2 divides"
        in outcome.out
    )
    forecast = torch.export.load("fcn.pt2").module()
    past = torch.rand(5, 4, 1, 12, 10)
    with torch.no_grad():
        torch.testing.assert_close(forecast(past), load_model(best)(past, 4), atol=1e-5, rtol=0)
    cli("export", *arguments).refusal("fcn.pt2 exists already", code=1)
    arguments.append("--overwrite")
    cli("export", *arguments, "--image_size=[9,8]").refusal("[9, 8]", "divisible by 2, at least 4", code=1)
    cli("export", *arguments, "--horizon=0").refusal("horizon must be at least 1", code=1)


@pytest.mark.slow
def test_sizes_are_fixed_where_the_network_fixes_them_and_it_is_said(tmp_path, monkeypatch):
    torch.manual_seed(0)
    model = LocalNet(widths=[4], blocks=1, n_past=2, parameters=["mobility"]).eval()
    whole = program._trace

    def trace(model, horizon, image_size, unit, sizes):
        if sizes.image:
            raise RuntimeError("specialised")
        return whole(model, horizon, image_size, unit, sizes)

    monkeypatch.setattr(program, "_trace", trace)
    error, what = program.write_program(model, tmp_path / "local.pt2", "torch-export", 1, (8, 8))
    assert error <= 1e-5
    assert "and parameters (B, 1: mobility)" in what
    assert what.endswith("frames have 8 x 8 pixels, since this network fixes them in a program")
    monkeypatch.setattr(program, "_trace", lambda *_: 1 / 0)
    with pytest.raises(ValueError, match="LocalNet cannot be exported as torch-export: division by zero"):
        program.write_program(model, tmp_path / "local.pt2", "torch-export", 1, (8, 8))


def test_without_its_packages_onnx_names_the_extra(cli, trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    refused = cli("export", "--ckpt_path", trained / "checkpoints" / "best.ckpt", "--format=onnx", "--output=fcn.onnx")
    refused.refusal("onnxruntime, which is not installed", "microevo[export]", code=1)
    assert not list(Path().glob("*onnx*")) + list(Path().glob(".*onnx*"))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["FCN", "LocalNet"])
def test_onnx_runtime_forecasts_any_batch_and_image_size(microevo, tmp_path, trained, name):
    for package in ("onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason=f"{package} comes with the extra `export`")
    import onnxruntime

    torch.manual_seed(0)
    checkpoint, inputs, conditions = trained / "checkpoints" / "best.ckpt", ["past"], ()
    if name == "LocalNet":
        checkpoint, inputs, conditions = tmp_path / "local.ckpt", ["past", "parameters"], (torch.rand(5, 1),)
        torch.save(checkpoint_of(LocalNet(widths=[4], blocks=1, n_past=4, parameters=["mobility"])), checkpoint)
    # In a process of its own: the hints that the tests check would not take sizes that vary.
    outcome = microevo("export", "--ckpt_path", checkpoint, "--format=onnx", "--output=it.onnx", "--image_size=[8,8]")
    assert outcome.returncode == 0, outcome.stderr
    assert "torch" not in outcome.stderr
    session = onnxruntime.InferenceSession(tmp_path / "it.onnx", providers=["CPUExecutionProvider"])
    assert [entry.name for entry in session.get_inputs()] == inputs
    assert session.get_inputs()[0].shape[0] == "batch"
    past = torch.rand(5, 4, 1, 12, 16)
    arrays = dict(zip(inputs, [tensor.numpy() for tensor in (past, *conditions)], strict=True))
    (forecast,) = session.run(["forecast"], arrays)
    model = load_model(checkpoint)
    with torch.no_grad():
        expected = model(past, model.block_length, *conditions).numpy()
    np.testing.assert_allclose(forecast, expected, atol=1e-5, rtol=0)
