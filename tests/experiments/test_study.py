"""`make study`: variants are trained and tabulated, what is done is kept, and other settings are refused."""

import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "experiments" / "studies"))
import study as studies  # noqa: E402

STUDIES = sorted(path for name in ("studies", "results") for path in (ROOT / "experiments" / name).glob("*.yaml"))


def test_studies_are_understood():
    there = {str(p.relative_to(ROOT)) for name in ("experiments", "data") for p in (ROOT / name).rglob("*.yaml")}
    for path in STUDIES:
        study = studies.read(path)
        target = "study" if path.parent.name == "studies" else "results"
        assert path.read_text().startswith(f"# make {target} NAME={path.stem}\n")
        json.dumps(study.variants)  # options are words, never objects
        assert {study.experiment, *study.recipes.values()} <= there
        assert len({studies.run_folder(Path(), variant, 0) for variant in study.variants}) == len(study.variants)
        assert not study.axis or len(*study.axis.values()) == len(study.variants)


@pytest.mark.slow  # two trainings in processes of their own
def test_a_study_is_made_and_kept(small_store: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]):
    tiny = {"trainer.max_steps": 2, "trainer.val_check_interval": 2, "data.init_args.store": str(small_store)}
    tiny |= {"data.init_args.horizon": 6, "data.init_args.n_future": 2, "model.init_args.blocks": 1}
    tiny["trainer.callbacks"] = []
    study = studies.Study(
        question="What do two steps give?",
        experiment=str(ROOT / "experiments" / "demo" / "demo-local.yaml"),
        recipes={},
        store=str(small_store),
        variants={
            "4 features": tiny | {"model.init_args.widths": [4]},
            "6 features": tiny | {"model.init_args.widths": [6]},
        },
        horizon=6,
        leads=[1, 6],
        protocols={"10->6": {"horizon": 6}},
    )
    table = studies.run(study, "steps", tmp_path / "out", tmp_path / "runs")
    assert list(table["variant"]) == ["4 features", "6 features"]
    assert (table["rmse_mean"] > 0).all()
    assert (table["core_minutes"] > 0).all()
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"steps.csv", "steps.md", "steps.png", "steps"}
    assert {p.name for p in (tmp_path / "out" / "steps").iterdir()} >= {"README.md", "10-to-6.png", "cost.csv", "table"}
    assert "4 features" in (tmp_path / "out" / "steps" / "README.md").read_text()
    capfd.readouterr()
    assert studies.run(study, "steps", tmp_path / "out", tmp_path / "runs").equals(table)
    assert " fit " not in capfd.readouterr().out
    study.variants["4 features"]["trainer.max_steps"] = 3
    with pytest.raises(SystemExit, match=r"was trained with .*; remove it to train it again"):
        studies.run(study, "steps", tmp_path / "out", tmp_path / "runs")
