import math

import numpy as np
import optuna
import pytest

from microevo.sweep.space import flat, read_space


@pytest.fixture
def suggested():
    """What a random search suggests for one parameter."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)

    def sample(parameter: dict, method: str = "random", count: int = 150) -> list:
        space = read_space({"x": parameter}, method)
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
        return [space.settings(study.ask())["x"] for _ in range(count)]

    return sample


@pytest.mark.parametrize(
    ("parameter", "low", "median", "high"),
    [
        ({"min": 1.0, "max": 3.0}, 1, 2, 3),
        ({"distribution": "uniform", "min": 0, "max": 4}, 0, 2, 4),
        ({"distribution": "log_uniform_values", "min": "1e-4", "max": 1.0}, 1e-4, 1e-2, 1),
        ({"distribution": "inv_log_uniform_values", "min": 1e-4, "max": 1.0}, 1e-4, 1e-2, 1),
        ({"distribution": "log_uniform", "min": -2, "max": 2}, math.exp(-2), 1, math.exp(2)),
        ({"distribution": "inv_log_uniform", "min": 0, "max": 4}, math.exp(-4), math.exp(-2), 1),
        ({"distribution": "normal"}, -5, 0, 5),
        ({"distribution": "normal", "mu": 100, "sigma": 10}, 50, 100, 150),
        ({"distribution": "log_normal", "mu": 1, "sigma": 0.1}, math.exp(0.5), math.e, math.exp(1.5)),
    ],
)
def test_a_range_has_the_ends_and_the_median_that_wandb_documents(suggested, parameter, low, median, high):
    values = suggested(parameter)
    assert all(isinstance(value, float) and low <= value <= high for value in values)
    below = np.mean(np.array(values) < median)
    assert 0.38 < below < 0.62  # three standard deviations of 150 coins


@pytest.mark.parametrize(
    ("parameter", "values"),
    [
        ({"min": 1, "max": 3}, {1, 2, 3}),
        ({"distribution": "int_uniform", "min": 4, "max": 5}, {4, 5}),
        ({"distribution": "q_uniform", "min": 0, "max": 8, "q": 4}, {0, 4, 8}),
        ({"distribution": "q_uniform", "min": 0.1, "max": 0.5, "q": 0.1}, {0.1, 0.2, 0.3, 0.4, 0.5}),
        ({"distribution": "q_log_uniform_values", "min": 1, "max": 64, "q": 32}, {0, 32, 64}),
        ({"distribution": "q_log_uniform", "min": 0, "max": 1}, {1, 2, 3}),
        ({"distribution": "q_normal", "mu": 0, "sigma": 0.3}, {-1, 0, 1}),
    ],
)
def test_steps_and_lists_have_exactly_their_values(suggested, parameter, values):
    found = suggested(parameter)
    assert set(found) == values
    if "values" not in parameter:
        assert {type(value) for value in found} == {type(value) for value in values}


def test_values_keep_their_types(suggested):
    values = [[16, 32], {"a": None}, True, 1, "1"]
    found = suggested({"values": values})
    assert {repr(value) for value in found} == {repr(value) for value in values}


def test_probabilities_weigh_the_values_of_a_random_search(suggested):
    found = suggested({"values": ["a", "b", "c"], "probabilities": [0.1, 0, 0.9]})
    assert 0 < found.count("a") < 30
    assert found.count("b") == 0


def test_settings_are_nested_where_the_file_nests_them_and_sorted():
    space = read_space(
        {
            "model.init_args.lr": {"value": 0.1},
            "model.class_path": {"values": ["microevo.models.FCN"]},
            "data": {"parameters": {"init_args": {"parameters": {"n_past": {"values": [5]}, "horizon": {"value": 9}}}}},
        },
        "grid",
    )
    study = optuna.create_study()
    study.enqueue_trial(space.grid()[0])
    settings = space.settings(study.ask())
    assert settings == {
        "data": {"init_args": {"n_past": 5, "horizon": 9}},
        "model.class_path": "microevo.models.FCN",
        "model.init_args.lr": 0.1,
    }
    assert list(settings) == sorted(settings)
    assert flat(settings)["data.init_args.n_past"] == 5


def test_a_grid_has_all_combinations_once():
    space = read_space(
        {
            "a": {"values": [1, 2]},
            "b": {"min": 3, "max": 4},
            "c": {"distribution": "q_uniform", "min": 0, "max": 0.5, "q": 0.5},
        },
        "grid",
    )
    assert len({tuple(point.values()) for point in space.grid()}) == 8


@pytest.mark.parametrize(
    ("parameters", "method", "words"),
    [
        ({"x": {"distribution": "beta", "a": 1, "b": 2}}, "random", ["x has a, b"]),
        ({"x": {"distribution": "beta", "min": 1}}, "random", ["x has the distribution beta", "log_uniform_values"]),
        ({"x": {"distribution": "q_int_uniform", "min": 1, "max": 2}}, "random", ["q_int_uniform"]),
        ({"x": {"distribution": "normal"}}, "grid", ["x has the distribution normal", "`method: grid` needs `values`"]),
        ({"x": {"distribution": "log_uniform_values", "min": 0, "max": 1}}, "bayes", ["between 0 and 1", "positive"]),
        ({"x": {"min": 3, "max": 2}}, "bayes", ["between 3 and 2", "below max"]),
        ({"x": {"distribution": "uniform", "min": 3}}, "bayes", ["x.max is missing"]),
        ({"x": {"distribution": "uniform", "min": "a", "max": 1}}, "bayes", ["x.min is a"]),
        ({"x": {"distribution": "q_uniform", "min": 0, "max": 1, "q": 0}}, "bayes", ["q = 0"]),
        ({"x": {"values": [1, 2], "probabilities": [0.5, 0.6]}}, "random", ["one probability for each", "sum"]),
        ({"x": {"values": [1, 2], "probabilities": [0.5, 0.5]}}, "bayes", ["only `method: random`"]),
        ({"x": {"values": 3}}, "random", ["x.values is 3", "a list"]),
        ({"x": {"values": [1, 1]}}, "random", ["a value twice"]),
        ({"x": {"min": 1}}, "random", ["neither `value` nor `values`"]),
        ({"x": {"value": 1}}, "random", ["no parameter of the sweep varies"]),
        ({"x": 3}, "random", ["x is 3"]),
        ({"x": {"parameters": {}}}, "random", ["in x of the sweep"]),
    ],
)
def test_what_cannot_be_suggested_is_refused_by_name(parameters, method, words):
    with pytest.raises(ValueError, match=r".") as refused:
        read_space(parameters, method)
    for word in words:
        assert word in str(refused.value)
