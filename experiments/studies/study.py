"""What changes when one thing is changed: variants of an experiment, trained one after the other and compared.

    python experiments/studies/study.py --config experiments/studies/receptive-field.yaml
    make study NAME=receptive-field
    make results

Every variant is a training of its own in `runs/studies`. What is done is kept: the same command resumes where it was
stopped, and the table and the picture always show what is done so far. A study with protocols also benchmarks its trained
models, after every round of seeds.
"""

import json
import os
import re
import resource
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from jsonargparse import ArgumentParser, namespace_to_dict
from matplotlib.ticker import LogLocator, NullLocator

import microevo
from microevo.data import TrajectoryStore
from microevo.metrics.table import mean_at_leads
from microevo.plot import BASELINE, frame_axes, save
from microevo.provenance import read_record, write_file


@dataclass(frozen=True)
class Study:
    """A study, as its YAML file has it.

    Args:
        question: What it answers, in a sentence.
        experiment: Config of `fit` that all variants start from.
        recipes: Config of `simulate` for each store.
        store: Store of the test trajectories.
        variants: Options of `fit` that make a variant, by its name; `experiment` among them replaces the config, and
            `seeds` those of the study.
        splits: Trajectories of each split of the stores; those of the recipes unless given.
        common: Options of `fit` for all variants.
        forecast_field: Field that is forecast; the store's first one unless given.
        n_past: Input frames of the test; the forecast starts after them.
        horizon: Frames forecast in the test.
        seeds: Every variant is trained once with each; the first seed of all variants comes before the second of any.
        protocols: Protocols of a benchmark of all trained models, by name; no benchmark unless given.
        leads: Lead times of the table [frames].
        axis: Number that each variant stands for, to draw the error against it, and its name: `{pixels: [3, 5, 9]}`.
    """

    question: str
    experiment: str
    recipes: dict[str, str]
    store: str
    variants: dict[str, dict[str, Any]]
    splits: dict[str, int] = field(default_factory=dict)
    common: dict[str, Any] = field(default_factory=dict)
    forecast_field: str | None = None
    n_past: int = 10
    horizon: int = 50
    seeds: list[int] = field(default_factory=lambda: [0])
    protocols: dict[str, dict[str, Any]] = field(default_factory=dict)
    leads: list[int] = field(default_factory=lambda: [1, 10, 50])
    axis: dict[str, list[float]] = field(default_factory=dict)


def run(study: Study, name: str, output: Path, runs: Path) -> pd.DataFrame:
    """Train and test what is missing.

    Args:
        study: The study.
        name: Its name.
        output: Folder of `<name>.csv`, `<name>.md` and `<name>.png`.
        runs: Folder of the trainings.

    Returns:
        A row for each training that is done.
    """
    make_stores(study)
    rows: list[dict[str, Any]] = []
    seeds = {variant: options.get("seeds", study.seeds) for variant, options in study.variants.items()}
    for seed in sorted({seed for several in seeds.values() for seed in several}):
        for variant in [variant for variant in study.variants if seed in seeds[variant]]:
            rows.append(train_and_test(study, variant, seed, runs / name))
            table = pd.DataFrame(rows)
            write_file(output / f"{name}.csv", table.to_csv(index=False, float_format="%.6g"))
            write_file(output / f"{name}.md", markdown(study, name, table))
            save(picture(study, table), output / f"{name}.png")
            print(f"{variant}, seed {seed}: mean RMSE {rows[-1]['rmse_mean']:.4f}", flush=True)
        if study.protocols:
            benchmark(study, pd.DataFrame(rows), runs / name, output / name)
    return pd.DataFrame(rows)


def make_stores(study: Study) -> None:
    """Simulate the stores that are not there yet, or not finished."""
    for store, recipe in study.recipes.items():
        if not is_complete(store):
            splits = ["--splits", json.dumps(study.splits)] if study.splits else []
            command("simulate", "--config", recipe, "--output", store, *splits)


def train_and_test(study: Study, variant: str, seed: int, runs: Path) -> dict[str, Any]:
    """The row of one training, which is made unless it is there."""
    options = {key: value for key, value in (study.common | study.variants[variant]).items() if key != "seeds"}
    folder = run_folder(runs, variant, seed)
    record = folder / "study.json"
    settings = {"experiment": study.experiment, "options": options, "seed": seed, "test": [study.n_past, study.horizon]}
    if record.exists():
        known = read_record(record)
        if known["settings"] != settings:
            sys.exit(f"{folder} was trained with {known['settings']}, not {settings}; remove it to train it again")
        return known["row"]
    experiment = options.get("experiment", study.experiment)
    # A config comes before the settings in it.
    ordered = sorted(((k, v) for k, v in options.items() if k != "experiment"), key=lambda option: option[0].count("."))
    words = [f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in ordered]
    minutes = command(
        "fit", "--config", experiment, f"--run_dir={folder}", f"--seed_everything={seed}", "--ckpt_path=last",
        "--trainer.logger=false", "--trainer.enable_progress_bar=false", *words,
    )  # fmt: skip
    row = {"variant": variant, "seed": seed, "core_minutes": round(minutes, 1)}
    row |= score(study, weights(folder))
    write_file(record, json.dumps({"settings": settings, "row": row}, indent=2) + "\n")
    return row


def run_folder(runs: Path, variant: str, seed: int) -> Path:
    """Folder of a training."""
    name = variant.lower().replace("+", "p")  # PredRNN++ is not PredRNN
    return runs / f"{re.sub(r'[^a-z0-9]+', '-', name).strip('-')}-{seed}"


def weights(folder: Path) -> Path:
    """Checkpoint of a training that is tested."""
    return folder / "checkpoints" / "last.ckpt"


def benchmark(study: Study, table: pd.DataFrame, runs: Path, output: Path) -> None:
    """Compare all models that are trained so far with each other, with Persistence and with the reference solver.

    Args:
        study: The study.
        table: A row for each training that is done.
        runs: Folder of the trainings, and of the benchmark with its frames and its page.
        output: Folder of what is small: the report, its pictures, and the long table.
    """
    checkpoints = {
        str(variant): [str(weights(run_folder(runs, str(variant), seed))) for seed in rows["seed"]]
        for variant, rows in table.groupby("variant", sort=False)
    }
    protocols = {name: {"store": study.store} | protocol for name, protocol in study.protocols.items()}
    folder = runs / "benchmark"
    command(
        "benchmark", "--protocols", json.dumps(protocols), "--checkpoints", json.dumps(checkpoints),
        "--fields", json.dumps([study.forecast_field or TrajectoryStore.open(study.store).fields[0]]),
        "--ensembles", json.dumps([name for name, paths in checkpoints.items() if len(paths) > 1]),
        "--leads", json.dumps(study.leads), "--output", str(folder),
    )  # fmt: skip
    for path in [*folder.glob("*.png"), folder / "cost.csv", folder / "benchmark.json"]:
        write_file(output / path.name, path.read_bytes())
    write_file(output / "README.md", (folder / "report.md").read_bytes())
    shutil.copytree(folder / "table", output / "table", dirs_exist_ok=True)


def score(study: Study, checkpoint: Path) -> dict[str, Any]:
    """Errors on the test trajectories, and those of Persistence."""
    model = microevo.load_model(checkpoint)
    model.horizon = study.horizon
    if model.any_past:
        model.n_past = study.n_past
    if model.n_past != study.n_past:  # all variants forecast the same frames
        sys.exit(
            f"{checkpoint} takes {model.n_past} input frames, and the study tests with {study.n_past}; train it with as many"
        )
    store = TrajectoryStore.open(study.store)
    table = microevo.evaluate(model, store, fields=[study.forecast_field or store.fields[0]])
    curves = mean_at_leads(table, "rmse")
    own = next(name for name in curves.index if name != BASELINE)
    squares = table[(table["metric"] == "mse") & (table["model"] == own)].groupby("trajectory")["value"].mean()
    row = {"parameters": sum(p.numel() for p in model.parameters()), "rmse_mean": curves.loc[own].mean()}
    row |= {f"rmse_{lead}": curves.loc[own, lead] for lead in study.leads}
    row |= {"median_trajectory": np.sqrt(squares.median()), "worst_trajectory": np.sqrt(squares.max())}
    return row | {"persistence_mean": curves.loc[BASELINE].mean()}


def markdown(study: Study, name: str, table: pd.DataFrame) -> str:
    """The table as it is shown in the docs."""
    columns = ["variant", "seed", "parameters", "core-minutes", "mean", *(f"at {lead}" for lead in study.leads)]
    columns += ["median trajectory", "worst trajectory"]
    lines = [
        f"# {study.question}",
        "",
        f"`make {'results' if study.protocols else 'study'} NAME={name}`: {study.experiment}, "
        f"{table['variant'].nunique()} of {len(study.variants)} variants, "
        f"seeds {', '.join(map(str, sorted(set(table['seed']))))}; RMSE over {study.horizon} lead times of the "
        f"test trajectories of {study.store}, where Persistence has {table['persistence_mean'].iloc[0]:.3g}. One thread each.",
        "",
        f"| {' | '.join(columns)} |",
        f"|---|{'---:|' * (len(columns) - 1)}",
    ]
    for row in table.to_dict("records"):
        values = [row["rmse_mean"], *(row[f"rmse_{lead}"] for lead in study.leads)]
        values += [row["median_trajectory"], row["worst_trajectory"]]
        cells = [row["variant"], str(row["seed"]), f"{row['parameters']:,}", f"{row['core_minutes']:.1f}"]
        lines.append(f"| {' | '.join([*cells, *(f'{value:.4f}' for value in values)])} |")
    return "\n".join([*lines, "", f"![{study.question}]({name}.png)", ""])


def picture(study: Study, table: pd.DataFrame) -> plt.Figure:
    """Mean error of each variant, with a point for each seed."""
    trained = list(dict.fromkeys(table["variant"]))
    figure = plt.Figure(figsize=(6.4, 3.6 if study.axis else 0.9 + 0.35 * len(trained)), layout="constrained")
    axes = figure.add_subplot()
    if study.axis:
        ((label, places),) = study.axis.items()
        place = dict(zip(study.variants, places, strict=True))
        x, first = table["variant"].map(place), study.leads[0]
        axes.plot(x, table["rmse_mean"], "o", label="mean over lead times")
        axes.plot(x, table[f"rmse_{first}"], "s", mfc="none", label=f"lead time {first}")
        axes.axhline(table["persistence_mean"].iloc[0], color="0.5", lw=1, ls="--", label=BASELINE)
        axes.set(xscale="log", yscale="log")
        axes.set_xticks(places, [f"{place:g}" for place in places])
        axes.xaxis.set_minor_locator(NullLocator())
        frame_axes(axes, label, "RMSE")
        axes.legend(frameon=False, fontsize=9)
    else:
        axes.plot(table["rmse_mean"], table["variant"].map(trained.index), "o")
        axes.set_yticks(range(len(trained)), trained)
        axes.invert_yaxis()
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        frame_axes(axes, f"mean RMSE over {study.horizon} lead times", "")
    return figure


def is_complete(store: str) -> bool:
    """Whether the store is there and finished."""
    return Path(store).exists() and TrajectoryStore.open(store, unfinished=True).attributes["complete"]


def command(*words: str) -> float:
    """Run a command of microevo on one thread; the minutes of a core that it took."""
    print("$ python -m microevo", *words, flush=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-m", "microevo", *words], env=os.environ | {"OMP_NUM_THREADS": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"microevo {words[0]} ended with exit code {done.returncode}; the same command resumes from here")
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 60


def read(path: Path) -> Study:
    """The study of a YAML file; a misspelt setting ends with a sentence."""
    parser = ArgumentParser()
    parser.add_class_arguments(Study, "study")
    # Not instantiated: a callback among the options of a variant stays what it is in the file.
    return Study(**namespace_to_dict(parser.parse_path(path).study))


def main() -> None:
    """The command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="YAML file of the study")
    parser.add_argument("--output", type=Path, default=Path("results/studies"), help="folder of tables and pictures")
    parser.add_argument("--runs", type=Path, default=Path("runs/studies"), help="folder of the trainings")
    args = parser.parse_args()
    run(read(args.config), args.config.stem, args.output, args.runs)


if __name__ == "__main__":
    main()
