import re
from dataclasses import replace

import numpy as np
import pytest
import torch

from microevo.data import Range
from microevo.data.sampling import Sampling
from microevo.processes import Grid, PlaneWave, RegularSolution, SpinodalDecomposition

LAW = SpinodalDecomposition(grid=Grid(shape=(16, 16)))
RANGES = {"composition": Range(low=0.4, high=0.6), "mobility": Range(low=0.5, high=2.0, log=True)}
WAVES = {
    "wavelength": Range(low=12.0, high=48.0, log=True),
    "speed": Range(low=1.5, high=4.5, share=0.5),
    "alpha": Range(low=0.003, high=0.015, log=True),
}


def test_a_value_is_that_of_its_own_generator():
    """Stores that are there must stay what they are: the rule, written down once more."""
    values = Sampling(ranges=RANGES).values(LAW, 3, 5)
    for i in range(5):
        uniform = np.random.default_rng([3, i, *b"composition"]).uniform(0.4, 0.6)
        log = np.random.default_rng([3, i, *b"mobility"]).uniform(np.log(0.5), np.log(2.0))
        assert values["composition"][i] == uniform
        assert values["mobility"][i] == np.exp(log)


@pytest.mark.parametrize(("low", "high", "log"), [(1.0, 0.5, False), (0.0, 1.0, True), (0.0, np.inf, False)])
def test_an_impossible_range_is_refused(low, high, log):
    with pytest.raises(ValueError, match="low <= high"):
        Range(low=float(low), high=float(high), log=log)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_is_a_part(share):
    with pytest.raises(ValueError, match=r"share is a part of the trajectories, from 0 to 1, but it is "):
        Range(low=0.0, high=1.0, share=share)
    with pytest.raises(ValueError, match=r"fraction_sampled is a part of the trajectories, from 0 to 1, but it is "):
        Sampling(ranges={}, fraction=share)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_same_trajectories_keep_all_values_of_the_process(share):
    n = 1000
    values = Sampling(ranges=RANGES, fraction=share).values(LAW, 0, n)
    own = {name: column == getattr(LAW, name) for name, column in values.items()}
    np.testing.assert_array_equal(own["composition"], own["mobility"])
    assert abs((~own["mobility"]).sum() - share * n) <= 4 * np.sqrt(n * share * (1 - share))
    everywhere = Sampling(ranges=RANGES).values(LAW, 0, n)
    for name, column in values.items():
        np.testing.assert_array_equal(column[~own[name]], everywhere[name][~own[name]])


@pytest.mark.slow
def test_one_parameters_share_is_its_own():
    n = 1000
    ranges = RANGES | {"mobility": Range(low=0.5, high=2.0, log=True, share=0.5)}
    values, everywhere = Sampling(ranges=ranges).values(LAW, 0, n), Sampling(ranges=RANGES).values(LAW, 0, n)
    np.testing.assert_array_equal(values["composition"], everywhere["composition"])
    sampled = values["mobility"] != LAW.mobility
    assert abs(sampled.sum() - n / 2) <= 4 * np.sqrt(n) / 2
    np.testing.assert_array_equal(values["mobility"][sampled], everywhere["mobility"][sampled])
    # The two choices are independent of each other: a quarter draws.
    quarter = Sampling(ranges=ranges, fraction=0.5).values(LAW, 0, n)["mobility"] != LAW.mobility
    assert abs(quarter.sum() - n / 4) <= 4 * np.sqrt(n * 3) / 4
    assert not (quarter & ~sampled).any()


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_neither_more_parameters_nor_more_trajectories_change_a_value(share):
    one = Sampling(ranges={"mobility": RANGES["mobility"]}, fraction=share).values(LAW, 7, 20)
    more = Sampling(ranges=RANGES | {"kappa": Range(low=2.0, high=3.0)}, fraction=share).values(LAW, 7, 50)
    np.testing.assert_array_equal(one["mobility"], more["mobility"][:20])


def test_a_recipe_without_the_new_settings_is_described_as_ever():
    assert Sampling(ranges=RANGES).described() == {
        "sample": {
            "composition": {"low": 0.4, "high": 0.6, "log": False},
            "mobility": {"low": 0.5, "high": 2.0, "log": True},
        }
    }
    assert Sampling(ranges={}).described() == {"sample": {}}
    described = Sampling(ranges=WAVES, fraction=0.5, resample=True).described()
    assert (described["fraction_sampled"], described["resample"]) == (0.5, True)
    assert described["sample"]["speed"] == {"low": 1.5, "high": 4.5, "log": False, "share": 0.5}


def test_values_that_are_refused_together_name_the_first_trajectory():
    law = PlaneWave()

    def uniform(i, name, low, high):
        return np.random.default_rng([0, i, *name.encode()]).uniform(low, high)

    sampled = [uniform(i, "speed share", 0, 1) < 0.5 for i in range(50)]
    speeds = [uniform(i, "speed", 1.5, 4.5) if sampled[i] else law.speed for i in range(50)]
    lengths = [np.exp(uniform(i, "wavelength", np.log(12), np.log(48))) for i in range(50)]
    periods = np.array(lengths) / np.array(speeds)  # undamped, which is right to 1e-4 of itself
    first = int(np.flatnonzero(periods < 5)[0])
    with pytest.raises(ValueError, match=rf"^trajectory {first} samples the values .*wavelength .*speed") as caught:
        Sampling(ranges=WAVES).values(law, 0, 50)
    message = str(caught.value)
    assert f"wavelength {lengths[first]:.6g}" in message
    assert float(re.search(r"a period of the wave has ([\d.]+) frames", message)[1]) == pytest.approx(
        periods[first], 1e-2
    )
    assert message.endswith("narrow the ranges of sample, or set resample to true")
    assert "tensor" not in message


def test_a_step_that_does_not_suit_the_sampled_values_comes_with_one_that_suits_all():
    law = RegularSolution(grid=Grid(shape=(16, 16), spacing=0.5))
    ranges = {"diffusivity": Range(low=80.0, high=115.0), "noise": Range(low=0.01, high=0.05)}
    with pytest.raises(
        ValueError, match=r"^trajectory 1 samples the values diffusivity 99.*longest is 0\.004"
    ) as caught:
        Sampling(ranges=ranges).values(law, 0, 20)
    assert "tensor" not in str(caught.value)
    step = float(re.search(r"set time_step to at most ([\d.]+); narrow the ranges", str(caught.value))[1])
    values = Sampling(ranges=ranges).values(replace(law, time_step=step), 0, 20)
    # No shorter than it has to be, and that of the fastest mixture, not of trajectory 1.
    assert step == pytest.approx(0.15 * law.kappa / values["diffusivity"].max(), rel=0.004)
    assert values["diffusivity"].max() > 1.02 * values["diffusivity"][1]


@pytest.mark.slow
def test_resampled_values_fill_what_the_process_allows():
    n = 2000
    law = PlaneWave()
    values = Sampling(ranges=WAVES, resample=True).values(law, 0, n)
    law.vary(values)  # which refuses none
    assert (values["wavelength"] / values["speed"]).min() > 4.99
    # Uniform in the part of the ranges in which a period has 5 frames: against plain rejection.
    generator = np.random.default_rng(1)
    length, speed = np.exp(generator.uniform(np.log(12), np.log(48), 10**6)), generator.uniform(1.5, 4.5, 10**6)
    length, speed = length[length / speed > 5], speed[length / speed > 5]
    sampled = values["speed"] != law.speed
    assert abs(sampled.sum() - n / 2) <= 4 * np.sqrt(n) / 2  # which are sampled does not depend on what is refused
    for name, expected in (("wavelength", length), ("speed", speed)):
        got = np.sort(values[name][sampled])
        distance = np.abs(
            np.searchsorted(np.sort(expected), got) / len(expected) - np.arange(len(got)) / len(got)
        ).max()
        assert distance < 1.95 / np.sqrt(len(got)), name  # Kolmogorov-Smirnov, 0.1 %


def test_resampling_changes_only_what_was_refused_and_does_not_depend_on_the_number():
    law = PlaneWave()
    resampled = Sampling(ranges=WAVES, resample=True).values(law, 0, 60)
    few = Sampling(ranges=WAVES, resample=True).values(law, 0, 30)
    periods = []
    for i in range(60):
        length = np.exp(np.random.default_rng([0, i, *b"wavelength"]).uniform(np.log(12), np.log(48)))
        sampled = resampled["speed"][i] != law.speed
        speed = np.random.default_rng([0, i, *b"speed"]).uniform(1.5, 4.5) if sampled else law.speed
        periods.append(length / speed)
        kept = resampled["wavelength"][i] == pytest.approx(length, rel=1e-12) and resampled["speed"][i] == speed
        assert kept == (length / speed > 5)
        assert i >= 30 or all(few[name][i] == resampled[name][i] for name in few)
    assert 0 < sum(period < 5 for period in periods) < 40


def test_ranges_that_are_refused_throughout_end_in_a_sentence():
    ranges = {"composition": Range(low=1.2, high=1.4)}
    with pytest.raises(
        ValueError, match=r"^trajectory 0 samples 1000 times in vain, at last composition 1\.\d+, which "
    ):
        Sampling(ranges=ranges, resample=True).values(LAW, 0, 3)


def test_a_value_far_behind_is_found_before_anything_is_simulated():
    """Few of several hundred break the rule that an interface has three cells."""
    law = RegularSolution(scheme="fast")
    limit = (
        law.kappa * (3 * law.grid.spacing / float(law.interface_width)) ** 2
    )  # the width goes with the root of kappa
    low = limit - 0.001
    sampled = np.array([np.random.default_rng([0, i, *b"kappa"]).uniform(low, 2.9) for i in range(600)])
    refused = np.flatnonzero(sampled < limit)
    assert 0 < refused.size < 10
    with pytest.raises(ValueError, match=rf"^trajectory {refused[0]} samples the values kappa 2\.5\d+, which Regular"):
        Sampling(ranges={"kappa": Range(low=low, high=2.9)}).values(law, 0, 600)


def test_unknown_names_are_refused_by_name():
    with pytest.raises(ValueError, match=r"PlaneWave can vary wavelength, .* not colour"):
        Sampling(ranges={"colour": Range(low=0.0, high=1.0)}, resample=True).values(PlaneWave(), 0, 3)


def test_nothing_is_sampled_of_nothing():
    assert Sampling(ranges={}).values(LAW, 0, 3) == {}
    assert [len(column) for column in Sampling(ranges=RANGES).values(LAW, 0, 0).values()] == [0, 0]
    assert torch.is_tensor(LAW.vary(Sampling(ranges=RANGES).values(LAW, 0, 2)).mobility)
