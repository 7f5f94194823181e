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
    """What is shown, what is asked, and of which trajectories.

    Two scores are comparable if their protocols and their stores are the same; `digest` says so in eight letters. The
    name of a protocol is its key in a benchmark's config. A name of the form `10->90` means 10 frames shown and 90
    asked, and nothing else.

    Args:
        store: Trajectory store with the test trajectories.
        n_past: Frames shown.
        horizon: Frames asked.
        trajectories: How many trajectories of the split, from its first one on; null for all.
        starts: First frame shown, in each trajectory; several make several windows, which count as one trajectory.
        split: Where the trajectories are taken from.
        missing_past: What a network that was built for more past frames than are shown gets in their place, before the
            first one: `first` repeats the first one, `linear` continues the first two backwards, `zeros` is the paper's
            choice (arXiv 2602.19915). A network that takes any number of frames gets those shown, whatever this says,
            unless it is `zeros`.
        note: What a reader of the results has to know, for instance to what the data were fitted.
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
        """Refuse a name that promises other numbers of frames.

        Raises:
            ValueError: The name reads `a->b`, but another number is shown or asked.
        """
        promised = re.match(r"(\d+)->(\d+)", name)
        if promised and promised.groups() != (str(self.n_past), str(self.horizon)):
            raise ValueError(
                f"the protocol {name} shows {self.n_past} frames and asks for {self.horizon}; name it "
                f"{self.n_past}->{self.horizon}, or change n_past and horizon"
            )

    def windows(self, fields: list[str]) -> WindowDataset:
        """The windows of the protocol, in the order in which predictions made by others are read.

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
        """Eight hexadecimal digits that change with any setting that matters, with the data, and with what these mean.

        Args:
            windows: Those of the protocol.
        """
        settings = asdict(self)
        del settings["store"], settings["note"]  # where the data lie and what is said of them change no number
        data = {"fingerprint": windows.store.fingerprint, "fields": list(windows.fields)}
        meaning = {name: windows.store.attributes[name] for name in MEANING}
        text = json.dumps(settings | data | meaning, sort_keys=True)
        return fingerprint(text)[:8]
