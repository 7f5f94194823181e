"""Costs: counts known by hand, and nothing changed by measuring."""

import math
import time

import pytest
import torch
from torch import nn

from microevo.benchmark import cost
from microevo.benchmark.cost import (
    forecast_rmse,
    mean_rmse,
    measure_cost,
    measure_seconds,
    measure_throughput,
    multiply_adds,
    parameters,
    peak_memory,
)


class Last(nn.Module):
    """A tiny forecaster: one convolution of the last frame, again and again, and dropout to tell the mode."""

    def __init__(self, groups=1):
        super().__init__()
        self.mix = nn.Conv2d(2, 2, 3, padding=1, groups=groups)
        self.drop = nn.Dropout(0.5)
        self.modes = []

    def forward(self, past, horizon):
        self.modes.append((self.training, torch.is_grad_enabled()))
        frames = [past[:, -1]]
        for _ in range(horizon):
            frames.append(self.drop(self.mix(frames[-1])))
        return torch.stack(frames[1:], dim=1)


@pytest.fixture
def past():
    return torch.rand(3, 4, 2, 8, 6)


def test_parameters_include_frozen_ones():
    net = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    net[0].requires_grad_(False)
    assert parameters(net) == 3 * 4 + 4 + 2 * 4


@pytest.mark.parametrize(("groups", "per_pixel"), [(1, 2 * 2 * 9), (2, 2 * 9)])
def test_multiply_adds_are_those_of_one_trajectory(past, groups, per_pixel):
    assert multiply_adds(Last(groups), past, horizon=5) == 5 * 8 * 6 * per_pixel


def test_peak_memory_counts_what_is_alive_at_once():
    def forecast(past, horizon):
        first = past + 1
        second = first * 2  # two alive
        del first
        third = second + 1  # still two
        third.mul_(2)
        return third.view(-1)

    past = torch.zeros(1, 1, 1, 500, 500)
    memory = peak_memory(forecast, past, horizon=1)
    assert memory.megabytes == pytest.approx(3.0)  # the past itself, and two of its size
    assert memory.method == "live tensors"


def test_peak_memory_counts_weights_once(past):
    net = nn.Linear(500, 500)
    net.forward = lambda past, horizon: net.weight.view(-1)  # a view is no new memory
    assert peak_memory(net, past, horizon=1).megabytes * 1e6 == 4 * (500 * 500 + 500) + past.nbytes


@pytest.mark.gpu
def test_peak_memory_on_cuda_ignores_other_models(past):
    other = torch.zeros(10_000_000, device="cuda")
    memory = peak_memory(Last().cuda(), past.cuda(), horizon=2)
    assert memory.method == "CUDA allocator"
    assert memory.megabytes < other.nbytes / 1e6


def test_seconds_are_measured_in_turn(past):
    calls = []

    def named(name):
        return lambda past, horizon: calls.append(name) or past

    seconds = measure_seconds({"A": named("A"), "B": named("B")}, past, horizon=1, repeats=3, warmup=1, progress=False)
    assert calls == ["A", "B"] * 4
    assert {name: len(values) for name, values in seconds.items()} == {"A": 3, "B": 3}


def test_seconds_are_seconds(past, monkeypatch):
    """By a clock of our own, since a busy machine may sleep longer than it was told to."""
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])

    def nap(past, horizon):
        now[0] += 0.5

    seconds = measure_seconds({"nap": nap}, past, 1, repeats=2, warmup=1, progress=False)
    assert seconds == {"nap": [0.5, 0.5]}


def test_no_repeats_is_refused(past):
    with pytest.raises(ValueError, match="repeats must be at least 1"):
        measure_seconds({"A": Last()}, past, horizon=1, repeats=0)


def test_measuring_uses_eval_mode_and_restores_every_submodule(past):
    net = Last().train()
    net.drop.eval()
    multiply_adds(net, past, 2)
    peak_memory(net, past, 2)
    measure_seconds({"net": net}, past, 2, repeats=1, progress=False)
    assert set(net.modes) == {(False, False)}
    assert (net.training, net.mix.training, net.drop.training) == (True, True, False)


class Trained(Last):
    """One with a training loss."""

    def loss(self, past, future):
        return (self(past, future.shape[1]) - future).square().mean()


def windows(size):
    return torch.rand(size, 4, 2, 8, 6), torch.rand(size, 6, 2, 8, 6)


def test_cost_table_has_one_row_per_model():
    forecasters = {"small": Trained(2), "large": Last(), "solver": lambda past, horizon: past[:, -1:]}
    weights = forecasters["small"].mix.weight.clone()
    table = measure_cost(forecasters, windows, repeats=1, warmup=0, largest_batch=4).set_index("competitor")
    assert list(table.index) == ["small", "large", "solver"]
    assert list(table["parameters"][:2]) == [20, 38]
    assert list(table["multiply_adds"][:2]) == [6 * 8 * 6 * 2 * 9, 6 * 8 * 6 * 2 * 2 * 9]
    assert list(table["multiply_adds_block"][:2]) == [4 * 8 * 6 * 2 * 9, 4 * 8 * 6 * 2 * 2 * 9]
    assert table["device"].str.contains("CPU").all()
    assert table["best_batch"].isin([1, 2, 4]).all()
    assert (table["forecasts_per_second"] > 0).all()
    assert table["training_seconds"].notna().tolist() == [True, False, False]
    assert table.loc["solver", ["parameters", "multiply_adds"]].isna().all()
    assert torch.equal(forecasters["small"].mix.weight, weights)  # a copy was trained


def test_every_row_has_the_device_that_it_ran_on():
    class Elsewhere:
        device = torch.device("meta")

        def __init__(self):
            self.shown = []

        def __call__(self, past, horizon):
            self.shown.append(past.device.type)
            return past

    elsewhere = Elsewhere()
    forecasters = {"here": Last(), "elsewhere": elsewhere}
    table = measure_cost(forecasters, windows, repeats=1, warmup=0, largest_batch=1).set_index("competitor")
    assert "CPU" in table.device["here"]
    assert table.device["elsewhere"] == "meta"
    assert elsewhere.shown[-1] == "meta"  # its memory is that of its own device


def test_mean_rmse_is_a_root_at_each_lead():
    future = torch.zeros(2, 2, 1, 4, 4)
    forecast = future.clone()
    forecast[0, 0], forecast[1, 0], forecast[:, 1] = 3.0, 4.0, 1.0
    assert mean_rmse(forecast, future) == pytest.approx((12.5**0.5 + 1.0) / 2)
    forecast[0, 0, 0, 0, 0] = torch.nan
    assert not math.isfinite(mean_rmse(forecast, future))


def test_the_error_of_a_forecaster_is_found_window_by_window():
    shown = []

    def repeat(past, horizon):
        shown.append(len(past))
        return past[:, -1:].repeat(1, horizon, 1, 1, 1)

    past = torch.zeros(2, 4, 1, 4, 4)
    past[1, -1] = 2.0
    assert forecast_rmse(repeat, past, torch.zeros(2, 3, 1, 4, 4)) == pytest.approx(2**0.5)
    assert shown == [1, 1]


def test_throughput_stops_where_larger_batches_gain_nothing(monkeypatch):
    sizes = []

    def seconds(running, past, *_, **__):  # as long for one window as for four
        sizes.append(len(past))
        return {name: [0.004 * max(1.0, len(past) / 4)] for name in running}

    monkeypatch.setattr(cost, "measure_seconds", seconds)
    best = measure_throughput({"A": lambda past, horizon: past}, lambda size: windows(size)[0], 1)
    assert best == {"A": (1000.0, 4)}
    assert sizes == [1, 2, 4, 8]
