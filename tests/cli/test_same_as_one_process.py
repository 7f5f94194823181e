"""Several processes train as one does on the same windows, and score each window once."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from shared import small_process
from toy_windows import trainer

from microevo.callbacks import InputNoise, SeedSteps, Unrolling
from microevo.data import TrajectoryDataModule, TrajectoryStore, generate
from microevo.models import FCN, ConvLSTM, Forecaster, LocalNet

BATCH = 8  # windows in a step


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """45 training windows, of which five are left over after whole steps, and five validation windows."""
    path = tmp_path_factory.mktemp("uneven") / "uneven.zarr"
    generate(small_process(), path, splits={"train": 5, "val": 5, "test": 1}, frames=16)
    return path


def fcn() -> Forecaster:
    return FCN(hid_s=2, hid_t=4, n_s=2, n_t=2, n_past=4, horizon=4, drop_path=0.2)


def local() -> Forecaster:
    return LocalNet(widths=[4], blocks=1, n_past=4, horizon=4, lr=0.01)


def convlstm() -> Forecaster:
    return ConvLSTM(hidden=[4], n_past=4, horizon=4, lr=0.01)


def fit(store: Path, model: Forecaster, processes: int) -> tuple[dict[str, torch.Tensor], dict[str, float]]:
    """The weights after ten steps with everything that is random, and the scores of the last validation."""
    data = TrajectoryDataModule(
        str(store), n_past=4, n_future=4, horizon=4, batch_size=BATCH // processes, symmetries=["shift", "flip"]
    )
    callbacks = [SeedSteps(), InputNoise(0.3), Unrolling([2, 4])]
    # Forked, for a process of its own would import PyTorch and Lightning for ten seconds.
    several: dict[str, Any] = {"devices": processes, "strategy": "ddp_fork"} if processes > 1 else {}
    runner = trainer(max_epochs=2, gradient_clip_val=1.0, callbacks=callbacks, **several)
    runner.fit(model, data)
    scores = {name: float(value) for name, value in runner.callback_metrics.items() if name.startswith("val/")}
    return dict(model.state_dict()), scores


def assert_close(one: Mapping[str, torch.Tensor], several: Mapping[str, torch.Tensor]) -> None:
    assert one.keys() == several.keys()
    for name, weights in one.items():
        torch.testing.assert_close(several[name], weights, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize(
    ("make", "processes"),
    [
        pytest.param(local, 2, marks=pytest.mark.slow),
        (convlstm, 2),
        pytest.param(local, 4, marks=pytest.mark.slow),
        pytest.param(convlstm, 4, marks=pytest.mark.slow),
    ],
)
def test_several_processes_train_as_one_does(uneven, make, processes):
    torch.manual_seed(0)
    first = make().state_dict()
    models = [make(), make()]
    for model in models:
        model.load_state_dict(first)
    (one, score), (several, scores) = fit(uneven, models[0], 1), fit(uneven, models[1], processes)
    assert_close(one, several)
    assert scores == pytest.approx(score, rel=1e-5)


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_batches_are_normalised_as_those_of_one_process(uneven, processes):
    # The weights before a normalisation have no gradient but rounding, which AdamW makes as large as the others.
    torch.manual_seed(0)
    first = fcn().state_dict()
    models = [fcn(), fcn()]
    for model in models:
        model.load_state_dict(first)
        model.configure_optimizers = lambda model=model: torch.optim.SGD(model.parameters(), lr=0.1)
    (one, score), (several, scores) = fit(uneven, models[0], 1), fit(uneven, models[1], processes)
    assert_close(one, several)
    assert scores == pytest.approx(score, rel=1e-5)


@pytest.mark.parametrize("processes", [2, 4])
@pytest.mark.parametrize("cache", ["yes", "device"])
def test_a_step_has_the_windows_of_one_process(uneven, processes, cache):
    def steps(batch: int, rank: int = 0, world: int = 1) -> list[list[tuple[int, int, float]]]:
        data = TrajectoryDataModule(
            str(uneven), n_past=4, n_future=4, horizon=4, batch_size=batch, symmetries=["shift"], cache=cache
        )
        strategy = type("", (), {"root_device": torch.device("cpu")})
        data.trainer = type("", (), {"world_size": world, "global_rank": rank, "strategy": strategy})
        data.setup("fit")
        batches = data.train_dataloader()
        return [[(int(i), int(t), float(f[0, 0, 0, 0])) for f, _, i, t, _ in zip(*b, strict=True)] for b in batches]

    one = steps(BATCH)
    ranks = [steps(BATCH // processes, rank, processes) for rank in range(processes)]
    assert len(one) == len(TrajectoryStore.open(uneven).split("train")) * 9 // BATCH == 5
    together = [sorted(window for part in parts for window in part) for parts in zip(*ranks, strict=True)]
    assert together == [sorted(step) for step in one]
