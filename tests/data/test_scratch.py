"""What a killed command leaves behind is removed by the next one, and nothing that is in use."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from microevo.data import import_frames
from microevo.data.scratch import scratch_folder

HANGS = """
import sys, time
from microevo.data import TrajectoryStore, import_frames
def hang(*args):
    print("writing", flush=True)
    time.sleep(60)
TrajectoryStore.write = hang
import_frames(sys.argv[1], sys.argv[2])
"""


@pytest.mark.slow  # imports that are killed
@pytest.mark.parametrize("name", ["set.zarr", pytest.param("other.zarr", marks=pytest.mark.slow)])
def test_the_next_import_removes_what_a_killed_one_left(tmp_path, name):
    np.save(tmp_path / "set.npy", np.random.default_rng(0).random((4, 3, 8, 8), dtype=np.float32))
    place = tmp_path / "place"
    killed = subprocess.Popen(
        [sys.executable, "-c", HANGS, tmp_path / "set.npy", place / "set.zarr"], stdout=subprocess.PIPE, text=True
    )
    assert killed.stdout is not None
    assert killed.stdout.readline() == "writing\n"
    import_frames(str(tmp_path / "set.npy"), str(place / "meanwhile.zarr"))
    assert len(list(place.iterdir())) == 2, "what is in use stays"
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    import_frames(str(tmp_path / "set.npy"), str(place / name))
    assert {entry.name for entry in place.iterdir()} == {"meanwhile.zarr", name}


def test_folders_that_others_hide_stay(tmp_path):
    for name in (".cache", ".set.zarr-1", ".x.microevo-y"):  # the last one without a lock, just made
        (tmp_path / name).mkdir()
    with scratch_folder(tmp_path / "set.zarr") as folder:
        assert folder.parent == tmp_path
    assert {entry.name for entry in tmp_path.iterdir()} == {".cache", ".set.zarr-1", ".x.microevo-y"}
