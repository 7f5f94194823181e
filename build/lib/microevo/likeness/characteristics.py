"""What tells whether trajectories look and move like others of their process: named numbers and curves of each one."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

import numpy as np
from jaxtyping import Float

from microevo.statistics.change import persistence_rmse, rms_change
from microevo.statistics.dendrite import mean_gradient_magnitude, solid_fraction, tip_radius
from microevo.statistics.interface import grain_boundary_profile, interface_width, squared_gradient
from microevo.statistics.objects import area_fraction, count_objects
from microevo.statistics.structure import mean_wave_number, peak_wave_number
from microevo.statistics.wave import fit_damped_wave

Frames = Float[np.ndarray, "T H W"]
Numbers = dict[str, float]


class Characteristics(ABC):
    """What is measured on trajectories of one process, times in frames from the first.

    A number of frames that a trajectory does not have is NaN. Numbers of the whole trajectory are of the frames there are.
    """

    field: ClassVar[str]

    @abstractmethod
    def numbers(self, frames: Frames) -> Numbers:
        """Named numbers, those at one frame called `<what> at <frame>`."""

    @abstractmethod
    def curves(self, frames: Frames) -> dict[str, Float[np.ndarray, " times"]]:
        """What a picture shows against time, under the names that numbers at single frames have too."""

    def against(self, frames: Frames, published: Float[np.ndarray, "P H W"]) -> Numbers:
        """Numbers of the difference to a trajectory with the same parameters; none where the initial state is random."""
        return {}

    def clock(self, frames: Frames) -> Float[np.ndarray, " T"] | None:
        """What falls steadily with time and tells the age of a frame; None if the first frame is the beginning."""
        return None

    def early(self, frames: Frames, times: Float[np.ndarray, " T"]) -> Numbers:
        """Numbers of a simulation before the first frame that is compared.

        Args:
            frames: All frames of the simulation.
            times: Their times after its beginning [frame intervals].
        """
        return {}


def at(
    name: str, measure: Callable[[Frames], Float[np.ndarray, " T"]], frames: Frames, times: Sequence[int]
) -> Numbers:
    """A number of single frames, under `<name> at <frame>`."""
    there = [t for t in times if t < len(frames)]
    values = dict(zip(there, measure(frames[there]), strict=True)) if there else {}
    return {f"{name} at {t}": float(values.get(t, np.nan)) for t in times}


def pick(name: str, curve: Float[np.ndarray, " times"], times: Sequence[int]) -> Numbers:
    """Values of a curve that is already there, under `<name> at <frame>`."""
    return {f"{name} at {t}": float(curve[t]) if t < len(curve) else float("nan") for t in times}


def each(measure: Callable[[Float[np.ndarray, "H W"]], float], frames: Frames) -> Float[np.ndarray, " T"]:
    """A number of one frame, of each."""
    return np.array([measure(frame) for frame in frames])


def slope(curve: Float[np.ndarray, " T"]) -> float:
    """Of the straight line through a curve [its unit per frame]."""
    return float(np.polyfit(np.arange(len(curve)), curve, 1)[0])


def median_about(curve: Float[np.ndarray, " T"], centre: int, width: int) -> float:
    """Median of `width` values about one, of those that there are; NaN beyond the end of the curve."""
    near = curve[max(0, centre - width // 2) : centre + width // 2 + 1]
    return float(np.median(near)) if centre <= len(curve) else float("nan")


def persistence(frames: Frames, leads: Sequence[int]) -> Numbers:
    """Error of the forecast that nothing happens, averaged over four windows."""
    values = persistence_rmse(frames, leads)
    return {f"persistence RMSE at lead {lead}": float(value) for lead, value in zip(leads, values, strict=True)}


def extreme(frames: Frames, largest: bool) -> Float[np.ndarray, " T"]:
    """Smallest or largest value of each frame."""
    return frames.max(axis=(1, 2)) if largest else frames.min(axis=(1, 2))


def deviation(frames: Frames) -> Float[np.ndarray, " T"]:
    """Standard deviation of each frame."""
    return frames.std(axis=(1, 2), dtype=np.float64)


class Droplets(Characteristics):
    """Spinodal decomposition between walls: droplets of the minority below a composition of 0.5."""

    field = "c"
    count = staticmethod(partial(count_objects, threshold=0.5, below=True, connectivity=8, periodic=False))
    q1 = staticmethod(partial(mean_wave_number, periodic=False))

    def clock(self, frames: Frames) -> Float[np.ndarray, " T"]:
        """Mean of c(1-c): the interface that is left."""
        u = frames.astype(np.float64)
        return (u * (1 - u)).mean(axis=(1, 2))

    def numbers(self, frames: Frames) -> Numbers:
        """Those of the composition, its interfaces, and its changes."""
        changes = rms_change(frames)
        shares = (5, 10, 25, 50, 75, 99)
        return {
            "mean": float(frames.mean(dtype=np.float64)),
            "min over the run": float(frames.min()),
            "max over the run": float(frames.max()),
            **{f"percentile {p}": float(q) for p, q in zip(shares, np.percentile(frames, shares), strict=True)},
            "fraction below 0.5": float(area_fraction(frames, threshold=0.5, below=True).mean()),
            **at("10-90 width", partial(each, partial(interface_width, periodic=False)), frames, (0, 40)),
            **at("standard deviation", deviation, frames, (0, 111)),
            **at("objects", self.count, frames, (0, 20, 40, 60, 80, 111)),
            **at("mean c(1-c)", self.clock, frames, (40, 111)),
            "slope of [mean c(1-c)]^-3": slope(self.clock(frames) ** -3),
            **at("q1", self.q1, frames, (0, 40, 111)),
            **at("qp", partial(peak_wave_number, periodic=False), frames, (0, 111)),
            **at("grad2", partial(squared_gradient, periodic=False), frames, (0, 40, 111)),
            "rms_change, mean": float(changes.mean()),
            "rms_change, median": float(np.median(changes)),
            "rms_change, max": float(changes.max()),
            **persistence(frames, (1, 10, 50, 90)),
        }

    def curves(self, frames: Frames) -> dict[str, Float[np.ndarray, " times"]]:
        """Objects, interface, wave number and change."""
        return {
            "objects": self.count(frames).astype(float),
            "mean c(1-c)": self.clock(frames),
            "q1": self.q1(frames),
            "rms_change": rms_change(frames),
        }

    def early(self, frames: Frames, times: Float[np.ndarray, " T"]) -> Numbers:
        """Objects counted from the quench; frame 0 ends one frame interval after it."""
        wanted = (0, 5, 10, 20, 40)
        places = [int(np.abs(times - (frame + 1)).argmin()) for frame in wanted]
        if np.abs(times[places] - 1 - wanted).max() > 0.01:
            return {f"objects from noise at {frame}": float("nan") for frame in wanted}
        return {f"objects from noise at {t}": float(n) for t, n in zip(wanted, self.count(frames[places]), strict=True)}


class Grains(Characteristics):
    """Grain growth: bright grains, dark boundaries, periodic."""

    field = "micrograph"
    count = staticmethod(partial(count_objects, threshold=0.8, below=False, connectivity=4, periodic=True))
    q1 = staticmethod(partial(mean_wave_number, periodic=True))

    def clock(self, frames: Frames) -> Float[np.ndarray, " T"]:
        """Mean of 1 - u: the boundary that is left."""
        return 1 - frames.mean(axis=(1, 2), dtype=np.float64)

    def numbers(self, frames: Frames) -> Numbers:
        """Those of the grains, their boundaries, and their changes."""
        dark, changes = self.clock(frames), rms_change(frames)
        mean_area = frames[0].size / self.count(frames)
        minima = extreme(frames, largest=False)
        profiles = [grain_boundary_profile(frame, periodic=True) for frame in frames[40::8]]
        shares = {0: (1, 5, 10, 25), 111: (1, 5, 10)}
        return {
            **at("grains", self.count, frames, (0, 10, 20, 40, 60, 80, 111)),
            "slope of the mean area": slope(mean_area),
            "slope of mean(1-u)^-2": slope(dark**-2),
            "mean(1-u) sqrt(mean area)": float((dark * np.sqrt(mean_area)).mean()),
            **at("mean", lambda u: 1 - self.clock(u), frames, (40, 80, 111)),
            **at("standard deviation", deviation, frames, (0, 40, 111)),
            "min over the run": float(minima.min()),
            "median of the frames' minima": float(np.median(minima)),
            **{
                name: value
                for t, percents in shares.items()
                for p in percents
                for name, value in at(f"percentile {p}", partial(np.percentile, q=p, axis=(1, 2)), frames, (t,)).items()
            },
            "boundary, full width": float(np.nanmedian([profile.full_width for profile in profiles])),
            "boundary, one flank": float(np.nanmedian([profile.flank for profile in profiles])),
            "boundary, floor": float(np.nanmedian([profile.floor for profile in profiles])),
            **at("grad2", partial(squared_gradient, periodic=True), frames, (0, 40, 111)),
            **at("q1", self.q1, frames, (0, 40, 111)),
            **at("qp", partial(peak_wave_number, periodic=True), frames, (0, 10, 20)),
            **{f"rms_change (median of 7) at {t}": median_about(changes, t, 7) for t in (0, 20, 60, 111)},
            **persistence(frames, (1, 10, 50, 90)),
        }

    def curves(self, frames: Frames) -> dict[str, Float[np.ndarray, " times"]]:
        """Grains, mean brightness, wave number and change."""
        return {
            "grains": self.count(frames).astype(float),
            "mean": 1 - self.clock(frames),
            "q1": self.q1(frames),
            "rms_change (median of 7)": np.array(
                [median_about(rms_change(frames), t, 7) for t in range(len(frames) - 1)]
            ),
        }


class Waves(Characteristics):
    """A damped plane wave."""

    field = "u"
    grad2 = staticmethod(partial(squared_gradient, periodic=False))

    def numbers(self, frames: Frames) -> Numbers:
        """Those of the frames, and of the wave fitted to them."""
        wave = fit_damped_wave(frames)
        return {
            **at("standard deviation", deviation, frames, (0, 10, 40, 111)),
            **at("min", partial(extreme, largest=False), frames, (0, 111)),
            **at("max", partial(extreme, largest=True), frames, (0, 111)),
            **pick("rms_change", rms_change(frames), (0, 110)),
            **at("grad2", self.grad2, frames, (0, 111)),
            **persistence(frames, (1, 5, 10, 50, 90)),
            "amplitude": wave.amplitude,
            "decay": wave.decay,
            "wavelength": wave.wavelength,
            "angular frequency": wave.omega,
            "phase velocity": wave.phase_velocity,
            "residual of the wave": wave.residual,
        }

    def curves(self, frames: Frames) -> dict[str, Float[np.ndarray, " times"]]:
        """Standard deviation, extremes and change."""
        return {
            "standard deviation": deviation(frames),
            "min": extreme(frames, largest=False),
            "max": extreme(frames, largest=True),
            "rms_change": rms_change(frames),
        }


class Crystals(Characteristics):
    """A dendrite from a seed in the middle of the frame."""

    field = "phi"

    def numbers(self, frames: Frames) -> Numbers:
        """Those of the solid, its tips, its surface, and its changes."""
        return {
            **at("solid fraction", solid_fraction, frames, (10, 20, 40, 60, 80, 99)),
            **at("tip radius", tip_radius, frames, (20, 60, 99)),
            **at("mean gradient magnitude", mean_gradient_magnitude, frames, (20, 40, 60, 99)),
            **pick("rms_change", rms_change(frames), (0, 5, 10, 40, 80)),
            **at("10-90 width", partial(each, partial(interface_width, periodic=True)), frames, (20, 40)),
        }

    def curves(self, frames: Frames) -> dict[str, Float[np.ndarray, " times"]]:
        """Solid, tips, surface and change."""
        return {
            "solid fraction": solid_fraction(frames),
            "tip radius": tip_radius(frames),
            "mean gradient magnitude": mean_gradient_magnitude(frames),
            "rms_change": rms_change(frames),
        }

    def against(self, frames: Frames, published: Float[np.ndarray, "P H W"]) -> Numbers:
        """Error against the published frames; from frame 30 or so on side branches are elsewhere."""
        count = min(len(frames), len(published))
        errors = np.sqrt(np.square(frames[:count].astype(np.float64) - published[:count]).mean(axis=(1, 2)))
        return {f"RMSE to the published frame at {t}": float(errors[t]) for t in (5, 20, 45, 99) if t < count}
