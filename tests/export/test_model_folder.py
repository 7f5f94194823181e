import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
import torch

import microevo
from microevo.benchmark.long_table import LongTable
from microevo.benchmark.results import RECORD, VERSION
from microevo.export import export
from microevo.export.card import benchmark_scores, model_card
from microevo.models import LocalNet, load_model
from microevo.models.checkpoint import checkpoint_of, read_checkpoint
from microevo.models.folder import CONFIG, WEIGHTS, model_fingerprint, write_folder

SCORES = [("FCN", 0.1), ("Persistence", 0.4)]


@pytest.fixture(scope="session")
def exported(tmp_path_factory, trained):
    """The model folder of the FCN that the tests train."""
    folder = tmp_path_factory.mktemp("exported") / "fcn"
    export(str(trained / "checkpoints" / "best.ckpt"), str(folder))
    return folder


def test_a_model_folder_opens_in_one_line_and_forecasts_the_same(cli, trained, exported):
    best, past = trained / "checkpoints" / "best.ckpt", torch.rand(2, 4, 1, 16, 16)
    outcome = cli("export", "--ckpt_path", best, "--output=out/fcn")
    assert outcome.code == 0, outcome.err
    assert "microevo.load_model('out/fcn')" in outcome.out
    model, original = microevo.load_model("out/fcn"), load_model(best)
    with torch.no_grad():
        assert torch.equal(model(past, 5), original(past, 5))
    assert not model.training
    assert (model.trained_seed, model.trained_spans) == (0, original.trained_spans)
    assert sorted(path.name for path in Path("out/fcn").iterdir()) == ["README.md", CONFIG, WEIGHTS]
    card, data = Path("out/fcn/README.md").read_text(), read_checkpoint(best)["TrajectoryDataModule"]
    assert data["fingerprint"] in card
    assert "| hid_t | 4 |" in card
    assert str(Path(data["store"]).parent) not in card + Path("out/fcn", CONFIG).read_text()
    assert not list(Path("out").glob(".*"))
    # A model folder is as good as a checkpoint for those that need no state of a training.
    assert read_checkpoint("out/fcn")["datamodule_hyper_parameters"] == {"fields": ["c"]}
    cli("test", "--config=tiny.yaml", "--ckpt_path=out/fcn").refusal("out/fcn is a model folder", "init_from", code=1)
    again = cli("export", "--ckpt_path=out/fcn", "--output=again")
    assert again.code == 0
    assert {path.name: path.read_bytes() for path in Path("again").iterdir()} == {
        path.name: path.read_bytes() for path in Path("out/fcn").iterdir()
    }


@pytest.mark.slow
def test_what_does_not_fit_is_not_exported(cli, trained, exported):
    best = trained / "checkpoints" / "best.ckpt"
    Path("there").mkdir()
    Path("there/keep").touch()
    shutil.copytree(exported, "fcn")
    for args, words in {
        ("--output=fcn",): ["fcn exists already", "--overwrite"],
        ("--output=there", "--overwrite"): ["there exists already", "not a model folder"],
        ("--output=x.txt", "--format=onnx"): ["x.txt", ".onnx"],
        ("--output=x", "--format=onnxx"): ["onnxx"],
        ("--output=x", "--horizon=3"): ["horizon is for"],
        ("--output=x.pt2", "--format=torch-export", "--scores=there"): ["leave them out for torch-export"],
        ("--output=x", "--scores=there"): ["no benchmark in there"],
    }.items():
        cli("export", "--ckpt_path", best, *args).refusal(*words)
    cli("export", "--ckpt_path=nope", "--output=x").refusal("no checkpoint at nope")
    assert not Path("x").exists()
    assert cli("export", "--ckpt_path", best, "--output=fcn", "--overwrite").code == 0


def test_nothing_is_put_in_place_that_differs_from_the_original(cli, trained, monkeypatch):
    wrong = load_model(trained / "checkpoints" / "best.ckpt")
    with torch.no_grad():
        wrong.net.decoder.readout.bias.add_(1e-3)
    monkeypatch.setattr(
        "microevo.export.run.load_model", lambda path: wrong if "fcn" in str(path) else load_model(path)
    )
    refused = cli("export", "--ckpt_path", trained / "checkpoints" / "best.ckpt", "--output=fcn")
    refused.refusal("differs from the FCN", "not put in place", code=1)
    assert not Path("fcn").exists()


@pytest.mark.slow
def test_the_card_shows_the_scores_of_these_weights(tmp_path, exported):
    names = ("protocol", "competitor", "kind", "name", "statistic", "mean", "low", "high", "seeds")
    rows = [
        ("4->5", name, "metric", "rmse", "mean over leads", mean, mean - 0.01, mean + 0.01, 1) for name, mean in SCORES
    ]
    pd.DataFrame([*rows, ("4->5", "FCN", "quantity", "energy", "mean over leads", 1, 1, 1, 1)], columns=names).to_csv(
        tmp_path / "summary.csv"
    )
    protocol = {
        "n_past": 4,
        "horizon": 5,
        "store": "data/made.zarr",
        "digest": "12345678",
        "competitors": list(dict(SCORES)),
    }
    competitors = [{"label": name, "name": name, "seed": 0} for name, _ in SCORES]
    record = {"version": VERSION, "competitors": competitors, "protocols": {"4->5": protocol}}
    (tmp_path / RECORD).write_text(json.dumps(record))
    table = LongTable(tmp_path / "table")
    table.begin("4->5", "FCN", {"fingerprint": model_fingerprint(exported), "scores": []})
    card = model_card(read_checkpoint(exported), benchmark_scores(tmp_path / "summary.csv", exported))
    assert "| 4->5 | rmse | 0.1 | 0.09 to 0.11 | 0.4 | 1 |" in card
    assert "energy" not in card
    (exported.parent / "other.ckpt").write_bytes(b"other weights")
    with pytest.raises(ValueError, match=r"compared FCN, Persistence, but none with the weights of .*other.ckpt"):
        benchmark_scores(tmp_path, exported.parent / "other.ckpt")


def test_a_model_folder_names_no_code_to_run(tmp_path, exported):
    folder = tmp_path / "fcn"
    shutil.copytree(exported, folder)
    config = json.loads((folder / CONFIG).read_text())

    def refused(words: str, **changed: object) -> None:
        (folder / CONFIG).write_text(json.dumps(config | changed))
        with pytest.raises(ValueError, match=words):
            load_model(folder)

    (tmp_path / "never.py").write_text("raise SystemExit('imported')")
    refused("never.Model, which is not imported", class_path="never.Model")
    refused("holds a system, which is not a microevo model", class_path="os.system")
    refused("holds a Forecaster, which is not", class_path="microevo.models.Forecaster")
    refused("do not fit FCN .*unexpected", init_args=config["init_args"] | {"hidden": 3})
    refused("does not fit this FCN", init_args=config["init_args"] | {"hid_t": 8})
    refused("version 2, .* up to 1", microevo_model_folder=2)
    (folder / CONFIG).write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match="not that of a microevo model"):
        load_model(folder)
    (folder / CONFIG).write_text(json.dumps(config))
    (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-100])
    with pytest.raises(ValueError, match=f"{WEIGHTS} is damaged"):
        load_model(folder)
    (folder / WEIGHTS).unlink()
    with pytest.raises(ValueError, match=f"{WEIGHTS} is missing"):
        load_model(folder)


def test_a_model_folder_keeps_statistics_and_parameters(tmp_path):
    torch.manual_seed(0)
    model = LocalNet(widths=[4], blocks=1, n_past=2, parameters=["mobility"], boundary="no-flux", head="bounded")
    model.take_statistics(torch.tensor([0.1]), torch.tensor([-1.0]), torch.tensor([2.0]))
    write_folder(checkpoint_of(model), tmp_path)
    again, past, values = load_model(tmp_path), torch.rand(1, 2, 1, 8, 8), {"mobility": 1.5}
    with torch.no_grad():
        assert torch.equal(again(past, 3, values), model.eval()(past, 3, values))


def test_the_hub_mixin_saves_and_loads_a_model_folder(tmp_path, exported):
    pytest.importorskip("huggingface_hub", reason="huggingface_hub comes with the extra `export`")
    from microevo.export.hub import HubModel

    HubModel(exported).save_pretrained(tmp_path / "pushed")
    again = HubModel.from_pretrained(tmp_path / "pushed")
    past = torch.rand(1, 4, 1, 8, 8)
    with torch.no_grad():
        assert torch.equal(again.forecaster(past, 3), load_model(exported)(past, 3))
    pushed = {path.name: path.read_bytes() for path in (tmp_path / "pushed").iterdir()}
    assert pushed == {path.name: path.read_bytes() for path in exported.iterdir()}
    assert again.card.startswith("---\nlibrary_name: microevo\n")
