"""Lightning's search for a learning rate, on the command line."""

from pathlib import Path

import pytest
import torch
import yaml
from command_line import TINY
from lightning import Callback

RATES: list[float] = []


class Rates(Callback):
    """Notes the learning rate of each step."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        RATES.append(trainer.optimizers[0].param_groups[0]["lr"])


@pytest.fixture
def fit(cli, small_store):
    """Fits with a search for the learning rate; the rate of each step and the checkpoint."""
    tree = yaml.safe_load(TINY.replace("STORE", str(small_store)))
    finder = {"num_training_steps": 20}
    tree["model"]["init_args"]["lr"] = 2e-3
    tree["data"]["init_args"]["batch_size"] = 8
    tree["trainer"] |= {"max_epochs": 3, "limit_train_batches": 8, "limit_val_batches": 1}
    search = {"class_path": "LearningRateFinder", "init_args": finder}
    tree["trainer"]["callbacks"] += [search, {"class_path": f"{__name__}.Rates"}]

    def run(*args, **settings):
        finder.update(settings)
        Path("found.yaml").write_text(yaml.safe_dump(tree))
        RATES.clear()
        outcome = cli("fit", "--config", "found.yaml", "--run_dir=run", *args)
        assert outcome.code == 0, outcome.err
        return list(RATES), torch.load("run/checkpoints/last.ckpt", weights_only=True), outcome

    return run


@pytest.mark.slow
def test_the_rate_that_is_found_is_trained_with_stored_and_kept_on_resuming(fit):
    rates, checkpoint, _ = fit()
    found = checkpoint["hyper_parameters"]["lr"]
    assert found != 2e-3
    assert max(rates) == pytest.approx(found, rel=0.05)  # the peak lies between two steps
    assert max(rates[0], rates[-1]) < found / 5
    rates, checkpoint, outcome = fit("--ckpt_path=last", "--trainer.max_epochs=4")
    assert "LearningRateFinder is left out" in outcome.out
    assert checkpoint["hyper_parameters"]["lr"] == found
    assert len(rates) == 8
    assert max(rates) < found


@pytest.mark.slow
def test_a_search_that_is_to_change_nothing_changes_nothing(fit):
    rates, checkpoint, _ = fit("--trainer.max_epochs=2", update_attr=False, num_training_steps=12)
    assert checkpoint["hyper_parameters"]["lr"] == 2e-3
    assert max(rates) == pytest.approx(2e-3, rel=0.1)
