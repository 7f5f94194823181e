"""What stored numbers mean by the attributes that stand beside them."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from microevo.data.readers.source import InputError


def decoder(label: str, attributes: Mapping[str, Any], dtype: np.dtype) -> Callable[[np.ndarray], np.ndarray]:
    """The function from stored numbers to values, by the conventions of netCDF (CF) and of images in HDF5.

    Args:
        label: Name of the array, for messages.
        attributes: The attributes of the array.
        dtype: Type of the stored numbers.

    Raises:
        InputError: An attribute gives the numbers a meaning that is not supported. The function raises it where a
            value is missing.
    """
    scale, offset = _number(attributes, "scale_factor"), _number(attributes, "add_offset")
    unsigned = _text(attributes, "_Unsigned").lower() == "true" and dtype.kind == "i"
    absent = [value for name in ("_FillValue", "missing_value") if (value := _number(attributes, name)) is not None]
    low, high = _number(attributes, "valid_min"), _number(attributes, "valid_max")
    if "valid_range" in attributes:
        low, high = np.ravel(attributes["valid_range"])
    if np.any(attributes.get("IMAGE_WHITE_IS_ZERO", 0)) or "PALETTE" in attributes:
        raise InputError(f"{label} is an image with a palette or with white as zero; save its values")

    def decode(stored: np.ndarray) -> np.ndarray:
        if any((stored == value).any() for value in absent):
            raise InputError("has missing values (_FillValue or missing_value); remove or fill it")
        if (low is not None and (stored < low).any()) or (high is not None and (stored > high).any()):
            raise InputError("has values outside of the valid range that the file gives; remove or fill it")
        values = stored.view(f"{stored.dtype.byteorder}u{stored.dtype.itemsize}") if unsigned else stored
        if scale is None and offset is None:
            return values
        return values.astype(np.float64) * (1.0 if scale is None else scale) + (0.0 if offset is None else offset)

    return decode


def _number(attributes: Mapping[str, Any], name: str) -> Any:
    """The number in an attribute, which may stand in an array of length one."""
    value = np.ravel(attributes[name]) if name in attributes else np.empty(0)
    return value[0] if value.size == 1 and value.dtype.kind in "biuf" else None


def _text(attributes: Mapping[str, Any], name: str) -> str:
    value = attributes.get(name, "")
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
