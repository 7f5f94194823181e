"""The same weights in our networks and in the reference implementations give the same numbers."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.flop_counter import FlopCounterMode

from microevo.models import (
    E3DLSTM,
    ConvLSTM,
    ConvLSTMNet,
    E3DLSTMNet,
    IncepUNet,
    PredRNN,
    PredRNNNet,
    PredRNNpp,
    PredRNNppNet,
    RecurrentForecaster,
    SimVPNet,
    TAUNet,
    rollout,
)
from microevo.models.encoder_decoder import EncoderDecoderNet
from microevo.models.published import our_names, our_tensor
from microevo.models.recurrent import from_patches, to_patches
from microevo.models.tau import difference_divergence

# Small files come with the tests; the full ones are used where they are there too.
SMALL, FULL = Path(__file__).parents[1] / "golden", Path(__file__).parents[3] / "shared" / "golden"
sys.path.append(str(SMALL))
sys.path.append(str(Path(__file__).parents[2] / "experiments" / "speed"))
from plain_fcn import PlainSimVPNet  # noqa: E402
from shrink import load  # noqa: E402

has_full = pytest.mark.skipif(not FULL.is_dir(), reason="the full golden files are not at ../shared/golden")
each_folder = pytest.mark.parametrize("folder", [SMALL, pytest.param(FULL, marks=has_full)], ids=["small", "full"])


class Golden:
    """One file: its settings, and its arrays as tensors."""

    def __init__(self, name: str, folder: Path):
        self.arrays = load(folder / f"{name}.npz")
        self.config: dict[str, Any] = json.loads(str(self.arrays["config"]))
        self.atol = max(1e-5, 20 * self.config.get("max_abs_diff_float32_vs_float64", 0))

    def __getitem__(self, key: str) -> Tensor:
        return torch.from_numpy(self.arrays[key])

    def under(self, prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): self[key] for key in self.arrays if key.startswith(prefix)}

    def close(self, ours: Tensor, key: str) -> None:
        # A rollout in training mode, of values up to 7, is 1.3e-5 from float64 in the reference's own float32.
        expected = self[key]
        if stride := self.config.get("strides", {}).get(key):
            ours = ours[..., ::stride, ::stride]
        atol = max(self.atol, 1e-5 * float(expected.abs().max()))
        torch.testing.assert_close(ours, expected, atol=atol, rtol=0)


def test_the_small_files_stay_small():
    assert sum(path.stat().st_size for path in SMALL.iterdir() if path.is_file()) < 500_000


# SimVP


NETWORKS: dict[str, type[EncoderDecoderNet]] = {"gSTA": SimVPNet, "tau": TAUNet, "IncepU": IncepUNet}


def names(golden: Golden, net: type[nn.Module]) -> dict[str, str]:
    return our_names(net, golden.under("state/"))


def simvp(golden: Golden) -> EncoderDecoderNet:
    config = golden.config
    frames, channels, _, _ = config["in_shape"]
    options = {"hid_s": config["hid_S"], "hid_t": config["hid_T"], "n_s": config["N_S"], "n_t": config["N_T"]}
    if config["model_type"] != "IncepU":
        options |= {"mlp_ratio": config["mlp_ratio"], "drop_path": config["drop_path"]}
    net = NETWORKS[config["model_type"]](frames, channels, **options)
    state = {name: our_tensor(golden[f"state/{key}"], name) for key, name in names(golden, type(net)).items()}
    net.load_state_dict(state, strict=True)
    return net


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("simvp_gsta_c2", SMALL),
        pytest.param("simvp_gsta_c2", FULL, marks=has_full),
        *(pytest.param(name, FULL, marks=has_full) for name in ("simvp_gsta", "simvp_tau", "simvp_incepu")),
    ],
)
def test_simvp_forward(name: str, folder: Path):
    golden = Golden(name, folder)
    net = simvp(golden).eval()
    with torch.no_grad():
        golden.close(net(golden["input"]), "output")
    assert sum(p.numel() for p in net.parameters()) == golden.config["parameters"]


def test_the_plain_transcription_computes_the_same():
    golden = Golden("simvp_gsta_c2", SMALL)
    config = golden.config
    sizes = (config[key] for key in ("hid_S", "hid_T", "N_S", "N_T", "mlp_ratio"))
    net = PlainSimVPNet(*golden["input"].shape[1:3], *sizes).eval()
    net.load_state_dict(simvp(golden).state_dict(), strict=True)
    with torch.no_grad():
        golden.close(net(golden["input"]), "output")


@has_full
@pytest.mark.parametrize("name", ["simvp_gsta", "simvp_tau", "simvp_incepu"])
def test_simvp_rollout(name: str):
    golden = Golden(name, FULL)
    with torch.no_grad():
        golden.close(rollout(simvp(golden).eval(), golden["input"], 25)[:, 20:], "rollout_tail")


@each_folder
def test_simvp_intermediates(folder: Path):
    golden = Golden("simvp_gsta_c2", folder)
    net = simvp(golden).eval()
    with torch.no_grad():
        latent, skip = net.encoder(golden["input"][0])
        translated = net.translator(latent.flatten(0, 1)[None])
    golden.close(latent, "intermediate/encoder_latent")
    golden.close(skip[:1], "intermediate/encoder_skip")
    golden.close(translated[0].unflatten(0, latent.shape[:2]), "intermediate/translator_output")


@pytest.mark.parametrize(
    ("name", "folder"),
    [
        ("simvp_gsta_train", SMALL),
        *(pytest.param(f"simvp_{name}_train", FULL, marks=has_full) for name in ("gsta", "tau", "incepu")),
    ],
)
@pytest.mark.parametrize(("case", "horizon"), [("single", 4), ("rollout", 10)])
def test_simvp_training(case: str, horizon: int, name: str, folder: Path):
    golden = Golden(name, folder)
    net = simvp(golden).train()
    ours = names(golden, type(net))
    prediction = rollout(net, golden["input"], horizon)
    golden.close(prediction[:, -1].detach(), f"{case}/output_last")
    buffers = dict(net.named_buffers())
    for key, expected in golden.under(f"{case}/buffer_after/").items():
        torch.testing.assert_close(buffers[ours[key]], expected, atol=golden.atol, rtol=1e-5)
    if golden["target"].shape[1] < horizon:
        return
    loss = F.mse_loss(prediction, golden["target"][:, :horizon])
    loss.backward()
    golden.close(loss.detach(), f"{case}/loss")
    parameters = dict(net.named_parameters())
    for key, expected in golden.under(f"{case}/grad/").items():
        gradient = parameters.pop(ours[key]).grad
        assert gradient is not None
        limit = 1e-4 * expected.abs().max().item()
        torch.testing.assert_close(gradient, our_tensor(expected, ours[key]), atol=limit, rtol=0)
    for key, expected in golden.under(f"{case}/grad_l2/").items():
        gradient = parameters.pop(ours[key]).grad
        assert gradient is not None
        torch.testing.assert_close(gradient.norm(), expected, atol=0, rtol=1e-4)
    assert not parameters


@pytest.mark.parametrize(
    ("cls", "options", "parameters", "multiply_adds"),
    [
        (SimVPNet, {}, 18_603_009, 9.271e9),
        (TAUNet, {}, 17_810_049, 9.049e9),
        (TAUNet, {"hid_t": 512}, 44_656_001, 15.894e9),
        (IncepUNet, {}, 57_946_113, 19.335e9),
    ],
)
def test_simvp_full_size(cls: Any, options: dict[str, int], parameters: int, multiply_adds: float):
    with torch.device("meta"):
        net = cls(**options).eval()
        assert sum(p.numel() for p in net.parameters()) == parameters
        with FlopCounterMode(display=False) as counter:
            net(torch.zeros(1, 10, 1, 64, 64))
    assert counter.get_total_flops() / 2 == pytest.approx(multiply_adds, rel=1e-4)


@has_full
def test_tau_regulariser():
    arrays = load(FULL / "tau_regulariser.npz")
    prediction, target = (torch.from_numpy(arrays[name]) for name in ("pred", "true"))
    prediction.requires_grad_()
    value = difference_divergence(prediction, target)
    value.backward()
    torch.testing.assert_close(value.detach(), torch.from_numpy(arrays["value"]), atol=0, rtol=1e-5)
    limit = 1e-4 * float(np.abs(arrays["grad_pred"]).max())
    torch.testing.assert_close(prediction.grad, torch.from_numpy(arrays["grad_pred"]), atol=limit, rtol=0)


# Recurrent networks


@each_folder
def test_patches(folder: Path):
    arrays = load(folder / "reshape_patch.npz")
    frames = torch.from_numpy(arrays["input"]).movedim(-1, 2)
    for size in (2, 4):
        patches = to_patches(frames, size)
        assert torch.equal(patches.movedim(2, -1), torch.from_numpy(arrays[f"patch{size}"]))
        assert torch.equal(from_patches(patches, size), frames)


def recurrent(golden: Golden) -> RecurrentForecaster:
    config = golden.config
    sizes = {"filter_size": config["filter_size"], "patch_size": config["patch_size"], "horizon": 10}
    hidden = config["num_hidden"]
    model: RecurrentForecaster
    if config["model"] == "ConvLSTM":
        model = ConvLSTM(hidden, candidate_as_cell="cell state never read" in config["variant"], **sizes)
    elif config["model"] == "PredRNN":
        model = PredRNN(hidden[0], layers=len(hidden), **sizes)
    elif config["model"] == "E3DLSTM":
        model = E3DLSTM(hidden[0], layers=len(hidden), **sizes)
        for i, cell in enumerate(model.net.cells):  # the published normalisation has a weight for each pixel
            cell.scale = nn.Parameter(golden[f"state/cell_list.{i}._norm_c_t.weight"])
            cell.shift = nn.Parameter(golden[f"state/cell_list.{i}._norm_c_t.bias"])
    else:
        published = "memory m" in config["variant"]
        model = PredRNNpp(hidden[0], layers=len(hidden), memory_as_cell=published, **sizes)
    unused = config["parameters_without_influence"]
    ours = names(golden, type(model.net))
    assert not ours.keys() & set(unused)
    model.net.load_state_dict({name: golden[f"state/{key}"] for key, name in ours.items()}, strict=True)
    return model


@pytest.fixture(
    params=[
        *(pytest.param((name, SMALL), id=f"{name}-small") for name in ("convlstm", "predrnn")),
        *(
            pytest.param((name, FULL), marks=has_full, id=f"{name}-full")
            for name in ("convlstm", "convlstm_v030", "predrnn", "predrnnpp", "predrnnpp_v030", "e3dlstm")
        ),
    ]
)
def golden_recurrent(request: pytest.FixtureRequest) -> Golden:
    return Golden(*request.param)


def test_recurrent_parameters(golden_recurrent: Golden):
    ours = sum(p.numel() for p in recurrent(golden_recurrent).parameters())
    unused = golden_recurrent.config["parameters_without_influence"]
    left_out = golden_recurrent.config.get("parameters_left_out")
    if left_out is None:
        left_out = sum(golden_recurrent[f"state/{key}"].numel() for key in unused)
    assert ours + left_out == golden_recurrent.config["parameters"]


def test_recurrent_forecast(golden_recurrent: Golden):
    model = recurrent(golden_recurrent).eval()
    past, target = golden_recurrent["input"], golden_recurrent["target"]
    with torch.no_grad():
        golden_recurrent.close(model(past, 10), "output")
        golden_recurrent.close(model.unroll(past, 10)[:, :9], "output_warmup")
        unmasked = model.unroll(past, 10, target, golden_recurrent["mask_true"].bool())
    golden_recurrent.close(model.objective(unmasked, torch.cat([past[:, 1:], target], dim=1)), "loss")


def test_recurrent_training(golden_recurrent: Golden):
    model = recurrent(golden_recurrent).train()
    past, target = golden_recurrent["input"], golden_recurrent["target"]
    prediction = model.unroll(past, 10, target, golden_recurrent["train/mask_true"].bool())
    loss = model.objective(prediction, torch.cat([past[:, 1:], target], dim=1))
    loss.backward()
    golden_recurrent.close(prediction[:, -1].detach(), "train/output_last")
    golden_recurrent.close(loss.detach(), "train/loss")
    parameters, ours = dict(model.net.named_parameters()), names(golden_recurrent, type(model.net))
    for key, expected in golden_recurrent.under("train/grad_l2/").items():
        if key in golden_recurrent.config["parameters_without_influence"]:
            continue
        gradient = parameters.pop(ours[key]).grad
        assert gradient is not None
        torch.testing.assert_close(gradient.norm(), expected, atol=0, rtol=1e-4)
    assert not parameters


# Convolutions of the published cells that nothing uses: in ConvLSTM a 5x5 and a 1x1 one, in PredRNN++ a 5x5 one, from 256
# to 128 channels; in E3D-LSTM a 2x5x5 one, from 128 to 512 channels.
UNUSED: dict[type, int] = {
    ConvLSTMNet: 4 * (5 * 5 + 1) * 2 * 128 * 128,
    PredRNNppNet: 4 * 5 * 5 * 2 * 128 * 128,
    E3DLSTMNet: 4 * 2 * 5 * 5 * 128 * 512,
}


@pytest.mark.parametrize(
    ("net", "patch_size", "published"),
    [
        (ConvLSTMNet, 4, 15_083_520),
        (ConvLSTMNet, 2, 14_928_384),
        (PredRNNNet, 4, 23_838_720),
        (PredRNNNet, 2, 23_568_384),
        (PredRNNppNet, 4, 38_584_320),
        (PredRNNppNet, 2, 38_313_984),
        (E3DLSTMNet, 4, 51_347_456),
        (E3DLSTMNet, 2, 52_379_648),
    ],
)
def test_recurrent_full_size(net: Any, patch_size: int, published: int):
    with torch.device("meta"):
        ours = sum(p.numel() for p in net(patch_size**2).parameters())
    if net is E3DLSTMNet:  # the published normalisation has weights for each pixel of 64 x 64
        ours += 4 * 2 * 2 * 128 * ((64 // patch_size) ** 2 - 1)
    assert ours + UNUSED.get(net, 0) == published
