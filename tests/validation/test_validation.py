"""Validation: the definitions on the published frames, and the simulators against the acceptance intervals."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from microevo.data import TrajectoryStore, generate
from microevo.processes import DendriticSolidification, GrainGrowth, Grid, PlaneWave, RegularSolution
from microevo.validation.compare import compare, first_frame, read_published
from microevo.validation.descriptors import Descriptors, medians
from microevo.validation.join import join_windows
from microevo.validation.published import PublishedSample

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "real"
PUBLISHED = ROOT / "data" / "published"
FILES = {
    "spinodal": "Spinodal_decomposition_test_10_10.npy",
    "grain-growth": "Grain_growth_test_10_10.npy",
    "plane-wave": "Plane_wave_propagation_test_10_10.npy",
    "dendrite": "Dendrite_growth_test_10_10.npy",
}
needs_real = pytest.mark.skipif(not REAL.is_dir(), reason="the published samples are not at ../shared/real")


# ------------------------------------------------------------------ the published samples


def digits(value: float) -> float:
    """Half of a unit in the last digit in which a published value is given."""
    written = f"{value:.12g}"
    return 0.5 * 10.0 ** -len(written.partition(".")[2])


# Of the whole trajectory of 112 frames, of which the files here hold 88.
LONGER = {
    "slope of [mean c(1-c)]^-3",
    "rms_change, mean",
    "rms_change, median",
    "slope of the mean area",
    "slope of mean(1-u)^-2",
    "median of the frames' minima",
}
# Of a statistic whose definition leaves something open, how far ours is from the published value.
OPEN = {
    "10-90 width at 0": 0.003,
    "10-90 width at 20": 0.03,  # dendrite: which normals a branch of few pixels has
    "10-90 width at 40": 0.06,
    "boundary, full width": 0.05,  # of which frames
    "boundary, one flank": 0.02,
    "boundary, floor": 0.006,
    "mean(1-u) sqrt(mean area)": 0.015,
}
OF_A_WAVE = {"amplitude", "decay", "wavelength", "angular frequency", "phase velocity", "residual of the wave"}
# The file has 0.0552 in frame 23, and seven pixels in all below 0.13.
CONTRADICTED = {("grain-growth", "min over the run")}


@needs_real
@pytest.mark.parametrize("name", FILES)
def test_the_published_samples_have_the_published_statistics(name: str) -> None:
    published = PublishedSample.read(PUBLISHED / f"{name}.yaml")
    (sample,) = read_published(REAL / FILES[name])
    assert sample.shape == (88, 64, 64)
    rows = published.cases[0].expected
    measured = Descriptors(published).numbers(rows, sample)
    compared, wrong = 0, {}
    for statistic, row in rows.items():
        value = measured.get(statistic, np.nan)
        if row.published is None or np.isnan(value) or statistic in LONGER or (name, statistic) in CONTRADICTED:
            continue
        compared += 1
        # Published values are rounded, the last digit not always correctly.
        if abs(value - row.published) > max(
            1.2 * digits(row.published), 0.002 * abs(row.published), OPEN.get(statistic, 0)
        ):
            wrong[statistic] = value, row.published
    assert not wrong
    assert compared >= {"spinodal": 25, "grain-growth": 28, "plane-wave": 16, "dendrite": 16}[name]


@needs_real
def test_what_needs_more_frames_than_there_are_is_not_measured() -> None:
    (sample,) = read_published(REAL / FILES["spinodal"])
    names = ("objects at 111", "q1 at 111", "rms_change at 87", "persistence RMSE at lead 90")
    numbers = Descriptors(PublishedSample.read(PUBLISHED / "spinodal.yaml")).numbers(names, sample)
    for statistic in names:
        assert np.isnan(numbers[statistic])


# ------------------------------------------------------------------ parts


def test_windows_are_joined_in_any_order_and_without_copies() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.random((2, 32, 4, 4)).astype(np.float16)
    windows = [first[s : s + 12] for s in range(0, 21, 4)] + [second[s : s + 12] for s in (0, 4, 8)]
    alone = generator.random((12, 4, 4)).astype(np.float16)
    order = [3, 0, 5, 1, 2, 4, 7, 6, 8]
    joined = join_windows(np.stack([windows[i] for i in order] + [alone, windows[0]]))
    assert [len(frames) for frames in joined] == [32, 20, 12]
    np.testing.assert_array_equal(joined[0], first)
    np.testing.assert_array_equal(joined[1], second[:20])
    np.testing.assert_array_equal(joined[2], alone)


def test_the_first_frame_is_the_nearest_in_age() -> None:
    clock = np.array([0.06, 0.05, 0.042, 0.0405, 0.039])
    assert first_frame(clock, 0.0411, "x") == 3
    assert first_frame(clock, 0.0415, "x") == 2
    assert first_frame(None, None, "x") == 0
    with pytest.raises(ValueError, match=r"x is never as old .* simulate longer"):
        first_frame(clock, 0.03, "x")
    with pytest.raises(ValueError, match=r"x begins when it is older .* lower first_frame"):
        first_frame(clock[3:], 0.05, "x")


def test_numbers_at_frames_that_are_not_there_are_nan() -> None:
    frames = np.arange(5.0)[:, None, None] * np.ones((5, 2, 2))
    names = ("mean at 0", "mean at 3", "mean at 9")
    found = Descriptors(PublishedSample("x.yaml", "Rain", "periodic", 5)).numbers(names, frames)
    assert found["mean at 3"] == 3
    assert np.isnan(found["mean at 9"])
    curve = np.array([5.0, 1, 2, 3, 4, 9, 7])
    assert medians(curve, 3, 7)[[0, 1, 6]].tolist() == [3, 2, 8]


@pytest.mark.parametrize("path", sorted(PUBLISHED.glob("*.yaml")), ids=lambda path: path.stem)
def test_acceptance_intervals_hold_the_published_values(path: Path) -> None:
    sample = PublishedSample.read(path)
    outside = []
    for case in sample.cases:
        for statistic, row in case.expected.items():
            if row.published is not None and row.low is not None and row.high is not None:
                rounding = digits(row.published)  # wider than the band of a closed form
                if not row.low - rounding <= row.published <= row.high + rounding:
                    outside.append(statistic)
    assert not outside
    frames = np.random.default_rng(0).random((3, 24, 24))
    names = {name for case in sample.cases for name in case.expected} - OF_A_WAVE
    assert Descriptors(sample).numbers(names, frames).keys() == names
    for name in sample.curves:
        assert len(Descriptors(sample).curve(name, frames)) in (2, 3)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[1]", "process, boundary, frames and cases"),
        ("process: [", "not a YAML"),
        ("{process: A, boundary: periodic, frames: 2, cases: [], more: 1}", "process, boundary, frames and cases"),
        (
            "{process: A, boundary: periodic, frames: 2, cases: [{descriptors: {x: {published: 1, within: 1, percent: 2}}}]}",
            "x has the entries",
        ),
        ("{process: A, boundary: periodic, frames: 2, cases: [{descriptors: {x: {within: 1}}}]}", "x has the entries"),
        (
            "{process: A, boundary: periodic, frames: 2, cases: [{descriptors: {x: {published: 1, around: 1}}}]}",
            "x has the entries",
        ),
    ],
)
def test_files_that_cannot_be_read_are_refused(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "intervals.yaml").write_text(text)
    with pytest.raises(ValueError, match=said):
        PublishedSample.read(tmp_path / "intervals.yaml")
    with pytest.raises(FileNotFoundError, match=r"data/published"):
        PublishedSample.read(tmp_path / "none.yaml")


# ------------------------------------------------------------------ a comparison


@pytest.fixture
def waves(tmp_path: Path) -> tuple[str, str, str]:
    """A store of a wave, a sample of overlapping windows of the same wave, and intervals about one descriptor or two."""
    law = PlaneWave(grid=Grid(shape=(24, 24), boundary="no-flux"), wavelength=18.0, direction=20.0)
    store = generate(law, tmp_path / "wave.zarr", splits={"test": 1}, frames=30)
    frames = store.read(0, fields=["u"])[:, 0]
    np.save(tmp_path / "sample.npy", np.stack([frames[s : s + 10] for s in (0, 4, 8)]))
    (tmp_path / "intervals.yaml").write_text(
        "process: PlaneWave\nboundary: no-flux\nframes: 30\ncurves: [min, rms_change]\ncases:\n"
        "- where: {wavelength: 18}\n  descriptors:\n"
        "    amplitude: {published: 0.5, within: 0.001}\n    wavelength: {published: 20, percent: 5}\n"
        "    phase velocity: {published: 3}\n"
    )
    return str(store.path), str(tmp_path / "sample.npy"), str(tmp_path / "intervals.yaml")


@pytest.mark.slow
def test_a_comparison_leaves_a_table_and_a_picture(waves: tuple, tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    table = compare(*waves, str(tmp_path / "out")).set_index("descriptor")
    assert table.loc["amplitude", "verdict"] == "in"
    assert table.loc["wavelength", "verdict"] == "out"
    assert table.loc["phase velocity", "verdict"] == ""
    assert table.loc["wavelength", "sample"] == pytest.approx(18, rel=1e-4)
    assert (table.loc["wavelength", "low"], table.loc["wavelength", "high"]) == pytest.approx((19, 21))
    written = pd.read_csv(tmp_path / "out" / "validation.csv", keep_default_na=False).set_index("descriptor")
    assert float(written.loc["amplitude", "simulated"]) == pytest.approx(table.loc["amplitude", "simulated"])
    text = (tmp_path / "out" / "validation.md").read_text()
    assert "1 of 2 tested descriptors" in text
    assert "| wavelength | 20 | 18 | 18 | 19 to 21 | **out** |" in text
    assert text in capsys.readouterr().out
    assert (tmp_path / "out" / "validation.png").stat().st_size > 10_000
    with pytest.raises(FileExistsError, match=r"validation\.md exists"):
        compare(*waves, str(tmp_path / "out"))
    compare([waves[0], waves[0]], *waves[1:], str(tmp_path / "out"), overwrite=True)
    assert "simulated, mean of 2" in (tmp_path / "out" / "validation.md").read_text()


def test_what_does_not_belong_together_is_refused(waves: tuple, tmp_path: Path) -> None:
    store, sample, intervals = waves
    text = Path(intervals).read_text()
    out = str(tmp_path / "out")
    for changed, said in (
        (text.replace("wavelength: 18}", "wavelength: 15}"), r"no simulated trajectory has wavelength = 15"),
        (text.replace("frames: 30", "frames: 31"), r"has 30 frames .* simulate 1 more"),
        (text.replace("phase velocity:", "phase speed:"), "there is no descriptor phase speed; .*phase velocity"),
        (
            text.replace("PlaneWave", "GrainGrowth"),
            "holds trajectories of PlaneWave, but the acceptance intervals are of GrainGrowth",
        ),
        (text.replace("[min,", "[most,"), "there is no descriptor most of frames, only mean"),
        (text.replace("amplitude:", "tips at 3:"), "there is no descriptor tips at N; .* may name mean at N"),
    ):
        (tmp_path / "changed.yaml").write_text(changed)
        with pytest.raises(ValueError, match=said):
            compare(store, sample, str(tmp_path / "changed.yaml"), out)
    np.save(tmp_path / "small.npy", np.load(sample)[:, :, :20])
    with pytest.raises(ValueError, match=r"different sizes, 20 x 24 and 24 x 24 pixels"):
        compare(store, str(tmp_path / "small.npy"), intervals, out)
    with pytest.raises(FileNotFoundError, match=r"none\.npy"):
        compare(store, str(tmp_path / "none.npy"), intervals, out)
    assert not Path(out).exists()


def test_an_imported_store_will_do_as_well(waves: tuple, tmp_path: Path) -> None:
    from microevo.data import import_frames

    store, sample, _ = waves
    imported = import_frames(sample, tmp_path / "sample.zarr", fields=["u"])
    (frames,) = read_published(imported.path)
    np.testing.assert_array_equal(frames, TrajectoryStore.open(store).read(0, fields=["u"])[:18, 0])


# ------------------------------------------------------------------ the simulators


def simulated(name: str, folder: Path) -> list[str]:
    """Stores with the published look, as `make published` simulates them."""
    look: list = {
        "spinodal": [(RegularSolution(scheme="fast", first_frame=1.0), 24, 240)],
        "grain-growth": [(GrainGrowth(first_frame=2.0), 8, 140)],
        "plane-wave": [(PlaneWave(alpha=0.007503), 1, 112)],
        "dendrite": [
            (DendriticSolidification(undercooling=undercooling, theta0=theta0), 1, 100)
            for undercooling, theta0 in ((1.0, 16.3), (1.21, 28.7), (1.0, 28.1), (1.37, -29.9))
        ],
    }[name]
    paths = []
    for i, (law, runs, frames) in enumerate(look):
        paths.append(str(folder / f"{name}-{i}.zarr"))
        generate(law, paths[-1], splits={"test": runs}, frames=frames)
    return paths


@needs_real
@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_simulated_trajectories_lie_in_the_acceptance_intervals(name: str, tmp_path: Path) -> None:
    table = compare(
        simulated(name, tmp_path),
        str(REAL / FILES[name]),
        str(PUBLISHED / f"{name}.yaml"),
        str(tmp_path / "validation"),
    )
    assert (table["verdict"] == "in").sum() >= 15
    outside = table[table["verdict"] == "out"]
    assert outside.empty, outside[["case", "descriptor", "simulated", "low", "high"]].to_string()
