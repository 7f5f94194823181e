"""What an offline run of W&B holds: the records of its `.wandb` file, in W&B's own messages.

W&B reads these files in a program of its own. They are LevelDB logs: blocks of 32 KiB, of chunks with a checksum, a length and a
kind (1 a whole record, 2 to 4 its first, middle and last part).
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BLOCK, HEADER = 32768, struct.Struct("<IHB")


def records(file: Path) -> Iterator[Any]:
    """All records, in the order in which they were written."""
    from wandb.proto.wandb_internal_pb2 import Record

    data = file.read_bytes()
    assert data[:4] == b":W&B"
    place, whole = 7, b""
    while place + HEADER.size <= len(data):
        if (left := BLOCK - place % BLOCK) < HEADER.size:
            place += left
            continue
        _, size, kind = HEADER.unpack_from(data, place)
        place += HEADER.size
        whole += data[place : place + size]
        place += size
        if kind in (1, 4):
            record = Record()
            record.ParseFromString(whole)
            yield record
            whole = b""


class OfflineRun:
    """The one offline run in a folder.

    Attributes:
        id: Its id.
        name: Its name.
        group: Its group.
        tags: Its tags.
        config: Its settings.
        history: Every value that was logged, by name.
        artifacts: Its artifacts by name.
    """

    def __init__(self, folder: Path) -> None:
        (self.file,) = folder.glob("wandb/offline-run-*/*.wandb")
        self.config, self.history, self.artifacts = {}, {}, {}
        for record in records(self.file):
            kind = record.WhichOneof("record_type")
            if kind == "run":
                self.id, self.name = record.run.run_id, record.run.display_name
                self.group, self.tags = record.run.run_group, list(record.run.tags)
                self.config |= self._items(record.run.config.update)
            elif kind == "config":
                self.config |= self._items(record.config.update)
            elif kind == "artifact":
                self.artifacts[record.artifact.name] = record.artifact
            elif kind == "history":
                for name, value in self._items(record.history.item).items():
                    self.history.setdefault(name, []).append(value)

    @staticmethod
    def _items(items: Any) -> dict[str, Any]:
        """Each value by its name, of a picture or a table one of its properties."""
        return {item.key or item.nested_key[0]: json.loads(item.value_json) for item in items}
