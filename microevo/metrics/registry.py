"""The registry of metrics: each is registered once, and then logged, tabulated, benchmarked and shown in the report.

```python
from microevo.metrics import metric


@metric(title="mass drift", unit="field", better="lower")
def mass_drift(prediction, target):  # (B, T, C, H, W) twice -> (B, T)
    return (prediction.mean((2, 3, 4)) - target.mean((2, 3, 4))).abs()
```

In a module of one's own, this is all that a new metric takes; the option `metrics` of `fit`, `test` and `benchmark` names the
module.
"""

import inspect
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from microevo.span import Span, options_of

Function = TypeVar("Function", bound=Callable[..., Any])
Of = Literal["frames", "ensemble", "leads", "mean"]
RESERVED = ("finite", "trajectory", "start")  # columns and rows of tables that are not metrics


class NotApplicableError(ValueError):
    """A metric is not defined for frames of this shape; it is left out, and the message says why."""


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number that compares forecast and truth, with what a reader has to know of it.

    Attributes:
        name: Name in logs and tables.
        title: What it is, in words, for reports and pictures.
        unit: Its unit: `1` if it has none, `field` for the unit of the field.
        better: Whether a lower or a higher value is better; None if neither is.
        function: What it is computed with; what that takes and returns depends on `of`.
        of: `frames`: forecast and truth, (B, T, C, H, W) each, to one value per frame, (B, T). `ensemble`: the same of the
            forecasts of M members, (M, B, T, C, H, W), which only a benchmark of ensembles computes. `leads`: the values of
            `source` at all lead times of each forecast, (B, T) in NumPy, to one value per forecast, (B,) or a
            `CorrelationTime`. `mean`: means of the values of `source` over forecasts, in NumPy, to as many values.
        source: Name of the metric that this one is derived from; empty for a metric of frames or of an ensemble.
        convention: Whether it is somebody else's definition, which only a benchmark with `conventions` computes.
        where: Name of the physical quantity without which the metric has no meaning, such as a number of grains; empty if
            it has a meaning for all data.
    """

    name: str
    title: str
    unit: str = "1"
    better: Literal["lower", "higher"] | None = "lower"
    function: Callable[..., Any]
    of: Of = "frames"
    source: str = ""
    convention: bool = False
    where: str = ""

    def __call__(
        self, prediction: Float[Tensor, "*M B T C H W"], target: Float[Tensor, "B T C H W"]
    ) -> Float[Tensor, "B T"]:
        """The value of each frame, for metrics of frames and of ensembles.

        Raises:
            ValueError: The function does not return one number per frame.
        """
        values = self.function(prediction, target)
        if not isinstance(values, Tensor) or values.shape != target.shape[:2]:
            found = tuple(values.shape) if hasattr(values, "shape") else type(values).__name__
            raise ValueError(
                f"the metric {self.name} must return a tensor with one number per frame, of the shape (B, T) = "
                f"{tuple(target.shape[:2])}, but it returned {found}; average over the axes 2, 3 and 4 only"
            )
        return values

    @property
    def whole(self) -> bool:
        """Whether it is one number for a whole forecast, and not one for each lead time."""
        return self.of == "leads" or (self.of == "mean" and _METRICS[self.source].whole)

    def on(self, spans: Sequence[Span]) -> "Metric":
        """This metric for fields with some spans, one for each; somebody else's convention has a range of its own."""
        return self if self.convention else self.bound(**options_of(spans))

    def bound(self, **options: Any) -> "Metric":
        """This metric with those of the options that its function takes, such as `data_range`."""
        taken = inspect.signature(self.function).parameters
        chosen = {name: value for name, value in options.items() if name in taken}
        return replace(self, function=partial(self.function, **chosen)) if chosen else self


_METRICS: dict[str, Metric] = {}


def metric(
    *,
    title: str,
    unit: str = "1",
    better: Literal["lower", "higher"] | None = "lower",
    name: str | None = None,
    of: Of = "frames",
    source: str = "",
    convention: bool = False,
    where: str = "",
) -> Callable[[Function], Function]:
    """Register a function as a metric, and leave the function as it is.

    A metric of frames takes those of the forecast and of the truth, (B, T, C, H, W) each, and returns one number per frame,
    (B, T). Further arguments need defaults; an argument `data_range` is set to the largest minus the smallest value of a
    field, and `lowest` to the smallest: numbers, or tensors (C, 1, 1) where they differ from field to field. Where the metric
    is not defined for the shape of the frames, the function raises `NotApplicableError` with a sentence that says why.

    Args:
        title: What it is, in words.
        unit: Its unit: `1` if it has none, `field` for the unit of the field.
        better: Whether a lower or a higher value is better; None if neither is.
        name: Name in logs and tables; that of the function unless given.
        of: See `Metric`, also for the others.
        source: For a metric that is derived from another one.
        convention: For somebody else's definition.
        where: For a metric that has no meaning without some physical quantity.

    Raises:
        ValueError: The name belongs to another metric, or means something else in tables, or there is no such source.
    """

    def register(function: Function) -> Function:
        new = Metric(
            name=name or function.__name__,
            title=title,
            unit=unit,
            better=better,
            function=function,
            of=of,
            source=source,
            convention=convention,
            where=where,
        )
        known = _METRICS.get(new.name)
        if known is not None and _origin(known) != _origin(new):
            raise ValueError(
                f"there is already a metric {new.name}, from {_origin(known)}; register the one from {_origin(new)} under "
                "another name"
            )
        if new.name in RESERVED or not new.name.replace(".", "").isidentifier():
            raise ValueError(f"a metric cannot be called {new.name!r}; choose another name of letters, digits and _")
        if (new.of in ("frames", "ensemble")) == bool(source) or (source and source not in _METRICS):
            raise ValueError(
                f"the metric {new.name} is one of {new.of}, with the source {source!r}; a metric of leads or means needs a "
                "registered metric as its source, and one of frames or of an ensemble has none"
            )
        _METRICS[new.name] = new
        return function

    return register


def registered(*, conventions: bool = False) -> list[Metric]:
    """All metrics in the order of their registration, those in other people's definitions only with `conventions`."""
    return [metric for metric in _METRICS.values() if conventions or not metric.convention]


def find(name: str) -> Metric | None:
    """The metric of a name; None if there is none."""
    return _METRICS.get(name)


def unit_for(unit: str, fields: Collection[str]) -> str:
    """The unit of a metric of fields with some units, in which `field` stands for theirs; `1` if they have none in common."""
    if not unit.startswith("field"):
        return unit
    own = set(fields)
    if len(own) != 1 or own == {"1"}:
        return "1"
    (field,) = own
    return unit.replace("field", field if unit == "field" or field.isalnum() else f"({field})")


def rows_of(name: str) -> str:
    """The name under which a table holds the values of a metric: its source's, where it is a function of their mean."""
    known = find(name)
    return known.source if known is not None and known.of == "mean" else name


def shown(names: Collection[str]) -> list[Metric]:
    """The metrics that a report shows: those that follow from the values of some metrics of frames.

    One that is a function of another's mean stands for that other one: RMSE for MSE.
    """
    there: dict[str, Metric] = {}
    for metric in _METRICS.values():
        if (metric.source or metric.name) in (there if metric.source else names):
            there[metric.name] = metric
    replaced = {metric.source for metric in there.values() if metric.of == "mean"}
    return [metric for metric in there.values() if metric.name not in replaced]


def applicable(metrics: Sequence[Metric], frame: tuple[int, ...]) -> tuple[list[Metric], list[str]]:
    """Which metrics of frames are defined for frames (C, H, W).

    Returns:
        Those metrics, and a sentence for each of the others.
    """
    chosen, reasons = [], []
    blank = torch.zeros(1, 1, *frame)
    for metric in metrics:
        try:
            metric(blank, blank)
        except NotApplicableError as error:
            reasons.append(f"{metric.title} is left out: {error}")
        else:
            chosen.append(metric)
    return chosen, reasons


def import_metrics(modules: Sequence[str]) -> None:
    """Import the modules in which a person has registered metrics.

    Raises:
        ValueError: There is no such module.
    """
    for module in modules:
        try:
            import_module(module)
        except ModuleNotFoundError as error:
            raise ValueError(
                f"metrics names the module {module}, but {error}; put its folder on PYTHONPATH, or correct the name"
            ) from error


def _origin(metric: Metric) -> str:
    """Module and name of the function: a module that is imported again registers the same metrics again."""
    function = metric.function
    while isinstance(function, partial):
        function = function.func
    return f"{function.__module__}.{function.__qualname__}"
