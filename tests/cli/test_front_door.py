"""What a person types first: `microevo` in a shell, `import microevo` in Python, and a model of one's own."""

import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest
from conftest import ROOT

import microevo

HEAVY = {"torch", "lightning", "numpy", "jsonargparse", "zarr", "wandb", "pandas"}
OWN_MODEL = """
import torch
from microevo.models import Forecaster

class Still(Forecaster):
    '''Repeats the last frame, plus a number that is learned.'''

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.save_hyperparameters(logger=False)
        self.offset = torch.nn.Parameter(torch.zeros(()))

    def forward(self, past, horizon):
        return past[:, -1:].expand(-1, horizon, -1, -1, -1) + self.offset
"""


def python(code: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=cwd, capture_output=True, text=True, timeout=300)


def test_importing_microevo_is_cheap(tmp_path):
    code = "import sys, microevo; print(microevo.__version__, *sys.modules)"
    version, *loaded = python(code, tmp_path).stdout.split()
    assert version == microevo.__version__
    assert not HEAVY & set(loaded)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "spared"),
    [
        ("simulate", {"lightning", "torchmetrics", "pandas", "matplotlib", "numba", "scipy.signal", "scipy.fft"}),
        ("convert", {"lightning", "torchmetrics", "pandas", "matplotlib", "numba", "xarray"}),
        ("fit", {"pandas", "pyarrow", "numba"}),
    ],
)
def test_the_help_of_a_command_imports_what_it_needs(tmp_path, command, spared):
    code = f"""
import contextlib, io, sys
from microevo.cli import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    main(["{command}", "--help"])
print(*sys.modules)
"""
    loaded = set(python(code, tmp_path).stdout.split())
    assert "torch" in loaded
    assert not spared & loaded


def test_the_names_of_the_front_door():
    assert {"simulate", "open_store", "load_model", "evaluate"} <= set(dir(microevo))
    for name in microevo.__all__:
        assert getattr(microevo, name) is not None
    with pytest.raises(AttributeError, match=r"no attribute 'simulat'; it has .*simulate"):
        microevo.simulat  # noqa: B018


def test_the_console_script_is_the_module(capsys):
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    module, _, function = scripts["microevo"].partition(":")
    getattr(import_module(module), function)(["--version"])
    assert capsys.readouterr().out == f"microevo {microevo.__version__}\n"


@pytest.mark.slow
def test_the_readmes_first_python_runs_in_a_fresh_process(tmp_path):
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    first = next(block for block in blocks if "import microevo" in block)
    assert len(first.splitlines()) <= 20
    checks = "assert forecast.shape == (1, 20, 1, 32, 32)\nassert set(scores.index) == {'FCN', 'Persistence'}"
    done = python(f"{first}\n{checks}", tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow  # tests/test_readme.py runs them in one process
def test_every_block_of_the_readme_runs_in_a_fresh_process(tmp_path, in_process):
    few = ["--splits", "{train: 8, val: 2, test: 2}"]
    in_process("simulate", "--config", ROOT / "data/recipes/demo.yaml", *few)  # `make demo` did
    for block in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL):
        done = python(block, tmp_path)
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_a_model_of_ones_own_is_trained_and_benchmarked(cli, monkeypatch, small_store):
    Path("still_model.py").write_text(OWN_MODEL)
    monkeypatch.syspath_prepend(str(Path.cwd()))
    monkeypatch.setenv("PYTHONPATH", str(Path.cwd()), prepend=":")
    fitted = cli("fit", "--config", "tiny.yaml", "--model=still_model.Still", "--run_dir=run")
    assert fitted.code == 0, fitted.err
    sys.modules.pop("still_model")  # as in another process
    words = [f'--protocols={{"4->5": {{store: {small_store}, n_past: 4, horizon: 5}}}}', "--output=results"]
    words += ["--checkpoints={Still: run/checkpoints/best.ckpt}", "--physics=none", "--repeats=1", "--device=cpu"]
    cli("benchmark", *words).refusal("still_model.Still, which is not imported", "--modules=[still_model]", code=1)
    cli("benchmark", *words, "--modules=[stil_model]").refusal("no module stil_model", "--modules", code=1)
    done = cli("benchmark", *words, "--modules=[still_model]", "--reference_solver=false")
    assert done.code == 0, done.err
    assert "Still" in Path("results/report.md").read_text()
