"""Costs: counts known by hand, and nothing changed by measuring."""

import time

import pytest
import torch
from torch import nn

from microevo.benchmark.cost import measure_cost, measure_seconds, multiply_adds, parameters, peak_memory


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


def test_seconds_are_seconds(past):
    seconds = measure_seconds({"nap": lambda past, horizon: time.sleep(0.02)}, past, 1, repeats=2, progress=False)
    assert all(0.02 <= value < 0.2 for value in seconds["nap"])


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


def test_cost_table_has_one_row_per_model(past):
    cost = measure_cost({"small": Last(2), "large": Last()}, past, horizon=2, repeats=1, warmup=0)
    assert list(cost["model"]) == ["small", "large"]
    assert list(cost["parameters"]) == [20, 38]
    assert (cost["batch_size"] == 3).all()
    assert cost["device"].str.contains("CPU").all()
