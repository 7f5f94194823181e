"""Weights of published implementations (OpenSTL, the code of arXiv 2602.19915): which tensor of theirs is which of ours."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, nn

from microevo.models.convlstm import ConvLSTM, ConvLSTMNet
from microevo.models.e3dlstm import E3DLSTMNet
from microevo.models.fcn import FCN, SimVPNet
from microevo.models.forecaster import Forecaster
from microevo.models.predrnn import PredRNN, PredRNNNet
from microevo.models.predrnnpp import PredRNNpp, PredRNNppNet
from microevo.models.simvp import IncepUNet, SimVP
from microevo.models.tau import TAU, TAUNet

Names = tuple[tuple[str, str], ...]  # regular expression of their name, and ours; applied one after the other

ENCODER_DECODER: Names = (
    (r"^enc\.enc\.(\d+)\.conv\.(conv|norm)\.", r"encoder.stages.\1.\2."),
    (r"^dec\.dec\.(\d+)\.conv\.conv\.(0\.)?", r"decoder.stages.\1.conv."),
    (r"^dec\.dec\.(\d+)\.conv\.norm\.", r"decoder.stages.\1.norm."),
    (r"^dec\.readout\.", r"decoder.readout."),
)
TRANSLATOR: Names = (
    (r"attn\.spatial_gating_unit\.conv0\.", r"attention.near."),
    (r"attn\.spatial_gating_unit\.conv_spatial\.", r"attention.far."),
    (r"attn\.proj_1\.", r"attention.project_in."),
    (r"attn\.proj_2\.", r"attention.project_out."),
    (r"mlp\.fc1\.", r"mlp.expand."),
    (r"mlp\.dwconv\.dwconv\.", r"mlp.depthwise."),
    (r"mlp\.fc2\.", r"mlp.project."),
    (r"layer_scale_", r"scale"),
)
RECURRENT: Names = (
    (r"^cell_list\.(\d+)\.(conv_\w+)\.0\.", r"cells.\1.\2."),
    (r"^cell_list\.", "cells."),
    (r"^conv_last\.", "readout."),
)
NAMES: dict[type[nn.Module], Names] = {
    SimVPNet: ((r"attn\.spatial_gating_unit\.conv1\.", r"attention.split."), *TRANSLATOR, *ENCODER_DECODER),
    TAUNet: (
        (r"attn\.spatial_gating_unit\.conv1\.", r"attention.mix."),
        (r"attn\.spatial_gating_unit\.fc\.0\.", r"attention.squeeze."),
        (r"attn\.spatial_gating_unit\.fc\.2\.", r"attention.excite."),
        *TRANSLATOR,
        *ENCODER_DECODER,
    ),
    IncepUNet: (
        (r"^hid\.enc\.", r"translator.encoder."),
        (r"^hid\.dec\.", r"translator.decoder."),
        (r"\.conv1\.", r".reduce."),
        (r"\.layers\.", r".branches."),
        *ENCODER_DECODER,
    ),
    ConvLSTMNet: RECURRENT,
    PredRNNNet: RECURRENT,
    PredRNNppNet: ((r"^gradient_highway\.(\w)_concat\.0\.", r"highway.conv_\1."), *RECURRENT),
    E3DLSTMNet: (
        (r"\.conv3d\.", r"."),
        (r"\.conv_new_cell\.", r".conv_new_c."),
        (r"\.conv_new_gm\.", r".conv_new_m."),
        (r"\._norm_c_t\.weight$", r".scale"),
        (r"\._norm_c_t\.bias$", r".shift"),
        *RECURRENT,
    ),
}
# Convolutions that exist in the published networks and that their forecasts do not use.
UNUSED: dict[type[nn.Module], str] = {
    ConvLSTMNet: r"^cell_list\.\d+\.(conv_o|conv_last)\.",
    PredRNNNet: r"^adapter\.",  # of PredRNNv2, whose forecast is that of PredRNN
    PredRNNppNet: r"^cell_list\.\d+\.conv_o\.",
    E3DLSTMNet: r"^cell_list\.\d+\.conv_gm\.",
}
IMPORTABLE: dict[type[Forecaster], type[nn.Module]] = {
    FCN: SimVPNet,
    SimVP: IncepUNet,
    TAU: TAUNet,
    ConvLSTM: ConvLSTMNet,
    PredRNN: PredRNNNet,
    PredRNNpp: PredRNNppNet,
}


def our_names(net: type[nn.Module], published: Iterable[str]) -> dict[str, str]:
    """Our name of each tensor of a published network, without those that its forecasts do not use.

    Args:
        net: Our class of the network.
        published: Names in the published network, all of them.
    """
    published = list(published)
    unused = UNUSED.get(net, r"$^")
    # A 1x1 convolution follows the first block and the last, where the number of channels changes there.
    shift = int(any(name.startswith("hid.enc.0.reduction.") for name in published))
    return {name: _our_name(net, name, shift) for name in published if not re.search(unused, name)}


def our_tensor(tensor: Tensor, name: str) -> Tensor:
    """A published tensor in the shape that ours has by this name: layer scales stand beside height and width."""
    return tensor.reshape(-1, 1, 1) if re.search(r"\.scale\d$", name) and tensor.ndim == 1 else tensor


def settings_of(model: type[Forecaster], state: Mapping[str, Tensor], channels: int = 1) -> dict[str, Any]:
    """Settings of a model that follow from the shapes of published weights; none where these are of something else.

    Args:
        model: Class of the model.
        state: Tensors of the published network by name.
        channels: Number of fields, which the shapes of a recurrent network leave open: they tell the channels of a patch.
    """
    try:
        if IMPORTABLE[model] in (SimVPNet, TAUNet, IncepUNet):
            return _encoder_decoder_settings(model, state)
        return _recurrent_settings(model, state, channels)
    except KeyError:
        return {}


def _our_name(net: type[nn.Module], published: str, shift: int) -> str:
    name = published
    for pattern, ours in NAMES[net]:
        name = re.sub(pattern, ours, name)
    if match := re.match(r"hid\.enc\.(\d+)\.(block|reduction)\.(.*)", name):
        block, part, rest = int(match[1]), match[2], match[3]
        name = f"translator.{block + shift * (block > 0) + (part == 'reduction')}.{rest}"
    return name


def _encoder_decoder_settings(model: type[Forecaster], state: Mapping[str, Tensor]) -> dict[str, Any]:
    hid_s, channels = state["enc.enc.0.conv.conv.weight"].shape[:2]
    found: dict[str, Any] = {"hid_s": hid_s, "channels": channels, "n_s": _count(state, "enc.enc.")}
    found["n_t"] = _count(state, "hid.enc.")
    if model is SimVP:
        half, width = state["hid.enc.0.conv1.weight"].shape[:2]
        return found | {"hid_t": 2 * half, "n_past": width // hid_s}
    expanded, width = state["hid.enc.0.block.mlp.fc1.weight"].shape[:2]
    hid_t = len(state["hid.enc.1.block.norm1.weight"])
    return found | {"hid_t": hid_t, "n_past": width // hid_s, "mlp_ratio": expanded / width}


def _recurrent_settings(model: type[Forecaster], state: Mapping[str, Tensor], channels: int) -> dict[str, Any]:
    layers = [state[f"cell_list.{i}.conv_h.0.weight"] for i in range(_count(state, "cell_list."))]
    pixels, rest = divmod(state["cell_list.0.conv_x.0.weight"].shape[1], channels)
    patch_size = math.isqrt(pixels)
    found: dict[str, Any] = {"filter_size": layers[0].shape[-1]} if layers else {}
    if not rest and patch_size**2 == pixels:
        found["patch_size"] = patch_size
    hidden = [weight.shape[1] for weight in layers]
    return found | ({"hidden": hidden} if model is ConvLSTM else {"hidden": hidden[0], "layers": len(hidden)})


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """Number of the parts of a list of modules."""
    return len({name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)})
