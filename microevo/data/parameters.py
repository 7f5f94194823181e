"""The parameters of trajectories: the numbers that differ between the simulations of a store."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from microevo.data.sampling import in_present_words
from microevo.data.store import TrajectoryStore
from microevo.processes import find_process


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
    values = np.empty((len(store), len(names)), np.float32)
    for column, name in enumerate(names):
        values[:, column] = known[name]
        if not np.isfinite(values[:, column]).all():
            raise ValueError(f"{name} of {store.path} is not a finite number in every trajectory; leave it out")
    return values


def known_parameters(store: TrajectoryStore) -> dict[str, np.ndarray | float]:
    """The parameters of a store: a value for each trajectory, or one for all of them."""
    settings = {
        name: float(value)
        for name, value in _process(store).get("init_args", {}).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    varied = {name: values for name, values in store.per_trajectory.items() if values.dtype.kind == "f"}
    return {**varied, **{name: value for name, value in settings.items() if name not in varied}}


def check_oriented(store: TrajectoryStore, names: Sequence[str], symmetries: Sequence[str]) -> None:
    """Check that no random transformation of the frames would need another value of a parameter.

    Raises:
        ValueError: Frames are mirrored or turned, and a parameter is one that the process declares as `oriented`.
    """
    process = find_process(_process(store).get("class_path", "")) if names and symmetries else None
    oriented = [name for name in names if process is not None and name in process.oriented]
    turned = [name for name in symmetries if name != "shift"]
    if oriented and turned:
        raise ValueError(
            f"the symmetries {', '.join(turned)} change {', '.join(oriented)} of a {store.attributes['process']}, which is among "
            f"the parameters; leave out either of them"
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
