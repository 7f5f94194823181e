"""Scores of ensembles: closed forms, an integral, and members that are exchangeable with the truth."""

import math

import numpy as np
import pytest
import torch

from microevo.metrics import absolute_error, crps, spread, spread_skill, squared_error, squared_spread
from microevo.metrics.ensemble import mean_spread
from microevo.metrics.lead import LeadMetric
from microevo.metrics.registry import metric


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_crps_is_the_integral_of_the_squared_difference_of_two_distribution_functions():
    members, target = normal(3, 1, 2, 2, 2, 2), normal(1, 2, 2, 2, 2, seed=1)
    x = torch.linspace(-5, 5, 20001, dtype=torch.float64)[:, None, None, None, None, None]
    share = (members <= x[:, None]).double().mean(dim=1)
    integral = ((share - (target <= x).double()) ** 2).sum(dim=0) * (x[1] - x[0]).item()
    torch.testing.assert_close(crps(members, target).double(), integral.mean(dim=(2, 3, 4)), atol=1e-3, rtol=0)


def test_crps_of_a_normal_distribution():
    """Gneiting & Raftery (2007): sigma (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)); of its quantiles nearly the same."""
    mean, sigma, truth = 0.3, 0.5, 0.7
    z = (truth - mean) / sigma
    phi, cdf = math.exp(-(z**2) / 2) / math.sqrt(2 * math.pi), (1 + math.erf(z / math.sqrt(2))) / 2
    expected = sigma * (z * (2 * cdf - 1) + 2 * phi - 1 / math.sqrt(math.pi))
    quantiles = mean + sigma * torch.special.ndtri((torch.arange(400, dtype=torch.float64) + 0.5) / 400)
    value = crps(quantiles.reshape(-1, 1, 1, 1, 1, 1), torch.full((1, 1, 1, 1, 1), truth))
    assert value.item() == pytest.approx(expected, rel=1e-3)


def test_members_that_agree_have_the_crps_of_a_single_forecast_and_no_spread():
    forecast, target = normal(2, 3, 2, 4, 5), normal(2, 3, 2, 4, 5, seed=1)
    members = forecast.expand(4, *forecast.shape)
    torch.testing.assert_close(crps(members, target), absolute_error(forecast, target))
    assert float(squared_spread(members, target).max()) < 1e-12


@pytest.mark.parametrize("count", [2, 3, 10])
def test_the_spread_is_the_error_where_the_truth_is_one_more_member(count):
    """For any number of members, and whatever they have in common."""
    common = normal(1, 200, 2, 1, 8, 8, seed=7)
    everything = common + torch.tensor([0.1, 0.4])[:, None, None, None] * normal(count + 1, 200, 2, 1, 8, 8)
    members, truth = everything[1:], everything[0]
    squared = squared_spread(members, truth).mean(dim=0).numpy()
    ratio = spread_skill(squared, squared_error(members.mean(dim=0), truth).mean(dim=0).numpy())
    np.testing.assert_allclose(ratio, 1, atol=0.02)
    np.testing.assert_allclose(mean_spread(squared), math.sqrt(1 + 1 / count) * np.array([0.1, 0.4]), rtol=0.02)


def test_spread_by_hand():
    """Members 0 and 2: their standard deviation is sqrt(2), and sqrt(3 / 2) of that sqrt(3)."""
    members = torch.tensor([0.0, 2.0]).reshape(2, 1, 1, 1, 1, 1)
    assert spread(members).item() == pytest.approx(math.sqrt(3))
    assert spread_skill(np.array([3.0, 0.0]), np.array([12.0, 1.0])).tolist() == [0.5, 0.0]
    assert np.isinf(spread_skill(np.ones(1), np.zeros(1))).all()


def test_scores_of_ensembles_are_not_scores_of_single_forecasts():
    for name in ("crps", "spread"):
        with pytest.raises(ValueError, match=r"there is no metric \w+ of frames"):
            LeadMetric(name, 3)
    with pytest.raises(ValueError, match="one of frames or of an ensemble has none"):
        metric(title="x", name="x", of="ensemble", source="mse")(crps)
