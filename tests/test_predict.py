"""A trained network on new frames: the last ones of each trajectory, without a config and without a truth."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT

from microevo.data import TrajectoryStore
from microevo.models import Persistence, load_model
from microevo.predict import predict


@pytest.fixture
def best(trained):
    return trained / "checkpoints" / "best.ckpt"


@pytest.fixture
def frames() -> np.ndarray:
    """Two trajectories of six frames, 16 x 16, (N, T, H, W)."""
    return np.random.default_rng(0).random((2, 6, 16, 16), dtype=np.float32)


def test_new_frames_are_forecast_in_one_step(cli, best, frames):
    np.save("frames.npy", frames)
    outcome = cli("predict", f"--ckpt_path={best}", "--input", "frames.npy", "--pictures", 1)
    assert outcome.code == 0, outcome.err
    assert "frames-forecasts.zarr: 2 forecasts of 5 frames, from the last 4 of frames.npy" in outcome.out
    store = TrajectoryStore.open("frames-forecasts.zarr")
    assert store.fields == ("c_forecast",)
    with torch.inference_mode():
        expected = load_model(best)(torch.from_numpy(frames[:, 2:, None]), 5).numpy()
    np.testing.assert_allclose(np.stack([store.read(i) for i in range(2)]), expected, rtol=1e-5, atol=1e-6)
    assert store.per_trajectory["source_trajectory"].tolist() == [0, 1]
    assert store.per_trajectory["source_start"].tolist() == [2, 2]
    assert {path.name for path in Path().glob("frames-forecasts-*")} == {
        "frames-forecasts-0-2-c.png",
        "frames-forecasts-0-2-c.gif",
    }
    assert cli("predict", f"--ckpt_path={best}", "--input=frames.npy", "--horizon=7", "--pictures=0").code == 0
    longer = TrajectoryStore.open("frames-forecasts-2.zarr")  # nothing is overwritten
    np.testing.assert_allclose(longer.read(1)[:4], expected[1, :4], rtol=1e-5, atol=1e-6)
    assert longer.frames == 7
    np.save("frames.npy", frames[0])
    assert cli("predict", f"--ckpt_path={best}", "--input=frames.npy", "--output=one.zarr", "--pictures=0").code == 0
    np.testing.assert_array_equal(TrajectoryStore.open("one.zarr").read(0), store.read(0))


def test_a_checkpoint_at_a_url_is_refused():
    with pytest.raises(
        ValueError, match=r"checkpoints are read from disk, but s3://b/best.ckpt is a URL; download it first"
    ):
        predict("s3://b/best.ckpt", "frames.npy")


@pytest.mark.slow
def test_a_store_is_forecast_in_its_own_units(best, make_store, frames, tmp_path, capsys):
    values = np.stack([frames, 1 - frames], axis=2)
    store = make_store(
        values=values, splits=("test", "train"), fields=("T", "c"), frame_interval=0.5, boundary="no-flux"
    )
    made = predict(str(best), str(store.path), str(tmp_path / "out.zarr"), pictures=0)
    assert made.fields == ("c_forecast",)  # which the network was trained on
    assert made.attributes["frame_interval"] == made.attributes["first_frame"] == 0.5
    assert made.attributes["boundary"] == "no-flux"
    assert made.attributes["recipe"]["source"] == store.fingerprint
    other = predict(str(best), str(store.path), str(tmp_path / "T.zarr"), fields=["T"], pictures=0)
    assert other.fields == ("T_forecast",)
    assert not np.array_equal(other.read(0), made.read(0))
    with pytest.raises(ValueError, match="has the fields T, c, not phi; say with --fields"):
        predict(str(best), str(store.path), str(tmp_path / "phi.zarr"), fields=["phi"])
    with pytest.raises(ValueError, match=r"axes is for files, but .* is a store"):
        predict(str(best), str(store.path), str(tmp_path / "axes.zarr"), axes="NTHW")


def test_what_does_not_fit_is_one_sentence_and_leaves_nothing(best, frames, tmp_path, monkeypatch):
    model = load_model(best)
    monkeypatch.setattr("microevo.predict.load_model", lambda path: model)
    monkeypatch.chdir(tmp_path)

    def refused(values: np.ndarray, words: str, input: str = "x.npy", **options: object) -> None:
        np.save("x.npy", values)
        before = {path.name for path in Path().iterdir()}
        with pytest.raises((ValueError, OSError), match=words):
            predict(str(best), input, "out.zarr", **options)
        assert before | {"x.npy"} == {path.name for path in Path().iterdir()}

    refused(frames[:, :3], r"x.npy has 3 frames in a trajectory .* FCN takes 4; give longer trajectories, or --axes")
    refused(np.stack([frames] * 2, axis=2), r"x.npy has 2 fields .* forecasts 1; give those, with --fields")
    refused(np.where(frames < 0.5, np.nan, frames), r"x.npy, trajectory 0, frame 2 holds a value that is not finite")
    refused(frames * np.float32(1e38), r"all forecasts of this FCN became NaN or infinite.*--value_range")
    refused(frames, "horizon must be at least 1", horizon=0)
    refused(frames, "nothing to import at nope.npy", input="nope.npy")
    refused(frames, "no trajectory store at nope.zarr", input="nope.zarr")
    Path("out.zarr").mkdir()
    refused(frames, "out.zarr exists already; use --overwrite")


def test_forecasts_that_are_not_finite_are_left_out_with_a_warning(frames, tmp_path, monkeypatch):
    monkeypatch.setattr("microevo.predict.load_model", lambda path: Persistence(n_past=4, horizon=3))
    monkeypatch.setattr("microevo.predict.read_checkpoint", lambda path: {})
    monkeypatch.setattr(Persistence, "forward", diverging)
    np.save(tmp_path / "x.npy", np.concatenate([frames + 1, frames]))
    (tmp_path / "a.ckpt").touch()
    with pytest.warns(
        UserWarning, match=r"2 of 4 forecasts became NaN or infinite \(that of trajectory 0 from lead 2 on\)"
    ):
        store = predict(str(tmp_path / "a.ckpt"), str(tmp_path / "x.npy"), str(tmp_path / "out.zarr"), pictures=0)
    assert store.per_trajectory["source_trajectory"].tolist() == [2, 3]
    np.testing.assert_array_equal(store.read(1), frames[[1], [5] * 3, None])


def diverging(self: Persistence, past: torch.Tensor, horizon: int) -> torch.Tensor:
    forecast = past[:, -1:].repeat(1, horizon, 1, 1, 1)
    forecast[:, 1:][forecast[:, 1:] > 1] = torch.nan
    return forecast


@pytest.mark.slow
def test_several_checkpoints_forecast_together(cli, best, frames):
    checkpoint = torch.load(best, weights_only=True)
    weights = {name: weight * 1.1 for name, weight in checkpoint["state_dict"].items()}
    torch.save(checkpoint | {"state_dict": weights}, "other.ckpt")
    np.save("frames.npy", frames)
    outcome = cli(
        "predict", f"--ckpt_path=[{best},other.ckpt]", "--input=frames.npy", "--output=out.zarr", "--pictures=1"
    )
    assert outcome.code == 0, outcome.err
    store = TrajectoryStore.open("out.zarr")
    assert store.fields == ("c_forecast", "c_spread")
    with torch.inference_mode():
        pair = [load_model(path)(torch.from_numpy(frames[:1, 2:, None]), 5)[0] for path in (best, "other.ckpt")]
    mean, half = (pair[0] + pair[1]) / 2, (pair[0] - pair[1]).abs() / 2
    np.testing.assert_allclose(store.read(0, fields=["c_forecast"]), mean, atol=1e-6)
    np.testing.assert_allclose(
        store.read(0, fields=["c_spread"]), 3**0.5 * half, rtol=1e-3, atol=1e-5
    )  # of two members
    assert [Path(one["path"]).name for one in store.attributes["recipe"]["checkpoints"]] == ["best.ckpt", "other.ckpt"]
    assert Path("out-0-2-c.png").exists()
    cli("predict", f"--ckpt_path=[{best},{best}]", "--input=frames.npy").refusal("have the same weights")


def test_help_of_both_kinds_of_predict(cli, best):
    cli("predict", "--input=x.npy").refusal("ckpt_path", code=2)
    assert "`predict --input FILE --help`" in " ".join(cli("predict", "--help").out.split())
    shown = cli("predict", "--input=x", "--help")
    assert shown.code == 0
    for option in ("--ckpt_path", "--horizon", "--value_range", "--modules", "--overwrite"):
        assert option in shown.out


def test_the_readme_names_the_command():
    own_data = (ROOT / "README.md").read_text().split("## Your own data")[1].split("\n## ")[0]
    assert re.search(r"^    python -m microevo predict --ckpt_path \S+ --input \S+$", own_data, re.MULTILINE)
