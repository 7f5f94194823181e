"""Interfaces of a microstructure: their length, width and curvature, and the gradient energy.

A frame that is not periodic is continued by its mirror image, as between no-flux walls. Contours are those of marching
squares, in coordinates (y, x) in which pixels are at whole numbers.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Float
from scipy.ndimage import gaussian_filter, gaussian_filter1d, map_coordinates
from skimage.measure import find_contours

from microevo.metrics.distribution import histogram, total_variation, wasserstein
from microevo.metrics.quantity import Bins, Quantity, Shared, all_frames, each_frame

STEP = 0.05  # px between the samples of a profile
REACH = 4.0  # px of a profile on either side of an interface, more if it is wide
WIDTHS = 2.4  # of the interface that a profile reaches at least; a tanh has then come within 1e-4 of a phase
PHASES = 0.6  # of the reach, beyond which a profile is in the phases
BOUNDARY = 0.35  # grey below which a pixel is in the middle of a grain boundary
INSIDE = 0.95  # grey that a profile across a grain boundary reaches on both sides
ACROSS = 4.2  # px within which it does
MARGIN = 16  # px of continuation in which contours are smoothed
SPACING = 0.5  # px between samples of the curvature
CURVATURES = Bins("curvature of the interface", "1/px", tuple(np.arange(-0.6, 0.61, 0.05).round(2).tolist()))


def squared_gradient(frames: Float[np.ndarray, "*batch H W"], *, periodic: bool) -> Float[np.ndarray, "*batch"]:
    """Mean of the squared forward differences along y plus that along x: the gradient energy less its coefficient [1/px^2]."""
    total = np.zeros(frames.shape[:-2])
    for axis in (-2, -1):
        u = frames.astype(np.float64)
        if periodic:
            steps = np.roll(u, -1, axis) - u
        else:
            steps = np.diff(u, axis=axis)
        total = total + np.square(steps).mean(axis=(-2, -1))
    return np.asarray(total)


# ------------------------------------------------------------------ length


def interface_length(
    frames: Float[np.ndarray, "*batch H W"], *, periodic: bool, level: float = 0.5
) -> Float[np.ndarray, "*batch"]:
    """Length of the contours of a frame, the border not counted [px].

    Marching squares cut corners: a circle of radius 4 px or more is short by less than 1 %.
    """
    lengths = [_length(frame, level, periodic) for frame in frames.reshape(-1, *frames.shape[-2:])]
    return np.array(lengths, dtype=np.float64).reshape(frames.shape[:-2])


def _length(frame: Float[np.ndarray, "H W"], level: float, periodic: bool) -> float:
    size = np.array(frame.shape)
    # One pixel of continuation: the whole torus, or half a pixel between the outermost centres and the walls.
    wide = np.pad(frame, (0, 1), mode="wrap") if periodic else np.pad(frame, 1, mode="symmetric")
    total = 0.0
    for contour in find_contours(wide.astype(np.float64), level):
        pieces = np.linalg.norm(np.diff(contour, axis=0), axis=1)
        if not periodic:
            middle = (contour[1:] + contour[:-1]) / 2 - 1
            halves = ((middle < 0) | (middle > size - 1)).sum(axis=1)
            pieces = pieces * 0.5**halves
        total += float(pieces.sum())
    return total


# ------------------------------------------------------------------ curvature


def contour_curvature(
    frame: Float[np.ndarray, "H W"], *, periodic: bool, level: float = 0.5, smoothing: float = 1.5
) -> Float[np.ndarray, " samples"]:
    """Curvature at points that are evenly spread along the contours, `SPACING` px apart [1/px].

    Positive where the side above `level` is convex, as around a bright disc. Contours are smoothed along their length, for
    marching squares bend at every edge of a pixel; a disc of radius r then has `exp(-smoothing^2 / (2 r^2)) r`. Contours
    shorter than six times the smoothing are left out.

    Args:
        frame: What is measured.
        periodic: Whether the frame continues on its opposite side.
        level: Value of the contour.
        smoothing: Standard deviation of the Gaussian along the contour [px].
    """
    samples = [curvature[inside] for _, curvature, inside in _smooth_contours(frame, level, periodic, smoothing)]
    return np.concatenate(samples) if samples else np.empty(0)


def _smooth_contours(
    frame: Float[np.ndarray, "H W"], level: float, periodic: bool, smoothing: float
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Points, curvature, and whether a point belongs to the frame, of each contour of the continued frame."""
    wide = np.pad(frame.astype(np.float64), MARGIN, mode="wrap" if periodic else "symmetric")
    for contour in find_contours(wide, level):
        pieces = np.linalg.norm(np.diff(contour, axis=0), axis=1)
        along = np.concatenate([[0.0], np.cumsum(pieces)])
        count = round(along[-1] / SPACING)
        if along[-1] < 6 * smoothing:
            continue
        closed = bool((contour[0] == contour[-1]).all())
        places = np.linspace(0, along[-1], count, endpoint=not closed)
        points = np.stack([np.interp(places, along, contour[:, axis]) for axis in (0, 1)])
        spacing = places[1]
        mode = "wrap" if closed else "nearest"
        sigma = smoothing / spacing
        (y, x), (dy, dx), (ddy, ddx) = (
            # The tails of the second derivative do not cancel when they are cut at the usual four sigma.
            gaussian_filter1d(points, sigma, axis=1, order=order, mode=mode, truncate=6.0) / spacing**order
            for order in range(3)
        )
        curvature = (dx * ddy - dy * ddx) / np.hypot(dx, dy) ** 3
        # Half-open, so that points on the border of a periodic frame count once.
        low, high = MARGIN - 0.5, np.array(frame.shape)[:, None] + MARGIN - 0.5
        inside = ((points >= low) & (points < high)).all(axis=0)
        yield np.stack([y, x]) - MARGIN, curvature, inside


# ------------------------------------------------------------------ width


def interface_width(frame: Float[np.ndarray, "H W"], *, periodic: bool, level: float = 0.5) -> float:
    """10-90 % width of the interface: of the median profile along the normals of a contour, between its own two ends [px].

    Normals are those of the frame smoothed over one pixel; profiles are interpolated by cubic splines and reach far enough
    to become flat, at most a quarter of the frame. The image of a process is the mean over the cells of each pixel, which
    widens a sharp interface. NaN where there is no contour, or no phase on one side of it.
    """
    points, normals = _normals(frame, level, periodic)
    if not points.shape[1]:
        return float("nan")
    reach = REACH
    while True:
        width = _profile_width(frame, points, normals, level, reach, periodic)
        wanted = min(WIDTHS * width, min(frame.shape) / 4)
        if not wanted > reach + STEP:
            return width
        reach = wanted


def _profile_width(
    frame: Float[np.ndarray, "H W"], points: np.ndarray, normals: np.ndarray, level: float, reach: float, periodic: bool
) -> float:
    middle = round(reach / STEP)
    along = STEP * np.arange(-middle, middle + 1)
    profile = np.median(_sample(frame, points[:, :, None] + normals[:, :, None] * along, periodic), axis=0)
    low, high = (np.median(profile[side * along > PHASES * reach]) for side in (-1, 1))
    if not low < level < high:
        return float("nan")
    scaled = (profile - low) / (high - low)
    return _first_crossing(scaled[middle:], 0.9) + _first_crossing(1 - scaled[middle::-1], 0.9)


def _normals(frame: Float[np.ndarray, "H W"], level: float, periodic: bool) -> tuple[np.ndarray, np.ndarray]:
    """Vertices of the contours, and unit vectors towards higher values there."""
    contours = find_contours(frame.astype(np.float64), level)
    if not contours:
        return np.empty((2, 0)), np.empty((2, 0))
    points = np.concatenate(contours).T
    mode = "wrap" if periodic else "reflect"
    # Narrow branches and pixels would otherwise turn the normals of single points.
    gradient = np.stack(
        [
            map_coordinates(gaussian_filter(frame.astype(np.float64), 1.0, order=order, mode=mode), points, order=1)
            for order in ((1, 0), (0, 1))
        ]
    )
    size = np.linalg.norm(gradient, axis=0)
    return points[:, size > 0], gradient[:, size > 0] / size[size > 0]


def _sample(frame: Float[np.ndarray, "H W"], places: np.ndarray, periodic: bool) -> np.ndarray:
    """Cubic spline through the pixels, at places (y, x)."""
    mode = "grid-wrap" if periodic else "reflect"  # scipy's name for the mirror at the outer edge of the pixels
    return map_coordinates(frame.astype(np.float64), places, order=3, mode=mode)


def _first_crossing(profile: Float[np.ndarray, " samples"], value: float) -> float:
    """How far from its beginning a profile first rises to a value; NaN if nowhere [px]."""
    above = np.flatnonzero(profile >= value)
    if not len(above):
        return float("nan")
    if above[0] == 0:
        return 0.0
    before, after = profile[above[0] - 1], profile[above[0]]
    return float((above[0] - 1 + (value - before) / (after - before)) * STEP)


# ------------------------------------------------------------------ grain boundaries


@dataclass(frozen=True)
class BoundaryProfile:
    """Medians over the profiles across the grain boundaries of a micrograph, bright inside grains.

    Attributes:
        full_width: Width at half of the depth [px].
        flank: 10-90 % width of one side [px].
        floor: Smallest value.
        profiles: How many there were; without any the others are NaN.
    """

    full_width: float
    flank: float
    floor: float
    profiles: int


def grain_boundary_profile(frame: Float[np.ndarray, "H W"], *, periodic: bool) -> BoundaryProfile:
    """Width and darkness of grain boundaries, away from junctions.

    Profiles go through the pixels below `BOUNDARY` in the direction of the largest second derivative, and count if they
    reach `INSIDE` on both sides within `ACROSS` px. The depth is measured from 1, the inside of grains.
    """
    u = np.pad(frame.astype(np.float64), 1, mode="wrap" if periodic else "symmetric")
    yy = u[2:, 1:-1] + u[:-2, 1:-1] - 2 * u[1:-1, 1:-1]
    xx = u[1:-1, 2:] + u[1:-1, :-2] - 2 * u[1:-1, 1:-1]
    yx = (u[2:, 2:] + u[:-2, :-2] - u[2:, :-2] - u[:-2, 2:]) / 4
    dark = frame < BOUNDARY
    angle = 0.5 * np.arctan2(2 * yx, yy - xx)[dark]
    centres, normals = np.argwhere(dark).T.astype(np.float64), np.stack([np.cos(angle), np.sin(angle)])
    side = round(ACROSS / STEP)
    along = STEP * np.arange(-side, side + 1)
    pixel = round(1 / STEP)  # the minimum is looked for within one pixel
    found = []
    for profile in _sample(frame, centres[:, :, None] + normals[:, :, None] * along, periodic):
        lowest = side - pixel + int(profile[side - pixel : side + pixel + 1].argmin())
        sides = profile[lowest:], profile[lowest::-1]
        if min(half.max() for half in sides) < INSIDE:
            continue
        depths = [(half - profile[lowest]) / (1 - profile[lowest]) for half in sides]
        tenth, half_way, ninth = (np.array([_first_crossing(d, share) for d in depths]) for share in (0.1, 0.5, 0.9))
        found.append([half_way.sum(), *(ninth - tenth), profile[lowest]])
    if not found:
        return BoundaryProfile(float("nan"), float("nan"), float("nan"), 0)
    table = np.array(found)
    return BoundaryProfile(
        full_width=float(np.nanmedian(table[:, 0])),
        flank=float(np.nanmedian(table[:, 1:3])),
        floor=float(np.median(table[:, 3])),
        profiles=len(table),
    )


# ------------------------------------------------------------------ quantities


def interface_quantities(*, periodic: bool, level: float = 0.5) -> tuple[Quantity, ...]:
    """Length, squared gradient and curvature of the interfaces.

    The curvature has two distances: the total variation, in which samples just across the edge of a bin count as wholly
    different, and the Wasserstein-1 distance, in which they count by the width of a bin at most. A forecast without
    interfaces, if the truth has any, has the worst value of both: 1, and the width of the bins.

    Args:
        periodic: Whether frames continue on their opposite side; if not, there are no-flux walls.
        level: Value of the field at the interface.
    """
    edges = np.array(CURVATURES.edges)

    def curvature_counts(frame: np.ndarray) -> np.ndarray:
        return histogram(contour_curvature(frame, periodic=periodic, level=level), edges)

    curvatures = Shared(each_frame(curvature_counts, len(edges) - 1))
    return (
        Quantity(
            name="interface_length",
            long_name="length of the interfaces",
            unit="px",
            statistic=all_frames(partial(interface_length, periodic=periodic, level=level)),
        ),
        Quantity(
            name="squared_gradient",
            long_name="mean squared gradient, which falls where interfaces blur",
            unit="1/px^2",
            statistic=all_frames(partial(squared_gradient, periodic=periodic)),
        ),
        Quantity(
            name="curvature_tv",
            long_name="curvature distribution of the interfaces, total variation",
            unit="samples",
            statistic=curvatures,
            distance=total_variation,
            error_unit="1",
            bins=CURVATURES,
        ),
        Quantity(
            name="curvature_w1",
            long_name="curvature distribution of the interfaces, Wasserstein-1",
            unit="samples",
            statistic=curvatures,
            distance=partial(wasserstein, edges=edges),
            error_unit=CURVATURES.unit,
            bins=CURVATURES,
        ),
    )
