"""One number for a curve over time: the slope of its straight line, or its exponent."""

import numpy as np
from jaxtyping import Float

SPAN = 3.0  # last time over first that an exponent needs: over less, single objects that vanish decide about it


def slope(values: Float[np.ndarray, "*any T"], times: Float[np.ndarray, " T"]) -> Float[np.ndarray, "*any"]:
    """Slope of the straight line of least squares [unit of the values / unit of the times].

    NaN where a value is, and for a single time.
    """
    if len(times) < 2:
        return np.full(values.shape[:-1], np.nan)
    centred = times - times.mean()
    return np.asarray((values * centred).sum(axis=-1) / (centred**2).sum())


def growth_exponent(values: Float[np.ndarray, "*any T"], times: Float[np.ndarray, " T"]) -> Float[np.ndarray, "*any"]:
    """The n of `values ~ times^n`, fitted to the logarithms by least squares [1].

    NaN where a value is not positive, and for all where the last time is less than 3 times the first: half a decade is the
    least that tells one exponent from another.

    Coarsening has n = 1/3 by bulk diffusion (Lifshitz & Slyozov, J. Phys. Chem. Solids 19 (1961) 35) and, for the length
    in grain growth, n = 1/2, once it is self-similar and `times` count from the quench.

    Raises:
        ValueError: Not all times are positive.
    """
    if not (times > 0).all():
        raise ValueError(
            f"an exponent needs times after the quench, all positive, but the earliest is {times.min():g}; count them from it"
        )
    if times.max() < SPAN * times.min():
        return np.full(values.shape[:-1], np.nan)
    with np.errstate(invalid="ignore"):
        logs = np.log(np.where(values > 0, values, np.nan))
    return slope(logs, np.log(times))
