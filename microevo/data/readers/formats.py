"""Which reader opens which input."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from microevo.data.location import is_url
from microevo.data.readers.arrays import ArrayOptions, no_named_arrays, open_array
from microevo.data.readers.exodus import EXODUS_SUFFIXES
from microevo.data.readers.images import open_images
from microevo.data.readers.pairs import find_pairs, is_half_of_pair, open_pair, open_pairs
from microevo.data.readers.pixels import TIFF_SUFFIXES
from microevo.data.readers.source import FrameSource, InputError
from microevo.data.readers.vtk import VTK_SUFFIX


@contextmanager
def open_frames(
    path: str | Path,
    *,
    fields: Sequence[str] = ("c",),
    dataset: str | None = None,
    axes: str | None = None,
    scale_integers: bool = True,
    frame_number: str | None = None,
) -> Iterator[FrameSource]:
    """Open an input of any supported format for as long as the context lasts.

    Args:
        path: A file of NumPy, HDF5, MATLAB or netCDF, one of a pair `X_*`, `Y_*` of input and target frames, or a folder of
            numbered images or VTK image data, of such folders, or of such pairs; or a TIFF file of many pages or an exodus
            file.
        fields: Names of the fields. Three fields take the channels of a colour image, and arrays that are called like
            the fields are taken for them.
        dataset: Names of the arrays in a file of several, separated by commas, one for each field; with a `*` the
            arrays of several trajectories.
        axes: One letter of `NTCHW` for each axis of an array; None takes the order that fits the shape.
        scale_integers: Whether to divide integer images by the largest value of their type.
        frame_number: Regular expression with one group, the frame number in the names of images.

    Raises:
        FileNotFoundError: There is nothing at `path`, or half of a pair is missing.
        ValueError: The input is damaged or of another format.
    """
    if is_url(path):
        raise ValueError(f"{path} is a URL, from which only stores are read; download it first")
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"there is nothing to import at {path}; check the path")
    options = ArrayOptions(fields=tuple(fields), dataset=dataset, axes=axes)
    with ExitStack() as stack:
        if path.is_dir():
            pairs = find_pairs(path)
            if dataset is not None and not pairs:
                raise no_named_arrays(path, dataset)
            if pairs:
                _check_unused(path, "a folder of images", frame_number=frame_number)
                yield open_pairs(pairs, options, stack)
            else:
                _check_unused(path, "an array", axes=axes)
                yield open_images(path, fields, scale_integers, frame_number)
            return
        _check_unused(path, "a folder of images", frame_number=frame_number)
        if path.suffix.lower() in (*TIFF_SUFFIXES, VTK_SUFFIX, *EXODUS_SUFFIXES):
            _check_unused(path, "a file of named arrays", dataset=dataset, axes=axes)
            yield open_images(path, fields, scale_integers)
        elif is_half_of_pair(path):
            yield open_pair(path.with_name("X" + path.name[1:]), options, stack)
        else:
            yield open_array(path, options, stack)


def _check_unused(path: Path, kind: str, **options: str | None) -> None:
    """Check that no option was given that is for another kind of input.

    Raises:
        InputError: One was.
    """
    for name, value in options.items():
        if value is not None:
            raise InputError(f"{name} {value} was requested, but {path} is not {kind}; leave {name} out")
