"""Protocols: the settings that make two numbers comparable."""

import json
import re
from dataclasses import asdict, dataclass, field
from typing import Literal

from microevo.data import TrajectoryStore, WindowDataset
from microevo.provenance import fingerprint

MEANING = ("boundary", "first_frame", "frame_interval", "spacing")  # of a store: what physical quantities go by


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """How many input and target frames there are, and of which trajectories they are taken.

    Two scores are comparable if their protocols and their stores are the same; `digest` says so in eight letters. The
    name of a protocol is its key in a benchmark's config. A name of the form `10->90` means 10 input frames and
    90 target frames, and nothing else.

    Args:
        store: Trajectory store with the test trajectories: a folder, a zip file or a URL.
        n_past: Number of input frames.
        horizon: Number of target frames.
        trajectories: How many trajectories of the split, from its first one on; null for all.
        starts: First input frame, in each trajectory; several make several windows, which count as one trajectory.
        split: Where the trajectories are taken from.
        missing_past: How the input is padded for a network that was built for more input frames: `first` repeats the first
            frame, `linear` extrapolates the first two backwards, `zeros` is the choice of the paper (arXiv 2602.19915). A
            network that takes any number of frames gets no padding, unless it is `zeros`.
        note: A remark for readers of the results, for instance which samples the data were fitted to.
    """

    store: str
    n_past: int = 10
    horizon: int = 90
    trajectories: int | None = None
    starts: list[int] = field(default_factory=lambda: [0])
    split: Literal["train", "val", "test"] = "test"
    missing_past: Literal["first", "linear", "zeros"] = "first"
    note: str = ""

    def __post_init__(self) -> None:
        for name, value in {"n_past": self.n_past, "horizon": self.horizon, "trajectories": self.trajectories}.items():
            if value is not None and value < 1:
                raise ValueError(f"{name} of a protocol must be at least 1, but it is {value}")
        if not self.starts or min(self.starts) < 0 or len(set(self.starts)) < len(self.starts):
            raise ValueError(f"starts of a protocol are different frames from 0 on, but they are {self.starts}")

    def check_name(self, name: str) -> None:
        """Check that a name of the form `a->b` states the numbers of frames.

        Raises:
            ValueError: The name states other numbers.
        """
        promised = re.match(r"(\d+)->(\d+)", name)
        if promised and promised.groups() != (str(self.n_past), str(self.horizon)):
            raise ValueError(
                f"the protocol {name} has {self.n_past} input frames and {self.horizon} target frames; name it "
                f"{self.n_past}->{self.horizon}, or change n_past and horizon"
            )

    def windows(self, fields: list[str]) -> WindowDataset:
        """The windows of the protocol, in the order in which external forecasts are read.

        Raises:
            ValueError: The store has too few trajectories, too few frames, or lacks a field.
        """
        store = TrajectoryStore.open(self.store)
        chosen = store.split(self.split)
        count = len(chosen) if self.trajectories is None else self.trajectories
        if not len(chosen):
            raise ValueError(
                f"the protocol asks for trajectories of the split {self.split}, but {self.store} has none there; set split to "
                "one that has, or make the store with other splits"
            )
        if count > len(chosen):
            raise ValueError(
                f"the protocol asks for {count} trajectories of the split {self.split}, but {self.store} has "
                f"{len(chosen)}; lower trajectories or simulate more"
            )
        windows = WindowDataset(store, chosen[:count], fields=fields, n_past=self.n_past, n_future=self.horizon)
        last = store.frames - windows.length
        if max(self.starts) > last:
            raise ValueError(
                f"the protocol starts a window of {windows.length} frames at frame {max(self.starts)}, but the last "
                f"possible start in {self.store} is {last}; lower starts or horizon, or simulate longer trajectories"
            )
        windows.windows = [(trajectory, start) for trajectory in windows.trajectories for start in self.starts]
        return windows

    def digest(self, windows: WindowDataset) -> str:
        """Eight hexadecimal digits that change with the settings, the data and the physical meaning of the data."""
        settings = asdict(self)
        del settings["store"], settings["note"]  # neither the place of the data nor a remark changes a number
        data = {"fingerprint": windows.store.fingerprint, "fields": list(windows.fields)}
        meaning = {name: windows.store.attributes[name] for name in MEANING}
        spans = [windows.store.spans[name][:2] for name in windows.fields]
        if any(span != (0.0, 1.0) for span in spans):  # otherwise as before there were any
            meaning["spans"] = spans
        text = json.dumps(settings | data | meaning, sort_keys=True)
        return fingerprint(text)[:8]
