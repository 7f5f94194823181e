"""Ensembles: several trainings of one network forecast together, and the report says when not to trust them."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scored
import torch
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger

from microevo.benchmark import EnsembleForecasts, Model, Protocol, Scores, run
from microevo.benchmark.leaderboard import Leaderboard
from microevo.benchmark.long_table import Key
from microevo.benchmark.report.findings import findings
from microevo.benchmark.results import Results, ScoreTable
from microevo.metrics import absolute_error, crps, spread, squared_error
from microevo.models import Ensemble, Forecaster, Persistence
from microevo.models.load import load_model
from microevo.provenance import fingerprint

NAME = "Drift ensemble"


class Drift(Forecaster):
    """Adds a number to the last frame again and again: a network of one weight."""

    any_past = True

    def __init__(self, step: float = 0.0, **kwargs):
        super().__init__(**({"n_past": 4, "horizon": 6} | kwargs))
        self.save_hyperparameters(logger=False)
        self.step = torch.nn.Parameter(torch.tensor(step))

    def forward(self, past, horizon):
        return past[:, -1:] + self.step * torch.arange(1, horizon + 1).reshape(-1, 1, 1, 1)


STEPS = (0.01, -0.01, 0.03)


def checkpoint(path: Path, seed: int, model: Forecaster, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PL_GLOBAL_SEED", str(seed))
    trainer = Trainer(logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu")
    trainer.strategy.connect(model)
    trainer.save_checkpoint(path)
    return str(path)


@pytest.fixture
def settings(small_store, tmp_path, monkeypatch) -> dict:
    """A benchmark of three trainings, alone and together."""
    paths = [checkpoint(tmp_path / f"{i}.ckpt", i, Drift(step), monkeypatch) for i, step in enumerate(STEPS)]
    return {
        "protocols": {"4->6": Protocol(store=str(small_store), n_past=4, horizon=6, starts=[0, 5])},
        "checkpoints": {"Drift": paths},
        "ensembles": ["Drift"],
        "output": str(tmp_path / "out"),
        "leads": [1, 6],
        "reference_solver": False,
        "physics": "none",
        "device": "cpu",
        "repeats": 1,
        "warmup": 0,
        "batch_size": 3,
    }


@pytest.mark.slow
def test_members_forecast_together_and_the_report_says_how_far_to_trust_them(settings, tmp_path):
    results = run(**settings, logger=CSVLogger(tmp_path, name="csv"))
    windows = settings["protocols"]["4->6"].windows(["c"])
    past, truth = (torch.stack([getattr(window, part) for window in windows]) for part in ("past", "future"))
    members = torch.stack([Drift(step)(past, 6).detach() for step in STEPS])
    mean = members.mean(dim=0)

    # The long table: rows of its own for the ensemble, and none beside those there were for the others.
    table = pd.read_parquet(tmp_path / "out" / "table").astype({"competitor": str, "name": str, "kind": str})
    by_name = table[table.competitor == NAME].sort_values(["trajectory", "start", "lead"]).groupby("name")["value"]
    expected = {
        "mse": squared_error(mean, truth),
        "crps": crps(members, truth),
        "squared_spread": spread(members).square().mean(dim=(2, 3, 4)),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(by_name.get_group(name), values.flatten(), rtol=1e-4, atol=1e-9)
    assert not set(table[table.competitor != NAME].name) & {"crps", "squared_spread"}
    assert table[table.competitor == NAME].seed.isna().all()

    # The averaged scores: CRPS beside the mean absolute error of single forecasts.
    summary = pd.read_csv(tmp_path / "out" / "summary.csv").set_index(["competitor", "name", "statistic", "lead"])[
        "mean"
    ]
    curve = spread(members).square().mean(dim=(0, 2, 3, 4)).sqrt() / expected["mse"].mean(dim=0).sqrt()
    single = torch.stack([absolute_error(one, truth)[:, 0] for one in members]).mean()
    assert summary[NAME, "crps", "at lead", 6] == pytest.approx(float(expected["crps"][:, 5].mean()), rel=1e-4)
    assert summary["Drift", "crps", "at lead", 1] == pytest.approx(float(single), rel=1e-4)
    assert summary[NAME, "spread_skill", "at lead", 1] == pytest.approx(float(curve[0]), rel=1e-4)
    assert ("Drift", "spread") not in summary.index.droplevel([2, 3])

    report, page = ((tmp_path / "out" / name).read_text() for name in ("report.md", "report.html"))
    assert "### Ensembles" in report
    for row in (
        "CRPS, Drift ensemble",
        "CRPS, Persistence",
        "spread, Drift ensemble",
        "spread-skill ratio, Drift ensemble",
    ):
        assert f"\n| {row} | " in report
    assert re.search(
        r"Drift ensemble, 3 members: its spread is .* times its error, .* at lead 1 and .* at lead 6; ", report
    )
    assert "- **Spread-skill ratio**" in report
    assert "Persistence: one training" not in report
    assert f"{NAME}: one training" not in report
    assert '"ensembles":{"Drift ensemble":{"error":' in page
    assert '"members":3' in page
    kept = ScoreTable(results, "4->6").spread(NAME)
    np.testing.assert_allclose(kept, spread(members)[:3], atol=1e-3)
    logged = pd.concat(map(pd.read_csv, (tmp_path / "csv").rglob("metrics.csv")))
    assert logged[f"benchmark/4->6/{NAME}/spread_skill_by_lead"].dropna().to_numpy() == pytest.approx(
        curve.numpy(), rel=1e-4
    )

    cost = results.cost.set_index("competitor")
    assert cost.loc[NAME, "parameters"] == 3 * cost.loc["Drift", "parameters"]
    assert cost.loc[NAME, "rmse"] == pytest.approx(float(expected["mse"][:4].mean(dim=0).sqrt().mean()), rel=1e-4)


def board(folder: Path, spread_of: float, error: float = 1.0, members: bool = True) -> tuple[Leaderboard, list[str]]:
    """The scores of made-up forecasts with a squared spread and a squared error, and what is said of them."""
    noise = 1 + 0.1 * np.random.default_rng(0).standard_normal((8, 4))
    blocks = {Key("metric", name): error * noise for name in ("mse", "mae")}
    beside = {Key("metric", "crps"): noise, Key("metric", "squared_spread"): spread_of * noise[::-1]} if members else {}
    scored.write(folder, {("FCN", None): blocks, ("Nets", None): blocks | beside})
    if members:
        record = (folder / "benchmark.json").read_text()
        (folder / "benchmark.json").write_text(record.replace('"name": "Nets"', '"members": 4, "name": "Nets"'))
    table = ScoreTable(Results(folder), "p")
    made = Leaderboard.of("p", table, [1])
    return made, findings(made, table, pd.DataFrame()).notes


@pytest.mark.parametrize(("squared", "said"), [(0.25, "over-confident"), (4.0, "under-confident"), (1.0, "tells how")])
def test_the_finding(tmp_path, squared, said):
    made, notes = board(tmp_path, squared)
    (note,) = (note for note in notes if "members" in note)
    assert note.startswith("Nets, 4 members: its spread is ")
    assert said in note
    assert [(one.name, one.members) for one in made.standings] == [("FCN", None), ("Nets", 4)]
    assert [sorted(curves.curves) for curves in made.ensembles] == [["FCN", "Nets"], ["Nets"], ["Nets"]]
    assert not any(note.startswith("FCN, Nets: one training") for note in notes)


def test_an_ensemble_that_diverged_and_none_at_all(tmp_path):
    made, notes = board(tmp_path / "nan", np.nan, np.nan)
    assert "Nets: 8 of 8 forecasts are not finite" in " ".join(notes)
    assert "its spread is" not in " ".join(notes)
    made, _ = board(tmp_path / "none", 1.0, members=False)
    assert made.ensembles == []
    assert set(made.summary()["name"]) == {"rmse"}
    scores = Scores(pixel={})
    members = torch.rand(2, 1, 2, 1, 3, 3)
    members[1, 0, 1] = torch.nan
    for block in scores.ensemble(members, members[0]).values():
        assert np.isnan(block.values).tolist() == [[False, True]]


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ([], r"needs at least two members, but one is given"),
        ([Drift(0.1)], r"one and b1, have the same weights; give checkpoints of different seeds"),
        ([Drift(0.2), Drift(0.2)], r"b1 and b2, have the same weights"),
        ([Persistence(n_past=4, horizon=6)], "the network of one is Drift and that of b1 is Persistence"),
        ([Drift(0.2, channels=2)], "the number of fields of one is 1 and that of b1 is 2"),
        ([Drift(0.2, n_past=2)], "the n_past of one is 4 and that of b1 is 2"),
        ([Drift(0.2, horizon=7)], "the horizon of one is 6 and that of b1 is 7"),
    ],
)
def test_what_is_not_an_ensemble_is_refused(others, said):
    names = ["one", *(f"b{i}" for i, _ in enumerate(others, 1))]
    with pytest.raises(ValueError, match=said):
        Ensemble([Drift(0.1), *others], names)


def test_other_fields_are_another_network():
    networks = [Drift(0.1), Drift(0.2)]
    for network, field in zip(networks, ("c", "phi"), strict=True):
        network.trained_spans = {field: None}
    with pytest.raises(ValueError, match="the fields of one is c and that of other is phi"):
        Ensemble(networks, ["one", "other"])


def test_mistakes_of_the_command_are_one_sentence(settings, tmp_path):
    first = settings["checkpoints"]["Drift"][0]
    for changed, said in (
        ({"ensembles": ["FCN"]}, "ensembles names FCN, but checkpoints has Drift; give a list of checkpoints"),
        ({"checkpoints": {"Drift": first}}, f"needs at least two members, but {first} is given"),
        ({"checkpoints": {"Drift": [first, first]}}, f"{first} and {first}, have the same weights"),
    ):
        with pytest.raises(ValueError, match=re.escape(said)):
            run(**(settings | changed))
    assert not (tmp_path / "out").exists()


def test_other_members_are_another_competitor(settings):
    models = [Model("Drift", path) for path in settings["checkpoints"]["Drift"]]
    prints = {EnsembleForecasts("e", models[:n]).fingerprint("p") for n in (2, 3)}
    assert len(prints) == 2
    assert fingerprint("x") not in prints
    assert load_model(settings["checkpoints"]["Drift"][1]).step.item() == pytest.approx(STEPS[1])
