"""The parameters of a W&B sweep file as distributions that optuna suggests from."""

import bisect
import itertools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

from optuna import Trial
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

KEYS = ("value", "values", "probabilities", "distribution", "min", "max", "mu", "sigma", "q")
TAIL = 1e-6  # probability beyond the ends of a normal distribution, which has none


@dataclass(frozen=True)
class Dimension:
    """A parameter that varies.

    Args:
        path: Where it is in the settings of a trial: one key, which may have dots, or several where the file nests it.
        distribution: What optuna suggests from.
        setting: The setting that a suggestion stands for.
    """

    path: tuple[str, ...]
    distribution: BaseDistribution
    setting: Callable[[Any], Any]

    @property
    def name(self) -> str:
        """The name of the option, with dots."""
        return ".".join(self.path)

    def suggest(self, trial: Trial) -> Any:
        """What optuna suggests for a trial, which is the same when it is asked again."""
        match self.distribution:
            case CategoricalDistribution(choices=choices):
                return trial.suggest_categorical(self.name, choices)
            case IntDistribution(low=low, high=high):
                return trial.suggest_int(self.name, low, high)
            case FloatDistribution(low=low, high=high, log=log):
                return trial.suggest_float(self.name, low, high, log=log)
        raise AssertionError(self.distribution)


@dataclass(frozen=True)
class Space:
    """All parameters of a sweep: those that vary, and those that are the same in all trials, by their path."""

    dimensions: tuple[Dimension, ...]
    constants: Mapping[tuple[str, ...], Any]

    def settings(self, trial: Trial) -> dict[str, Any]:
        """The settings of a trial, as W&B would send them: nested where the file nests them."""
        values = {dimension.path: dimension.setting(dimension.suggest(trial)) for dimension in self.dimensions}
        settings: dict[str, Any] = {}
        # W&B sorts by name, so that a class comes before the settings that only it has.
        for path, value in sorted({**self.constants, **values}.items()):
            place = settings
            for key in path[:-1]:
                place = place.setdefault(key, {})
            place[path[-1]] = value
        return settings

    def grid(self) -> list[dict[str, Any]]:
        """What optuna is to suggest, one after the other, for all combinations."""
        names = [dimension.name for dimension in self.dimensions]
        choices = [dimension.distribution.choices for dimension in self.dimensions]  # type: ignore[attr-defined]
        return [dict(zip(names, point, strict=True)) for point in itertools.product(*choices)]


def flat(settings: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[str, Any]:
    """Nested settings by their names with dots."""
    found: dict[str, Any] = {}
    for key, value in settings.items():
        here = (*path, key)
        found |= flat(value, here) if isinstance(value, Mapping) else {".".join(here): value}
    return found


def read_space(parameters: Mapping[str, Any], method: str) -> Space:
    """Read the `parameters` of a sweep file.

    Raises:
        ValueError: One of them cannot be understood, or has a distribution that the method or optuna does not know.
    """
    dimensions: list[Dimension] = []
    constants: dict[tuple[str, ...], Any] = {}
    for path, parameter in _leaves(parameters):
        name = ".".join(path)
        kind = _kind(name, parameter)
        if kind == "constant":
            constants[path] = parameter["value"]
        elif method == "grid":
            dimensions.append(_categorical(path, _grid_values(name, kind, parameter)))
        elif "probabilities" in parameter:
            dimensions.append(_weighted(path, parameter, method))
        elif kind == "categorical":
            dimensions.append(_categorical(path, _list(name, parameter, "values")))
        else:
            dimensions.append(_range(path, kind, parameter))
    if not dimensions:
        raise ValueError("no parameter of the sweep varies; give at least one of them `values`, or `min` and `max`")
    return Space(tuple(dimensions), constants)


def _leaves(parameters: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Mapping[str, Any]]]:
    name = ".".join(path)
    if not isinstance(parameters, Mapping) or not parameters:
        raise ValueError(f"the parameters {f'in {name} ' if path else ''}of the sweep are not a mapping of names")
    found: list[tuple[tuple[str, ...], Mapping[str, Any]]] = []
    for key, parameter in parameters.items():
        here = (*path, str(key))
        if not isinstance(parameter, Mapping):
            raise ValueError(
                f"{'.'.join(here)} is {parameter}, but a parameter has `value`, `values` or a distribution"
            )
        nested = "parameters" in parameter and "value" not in parameter
        found += _leaves(parameter["parameters"], here) if nested else [(here, parameter)]
    return found


def _kind(name: str, parameter: Mapping[str, Any]) -> str:
    """The distribution of a parameter; W&B's defaults where the file does not say."""
    if unknown := sorted(parameter.keys() - set(KEYS)):
        raise ValueError(f"{name} has {', '.join(map(str, unknown))}; a parameter of a sweep has {', '.join(KEYS)}")
    if "distribution" in parameter:
        return str(parameter["distribution"])
    if "value" in parameter:
        return "constant"
    if "values" in parameter:
        return "categorical"
    if {"min", "max"} <= parameter.keys():
        return "int_uniform" if all(isinstance(parameter[end], int) for end in ("min", "max")) else "uniform"
    raise ValueError(
        f"{name} has neither `value` nor `values` nor `min` and `max`; a normal distribution must be named"
    )


def _range(path: tuple[str, ...], kind: str, parameter: Mapping[str, Any]) -> Dimension:
    name = ".".join(path)
    setting: Callable[[Any], Any] = _quantised(name, parameter.get("q", 1)) if kind.startswith("q_") else float
    match kind.removeprefix("q_"):
        case "int_uniform" if kind == "int_uniform":
            low, high = _ends(name, parameter)
            if int(low) != low or int(high) != high:
                raise ValueError(f"{name} lies between {low} and {high}, but int_uniform needs whole numbers")
            return Dimension(path, IntDistribution(int(low), int(high)), int)
        case "uniform":
            return Dimension(path, FloatDistribution(*_ends(name, parameter)), setting)
        case "log_uniform_values" | "inv_log_uniform_values":  # of X and of 1 / X: the same
            return Dimension(path, FloatDistribution(*_ends(name, parameter, positive=True), log=True), setting)
        case "log_uniform":
            low, high = _ends(name, parameter)
            return Dimension(path, FloatDistribution(math.exp(low), math.exp(high), log=True), setting)
        case "inv_log_uniform" if kind == "inv_log_uniform":
            low, high = _ends(name, parameter)
            return Dimension(path, FloatDistribution(math.exp(-high), math.exp(-low), log=True), setting)
        case "normal" | "log_normal":
            normal = NormalDist(_number(name, parameter, "mu", 0.0), _number(name, parameter, "sigma", 1.0))
            of_log = kind.endswith("log_normal")

            def quantile(probability: float) -> Any:
                value = normal.inv_cdf(probability)
                return setting(math.exp(value) if of_log else value)

            return Dimension(path, FloatDistribution(TAIL, 1 - TAIL), quantile)
    raise ValueError(
        f"{name} has the distribution {kind}, which `sweep` cannot suggest from; use values, uniform, int_uniform, "
        "log_uniform_values, normal or log_normal"
    )


def _categorical(path: tuple[str, ...], values: Sequence[Any]) -> Dimension:
    # As text, for optuna takes neither lists nor mappings, and 1 for the same as true.
    texts = tuple(json.dumps(value) for value in values)
    if len(set(texts)) < len(texts):
        raise ValueError(f"{'.'.join(path)} has a value twice: {', '.join(texts)}")
    return Dimension(path, CategoricalDistribution(texts), json.loads)


def _weighted(path: tuple[str, ...], parameter: Mapping[str, Any], method: str) -> Dimension:
    name = ".".join(path)
    values, weights = _list(name, parameter, "values"), _list(name, parameter, "probabilities")
    if method != "random":
        raise ValueError(f"{name} has probabilities, which only `method: random` uses; leave them out")
    if len(values) != len(weights) or min(weights) < 0 or not math.isclose(sum(weights), 1, rel_tol=1e-6):
        raise ValueError(f"{name} needs one probability for each of its {len(values)} values, and 1 as their sum")
    upper = list(itertools.accumulate(weights))[:-1]
    return Dimension(path, FloatDistribution(0.0, 1.0), lambda share: values[bisect.bisect_right(upper, share)])


def _grid_values(name: str, kind: str, parameter: Mapping[str, Any]) -> list[Any]:
    if "probabilities" in parameter:
        raise ValueError(f"{name} has probabilities, which only `method: random` uses; leave them out")
    if kind == "categorical":
        return _list(name, parameter, "values")
    if kind == "int_uniform":
        low, high = _ends(name, parameter)
        return list(range(int(low), int(high) + 1))
    if kind == "q_uniform":
        low, high = _ends(name, parameter)
        step = parameter.get("q", 1)
        rounded = _quantised(name, step)
        return [rounded(count * step) for count in range(round(low / step), round(high / step) + 1)]
    raise ValueError(f"{name} has the distribution {kind}, but `method: grid` needs `values`; or use random or bayes")


def _quantised(name: str, step: Any) -> Callable[[float], Any]:
    if isinstance(step, bool) or not isinstance(step, int | float) or step <= 0:
        raise ValueError(f"{name} has q = {step}; give a positive number, of which its values are multiples")

    def rounded(value: float) -> Any:
        multiple = round(value / step) * step
        return int(multiple) if isinstance(step, int) else float(f"{multiple:.12g}")  # 0.3, not 0.30000000000000004

    return rounded


def _ends(name: str, parameter: Mapping[str, Any], positive: bool = False) -> tuple[float, float]:
    low, high = _number(name, parameter, "min"), _number(name, parameter, "max")
    if not low < high or (positive and low <= 0):
        raise ValueError(f"{name} lies between {low:g} and {high:g}; min must be {'positive and ' * positive}below max")
    return low, high


def _number(name: str, parameter: Mapping[str, Any], key: str, default: float | None = None) -> float:
    value = parameter.get(key, default)
    try:
        return float(value)  # YAML takes 1e-4 for a text
    except (TypeError, ValueError):
        given = f"is {value}" if key in parameter else "is missing"
        raise ValueError(f"{name}.{key} {given}, but must be a number") from None


def _list(name: str, parameter: Mapping[str, Any], key: str) -> list[Any]:
    values = parameter.get(key)
    if not isinstance(values, list) or not values:
        raise ValueError(f"{name}.{key} is {values}, but must be a list")
    return values
