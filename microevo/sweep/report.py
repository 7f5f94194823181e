"""What a sweep has found: a table, the best setting as a config, and two pictures."""

import json
from typing import Any

import pandas as pd
import yaml
from optuna.importance import get_param_importances
from optuna.trial import TrialState

from microevo import plot
from microevo.provenance import write_file
from microevo.sweep.figures import bars, parallel_coordinates
from microevo.sweep.space import flat
from microevo.sweep.trials import Trials

WORDS = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "stopped early",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
}
OF_THE_TRIAL = ("run_dir", "ckpt_path", "config")
CALLBACK = "microevo.callbacks.ValidationLog"
FEWEST = 4  # trials from which the importance of a parameter can be estimated


def table(trials: Trials) -> pd.DataFrame:
    """A row for each trial, the best first: number, state, metric, validations, minutes, settings, and why it failed."""
    rows = []
    for trial in trials.all():
        notes = trial.user_attrs
        rows.append(
            {
                "trial": trial.number,
                "state": WORDS[trial.state],
                trials.sweep.metric: notes.get("best"),
                "validations": notes.get("validations"),
                "minutes": notes.get("minutes"),
                **{name: _text(value) for name, value in flat(notes.get("settings", {})).items()},
                "reason": notes.get("reason"),
            }
        )
    frame = pd.DataFrame(rows)
    order = list(WORDS.values())
    frame["rank"] = [order.index(state) for state in frame["state"]]
    frame["value"] = frame[trials.sweep.metric].astype(float) * (-1 if trials.sweep.maximize else 1)
    frame["validations"] = frame["validations"].astype("Int64")
    return frame.sort_values(["rank", "value", "trial"], ignore_index=True).drop(columns=["rank", "value"])


def write_report(trials: Trials) -> None:
    """Write `trials.csv`, `README.md` and `best.yaml` into the folder of the sweep."""
    while True:
        known = [trial.state for trial in trials.all()]
        if not known:
            return
        frame = table(trials)
        write_file(trials.folder / "trials.csv", frame.to_csv(index=False, float_format="%.6g"))
        write_file(trials.folder / "README.md", _markdown(trials, frame))
        if (best := best_config(trials)) is not None:
            write_file(trials.folder / "best.yaml", yaml.safe_dump(best, sort_keys=False))
        # Another runner may have written a newer report in the meantime, over which this one has written.
        if known == [trial.state for trial in trials.all()]:
            return


def best_config(trials: Trials) -> dict[str, Any] | None:
    """The config of the best trial, for a run of its own, or its settings if its program keeps no config; None if none ended."""
    best = trials.best()
    if best is None:
        return None
    path = trials.run_folder(best.number) / "config-fit.yaml"
    if not path.exists():
        return best.user_attrs["settings"]
    config = yaml.safe_load(path.read_text())
    callbacks = [entry for entry in config["trainer"].get("callbacks") or [] if entry.get("class_path") != CALLBACK]
    config["trainer"]["callbacks"] = callbacks
    return {key: value for key, value in config.items() if key not in OF_THE_TRIAL}


def draw(trials: Trials) -> None:
    """Draw `parallel.png`, and `importance.png` when there are enough trials to tell."""
    names = _varied(trials)
    frame = table(trials)
    done = frame[frame["state"].isin(["complete", "stopped early"]) & frame[trials.sweep.metric].notna()]
    logarithmic = {d.name for d in trials.sweep.space.dimensions if getattr(d.distribution, "log", False)}
    if len(done) > 1:
        figure = parallel_coordinates(done[[*names, trials.sweep.metric]], logarithmic, trials.sweep.maximize)
        plot.save(figure, trials.folder / "parallel.png")
    if (frame["state"] == "complete").sum() >= FEWEST and len(names) > 1:
        plot.save(bars(get_param_importances(trials.study), "importance (PED-ANOVA)"), trials.folder / "importance.png")
    write_report(trials)


def _markdown(trials: Trials, frame: pd.DataFrame) -> str:
    sweep, folder = trials.sweep, trials.folder
    counts = frame["state"].value_counts()
    said = ", ".join(f"{counts[state]} {state}" for state in WORDS.values() if state in counts)
    lines = [
        f"# {sweep.name}",
        "",
        f"Method {sweep.method}, seed {trials.seed}, {len(frame)} of {trials.most} trials ({said}). {sweep.metric} is the best "
        f"of all validations of a trial; {'more' if sweep.maximize else 'less'} is better.",
        "",
    ]
    if trials.best() is not None:
        lines += [f"The best setting: `python -m microevo fit --config {folder}/best.yaml`", ""]
    same = [name for name in flat(trials.all()[0].user_attrs.get("settings", {})) if name not in _varied(trials)]
    shown = frame.drop(columns=same, errors="ignore").dropna(axis="columns", how="all")
    lines += ["| " + " | ".join(shown.columns) + " |", "|" + "---|" * len(shown.columns)]
    for _, row in shown.iterrows():
        cells = ("" if pd.isna(cell) else f"{cell:.4g}" if isinstance(cell, float) else str(cell) for cell in row)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    for name, what in {
        "importance": "how much of the differences each parameter explains",
        "parallel": "all trials",
    }.items():
        if (folder / f"{name}.png").exists():
            lines += ["", f"![{what}]({name}.png)"]
    return "\n".join(lines) + "\n"


def _varied(trials: Trials) -> list[str]:
    return [dimension.name for dimension in trials.sweep.space.dimensions]


def _text(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, list | bool) or value is None else value
