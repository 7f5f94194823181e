"""How every kernel is compiled: once on a machine, since the result is kept on disk.

Sums have a fixed order within a trajectory and cross none: the same machine gives the same bytes in any batch, whether a
kernel has just been compiled or is read from the disk. The decorator `no_type_check` below `compiled` keeps the shape checks
of the tests, which cannot be compiled, away from the kernels.

Numba keeps what it compiled in `__pycache__` beside the kernel's file, or in the user's cache folder where that cannot be
written (`NUMBA_CACHE_DIR` names another one), and compiles anew when that file changes. A kernel therefore uses constants
and other kernels of its own file alone.
"""

from collections.abc import Callable
from typing import Any

from numba import njit

# Sums may be reordered once, when compiling, into vector lanes; NaN and infinity keep their meaning.
FAST = {"reassoc", "contract", "nsz"}


def compiled(**options: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Compile a function with some options of `numba.njit`, and keep the result on disk if any folder can be written."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # Numba finds no folder that it can write, as in a container that is read-only
            return njit(**options)(function)

    return decorate
