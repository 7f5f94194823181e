"""The order of the axes of an array: trajectory N, time T, channel C, rows H and columns W."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import h5py
import numpy as np

from microevo.data.readers.source import FrameSource, InputError

ORDER = "NTCHW"
REMEDY = "another order is set with --axes, for example --axes TNHW"

Array: TypeAlias = np.ndarray | h5py.Dataset  # read where it is indexed


@dataclass(frozen=True)
class NamedArray:
    """An array in a file, which is read when it is indexed.

    Attributes:
        shape: Its shape.
        dtype: Type of its numbers.
        open: Gives the array itself.
        decode: Turns stored numbers into values.
        reversed_axes: Whether the file lists the axes from the last to the first.
        is_alias: Whether it is another name of an array that is listed too.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    open: Callable[[], Array]
    decode: Callable[[np.ndarray], np.ndarray] = lambda values: values
    reversed_axes: bool = False
    is_alias: bool = False


def array_source(
    label: str,
    array: Array,
    *,
    axes: str | None,
    channels: int,
    one_trajectory: bool = False,
    reversed_axes: bool = False,
    decode: Callable[[np.ndarray], np.ndarray] = lambda values: values,
) -> FrameSource:
    """The trajectories of one array.

    Args:
        label: Name of the array, for messages.
        array: The array.
        axes: One letter of `NTCHW` for each axis; None takes the order that fits the shape.
        channels: Number of fields.
        one_trajectory: Whether the array is a single trajectory, without the axis N.
        reversed_axes: Whether the file lists the axes from the last to the first, as those of MATLAB do.
        decode: Turns stored numbers into values.

    Raises:
        InputError: The array does not hold real numbers, or its axes cannot be trajectories.
    """
    shape, dtype = tuple(array.shape), np.dtype(array.dtype)
    if dtype.hasobject:
        raise InputError(
            f"{label} holds Python objects, as a ragged list does; save one array of numbers in which all "
            "trajectories have the same frames and size"
        )
    if dtype.kind not in "biuf":
        raise InputError(f"{label} holds numbers of the type {dtype}; save real numbers")
    if reversed_axes:
        shape = shape[::-1]
    letters, note = _order(label, shape, axes, channels, one_trajectory)
    if 0 in shape:
        raise InputError(f"{label} is empty, its shape is {shape}; give at least one trajectory")
    if reversed_axes:
        shape, letters = shape[::-1], letters[::-1]
    sizes = dict(zip(letters, shape, strict=True))
    if axes is None and letters[:2] == "NT":
        note += _doubt(array)
    kept = letters.replace("N", "")
    order = [kept.index(letter) for letter in "TCHW" if letter in kept]

    def read(i: int) -> np.ndarray:
        part = np.asarray(array[tuple(i if letter == "N" else slice(None) for letter in letters)])
        frames = decode(part).transpose(order)
        return frames if "C" in kept else frames[:, None]

    return FrameSource(tuple(sizes.get(letter, 1) for letter in ORDER), read, notes=(note,) if note else ())


def _order(label: str, shape: Sequence[int], axes: str | None, channels: int, one_trajectory: bool) -> tuple[str, str]:
    """A letter for each axis, and what to tell about it."""
    if axes is not None:
        letters = axes.upper().replace(" ", "").replace(",", "")
        if set(letters) - set(ORDER) or len(set(letters)) < len(letters) or not set("THW") <= set(letters):
            raise InputError(
                f"axes has one letter for each axis of the array: N for trajectories, T time, C channels, H rows, W "
                f"columns, where N and C may be absent, but it is {axes}"
            )
        if len(letters) != len(shape):
            raise InputError(
                f"{label} has the shape {tuple(shape)}, which axes {axes} does not fit; give a letter for each axis"
            )
        return letters, ""
    letters = _likely_order(label, shape, channels, one_trajectory)
    return letters, f"{label} {tuple(shape)} was read as {' '.join(letters)}; {REMEDY}"


def _likely_order(label: str, shape: Sequence[int], channels: int, one_trajectory: bool) -> str:
    rank = len(shape) + one_trajectory
    if rank == 3:
        return "THW"
    if rank == 4 and one_trajectory:
        return "THW"
    if rank == 4 and channels > 1:
        if shape[1] == channels:
            return "TCHW"
        if shape[3] == channels:
            return "THWC"
    if rank == 4:
        return "NTHW"
    if rank == 5:
        first, last = (shape[1], shape[3]) if one_trajectory else (shape[2], shape[4])
        rows = shape[-3:-1]
        # Images with the channel last, and not images one pixel wide.
        is_last = min(rows) >= 8 if last == channels == 1 else last == channels != first
        if first != channels and last != channels and last < first:
            raise InputError(
                f"{label} has the shape {tuple(shape)}, in which {last} channels seem to stand last, but fields names "
                f"{channels}; name each channel once, or give --axes"
            )
        letters = "NTHWC" if is_last else "NTCHW"
        return letters[1:] if one_trajectory else letters
    raise InputError(
        f"{label} has the shape {tuple(shape)}; reshape it to (T, H, W), (N, T, H, W) or (N, T, C, H, W), or give --axes"
    )


def _doubt(array: Array) -> str:
    """What to tell where frames change less from trajectory to trajectory than from time to time."""
    n, t = array.shape[:2]
    if t == 1 < n:
        return "; each trajectory then has one frame, so that the first axis may be time (--axes TCHW)"
    if min(n, t) < 2:
        return ""

    def change(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.abs(np.asarray(a, np.float64) - np.asarray(b, np.float64)).mean())

    # Not at the first or last frame, which trajectories may have in common.
    places = [(i, (t - 1) // 2) for i in np.linspace(0, n - 2, min(3, n - 1)).astype(int).tolist()]
    in_time = [change(array[i, k], array[i, k + 1]) for i, k in places]
    in_number = [change(array[i, k], array[i + 1, k]) for i, k in places]
    if np.mean(in_number) < 0.5 * np.mean(in_time):
        return (
            "; it changes less along the first axis than along the second, so that the first may be time (--axes TNHW)"
        )
    return ""
