"""Arrays in HDF5 files, also in those of MATLAB 7.3 and netCDF 4."""

import math
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import h5py

from microevo.data.readers.axes import NamedArray
from microevo.data.readers.meaning import decoder
from microevo.data.readers.numbering import natural_key
from microevo.data.readers.source import InputError


def _whole(label: str, dataset: h5py.Dataset) -> h5py.Dataset:
    """The dataset, after a check that all of its numbers were written: HDF5 fills gaps with zeros."""
    if dataset.is_virtual:
        for part in dataset.virtual_sources():
            file = Path(dataset.file.filename).parent / part.file_name
            if part.file_name != "." and not file.exists():
                raise InputError(f"{label} refers to {part.file_name}, which is not there; put the file beside it")
    elif dataset.chunks is not None:
        grid = [math.ceil(size / chunk) for size, chunk in zip(dataset.shape, dataset.chunks, strict=True)]
        written = dataset.id.get_num_chunks()
        if written < math.prod(grid):
            raise InputError(
                f"{label} misses {math.prod(grid) - written} of {math.prod(grid)} chunks, as if the program that wrote it was "
                "interrupted; write the file again"
            )
    elif dataset.external is None and dataset.size and dataset.id.get_storage_size() == 0:
        raise InputError(f"{label} has no values yet; write the file again")
    return dataset


def hdf5_arrays(path: Path, wanted: str | None, stack: ExitStack) -> dict[str, NamedArray]:
    """All datasets of a file by their paths in it, including those behind links.

    Raises:
        InputError: The file is still being written, or the dataset `wanted` is behind a link that leads nowhere.
    """
    try:
        # Large enough for a chunk that many trajectories share, which would otherwise be decompressed for each.
        file = stack.enter_context(h5py.File(path, "r", rdcc_nbytes=2**28))
    except OSError as error:
        if "unable to lock" in str(error) or "open for write" in str(error) or "already open" in str(error):
            raise InputError(
                f"{path} is still open in a program that writes it, or was not closed by it; close the file there, or "
                "clear its mark with h5clear -s"
            ) from error
        raise
    arrays: dict[str, NamedArray] = {}
    broken: dict[str, str] = {}
    root = h5py.h5o.get_info(file.id)
    seen = {(root.fileno, root.addr)}

    def add(name: str, parent: h5py.Group, key: str) -> None:
        try:
            entry = parent[key]
        except (KeyError, OSError):
            link = parent.get(key, getlink=True)
            broken[name] = f"{getattr(link, 'filename', '')} {getattr(link, 'path', '')}".strip()
            return
        info = h5py.h5o.get_info(entry.id)
        known = (info.fileno, info.addr) in seen
        seen.add((info.fileno, info.addr))
        if isinstance(entry, h5py.Dataset):
            label = f"{path}, dataset {name}"
            meaning = decoder(label, entry.attrs, entry.dtype)
            opened = partial(_whole, label, entry)
            # MATLAB lists the axes from the last to the first.
            arrays[name] = NamedArray(
                entry.shape or (), entry.dtype, opened, meaning, "MATLAB_class" in entry.attrs, known
            )
        elif isinstance(entry, h5py.Group) and not known:
            add_all(f"{name}/", entry)

    def add_all(prefix: str, group: h5py.Group) -> None:
        # Hard links first, so that a dataset is listed under its own name.
        for key in sorted(group, key=lambda key: not isinstance(group.get(key, getlink=True), h5py.HardLink)):
            add(prefix + key, group, key)

    add_all("", file)
    for name, target in broken.items():
        if not arrays or (wanted or "").strip("/") == name:
            raise InputError(f"{path}, link {name} leads to {target}, which is not there; put the file beside it")
    return dict(sorted(arrays.items(), key=lambda item: natural_key(item[0])))
