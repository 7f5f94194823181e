"""Means, intervals, comparisons and ranking."""

import numpy as np
import pytest
import scored

from microevo.benchmark.bootstrap import Samples, expanded, not_significant
from microevo.benchmark.leaderboard import RMSE, Leaderboard, undefined
from microevo.benchmark.long_table import FINITE, Block, Key
from microevo.benchmark.results import ScoreTable

MSE, MAE = Key("metric", "mse"), Key("metric", "mae")


def test_rmse_is_the_root_of_a_mean(tmp_path):
    results = scored.write(tmp_path, {("A", None): {MSE: np.array([[1.0, 4.0], [9.0, 4.0]])}})
    samples = ScoreTable(results, "p").samples(RMSE)
    assert samples.mean("A").tolist() == pytest.approx([5**0.5, 2.0])
    assert samples.interval("A").mean == pytest.approx((5**0.5 + 2) / 2)
    assert samples.interval("A", [2]).low == pytest.approx(2.0)  # all values are equal


def test_intervals_hold_the_mean_as_often_as_they_say(tmp_path):
    """Coverage of the 95 % interval, of 200 experiments with 40 trajectories each."""
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        values = generator.normal(3.0, 1.0, (1, 40, 1))
        low, high = Samples({"A": values}).band("A")[:, 0]
        held += low <= 3.0 <= high
    assert 0.89 <= held / 200 <= 0.99


def test_the_interval_is_that_of_scipy():
    from scipy.stats import bootstrap

    values = np.random.default_rng(1).gamma(2.0, size=(1, 60, 1))
    ours = Samples({"A": values}).interval("A")
    level = 1 - 2 * expanded(60)[0]
    assert level == pytest.approx(0.956, abs=0.001)  # 1 - 2 Phi(-2.001 sqrt(60 / 59)), Student's t of 59
    theirs = bootstrap(
        (values[0, :, 0],), np.mean, confidence_level=level, method="percentile", n_resamples=5000, rng=0
    )
    low, high = theirs.confidence_interval
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.03)


@pytest.mark.parametrize("trajectories", [2, 5, 6, 8, 16])
@pytest.mark.parametrize("seeds", [1, 3])
def test_equal_models_seldom_differ_significantly(trajectories, seeds):
    """Models of one and the same skill, on trajectories and with seeds that differ."""
    generator, wrong = np.random.default_rng(5), 0
    for _ in range(200):
        hard = generator.normal(3.0, 1.0, trajectories)
        models = {}
        for name in "AB":
            luck = generator.normal(0.0, 0.2, (seeds, 1)) if seeds > 1 else 0.0
            models[name] = (hard + luck + generator.normal(0.0, 0.3, (seeds, trajectories)))[..., None]
        wrong += not_significant(Samples(models)) == []
    assert wrong / 200 <= (0.09 if trajectories >= 6 else 0.0)


def test_models_are_compared_on_the_same_trajectories():
    """Two models that differ little, on trajectories that differ a lot: apart when paired, not when taken alone."""
    generator = np.random.default_rng(2)
    hard = generator.gamma(2.0, size=(1, 30, 1))
    samples = Samples({"A": hard, "B": hard + 0.05 + generator.normal(0, 0.01, hard.shape), "C": hard.copy()})
    assert samples.interval("A").high > samples.interval("B").low
    assert not_significant(samples) == [("A", "C")]
    assert samples.difference("B", "A").mean == pytest.approx(0.05, abs=0.01)


def test_few_seeds_widen_the_interval():
    one = np.random.default_rng(3).normal(1.0, 0.01, (1, 50, 1))
    alone = Samples({"A": one}).interval("A")
    several = Samples({"A": np.concatenate([one - 0.3, one, one + 0.3])}).interval("A")
    assert alone.high - alone.low < 0.02
    assert several.high - several.low > 0.3


def test_windows_of_one_trajectory_count_once(tmp_path):
    results = scored.write(tmp_path, {("A", None): {MAE: np.array([[1.0], [3.0]])}}, windows=[(7, 0), (7, 5)])
    assert ScoreTable(results, "p").samples(MAE).values["A"].tolist() == [[[2.0]]]


@pytest.mark.slow
def test_windows_cut_from_one_simulation_are_resampled_together(tmp_path):
    """Coverage of the 95 % interval, of 200 experiments with 30 simulations that were cut in 2 to 6 alike windows."""
    generator = np.random.default_rng(4)
    held = {"together": 0, "apart": 0}
    for _ in range(200):
        sizes = generator.integers(2, 7, 30)
        groups = np.repeat(np.arange(30), sizes)
        values = generator.normal(3.0, 1.0, 30)[groups] + generator.normal(0.0, 0.1, len(groups))
        for name, given in (("together", tuple(groups.tolist())), ("apart", None)):
            samples = Samples({"A": values[None, :, None]}, given)
            low, high = samples.band("A")[:, 0]
            held[name] += low <= 3.0 <= high
            assert samples.mean("A")[0] == pytest.approx(values.mean())
    assert 0.88 <= held["together"] / 200 <= 0.99
    assert held["apart"] / 200 < 0.8

    scores = {("A", None): {MSE: np.array([[1.0], [2.0], [6.0]])}}
    results = scored.write(tmp_path / "two", scores, groups=[(0, 5), (1, 5), (2, 3)], horizon=1)
    read = ScoreTable(results, "p").samples(MSE)
    assert (read.groups, read.independent) == ((5, 5, 3), 2)
    results = scored.write(tmp_path / "one", scores, groups=[(0, 0), (1, 0), (2, 0)], horizon=1)
    one = Leaderboard.of("p", ScoreTable(results, "p"), [1]).summary()
    one = one[one.name == "rmse"]
    assert set(one.trajectories) == {1}
    assert one.low.equals(one.high)
    assert one["mean"].tolist() == pytest.approx([3**0.5] * 2)


def test_forecasts_that_are_not_finite_are_counted_and_never_averaged_away(tmp_path):
    values = np.full((4, 3), 0.25)
    values[1, 2] = np.nan
    scores = {("Persistence", None): {MSE: np.ones((4, 3))}, ("A", None): {MSE: values}}
    table = ScoreTable(scored.write(tmp_path, scores, horizon=3), "p")
    samples = table.samples(RMSE)
    assert np.isnan(samples.mean("A")).tolist() == [False, False, True]
    assert {name: table.non_finite(name) for name in table.names} == {"A": 1, "Persistence": 0}
    assert not_significant(samples) == []  # nothing can be said of a model without a mean
    board = Leaderboard.of("p", table, [1, 3, 90])
    assert [one.name for one in board.standings] == ["A", "Persistence"]
    summary = board.summary()
    rows = summary[summary.name == "rmse"].set_index(["competitor", "statistic", "lead"])
    assert rows.loc[("A", "at lead", 1), "mean"].item() == 0.5
    means = summary[(summary.name == "rmse") & (summary.statistic == "mean over leads")].set_index("competitor")
    assert np.isnan(means.loc["A", "mean"])
    assert means["lead"].isna().all()
    assert rows.loc[("A", "at lead", 3), "non_finite"].item() == 1
    assert set(summary["lead"].dropna()) == {1, 3}
    assert rows.index[-1][0] == "Persistence"


def test_the_skill_score_is_that_over_persistence(tmp_path):
    mse = {"A": 0.04, "B": 4.0, "Persistence": 1.0}
    scores = {(name, None): {MSE: np.full((4, 2), value)} for name, value in mse.items()}
    board = Leaderboard.of("p", ScoreTable(scored.write(tmp_path, scores, horizon=2), "p"), [1])
    assert {one.name: one.skill for one in board.standings} == {
        "A": pytest.approx(0.8),
        "B": pytest.approx(-1.0),
        "Persistence": None,
    }


def test_competitors_with_other_windows_are_left_out(tmp_path):
    scores = {("A", None): {MSE: np.ones((3, 2))}, ("B", 1): {MSE: np.ones((3, 2))}}
    results = scored.write(tmp_path, scores)
    scored.add(results, "p", "B-seed1", "B", 1, {MSE: Block(np.ones((2, 2)), np.array([1, 2]))}, [(0, 0), (2, 0)])
    table = ScoreTable(results, "p")
    assert table.names == ["A"]
    assert table.incomplete == {"B-seed1": 2}


def test_what_is_not_defined_for_the_truth_is_said_once(tmp_path):
    """Three trajectories: of the first nobody has an exponent, and of the second one model lacks it."""
    nan = np.nan
    exponent = {"Truth": [nan, 1, 1], "A": [nan, nan, 1], "B": [nan, 1, nan]}
    scores = {}
    for name, values in exponent.items():
        blocks = {Key("fit", "exponent_of_length"): Block(np.reshape(values, (3, 1)))}
        if name != "Truth":
            blocks[Key("quantity_error", "length")] = Block(np.zeros((3, 1)), np.array([1]))
        # B's third forecast is not finite, which is counted elsewhere
        finite = np.array([[1], [1], [0.0 if name == "B" else 1.0]])
        scores[name, None] = blocks | {FINITE: Block(finite, np.array([1]))}
    quantity = {
        "name": "length",
        "title": "length",
        "error_title": "length",
        "unit": "px",
        "error_unit": "px",
        "values": True,
        "fit": {"name": "exponent_of_length", "unit": "1"},
    }
    results = scored.write(tmp_path, scores, horizon=1, quantities=[quantity])
    assert undefined(ScoreTable(results, "p")) == {"exponent of length": {"Truth": 1, "A": 1}}
