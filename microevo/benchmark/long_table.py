"""The long table: one number per row, with typed columns that say which number it is, in many small files.

It is a folder of Parquet files, one for each group of windows of a competitor, and any reader of Parquet takes the folder
for one table: `pandas.read_parquet("results/spinodal/table")`. A file appears under its name only when it is complete, so
that an interrupted benchmark knows what is done.

| column | holds |
|---|---|
| `process`, `protocol`, `competitor`, `seed` | what was forecast, and by whom; no seed where nothing was trained |
| `kind` | `finite` (1 if the frame is finite, else 0), `metric` (of pixels, and of the members of an ensemble), `quantity` (the value of a physical quantity), `quantity_error` (its distance from the truth's), `fit` (one number for the whole curve of a quantity) |
| `name` | name of the metric, the quantity or the fit |
| `bin` | bin of a distribution or a spectrum; empty for a single number |
| `trajectory`, `start` | trajectory in its store, and the first input frame of the window |
| `lead` | lead time [frames]; empty for a number that belongs to the whole forecast |
| `value`, `censored` | the number, and whether it is only a lower bound |
| `git`, `data` | commit of the code and fingerprint of the store |
"""  # noqa: E501

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from jaxtyping import Bool, Float, Int

from microevo.provenance import atomic, read_record, write_file

Kind = Literal["finite", "metric", "quantity", "quantity_error", "fit"]
_WORD = pa.dictionary(pa.int32(), pa.string())
SCHEMA = pa.schema(
    [
        ("process", _WORD),
        ("protocol", _WORD),
        ("competitor", _WORD),
        ("seed", pa.int64()),
        ("kind", _WORD),
        ("name", _WORD),
        ("bin", pa.int16()),
        ("trajectory", pa.int32()),
        ("start", pa.int32()),
        ("lead", pa.int32()),
        ("value", pa.float32()),
        ("censored", pa.bool_()),
        ("git", _WORD),
        ("data", _WORD),
    ]
)


class Key(NamedTuple):
    """Which number it is: the columns `kind`, `name` and `bin`."""

    kind: Kind
    name: str
    bin: int | None = None


FINITE = Key("finite", "finite")


class Block(NamedTuple):
    """The values of one key, by window and lead time.

    Attributes:
        values: One number for each window and lead time; a single column if it belongs to the whole forecast.
        leads: Those lead times, counted from 1; None if the numbers belong to the whole forecast.
        censored: Which numbers are only lower bounds; None if none is.
    """

    values: Float[np.ndarray, "B L"]
    leads: Int[np.ndarray, " L"] | None = None
    censored: Bool[np.ndarray, "B L"] | None = None

    @classmethod
    def join(cls, blocks: Sequence["Block"]) -> "Block":
        """The windows of several blocks with the same lead times."""
        censored = None if blocks[0].censored is None else np.concatenate([block.censored for block in blocks])
        return cls(np.concatenate([block.values for block in blocks]), blocks[0].leads, censored)


class LongTable:
    """The scores of a benchmark on disk.

    Args:
        folder: Where the files are, or will be.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def group(self, protocol: str, label: str) -> Path:
        """The folder of one competitor's scores on one protocol."""
        return self.folder / _file_name(protocol) / _file_name(label)

    def begin(self, protocol: str, label: str, settings: Mapping[str, Any]) -> None:
        """Make a group, or resume one that was begun with the same settings.

        Args:
            protocol: Name of the protocol.
            label: Label of the competitor.
            settings: What the scores are made with; `protocol`, `fingerprint`, `scores` and `spans` decide the numbers.

        Raises:
            FileExistsError: The group holds results that were made with other settings.
        """
        # Readers of Parquet skip names that begin with an underscore.
        path = self.group(protocol, label) / "_about.json"
        if not path.exists():
            write_file(path, json.dumps(settings, indent=2) + "\n")
            return
        previous, now = read_record(path), json.loads(json.dumps(settings))
        for about in (previous, now):
            about["scores"] = sorted(about["scores"])
        meaning = {
            "protocol": "settings of the protocol or data",
            "fingerprint": "weights or predictions",
            "scores": "metrics, or leads of curves",
            "spans": "ranges of the fields, by which SSIM and PSNR are scaled",
        }
        for key, what in meaning.items():
            if previous.get(key) != now.get(key):
                raise FileExistsError(
                    f"{path.parent} holds results made with other {what}; use --overwrite to make them anew, or choose "
                    "another --output"
                )

    def fingerprint(self, protocol: str, label: str) -> str | None:
        """Fingerprint of the competitor that made the scores of a group, None if there is no such group."""
        path = self.group(protocol, label) / "_about.json"
        return read_record(path)["fingerprint"] if path.exists() else None

    def part(self, protocol: str, label: str, number: int) -> Path:
        """The file of one group of windows."""
        return self.group(protocol, label) / f"{number:05d}.parquet"

    def frames_path(self, protocol: str, label: str) -> Path:
        """The file beside the table with the frames that are kept of a competitor: (window, lead, C, H, W), float16."""
        group = self.group(protocol, label)
        return self.folder.parent / "frames" / group.parent.name / f"{group.name}.npy"

    def spread_path(self, protocol: str, label: str) -> Path:
        """The file with the spread of an ensemble in the frames that are kept of it, in the same shape."""
        frames = self.frames_path(protocol, label)
        return frames.with_name(f"{frames.stem}+spread.npy")  # in no label's own file name is there a +

    def write(
        self,
        path: Path,
        blocks: Mapping[Key, Block],
        *,
        trajectories: Sequence[int],
        starts: Sequence[int],
        **same: str | int | None,
    ) -> None:
        """Write one part.

        Args:
            path: See `part`.
            blocks: Values of each key by window and lead time.
            trajectories: Trajectory of each window.
            starts: First input frame of each window.
            same: Columns that all rows share.
        """
        tables = []
        for key, (values, leads, censored) in blocks.items():
            columns = {
                **same,
                **key._asdict(),
                "trajectory": np.repeat(np.asarray(trajectories, np.int32), values.shape[1]),
                "start": np.repeat(np.asarray(starts, np.int32), values.shape[1]),
                "lead": None if leads is None else np.tile(leads.astype(np.int32), len(values)),
                "value": np.asarray(values, np.float32).ravel(),
                "censored": False if censored is None else censored.ravel(),
            }
            tables.append(
                pa.table(
                    [
                        value if isinstance(value, np.ndarray) else pa.array([value] * values.size, field.type)
                        for field, value in ((field, columns[field.name]) for field in SCHEMA)
                    ],
                    schema=SCHEMA,
                )
            )
        with atomic(path) as temporary:
            pq.write_table(pa.concat_tables(tables).unify_dictionaries(), temporary, compression="zstd")

    def read(self, protocol: str | None = None) -> pd.DataFrame:
        """The rows of a protocol, or all of them.

        Raises:
            FileNotFoundError: There are no results.
        """
        folder = self.folder if protocol is None else self.group(protocol, "any").parent
        files = sorted(str(path) for path in folder.rglob("[!_.]*.parquet"))
        if not files:
            raise FileNotFoundError(f"there are no results in {folder}; run the benchmark first")
        return ds.dataset(files, schema=SCHEMA).to_table().to_pandas()


def _file_name(name: str) -> str:
    """A name that every file system accepts, a different one for each name."""
    plain = "".join(letter if letter.isalnum() or letter in "-._" else f"%{ord(letter):x}" for letter in name)
    return plain.replace("-to-", "-%74o-").replace("-%3e", "-to-")
