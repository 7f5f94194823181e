"""The benchmark command: competitors, protocols, cost and report."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from lightning.pytorch.loggers import Logger
from torch import Tensor
from torch.utils.data import default_collate

from microevo.benchmark.competitors import (
    REFERENCE,
    Competitor,
    EnsembleForecasts,
    ExternalForecasts,
    Model,
    ReferenceSolver,
    persistence,
)
from microevo.benchmark.competitors.reference_solver import StoredProcess, TimedSolver
from microevo.benchmark.cost import ForecastFunction, device_name, forecast_rmse, mean_rmse, measure_cost, parameters
from microevo.benchmark.evaluation import Evaluation, Scores
from microevo.benchmark.physics import Kind, PhysicalQuantities
from microevo.benchmark.protocol import Protocol
from microevo.benchmark.report import write_report
from microevo.benchmark.results import Results
from microevo.data import TrajectoryStore, Window
from microevo.data.location import writable
from microevo.metrics import applicable, import_metrics, registered
from microevo.provenance import git_commit
from microevo.span import described

COMPARED = 4  # windows, if there are as many, with which the cost table tells how accurate its rows are


def run(
    protocols: dict[str, Protocol] = {},  # noqa: B006  (never changed; jsonargparse shows it as the default)
    checkpoints: dict[str, str | list[str]] = {},  # noqa: B006
    fields: list[str] | None = None,
    ensembles: list[str] = [],  # noqa: B006
    predictions: str | dict[str, str | dict[str, str]] | None = None,
    reference_solver: bool = True,
    physics: Kind = "auto",
    conventions: bool = False,
    metrics: list[str] = [],  # noqa: B006
    output: str = "results/benchmark",
    only: list[str] = [],  # noqa: B006
    leads: list[int] = [1, 10, 50, 90, 190],  # noqa: B006
    batch_size: int = 8,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    processes: int | None = None,
    cost_protocol: str | None = None,
    repeats: int = 5,
    warmup: int = 1,
    render_only: bool = False,
    logger: Logger | None = None,
    overwrite: bool = False,
    command: str = "",
    known_physics: bool | None = None,
) -> Results:
    """Compare forecasts of the same frames: trained models, external forecasts, persistence and the reference solver.

    An interrupted benchmark resumes when the same command is given again.

    Args:
        protocols: Input frames, target frames and trajectories, by name.
        checkpoints: Name of each model with its checkpoint, or with a list of checkpoints trained with different seeds.
        fields: Fields that are forecast, in the order of the axis C; unless given, the first field of the stores.
        ensembles: Names of models whose checkpoints forecast together, too: their mean is compared as `<name> ensemble`, and
            their spread tells when not to trust it.
        predictions: Forecasts made elsewhere: a `.npy` or `.npz` file or zarr array if there is one protocol, else a name
            with the file of each protocol.
        reference_solver: Whether the process's own solver is compared too, where the data were simulated.
        physics: Which physical quantities are measured, on the first field: `auto` for those that the process of simulated data
            brings, others for imported data, of which the frames alone are known.
        conventions: Whether the numbers of OpenSTL and MicroEvoEval tables are computed too, in their own definitions.
        metrics: Python modules that register metrics of your own, on PYTHONPATH or installed.
        output: Folder of the results.
        only: Protocols to run; all unless given.
        leads: Leads of the tables; those beyond the horizon are left out.
        batch_size: Windows forecast at once; no score depends on it.
        device: Where to run; `auto` takes the GPUs if there are any.
        processes: How many processes share the work; one for each GPU unless given, and one on a CPU.
        cost_protocol: Protocol whose windows the cost is measured with, on one device; unless given the first one that
            has as many input frames as the networks take.
        repeats: Timed calls of each model, which take turns; 0 leaves the cost as it is.
        warmup: Calls of each model before the timed ones.
        render_only: Make the report anew from the results that are in `output`, and compute nothing.
        logger: Where to send tables, curves and animations too, for instance a WandbLogger.
        overwrite: Compute everything anew, or the protocols of `only`, and replace their results in `output`.
        command: The shell command that this call is, kept with the results.
        known_physics: Former name of `reference_solver`.

    Raises:
        FileExistsError: `output` holds the results of other weights, settings or data.
        ValueError: A competitor cannot forecast a protocol.
    """
    import_metrics(metrics)
    folder = writable(output)
    leads = _check_leads(leads)
    _check_counts(batch_size=(batch_size, 1), repeats=(repeats, 0), warmup=(warmup, 0), processes=(processes, 1))
    if render_only:
        return write_report(Results(folder), leads, logger).results
    chosen = _chosen(protocols, only)
    fields = fields or [_first_field(chosen)]
    models = {
        name: [Model(name, path) for path in ([paths] if isinstance(paths, str) else paths)]
        for name, paths in checkpoints.items()
    }
    competitors: list[Competitor] = [model for seeds in models.values() for model in seeds]
    competitors += _ensembles(ensembles, models)
    competitors += _external(predictions, list(chosen), list(protocols))
    if "Persistence" not in checkpoints:
        competitors.append(persistence(len(fields)))
    if reference_solver if known_physics is None else known_physics:
        competitors.append(ReferenceSolver())
    evaluation = Evaluation(
        chosen,
        competitors,
        _scores(chosen, fields, physics, leads, conventions),
        fields,
        folder,
        batch_size=batch_size,
        git=git_commit(),
    )
    timed = _cost_protocol(evaluation, cost_protocol, list(protocols)) if repeats else ""
    devices = _devices(device, processes)
    evaluation.check()
    kept = set(protocols) - set(chosen)
    previous = Results(folder)
    previous.check_kept(kept, evaluation)
    if overwrite:
        previous.delete(chosen if only else None)
    before = previous.previous["settings"].get("timing")
    evaluation.begin()
    timing = {"protocol": timed, "repeats": repeats, "warmup": warmup, "device": device_name(torch.device(devices[0]))}
    settings = {
        "command": command,
        "protocols": {name: protocol.store for name, protocol in protocols.items()},
        "checkpoints": checkpoints,
        "ensembles": ensembles,
        "predictions": predictions,
        "leads": leads,
        "batch_size": batch_size,
        "metrics": metrics,
        "timing": timing if timed else before,
    }
    if timed and before != timing:
        previous.delete_cost()
    results = Results.write(evaluation, settings, keep=kept)
    evaluation.run(devices)
    if timed and (results.cost.empty or set(results.cost["competitor"]) != set(_timed(evaluation, timed))):
        results.write_cost(_measure(evaluation, timed, devices[0], repeats, warmup).assign(protocol=timed))
    return write_report(results, leads, logger).results


def _timed(evaluation: Evaluation, name: str) -> dict[str, Competitor]:
    """One competitor of each name that can be timed on a protocol, whatever its seed."""
    protocol, windows = evaluation.protocols[name], evaluation.windows(name)
    sizes = windows.store.image_shape
    return {
        competitor.name: competitor
        for competitor in reversed(evaluation.competitors)
        if isinstance(competitor, Model | EnsembleForecasts | ReferenceSolver)
        and competitor.supports(name, protocol, windows)
        # Of a network whose frames are continued to another size, the time would be that of the other size.
        and not (
            isinstance(competitor, Model | EnsembleForecasts)
            and any(size % competitor.forecaster.unit for size in sizes)
        )
    }


def _cost_protocol(evaluation: Evaluation, wanted: str | None, protocols: Sequence[str]) -> str:
    if wanted in protocols and wanted not in evaluation.protocols:
        print(f"cost is not measured: its protocol {wanted} is not among those of --only")
        return ""
    networks = [competitor.forecaster for competitor in evaluation.competitors if isinstance(competitor, Model)]
    taken = {network.n_past for network in networks if not network.any_past}
    fitting = [name for name, protocol in evaluation.protocols.items() if taken <= {protocol.n_past}]
    if wanted is None:
        if not fitting:
            print(
                f"cost is not measured: no protocol has {', '.join(map(str, sorted(taken)))} input frames, as the networks take"
            )
        return fitting[0] if fitting else ""
    if wanted not in fitting:
        raise ValueError(
            f"cost_protocol must have as many input frames as the networks take ({', '.join(map(str, sorted(taken)))}), "
            f"but it is {wanted}; choose one of {', '.join(fitting) or 'none here, so set repeats to 0'}"
        )
    return wanted


def _measure(evaluation: Evaluation, name: str, device: str, repeats: int, warmup: int) -> pd.DataFrame:
    """The cost table, with two more columns.

    `rmse` is the error on the first few windows (see `mean_rmse`). `matched_to` is the network that a further row of the
    reference solver, with the coarsest steps of equal accuracy, is as accurate as.
    """
    horizon, windows = evaluation.protocols[name].horizon, evaluation.windows(name)
    fields = [windows.store.fields.index(field) for field in windows.fields]

    def batch(size: int) -> Window:
        return Window(*default_collate([windows[i % len(windows)] for i in range(size)]))

    few = batch(min(COMPARED, len(windows)))
    past, future = few.past.to(device), few.future.to(device)

    def error(frames: Tensor) -> float:
        return mean_rmse(frames[:, :, fields], few.future)

    forecasters: dict[str, ForecastFunction] = {}
    rmse: dict[str, float] = {}
    networks: list[str] = []
    solvers: dict[str, TimedSolver] = {}
    for model, competitor in _timed(evaluation, name).items():
        if isinstance(competitor, Model | EnsembleForecasts):
            network = competitor.forecaster.to(device)
            forecasters[model] = competitor.timed(few, windows)
            values = competitor.parameters(few, windows)
            rmse[model] = forecast_rmse(network, past, future, *(() if values is None else (values,)))
            if parameters(competitor.forecaster) and math.isfinite(rmse[model]):
                networks.append(model)
        else:
            forecasters[model] = solvers[model] = StoredProcess(windows.store, windows.fields).timed(few)
            rmse[model] = error(solvers[model].forecast(horizon))
    best = min(networks, key=rmse.__getitem__, default="")
    matched = f"{REFERENCE}, accuracy-matched to {best}"
    # A solver that is as accurate as the best network, no more: what its frames would cost without the network.
    for model, solver in solvers.items():
        if best and rmse[model] <= rmse[best] and (coarser := solver.accuracy_matched(rmse[best], error, horizon)):
            forecasters[matched] = coarser
            rmse[matched] = error(coarser.forecast(horizon))
    table = measure_cost(
        forecasters, lambda size: (batch(size).past.to(device), batch(size).future.to(device)), repeats, warmup
    )
    labels = table.pop("competitor")
    table.insert(0, "competitor", labels.replace(matched, REFERENCE))
    table.insert(1, "matched_to", labels.map({matched: best}))
    return table.assign(rmse=labels.map(rmse))


def _chosen(protocols: Mapping[str, Protocol], only: list[str]) -> dict[str, Protocol]:
    unknown = [name for name in only if name not in protocols]
    if unknown:
        raise ValueError(f"there is no protocol {unknown[0]}; the config has {', '.join(protocols)}")
    chosen = {name: protocol for name, protocol in protocols.items() if not only or name in only}
    if not chosen:
        raise ValueError("a benchmark needs at least one protocol; give --config or --protocols")
    return chosen


def _first_field(protocols: Mapping[str, Protocol]) -> str:
    first = {protocol.store: TrajectoryStore.open(protocol.store).fields[0] for protocol in protocols.values()}
    if len(set(first.values())) > 1:
        described = ", ".join(f"{field} in {store}" for store, field in first.items())
        raise ValueError(
            f"the stores of the protocols begin with different fields ({described}); say which with fields"
        )
    return next(iter(first.values()))


def _check_leads(leads: Sequence[int]) -> list[int]:
    if not leads or min(leads) < 1:
        raise ValueError(f"leads are counted from 1, but they are {list(leads)}")
    return sorted(set(leads))


def _check_counts(**counts: tuple[int | None, int]) -> None:
    for name, (count, least) in counts.items():
        if count is not None and count < least:
            raise ValueError(f"{name} must be at least {least}, but it is {count}")


def _ensembles(names: Sequence[str], models: Mapping[str, Sequence[Model]]) -> list[EnsembleForecasts]:
    if unknown := [name for name in names if name not in models]:
        raise ValueError(
            f"ensembles names {unknown[0]}, but checkpoints has {', '.join(models) or 'no model'}; give a list of checkpoints "
            "under this name"
        )
    return [EnsembleForecasts(f"{name} ensemble", models[name]) for name in names]


def _external(predictions: str | Mapping[str, Any] | None, protocols: list[str], known: list[str]) -> list[Competitor]:
    if predictions is None:
        return []
    named = {Path(predictions).stem: predictions} if isinstance(predictions, str) else predictions
    competitors: list[Competitor] = []
    for model, files in named.items():
        if isinstance(files, str):
            if len(protocols) > 1:
                raise ValueError(
                    f"the predictions {files} are for one protocol, but the benchmark has {', '.join(protocols)}; choose one "
                    "with --only, or give a file for each"
                )
            files = {protocols[0]: files}
        if unknown := [name for name in files if name not in known]:
            raise ValueError(
                f"the predictions of {model} are for {unknown[0]}, but the benchmark has {', '.join(known)}; correct the name"
            )
        competitors.append(ExternalForecasts(model, files))
    return competitors


def _scores(
    protocols: Mapping[str, Protocol], fields: list[str], physics: Kind, leads: list[int], conventions: bool
) -> dict[str, Scores]:
    scores = {}
    for name, protocol in protocols.items():
        store = protocol.windows(fields).store
        quantities = PhysicalQuantities(store, physics, protocol.n_past)
        measured = {quantity.name for quantity in quantities([0])}
        metrics = [metric for metric in registered(conventions=conventions) if metric.of == "frames"]
        spans = {field: store.spans[field] for field in fields}
        metrics = [
            metric.on(list(spans.values())) for metric in metrics if not metric.where or metric.where in measured
        ]
        print(f"{name}: SSIM and PSNR are for {described(spans)}")
        chosen, reasons = applicable(metrics, (len(fields), *store.image_shape))
        for reason in reasons:
            print(f"{name}: {reason}")
        scores[name] = Scores(
            pixel={metric.name: metric for metric in chosen}, physics=quantities, curve_leads=tuple(leads), spans=spans
        )
    return scores


def _devices(device: str, processes: int | None) -> list[str]:
    cuda = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    if device == "cuda" and not cuda:
        raise ValueError("PyTorch finds no GPU for the device cuda; use cpu")
    if cuda:
        return [f"cuda:{i % cuda}" for i in range(processes or cuda)]
    return ["cpu"] * (processes or 1)
