"""Spinodal statistics: closed forms, energies by hand, and forecasts with known faults in the order that physics asks for."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from microevo.metrics import (
    correlation,
    measure,
    measure_errors,
    particle_quantities,
    spinodal_quantities,
    squared_error,
)
from microevo.processes import Grid, RegularSolution, SpinodalDecomposition, simulate
from microevo.processes.image_energy import image_free_energy
from microevo.processes.process import trajectory_generator

PROCESS = SpinodalDecomposition(composition=0.65, first_frame=200.0, frame_interval=20.0)
QUANTITIES = spinodal_quantities((64, 64), periodic=True, energy=image_free_energy(PROCESS))
METRICS = (*QUANTITIES, *particle_quantities(periodic=True, lag=3))
PERIODIC = {quantity.name for quantity in QUANTITIES}  # statistics that a shift leaves alone
N_PAST = 4


@pytest.fixture(scope="module")
def trajectories():
    """Two mixtures with droplets, 4 past and 6 future frames."""
    frames = simulate(PROCESS, [trajectory_generator(1, i) for i in range(2)], N_PAST + 6)
    return frames[:, :N_PAST], frames[:, N_PAST:]


@pytest.fixture(scope="module")
def forecasts(trajectories):
    past, truth = trajectories
    blurred = ndimage.gaussian_filter(truth.numpy(), (0, 0, 0, 1.2, 1.2), mode="wrap")
    leads = torch.arange(1, truth.shape[1] + 1).view(1, -1, 1, 1, 1)
    return {
        "perfect": truth.clone(),
        "frozen": past[:, -1:].expand_as(truth),
        "blurred": torch.from_numpy(blurred),
        "shifted": truth.roll((20, 11), (3, 4)),
        "mean-violating": truth + 0.002 * leads,
        "reversed": torch.cat([past, truth], dim=1).flip(1)[:, : truth.shape[1]],
    }


@pytest.fixture(scope="module")
def errors(forecasts, trajectories):
    """Mean error over trajectories and leads, by forecast and metric."""
    past, truth = trajectories
    table = {}
    for name, forecast in forecasts.items():
        values = measure_errors(METRICS, forecast, truth, past) | {
            "mse": squared_error(forecast, truth),
            "decorrelation": 1 - correlation(forecast, truth),
        }
        table[name] = {metric: value.mean().item() for metric, value in values.items()}
    return table


# ------------------------------------------------------- known forecasts


def test_the_perfect_forecast_has_no_error(errors):
    laws = {"energy_rise"}  # against the law, not against the truth
    assert all(abs(error) < 1e-6 for name, error in errors["perfect"].items() if name not in laws)
    assert errors["perfect"]["energy_rise"] < 1e-7


def test_every_metric_finds_fault_with_the_frozen_forecast(errors):
    never = {
        "composition_drift",
        "energy_rise",
        "phase_fraction",
        "particle_rate_w1",
    }  # a frozen forecast keeps these laws
    for name, error in errors["frozen"].items():
        assert error > (0 if name in never else 1e-6) - 1e-12, name
    assert errors["frozen"]["energy_rise"] < 1e-9
    assert errors["frozen"]["composition_drift"] < 1e-6


def test_blur_looks_better_by_pixels_and_worse_by_structure(errors):
    blurred, frozen = errors["blurred"], errors["frozen"]
    assert blurred["mse"] < frozen["mse"]
    assert blurred["decorrelation"] < frozen["decorrelation"]
    for name in ("structure_band_4", "structure_band_5", "squared_gradient"):
        assert blurred[name] > 2 * frozen[name], name
    assert blurred["structure_band_4"] > math.log(
        5
    )  # most of it is gone; of band 5 the truth has less than pictures show
    assert blurred["composition_drift"] < 1e-6  # a blur moves matter and makes none


def test_a_shift_is_wrong_by_pixels_and_right_by_statistics(errors):
    assert errors["shifted"]["mse"] > errors["frozen"]["mse"]
    for name in PERIODIC - {"curvature_tv", "curvature_w1"}:
        assert errors["shifted"][name] < 1e-4, name
    assert errors["shifted"]["curvature_tv"] < 0.03  # samples start at other points of the contours
    assert errors["shifted"]["curvature_w1"] < 0.03 * 0.05  # and are a bin off at most
    assert errors["shifted"]["particle_area"] > errors["frozen"]["particle_area"]  # its particles are others


def test_only_the_mean_violating_forecast_drifts(errors):
    drifts = {name: table["composition_drift"] for name, table in errors.items()}
    assert drifts.pop("mean-violating") == pytest.approx(0.002 * 3.5, rel=1e-4)
    assert max(drifts.values()) < 1e-6
    assert errors["mean-violating"]["mse"] < errors["frozen"]["mse"]
    assert errors["mean-violating"]["structure_factor"] < 1e-5  # which is blind to the mean


def test_only_the_reversed_forecast_breaks_the_second_law(errors):
    rises = {name: table["energy_rise"] for name, table in errors.items()}
    backwards = rises.pop("reversed")
    assert backwards > 1e-4
    rises.pop("blurred")  # its first frame comes after a sharp one
    rises.pop("mean-violating")
    assert max(rises.values()) < backwards / 100


# ------------------------------------------------------------ statistics


def test_simulated_truth_keeps_the_laws(trajectories):
    past, truth = trajectories
    values = measure(QUANTITIES, truth, past)
    assert np.abs(values["composition_drift"]).max() < 1e-6
    assert values["energy_rise"].max() < 1e-7
    assert (np.diff(values["characteristic_length"]) > 0).mean() > 0.9
    assert (np.diff(values["particle_count"]) <= 0).mean() > 0.9


def test_the_coarsening_exponent_is_that_of_the_length(trajectories):
    past, truth = trajectories
    quantity = next(q for q in QUANTITIES if q.name == "characteristic_length")
    values = measure([quantity], truth, past)["characteristic_length"]
    assert quantity.fit is not None
    times = PROCESS.first_frame / PROCESS.frame_interval + N_PAST + np.arange(truth.shape[1])
    assert np.isnan(quantity.fit.function(values, times)).all()  # 14 to 19 is too short a time
    times = 5.0 * np.arange(1, 7)
    expected = [np.polyfit(np.log(times), np.log(row), 1)[0] for row in values]
    np.testing.assert_allclose(quantity.fit.function(values, times), expected)


def test_a_plane_wave_lies_in_one_band_and_its_power_goes_with_the_square():
    wave = 0.5 + 0.1 * torch.cos(2 * math.pi * 6 / 64 * torch.arange(64.0)).expand(1, 1, 1, 64, 64)
    bands = [f"structure_band_{i}" for i in range(1, 6)]
    values = measure(QUANTITIES, wave, wave)
    powers = [values[name].item() for name in bands]
    assert powers[2] == pytest.approx(sum(powers), rel=1e-9)  # 0.589 rad/px
    louder = 0.5 + 2 * (wave - 0.5)
    assert measure_errors(QUANTITIES, louder, wave, wave)["structure_band_3"].item() == pytest.approx(
        math.log(4), rel=1e-3
    )
    assert measure_errors(QUANTITIES, wave, louder, wave)["structure_band_3"].item() == pytest.approx(
        math.log(4), rel=1e-3
    )
    assert measure_errors(QUANTITIES, louder, wave, wave)["structure_factor"].item() == pytest.approx(3)


@pytest.mark.parametrize("periodic", [True, False])
def test_power_that_no_picture_shows_does_not_count(periodic):
    """A smooth truth has next to no power at short waves, where the slightest noise is many times as much."""
    quantities = spinodal_quantities((64, 64), periodic=periodic)
    wave = torch.cos(2 * math.pi * 2 / 64 * (torch.arange(64.0, dtype=torch.float64) + 0.5))
    truth = (0.5 + 0.3 * wave).expand(1, 1, 1, 64, 64)
    noise = torch.randn(truth.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def error(forecast: torch.Tensor) -> float:
        return measure_errors(quantities, forecast, truth, truth)["structure_band_5"].item()

    rounding = 1 / 255 / math.sqrt(12)
    assert error(truth + 0.05 * rounding * noise) < 0.01
    assert error(truth + rounding * noise) == pytest.approx(math.log(2), abs=0.1)  # as much as the rounding itself
    assert error(truth + 0.05 * noise) == pytest.approx(2 * math.log(0.05 / rounding), abs=0.1)
    assert error((255 * truth).round() / 255) < 1


def droplets(*centres: tuple[int, int], radius: float = 8.0) -> torch.Tensor:
    """One frame of dark droplets with soft edges."""
    frame = np.ones((64, 64), dtype=np.float32)
    for y, x in centres:
        dy, dx = ((np.arange(64) - centre + 32) % 64 - 32 for centre in (y, x))
        frame = np.minimum(frame, 0.5 + 0.5 * np.tanh(np.hypot(dy[:, None], dx) - radius)).astype(np.float32)
    return torch.from_numpy(frame)[None, None, None]


def test_droplets_by_hand():
    frames = droplets((0, 0), (32, 32))
    values = measure(QUANTITIES, frames, frames)
    assert values["particle_count"] == 2  # one of them in the four corners
    assert values["phase_fraction"].item() == pytest.approx(2 * math.pi * 64 / 4096, rel=0.05)  # whole pixels
    assert values["interface_length"].item() == pytest.approx(2 * 2 * math.pi * 8, rel=0.02)
    curvature = next(q for q in QUANTITIES if q.name == "curvature_tv")
    middle = np.average(curvature.bins.middles, weights=values["curvature_tv"][0, 0])
    assert middle == pytest.approx(-1 / 8, abs=0.03)


def test_a_curvature_just_across_an_edge_is_far_by_bins_and_near_by_distance():
    errors = [
        measure_errors(
            QUANTITIES, droplets((32, 32), radius=radius), droplets((32, 32), radius=5.1), droplets((32, 32))
        )
        for radius in (5.2, 10.0)
    ]
    near, far = ({name: error[name].item() for name in ("curvature_tv", "curvature_w1")} for error in errors)
    assert near["curvature_tv"] > 0.4
    assert near["curvature_w1"] < 0.03
    assert far["curvature_w1"] == pytest.approx(1 / 5.1 - 1 / 10, abs=0.02)


def test_both_distances_of_curvatures_share_one_histogram():
    frames = droplets((32, 32))[:, :, 0].double().numpy()
    tv, w1 = (next(q for q in QUANTITIES if q.name == name) for name in ("curvature_tv", "curvature_w1"))
    assert tv.statistic(frames) is w1.statistic(frames)


def test_a_forecast_without_interfaces_has_the_worst_curvatures():
    blank = torch.full((1, 1, 1, 64, 64), 0.9)
    errors = measure_errors(QUANTITIES, blank, droplets((32, 32)), blank)
    assert errors["curvature_tv"].item() == 1
    assert errors["curvature_w1"].item() == pytest.approx(1.2)
    assert measure_errors(QUANTITIES, blank, blank, blank)["curvature_w1"].item() == 0


# -------------------------------------------------------------- energies


def test_image_energy_is_the_processs_own_where_pixels_are_its_cells(trajectories):
    truth = trajectories[1]
    energies = measure(QUANTITIES, truth, truth)["free_energy"]
    for row, frames in zip(energies, truth, strict=True):
        np.testing.assert_allclose(row, PROCESS.free_energy(frames.double()).numpy() / 4096, rtol=1e-12)


def test_image_energy_of_a_regular_solution_by_hand():
    """A cosine between the walls: the mean of the density, and kappa/2 times the mean squared slope."""
    law = RegularSolution(grid=Grid(shape=(64, 64), spacing=0.5, boundary="no-flux", coarsen=2))
    k = math.pi / 32
    profile = 0.5 + 0.3 * np.cos(k * (np.arange(32) + 0.5))
    fine = np.linspace(0, 32, 200001)
    c = 0.5 + 0.3 * np.cos(k * fine)
    density = law.omega * c * (1 - c) + c * np.log(c) + (1 - c) * np.log(1 - c)
    expected = density.mean() + law.kappa / 2 * (0.3 * k) ** 2 / 2
    frames = np.broadcast_to(profile, (1, 1, 32, 32)).copy()
    assert image_free_energy(law)(frames).item() == pytest.approx(expected, rel=1e-4)
    # Any image size is weighed with the same pixels.
    assert image_free_energy(law)(np.full((1, 1, 16, 24), 0.3)).item() == pytest.approx(
        law.omega * 0.21 + 0.3 * math.log(0.3) + 0.7 * math.log(0.7)
    )


@pytest.mark.parametrize("boundary", ["periodic", "no-flux"])
@pytest.mark.parametrize("process", [SpinodalDecomposition, RegularSolution])
def test_image_energy_is_that_of_pixels_whatever_the_process_did_before(process, boundary):
    """Of images as large as the solver's grid too, whose modes have the same shape and other wave numbers."""
    grid = Grid(shape=(32, 32), spacing=0.5, boundary=boundary, coarsen=2)
    used, fresh = process(grid=grid, kappa=2.6), process(grid=grid, kappa=2.6)
    used.free_energy(used.initial([trajectory_generator(0, 0)]))
    for size in (32, 16):
        frames = np.random.default_rng(0).uniform(0.1, 0.9, (1, 2, size, size))
        np.testing.assert_array_equal(image_free_energy(used)(frames), image_free_energy(fresh)(frames))


def test_leaving_the_range_of_compositions_costs_energy():
    """Contrast beyond the pure phases, where `Omega c(1-c)` alone would reward it without end."""
    law = RegularSolution(grid=Grid(shape=(128, 128), spacing=0.5, boundary="no-flux", coarsen=2))

    def uniform(compositions: np.ndarray) -> np.ndarray:
        frames = np.broadcast_to(compositions[:, None, None, None], (len(compositions), 1, 8, 8))
        return image_free_energy(law)(frames.copy())[:, 0]

    low, high = (float(well) for well in law.wells)
    droplet = low + (high - low) * droplets((32, 32))[:, :, 0].double().numpy()
    stretched = [image_free_energy(law)(0.5 + factor * (droplet - 0.5)).item() for factor in (1, 1.1, 1.5, 3, 10, 1e4)]
    assert (np.diff(stretched) > 0).all()
    outside = np.array([-1e6, -2.0, -0.5, -0.01, 0.0])
    assert (np.diff(uniform(outside)) < 0).all()
    np.testing.assert_allclose(uniform(1 - outside), uniform(outside), rtol=1e-9)
    assert (np.diff(uniform(np.linspace(-2e-5, 4e-5, 13)), n=2) > -1e-12).all()  # convex across the logarithm's bound


def test_image_energy_with_parameters_of_each_trajectory(trajectories):
    frames = trajectories[1][:, :3, 0].double().numpy()
    varied = PROCESS.vary({"kappa": [2.0, 4.0]})
    apart = [
        image_free_energy(SpinodalDecomposition(composition=0.65, kappa=kappa))(frames[i : i + 1])
        for i, kappa in enumerate((2.0, 4.0))
    ]
    np.testing.assert_allclose(image_free_energy(PROCESS, varied)(frames), np.concatenate(apart), rtol=1e-12)
    with pytest.raises(ValueError, match="kappa for 2 trajectories, but the batch has 1"):
        image_free_energy(PROCESS, varied)(frames[:1])


# ------------------------------------------------------------- bad input


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_frames_that_are_not_finite_have_no_value(trajectories, value):
    past, truth = trajectories
    prediction = truth.clone()
    prediction[1, 2, 0, 7, 7] = value
    for name, error in measure_errors(QUANTITIES, prediction, truth, past).items():
        lost = [2, 3] if name == "energy_rise" else [2]  # which looks at the frame before, too
        assert error.isnan().nonzero().tolist() == [[1, lead] for lead in lost], name


def test_a_forecast_without_any_finite_frame_has_no_value(trajectories):
    past, truth = trajectories
    for name, error in measure_errors(METRICS, torch.full_like(truth, math.nan), truth, past).items():
        assert error.isnan().all(), name


def test_wild_forecasts_are_measured_without_a_crash(trajectories):
    past, truth = trajectories[0][:1], trajectories[1][:1, :2]
    for wild in (truth * 1e30, torch.zeros_like(truth), torch.rand_like(truth) * 1e6 - 5e5):
        for name, error in measure_errors(METRICS, wild, truth, past).items():
            assert error.shape == (1, 2), name


def test_no_value_depends_on_the_batch(trajectories, forecasts):
    past, truth = trajectories
    whole = measure_errors(METRICS, forecasts["blurred"], truth, past)
    for i in range(2):
        one = measure_errors(METRICS, forecasts["blurred"][i : i + 1], truth[i : i + 1], past[i : i + 1])
        for name, error in whole.items():
            torch.testing.assert_close(one[name][0], error[i], rtol=1e-5, atol=1e-8, equal_nan=True)
