"""Length scales of a microstructure from its power spectrum: structure factor, mean and peak wave number."""

import itertools
import math
from functools import partial

import numpy as np
from jaxtyping import Float

from microevo.metrics.quantity import Bins, Fit, Quantity, Shared, all_frames, log_ratio
from microevo.metrics.trend import growth_exponent

BANDS = (0.0, 0.25, 0.5, 1.0, 2.0, float(np.pi))  # edges of the bands of wave numbers [rad/px]
# Power of white noise with the variance that rounding to 256 greys between 0 and 1 adds: no picture shows less.
ROUNDING = (1 / 255) ** 2 / 12  # of `power_spectrum`, whose mean is the variance [px^2]


def power_spectrum(
    frames: Float[np.ndarray, "*batch H W"], *, periodic: bool
) -> Float[np.ndarray, "*batch rows columns"]:
    """Squared modulus of the two-dimensional Fourier transform of each frame less its mean, in the order of `numpy.fft`.

    Divided by the number of transformed pixels, so that its mean over all modes is the variance (Parseval).

    Args:
        frames: What is measured.
        periodic: Whether the frame continues on its opposite side. If not, it is continued by its mirror image, which has
            twice the size and only cosines, as a field between no-flux walls has.
    """
    wide = frames.astype(np.float64) - frames.mean(axis=(-2, -1), keepdims=True, dtype=np.float64)
    if not periodic:
        wide = np.concatenate([wide, wide[..., ::-1, :]], axis=-2)
        wide = np.concatenate([wide, wide[..., ::-1]], axis=-1)
    spectrum = np.abs(np.fft.fft2(wide)) ** 2
    return spectrum / (wide.shape[-2] * wide.shape[-1])


def wave_numbers(height: int, width: int, *, periodic: bool) -> Float[np.ndarray, "rows columns"]:
    """|q| of each entry of `power_spectrum` of frames of `height` x `width` pixels [rad/px]."""
    factor = 1 if periodic else 2
    y, x = (2 * math.pi * np.fft.fftfreq(factor * n) for n in (height, width))
    return np.hypot(y[:, None], x)


def structure_factor(
    frames: Float[np.ndarray, "*batch H W"], *, periodic: bool
) -> tuple[Float[np.ndarray, " shells"], Float[np.ndarray, "*batch shells"]]:
    """Mean of the power spectrum over rings of equal wave number.

    Rings are 2 pi / (the shorter side) wide and centred on its multiples, from one up to below pi.

    Returns:
        Wave number at the middle of each ring [rad/px], and the mean power in it [px^2 times the square of the field].
    """
    height, width = frames.shape[-2:]
    shell = 2 * math.pi / min(height, width)
    # Between walls every second mode of an axis lies half-way between two rings, and goes to the even one, as in the
    # published figures; other ways move the peak of the published sample by up to 10 %.
    rings = np.rint((wave_numbers(height, width, periodic=periodic) / shell).round(9)).astype(np.int64).ravel()
    count = math.ceil(min(height, width) / 2) - 1
    spectrum = power_spectrum(frames, periodic=periodic)
    spectrum = spectrum.reshape(*spectrum.shape[:-2], -1)
    order = np.argsort(rings, kind="stable")
    edges = np.searchsorted(rings[order], np.arange(1, count + 2))
    inside = order[edges[0] : edges[-1]]
    sums = np.add.reduceat(spectrum[..., inside], edges[:-1] - edges[0], axis=-1)
    return shell * np.arange(1, count + 1), sums / np.diff(edges)


def mean_wave_number(frames: Float[np.ndarray, "*batch H W"], *, periodic: bool) -> Float[np.ndarray, "*batch"]:
    """First moment of the power spectrum, `sum(q P) / sum(P)` over 0 < q < pi; NaN for a uniform frame [rad/px]."""
    q = wave_numbers(*frames.shape[-2:], periodic=periodic)
    inside = (q > 0) & (q < math.pi)
    power = power_spectrum(frames, periodic=periodic)[..., inside]
    with np.errstate(invalid="ignore"):
        return np.asarray((power * q[inside]).sum(axis=-1) / power.sum(axis=-1))


def peak_wave_number(frames: Float[np.ndarray, "*batch H W"], *, periodic: bool) -> Float[np.ndarray, "*batch"]:
    """Wave number at which the structure factor peaks, from a parabola through the logarithms about the largest ring.

    Noisy with fewer than 20 objects in the frame. The largest ring itself where it is the first or the last one, or
    where a neighbour is empty [rad/px].
    """
    q, power = structure_factor(frames, periodic=periodic)
    flat = power.reshape(-1, power.shape[-1])
    top = flat.argmax(axis=-1)
    near = np.clip(top, 1, max(len(q) - 2, 1))
    with np.errstate(divide="ignore", invalid="ignore"):
        left, middle, right = (np.log(flat[np.arange(len(flat)), near + step]) for step in (-1, 0, 1))
        shift = (left - right) / (2 * (left - 2 * middle + right))
    shift = np.where((top == near) & np.isfinite(shift), shift, 0.0)
    peak: np.ndarray = q[top] + shift * (q[1] - q[0])
    return peak.reshape(power.shape[:-1])


def characteristic_length(frames: Float[np.ndarray, "*batch H W"], *, periodic: bool) -> Float[np.ndarray, "*batch"]:
    """`2 pi / mean_wave_number`: the mean spacing of the pattern [px]."""
    return np.asarray(2 * math.pi / mean_wave_number(frames, periodic=periodic))


# ------------------------------------------------------------------ quantities


def structure_quantities(shape: tuple[int, int], *, periodic: bool) -> tuple[Quantity, ...]:
    """Structure factor, its bands, and the characteristic length with its coarsening exponent.

    The bands are compared by the logarithm of their ratio, with the power that rounding to eight bits adds on both sides
    (`ROUNDING`).

    Args:
        shape: Pixels along (y, x), which set the wave numbers.
        periodic: Whether frames continue on their opposite side; if not, there are no-flux walls.
    """
    shell = 2 * np.pi / min(shape)
    rings = len(structure_factor(np.zeros(shape), periodic=periodic)[0])
    bands = Shared(all_frames(partial(_band_powers, periodic=periodic)))
    return (
        Quantity(
            name="structure_factor",
            long_name="structure factor, relative error over all wave numbers",
            unit="px^2",
            statistic=all_frames(lambda frames: structure_factor(frames, periodic=periodic)[1]),
            distance=_relative_l1,
            error_unit="1",
            bins=Bins("wave number", "rad/px", tuple((shell * (np.arange(rings + 1) + 0.5)).tolist())),
        ),
        *(_band(number, bands) for number in range(len(BANDS) - 1)),
        Quantity(
            name="characteristic_length",
            long_name="2 pi / mean wave number",
            unit="px",
            statistic=all_frames(partial(characteristic_length, periodic=periodic)),
            fit=Fit("coarsening_exponent", "1", growth_exponent),
        ),
    )


def _band_powers(frames: Float[np.ndarray, "n H W"], periodic: bool) -> Float[np.ndarray, "n bands"]:
    q = wave_numbers(*frames.shape[-2:], periodic=periodic)
    power = power_spectrum(frames, periodic=periodic)
    inside = [(q > low) & (q <= high) for low, high in itertools.pairwise(BANDS)]
    unknown = np.full(len(frames), np.nan)  # a small frame has no waves as long as the first band's
    return np.stack([power[:, band].mean(axis=-1) if band.any() else unknown for band in inside], axis=-1)


def _band(number: int, bands: Shared[np.ndarray]) -> Quantity:
    low, high = BANDS[number : number + 2]
    return Quantity(
        name=f"structure_band_{number + 1}",
        long_name=f"structure factor from {low:g} to {high:.3g} rad/px",
        unit="px^2",
        statistic=lambda frames: bands(frames)[..., number],
        distance=partial(log_ratio, floor=ROUNDING),
        error_name="log ratio of forecast to truth",
        error_unit="1",
    )


def _relative_l1(
    prediction: Float[np.ndarray, "B T K"], target: Float[np.ndarray, "B T K"]
) -> Float[np.ndarray, "B T"]:
    """`sum |prediction - target| / sum |target|` over the curve."""
    apart = np.abs(prediction - target).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(apart == 0, 0.0, apart / np.abs(target).sum(axis=-1))
