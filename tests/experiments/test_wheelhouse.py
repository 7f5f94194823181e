"""Wheels for a machine without a network."""

import importlib.util
import os
import re
import subprocess
import sys
from importlib.metadata import distribution, distributions
from pathlib import Path
from types import ModuleType

import pytest
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "experiments" / "paper" / "wheelhouse.py"
# What a node with PyTorch and the usual scientific packages has; it lacks zarr, jsonargparse, wandb and what these need.
NODE = (  # noqa: SIM905
    "torch lightning torchmetrics numpy numba scipy pandas pyarrow h5py einops jaxtyping matplotlib scikit-image "
    "imageio tifffile tqdm xarray safetensors pyyaml pytest rich"
).split()


@pytest.fixture(scope="module")
def wheelhouse() -> ModuleType:
    spec = importlib.util.spec_from_file_location("wheelhouse", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_lists_of_packages_are_read(wheelhouse: ModuleType, tmp_path: Path):
    path = tmp_path / "node.txt"
    path.write_text(
        "Package      Version\n------------ -------\nPyYAML       6.0.3\ntorch==2.11.0+cu130\nscikit_image\n# no\n\n"
    )
    assert wheelhouse.read_list(path) == {"pyyaml": "6.0.3", "torch": "2.11.0+cu130", "scikit-image": ""}


def test_only_what_is_lacking_is_collected(wheelhouse: ModuleType):
    packages, remarks = wheelhouse.missing(dict.fromkeys(NODE, ""), frozenset(), "3.12")
    assert {
        "zarr",
        "jsonargparse",
        "connected-components-3d",
        "wandb",
        "numcodecs",
        "docstring-parser",
    } <= packages.keys()
    assert not packages.keys() & set(NODE)
    assert not {"jax", "ruff", "py-pde", "microevo"} & packages.keys()
    assert packages["zarr"] == distribution("zarr").version
    assert remarks == []
    without, _ = wheelhouse.missing(dict.fromkeys(NODE, ""), frozenset({"wandb"}), "3.12")
    assert "wandb" not in without
    assert "protobuf" not in without  # only wandb needs it


def test_optional_parts_are_collected_when_asked_for(wheelhouse: ModuleType):
    plain, _ = wheelhouse.missing(dict.fromkeys(NODE, ""), frozenset(), "3.12")
    more, _ = wheelhouse.missing(dict.fromkeys(NODE, ""), frozenset(), "3.12", frozenset({"test"}))
    assert plain.items() <= more.items()
    assert "import-linter" in more.keys() - plain.keys()


def test_everything_but_torch_unless_a_list_is_given(wheelhouse: ModuleType):
    packages, _ = wheelhouse.missing({}, frozenset(), "3.12")
    assert {"numpy", "lightning", "numba", "zarr"} <= packages.keys()
    assert "torch" not in packages


def test_versions_that_do_not_fit_are_said(wheelhouse: ModuleType):
    packages, remarks = wheelhouse.missing({"numpy": "1.26.4"}, frozenset(), "3.12")
    assert "numpy" in packages
    assert any(re.match(r"numpy>=2.* is needed, but the machine has 1\.26\.4", remark) for remark in remarks)
    with pytest.raises(ValueError, match=r"needs torch.*the machine has 1\.13\.1; install a newer PyTorch"):
        wheelhouse.missing({"torch": "1.13.1"}, frozenset(), "3.12")


def node(folder: Path, have: set[str]) -> Path:
    """The Python of an environment that has the given packages of ours and nothing else."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    for one in distributions():
        if canonicalize_name(one.metadata["Name"]) in have:
            for top in {file.parts[0] for file in one.files or () if file.parts[0] not in ("..", "__pycache__")}:
                ours = Path(str(one.locate_file(top)))
                if not (site / top).exists():
                    (site / top).symlink_to(ours)
    return folder / "bin" / "python"


@pytest.mark.slow
def test_a_node_installs_from_the_folder_alone(wheelhouse: ModuleType, tmp_path: Path):
    """Without wandb too: simulate, fit, test and benchmark."""
    lacking, _ = wheelhouse.missing(dict.fromkeys(NODE, ""), frozenset(), "3.11")
    needed, _ = wheelhouse.missing({}, frozenset(), "3.11")
    have = (needed.keys() - lacking.keys()) | {"torch"} | {canonicalize_name(name) for name in torch_needs(wheelhouse)}
    (tmp_path / "node.txt").write_text("\n".join(NODE))
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    words = [sys.executable, SCRIPT, "--python", version, "--have", tmp_path / "node.txt", "--without", "wandb"]
    done = subprocess.run(
        [*words, "--output", tmp_path / "wheels"], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr
    wheels = sorted((tmp_path / "wheels").glob("*.whl"))
    assert sum(wheel.stat().st_size for wheel in wheels) < 60e6

    python = node(tmp_path / "node", have)
    clean = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}

    def run(*words: object) -> str:
        command = [python, "-m", *words]
        ended = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, cwd=tmp_path, env=clean, check=False
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout + ended.stderr

    run("pip", "install", "--no-index", "--no-deps", "--quiet", *wheels)
    recipe = ROOT / "data" / "recipes" / "demo.yaml"
    run("microevo", "simulate", "--config", recipe, "--output", "demo.zarr", "--splits", "{train: 2, val: 1, test: 2}")
    config = ROOT / "experiments" / "demo" / "demo-convlstm.yaml"
    data = ["--data.init_args.store", "demo.zarr", "--trainer.max_steps", "2", "--trainer.val_check_interval", "1"]
    told = run("microevo", "fit", "--config", config, *data, "--run_dir", "run")
    assert "wandb is not installed: logging to CSV files" in told
    best = "run/checkpoints/best.ckpt"
    run("microevo", "test", "--config", config, *data, "--ckpt_path", best)
    protocol = '{"10->50": {"store": "demo.zarr", "horizon": 50}}'
    run("microevo", "benchmark", "--protocols", protocol, "--checkpoints", f"{{ConvLSTM: {best}}}", "--repeats", "1")
    assert (tmp_path / "results" / "benchmark" / "report.html").exists()


def torch_needs(wheelhouse: ModuleType) -> set[str]:
    """All that PyTorch itself needs."""
    waiting, found = ["torch"], set()
    while waiting:
        for requirement in wheelhouse.needs(waiting.pop(), frozenset(), "3.11"):
            if requirement.name not in found:
                found.add(requirement.name)
                waiting.append(requirement.name)
    return found
