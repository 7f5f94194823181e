"""Evaluation: the same numbers in one go or in pieces, alone or shared; the reference solver, external forecasts, NaN."""

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from shared import small_process
from torch.utils.data import default_collate

from microevo.benchmark import Evaluation, ExternalForecasts, Model, Protocol, ReferenceSolver, Scores
from microevo.benchmark.competitors import persistence
from microevo.benchmark.competitors.reference_solver import StoredProcess
from microevo.benchmark.cost import mean_rmse
from microevo.benchmark.run import _measure
from microevo.data import TrajectoryStore, Window, WindowDataset, generate
from microevo.metrics import absolute_error, squared_error
from microevo.models import FCN, ConvLSTM, Forecaster
from microevo.processes import (
    DendriticSolidification,
    GrainGrowth,
    Grid,
    PlaneWave,
    RegularSolution,
    SpinodalDecomposition,
)

PIXEL = Scores(pixel={"mse": squared_error, "mae": absolute_error})
KEYS = ["protocol", "competitor", "kind", "name", "trajectory", "start", "lead"]


class Brittle(Forecaster):
    """Repeats the last frame, and turns to NaN at its third in the first window."""

    any_past = True

    def forward(self, past, horizon):
        frames = past[:, -1:].repeat(1, horizon, 1, 1, 1)
        broken = past[:, -1].mean(dim=(1, 2, 3)) == self.mean
        frames[broken, 2:] = float("nan")
        return frames


def evaluation(store: Path, folder: Path, entries: list, **settings: object) -> Evaluation:
    protocols = {
        "4->6": Protocol(store=str(store), n_past=4, horizon=6, starts=list(range(0, 15))),
        "2->3": Protocol(store=str(store), n_past=2, horizon=3, trajectories=1),
    }
    return Evaluation(protocols, entries, dict.fromkeys(protocols, PIXEL), ["c"], folder, **settings)


def models() -> list[Model]:
    torch.manual_seed(0)
    return [
        Model("FCN", FCN(n_past=4, hid_s=2, hid_t=4, n_t=2), seed=3),
        Model("ConvLSTM", ConvLSTM(n_past=4, hidden=[4, 4], filter_size=3)),
        persistence(1),
    ]


def read(folder: Path) -> pd.DataFrame:
    table = pd.read_parquet(folder / "table")
    words = dict.fromkeys(("protocol", "competitor", "kind", "name"), str)
    return table.astype(words).sort_values(KEYS, ignore_index=True)


def test_scores_are_those_of_the_forecast_itself(small_store, tmp_path):
    entries = models()
    evaluation(small_store, tmp_path, entries).run(progress=False)
    table = read(tmp_path)
    store = TrajectoryStore.open(small_store)
    trajectory = int(store.split("test")[1])
    frames = torch.from_numpy(store.read(trajectory, 3, 13))[None]
    with torch.no_grad():
        forecast = entries[0].forecaster.eval()(frames[:, :4], 6)
    chosen = {"protocol": "4->6", "competitor": "FCN", "name": "mse", "trajectory": trajectory, "start": 3}
    rows = table[(table[list(chosen)] == pd.Series(chosen)).all(axis=1)]
    assert rows.lead.tolist() == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(rows.value, squared_error(forecast, frames[:, 4:])[0], rtol=1e-5)
    assert set(rows.seed) == {3}
    truth = table[table.competitor == "Truth"]
    assert set(truth.name) == {"finite"}
    assert set(table[table.competitor == "Persistence"].name) == {"finite", "mse", "mae"}


@pytest.mark.slow  # several runs in several processes
def test_no_number_depends_on_batches_processes_or_an_interruption(small_store, tmp_path):
    evaluation(small_store, tmp_path / "one", models(), batch_size=16).run(progress=False)
    one = read(tmp_path / "one")

    evaluation(small_store, tmp_path / "two", models(), batch_size=3).run(["cpu", "cpu"], progress=False)
    two = read(tmp_path / "two")
    pd.testing.assert_frame_equal(one, two, check_exact=False, rtol=1e-5, atol=1e-9)

    begun = evaluation(small_store, tmp_path / "three", models(), batch_size=16)
    tasks = begun.begin()
    for task in tasks[::2]:
        begun.do(task, torch.device("cpu"))
    again = evaluation(small_store, tmp_path / "three", models(), batch_size=16)
    assert again.begin() == tasks[1::2]
    again.run(progress=False)
    pd.testing.assert_frame_equal(one, read(tmp_path / "three"))
    assert not again.begin()


@pytest.mark.slow
def test_a_killed_benchmark_goes_on(small_store, tmp_path):
    command = (
        "from pathlib import Path; from test_evaluation import *; import torch\n"
        "torch.set_num_threads(1)\n"
        f"evaluation(Path({str(small_store)!r}), Path({str(tmp_path / 'killed')!r}), models()).run(progress=False)"
    )
    here = Path(__file__).parent
    process = subprocess.Popen(
        [sys.executable, "-c", command],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(here), str(here.parent), str(here.parents[1])])},
        start_new_session=True,
    )
    while process.poll() is None and not list(tmp_path.rglob("*.parquet")):
        time.sleep(0.01)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    evaluation(small_store, tmp_path / "killed", models()).run(progress=False)
    evaluation(small_store, tmp_path / "whole", models()).run(progress=False)
    pd.testing.assert_frame_equal(read(tmp_path / "killed"), read(tmp_path / "whole"))


def test_other_weights_are_not_mixed_with_old_results(small_store, tmp_path):
    evaluation(small_store, tmp_path, models()).run(progress=False)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    torch.manual_seed(0)
    others = [Model("FCN", FCN(n_past=4, hid_s=2, hid_t=4, n_t=3), seed=3)]
    with pytest.raises(FileExistsError, match="made with other weights or predictions; use --overwrite"):
        evaluation(small_store, tmp_path, others).run(progress=False)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_forecast_that_breaks_is_noted_frame_by_frame(small_store, tmp_path):
    brittle = Brittle(n_past=4)
    store = TrajectoryStore.open(small_store)
    first = int(store.split("test")[0])
    brittle.mean = torch.from_numpy(store.read(first, 3, 4)).mean()  # the last input frame of the first window
    evaluation(small_store, tmp_path, [Model("Brittle", brittle), persistence(1)]).run(progress=False)
    table = read(tmp_path)
    rows = table[(table.protocol == "4->6") & (table.trajectory == first) & (table.start == 0)]
    own = rows[rows.competitor == "Brittle"].pivot(index="lead", columns="name", values="value")
    assert own.finite.tolist() == [1, 1, 0, 0, 0, 0]
    assert own.mse.isna().tolist() == [False, False, True, True, True, True]
    persisted = rows[(rows.competitor == "Persistence") & (rows.name == "mse")].value.to_numpy()
    np.testing.assert_allclose(own.mse[:2], persisted[:2], rtol=1e-6)


def test_entries_that_cannot_answer_are_refused_before_anything_is_computed(small_store, tmp_path):
    with pytest.raises(ValueError, match="FCN forecasts 2 fields, but the benchmark asks for 1"):
        evaluation(small_store, tmp_path, [Model("FCN", FCN(n_past=4, channels=2, hid_s=2, hid_t=4, n_t=2))]).begin()
    with pytest.raises(ValueError, match="several competitors are called FCN"):
        evaluation(small_store, tmp_path, [models()[0], models()[0]])
    a = models()[0].forecaster
    for one, other in ((Model("A", a, seed=0), ExternalForecasts("A", {})), (Model("A", a, seed=0), Model("A", a))):
        with pytest.raises(ValueError, match="several competitors are called A, but they are not seeds of one model"):
            evaluation(small_store, tmp_path, [one, other])
    with pytest.raises(ValueError, match="several competitors are called Truth"):
        evaluation(small_store, tmp_path, [Model("Truth", a, seed=0)])
    with pytest.raises(ValueError, match="Reference solver is the name of the process's own solver"):
        evaluation(small_store, tmp_path, [Model("Reference solver", a, seed=0)])
    evaluation(small_store, tmp_path, [Model("A", a, seed=0), Model("A", a, seed=1), ReferenceSolver()])
    assert not list(tmp_path.rglob("*.parquet"))


# ------------------------------------------------------------ foreign predictions


@pytest.fixture
def forecasts(small_store):
    """The true future of 4->6, window by window."""
    protocol = Protocol(store=str(small_store), n_past=4, horizon=6, starts=list(range(0, 15)))
    return np.stack([window.future.numpy() for window in protocol.windows(["c"])])


@pytest.mark.parametrize("form", ["npy", "npy without fields", "npz", "npz without fields", "zarr"])
def test_predictions_of_others_are_scored_like_ours(small_store, tmp_path, forecasts, form):
    import zarr

    path = tmp_path / f"theirs.{form.split()[0]}"
    shifted = forecasts + 0.5
    if form == "zarr":
        zarr.save_array(path, shifted)
    elif form == "npz":
        np.savez(path, shifted)
    elif form == "npz without fields":
        np.savez_compressed(path, truth=forecasts[:, :, 0, :8], forecast=shifted[:, :, 0], names=np.array(["a"]))
    else:
        np.save(path, shifted[:, :, 0] if "without" in form else shifted)
    evaluation(small_store, tmp_path / "out", [ExternalForecasts("Theirs", {"4->6": path})]).run(progress=False)
    table = read(tmp_path / "out")
    rows = table[(table.competitor == "Theirs") & (table.name == "mae")]
    assert len(rows) == forecasts.shape[0] * 6
    np.testing.assert_allclose(rows.value, 0.5, rtol=1e-5)


def test_predictions_that_do_not_fit_are_refused(small_store, tmp_path, forecasts):
    def refused(array, said, name="theirs.npy"):
        np.save(tmp_path / name, array, allow_pickle=True)
        with pytest.raises(ValueError, match=said):
            evaluation(small_store, tmp_path / "out", [ExternalForecasts("Theirs", {"4->6": tmp_path / name})]).begin()

    refused(forecasts[:-1], r"have the shape \(29, 6, 1, 16, 16\), but 4->6 asks for \(30, 6, 1, 16, 16\)")
    refused(forecasts[:, :5], "have the shape")
    refused(forecasts[..., :8], "have the shape")
    refused(np.array([{"a": 1}], dtype=object), "is not a NumPy file of numbers")
    refused(np.array(["a"]), "predictions are real numbers")
    with pytest.raises(FileNotFoundError, match="no predictions at nothing"):
        ExternalForecasts("Theirs", {"4->6": "nothing.npy"})
    (tmp_path / "text.txt").write_text("no")
    with pytest.raises(ValueError, match="is neither a"):
        evaluation(
            small_store, tmp_path / "out", [ExternalForecasts("Theirs", {"4->6": tmp_path / "text.txt"})]
        ).begin()


def test_archives_that_are_ambiguous_are_refused(small_store, tmp_path, forecasts):
    def refused(said, **arrays):
        np.savez(tmp_path / "theirs.npz", **arrays)
        with pytest.raises(ValueError, match=said):
            evaluation(
                small_store, tmp_path / "out", [ExternalForecasts("Theirs", {"4->6": tmp_path / "theirs.npz"})]
            ).begin()

    refused(
        r"a \(30, 6, 1, 16, 16\), b \(30, 6, 16, 16\), of which a and b have the shape",
        a=forecasts,
        b=forecasts[:, :, 0],
    )
    refused(
        r"of which none has the shape of the predictions, \(30, 6, 1, 16, 16\)", a=forecasts[1:], b=forecasts[:, 1:]
    )
    refused(r"have the shape \(29, 6, 1, 16, 16\), but 4->6 asks for \(30, 6, 1, 16, 16\)", a=forecasts[1:])
    refused("is not a NumPy archive of numbers", a=np.array([{"a": 1}], dtype=object))
    refused("predictions are real numbers", a=np.array(["a"]))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "theirs.npz").read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"cut.npz is not a NumPy archive"):
        evaluation(small_store, tmp_path / "o", [ExternalForecasts("Theirs", {"4->6": tmp_path / "cut.npz"})]).begin()
    with pytest.raises(ValueError, match="predictions are read from disk"):
        ExternalForecasts("Theirs", {"4->6": "s3://bucket/theirs.npy"})


# ----------------------------------------------------------------- the reference solver


@pytest.mark.parametrize(
    ("law", "fields", "largest"),
    [
        (small_process(), ["c"], 2e-3),
        (PlaneWave(grid=Grid(shape=(16, 16), boundary="no-flux")), ["u"], 1e-5),
        pytest.param(
            RegularSolution(grid=Grid(shape=(32, 32), spacing=0.5, boundary="no-flux", coarsen=2), first_frame=5.0),
            ["c"],
            0.06,
            marks=pytest.mark.slow,
        ),
        (
            DendriticSolidification(grid=Grid(shape=(64, 64), spacing=0.03, coarsen=4), seed_radius=0.2),
            ["phi"],
            0.01,
        ),
        (GrainGrowth(grid=Grid(shape=(64, 64), spacing=0.25, coarsen=4), grains=6), ["micrograph"], 0.06),
    ],
    ids=lambda value: type(value).__name__ if not isinstance(value, list | float) else "",
)
def test_the_reference_solver_is_ahead_of_persistence(law, fields, largest, tmp_path):
    store = tmp_path / "store.zarr"
    generate(law, store, splits={"train": 1, "test": 1}, frames=9, seed=2)
    protocols = {"4->4": Protocol(store=str(store), n_past=4, horizon=4, starts=[1])}
    entries = [ReferenceSolver(), persistence(1)]
    made = Evaluation(protocols, entries, {"4->4": PIXEL}, fields, tmp_path / "out")
    made.run(progress=False)
    table = read(tmp_path / "out")
    error = table[table.name == "mse"].groupby(["competitor", "lead"]).value.mean().unstack() ** 0.5
    assert float(error.loc["Reference solver"].max()) < largest
    assert float(error.loc["Reference solver", 4]) < 0.5 * float(error.loc["Persistence", 4])
    # Every frame is nearest to the true frame of its own lead: a solver is neither early nor late.
    solved, truth = (
        np.load(made.table.frames_path("4->4", name)).astype(float) for name in ("Reference solver", "Truth")
    )
    assert made.gallery_leads("4->4") == [1, 2, 3, 4]
    distance = np.sqrt(np.square(solved[:, :, None] - truth[:, None]).mean(axis=(3, 4, 5)))  # (window, lead, true lead)
    own = np.diagonal(distance, axis1=1, axis2=2)
    others = np.where(np.eye(4, dtype=bool), np.inf, distance).min(axis=2)
    assert (own < 0.5 * others).all(), (own / others).round(3)


@pytest.mark.slow
def test_the_reference_solver_continues_as_the_data_did(tmp_path):
    # The fast scheme depends on its clock alone: from the state that the frames show it takes the steps of the data.
    # With the short steps after a quench it would be off by 4e-3 and more.
    law = RegularSolution(grid=Grid(shape=(32, 32), boundary="no-flux"), kappa=12.0, first_frame=16.0, scheme="fast")
    store = generate(law, tmp_path / "store.zarr", splits={"test": 2}, frames=14, seed=2)
    windows = WindowDataset(store, range(2), fields=["c"], n_past=4, n_future=5, stride=3)
    alone = Window(*default_collate([windows[1]]))
    batch = Window(*default_collate([windows[i] for i in (3, 0, 2, 1)]))
    forecast = StoredProcess(store).forecast(batch, 5)
    assert batch.start.tolist() == [3, 0, 0, 3]
    assert float((forecast - batch.future).abs().max()) < 1e-5
    assert float((StoredProcess(store).timed(alone)(batch.past, 5) - alone.future).abs().max()) < 1e-5


@pytest.mark.parametrize("fields", [["u"], ["u", "v"], ["v"], ["v", "u"]])
def test_sampled_parameters_belong_to_their_trajectory(fields, tmp_path):
    from microevo.data import Range

    law = PlaneWave(grid=Grid(shape=(16, 16), boundary="no-flux"))
    sample = {"wavelength": Range(low=12.0, high=40.0), "direction": Range(low=0.0, high=360.0)}
    generate(law, tmp_path / "waves.zarr", splits={"train": 2, "test": 3}, frames=9, seed=2, sample=sample)
    protocols = {"4->5": Protocol(store=str(tmp_path / "waves.zarr"), n_past=4, horizon=5)}
    Evaluation(protocols, [ReferenceSolver()], {"4->5": PIXEL}, fields, tmp_path / "out", batch_size=2).run(
        progress=False
    )
    table = read(tmp_path / "out")
    assert float(table[table.name == "mae"].value.max()) < 1e-5


def test_imported_data_have_no_reference_solver(make_store, tmp_path):
    store = make_store(splits=("test",), frames=9)
    protocols = {"4->5": Protocol(store=str(store.path), n_past=4, horizon=5)}
    made = Evaluation(protocols, [ReferenceSolver(), persistence(1)], {"4->5": PIXEL}, ["c"], tmp_path / "out")
    assert [made.competitors[task.competitor].name for task in made.begin()] == ["Truth", "Persistence"]


# ------------------------------------------------------ the accuracy-matched solver


def few(store: Path, n_past: int, horizon: int, count: int = 2, fields: str = "c") -> tuple[StoredProcess, Window]:
    windows = WindowDataset(TrajectoryStore.open(store), range(count), fields=[fields], n_past=n_past, n_future=horizon)
    firsts = [windows[i * (len(windows) // count)] for i in range(count)]
    return StoredProcess(windows.store), Window(*default_collate(firsts))


@pytest.mark.slow
def test_the_coarsest_solver_as_accurate_as_a_forecast(small_store):
    physics, window = few(small_store, 4, 20)
    solver = physics.timed(window)

    def error(frames):
        return mean_rmse(frames, window.future)

    def steps(scheme):
        stepper = scheme.stepper()
        stepper.start(window.past[:, -1].contiguous(), 35.0)
        stepper.advance(135.0)
        return int(stepper.steps_taken.sum())

    fast = error(solver.forecast(20))
    coarse = solver.accuracy_matched(4 * fast, error, 20)
    assert fast < error(coarse.forecast(20)) <= 4 * fast
    assert coarse.scheme.tolerance > solver.scheme.tolerance
    assert steps(coarse.scheme) < steps(solver.scheme)
    assert solver.accuracy_matched(fast / 2, error, 20) is None
    roughest = solver.accuracy_matched(math.inf, error, 20)
    assert roughest.scheme.coarser() is None
    assert torch.equal(roughest(window.past[:1], 20), roughest.forecast(20)[:1])  # the first window is timed


def test_a_solver_is_no_coarser_than_can_be_integrated(small_store, monkeypatch):
    physics, window = few(small_store, 4, 6)
    solve = physics.solve

    def brittle(scheme, start, horizon):
        if scheme.tolerance > 0.1:
            raise ValueError("no step is accepted")
        return solve(scheme, start, horizon)

    monkeypatch.setattr(physics, "solve", brittle)
    coarse = physics.timed(window).accuracy_matched(math.inf, lambda frames: 0.0, 6)
    assert coarse.scheme.tolerance == pytest.approx(0.081)
    assert physics.timed(window).accuracy_matched(1.0, lambda frames: math.nan, 6) is None


@pytest.mark.slow
def test_a_solver_that_leaves_its_bounds_is_too_rough(tmp_path):
    law = RegularSolution(grid=Grid(shape=(64, 64), spacing=0.5, boundary="no-flux", coarsen=2), first_frame=5.0)
    generate(law, tmp_path / "mixtures.zarr", splits={"test": 2}, frames=9, seed=2)
    physics, window = few(tmp_path / "mixtures.zarr", 4, 5)
    solver = physics.timed(window)
    coarse = solver.accuracy_matched(math.inf, lambda frames: 0.0, 5)
    assert coarse.scheme.longest_step > solver.scheme.longest_step
    with pytest.raises(
        ValueError, match=r"the reference solver of .*mixtures.zarr, trajectory \d: at time .*reference_solver false"
    ):
        physics.solve(coarse.scheme.coarser(), solver.initial, 5)


def test_the_state_on_the_finer_grid_is_that_of_the_data(tmp_path):
    law = SpinodalDecomposition(grid=Grid(shape=(32, 32), coarsen=2), first_frame=20.0, frame_interval=5.0)
    store = generate(law, tmp_path / "fine.zarr", splits={"test": 1}, frames=6, seed=2)
    frame = law.image(StoredProcess(store).state([0], 5))
    assert np.array_equal(frame[0].numpy(), store.read(0)[5])


def test_a_closed_form_is_never_rough(tmp_path):
    law = PlaneWave(grid=Grid(shape=(16, 16), boundary="no-flux"))
    generate(law, tmp_path / "waves.zarr", splits={"test": 2}, frames=9, seed=2)
    physics, window = few(tmp_path / "waves.zarr", 4, 5, fields="u")
    assert physics.timed(window).accuracy_matched(math.inf, lambda frames: 0.0, 5) is None


@pytest.mark.slow
def test_the_cost_table_has_a_solver_as_accurate_as_the_best_network(small_store, tmp_path):
    entries = [*models(), ReferenceSolver()]
    table = _measure(evaluation(small_store, tmp_path, entries), "4->6", "cpu", repeats=1, warmup=0)
    (matched,) = table[table["matched_to"].notna()].itertuples()
    rmse = table[table["matched_to"].isna()].set_index("competitor")["rmse"]
    best = rmse[["FCN", "ConvLSTM"]].idxmin()
    assert (matched.competitor, matched.matched_to) == ("Reference solver", best)
    assert rmse["Persistence"] < rmse[best]  # which is not a network
    assert rmse["Reference solver"] < matched.rmse <= rmse[best]
    assert table["device"].str.contains("CPU").all()

    alone = evaluation(small_store, tmp_path, [persistence(1), ReferenceSolver()])
    assert set(_measure(alone, "4->6", "cpu", repeats=1, warmup=0)["competitor"]) == {"Persistence", "Reference solver"}
    foreign = evaluation(small_store, tmp_path, models())
    assert set(_measure(foreign, "4->6", "cpu", repeats=1, warmup=0)["competitor"]) == {
        "FCN",
        "ConvLSTM",
        "Persistence",
    }
