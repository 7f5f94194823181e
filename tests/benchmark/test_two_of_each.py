"""What one field, one window of a trajectory and one competitor would hide: every number in its place."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scored

from microevo.benchmark import Evaluation, ExternalForecasts, Protocol, Scores
from microevo.benchmark.competitors import persistence
from microevo.benchmark.leaderboard import RMSE, Leaderboard
from microevo.benchmark.long_table import Key
from microevo.benchmark.report.findings import findings
from microevo.benchmark.results import ScoreTable
from microevo.data import TrajectoryStore
from microevo.metrics import Quantity, absolute_error, squared_error
from microevo.metrics.quantity import Fit

MSE = Key("metric", "mse")
STARTS, N_PAST, HORIZON = [0, 2], 3, 2


@pytest.fixture
def store(make_store) -> TrajectoryStore:
    """Two fields; the first frame is 10 t0 after the quench, and frames are 2 t0 apart."""
    return make_store(
        splits=("test", "train", "test"), fields=("a", "b"), frames=7, first_frame=10.0, frame_interval=2.0
    )


def evaluated(
    store: TrajectoryStore, fields: list[str], folder: Path, scores: Scores, shift: np.ndarray
) -> pd.DataFrame:
    """Scores of a file whose forecast is the truth plus a number for each window, lead and field."""
    protocol = Protocol(store=str(store.path), n_past=N_PAST, horizon=HORIZON, starts=STARTS)
    truth = np.stack([window.future.numpy() for window in protocol.windows(fields)])
    folder.mkdir()
    np.save(folder / "theirs.npy", truth + shift[..., None, None].astype(np.float32))
    entries = [ExternalForecasts("Theirs", {"p": folder / "theirs.npy"}), persistence(len(fields))]
    Evaluation({"p": protocol}, entries, {"p": scores}, fields, folder, batch_size=3).run(progress=False)
    words = dict.fromkeys(("competitor", "kind", "name"), str)
    table = pd.read_parquet(folder / "table").astype(words)
    return table.sort_values(["trajectory", "start", "lead"], ignore_index=True)


@pytest.mark.parametrize("fields", [["a", "b"], ["b", "a"], ["b"]])
def test_every_field_window_and_lead_has_its_own_error(store, fields, tmp_path):
    shift = np.random.default_rng(0).random((4, HORIZON, len(fields))) + 0.1  # windows (0, 0), (0, 2), (2, 0), (2, 2)
    scores = Scores(pixel={"mae": absolute_error, "mse": squared_error})
    table = evaluated(store, fields, tmp_path / "out", scores, shift)
    rows = table[(table.competitor == "Theirs") & (table.name == "mae")]
    assert list(zip(rows.trajectory, rows.start, strict=True))[::HORIZON] == [(0, 0), (0, 2), (2, 0), (2, 2)]
    np.testing.assert_allclose(rows.value, shift.mean(axis=2).ravel(), rtol=1e-4)
    persisted = table[(table.competitor == "Persistence") & (table.name == "mse")]
    for row in persisted.itertuples():
        frames = store.read(row.trajectory, row.start, fields=fields).astype(np.float64)
        assert row.value == pytest.approx(np.square(frames[2 + row.lead] - frames[2]).mean(), rel=1e-4)


def test_quantities_are_of_the_first_field_and_know_the_time_since_the_quench(store, tmp_path):
    """A fit that returns its first time, and one that returns its first value."""

    def quantity(name: str, function) -> Quantity:
        fit = Fit(f"fit_{name}", "1", function)
        return Quantity(name=name, long_name=name, unit="1", statistic=lambda frames: frames.mean((2, 3)), fit=fit)

    quantities = [
        quantity("time", lambda values, t: t[:1] + 100 * t[-1:]),
        quantity("mean", lambda values, t: values[:, 0]),
    ]
    scores = Scores(pixel={}, physics=lambda trajectories: quantities)
    table = evaluated(store, ["b", "a"], tmp_path / "out", scores, np.zeros((4, HORIZON, 2)))
    rows = table[table.competitor == "Truth"]
    first = np.array([10 / 2 + start + N_PAST for _ in range(2) for start in STARTS])  # [fr]
    np.testing.assert_allclose(rows[rows.name == "fit_time"].value, first + 100 * (first + HORIZON - 1))
    expected = [store.read(i, start + N_PAST, fields=["b"])[0].mean() for i in (0, 2) for start in STARTS]
    np.testing.assert_allclose(rows[rows.name == "fit_mean"].value, expected, rtol=1e-5)


def test_a_window_that_is_not_finite_is_not_averaged_away_by_the_other_one(tmp_path):
    values = np.array([[1.0, 1.0], [np.nan, 3.0], [1.0, 1.0], [1.0, 1.0]])
    windows = [(4, 0), (4, 5), (7, 0), (7, 5)]
    scores = {("A", None): {MSE: values}, ("Persistence", None): {MSE: np.ones((4, 2))}}
    results = scored.write(tmp_path, scores, windows=windows, horizon=2)
    table = ScoreTable(results, "p")
    np.testing.assert_array_equal(table.samples(MSE).values["A"], [[[np.nan, 2.0], [1.0, 1.0]]])
    assert table.non_finite("A") == 1
    board = Leaderboard.of("p", table, [1, 2])
    curve = board.metric("rmse").curves["A"]
    assert np.isnan([curve.mean.mean, curve.at_leads[1].mean]).all()
    assert curve.at_leads[2].mean == pytest.approx(1.5**0.5)


def test_models_are_ranked_by_their_means_and_not_by_their_luck(tmp_path):
    """A is the best on average; B has the lowest, and C the highest, end of an interval."""
    steady, wide = np.full((8, 1), 1.0), np.array([[0.01], [2.5]] * 4)
    mse = {"B": wide, "A": steady, "C": np.full((8, 1), 1.1), "Persistence": np.full((8, 1), 9.0)}
    results = scored.write(tmp_path, {(name, None): {MSE: values} for name, values in mse.items()}, horizon=1)
    table = ScoreTable(results, "p")
    board = Leaderboard.of("p", table, [1])
    means = {name: board.metric("rmse").curves[name].mean for name in mse}
    assert means["B"].low < means["A"].low < means["C"].low < means["B"].mean < means["B"].high
    assert [one.name for one in board.standings] == ["A", "C", "B", "Persistence"]
    assert findings(board, table, pd.DataFrame()).facts[0].value == "A"
    assert findings(board, table, pd.DataFrame()).facts[1].value.endswith("below C")


def test_the_error_of_several_seeds_and_windows_is_that_of_their_mean(tmp_path):
    """Two seeds, two trajectories of two windows, two leads: by hand, each number once."""
    values = 4.0 ** np.arange(16).reshape(2, 4, 2) / 4.0**8
    scores = {("A", seed): {MSE: values[seed]} for seed in range(2)}
    results = scored.write(tmp_path, scores, windows=[(1, 0), (1, 3), (5, 0), (5, 3)], horizon=2)
    samples = ScoreTable(results, "p").samples(RMSE)
    np.testing.assert_allclose(samples.mean("A"), values.mean(axis=(0, 1)) ** 0.5)
    by_trajectory = values.reshape(2, 2, 2, 2).mean(axis=2)
    np.testing.assert_allclose(samples.values["A"], by_trajectory)
    assert samples.independent == 2
