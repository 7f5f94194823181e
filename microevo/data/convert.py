"""convert: a store of simulations or forecasts as a file of other tools."""

from collections.abc import Sequence
from pathlib import Path

from microevo.data.output import whole_output
from microevo.data.store import TrajectoryStore
from microevo.data.writers.netcdf import write_netcdf
from microevo.data.writers.vti import write_vti
from microevo.provenance import check_replaceable

NETCDF, VTI = ".nc", ".vti"


def convert(
    input: str,
    output: str,
    *,
    fields: list[str] | None = None,
    trajectories: list[int] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a store for other tools, trajectory by trajectory, so that it may be larger than the memory.

    Args:
        input: A store: of simulations, of imported frames, or of the forecasts that `predict` writes.
        output: What to write. A name ending in .nc is a NetCDF file, which xarray opens. One ending in .vti is a folder with VTK
            image data: for each trajectory a .pvd, which ParaView plays, and its frames.
        fields: Fields to write; all of them unless given.
        trajectories: Numbers of the trajectories to write, from 0; all of them unless given.
        overwrite: Whether to replace an existing output of the same kind.

    Raises:
        FileNotFoundError: There is no such store.
        FileExistsError: `output` exists.
        ValueError: The format is not known, its package is not installed, or the store lacks a field or trajectory.
    """
    target = _check_output(output, overwrite)
    store = TrajectoryStore.open(input)
    names, numbers = fields or list(store.fields), range(len(store)) if trajectories is None else trajectories
    _check_parts(store, names, numbers)
    with whole_output(target, overwrite) as made:
        if target.suffix == NETCDF:
            write_netcdf(made, store, numbers, names)
        else:
            made.mkdir()
            write_vti(made, store, numbers, names)
    many = "trajectory" if len(numbers) == 1 else "trajectories"
    how = "xarray.open_dataset" if target.suffix == NETCDF else f"ParaView ({target}/trajectory-*.pvd)"
    print(f"{target}: {len(numbers)} {many} of {', '.join(names)}, for {how}")
    return target


def _check_output(output: str, overwrite: bool) -> Path:
    target = Path(output)
    if target.suffix not in (NETCDF, VTI):
        raise ValueError(
            f"output is {target}, but its name must end in {NETCDF} (NetCDF) or {VTI} (VTK image data); rename it"
        )
    is_netcdf = target.suffix == NETCDF
    kind = "file" if is_netcdf else "folder of VTK image data"
    check_replaceable(target, overwrite, kind, Path.is_file if is_netcdf else _is_series)
    return target


def _is_series(path: Path) -> bool:
    return any(path.glob("trajectory-*.pvd"))


def _check_parts(store: TrajectoryStore, fields: Sequence[str], trajectories: Sequence[int]) -> None:
    if unknown := [name for name in fields if name not in store.fields]:
        raise ValueError(
            f"{store.path} has the fields {', '.join(store.fields)}, not {', '.join(unknown)}; change fields"
        )
    if wrong := [i for i in trajectories if not 0 <= i < len(store)]:
        raise ValueError(
            f"{store.path} has the trajectories 0 to {len(store) - 1}, not {', '.join(map(str, wrong))}; change trajectories"
        )
    if not trajectories or len(set(trajectories)) < len(trajectories):
        raise ValueError(f"trajectories are {list(trajectories)}, but each must occur once, and there must be one")
