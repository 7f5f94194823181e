"""Where a store lies: in a folder, in a zip file, or at a URL that fsspec reads. It is written in a folder alone."""

import os
import zipfile
from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path, PurePosixPath

import fsspec
import zarr
from zarr.storage import FsspecStore, ZipStore


class Location(ABC):
    """Where a store lies.

    Args:
        path: As it was given, for messages.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = path

    @abstractmethod
    def exists(self) -> bool:
        """Whether there is anything."""

    @abstractmethod
    def group(self, *, write: bool = False, use_consolidated: bool | None = None) -> zarr.Group:
        """The zarr group, opened anew: what zip files and connections hold open must not be shared with a forked process."""

    @abstractmethod
    def size(self, key: str) -> int | None:
        """Bytes of a chunk; None if it is missing."""


class Folder(Location):
    """A folder on a file system."""

    path: Path

    def exists(self) -> bool:  # noqa: D102
        return self.path.exists()

    def group(self, *, write: bool = False, use_consolidated: bool | None = None) -> zarr.Group:  # noqa: D102
        return zarr.open_group(self.path, mode="r+" if write else "r", use_consolidated=use_consolidated)

    def size(self, key: str) -> int | None:  # noqa: D102
        try:
            return (self.path / key).stat().st_size
        except FileNotFoundError:
            return None


class ZipFile(Location):
    """A zip file of what is in a store's folder, or of that folder."""

    path: Path

    def exists(self) -> bool:  # noqa: D102
        return self.path.exists() and bool(self._sizes)

    def group(self, *, write: bool = False, use_consolidated: bool | None = None) -> zarr.Group:  # noqa: D102
        store = ZipStore(self.path, mode="r")
        return zarr.open_group(store, path=self._top, mode="r", use_consolidated=use_consolidated)

    def size(self, key: str) -> int | None:  # noqa: D102
        return self._sizes.get(f"{self._top}/{key}" if self._top else key)

    @cached_property
    def _sizes(self) -> dict[str, int]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                return {entry.filename: entry.file_size for entry in archive.infolist()}
        except zipfile.BadZipFile as error:
            raise ValueError(f"{self.path} is not a zip file, or only a part of one; copy it there again") from error

    @cached_property
    def _top(self) -> str:
        """The folder in the zip file that is the store."""
        groups = [PurePosixPath(name) for name in self._sizes if PurePosixPath(name).name == "zarr.json"]
        top = min(groups, key=lambda name: len(name.parts), default=PurePosixPath("zarr.json")).parent
        return "" if top == PurePosixPath() else str(top)


class Remote(Location):
    """A folder at a URL, such as s3://bucket/store.zarr."""

    path: str

    def exists(self) -> bool:  # noqa: D102
        files, root = self._files
        try:
            return files.exists(f"{root}/zarr.json")
        except Exception as error:  # each service has its own
            raise OSError(f"{self.path} cannot be reached ({error}); check the address and your credentials") from error

    def group(self, *, write: bool = False, use_consolidated: bool | None = None) -> zarr.Group:  # noqa: D102
        store = FsspecStore.from_url(self.path, read_only=True)
        return zarr.open_group(store, mode="r", use_consolidated=use_consolidated)

    def size(self, key: str) -> int | None:  # noqa: D102
        if self._sizes:
            return self._sizes.get(key)
        files, root = self._files
        try:
            return files.info(f"{root}/{key}")["size"]
        except FileNotFoundError:
            return None

    @cached_property
    def _sizes(self) -> dict[str, int]:
        """Those of all chunks, in one request rather than one for each; empty for a server that does not list them."""
        files, root = self._files
        found = files.find(root, detail=True)
        return {name[len(root) + 1 :]: entry["size"] for name, entry in found.items() if entry["size"] is not None}

    @property
    def _files(self) -> tuple[fsspec.AbstractFileSystem, str]:
        try:
            files, root = fsspec.url_to_fs(self.path)
        except ImportError as error:
            # fsspec's own words name the package, such as "Install s3fs to access S3".
            raise ValueError(f"{self.path} cannot be read, since a package is missing: {error}") from error
        except ValueError as error:
            raise ValueError(
                f"{self.path} cannot be read ({error}); give a folder, a zip file or a URL that fsspec reads"
            ) from error
        return files, root.rstrip("/")


def is_url(path: str | os.PathLike) -> bool:
    """Whether a path is a URL."""
    return "://" in os.fspath(path)


def locate(path: str | os.PathLike) -> Location:
    """The place that a path stands for: a URL, the file of a path that ends in .zip, or a folder."""
    if is_url(path):
        return Remote(os.fspath(path))
    local = Path(path)
    return ZipFile(local) if local.suffix == ".zip" and not local.is_dir() else Folder(local)


def may_be_store(path: str | os.PathLike) -> bool:
    """Whether a path can only be meant as a store, or is the folder of one."""
    place = locate(path)
    return not isinstance(place, Folder) or place.path.suffix == ".zarr" or (place.path / "zarr.json").exists()


def writable(path: str | os.PathLike) -> Path:
    """The folder that something is to be written to.

    Raises:
        ValueError: It is a zip file or a URL.
    """
    place = locate(path)
    if not isinstance(place, Folder):
        raise ValueError(
            f"{path} cannot be written: zip files and URLs are only read; write to a folder, then zip or upload that"
        )
    return place.path
