from pathlib import Path

import pandas as pd
import pytest
import torch
import yaml
from tiny_models import model_of, part, shrink

from microevo.cli import main
from microevo.data import TrajectoryStore

ROOT = Path(__file__).parents[1]
RECIPES = sorted(ROOT.glob("data/recipes/*.yaml"))
BENCHMARKS = sorted(ROOT.glob("experiments/**/benchmark*.yaml"))
EXPERIMENTS = [
    path
    for path in sorted(ROOT.glob("experiments/**/*.yaml"))
    if {"data", "model"} <= yaml.safe_load(path.read_text()).keys()
]
HERE = ROOT / "experiments"
NO_LOGGER = "--trainer.logger=false"


def name_of(path: Path) -> str:
    return str(path.relative_to(HERE if path.is_relative_to(HERE) else ROOT)).removesuffix(".yaml")


@pytest.fixture(scope="module")
def store_of(tmp_path_factory, small_store):
    """Gives, for the path of a store, a small one from the recipe that makes it; simulated once."""
    folder = tmp_path_factory.mktemp("stores")
    recipes = {yaml.safe_load(recipe.read_text())["output"]: recipe for recipe in RECIPES}

    def make(named: str) -> Path:
        if "mine" in named:  # it comes from `import`
            return small_store
        assert named in recipes, f"no recipe makes {named}"
        path = folder / Path(named).name
        if not path.exists():
            grid = yaml.safe_load(recipes[named].read_text())["process"]["init_args"]["grid"]
            side = 16 * grid.get("coarsen", 1)
            shape = f"--process.init_args.grid.shape=[{side},{side}]"
            size = [shape, "--splits={train: 3, val: 1, test: 1}", "--frames=20"]
            main(["simulate", "--config", str(recipes[named]), f"--output={path}", *size])
        return path

    return make


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


def test_the_lists_are_not_empty():
    assert {"spinodal-fcn", "spinodal-convlstm", "spinodal-predrnn", "demo/demo-fcn"} <= {
        name_of(p) for p in EXPERIMENTS
    }
    assert len(RECIPES) >= 2
    assert len(BENCHMARKS) >= 2


def test_every_file_is_used():
    used = {*EXPERIMENTS, *BENCHMARKS, HERE / "defaults.yaml", *HERE.glob("sweeps/*.yaml")}
    for path in [*EXPERIMENTS, *BENCHMARKS]:
        for value in yaml.safe_load(path.read_text()).values():
            if isinstance(value, str) and value.endswith(".yaml"):
                used.add((path.parent / value).resolve())
    assert {*HERE.rglob("*.yaml")} == used


@pytest.mark.parametrize("recipe", RECIPES, ids=name_of)
def test_a_recipe_makes_a_store(store_of, recipe):
    asked = yaml.safe_load(recipe.read_text())
    store = TrajectoryStore.open(store_of(asked["output"]))
    assert store.image_shape == (16, 16)
    assert store.attributes["complete"]
    assert f"--config {recipe}" in store.attributes["command"]
    settings = store.attributes["recipe"]["process"]["init_args"]
    for name, value in asked["process"]["init_args"].items():
        if name != "grid":
            assert settings[name] == value
    assert recipe.read_text().startswith(f"# python -m microevo simulate --config {recipe.relative_to(ROOT)}\n")


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=name_of)
def test_an_experiment_is_trained_and_tested(experiment, train):
    args = train(experiment)
    run = Path("runs") / experiment.stem
    best = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["microevo_model"] == model_of(experiment)
    assert (run / "validation.png").is_file()
    main(["test", *args, "--ckpt_path=best"])
    table = pd.read_csv(run / "test.csv")
    assert set(table.model) == {model_of(experiment), "Persistence"}
    assert set(table.lead) == set(range(1, 7))
    assert experiment.read_text().startswith(f"# python -m microevo fit --config {experiment.relative_to(ROOT)}\n")


def test_a_quick_check_leaves_no_model_behind(small_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    experiment = HERE / "demo" / "demo-fcn.yaml"
    main(["fit", "--config", str(experiment), *shrink(experiment, small_store), "--trainer.fast_dev_run=true"])
    assert not list(Path("runs").rglob("best.ckpt"))


@pytest.mark.parametrize("config", BENCHMARKS, ids=name_of)
def test_a_benchmark_compares_the_models_that_it_names(config, train, store_of, capsys):
    asked = yaml.safe_load(config.read_text())
    for name, path in asked["checkpoints"].items():
        experiment = next(e for e in EXPERIMENTS if e.stem == Path(path).parts[-3])  # a run of one of our experiments
        assert model_of(experiment) == name
        train(experiment)
        assert Path(path).is_file()

    store = store_of(part(config, "data")["init_args"]["store"])
    args = ["benchmark", "--config", str(config), f"--data.init_args.store={store}", "--data.init_args.horizon=6"]
    args += ["--repeats=1", "--device=cpu"]
    main([*args, "--leads=[1,6]"])
    folder = Path(asked["output"])
    assert {"report.md", "report.png", "summary.csv", "results.csv"} <= {path.name for path in folder.iterdir()}
    models = {*asked["checkpoints"], "Persistence"}
    assert set(pd.read_csv(folder / "results.csv").model) == models
    assert set(pd.read_csv(folder / "summary.csv").iloc[:, 0]) == models
    assert all(name in (folder / "report.md").read_text() for name in models)

    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(args)
    assert "holds a report already; use --overwrite" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_benchmark_without_models_is_the_floor(small_store, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    data = f"{{class_path: TrajectoryDataModule, init_args: {{store: {small_store}, horizon: 6}}}}"
    main(["benchmark", f"--data={data}", "--output=floor", "--leads=[1,6]", "--repeats=1", "--device=cpu"])
    assert set(pd.read_csv("floor/results.csv").model) == {"Persistence"}


def test_defaults_are_what_the_experiments_rely_on():
    defaults = yaml.safe_load((HERE / "defaults.yaml").read_text())
    callbacks = {
        entry["class_path"].rsplit(".", 1)[-1]: entry.get("init_args", {}) for entry in defaults["trainer"]["callbacks"]
    }
    assert callbacks["ModelCheckpoint"]["monitor"] == callbacks["EarlyStopping"]["monitor"] == "val/mse"
    assert not callbacks["ModelCheckpoint"]["auto_insert_metric_name"]  # a slash in a file name makes a folder
