"""Checkpoints of published implementations become ours, and what does not fit is listed."""

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from microevo.models import TAU, ConvLSTM, PredRNN, PredRNNpp, SimVP, load_model
from microevo.models.published import IMPORTABLE, our_names, settings_of

SMALL = Path(__file__).parents[1] / "golden"
sys.path.append(str(SMALL))
from shrink import load  # noqa: E402


def published(name: str, prefix: str = "") -> tuple[dict[str, np.ndarray], dict[str, Tensor]]:
    """A golden file, and its weights by the names that some code saved them under."""
    arrays = load(SMALL / f"{name}.npz")
    state = {key.removeprefix("state/"): torch.from_numpy(arrays[key]) for key in arrays if key.startswith("state/")}
    return arrays, {prefix + key: tensor for key, tensor in state.items()}


def forecast(path: str, arrays: dict[str, np.ndarray], horizon: int) -> Tensor:
    with torch.no_grad():
        return load_model(path)(torch.from_numpy(arrays["input"]), horizon)[..., ::4, ::4]


def test_a_checkpoint_of_openstl_is_imported_and_used_like_one_of_ours(cli, make_store):
    arrays, state = published("simvp_gsta_c2", prefix="module.")
    torch.save({"state_dict": state, "epoch": 3}, "gsta.pth")
    outcome = cli("import-checkpoint", "gsta.pth", "--model=FCN", "--model.horizon=5", "--output=imported/fcn.ckpt")
    assert outcome.code == 0, outcome.err
    assert "imported/fcn.ckpt: a FCN with" in outcome.out
    torch.testing.assert_close(
        forecast("imported/fcn.ckpt", arrays, 4), torch.from_numpy(arrays["output"]), atol=1e-5, rtol=0
    )
    store = make_store(fields=("a", "b"), frames=12, shape=(8, 8))
    sizes = [f"--model.init_args.{key}={value}" for key, value in {"hid_s": 8, "hid_t": 12, "mlp_ratio": 8.0}.items()]
    data = [f"--data.init_args.store={store.path}", "--data.init_args.fields=[a,b]"]
    tested = cli("test", "--config=tiny.yaml", "--run_dir=run", *data, *sizes, "--ckpt_path=imported/fcn.ckpt")
    assert tested.code == 0, tested.err
    again = cli("import-checkpoint", "gsta.pth", "--model=FCN", "--output=imported/fcn.ckpt")
    again.refusal("imported/fcn.ckpt exists already", "--overwrite", code=1)


@pytest.mark.parametrize(("name", "model"), [("convlstm", "ConvLSTM"), ("predrnn", "PredRNN")])
def test_recurrent_networks_are_imported(cli, name, model):
    arrays, state = published(name, prefix="model.")
    torch.save(state, "weights.pth")
    outcome = cli("import-checkpoint", "weights.pth", f"--model={model}", "--output=it.ckpt")
    assert outcome.code == 0, outcome.err
    assert ("candidate_as_cell is false" in outcome.out) == (model == "ConvLSTM")
    torch.testing.assert_close(forecast("it.ckpt", arrays, 10), torch.from_numpy(arrays["output"]), atol=1e-5, rtol=0)


def test_each_tensor_that_does_not_fit_is_listed_with_the_reason_and_nothing_is_written(cli):
    _, state = published("simvp_gsta_c2")
    state["dec.readout.weight"] = torch.zeros(2, 9, 1, 1)
    state["criterion.weight"] = torch.zeros(3)
    del state["dec.readout.bias"]
    torch.save(state, "gsta.pth")
    outcome = cli("import-checkpoint", "gsta.pth", "--model=FCN", "--output=it.ckpt")
    outcome.refusal("3 tensors do not fit between gsta.pth (78 tensors) and this FCN", "nothing was written", code=1)
    assert outcome.out.splitlines() == [
        "wrong shape: dec.readout.weight is (2, 9, 1, 1), but net.decoder.readout.weight is (2, 8, 1, 1)",
        "unexpected: criterion.weight (3,), which this FCN does not have",
        "missing: net.decoder.readout.bias (2,) has no counterpart",
    ]
    # What is given wins over what the shapes say.
    cli("import-checkpoint", "gsta.pth", "--model=FCN", "--model.hid_t=16", "--output=it.ckpt").refusal("do not fit")
    assert not Path("it.ckpt").exists()


def test_what_holds_no_published_weights_is_refused(cli):
    class Bomb:
        def __reduce__(self):
            return os.mkdir, ("ran",)

    torch.save({"state_dict": {"w": torch.zeros(3)}, "bomb": Bomb()}, "bomb.pth")
    torch.save({"epoch": 3}, "empty.pth")
    Path("text.pth").write_text("not a checkpoint")
    for words, args in {
        "no file nope.pth": ["nope.pth", "--model=FCN"],
        "run code": ["bomb.pth", "--model=FCN"],
        "empty.pth holds no state dict": ["empty.pth", "--model=FCN"],
        "text.pth": ["text.pth", "--model=FCN"],
        "no published weights of UNet": ["empty.pth", "--model=UNet"],
        "did you mean ConvLSTM?": ["empty.pth", "--model=ConvLSTMM"],
        "mlp_ratio": ["empty.pth", "--model=FCN", "--model.mlp_ratioo=3"],
    }.items():
        cli("import-checkpoint", *args, "--output=it.ckpt").refusal(words)
    assert not Path("ran").exists()
    assert not Path("it.ckpt").exists()


def theirs(model, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights of ours by published names, where a rule of the mapping can be read backwards."""
    pairs = {"cells.": "cell_list.", "readout.": "conv_last.", "highway.conv_x.": "gradient_highway.x_concat.0."}
    pairs["highway.conv_z."] = "gradient_highway.z_concat.0."
    found = {}
    for name, tensor in state.items():
        for ours, published_name in pairs.items():
            if name.startswith(ours):
                name = published_name + name.removeprefix(ours)
        if name.startswith("cell_list.") and "conv_last" not in name:
            name = name.replace(".weight", ".0.weight")
        found[name] = tensor
    assert set(our_names(IMPORTABLE[model], found).values()) == set(state)
    return found


@pytest.mark.parametrize(
    ("model", "settings"),
    [
        (ConvLSTM, {"hidden": [4, 6], "filter_size": 3, "patch_size": 2}),
        (PredRNN, {"hidden": 3, "layers": 2, "filter_size": 5, "patch_size": 1}),
        (PredRNNpp, {"hidden": 3, "layers": 3, "filter_size": 3, "patch_size": 2}),
    ],
)
def test_settings_of_recurrent_networks_follow_from_the_shapes(model, settings):
    state = theirs(model, model(**settings, channels=2).net.state_dict())
    assert settings_of(model, state, channels=2) == settings
    assert "patch_size" not in settings_of(model, state, channels=3)


def test_settings_of_encoder_decoders_follow_from_the_shapes():
    tensors = {
        "enc.enc.0.conv.conv.weight": (4, 2, 3, 3),
        "enc.enc.1.conv.conv.weight": (4, 4, 3, 3),
        "hid.enc.0.block.mlp.fc1.weight": (32, 16, 1, 1),
        "hid.enc.1.block.norm1.weight": (8,),
    }
    state = {name: torch.zeros(shape) for name, shape in tensors.items()}
    sizes = {"hid_s": 4, "channels": 2, "n_s": 2, "n_t": 2, "hid_t": 8, "n_past": 4}
    assert settings_of(TAU, state) == sizes | {"mlp_ratio": 2.0}
    state["hid.enc.0.conv1.weight"] = torch.zeros(4, 16, 1, 1)
    assert settings_of(SimVP, state) == sizes
    assert settings_of(TAU, {"conv.weight": torch.zeros(3)}) == {}
