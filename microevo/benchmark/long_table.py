"""The long table: one row per process, model, seed, protocol, metric, trajectory, window and lead, in many small files.

It is a folder of Parquet files, one for each group of windows of an entry, and any reader of Parquet takes the folder for
one table: `pandas.read_parquet("results/spinodal/table")`. A file appears under its name only when it is whole, so that
an interrupted benchmark knows what is done.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from jaxtyping import Float, Int

from microevo.provenance import atomic, write_file

COLUMNS = ("process", "model", "seed", "protocol", "metric", "trajectory", "start", "lead", "value", "git", "data")
_WORDS = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [
        ("process", _WORDS),
        ("model", _WORDS),
        ("seed", pa.int64()),
        ("protocol", _WORDS),
        ("metric", _WORDS),
        ("trajectory", pa.int32()),
        ("start", pa.int32()),
        ("lead", pa.int32()),
        ("value", pa.float32()),
        ("git", _WORDS),
        ("data", _WORDS),
    ]
)


class Block(NamedTuple):
    """A metric's values, by window and lead.

    Attributes:
        values: One number for each window and lead.
        leads: Those leads, counted from 1.
    """

    values: Float[np.ndarray, "B L"]
    leads: Int[np.ndarray, " L"]

    @classmethod
    def join(cls, blocks: Sequence["Block"]) -> "Block":
        """The windows of several blocks with the same leads."""
        return cls(np.concatenate([block.values for block in blocks]), blocks[0].leads)


class LongTable:
    """The results of a benchmark on disk.

    Args:
        folder: Where the files are, or will be.
        groups: Protocol and entry of the groups that are read; all that are there unless given.
    """

    def __init__(self, folder: str | Path, groups: Collection[tuple[str, str]] | None = None) -> None:
        self.folder, self.groups = Path(folder), groups

    def group(self, protocol: str, label: str) -> Path:
        """The folder of one entry's answers to one protocol."""
        return self.folder / _file_name(protocol) / _file_name(label)

    def begin(self, protocol: str, label: str, about: Mapping[str, Any]) -> None:
        """Make a group, or go on with one that was begun with the same settings.

        Raises:
            FileExistsError: The group holds results that were made with other settings.
        """
        folder = self.group(protocol, label)
        told = folder / "_about.json"  # readers of Parquet skip names that begin with an underscore
        if told.exists():
            there = json.loads(told.read_text())
            for key in ("protocol", "fingerprint", "scores"):
                now, before = (sorted(x) if key == "scores" else x for x in (about[key], there.get(key)))
                if before != json.loads(json.dumps(now)):
                    what = {
                        "protocol": "settings of the protocol or data",
                        "fingerprint": "weights or predictions",
                        "scores": "metrics, or leads of curves",
                    }
                    raise FileExistsError(
                        f"{folder} holds results made with other {what[key]}; use --overwrite to make them anew, or choose "
                        "another --output"
                    )
            return
        write_file(told, json.dumps(about, indent=2) + "\n")

    def fingerprint(self, protocol: str, label: str) -> str | None:
        """What an entry's answers to a protocol were made with, None if there are none."""
        told = self.group(protocol, label) / "_about.json"
        return json.loads(told.read_text())["fingerprint"] if told.exists() else None

    def part(self, protocol: str, label: str, number: int) -> Path:
        """The file of one group of windows."""
        return self.group(protocol, label) / f"{number:05d}.parquet"

    def frames_path(self, protocol: str, label: str) -> Path:
        """The file beside the table with the frames of an entry that are kept: (window, lead, C, H, W), float16."""
        group = self.group(protocol, label)
        return self.folder.parent / "frames" / group.parent.name / f"{group.name}.npy"

    def write(
        self,
        path: Path,
        blocks: Mapping[str, Block],
        *,
        trajectories: Sequence[int],
        starts: Sequence[int],
        **same: str | int | None,
    ) -> None:
        """Write one part: each metric's values by window and lead, with what all rows share."""
        trajectory, start = np.asarray(trajectories, np.int32), np.asarray(starts, np.int32)
        tables = []
        for metric, (values, leads) in blocks.items():
            rows = values.size
            columns = {
                **{name: pa.array([value] * rows, SCHEMA.field(name).type) for name, value in same.items()},
                "metric": pa.array([metric] * rows, _WORDS),
                "trajectory": np.repeat(trajectory, len(leads)),
                "start": np.repeat(start, len(leads)),
                "lead": np.tile(leads.astype(np.int32), len(values)),
                "value": np.asarray(values, np.float32).ravel(),
            }
            tables.append(pa.table([columns[name] for name in COLUMNS], schema=SCHEMA))
        with atomic(path) as temporary:
            pq.write_table(pa.concat_tables(tables).unify_dictionaries(), temporary, compression="zstd")

    def read(self, **equal: str | int) -> pd.DataFrame:
        """The rows whose columns have the given values, for example `protocol="10->90", metric="mse"`.

        Raises:
            FileNotFoundError: There are no results.
        """
        if self.groups is None:
            places = [self.folder]
        else:
            places = [self.group(*names) for names in self.groups if equal.get("protocol", names[0]) == names[0]]
        files = sorted(str(path) for place in places for path in place.rglob("[!_]*.parquet"))
        if not files and self.groups is not None:
            return SCHEMA.empty_table().to_pandas()
        if not files:
            raise FileNotFoundError(f"there are no results in {self.folder}; run the benchmark first")
        wanted = None
        for column, value in equal.items():
            test = ds.field(column).cast(pa.string() if isinstance(value, str) else pa.int64()) == value
            wanted = test if wanted is None else wanted & test
        return ds.dataset(files, schema=SCHEMA).to_table(filter=wanted).to_pandas()

    def about(self) -> list[dict[str, Any]]:
        """What each group was made with."""
        return [json.loads(path.read_text()) for path in sorted(self.folder.rglob("_about.json"))]


def _file_name(name: str) -> str:
    """A name that any file system takes, another one for each name."""
    plain = "".join(letter if letter.isalnum() or letter in "-._" else f"%{ord(letter):x}" for letter in name)
    return plain.replace("-to-", "-%74o-").replace("-%3e", "-to-")
