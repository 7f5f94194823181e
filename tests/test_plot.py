"""Pictures: what they show, not how they look."""

import imageio.v3 as imageio
import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot

from microevo import plot


@pytest.fixture(scope="module")
def frames():
    """Truth and forecast, higher than wide."""
    noise = np.random.default_rng(0)
    truth = noise.random((6, 12, 10), dtype=np.float32)
    return truth, truth + 0.1 * noise.standard_normal(truth.shape, dtype=np.float32)


@pytest.fixture(scope="module")
def table():
    """Errors that grow with the lead: three models, four trajectories, five leads."""
    rows = [
        ("spinodal", model, 0, metric, trajectory, lead, (scale * (trajectory + 1) * lead) ** power)
        for model, scale in (("FCN", 0.01), ("ConvLSTM", 0.02), ("Persistence", 0.03))
        for metric, power in (("mse", 2), ("mae", 1))
        for trajectory in range(4)
        for lead in range(1, 6)
    ]
    return pd.DataFrame(rows, columns=["process", "model", "seed", "metric", "trajectory", "lead", "value"])


def panels(figure):
    return [axes.images[0].get_array() for axes in figure.axes if axes.images]


def test_filmstrip_shows_truth_forecast_and_error(frames):
    truth, forecast = frames
    shown = panels(plot.filmstrip(truth, forecast, [1, 3, 6], "title"))
    expected = [*truth[[0, 2, 5]], *forecast[[0, 2, 5]], *(forecast - truth)[[0, 2, 5]]]
    for panel, frame in zip(shown, expected, strict=True):
        np.testing.assert_array_equal(panel, frame)


def test_filmstrip_shows_the_spread_of_an_ensemble_below(frames):
    truth, forecast = frames
    spread = np.abs(forecast - truth)
    for known, rows in ((truth, 4), (None, 2)):
        shown = panels(plot.filmstrip(known, forecast, [1, 6], spread=spread))
        assert len(shown) == 2 * rows
        np.testing.assert_array_equal(shown[-2:], spread[[0, 5]])


def test_filmstrip_shares_its_colours(frames):
    truth, forecast = frames
    images = [axes.images[0] for axes in plot.filmstrip(truth, forecast, [1, 6]).axes if axes.images]
    assert len({image.get_clim() for image in images[:4]}) == 1
    assert images[0].get_clim() == (truth[[0, 5]].min(), truth[[0, 5]].max())
    low, high = images[4].get_clim()
    assert low == -high


@pytest.mark.parametrize("leads", [[0], [7], [1, 8], []])
def test_filmstrip_refuses_leads_that_are_not_there(frames, leads):
    with pytest.raises(ValueError, match="between 1 and the 6 frames"):
        plot.filmstrip(*frames, leads)


def test_diverged_and_constant_frames_can_be_drawn(frames, tmp_path):
    forecast = frames[1].copy()
    forecast[3:] = np.nan
    figure = plot.filmstrip(frames[0], forecast, [1, 6])
    images = [axes.images[0] for axes in figure.axes if axes.images]
    low, high = frames[0][[0, 5]].min(), frames[0][[0, 5]].max()
    # What is not finite is grey, and changes neither the colours of the rest nor the error's.
    assert [image.get_clim() for image in images[:4]] == [(low, high)] * 4
    largest = np.abs(forecast[0] - frames[0][0]).max()
    assert images[4].get_clim() == pytest.approx((-largest, largest))
    colours = images[3].to_rgba(images[3].get_array())
    np.testing.assert_allclose(colours[..., :3], 0xB0 / 255, atol=1e-3)
    assert (images[2].to_rgba(images[2].get_array())[..., 0] != colours[..., 0]).any()
    assert imageio.imread(plot.save(figure, tmp_path / "diverged.png")).shape[1] >= 500
    flat = np.ones_like(forecast)
    for name, figure in {"flat": plot.filmstrip(flat, flat, [1]), "preview": plot.preview(flat, np.arange(6))}.items():
        limits = [axes.images[0].get_clim() for axes in figure.axes if axes.images]
        assert all(np.isfinite(limits).all() and low <= high for low, high in limits)
        assert imageio.imread(plot.save(figure, tmp_path / f"{name}.png")).shape[1] >= 200


def test_preview_draws_a_row_for_each_trajectory(frames):
    rows = [np.concatenate([field, field]) for field in frames]
    assert len(panels(plot.preview(rows, np.arange(12) * 0.5, "two"))) == 2 * 8
    assert len(panels(plot.preview(frames[0], np.arange(6)))) == 6


@pytest.mark.parametrize("horizon", [1, 2, 9, 10, 24, 90, 91, 1000])
def test_spread_leads(horizon):
    leads = plot.spread_leads(horizon)
    assert leads == sorted(set(leads))
    assert (leads[0], leads[-1]) == (1, horizon)
    assert len(leads) <= 8


def test_spread_leads_are_round():
    assert plot.spread_leads(90) == [1, 15, 30, 45, 60, 75, 90]


def test_error_against_lead_draws_roots_of_means(table):
    (axes,) = plot.error_against_lead(table, "rmse").axes
    lines = {line.get_label(): line for line in axes.lines}
    assert set(lines) == {"FCN", "ConvLSTM", "Persistence"}
    # root of the mean of (0.01 (trajectory + 1) lead)^2 over trajectories 0 to 3
    np.testing.assert_allclose(lines["FCN"].get_ydata(), 0.01 * np.sqrt(7.5) * np.arange(1, 6))
    assert lines["Persistence"].get_linestyle() == "--"
    assert len(axes.collections) == 3


def test_unknown_metric_names_those_there_are(table):
    with pytest.raises(ValueError, match="'ssim', only of: mae, mse"):
        plot.error_against_lead(table, "ssim")


def test_models_keep_their_colours_when_persistence_joins():
    alone = plot.model_styles(["FCN", "ConvLSTM"])
    assert plot.model_styles(["Persistence", "ConvLSTM", "FCN"]) == alone


def test_animation_has_a_picture_for_each_frame(frames, tmp_path):
    path = plot.animation(*frames, tmp_path / "new" / "movie.gif")
    assert imageio.imread(path).shape[0] == 6
    assert [file.name for file in path.parent.iterdir()] == ["movie.gif"]


def test_save_writes_one_file_and_returns_its_path(table, tmp_path):
    figure = plot.error_against_lead(table, "mae")
    path = plot.save(figure, str(tmp_path / "new" / "mae.png"))
    plot.save(figure, path)
    assert [file.name for file in (tmp_path / "new").iterdir()] == ["mae.png"]
    assert imageio.imread(path).shape[1] >= 1000


def test_pyplot_is_left_alone(table):
    before = dict(matplotlib.rcParams)
    plot.error_against_lead(table, "mae")
    assert pyplot.get_fignums() == []
    assert dict(matplotlib.rcParams) == before
