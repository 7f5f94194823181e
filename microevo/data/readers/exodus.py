"""Exodus files of finite elements whose nodes or elements form a regular grid, as those of MOOSE's GeneratedMesh do.

An exodus file is a netCDF file: https://sandialabs.github.io/seacas-docs/exodusII-new.pdf, appendix B.
"""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import numpy as np

from microevo.data.readers.arrays import NamedArray, damage_named, named_arrays
from microevo.data.readers.source import InputError, Scale

EXODUS_SUFFIXES = (".e", ".exo", ".ex2", ".exii")


class _Grid(NamedTuple):
    order: np.ndarray  # number of the node or element in each pixel, row by row
    shape: tuple[int, int]
    spacing: float


def read_exodus(path: Path, fields: Sequence[str]) -> tuple[np.ndarray, Scale]:
    """All time steps of a file as one trajectory (T, C, H, W), with the rows along y, and their times and spacing.

    Args:
        path: The file.
        fields: Names of variables at the nodes or in the elements. A file with one variable needs no name.

    Raises:
        ValueError: The file is damaged, lacks a variable, or its mesh is not a regular grid of square pixels.
    """
    with damage_named(path), ExitStack() as stack:
        arrays = named_arrays(path, ".nc", None, stack)
        if not {"time_whole", "coordx", "coordy"} <= arrays.keys():
            raise InputError(f"{path} does not hold a plane mesh and times, as an exodus file of results does")
        variables = _variables(arrays)
        names = list(variables) if len(variables) == len(fields) == 1 else list(fields)
        if missing := [name for name in names if name not in variables]:
            raise InputError(
                f"{path} has the variables {', '.join(variables) or 'none'}, but fields are {', '.join(fields)}; give the names "
                f"of its variables in place of {', '.join(missing)}"
            )
        kinds = {variables[name][0].startswith("vals_nod") for name in names}
        if len(kinds) > 1:
            raise InputError(f"{path} has some of {', '.join(names)} at nodes and others in elements; import one kind")
        at_nodes = kinds == {True}
        grid = _grid(path, _nodes(arrays) if at_nodes else _centres(arrays), "nodes" if at_nodes else "elements")
        interval, first = _times(path, _values(arrays["time_whole"]))
        parts = [np.concatenate([_values(arrays[key]) for key in variables[name]], axis=1) for name in names]
        if any(part.shape[1] != len(grid.order) for part in parts):
            raise InputError(f"{path} lacks some of {', '.join(names)} in a block of elements; save them in all blocks")
        frames = np.stack([part[:, grid.order].reshape(-1, *grid.shape) for part in parts], axis=1)
    return frames, Scale(frame_interval=interval, first_frame=first, spacing=grid.spacing, at_nodes=at_nodes)


def _variables(arrays: dict[str, NamedArray]) -> dict[str, list[str]]:
    """Names of the variables, and the arrays that hold each: one of the nodes, or one of each block of elements."""
    blocks = sum(name.removeprefix("connect").isdigit() for name in arrays)
    variables = {}
    for kind, suffixes in (("elem", [f"eb{block}" for block in range(1, blocks + 1)]), ("nod", [""])):
        names = _values(arrays[f"name_{kind}_var"]) if f"name_{kind}_var" in arrays else np.empty((0, 1), "S1")
        for number, letters in enumerate(names, 1):
            keys = [key for suffix in suffixes if (key := f"vals_{kind}_var{number}{suffix}") in arrays]
            if keys:
                variables[b"".join(letters).partition(b"\0")[0].decode().strip()] = keys
    return variables


def _nodes(arrays: dict[str, NamedArray]) -> np.ndarray:
    """Coordinates of the nodes, one row for each axis."""
    return np.stack([_values(arrays[f"coord{axis}"]) for axis in "xyz" if f"coord{axis}" in arrays])


def _centres(arrays: dict[str, NamedArray]) -> np.ndarray:
    blocks = sorted((key for key in arrays if key.removeprefix("connect").isdigit()), key=lambda key: int(key[7:]))
    nodes = _nodes(arrays)
    return np.concatenate([nodes[:, _values(arrays[key]) - 1].mean(axis=2) for key in blocks], axis=1)


def _grid(path: Path, points: np.ndarray, kind: str) -> _Grid:
    """The grid that the points of a plane form.

    Raises:
        InputError: They do not form one.
    """
    tolerance = 1e-6 * np.ptp(points, axis=1).max()
    ticks, places = [], []
    for positions in points:
        ordered = np.sort(positions)
        ticks.append(ordered[np.insert(np.diff(ordered) > tolerance, 0, True)])
        places.append(np.searchsorted(ticks[-1] - tolerance, positions, side="right") - 1)
    columns, *rows = [axis for axis, tick in enumerate(ticks) if len(tick) > 1] or [0]
    if len(rows) != 1:
        raise InputError(f"{path} holds a {1 + len(rows)}-dimensional mesh, but a frame is a plane; save a slice")
    width, height = len(ticks[columns]), len(ticks[rows[0]])
    pixels = places[rows[0]] * width + places[columns]
    steps = np.concatenate([np.diff(ticks[columns]), np.diff(ticks[rows[0]])])
    if len(np.unique(pixels)) < width * height or len(pixels) > width * height or np.ptp(steps) > 1e-3 * steps.mean():
        raise InputError(
            f"{path} holds {len(pixels)} {kind} at {width} x {height} different positions, {steps.min():.4g} to "
            f"{steps.max():.4g} apart, but the pixels of a frame form a regular grid of squares; solve on a mesh of equal "
            "squares without adaptivity, or interpolate onto one"
        )
    return _Grid(np.argsort(pixels), (height, width), float(steps.mean()))


def _times(path: Path, times: np.ndarray) -> tuple[float, float]:
    """Interval of the frames and time of the first.

    Raises:
        InputError: The intervals differ, as those of adaptive time steps do.
    """
    steps = np.diff(times)
    if len(steps) and not (steps.min() > 0 and np.ptp(steps) <= 1e-3 * steps.mean()):
        few = ", ".join(f"{time:.6g}" for time in times[:4])
        raise InputError(
            f"{path} has frames at the times {few}, ..., which are not evenly spaced; save them at equal intervals"
        )
    return (float(steps.mean()) if len(steps) else 1.0), float(times[0]) if len(times) else 0.0


def _values(array: NamedArray) -> np.ndarray:
    return np.asarray(array.open()[:])
