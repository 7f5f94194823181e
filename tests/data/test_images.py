"""Folders of images: the order of the frames, which files are frames, and what their numbers mean."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from microevo.data import TrajectoryStore, import_frames


@pytest.fixture
def imported(tmp_path: Path):
    def run(folder: Path, **settings: object) -> TrajectoryStore:
        return import_frames(str(folder), str(tmp_path / "store.zarr"), **settings)  # type: ignore[arg-type]

    return run


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def save_series(folder: Path, names: list[str]) -> Path:
    """Frame k has the grey values k + 1 and k + 2."""
    for k, name in enumerate(names):
        save(folder / name, np.array([[k + 1, k + 2]] * 2, dtype=np.uint8))
    return folder


# ------------------------------------------------------------------ order


@pytest.mark.parametrize(
    "names",
    [
        [f"c_{k / 10:.1f}.png" for k in range(1, 13)],
        [f"c_{0.05 * k:g}.png" for k in range(8)],  # 0, 0.05, 0.1, ...
        [f"c_{k}e-3.png" for k in range(8, 12)],
        [f"t_{k}.png" for k in (-2, -1, 0, 1)],
        [f"t{k:03d}_ch00.png" for k in range(12)],
        [f"f_{k}_20240501.png" for k in range(12)],
        [f"time{k:03d}_z000.png" for k in range(3)],
        [f"step{100 * k:04d}_t{0.5 * k:.1f}.png" for k in range(12)],
        [f"2.5um_{k}.png" for k in range(9, 12)],
        [f"c.{k:04d}.png" for k in range(3)],
        [f"t_{t:.3f}.png" for t in (1 / 3, 2 / 3, 1)],  # rounded times
    ],
    ids=lambda names: names[0],
)
def test_frames_are_ordered_by_value(tmp_path: Path, imported, names: list[str]) -> None:
    store = imported(save_series(tmp_path / "run", names), value_range=(0.0, 255.0))
    expected = np.arange(1, len(names) + 1) / np.float32(255)
    np.testing.assert_allclose(store.read(0)[:, 0, 0, 0], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["t0_ch0.png", "t0_ch1.png", "t1_ch0.png", "t1_ch1.png"],
            r"t0_ch0.png \(0, 0\); t0_ch1.png \(0, 1\); t1_ch0.png \(1, 0\); .*frame_number",
        ),
        (["2024-05-31.png", "2024-06-01.png"], r"ambiguous: several numbers .*2024-05-31.png \(2024, 05, 31\)"),
        (["v2.8.png", "v2.9.png", "v2.10.png"], r"decimals or counters, as in v2.10.png \(2.10\)|decimals or counters"),
        (["c_-1.png", "c_-2.png"], r"a sign or a separator"),
        (["t-2.png", "t-1.png", "t0.png"], r"a - before some of the numbers"),
        (["c_1.png", "c_2_new3.png"], r"names with different counts of numbers"),
        (["c_0.1.png", "c_0.2.png", "c_0.37.png"], r"not evenly spaced"),
        (["c_0.1.png", "c_0.2.png", "c_0.4.png"], r"misses 0.3;"),
    ],
)
def test_an_ambiguous_order_is_refused_with_the_names_as_understood(tmp_path, imported, names, message) -> None:
    with pytest.raises(ValueError, match=message) as raised:
        imported(save_series(tmp_path / "run", names))
    assert "frame_number" in str(raised.value)


def test_a_pattern_says_where_the_frame_number_is(tmp_path: Path, imported, capsys) -> None:
    names = [f"t{k}_ch{channel}.png" for k in range(3) for channel in range(2)]
    store = imported(save_series(tmp_path / "run", names), frame_number=r"t(\d+)_ch1", value_range=(0.0, 1.0))
    assert store.read(0)[:, 0, 0, 0].tolist() == [2, 4, 6]
    assert "run: 3 of 6 images do not match frame_number and were left out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("pattern", "message"),
    [("t(", "not a regular expression"), (r"t\d+", "needs one group"), (r"x(\d+)", "no image in .* matches")],
)
def test_patterns_that_do_not_work(tmp_path: Path, imported, pattern: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        imported(save_series(tmp_path / "run", ["t1_0.png", "t2_0.png"]), frame_number=pattern)


# ------------------------------------------------------------------ which files are frames


@pytest.mark.parametrize("overview", ["overview_1.png", "overview_1.tif"])
def test_one_picture_beside_folders_is_refused(tmp_path: Path, imported, overview: str) -> None:
    for k in range(3):
        save_series(tmp_path / "runs" / f"run{k}", [f"f{j}.png" for j in range(6)])
    save(tmp_path / "runs" / overview, np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match=rf"holds images \({overview}\) beside folders of images \(run0\)"):
        imported(tmp_path / "runs")
    (tmp_path / "runs" / overview).unlink()
    (tmp_path / "runs" / "log.txt").write_text("not an image")
    assert (len(imported(tmp_path / "runs")), 6) == (3, 6)
    save(tmp_path / "runs" / "run0" / "zoom" / "x0.png", np.zeros((2, 2), np.uint8))
    with pytest.raises(ValueError, match=r"run0 holds images \(f0.png\) beside folders of images \(zoom\)"):
        imported(tmp_path / "runs", overwrite=True)


def test_a_folder_without_images_is_refused(tmp_path: Path, imported) -> None:
    (tmp_path / "runs" / "empty").mkdir(parents=True)
    with pytest.raises(ValueError, match="holds neither numbered PNG, JPEG, TIFF or VTK frames"):
        imported(tmp_path / "runs")
    save_series(tmp_path / "runs" / "run0", ["f0.png", "f1.png"])
    with pytest.raises(ValueError, match=r"same frames, but .*empty has 0 and .*run0 has 2"):
        imported(tmp_path / "runs")


def test_folders_named_after_splits_keep_them(tmp_path: Path, imported) -> None:
    random = np.random.default_rng(0)
    for split, count in {"train": 2, "valid": 1, "test": 1}.items():
        for run in range(count):
            for frame in range(3):
                image = random.integers(0, 255, (4, 5), dtype=np.uint8)
                save(tmp_path / "set" / split / f"run{run}" / f"{frame}.png", image)
    store = imported(tmp_path / "set")
    assert [len(store.split(name)) for name in ("train", "val", "test")] == [2, 1, 1]


@pytest.mark.parametrize("suffix", ["stack.tif", "."])
def test_a_tiff_of_many_pages_is_a_trajectory(tmp_path: Path, imported, suffix: str) -> None:
    frames = np.random.default_rng(0).random((6, 4, 5), dtype=np.float32)
    (tmp_path / "set").mkdir()
    tifffile.imwrite(tmp_path / "set" / "stack.tif", frames)
    if suffix == ".":
        tifffile.imwrite(tmp_path / "set" / "stack2.tif", 1 - frames)
    store = imported(tmp_path / "set" / suffix)
    assert len(store) == (2 if suffix == "." else 1)
    np.testing.assert_array_equal(store.read(0)[:, 0], frames)
    tifffile.imwrite(tmp_path / "set" / "stack3.tif", frames[:4], photometric="minisblack")
    if suffix == ".":
        with pytest.raises(ValueError, match=r"same number of pages, but .*stack.tif has 6 and .*stack3.tif has 4"):
            import_frames(str(tmp_path / "set"), str(tmp_path / "other.zarr"))


# ------------------------------------------------------------------ what the numbers mean


def write_png(path: Path, pixels: bytes, shape: tuple[int, int], bits: int, colour: int) -> None:
    """A PNG file of any depth, from its packed rows."""
    height, width = shape
    rows = [pixels[i : i + len(pixels) // height] for i in range(0, len(pixels), len(pixels) // height)]
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"".join(b"\0" + row for row in rows))),
        (b"IEND", b""),
    )
    body = (
        struct.pack(">I", len(data)) + tag + data + struct.pack(">I", zlib.crc32(tag + data)) for tag, data in chunks
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(body))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("compression", [None, "zlib"])
def test_white_is_zero(tmp_path: Path, imported, dtype: type, compression: str | None) -> None:
    full = np.iinfo(dtype).max
    pixels = np.array([[0, 1, 100], [full - 1, full, 7]], dtype=dtype)
    (tmp_path / "run").mkdir()
    tifffile.imwrite(tmp_path / "run" / "f0.tif", pixels, photometric="miniswhite", compression=compression)
    np.testing.assert_array_equal(imported(tmp_path / "run").read(0)[0, 0], (full - pixels) / np.float32(full))


def test_numbers_of_tiff_files(tmp_path: Path, imported) -> None:
    random = np.random.default_rng(0)
    colour = random.integers(0, 2**16, (4, 5, 3), dtype=np.uint16)
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "f0.tif"
    for planar in ("contig", "separate"):
        saved = colour if planar == "contig" else np.moveaxis(colour, -1, 0)
        tifffile.imwrite(path, saved, photometric="rgb", planarconfig=planar)
        store = imported(tmp_path / "run", fields=["r", "g", "b"], overwrite=True)
        np.testing.assert_array_equal(store.read(0)[0], np.moveaxis(colour, -1, 0) / np.float32(2**16 - 1))
    for dtype in ("f2", "f8", ">f4", "i2"):
        values = (100 * random.random((4, 5))).astype(dtype)
        tifffile.imwrite(path, values)
        store = imported(tmp_path / "run", value_range=(0.0, 1.0), overwrite=True)
        np.testing.assert_array_equal(store.read(0)[0, 0], values.astype(np.float32))
    # ImageJ stores signed 16-bit numbers with a calibration.
    tifffile.imwrite(
        path, np.arange(6, dtype=np.uint16).reshape(2, 3), description="ImageJ=1.53\ncf=0\nc0=-2\nc1=0.5\n"
    )
    store = imported(tmp_path / "run", value_range=(0.0, 1.0), overwrite=True)
    np.testing.assert_allclose(store.read(0)[0, 0].ravel(), [-2, -1.5, -1, -0.5, 0, 0.5])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"extratags": [(274, "H", 1, 6, True)]}, "stored rotated or mirrored"),
        ({"extratags": [(42113, "s", 0, "-9999", True)]}, "missing values in GDAL's tags"),
        ({"photometric": "cielab"}, "colours of the kind CIELAB"),
        ({"description": "ImageJ=1.53\ncf=3\nc0=1\nc1=2\n"}, "calibration that is not linear"),
    ],
)
def test_tiff_files_whose_numbers_mean_something_else(tmp_path: Path, imported, settings: dict, message: str) -> None:
    (tmp_path / "run").mkdir()
    pixels = np.zeros((8, 8, 3) if "photometric" in settings else (8, 8), np.uint8)
    tifffile.imwrite(tmp_path / "run" / "f0.tif", pixels, **settings)
    with pytest.raises(ValueError, match=message):
        imported(tmp_path / "run")


def test_numbers_of_png_files(tmp_path: Path, imported) -> None:
    # Four bits: the numbers 0 to 15 span black to white, and count as they are with value_range.
    write_png(tmp_path / "run" / "f0.png", bytes([0x01, 0x23, 0x45, 0x6F]), (2, 4), bits=4, colour=0)
    expected = np.array([[0, 1, 2, 3], [4, 5, 6, 15]], np.float32) / 15
    np.testing.assert_allclose(imported(tmp_path / "run").read(0)[0, 0], expected, rtol=1e-6)
    store = imported(tmp_path / "run", value_range=(0.0, 15.0), overwrite=True)
    np.testing.assert_allclose(store.read(0)[0, 0], expected, rtol=1e-6)
    # Sixteen bits in colour would be read with eight.
    for colour, samples in ((2, 3), (4, 2), (6, 4)):
        write_png(tmp_path / "run" / "f0.png", bytes(2 * samples * 8), (2, 4), bits=16, colour=colour)
        with pytest.raises(ValueError, match=r"a PNG of 16 bits with colours or transparency; save it as TIFF"):
            imported(tmp_path / "run", fields=["r", "g", "b"], overwrite=True)


def test_a_palette_stands_for_its_colours(tmp_path: Path, imported) -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    image.putpalette([255, 255, 255, 0, 0, 0, 51, 51, 51])
    (tmp_path / "run").mkdir()
    image.save(tmp_path / "run" / "f0.png")
    np.testing.assert_allclose(imported(tmp_path / "run").read(0)[0, 0], [[1, 0], [0.2, 0]])


def test_jpeg_files(tmp_path: Path, imported) -> None:
    smooth = np.tile(np.arange(0, 128, 2, dtype=np.uint8), (16, 1))
    (tmp_path / "run").mkdir()
    Image.fromarray(smooth).save(tmp_path / "run" / "f0.jpg", quality=100)
    np.testing.assert_allclose(imported(tmp_path / "run").read(0)[0, 0], smooth / 255, atol=2 / 255)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(smooth).save(tmp_path / "run" / "f0.jpg", exif=exif)
    with pytest.raises(ValueError, match=r"f0.jpg is stored rotated or mirrored \(EXIF orientation\)"):
        imported(tmp_path / "run", overwrite=True)
    Image.fromarray(np.zeros((8, 8, 4), np.uint8), "CMYK").save(tmp_path / "run" / "f0.jpg")
    with pytest.raises(ValueError, match="colours of the kind CMYK"):
        imported(tmp_path / "run", overwrite=True)
