"""One image file -> the numbers that it stands for, by the rules of its format."""

import re
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

TIFF_SUFFIXES = (".tif", ".tiff")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", *TIFF_SUFFIXES)
IMAGEJ_CALIBRATION, GDAL_METADATA, GDAL_NODATA = re.compile(r"^cf=(\d+)$", re.M), 42112, 42113
READING_ERRORS = (OSError, ValueError, SyntaxError, RuntimeError, KeyError, IndexError, tifffile.TiffFileError)


def read_image(path: Path, channels: int, scale_integers: bool) -> np.ndarray:
    """All pages of an image file as frames (T, C, H, W).

    Args:
        path: A PNG, JPEG or TIFF file.
        channels: Number of fields. Three fields take the channels of a colour image.
        scale_integers: Whether to divide integers by their full scale.

    Raises:
        ValueError: The file is damaged, or what its numbers mean is not known here.
    """
    try:
        if path.suffix.lower() in TIFF_SUFFIXES:
            frames, full_scale = _read_tiff(path)
        else:
            frames, full_scale = _read_picture(path, scale_integers)
    except ImageError:
        raise
    except READING_ERRORS as error:
        raise ValueError(
            f"{path} cannot be read as an image ({error}); it is damaged, or not a PNG, JPEG or TIFF"
        ) from error
    if frames.shape[1] in (2, 4) and frames.shape[1] != channels:
        if (frames[:, -1] != full_scale).any():
            raise ValueError(f"{path} is partly transparent; save it without an alpha channel")
        frames = frames[:, :-1]
    if frames.shape[1] == 3 and channels != 3:
        if (frames != frames[:, :1]).any():
            raise ValueError(f"{path} is a colour image; save it in grey, or give three fields for its channels")
        frames = frames[:, :1]
    if not scale_integers or frames.dtype.kind == "f":
        return frames
    if full_scale is None:
        raise ValueError(f"{path} holds integers of unknown full scale; give value_range")
    return frames / np.float32(full_scale)


class ImageError(ValueError):
    """An image whose numbers have a meaning that is not supported, described in a sentence."""


def _read_picture(path: Path, scale_integers: bool) -> tuple[np.ndarray, int | None]:
    """A PNG or JPEG file, and the full scale of its integers."""
    with Image.open(path) as image:
        if image.format not in ("PNG", "JPEG"):
            raise ImageError(f"{path} is a {image.format} file; save it as PNG, JPEG or TIFF")
        if getattr(image, "n_frames", 1) > 1:
            raise ImageError(f"{path} holds {image.n_frames} pictures; save one frame to a file")  # type: ignore[attr-defined]
        if image.getexif().get(0x0112, 1) != 1:
            raise ImageError(f"{path} is stored rotated or mirrored (EXIF orientation); save it upright")
        bits, colour = _png_header(path) if image.format == "PNG" else (8, 0)
        if bits == 16 and colour != 0:
            # Pillow reads these with 8 bits.
            raise ImageError(f"{path} is a PNG of 16 bits with colours or transparency; save it as TIFF, or in grey")
        if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I;16B", "I;16L", "I"):
            raise ImageError(f"{path} has colours of the kind {image.mode}; save it in grey or RGB")
        if image.mode == "P":  # a palette
            pixels = np.asarray(image.convert("RGBA" if "transparency" in image.info else "RGB"))
        else:
            pixels = np.asarray(image)
    if bits == 16:
        pixels = pixels.astype(np.uint16)
    elif bits in (2, 4) and colour == 0 and not scale_integers:
        pixels = pixels // (255 // (2**bits - 1))  # Pillow spreads them over 8 bits
    frame = pixels[None] if pixels.ndim == 2 else np.moveaxis(pixels, -1, 0)
    return frame[None], 1 if pixels.dtype == bool else int(np.iinfo(pixels.dtype).max)


def _png_header(path: Path) -> tuple[int, int]:
    """Bit depth and colour type of a PNG file."""
    with path.open("rb") as file:
        header = file.read(26)
    return header[24], header[25]


def _read_tiff(path: Path) -> tuple[np.ndarray, int | None]:
    """A TIFF file with one page or many, and the full scale of its integers."""
    with tifffile.TiffFile(path) as file:
        if len(file.series) != 1:
            raise ImageError(f"{path} holds pages of different sizes or kinds; save frames of one size")
        series, page = file.series[0], file.pages.first
        assert isinstance(page, tifffile.TiffPage)
        pixels, axes = _decode(path, series, page), series.axes
        _check_tiff(path, page)
    photometric, bits = page.photometric, page.bitspersample
    unsigned = pixels.dtype.kind in "bu"
    full_scale = 2**bits - 1 if unsigned and bits <= 16 else None
    if photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        if not unsigned or full_scale is None:
            raise ImageError(
                f"{path} stores white as zero in numbers of unknown full scale; save it with black as zero"
            )
        pixels = pixels.dtype.type(full_scale) - pixels if pixels.dtype != bool else ~pixels
    elif photometric == tifffile.PHOTOMETRIC.PALETTE:
        assert page.colormap is not None
        pixels, full_scale = page.colormap[:, pixels], 2**16 - 1
        pixels, axes = np.moveaxis(pixels, 0, -1), axes + "S"
    elif photometric not in (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB):
        raise ImageError(
            f"{path} has colours of the kind {tifffile.PHOTOMETRIC(photometric).name}; save it in grey or RGB"
        )
    if calibration := IMAGEJ_CALIBRATION.search(page.description):
        values = dict(re.findall(r"^(c[01])=(\S+)$", page.description, re.M))
        if calibration[1] != "0" or len(values) != 2:
            raise ImageError(f"{path} has an ImageJ calibration that is not linear; save its calibrated values")
        pixels, full_scale = float(values["c0"]) + float(values["c1"]) * pixels.astype(np.float64), None
    return _as_frames(path, pixels, axes), full_scale


def _decode(path: Path, series: tifffile.TiffPageSeries, page: tifffile.TiffPage) -> np.ndarray:
    try:
        return series.asarray()
    except ValueError as error:
        simple = page.samplesperpixel == 1 or page.bitspersample == 8
        if "imagecodecs" not in str(error) or not simple or page.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
            raise
    # Pillow knows the usual compressions, but not every kind of pixel.
    with Image.open(path) as image:
        pages = []
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            pages.append(np.asarray(image))
    return np.stack(pages).reshape(series.shape).astype(series.dtype, copy=False)


def _check_tiff(path: Path, page: tifffile.TiffPage) -> None:
    """Check that no tag gives the numbers or their places a further meaning."""
    tags = page.tags
    if tags.valueof(274, default=1) != 1:
        raise ImageError(f"{path} is stored rotated or mirrored (tag Orientation); save it upright")
    if page.dtype is None or page.dtype.kind not in "biuf":
        raise ImageError(f"{path} holds numbers of the type {page.dtype}; save real numbers")
    gdal = str(tags.valueof(GDAL_METADATA, default=""))
    if 'role="scale"' in gdal or 'role="offset"' in gdal or tags.valueof(GDAL_NODATA) is not None:
        raise ImageError(f"{path} has a scale, an offset or missing values in GDAL's tags; save the values themselves")


def _as_frames(path: Path, pixels: np.ndarray, axes: str) -> np.ndarray:
    """The pages of a TIFF file as (T, C, H, W); any one axis beside rows, columns and channels is time."""
    named = {axis: size for axis, size in zip(axes, pixels.shape, strict=True) if size > 1 or axis in "YX"}
    pixels = pixels.reshape(tuple(named.values()))
    channel = [axis for axis in named if axis in "CS"]
    time = [axis for axis in named if axis not in "CSYX"]
    if len(channel) > 1 or len(time) > 1:
        raise ImageError(f"{path} has the axes {axes}; save one frame to a file, or frames along a single axis")
    order = [*time, *channel, "Y", "X"]
    pixels = pixels.transpose([list(named).index(axis) for axis in order])
    if not channel:
        pixels = pixels[..., None, :, :]
    return pixels if time else pixels[None]
