"""Every config of the project, in three ways.

Each recipe, experiment and benchmark is read as the command line reads it, and its numbers are compared with those of the
other configs that it depends on: that costs next to nothing. One of each kind is run at a tiny size. Running all of them
is `slow`.
"""

import json
import shlex
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from tiny_models import model_of, part, shrink

import microevo
import microevo.models
from microevo.benchmark import Protocol, run
from microevo.cli import main
from microevo.cli.commands import parser
from microevo.data import TrajectoryDataModule, TrajectoryStore, generate, import_frames
from microevo.data.sampling import Sampling

ROOT = Path(__file__).parents[1]
REAL = ROOT.parent / "shared" / "real"
RECIPES = sorted(ROOT.glob("data/recipes/**/*.yaml"))
BENCHMARKS = sorted({*ROOT.glob("experiments/benchmark/*.yaml"), ROOT / "experiments/demo/benchmark.yaml"})
PUBLISHED = [path for path in BENCHMARKS if path.stem.startswith("published-")]
OF_PROCESSES = [
    ROOT / f"experiments/benchmark/{process}.yaml"
    for process in ("spinodal", "spinodal-published", "grain-growth", "plane-wave", "dendrite")
]
EXPERIMENTS = [
    path
    for path in sorted(ROOT.glob("experiments/**/*.yaml"))
    if {"data", "model"} <= yaml.safe_load(path.read_text()).keys()
]
HERE = ROOT / "experiments"
NO_LOGGER = "--trainer.logger=false"
OURS = {yaml.safe_load(recipe.read_text())["output"]: recipe for recipe in RECIPES}  # by the store that it makes


def name_of(path: Path) -> str:
    return str(path.relative_to(HERE if path.is_relative_to(HERE) else ROOT)).removesuffix(".yaml")


def some(paths: list[Path], quick: set[Path]) -> list:
    """Test parameters, all but the quick ones marked as slow."""
    return [pytest.param(p, id=name_of(p), marks=() if p in quick else pytest.mark.slow) for p in paths]


# The networks of the demo, one experiment, and one for data of one's own. The others are trained in
# tests/models/test_models.py; what is particular to their data is checked without training.
QUICK = {"demo-local"}
TRAINED = {path for path in EXPERIMENTS if path.stem in QUICK}
SIMULATED = {OURS[store] for path in TRAINED if (store := part(path, "data")["init_args"]["store"]) in OURS}


@pytest.fixture(scope="module")
def store_of(tmp_path_factory, small_store):
    """Gives, for the path of a store, a small one from the recipe that makes it; simulated once."""
    folder = tmp_path_factory.mktemp("stores")

    def make(named: str) -> Path:
        path = folder / named
        if "mine" in named:  # it comes from `import`
            return small_store
        if not path.exists() and named in OURS:
            recipe = yaml.safe_load(OURS[named].read_text())
            grid = recipe["process"]["init_args"]["grid"]
            side = 16 * grid.get("coarsen", 1)
            shape = f"--process.init_args.grid.shape=[{side},{side}]"
            fewer = [f"--{key}={value}" for key, value in grains(recipe, side**2 / np.prod(grid["shape"]))]
            size = [shape, "--splits={train: 3, val: 1, test: 1}", "--frames=28"]
            main(["simulate", "--config", str(OURS[named]), f"--output={path}", *size, *fewer])
        elif not path.exists():
            command = next(c for c in map(import_command, PUBLISHED) if f"--output {named}" in shlex.join(c))
            frames = folder / "frames.npy"
            np.save(frames, np.random.default_rng(0).random((2, 20, 16, 16), dtype=np.float32))
            main([*command, f"--input={frames}", f"--output={path}"])
        return path

    return make


def grains(recipe: dict, share: float) -> list[tuple[str, float]]:
    """The settings that keep grains as large as they are in a box of a share of the size."""
    settings = [("process.init_args.grains", recipe["process"]["init_args"].get("grains"))]
    drawn = recipe.get("sample", {}).get("grains", {})
    settings += [(f"sample.grains.{end}", drawn.get(end)) for end in ("low", "high")]
    return [(name, max(2.0, value * share)) for name, value in settings if value]


def import_command(benchmark: Path) -> list[str]:
    """The words of the command in the first lines of a config, from `import` on."""
    head = [line.removeprefix("#").strip() for line in benchmark.read_text().split("\n") if line.startswith("#")]
    command = " ".join(head[next(i for i, line in enumerate(head) if " import " in line) :]).replace("\\", "")
    return shlex.split(command.removeprefix("python -m microevo "))


@pytest.fixture(scope="module")
def train(store_of, tmp_path_factory):
    """Trains an experiment, once, in a folder that all runs share; returns its options."""
    folder = tmp_path_factory.mktemp("experiments")

    def run(experiment: Path) -> list[str]:
        store = store_of(part(experiment, "data")["init_args"]["store"])
        args = ["--config", str(experiment), *shrink(experiment, store), NO_LOGGER]
        if not (folder / "runs" / experiment.stem).exists():
            main(["fit", *args])
        return args

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield run


# ------------------------------------------------------------------ the files


def test_the_lists_are_not_empty():
    assert {"spinodal-fcn", "spinodal-convlstm", "spinodal-predrnn", "demo/demo-fcn"} <= {
        name_of(p) for p in EXPERIMENTS
    }
    assert set(OF_PROCESSES) <= set(BENCHMARKS)
    assert len(PUBLISHED) == 4
    assert len(RECIPES) >= 2
    assert len(TRAINED) == len(QUICK)


def test_every_file_is_used():
    used = {*EXPERIMENTS, *BENCHMARKS, HERE / "defaults.yaml", *HERE.glob("sweeps/*.yaml")}
    used.update([*HERE.glob("studies/*.yaml"), *HERE.glob("results/*.yaml")])
    used.add(HERE / "paper" / "training.yaml")  # `make paper` adds it to experiments
    for path in [*EXPERIMENTS, *BENCHMARKS]:
        for value in yaml.safe_load(path.read_text()).values():
            if isinstance(value, str) and value.endswith(".yaml"):
                used.add((path.parent / value).resolve())
    assert {*HERE.rglob("*.yaml")} == used
    asked = {protocol.store for path in BENCHMARKS for protocol in benchmark_of(path).protocols.values()}
    assert {store for store, recipe in OURS.items() if recipe.parent.name == "tests"} <= asked


@pytest.mark.parametrize("path", [*RECIPES, *EXPERIMENTS, *BENCHMARKS], ids=name_of)
def test_a_file_begins_with_its_command(path):
    command = "simulate" if path in RECIPES else "benchmark" if path in BENCHMARKS else "fit"
    assert path.read_text().startswith(f"# python -m microevo {command} --config {path.relative_to(ROOT)}\n")


# ------------------------------------------------------------------ recipes


@cache
def recipe_of(store: str) -> SimpleNamespace:
    """The recipe of a store as `simulate` reads it, and its sampling of parameters."""
    read = parser("simulate", generate)
    settings = read.instantiate_classes(read.parse_args(["--config", str(OURS[store])]))
    sampling = Sampling(ranges=settings.sample or {}, fraction=settings.fraction_sampled, resample=settings.resample)
    return SimpleNamespace(**(settings.as_dict() | {"sampling": sampling}))


def span(store: str, parameter: str) -> tuple[float, float]:
    """Smallest and largest value that a parameter can have in a store."""
    recipe = recipe_of(store)
    own = float(getattr(recipe.process, parameter))
    if (limits := recipe.sampling.ranges.get(parameter)) is None:
        return own, own
    values = [limits.low, limits.high, *([own] if recipe.sampling.fraction * limits.share < 1 else [])]
    return min(values), max(values)


@pytest.mark.parametrize("recipe", RECIPES, ids=name_of)
def test_a_recipe_is_accepted_with_all_that_it_draws(recipe):
    asked = yaml.safe_load(recipe.read_text())
    settings = recipe_of(asked["output"])
    count = sum(settings.splits.values())
    assert count >= 1
    for name, value in asked["process"]["init_args"].items():
        if name != "grid":
            assert getattr(settings.process, name) == value
    values = settings.sampling.values(settings.process, settings.seed, min(count, 100))
    for name, drawn in values.items():
        low, high = span(asked["output"], name)
        assert low <= drawn.min() <= drawn.max() <= high


@pytest.mark.parametrize("recipe", some(RECIPES, SIMULATED))
def test_a_recipe_makes_a_store(store_of, recipe):
    asked = yaml.safe_load(recipe.read_text())
    store = TrajectoryStore.open(store_of(asked["output"]))
    assert store.image_shape == (16, 16)
    assert store.attributes["complete"]
    assert f"--config {recipe}" in store.attributes["command"]
    settings = store.attributes["recipe"]["process"]["init_args"]
    for name, value in asked["process"]["init_args"].items():
        if name not in ("grid", "grains"):
            assert settings[name] == value


# ------------------------------------------------------------------ experiments


COMMON = {path for path in EXPERIMENTS if path.stem.rsplit("-")[-1] in ("fcn", "convlstm", "predrnn", "local")}


@pytest.mark.parametrize("experiment", some(EXPERIMENTS, COMMON))
def test_an_experiment_is_understood(experiment, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", str(experiment), "--print_config"])
    assert stop.value.code in (0, None)
    config = yaml.safe_load(capsys.readouterr().out)
    settings = config["data"]["init_args"]
    TrajectoryDataModule(**settings)
    if model_of(experiment) == "FNO":
        pytest.importorskip("neuralop")
    options = part(experiment, "model").get("init_args", {})
    with torch.device("meta"):
        getattr(microevo.models, model_of(experiment))(n_past=settings["n_past"], channels=1, **options)
    if settings["store"] in OURS:
        assert (
            settings["n_past"] + max(settings["horizon"], settings["n_future"]) <= recipe_of(settings["store"]).frames
        )


@pytest.mark.parametrize("experiment", some(EXPERIMENTS, TRAINED))
def test_an_experiment_is_trained_and_tested(experiment, train):
    if model_of(experiment) == "FNO":
        pytest.importorskip("neuralop")
    args = train(experiment)
    run = Path("runs") / experiment.stem
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["microevo_model"] == model_of(experiment)
    assert (run / "validation.png").is_file()
    main(["test", *args, "--ckpt_path=best"])
    table = pd.read_csv(run / "test.csv")
    assert set(table.model) == {model_of(experiment), "Persistence"}
    assert set(table.lead) == set(range(1, 7))


@pytest.mark.slow
def test_a_quick_check_leaves_no_model_behind(small_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = HERE / "demo" / "demo-fcn.yaml"
    main(["fit", "--config", str(experiment), *shrink(experiment, small_store), "--trainer.fast_dev_run=true"])
    assert not list(Path("runs").rglob("best.ckpt"))


def test_defaults_are_what_the_experiments_rely_on():
    defaults = yaml.safe_load((HERE / "defaults.yaml").read_text())
    callbacks = {
        entry["class_path"].rsplit(".", 1)[-1]: entry.get("init_args", {}) for entry in defaults["trainer"]["callbacks"]
    }
    assert callbacks["ModelCheckpoint"]["monitor"] == callbacks["EarlyStopping"]["monitor"] == "val/mse"
    assert not callbacks["EarlyStopping"]["check_finite"]  # single steps are learnt before long forecasts
    assert not callbacks["ModelCheckpoint"]["auto_insert_metric_name"]  # a slash in a file name makes a folder


# ------------------------------------------------------------------ benchmarks


@cache
def benchmark_of(path: Path) -> SimpleNamespace:
    """A benchmark's config as the command reads it."""
    read = parser("benchmark", run)
    settings = read.instantiate_classes(read.parse_args(["--config", str(path)]))
    protocols = {
        name: protocol if isinstance(protocol, Protocol) else Protocol(**vars(protocol))
        for name, protocol in settings.protocols.items()
    }
    return SimpleNamespace(**(settings.as_dict() | {"protocols": protocols}))


def experiment_of(checkpoint: str) -> Path:
    """The experiment that a checkpoint is a run of."""
    return next(path for path in EXPERIMENTS if path.stem == Path(checkpoint).parts[-3])


@pytest.mark.parametrize("config", BENCHMARKS, ids=name_of)
def test_a_benchmark_asks_for_what_its_recipes_and_experiments_give(config):
    asked = benchmark_of(config)
    for name, protocol in asked.protocols.items():
        protocol.check_name(name)
        if config not in PUBLISHED:
            recipe = recipe_of(protocol.store)
            assert {field.name for field in recipe.process.fields} >= set(asked.fields or [])
            assert protocol.n_past + protocol.horizon + max(protocol.starts) <= recipe.frames, name
            assert (protocol.trajectories or 1) <= recipe.splits.get(protocol.split, 0), name
            assert ("256x256" in name) == (recipe.process.grid.image_shape == (256, 256)), name
            assert ("512x512" in name) == (recipe.process.grid.image_shape == (512, 512)), name
    assert any(protocol.n_past == 10 for protocol in asked.protocols.values())  # with which the cost is measured
    first = next(iter(asked.protocols.values())).store
    forecast = asked.fields or [recipe_of(first).process.fields[0].name]
    for name, path in asked.checkpoints.items():
        experiment = experiment_of(path)
        assert path == f"runs/{experiment.stem}/checkpoints/best.ckpt"
        assert model_of(experiment) == name
        assert part(experiment, "data")["init_args"]["fields"] == forecast


def test_the_benchmarks_of_the_processes_have_the_same_protocols():
    of = {path.stem: benchmark_of(path) for path in OF_PROCESSES}
    usual = {"10->10", "10->50", "10->90", "10->190", "5->95", "5->95 zeros", "10->90 at 256x256"}
    settings = {field.name for field in fields(Protocol)} - {"store", "trajectories", "note"}
    for benchmark in of.values():
        assert all(protocol.trajectories for protocol in benchmark.protocols.values())
        assert usual <= set(benchmark.protocols)
        assert any("shifted" in name for name in benchmark.protocols)
        for name in usual:  # two numbers with one name are comparable
            own, other = benchmark.protocols[name], of["spinodal"].protocols[name]
            assert all(getattr(own, setting) == getattr(other, setting) for setting in settings)


@pytest.mark.parametrize("config", OF_PROCESSES, ids=name_of)
def test_a_test_set_differs_from_the_training_in_what_its_protocol_says(config):
    protocols = {
        name: protocol
        for path in BENCHMARKS
        if path in (config, config.with_stem(f"{config.stem}-512"))  # a large set may have a file of its own
        for name, protocol in benchmark_of(path).protocols.items()
    }
    trained = protocols["10->90"].store
    law = vars(recipe_of(trained).process)
    for name, protocol in protocols.items():
        if protocol.store == trained:
            continue
        recipe, shifted = recipe_of(protocol.store), name.partition("shifted ")[2]
        assert type(recipe.process) is type(recipe_of(trained).process)
        assert recipe.seed != recipe_of(trained).seed
        grid, usual = recipe.process.grid, law["grid"]
        assert (grid.spacing, grid.coarsen, grid.boundary) == (usual.spacing, usual.coarsen, usual.boundary)
        # What is not formed at first, or too small for the box, is shown later.
        free = {"grid", "first_frame", "grains", shifted}
        for setting, value in law.items():
            assert setting in free or getattr(recipe.process, setting) == value, (name, setting)
        if not shifted:
            boxes = np.prod(grid.shape) / np.prod(usual.shape)  # as many grains in each
            drawn = dict(recipe_of(trained).sampling.ranges)
            if "grains" in drawn:
                drawn["grains"] = replace(
                    drawn["grains"], low=drawn["grains"].low * boxes, high=drawn["grains"].high * boxes
                )
            assert getattr(recipe.process, "grains", 0) == law.get("grains", 0) * boxes
            assert recipe.sampling == replace(recipe_of(trained).sampling, ranges=drawn)
            continue
        low, high = span(protocol.store, shifted)
        for known in (trained, trained.replace(".zarr", "-paper.zarr")):
            if known in OURS:
                least, most = span(known, shifted)
                assert high < least or low > most, f"{name} is inside the range of {known}"
        for parameter in set(recipe.sampling.ranges) - {shifted}:
            least, most = span(trained, parameter)
            low, high = span(protocol.store, parameter)
            assert least <= low <= high <= most, (name, parameter)


@pytest.mark.parametrize("config", some(PUBLISHED, {HERE / "benchmark" / "published-spinodal.yaml"}))
def test_the_published_samples_are_imported_as_the_config_says(config, tmp_path):
    asked, command = benchmark_of(config), import_command(config)
    read = parser("import", import_frames)
    settings = read.parse_args(command[1:])
    assert {protocol.store for protocol in asked.protocols.values()} == {settings.output}
    assert settings.fields == asked.fields
    if not (REAL / settings.input).is_file():
        pytest.skip(f"{settings.input} is not in {REAL}")
    main([*command, f"--input={REAL / settings.input}", f"--output={tmp_path / 'published.zarr'}"])
    for protocol in asked.protocols.values():
        changed = Protocol(**(vars(protocol) | {"store": str(tmp_path / "published.zarr")}))
        assert len(changed.windows(asked.fields)) == 18


@pytest.mark.parametrize("config", some(BENCHMARKS, {HERE / "demo" / "benchmark.yaml"}))
@pytest.mark.slow
def test_a_benchmark_compares_the_models_that_it_names(config, train, store_of, capsys):
    asked = yaml.safe_load(config.read_text())
    for path in asked["checkpoints"].values():
        if not Path(path).is_file():
            train(experiment_of(path))
        assert Path(path).is_file()

    # The names promise other numbers of frames than the small stores have.
    small = {"horizon": 6, "trajectories": 1, "starts": [0]}
    protocols = {
        name.replace("->", " to "): protocol | small | {"store": str(store_of(protocol["store"]))}
        for name, protocol in asked["protocols"].items()
    }
    args = ["benchmark", "--config", str(config), f"--protocols={json.dumps(protocols)}"]
    args += ["--repeats=1", "--device=cpu", "--leads=[1,6]"]
    main(args)
    folder = Path(asked["output"])
    assert {"report.html", "report.md", "summary.csv", "cost.csv", "table"} <= {path.name for path in folder.iterdir()}
    summary = pd.read_csv(folder / "summary.csv")
    assert {*asked["checkpoints"], "Persistence"} <= set(summary.competitor)
    assert set(summary.protocol) == set(protocols)
    assert all(name in (folder / "report.md").read_text() for name in asked["checkpoints"])

    before = {path: path.read_bytes() for path in folder.rglob("*.parquet")}
    capsys.readouterr()
    changed = {name: protocol | {"horizon": 5} for name, protocol in protocols.items()}
    with pytest.raises(SystemExit):
        main([*args, f"--protocols={json.dumps(changed)}"])
    assert "made with other settings of the protocol or data; use --overwrite" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*.parquet")} == before


@pytest.mark.slow
def test_a_benchmark_without_models_has_baseline_and_reference(small_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    protocols = json.dumps({"4->6": {"store": str(small_store), "n_past": 4, "horizon": 6}})
    args = [f"--protocols={protocols}", "--output=out", "--leads=[1,6]", "--repeats=1", "--device=cpu"]
    main(["benchmark", *args])
    summary = pd.read_csv("out/summary.csv")
    assert set(summary[summary.name == "rmse"].competitor) == {"Persistence", "Reference solver"}
    assert set(summary[summary.name == "particle_count"].competitor) == {"Truth", "Persistence", "Reference solver"}

    made = {path: path.read_bytes() for path in Path("out").rglob("*") if path.suffix in (".parquet", ".html")}
    main(["benchmark", *args])  # all is there already
    main(["benchmark", *args, "--render_only=true"])
    assert {path: path.read_bytes() for path in made} == made


@pytest.mark.slow
def test_windows_that_were_cut_from_one_simulation_count_once(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    frames = np.random.default_rng(0).random((2, 14, 16, 16), dtype=np.float32)
    np.save("windows.npy", np.stack([one[first : first + 10] for one in frames for first in (0, 2, 4)]))
    main(["import", "--input=windows.npy", "--output=cut.zarr", "--splits={test: 1}", "--fields=[c]"])
    protocols = json.dumps({"4->6": {"store": "cut.zarr", "n_past": 4, "horizon": 6}})
    main(["benchmark", f"--protocols={protocols}", "--output=cut", "--leads=[1,6]", "--repeats=1", "--device=cpu"])
    assert set(pd.read_csv("cut/summary.csv").trajectories) == {2}
    assert (
        "6 forecasts of 6 trajectories, split test, cut from 2 simulations of `cut.zarr`"
        in Path("cut/report.md").read_text()
    )
    assert "6 forecasts of 6 trajectories, split test, cut from 2 simulations" in Path("cut/report.html").read_text()
