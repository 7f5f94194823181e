"""Means, intervals and comparisons of the long table."""

import json

import numpy as np
import pandas as pd
import pytest

from microevo.benchmark.long_table import Block, LongTable
from microevo.benchmark.summary import (
    Column,
    Curves,
    diverged,
    expanded,
    leaderboard,
    not_told_apart,
    undefined,
)

SAME = {"process": "noise", "protocol": "p", "git": "abc", "data": "0123"}


def fill(table: LongTable, model: str, values: np.ndarray, seed: int | None = None, metric: str = "mse") -> None:
    label = model if seed is None else f"{model}-seed{seed}"
    if not table.group("p", label).exists():
        table.begin("p", label, {"protocol": "p", "fingerprint": "x", "scores": []})
    number = len(list(table.group("p", label).glob("*.parquet")))
    leads = np.arange(1, values.shape[1] + 1)
    trajectories = list(range(len(values)))
    table.write(
        table.part("p", label, number),
        {metric: Block(values, leads), "finite": Block(np.isfinite(values).astype(float), leads)},
        trajectories=trajectories,
        starts=[0] * len(values),
        model=model,
        seed=seed,
        **SAME,
    )


@pytest.fixture
def table(tmp_path):
    return LongTable(tmp_path / "table")


def test_pandas_reads_the_folder_as_one_table(table):
    fill(table, "A", np.ones((3, 2)))
    fill(table, "B", np.zeros((3, 2)), seed=4)
    whole = pd.read_parquet(table.folder)
    assert len(whole) == 2 * 2 * 3 * 2
    assert set(whole.columns) == {
        *("process", "model", "seed", "protocol", "metric", "trajectory", "start", "lead", "value", "git", "data")
    }
    assert set(whole[whole.model == "B"].seed) == {4}
    assert len(table.read(model="A", metric="mse")) == 6
    assert table.read(model="nobody").empty


def test_rmse_is_the_root_of_a_mean(table):
    fill(table, "A", np.array([[1.0, 4.0], [9.0, 4.0]]))
    curves = Curves.read(table, "p", "rmse")
    assert curves.mean("A").tolist() == pytest.approx([5**0.5, 2.0])
    assert curves.interval("A").mean == pytest.approx((5**0.5 + 2) / 2)
    assert curves.interval("A", [2]).low == pytest.approx(2.0)  # nothing to draw from


def test_intervals_hold_the_mean_as_often_as_they_say(tmp_path):
    """Coverage of the 95 % interval, of 200 experiments with 40 trajectories each."""
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        values = generator.normal(3.0, 1.0, (1, 40, 1))
        low, high = Curves("mae", {"A": values}).band("A")[:, 0]
        held += low <= 3.0 <= high
    assert 0.89 <= held / 200 <= 0.99


def test_the_interval_is_that_of_scipy():
    from scipy.stats import bootstrap

    values = np.random.default_rng(1).gamma(2.0, size=(1, 60, 1))
    ours = Curves("mae", {"A": values}).interval("A")
    level = 1 - 2 * expanded(60)[0]
    assert level == pytest.approx(0.956, abs=0.001)  # 1 - 2 Phi(-2.001 sqrt(60 / 59)), Student's t of 59
    theirs = bootstrap(
        (values[0, :, 0],), np.mean, confidence_level=level, method="percentile", n_resamples=5000, rng=0
    )
    low, high = theirs.confidence_interval
    assert (ours.low, ours.high) == pytest.approx((low, high), abs=0.03)


@pytest.mark.parametrize("trajectories", [2, 5, 6, 8, 16])
@pytest.mark.parametrize("seeds", [1, 3])
def test_equal_models_are_seldom_told_apart(trajectories, seeds):
    """Models of one and the same skill, on trajectories and with seeds that differ."""
    generator, wrong = np.random.default_rng(5), 0
    for _ in range(200):
        hard = generator.normal(3.0, 1.0, trajectories)
        models = {}
        for name in "AB":
            luck = generator.normal(0.0, 0.2, (seeds, 1)) if seeds > 1 else 0.0
            models[name] = (hard + luck + generator.normal(0.0, 0.3, (seeds, trajectories)))[..., None]
        wrong += not_told_apart(Curves("mae", models)) == []
    assert wrong / 200 <= (0.09 if trajectories >= 6 else 0.0)


def test_models_are_compared_on_the_same_trajectories():
    """Two models that differ little, on trajectories that differ a lot: apart when paired, not when taken alone."""
    generator = np.random.default_rng(2)
    hard = generator.gamma(2.0, size=(1, 30, 1))
    curves = Curves("mae", {"A": hard, "B": hard + 0.05 + generator.normal(0, 0.01, hard.shape), "C": hard.copy()})
    assert curves.interval("A").high > curves.interval("B").low
    assert not_told_apart(curves) == [("A", "C")]
    assert curves.difference("B", "A").mean == pytest.approx(0.05, abs=0.01)


def test_few_seeds_widen_the_interval():
    one = np.random.default_rng(3).normal(1.0, 0.01, (1, 50, 1))
    alone = Curves("mae", {"A": one}).interval("A")
    several = Curves("mae", {"A": np.concatenate([one - 0.3, one, one + 0.3])}).interval("A")
    assert alone.high - alone.low < 0.02
    assert several.high - several.low > 0.3


def test_windows_of_one_trajectory_count_once(table):
    values = np.array([[1.0], [3.0]])
    table.begin("p", "A", {"protocol": "p", "fingerprint": "x", "scores": []})
    table.write(
        table.part("p", "A", 0), {"mae": Block(values, np.array([1]))}, trajectories=[7, 7], starts=[0, 5], model="A",
        seed=None, **SAME,
    )  # fmt: skip
    assert Curves.read(table, "p", "mae").models["A"].tolist() == [[[2.0]]]


def test_windows_cut_from_one_simulation_are_drawn_together(table):
    """Coverage of the 95 % interval, of 200 experiments with 30 simulations that were cut in 2 to 6 alike windows."""
    generator = np.random.default_rng(4)
    held = {"together": 0, "apart": 0}
    for _ in range(200):
        sizes = generator.integers(2, 7, 30)
        groups = np.repeat(np.arange(30), sizes)
        values = generator.normal(3.0, 1.0, 30)[groups] + generator.normal(0.0, 0.1, len(groups))
        for name, given in (("together", tuple(groups.tolist())), ("apart", None)):
            curves = Curves("mae", {"A": values[None, :, None]}, given)
            low, high = curves.band("A")[:, 0]
            held[name] += low <= 3.0 <= high
            assert curves.mean("A")[0] == pytest.approx(values.mean())
    assert 0.88 <= held["together"] / 200 <= 0.99
    assert held["apart"] / 200 < 0.8

    fill(table, "A", np.array([[1.0], [2.0], [6.0]]))
    read = Curves.read(table, "p", "mse", {0: 5, 1: 5, 2: 3})
    assert (read.groups, read.independent) == ((5, 5, 3), 2)
    one = leaderboard(table, "p", 1, [1], [Column("rmse", "RMSE")], {0: 0, 1: 0, 2: 0})
    assert set(one.trajectories) == {1}
    assert one.low.equals(one.high)
    assert one["mean"].tolist() == pytest.approx([3**0.5] * 2)


def test_forecasts_that_are_not_finite_are_counted_and_never_averaged_away(table):
    values = np.full((4, 3), 0.25)
    values[1, 2] = np.nan
    fill(table, "A", values)
    fill(table, "Persistence", np.ones((4, 3)))
    curves = Curves.read(table, "p", "rmse")
    assert np.isnan(curves.mean("A")).tolist() == [False, False, True]
    assert diverged(table, "p").to_dict() == {"A": 1, "Persistence": 0}
    assert not_told_apart(curves) == []  # nothing can be said of a model without a mean
    board = leaderboard(table, "p", 3, [1, 3, 90], [Column("rmse", "RMSE")]).set_index(["model", "lead"])
    assert board.loc[("A", 1), "mean"] == 0.5
    assert np.isnan(board.loc[("A", 0), "mean"])
    assert board.loc[("A", 3), "diverged"] == 1
    assert set(board.index.get_level_values("lead")) == {0, 1, 3}
    assert board.index[-1][0] == "Persistence"


def test_other_trajectories_are_not_compared(table):
    fill(table, "A", np.ones((3, 2)))
    fill(table, "B", np.ones((2, 2)))
    with pytest.raises(ValueError, match="B was scored on other trajectories or leads of p than the rest"):
        Curves.read(table, "p", "mse")


def test_results_of_other_settings_are_kept(table):
    about = {"protocol": {"digest": "1"}, "fingerprint": "weights", "scores": ["mse"]}
    table.begin("p", "A", about)
    table.begin("p", "A", about)
    for name, value, said in (
        ("protocol", {"digest": "2"}, "settings of the protocol or data"),
        ("fingerprint", "others", "weights or predictions"),
        ("scores", ["mae"], "metrics, or leads of curves"),
    ):
        with pytest.raises(FileExistsError, match=f"made with other {said}; use --overwrite"):
            table.begin("p", "A", about | {name: value})
    assert json.loads((table.group("p", "A") / "_about.json").read_text()) == about


def test_no_two_names_share_a_folder(table):
    names = ["a->b", "a-to-b", "a-%3eb", "a b", "a%20b", "a/b", "a_b"]
    assert len({table.group(name, "A") for name in names}) == len(names)
    assert table.group("10->90", "A").parent.name == "10-to-90"


def test_an_empty_folder_is_no_table(table):
    with pytest.raises(FileNotFoundError, match=r"no results in .*; run the benchmark first"):
        table.read(protocol="p")


def test_what_the_truth_has_not_got_is_said_once():
    """Three trajectories: of the first nobody has an exponent, and of the second one model lacks it."""
    nan = np.nan
    values = {
        "finite": {name: np.ones((1, 3, 1)) for name in ("Truth", "A", "B")},
        "length error": {name: np.zeros((1, 3, 1)) for name in "AB"},
        "exponent_of_length": {"Truth": [nan, 1, 1], "A": [nan, nan, 1], "B": [nan, 1, nan]},
    }
    values["finite"]["B"][0, 2] = 0  # B's third forecast is not finite, which is counted elsewhere

    def curves_of(metric):
        return Curves(metric, {model: np.reshape(own, (1, 3, 1)) for model, own in values.get(metric, {}).items()})

    quantity = {"name": "length", "long_name": "length", "fit": {"name": "exponent_of_length"}}
    assert undefined([quantity], curves_of) == {"exponent of length": {"Truth": 1, "A": 1}}
