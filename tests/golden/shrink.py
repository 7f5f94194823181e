"""Makes the small golden files of this folder from the full ones: python tests/golden/shrink.py FOLDER

Weights and inputs are exact in half precision. Of frames every fourth pixel of every fourth row is kept (every eighth
of intermediate tensors), of large gradients their norm, of the
targets of SimVP the first four frames, of its evaluation the first sample. All arrays of one
type stand in one flat array, which `load` takes apart.
"""

import json
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent
STRIDES = {"output": 4, "output_warmup": 4, "intermediate": 8, "output_last": 4}
LARGEST_GRADIENT = 300  # numbers


def shrink(name: str, source: Path) -> None:
    full = np.load(source / f"{name}.npz")
    config = json.loads(str(full["config"])) if "config" in full.files else {}
    unused = {f"state/{key}" for key in config.get("parameters_without_influence", [])}
    config |= {"strides": {}, "parameters_left_out": int(sum(full[key].size for key in unused))}
    small: dict[str, np.ndarray] = {}
    for key in full.files:
        values = full[key]
        stride = STRIDES.get(key, STRIDES.get(key.split("/")[0], STRIDES.get(key.split("/")[-1])))
        if key == "config" or key in unused:
            continue
        if key == "target" and name == "simvp_gsta_train":
            values = values[:, : config["in_shape"][0]]
        if key in ("input", "output") and name == "simvp_gsta_c2":
            values = values[:1]
        if key.startswith(("state/", "input", "target")) and values.dtype == np.float32:
            small[key] = values.astype(np.float16)
            assert np.array_equal(small[key].astype(np.float32), values), (
                f"{name}: {key} is not exact in half precision"
            )
        elif stride is not None and values.ndim >= 4:
            small[key] = values[..., ::stride, ::stride]
            config["strides"][key] = stride
        elif "/grad/" in key and values.size > LARGEST_GRADIENT:
            small[key.replace("/grad/", "/grad_l2/")] = np.float32(np.linalg.norm(values.astype(np.float64)))
        else:
            small[key] = values
    flat = {
        dtype: np.concatenate([np.ravel(values) for values in small.values() if values.dtype == dtype])
        for dtype in {values.dtype for values in small.values()}
    }
    index = [[key, values.dtype.str, list(values.shape)] for key, values in small.items()]
    packed = {dtype.str: values for dtype, values in flat.items()}
    np.savez_compressed(HERE / f"{name}.npz", index=json.dumps([config, index]), **packed)  # type: ignore[arg-type]


def load(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a golden file, full or small, as float32 where they are real numbers."""
    file = np.load(path)
    if "index" not in file.files:
        return dict(file.items())
    config, index = json.loads(str(file["index"]))
    packed = {name: file[name] for name in file.files}
    arrays = {"config": np.array(json.dumps(config))}
    used = dict.fromkeys(packed, 0)
    for key, dtype, shape in index:
        first, size = used[dtype], int(np.prod(shape))
        values = packed[dtype][first : first + size].reshape(shape)
        arrays[key] = values.astype(np.float32) if values.dtype == np.float16 else values
        used[dtype] += size
    return arrays


if __name__ == "__main__":
    for file in ("simvp_gsta_c2", "simvp_gsta_train", "convlstm", "predrnn", "reshape_patch"):
        shrink(file, Path(sys.argv[1]))
