"""Which reader opens which input."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from microevo.data.readers.arrays import no_named_arrays, open_array
from microevo.data.readers.images import open_images
from microevo.data.readers.pairs import find_pairs, is_half_of_pair, open_pair, open_pairs
from microevo.data.readers.pixels import TIFF_SUFFIXES
from microevo.data.readers.source import FrameSource


@contextmanager
def open_frames(
    path: Path,
    *,
    channels: int = 1,
    dataset: str | None = None,
    scale_integers: bool = True,
    frame_number: str | None = None,
) -> Iterator[FrameSource]:
    """Open an input of any supported format for as long as the context lasts.

    Args:
        path: An `.npy`, `.npz` or HDF5 file, one of a pair `X_*`, `Y_*` of input and target frames, or a folder of
            numbered images, of such folders, or of such pairs; or a TIFF file of many pages.
        channels: Number of fields. Three fields take the channels of a colour image.
        dataset: Name of the array in an `.npz` or HDF5 file.
        scale_integers: Whether to divide integer images by the largest value of their type.
        frame_number: Regular expression with one group, the frame number in the names of images.

    Raises:
        FileNotFoundError: There is nothing at `path`, or half of a pair is missing.
        ValueError: The input is damaged or of another format.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is nothing to import at {path}; check the path")
    with ExitStack() as stack:
        if path.is_dir():
            pairs = find_pairs(path)
            if dataset is not None and not pairs:
                raise no_named_arrays(path, dataset)
            if pairs:
                yield open_pairs(pairs, dataset, stack)
            else:
                yield open_images(path, channels, scale_integers, frame_number)
        elif path.suffix.lower() in TIFF_SUFFIXES:
            yield open_images(path, channels, scale_integers)
        elif is_half_of_pair(path):
            yield open_pair(path.with_name("X" + path.name[1:]), dataset, stack)
        else:
            yield open_array(path, dataset, stack)
