"""Compiled kernels are kept on disk, and give the same bytes from there."""

import os
import subprocess
import sys
from pathlib import Path

import numba.core.caching
import numpy as np
import pytest

from microevo.processes.kernels.compiler import FAST, compiled

RUN = """
import hashlib, numpy
from microevo.processes.kernels.grain_growth import euler_kernel
sums = []
for fields in (2, 3):
    eta = numpy.random.default_rng(1).random((8, 9, fields), dtype="f4")
    out = numpy.empty_like(eta)
    euler_kernel(fields)(eta, out, *numpy.array([0.9, 0.1, 0.3, 0.02, 1e-12], "f4"), 1)
    sums.append(hashlib.sha256(out.tobytes()).hexdigest())
print(sums, [sum(euler_kernel(fields).stats.cache_hits.values()) for fields in (2, 3)])
"""


@pytest.mark.slow
def test_a_second_process_compiles_nothing_and_gives_the_same_bytes(tmp_path: Path) -> None:
    def run() -> str:
        environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
        return subprocess.run(
            [sys.executable, "-c", RUN], env=environment, check=True, capture_output=True, text=True
        ).stdout

    first, second = run(), run()
    assert first.endswith("[0, 0]\n")
    assert second == first.replace("[0, 0]", "[1, 1]")


def test_where_nothing_can_be_written_kernels_are_compiled_anyway(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba.core.caching.CompileResultCacheImpl, "_locator_classes", [])

    @compiled(fastmath=FAST)
    def double(values):
        for i in range(len(values)):
            values[i] *= 2

    values = np.arange(3.0)
    double(values)
    np.testing.assert_array_equal(values, [0, 2, 4])
