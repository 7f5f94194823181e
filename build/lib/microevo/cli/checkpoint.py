"""Checkpoints are opened without unpickling, so that none can run code."""

import pickle
import zipfile
from pathlib import Path

import torch


def refuse_other_files(path: Path) -> None:
    """Check that there is a whole checkpoint of Lightning's at `path`, and nothing in it but plain data.

    Raises:
        FileNotFoundError: There is no file.
        ValueError: It is something else, or only a part, or holds objects that would have to be unpickled.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no checkpoint at {path}; give a file that `fit` wrote")
    if not zipfile.is_zipfile(path):
        raise ValueError(f"{path} is no checkpoint, or only the first part of one; give a file that `fit` wrote")
    try:
        checkpoint = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path} holds Python objects that only unpickling could read, which can run code; give a file that `fit` wrote"
        ) from None
    except RuntimeError as error:
        raise ValueError(f"{path} is no checkpoint or a damaged one; give a file that `fit` wrote") from error
    if not isinstance(checkpoint, dict) or not {"state_dict", "hyper_parameters"} <= checkpoint.keys():
        raise ValueError(f"{path} holds no microevo model, at most the weights of one; give a file that `fit` wrote")
