"""NetCDF 4, written with h5netcdf, which is installed with the extra `netcdf`."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from microevo.data.location import locate
from microevo.data.store import TrajectoryStore


def write_netcdf(path: Path, store: TrajectoryStore, trajectories: Sequence[int], fields: Sequence[str]) -> None:
    """Write a store as one file with the dimensions, coordinates and attributes that xarray sees in it.

    One trajectory is in memory at a time.

    Raises:
        ValueError: h5netcdf is not installed.
    """
    try:
        import h5netcdf
    except ImportError as error:
        raise ValueError(
            'NetCDF is written by h5netcdf, which is not installed; pip install "microevo[netcdf]"'
        ) from error
    group, axes = locate(store.path).group(), ("time", *_space(store))
    with h5netcdf.File(path, "w") as file:
        sizes = zip(("trajectory", *axes), (len(trajectories), store.frames, *store.image_shape), strict=True)
        file.dimensions = dict(sizes)
        for name in (name for name, _ in group.arrays() if name not in store.fields):
            values, dimension = np.asarray(group[name]), name if name in axes else "trajectory"
            if dimension == "trajectory":
                values = values[list(trajectories)]
            if values.dtype == bool:  # NetCDF has no truth values
                values = values.astype(np.int8)
            _describe(file.create_variable(name, (dimension,), values.dtype, data=values), group[name].attrs)
        for name in fields:
            variable = file.create_variable(name, ("trajectory", *axes), np.dtype("<f4"))
            _describe(variable, group[name].attrs)
        _describe(file, store.attributes | {"fields": list(fields), "trajectories": [int(i) for i in trajectories]})
        for place, i in enumerate(tqdm(trajectories, desc=f"writing {path.suffix[1:]}", unit="trajectory", delay=1.0)):
            frames = store.read(i, fields=fields)
            for c, name in enumerate(fields):
                file.variables[name][place] = frames[:, c]


def _space(store: TrajectoryStore) -> tuple[str, ...]:
    return ("z", "y", "x")[-len(store.image_shape) :]


def _describe(variable: Any, attributes: Mapping[str, Any]) -> None:
    """Set attributes: numbers, texts and lists of numbers as they are, all else as JSON."""
    for name, value in attributes.items():
        if isinstance(value, bool) or value is None or isinstance(value, dict):
            value = json.dumps(value)
        elif isinstance(value, list | tuple):
            numbers = value and all(isinstance(item, int | float) and not isinstance(item, bool) for item in value)
            value = np.array(value) if numbers else json.dumps(value)
        variable.attrs[name] = value
