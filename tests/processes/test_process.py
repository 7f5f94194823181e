import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import starts
import torch
from torch import Tensor

import microevo.processes
from microevo.processes import (
    GrainGrowth,
    Grid,
    Parameters,
    PlaneWave,
    Process,
    SpinodalDecomposition,
    rebuild,
    rollout,
    simulate,
    trajectory_generator,
)

OWN = "microevo.processes"  # the group of entry points
SMALL = SpinodalDecomposition(grid=Grid(shape=(32, 32)), first_frame=20.0, frame_interval=5.0)


generators = partial(starts.generators, seed=3)


@dataclass(frozen=True, kw_only=True)
class Poisoned(SpinodalDecomposition):
    """The third trajectory of a batch starts with a NaN."""

    def initial(self, generators: Sequence[torch.Generator], p: Parameters | None = None) -> Tensor:
        u = super().initial(generators, p)
        u[2, 0, 5, 5] = torch.nan
        return u


def test_generators_differ_by_seed_and_index_and_repeat() -> None:
    def draw(seed: int, index: int) -> float:
        return float(torch.rand((), generator=trajectory_generator(seed, index)))

    assert draw(0, 1) == draw(0, 1)
    assert len({draw(seed, index) for seed in range(4) for index in range(4)}) == 16


def test_simulate_stacks_the_frames_of_rollout() -> None:
    frames = simulate(SMALL, generators(0, 1), 3)
    assert frames.shape == (2, 3, 1, 32, 32)
    assert frames.dtype == torch.float32
    assert torch.equal(frames, torch.stack(list(rollout(SMALL, generators(0, 1), 3)), dim=1))


def test_frame_zero_is_at_first_frame() -> None:
    started = SpinodalDecomposition(grid=Grid(shape=(32, 32)), first_frame=0.0, frame_interval=20.0)
    frames = simulate(started, generators(0, 1), 2)
    torch.testing.assert_close(frames[:, 0], started.initial(generators(0, 1)).float(), atol=1e-6, rtol=0)
    # The same instant reached with and without a frame in between.
    torch.testing.assert_close(frames[:, 1], simulate(SMALL, generators(0, 1), 1)[:, 0], atol=1e-2, rtol=0)


def test_image_is_coarser_than_the_solver() -> None:
    fine = SpinodalDecomposition(grid=Grid(shape=(64, 64), spacing=0.5, coarsen=2), first_frame=5.0)
    assert simulate(fine, generators(0, 1), 1).shape == (2, 1, 1, 32, 32)


def test_drawn_parameters_equal_those_given_one_by_one() -> None:
    mobility, kappa = [0.5, 1.0, 2.0], [2.5, 3.0, 2.0]
    together = simulate(SMALL, generators(0, 1, 2), 3, SMALL.vary({"mobility": mobility, "kappa": np.array(kappa)}))
    for i in range(3):
        alone = SpinodalDecomposition(
            grid=SMALL.grid, first_frame=20.0, frame_interval=5.0, mobility=mobility[i], kappa=kappa[i]
        )
        torch.testing.assert_close(together[i : i + 1], simulate(alone, generators(i), 3), atol=1e-5, rtol=0)


def test_parameters_that_cannot_be_drawn_are_refused() -> None:
    with pytest.raises(ValueError, match="rho"):
        SMALL.vary({"rho": [1.0, 2.0]})
    with pytest.raises(ValueError, match="kappa"):
        SMALL.vary({"kappa": [2.5, -1.0]})
    with pytest.raises(ValueError, match="interface"):
        SMALL.vary({"kappa": [2.5, 0.1]})


def test_a_nan_is_blamed_on_its_trajectory() -> None:
    poisoned = Poisoned(grid=Grid(shape=(32, 32)))
    with pytest.raises(ValueError, match=r"Poisoned, trajectory 2: .*finite"):
        simulate(poisoned, generators(0, 1, 2, 3), 1)
    with pytest.raises(ValueError, match=r"Poisoned, trajectory 30: .*finite"):
        list(rollout(poisoned, generators(0, 1, 2, 3), 1, names=[10, 20, 30, 40]))


@pytest.mark.parametrize("settings", [{"frame_interval": 0.0}, {"frame_interval": -1.0}, {"first_frame": -1.0}])
def test_impossible_frame_times_are_refused(settings: dict) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        SpinodalDecomposition(**settings)


@pytest.mark.parametrize("law", [PlaneWave(), GrainGrowth()], ids=lambda law: type(law).__name__)
def test_a_closed_form_and_steps_at_their_limit_cannot_be_rougher(law: Process) -> None:
    assert law.fast().coarser() is None


FADING = """
from dataclasses import dataclass

from microevo.metrics import Quantity
from microevo.processes import PlaneWave


@dataclass(frozen=True, kw_only=True)
class Fading(PlaneWave):
    rate: float = 0.1
    parameters = ("rate",)

    def quantities(self, first, p=None):
        # The law of ours asks for the parameters of each trajectory.
        rate = (p or self.vary({})).rate.reshape(-1, 1).numpy()
        mean = lambda frames: frames.mean(axis=(2, 3)) / rate
        return [Quantity(name="mean_per_rate", long_name="mean over rate", unit="1", statistic=mean)]
"""
SETTINGS = {"rate": 0.5, "grid": {"shape": [16, 16], "boundary": "no-flux"}}


def test_a_process_in_a_new_file_is_rebuilt_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "fading_of_ours.py").write_text(FADING)
    monkeypatch.setattr(microevo.processes, "__path__", [*microevo.processes.__path__, str(tmp_path)])
    process = rebuild("microevo.processes.fading_of_ours.Fading", SETTINGS)
    assert (type(process).__name__, process.rate, process.grid.shape) == ("Fading", 0.5, (16, 16))
    with pytest.raises(ValueError, match=r"no process microevo\.processes\.fading_of_ours\.Gone here"):
        rebuild("microevo.processes.fading_of_ours.Gone", SETTINGS)


@pytest.mark.parametrize("package", ["", "fading_package.", "microevo.processes.fading_package."])
def test_a_store_cannot_name_other_code_to_run(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "fading_package"
    folder.mkdir()
    (folder / "__init__.py").touch()
    for path in (tmp_path, folder):
        (path / "fading_of_theirs.py").write_text("raise AssertionError('it ran')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(microevo.processes, "__path__", [*microevo.processes.__path__, str(tmp_path)])
    with pytest.raises(ValueError, match=r"fading_of_theirs\.Fading here: .*--physics none --reference_solver false"):
        rebuild(f"{package}fading_of_theirs.Fading", SETTINGS)


def installed(folder: Path, name: str, entry: str) -> None:
    """A package with one process, as pip would install it: a module, and its metadata with or without an entry point."""
    (folder / name).mkdir(parents=True)
    (folder / name / "__init__.py").touch()
    (folder / name / "laws.py").write_text(FADING)
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(entry)


READ = """
import sys
from microevo.benchmark import Protocol, run
from microevo.benchmark.competitors import TRUTH
from microevo.data import TrajectoryStore
store = TrajectoryStore.open("a.zarr")
assert "fading_installed" not in sys.modules
results = run({"4->8": Protocol(store="a.zarr", n_past=4, horizon=8)}, repeats=0, output="results")
table = results.table.read()
value = table[(table["name"] == "mean_per_rate") & (table["kind"] == "quantity")]
truth = value[(value["competitor"] == TRUTH) & (value["lead"] == 8) & (value["trajectory"] == 1)]["value"].item()
print(abs(truth / (store.read(1, 11, 12, ["u"]).mean() / store.per_trajectory["rate"][1]) - 1) < 1e-4)
error = table[(table["name"] == "mse") & (table["competitor"] == "Reference solver")]["value"]
print(len(error) > 0, error.max() < 1e-8)
"""


@pytest.mark.slow  # processes of their own
def test_a_process_in_an_installed_package_is_simulated_and_benchmarked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_process: Callable
) -> None:
    site = tmp_path / "site"
    installed(site, "fading_installed", f"[{OWN}]\nfading = fading_installed.laws:Fading\n")
    monkeypatch.syspath_prepend(site)
    grid = '{"shape": [16, 16], "boundary": "no-flux"}'
    settings = ["--process.init_args.grid", grid, "--sample", '{"rate": {"low": 0.1, "high": 0.2}}']
    sizes = ["--splits", '{"test": 2}', "--frames", "12"]
    in_process("simulate", "--output", "a.zarr", "--process", "fading_installed.laws.Fading", *settings, *sizes)
    # Another process, which has not imported it.
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(site), *sys.path])}
    done = subprocess.run([sys.executable, "-c", READ], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[-2:] == ["True", "True True"], done.stderr


def test_an_installed_package_that_registers_nothing_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(tmp_path, "fading_unregistered", "[console_scripts]\nfading = fading_unregistered.laws:Fading\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=r"no process fading_unregistered\.laws\.Fading here"):
        rebuild("fading_unregistered.laws.Fading", SETTINGS)
    assert "fading_unregistered" not in sys.modules


def test_a_store_of_an_earlier_version_has_the_present_words() -> None:
    process = rebuild(
        "microevo.processes.regular_solution.RegularSolution",
        {"grid": {"shape": [16, 16], "spacing": 0.5}, "scheme": "cheap"},
    )
    assert process.scheme == "fast"


def test_a_recipe_without_a_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="have no grid with a shape; the store's recipe is damaged"):
        rebuild("microevo.processes.spinodal.SpinodalDecomposition", {"kappa": 1.0})


@pytest.mark.parametrize(
    "path", ["Fading", "", ".Fading", "microevo.processes..Fading", "microevo.processes.gone.Fading"]
)
def test_a_process_that_is_not_there_is_refused(path: str) -> None:
    with pytest.raises(ValueError, match="there is no process"):
        rebuild(path, SETTINGS)


@pytest.mark.parametrize(
    ("process", "distance"),
    [
        (microevo.processes.RegularSolution(), 94**0.5),  # about 10 px in a frame of the published samples
        (SpinodalDecomposition(), 20**0.5),  # M f'' = 2, ten units of time
        (GrainGrowth(), 1.52**0.5),
        (PlaneWave(), 2.981),
        (microevo.processes.DendriticSolidification(), 0.003806**0.5),
    ],
    ids=lambda value: type(value).__name__,
)
def test_how_far_a_process_reaches_in_a_frame(process: Process, distance: float):
    assert process.distance_per_frame == pytest.approx(distance, rel=1e-12)
