"""Model folders: a trained network as numbers and text alone, `model.safetensors` and `config.json`, to hand on."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from microevo.provenance import atomic, fingerprint, read_record, write_file

WEIGHTS, CONFIG = "model.safetensors", "config.json"  # as huggingface_hub calls them
VERSION = 1
PRETRAINED = Path(__file__).parents[1] / "pretrained"  # the networks that come with microevo
OF_TRAINING = ("init_from",)  # settings that name a file of the machine of the training


def pretrained() -> dict[str, Path]:
    """The model folders that come with microevo, by the name of the process that they forecast."""
    return {path.parent.name: path.parent for path in sorted(PRETRAINED.glob(f"*/{CONFIG}"))}


def located(path: str | Path) -> Path:
    """Where a model is: at `path` itself, or if nothing is there and it is the name of one, in the pretrained model folder."""
    return Path(path) if Path(path).exists() else pretrained().get(str(path), Path(path))


def is_model_folder(path: str | Path) -> bool:
    """Whether there is a model folder at `path`."""
    return (Path(path) / CONFIG).is_file()


def write_folder(checkpoint: Mapping[str, Any], folder: Path) -> None:
    """Write weights and config of a checkpoint into a folder.

    Args:
        checkpoint: As `read_checkpoint` returns it.
        folder: An existing folder.
    """
    settings = dict(checkpoint["hyper_parameters"])
    data = checkpoint.get("datamodule_hyper_parameters", {})
    config = {
        "microevo_model_folder": VERSION,
        "class_path": settings["_class_path"],
        "init_args": {
            name: None if name in OF_TRAINING else value for name, value in settings.items() if not name.startswith("_")
        },
        "fields": list(data.get("fields", [])),
        "spans": checkpoint.get("microevo_spans", {}),
        "training": training_record(checkpoint),
    }
    # A copy, since safetensors refuses tensors that share memory.
    weights = {name: weight.detach().cpu().contiguous().clone() for name, weight in checkpoint["state_dict"].items()}
    with atomic(folder / WEIGHTS) as temporary:
        save_file(weights, temporary, metadata={"format": "pt"})
        temporary.chmod(0o644)  # safetensors lets nobody else read it
    write_file(folder / CONFIG, json.dumps(config, indent=2) + "\n")


def training_record(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """What a checkpoint tells of the training: seed, length, versions, and the fingerprint of the data."""
    data, trained = checkpoint.get("TrajectoryDataModule", {}), bool(checkpoint.get("global_step"))
    known = {
        "data": Path(data["store"]).name if data.get("store") else None,
        "data_fingerprint": data.get("fingerprint") or None,
        "epoch": checkpoint.get("epoch") if trained else None,
        "steps": checkpoint.get("global_step") if trained else None,
        "seed": checkpoint.get("microevo_seed"),
        "lightning": checkpoint.get("pytorch-lightning_version"),
        "imported_from": checkpoint.get("microevo_imported_from"),
    }
    return {name: value for name, value in known.items() if value is not None}


def read_folder(folder: Path) -> dict[str, Any]:
    """The checkpoint that a model folder was written from, without the state of the training.

    Raises:
        ValueError: The config or the weights are missing or damaged, or of a newer version.
    """
    config = read_record(folder / CONFIG)
    if "microevo_model_folder" not in config or not isinstance(config.get("init_args"), dict):
        raise ValueError(
            f"{folder / CONFIG} is not that of a microevo model; give a folder that `export --format safetensors` wrote"
        )
    if config["microevo_model_folder"] > VERSION:
        raise ValueError(
            f"{folder} is a model folder of version {config['microevo_model_folder']}, this microevo reads up to {VERSION}; "
            "update microevo"
        )
    training = config.get("training", {})
    class_path = str(config.get("class_path", ""))
    return {
        "state_dict": _read_weights(folder / WEIGHTS),
        "hyper_parameters": {**config["init_args"], "_class_path": class_path},
        "datamodule_hyper_parameters": {"fields": config.get("fields", [])},
        "TrajectoryDataModule": {
            "store": training.get("data", ""),
            "fingerprint": training.get("data_fingerprint", ""),
        },
        "epoch": training.get("epoch", 0),
        "global_step": training.get("steps", 0),
        "pytorch-lightning_version": training.get("lightning"),
        "microevo_model": class_path.rsplit(".", 1)[-1],
        "microevo_seed": training.get("seed"),
        "microevo_spans": config.get("spans", {}),
        "microevo_imported_from": training.get("imported_from"),
    }


def model_fingerprint(path: str | Path) -> str:
    """Fingerprint of a checkpoint, or of weights and config of a model folder."""
    path = located(path)
    if not path.is_dir():
        return fingerprint(path)
    return fingerprint(fingerprint(path / WEIGHTS) + fingerprint(path / CONFIG))


def _read_weights(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except FileNotFoundError:
        raise ValueError(f"{path} is missing; copy the whole folder again") from None
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged ({error}); copy it again") from error
