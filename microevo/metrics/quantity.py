"""Physical quantities: what is measured on frames, and how a forecast's value is compared with the truth's.

A *statistic* is a plain function that maps frames of one field to one number or one curve per frame. A `Quantity` gives a
statistic its name, its unit and its distance between two values, so that a benchmark can go through a list of them.
Statistics work on NumPy arrays; `measure` and `measure_errors` take tensors or arrays, and `frames_of` is the only place
where the one becomes the other.
Lengths are in pixels [px] and times in frames [fr], whatever the units of the process.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Literal, TypeVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from microevo.metrics.pixel import Array, as_tensor

T = TypeVar("T")
S = TypeVar("S")
Frames = Float[np.ndarray, "B frames H W"]
Statistic = Callable[[np.ndarray], np.ndarray]  # B T H W -> B T, or B T K
Distance = Callable[[np.ndarray, np.ndarray], np.ndarray]  # B T (K) twice -> B T


@dataclass(frozen=True)
class Bins:
    """The axis of a curve.

    Attributes:
        name: What runs along it.
        unit: Its unit, `1` if it has none.
        edges: Limits of the K bins, K + 1 of them.
    """

    name: str
    unit: str
    edges: tuple[float, ...]

    @property
    def middles(self) -> tuple[float, ...]:
        """Middle of each bin."""
        return tuple((low + high) / 2 for low, high in zip(self.edges[:-1], self.edges[1:], strict=True))


@dataclass(frozen=True)
class Fit:
    """One number for a whole curve over time.

    Attributes:
        name: Name in tables.
        unit: Its unit, `1` if it has none.
        function: Values `B T` and times `T` to one number per trajectory; NaN where a value is.
    """

    name: str
    unit: str
    function: Callable[[np.ndarray, np.ndarray], np.ndarray]


def difference(prediction: Float[np.ndarray, "B T"], target: Float[np.ndarray, "B T"]) -> Float[np.ndarray, "B T"]:
    """Absolute difference, the distance of most quantities."""
    return np.abs(prediction - target)


def log_ratio(
    prediction: Float[np.ndarray, "B T"], target: Float[np.ndarray, "B T"], floor: float
) -> Float[np.ndarray, "B T"]:
    """`|ln((prediction + floor) / (target + floor))|` of values that are not negative [1].

    Twice as much and half as much are as far from the truth, and what is far below the floor on both sides does not count.

    Args:
        prediction: Values of the forecast.
        target: Values of the truth.
        floor: Value below which differences are not resolved, positive [unit of the values].
    """
    return np.abs(np.log(prediction + floor) - np.log(target + floor))


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A physical quantity: a statistic with its unit, and the distance between two values of it.

    Attributes:
        name: Name in tables.
        long_name: What it is, in words.
        unit: Its unit, `1` if it has none.
        statistic: Frames of one field, `B before+T H W`, to values `B before+T` or curves `B before+T K`; None where
            forecast and truth have no values of their own and can only be compared.
        distance: Values of forecast and truth (their frames, if there is no statistic) to one error per frame; lower is
            better.
        error_name: What the distance is, in words, if it is not the difference.
        error_unit: Unit of the distance, that of the statistic unless given.
        better: `match` if the truth's value is the aim, `low` if a law asks for the lowest whatever the truth's is.
        bins: Axis of a curve of counts or powers, which add up over trajectories; none for a single number.
        before: Past frames that it looks back over, which must stand before the first lead.
        fit: A number for the whole curve over time, such as a growth exponent.
    """

    name: str
    long_name: str
    unit: str
    statistic: Statistic | None
    distance: Distance = difference
    error_name: str = ""
    error_unit: str | None = None
    better: Literal["match", "low"] = "match"
    bins: Bins | None = None
    before: int = 0
    fit: Fit | None = None

    def error(self, prediction: Frames, target: Frames) -> np.ndarray:
        """Error of each frame of a forecast, `B T H W`, in numpy."""
        if self.statistic is None:
            return self.distance(prediction, target)
        return self.distance(self.statistic(prediction), self.statistic(target))

    def __call__(
        self,
        prediction: Float[Array, "B T C H W"],
        target: Float[Array, "B T C H W"],
        past: Float[Array, "B P C H W"] | None = None,
        field: int = 0,
    ) -> Float[Tensor, "B T"]:
        """Error of each forecast frame; see `measure_errors` for the arguments."""
        return measure_errors([self], prediction, target, past, field)[self.name]


def measure(
    quantities: Sequence[Quantity],
    frames: Float[Array, "B T C H W"],
    past: Float[Array, "B P C H W"] | None = None,
    field: int = 0,
) -> dict[str, np.ndarray]:
    """Values of the quantities that have a statistic, by name, float64: `B T`, or `B T K` for curves.

    Args:
        quantities: What to measure.
        frames: Forecast or truth.
        past: What came before, needed by statistics that look back.
        field: Which of the fields is measured.
    """
    by_reach = {reach: frames_of(frames, past, field, reach) for reach in {q.before for q in quantities}}
    return {
        q.name: _over_leads(q.statistic(by_reach[q.before]), frames.shape[1])
        for q in quantities
        if q.statistic is not None
    }


def measure_errors(
    quantities: Sequence[Quantity],
    prediction: Float[Array, "B T C H W"],
    target: Float[Array, "B T C H W"],
    past: Float[Array, "B P C H W"] | None = None,
    field: int = 0,
) -> dict[str, Float[Tensor, "B T"]]:
    """Errors of the quantities, by name: one per forecast frame, lower is better.

    Args:
        quantities: What to compare.
        prediction: Forecast.
        target: Truth.
        past: What came before both, needed by quantities that look back.
        field: Which of the fields is measured.

    Raises:
        ValueError: The two shapes differ, there is no such field, or too few past frames.
    """
    if prediction.shape != target.shape:
        raise ValueError(
            f"forecast and truth must have one shape (B, T, C, H, W), but theirs are {tuple(prediction.shape)} and "
            f"{tuple(target.shape)}"
        )
    prediction, target = as_tensor(prediction), as_tensor(target)
    reaches = {quantity.before for quantity in quantities}
    pairs = {reach: [frames_of(x, past, field, reach) for x in (prediction, target)] for reach in reaches}
    errors = {q.name: _over_leads(q.error(*pairs[q.before]), target.shape[1]) for q in quantities}
    return {name: torch.from_numpy(error).float().to(target.device) for name, error in errors.items()}


def frames_of(
    frames: Float[Array, "B T C H W"],
    past: Float[Array, "B P C H W"] | None = None,
    field: int = 0,
    before: int = 0,
) -> Frames:
    """One field as float64 numpy, with the last `before` of the past frames in front of it.

    Raises:
        ValueError: There is no such field, or fewer past frames than `before`.
    """
    if not 0 <= field < frames.shape[2]:
        raise ValueError(f"field must be one of the {frames.shape[2]} fields, counted from 0, but it is {field}")
    frames = as_tensor(frames)
    if before:
        known = 0 if past is None else past.shape[1]
        if past is None or known < before:
            raise ValueError(
                f"something measured looks back over {before} frames, but past has {known}; give more of the past"
            )
        frames = torch.cat([as_tensor(past)[:, -before:].to(frames), frames], dim=1)
    return frames[:, :, field].detach().cpu().double().numpy()


def _over_leads(values: np.ndarray, leads: int) -> np.ndarray:
    return np.ascontiguousarray(values[:, values.shape[1] - leads :])


def each_frame(function: Callable[[np.ndarray], float | np.ndarray], *size: int) -> Statistic:
    """The statistic of a function of a single frame `H W`.

    A frame that is not finite has the value NaN, and the function never sees it.

    Args:
        function: Frame to number, or to a curve of shape `size`.
        size: Shape of what it returns.
    """

    def statistic(frames: np.ndarray) -> np.ndarray:
        values = np.full((*frames.shape[:-2], *size), np.nan)
        for place in np.argwhere(np.isfinite(frames).all(axis=(-2, -1))):
            values[tuple(place)] = function(frames[tuple(place)])
        return values

    return statistic


def all_frames(function: Callable[[np.ndarray], np.ndarray], at_once: int = 256) -> Statistic:
    """The statistic of a function that takes many frames, `n H W`, at once; NaN for those that are not finite.

    Args:
        function: Frames to numbers `n`, or to curves `n K`; it sees only finite ones.
        at_once: Most frames to give it, so that memory stays the same for any batch.
    """

    def statistic(frames: np.ndarray) -> np.ndarray:
        rows = frames.reshape(-1, *frames.shape[-2:])
        places = np.flatnonzero(np.isfinite(rows).all(axis=(1, 2)))
        # One frame of zeros tells the shape where none is finite.
        parts = (
            np.split(rows[places], range(at_once, len(places), at_once)) if len(places) else [np.zeros_like(rows[:1])]
        )
        known = np.concatenate([np.asarray(function(part), dtype=float) for part in parts])
        values = np.full((len(rows), *known.shape[1:]), np.nan)
        values[places] = known[: len(places)]
        return values.reshape(*frames.shape[:-2], *known.shape[1:])

    return statistic


class Shared(Generic[T]):
    """A costly step, such as a segmentation, that several statistics take on the same array.

    It is taken once for each of the last two arrays (forecast and truth), which must not be written to in between.

    Args:
        step: Array to whatever the statistics need.
    """

    def __init__(self, step: Callable[[np.ndarray], T]) -> None:
        self.step = step
        self._last: list[tuple[np.ndarray, T]] = []

    def __call__(self, frames: np.ndarray) -> T:
        """The result of the step."""
        for known, result in self._last:
            if known is frames:
                return result
        result = self.step(frames)
        self._last = [*self._last[-1:], (frames, result)]
        return result


def each_trajectory(step: Callable[[np.ndarray], S]) -> Shared[list[S | None]]:
    """A shared step on each trajectory, as far as its frames are finite; None where the first one is not."""

    def steps(frames: Frames) -> list[S | None]:
        finite = np.isfinite(frames).all(axis=(-2, -1))
        known = np.where(finite.all(axis=1), finite.shape[1], finite.argmin(axis=1))
        return [step(row[:until]) if until else None for row, until in zip(frames, known, strict=True)]

    return Shared(steps)


def of_each(found: Shared[list[S | None]], function: Callable[[S], np.ndarray], *size: int) -> Statistic:
    """The statistic of what `each_trajectory` has found; NaN from the first frame on that is not finite.

    Args:
        found: The shared step.
        function: Its result to a number for each frame, or to a curve of shape `size`.
        size: Shape of what it returns for a frame.
    """

    def statistic(frames: Frames) -> np.ndarray:
        values = np.full((*frames.shape[:2], *size), np.nan)
        for row, result in zip(values, found(frames), strict=True):
            if result is not None:
                part = function(result)
                row[: len(part)] = part
        return values

    return statistic
