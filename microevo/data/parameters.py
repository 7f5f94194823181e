"""The parameters of trajectories: the numbers that differ between the simulations of a store."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from microevo.data.sampling import in_present_words
from microevo.data.store import TrajectoryStore
from microevo.processes import Process, find_process, rebuild


def parameter_values(store: TrajectoryStore, names: Sequence[str]) -> Float[np.ndarray, "N P"]:
    """The values of some parameters in all trajectories of a store, in float32.

    A parameter is a floating-point number that the store has for each trajectory, such as a mobility that was sampled, or a
    number among the settings of its process, which is the same for all trajectories. Whole numbers of trajectories, such as
    seeds and groups, are not parameters.

    Raises:
        ValueError: The store does not have a parameter, or one of its values is not finite.
    """
    known = known_parameters(store) if names else {}
    if missing := [name for name in names if name not in known]:
        raise ValueError(f"{store.path} has {_listed(store, known)}, not {', '.join(missing)}; choose among these")
    return parameter_rows(known, names, len(store), str(store.path))


def parameter_rows(
    values: Mapping[str, np.ndarray | float], names: Sequence[str], trajectories: int, label: str
) -> Float[np.ndarray, "{trajectories} P"]:
    """The values of some parameters, one row for each trajectory, in float32.

    Args:
        values: A value for each trajectory, or one for all of them, by name.
        names: The parameters, in the order of the axis P.
        trajectories: Number of trajectories.
        label: Where the values are from, for messages.

    Raises:
        ValueError: A value is not finite.
    """
    rows = np.empty((trajectories, len(names)), np.float32)
    for column, name in enumerate(names):
        rows[:, column] = values[name]
        if not np.isfinite(rows[:, column]).all():
            raise ValueError(
                f"{name} is not a finite number for every trajectory of {label}; give another value, or leave it out"
            )
    return rows


def known_parameters(store: TrajectoryStore) -> dict[str, np.ndarray | float]:
    """The parameters of a store: a value for each trajectory, or one for all of them."""
    settings = {
        name: float(value)
        for name, value in _process(store).get("init_args", {}).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    varied = {name: values for name, values in store.per_trajectory.items() if values.dtype.kind == "f"}
    return {**varied, **{name: value for name, value in settings.items() if name not in varied}}


def process_of(store: TrajectoryStore) -> Process | None:
    """The process that a store was simulated with; None if it was imported, or the process is not installed here."""
    recipe = _process(store)
    return rebuild(**recipe) if find_process(recipe.get("class_path", "")) is not None else None


def check_oriented(store: TrajectoryStore, names: Sequence[str], symmetries: Sequence[str]) -> None:
    """Check that no random transformation of the frames would need another value of a parameter.

    Raises:
        ValueError: Frames are mirrored or turned, and a parameter is one that the process declares as `oriented`.
    """
    process = find_process(_process(store).get("class_path", ""))
    oriented = [name for name in names if process is not None and name in process.oriented]
    turned = [name for name in symmetries if name != "shift"]
    if oriented and turned:
        raise ValueError(
            f"the symmetries {', '.join(turned)} change {', '.join(oriented)} of a {store.attributes['process']}, which is among "
            "the parameters; leave out either of them"
        )


def _process(store: TrajectoryStore) -> Mapping[str, Any]:
    """The class and the settings of the process in a store's recipe; empty for imported data."""
    process = in_present_words(store.attributes["recipe"]).get("process", {})
    return process if isinstance(process, Mapping) else {}


def _listed(store: TrajectoryStore, known: Mapping[str, np.ndarray | float]) -> str:
    varied = [name for name, value in known.items() if isinstance(value, np.ndarray)]
    fixed = [name for name in known if name not in varied]
    parts = [", ".join(varied)] if varied else []
    parts += [f"{', '.join(fixed)} (the same in all trajectories)"] if fixed else []
    return f"the parameters {'; '.join(parts)}" if parts else "no parameters"
