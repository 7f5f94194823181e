"""Descriptors of a trajectory: the named numbers and curves in which simulated trajectories are compared with a published one.

A file of `data/published` says which descriptors, and at which frames; here is only what they are. Times are in frames from
the first one that is compared.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property, partial

import numpy as np
from jaxtyping import Float

from microevo.metrics import (
    BoundaryProfile,
    DampedWave,
    area_fraction,
    count_objects,
    fit_damped_wave,
    grain_boundary_profile,
    interface_width,
    mean_gradient_magnitude,
    mean_wave_number,
    peak_wave_number,
    persistence_rmse,
    rms_change,
    slope,
    solid_fraction,
    squared_gradient,
    tip_radius,
)
from microevo.validation.published import PublishedSample

Frames = Float[np.ndarray, "T H W"]
Curve = Callable[[Frames], np.ndarray]
AT = re.compile(r"(?P<what>.*) at (?P<lead>lead )?(?P<frame>\d+)")
AGAINST, EARLY, PERSISTENCE = "RMSE to the published frame", "objects from noise", "persistence RMSE"


class Descriptors:
    """What is measured on trajectories that are compared with a published sample.

    A descriptor of a single frame is called `<what> at <frame>`. A number of a frame that a trajectory does not have is NaN;
    numbers of the whole trajectory are of the frames there are.

    Args:
        sample: What its file says: boundary, threshold of objects, windows of the persistence forecast.

    Raises:
        ValueError: The sample's file names curves, or a clock, that are not descriptors of frames.
    """

    def __init__(self, sample: PublishedSample) -> None:
        self.sample = sample
        periodic = sample.boundary == "periodic"
        count = partial(count_objects, periodic=periodic, **sample.objects) if sample.objects else _no_objects
        self.of_frames: dict[str, Curve] = {
            "mean": _mean,
            "mean 1-u": lambda frames: 1 - _mean(frames),
            "mean c(1-c)": _mixed,
            "standard deviation": lambda frames: frames.std(axis=(1, 2), dtype=np.float64),
            "min": lambda frames: frames.min(axis=(1, 2)),
            "max": lambda frames: frames.max(axis=(1, 2)),
            "objects": count,
            "grains": count,
            "q1": partial(mean_wave_number, periodic=periodic),
            "qp": partial(peak_wave_number, periodic=periodic),
            "grad2": partial(squared_gradient, periodic=periodic),
            "10-90 width": lambda frames: np.array([interface_width(frame, periodic=periodic) for frame in frames]),
            "solid fraction": solid_fraction,
            "tip radius": tip_radius,
            "mean gradient magnitude": partial(mean_gradient_magnitude, periodic=periodic),
        }
        self.of_changes: dict[str, Curve] = {
            "rms_change": rms_change,
            "rms_change (median of 7)": lambda frames: medians(rms_change(frames), 7, len(frames)),
        }
        known = self.of_frames | self.of_changes
        for name in (*sample.curves, *([sample.clock] if sample.clock else [])):
            if name not in known:
                raise ValueError(
                    f"there is no descriptor {name} of frames, only {', '.join(known)}; correct {sample.path}"
                )

    @property
    def names(self) -> list[str]:
        """Every descriptor, `N` for the number of a frame."""
        of_run = list(_Run(np.zeros((2, 2, 2)), self).numbers)
        return [*(f"{name} at N" for name in (*self.of_frames, *self.of_changes, "percentile P", AGAINST, EARLY)),
                f"{PERSISTENCE} at lead N", "percentile P", *of_run]  # fmt: skip

    def curve(self, name: str, frames: Frames) -> Float[np.ndarray, " times"]:
        """A descriptor of every frame, or of every change from one frame to the next."""
        values = (self.of_frames | self.of_changes)[name](frames)
        return np.asarray(values[: len(frames) - 1] if name in self.of_changes else values, dtype=np.float64)

    def clock(self, frames: Frames) -> Float[np.ndarray, " T"] | None:
        """What falls steadily with time and tells the age of a frame; None if the first frame is the beginning."""
        return None if self.sample.clock is None else self.curve(self.sample.clock, frames)

    def numbers(self, names: Iterable[str], frames: Frames) -> dict[str, float]:
        """The named numbers of a trajectory; those that need the published frames, or the time before, are NaN.

        Raises:
            ValueError: There is no such descriptor.
        """
        run, found = _Run(frames, self), {}
        single: dict[str, list[int]] = {}
        for name in names:
            match = AT.fullmatch(name)
            found[name] = run.number(name) if match is None else float("nan")  # keeps the order
            if match is not None:
                single.setdefault(match["what"], []).append(int(match["frame"]))
        for what, times in single.items():
            values = self._at(what, times, frames)
            lead = "lead " if what == PERSISTENCE else ""
            found |= {f"{what} at {lead}{time}": float(value) for time, value in zip(times, values, strict=True)}
        return found

    def against(self, names: Iterable[str], frames: Frames, published: Float[np.ndarray, "P H W"]) -> dict[str, float]:
        """Those of the named numbers that compare with a published trajectory of the same parameters, frame by frame."""
        count = min(len(frames), len(published))
        errors = np.sqrt(np.square(frames[:count].astype(np.float64) - published[:count]).mean(axis=(1, 2)))
        return {name: float(errors[t]) for name, t in _frames_of(AGAINST, names) if t < count}

    def early(self, names: Iterable[str], frames: Frames, times: Float[np.ndarray, " T"]) -> dict[str, float]:
        """Those of the named numbers that are taken of a simulation from its quench; frame 0 ends one interval after it.

        `times` are those of the frames after its beginning [frame intervals].
        """
        wanted = dict(_frames_of(EARLY, names))
        places = [int(np.abs(times - (frame + 1)).argmin()) for frame in wanted.values()]
        if not wanted or np.abs(times[places] - 1 - list(wanted.values())).max() > 0.01:
            return dict.fromkeys(wanted, float("nan"))
        return {name: float(n) for name, n in zip(wanted, self.of_frames["objects"](frames[places]), strict=True)}

    def _at(self, what: str, times: list[int], frames: Frames) -> np.ndarray:
        """A descriptor at some frames, NaN where a trajectory has ended."""
        if what in (AGAINST, EARLY):
            return np.full(len(times), np.nan)
        if what == PERSISTENCE:
            return persistence_rmse(frames, times, **self.sample.persistence)
        if what in self.of_changes:
            curve = self.of_changes[what](frames)
            return np.array([curve[t] if t < len(curve) else np.nan for t in times])
        if percent := re.fullmatch(r"percentile (\d+)", what):
            measure: Curve = partial(np.percentile, q=int(percent[1]), axis=(1, 2))
        elif what in self.of_frames:
            measure = self.of_frames[what]
        else:
            raise ValueError(f"there is no descriptor {what} at N; {self.sample.path} may name {', '.join(self.names)}")
        there = [t for t in times if t < len(frames)]
        values = dict(zip(there, measure(frames[there]), strict=True)) if there else {}
        return np.array([values.get(t, np.nan) for t in times], dtype=np.float64)


class _Run:
    """The numbers of one whole trajectory, each computed when it is asked for."""

    def __init__(self, frames: Frames, descriptors: Descriptors) -> None:
        self.frames, self.descriptors = frames, descriptors
        of_frames = descriptors.of_frames
        self.numbers: Mapping[str, Callable[[], float]] = {
            "mean": lambda: frames.mean(dtype=np.float64),
            "min over the run": frames.min,
            "max over the run": frames.max,
            "median of the frames' minima": lambda: np.median(of_frames["min"](frames)),
            "fraction below 0.5": lambda: area_fraction(frames, threshold=0.5, below=True).mean(),
            "slope of [mean c(1-c)]^-3": lambda: _slope(_mixed(frames) ** -3),
            "slope of mean(1-u)^-2": lambda: _slope((1 - _mean(frames)) ** -2),
            "slope of the mean area": lambda: _slope(self.mean_area),
            "mean(1-u) sqrt(mean area)": lambda: ((1 - _mean(frames)) * np.sqrt(self.mean_area)).mean(),
            "rms_change, mean": lambda: self.changes.mean(),
            "rms_change, median": lambda: np.median(self.changes),
            "rms_change, max": lambda: self.changes.max(),
            "boundary, full width": lambda: np.nanmedian([profile.full_width for profile in self.profiles]),
            "boundary, one flank": lambda: np.nanmedian([profile.flank for profile in self.profiles]),
            "boundary, floor": lambda: np.nanmedian([profile.floor for profile in self.profiles]),
            "amplitude": lambda: self.wave.amplitude,
            "decay": lambda: self.wave.decay,
            "wavelength": lambda: self.wave.wavelength,
            "angular frequency": lambda: self.wave.omega,
            "phase velocity": lambda: self.wave.phase_velocity,
            "residual of the wave": lambda: self.wave.residual,
        }

    def number(self, name: str) -> float:
        """A number of the whole trajectory."""
        if percent := re.fullmatch(r"percentile (\d+)", name):
            return float(np.percentile(self.frames, [int(percent[1])])[0])  # in float64
        if name not in self.numbers:
            path, names = self.descriptors.sample.path, self.descriptors.names
            raise ValueError(f"there is no descriptor {name}; {path} may name {', '.join(names)}")
        return float(self.numbers[name]())

    @cached_property
    def changes(self) -> Float[np.ndarray, " changes"]:
        return rms_change(self.frames)

    @cached_property
    def mean_area(self) -> Float[np.ndarray, " T"]:
        return self.frames[0].size / self.descriptors.of_frames["grains"](self.frames)

    @cached_property
    def profiles(self) -> list[BoundaryProfile]:
        chosen = self.frames[slice(*self.descriptors.sample.profiles)]
        return [
            grain_boundary_profile(frame, periodic=self.descriptors.sample.boundary == "periodic") for frame in chosen
        ]

    @cached_property
    def wave(self) -> DampedWave:
        return fit_damped_wave(self.frames)


def medians(curve: Float[np.ndarray, " T"], width: int, count: int) -> Float[np.ndarray, " count"]:
    """At each of `count` places the median of the `width` values about it, of those that there are."""
    half = width // 2
    return np.array([np.median(curve[max(0, t - half) : t + half + 1]) for t in range(count)])


def _frames_of(what: str, names: Iterable[str]) -> list[tuple[str, int]]:
    """The names that are of one descriptor, with their frames."""
    matches = [(name, AT.fullmatch(name)) for name in names]
    return [(name, int(match["frame"])) for name, match in matches if match and match["what"] == what]


def _slope(curve: Float[np.ndarray, " T"]) -> float:
    """Of the straight line through a curve [its unit per frame]."""
    return float(slope(curve, np.arange(len(curve), dtype=float)))


def _mean(frames: Frames) -> Float[np.ndarray, " T"]:
    return frames.mean(axis=(1, 2), dtype=np.float64)


def _mixed(frames: Frames) -> Float[np.ndarray, " T"]:
    """Mean of c(1-c): the interface that is left."""
    u = frames.astype(np.float64)
    return (u * (1 - u)).mean(axis=(1, 2))


def _no_objects(frames: Frames) -> np.ndarray:
    raise ValueError("the number of objects needs their threshold; give the entry objects")
