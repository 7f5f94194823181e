"""A W&B sweep file: what is searched, how, and the command that starts a trial."""

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from microevo.provenance import read_text
from microevo.sweep.space import Space, read_space

METHODS = ("grid", "random", "bayes")
KNOWN = (
    *("program", "command", "method", "metric", "parameters", "early_terminate", "run_cap"),
    *("name", "description", "project", "entity"),  # of the server, but for the name
)
DEFAULT_COMMAND = ("${env}", "${interpreter}", "${program}", "${args}")
MACROS = ("env", "interpreter", "program", "args", "args_no_equals", "args_json", "args_json_file")
REFUSED = {
    "args_no_boolean_flags": "leaves out what is false, so that a trial would train with the default",
    "args_no_hyphens": "is for Hydra",
    "args_append_hydra": "is for Hydra",
    "args_override_hydra": "is for Hydra",
}
VARIABLE = re.compile(r"\$\{envvar:([A-Z0-9_]*)\}")


@dataclass(frozen=True)
class EarlyStop:
    """When poor trials are stopped: after `first` validations, then after `factor` times as many, and so on."""

    first: int
    factor: int


@dataclass(frozen=True)
class SweepFile:
    """A sweep, as its file has it.

    Args:
        name: Name of the sweep; that of the file unless the file says another.
        method: `grid`, `random` or `bayes`.
        metric: What is compared, as a validation logs it.
        maximize: Whether more is better.
        target: Value from which no more trials are begun.
        space: What is varied.
        command: Words of the command, with W&B's macros.
        program: What the macro `${program}` stands for.
        early_stop: When poor trials are stopped; never if None.
        run_cap: Most trials, if the file says so.
        search: What must be the same for all who work on the sweep.
    """

    name: str
    method: str
    metric: str
    maximize: bool
    target: float | None
    space: Space
    command: tuple[str, ...]
    program: str
    early_stop: EarlyStop | None
    run_cap: int | None
    search: Mapping[str, Any]

    def words(self, settings: Mapping[str, Any], json_file: Path) -> list[str]:
        """The command of a trial, expanded as W&B's agent does, but with this Python for `${interpreter}`.

        Args:
            settings: Settings of the trial.
            json_file: Where the settings are written as JSON, for `${args_json_file}`.
        """
        values: dict[str, Sequence[str]] = {
            "env": ["/usr/bin/env"],
            "interpreter": [sys.executable],
            "program": [self.program],
            "args": [f"--{name}={value}" for name, value in settings.items()],
            "args_no_equals": [word for name, value in settings.items() for word in (f"--{name}", str(value))],
            "args_json": [json.dumps(settings)],
            "args_json_file": [str(json_file)],
        }
        words: list[str] = []
        for word in self.command:
            word = VARIABLE.sub(lambda found: os.environ.get(found[1], found[1]), word)
            words += values[word[2:-1]] if _is_macro(word) else [word]
        return words


def read_sweep(path: str | Path) -> SweepFile:
    """Read a sweep file.

    Raises:
        ValueError: It cannot be understood, or asks for what is not possible without W&B's server.
    """
    path = Path(path)
    try:
        content = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, Mapping) or "parameters" not in content:
        raise ValueError(f"{path} is not a W&B sweep file, which has at least `method`, `metric` and `parameters`")
    try:
        return _read(content, path.stem)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def _read(content: Mapping[str, Any], name: str) -> SweepFile:
    if unknown := sorted(map(str, content.keys() - set(KNOWN))):
        raise ValueError(f"a sweep has no {', '.join(unknown)}; it may have {', '.join(KNOWN)}")
    method = content.get("method")
    if method not in METHODS:
        raise ValueError(f"method is {method}; choose {', '.join(METHODS)}")
    metric = content.get("metric")
    if not isinstance(metric, Mapping) or not metric.get("name"):
        raise ValueError("there is no metric to compare trials by; give `metric: {name: val/mse, goal: minimize}`")
    goal = metric.get("goal", "minimize")
    if goal not in ("minimize", "maximize"):
        raise ValueError(f"metric.goal is {goal}; choose minimize or maximize")
    run_cap = content.get("run_cap")
    if run_cap is not None and (not isinstance(run_cap, int) or run_cap < 1):
        raise ValueError(f"run_cap is {run_cap}, but must be a whole number from 1")
    space = read_space(content["parameters"], method)
    command = tuple(map(str, content.get("command") or DEFAULT_COMMAND))
    _check_command(command, content["parameters"])
    return SweepFile(
        name=str(content.get("name", name)),
        method=method,
        metric=str(metric["name"]),
        maximize=goal == "maximize",
        target=None if metric.get("target") is None else float(metric["target"]),
        space=space,
        command=command,
        program=str(content.get("program", "")),
        early_stop=_early_stop(content["early_terminate"]) if content.get("early_terminate") else None,
        run_cap=run_cap,
        search={key: content.get(key) for key in ("program", "command", "method", "metric", "parameters")},
    )


def _check_command(command: Sequence[str], parameters: Mapping[str, Any]) -> None:
    for word in filter(_is_macro, command):
        macro = word[2:-1]
        if macro in REFUSED:
            raise ValueError(f"the macro {word} of the command {REFUSED[macro]}; use ${{args}} or ${{args_json_file}}")
        if macro not in MACROS:
            known = ", ".join(f"${{{name}}}" for name in MACROS)
            raise ValueError(f"the command has the macro {word}; the macros are {known}")
    if not any(word in command for word in ("${args}", "${args_no_equals}", "${args_json}", "${args_json_file}")):
        raise ValueError("the command does not tell the program its settings; add ${args}")
    if {"${args}", "${args_no_equals}"} & set(command) and _has_null(parameters):
        raise ValueError(
            "a parameter may be null, which ${args} passes as the text None; use --config ${args_json_file} instead"
        )
    parts = [(name, other) for name in parameters for other in parameters if other.startswith(f"{name}.")]
    if parts and {"${args_json}", "${args_json_file}"} & set(command):
        name, other = parts[0]
        raise ValueError(
            f"{name} and {other} are parameters, of which a config would read only the second; use ${{args}} instead"
        )


def _early_stop(asked: Any) -> EarlyStop:
    """Successive halving as W&B's `hyperband` describes it: a first validation, or the last one and a number of brackets."""
    if not isinstance(asked, Mapping) or asked.get("type") != "hyperband":
        raise ValueError(f"early_terminate is {asked}; give `{{type: hyperband, min_iter: 3}}`")
    if unknown := sorted(map(str, asked.keys() - {"type", "min_iter", "max_iter", "s", "eta", "strict"})):
        raise ValueError(f"early_terminate has no {', '.join(unknown)}; it has type, min_iter, max_iter, s and eta")
    if asked.get("strict"):
        raise ValueError("early_terminate.strict is not possible without W&B's server; leave it out")
    numbers = {key: asked[key] for key in ("min_iter", "max_iter", "s", "eta") if key in asked}
    for key, value in numbers.items():
        if not isinstance(value, int) or value < (2 if key == "eta" else 1):
            raise ValueError(
                f"early_terminate.{key} is {value}, but must be a whole number from {2 if key == 'eta' else 1}"
            )
    factor = numbers.get("eta", 3)
    if "min_iter" in numbers:
        return EarlyStop(numbers["min_iter"], factor)
    if {"max_iter", "s"} <= numbers.keys():
        return EarlyStop(max(1, int(numbers["max_iter"] / factor ** numbers["s"])), factor)
    raise ValueError("early_terminate needs min_iter, or max_iter and s")


def _has_null(value: Any) -> bool:
    if isinstance(value, Mapping):
        return any(_has_null(item) for item in value.values())
    return value is None or (isinstance(value, list) and any(_has_null(item) for item in value))


def _is_macro(word: str) -> bool:
    return word.startswith("${") and word.endswith("}") and not word.startswith("${envvar:")
