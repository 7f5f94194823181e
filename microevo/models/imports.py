"""import-checkpoint: weights that were trained with OpenSTL or the code of arXiv 2602.19915, as a checkpoint of ours."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from microevo.models.checkpoint import checkpoint_of
from microevo.models.convlstm import ConvLSTM
from microevo.models.forecaster import Forecaster
from microevo.models.predrnnpp import PredRNNpp
from microevo.models.published import IMPORTABLE, our_names, our_tensor
from microevo.provenance import atomic, check_replaceable, fingerprint

PREFIXES = ("module.", "model.", "_orig_mod.")  # of DataParallel, Lightning and torch.compile
# Settings that choose between published variants whose weights look the same.
VARIANTS = {ConvLSTM: "candidate_as_cell", PredRNNpp: "memory_as_cell"}


def import_checkpoint(checkpoint: str, model: Forecaster, output: str, *, overwrite: bool = False) -> Path:
    """Turn weights that were trained with OpenSTL, or with the code of arXiv 2602.19915, into a checkpoint.

    `load_model`, `validate`, `test`, `predict` and `benchmark` take it, and `init_from` trains on from it. Settings that follow
    from the shapes of the weights need not be given.

    Args:
        checkpoint: File that the other code saved: a state dict, or a dictionary that holds one as `state_dict`. It is read
            without unpickling, so that it can run no code.
        model: The network: FCN (SimVP v2 with gSTA), SimVP (v1, IncepU), TAU, ConvLSTM, PredRNN or PredRNNpp, with its settings.
        output: Checkpoint to write, such as imported/fcn.ckpt.
        overwrite: Whether to replace an existing file.

    Raises:
        FileNotFoundError: There is no such file.
        FileExistsError: `output` exists.
        ValueError: There are no published weights of this class, the file holds none, or they do not fit the settings.
    """
    name, target = type(model).__name__, Path(output)
    check_importable(type(model))
    check_replaceable(target, overwrite, "file", Path.is_file)
    state = read_weights(checkpoint)
    ours, report = _fitted(model, state)
    for line in report:
        print(line)
    if report:
        raise ValueError(
            f"{len(report)} tensors do not fit between {checkpoint} ({len(state)} tensors) and this {name} (listed above), and "
            "nothing was written; change the settings of the model, or choose another --model"
        )
    model.load_state_dict(ours, strict=False)  # what is not in `ours` has been reported, or does not matter
    made = checkpoint_of(model)
    source = Path(checkpoint)
    made["microevo_imported_from"] = f"{source.name} (SHA-256 {fingerprint(source)})"
    with atomic(target) as temporary:
        torch.save(made, temporary)
    print(f"{output}: a {name} with {sum(weight.numel() for weight in ours.values()):,} numbers of {len(ours)} tensors")
    if option := VARIANTS.get(type(model)):
        used = model.hparams[option]
        print(
            f"the weights do not tell which {name} they are of: --model.{option} is {str(used).lower()}, and is to be true for "
            "OpenSTL up to v0.3.0 and the code of arXiv 2602.19915, and false for later OpenSTL"
        )
    return target


def check_importable(model: type[Forecaster]) -> None:
    """Check that there is a mapping of published weights to a class.

    Raises:
        ValueError: There is none.
    """
    if model not in IMPORTABLE:
        known = ", ".join(cls.__name__ for cls in IMPORTABLE)
        raise ValueError(f"no published weights of {model.__name__} can be imported; choose one of {known}")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The state dict in a file of other code, by the names of the bare network; read without unpickling.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It holds none, or objects that would have to be unpickled.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; give the checkpoint that the other code saved")
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path} holds Python objects that only unpickling could read, which can run code, or is not a checkpoint; where "
            "you trust it, save its weights alone there: torch.save(model.state_dict(), ...)"
        ) from None
    except (RuntimeError, EOFError) as error:
        raise ValueError(f"{path} is not a checkpoint, or a damaged one; copy it again") from error
    state = _state_dict(held)
    if not state:
        raise ValueError(f"{path} holds no state dict; give a file with the weights of a network")
    while prefix := next((prefix for prefix in PREFIXES if all(name.startswith(prefix) for name in state)), None):
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _state_dict(held: Any) -> dict[str, Tensor]:
    """The named tensors in what a file holds, empty if there are none."""
    if not isinstance(held, Mapping):
        return {}
    for key in ("state_dict", "model_state_dict", "model"):
        if isinstance(held.get(key), Mapping):
            return _state_dict(held[key])
    return {str(name): tensor for name, tensor in held.items() if isinstance(tensor, Tensor)}


def _fitted(model: Forecaster, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """The tensors by our names, and a line for each one that does not fit."""
    net = IMPORTABLE[type(model)]
    needed = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    names = our_names(net, state)
    ours, report = {}, []
    for theirs, bare in names.items():
        name = f"net.{bare}"
        tensor = our_tensor(state[theirs], bare)
        if name not in needed:
            report.append(
                f"unexpected: {theirs} {tuple(tensor.shape)}, which this {type(model).__name__} does not have"
            )
        elif tuple(tensor.shape) != needed[name]:
            report.append(f"wrong shape: {theirs} is {tuple(tensor.shape)}, but {name} is {needed[name]}")
        ours[name] = tensor
    # Counters of batches, which older PyTorch did not save, have no influence.
    report += [
        f"missing: {name} {shape} has no counterpart"
        for name, shape in needed.items()
        if name not in ours and not name.endswith("num_batches_tracked")
    ]
    return ours, report
