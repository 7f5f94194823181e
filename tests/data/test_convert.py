"""Stores for other tools, opened again by those."""

import sys
from pathlib import Path

import numpy as np
import pytest
import xarray

from microevo.data import TrajectoryStore, import_frames
from microevo.data.convert import convert


@pytest.fixture
def store(make_store) -> TrajectoryStore:
    """Four trajectories of two fields, with a parameter that varies."""
    known = {"mobility": np.array([1.0, 2.0, 3.0, 4.0]), "seed": np.array([7, 8, 9, 10])}
    return make_store(
        fields=("c", "eta"),
        per_trajectory=known,
        spacing=0.5,
        frame_interval=2.0,
        first_frame=10.0,
        boundary="periodic",
    )


def test_xarray_opens_the_netcdf_file_with_all_that_it_sees_in_the_store(cli, store):
    pytest.importorskip("h5netcdf", reason="h5netcdf comes with the extra `netcdf`")
    outcome = cli("convert", "--input", store.path, "--output=out/made.nc")
    assert outcome.code == 0, outcome.err
    with xarray.open_dataset("out/made.nc", engine="h5netcdf") as found, xarray.open_zarr(store.path) as expected:
        xarray.testing.assert_equal(found.load(), expected.load())
        assert set(found.coords) == set(expected.coords)
        assert found.c.attrs == expected.c.attrs
        assert found.attrs["fingerprint"] == store.fingerprint
        assert found.attrs["boundary"] == "periodic"
    cli("convert", "--input", store.path, "--output=out/made.nc").refusal("exists already", "--overwrite", code=1)
    some = cli(
        "convert",
        "--input",
        store.path,
        "--output=out/made.nc",
        "--overwrite",
        "--fields=[eta]",
        "--trajectories=[3,1]",
    )
    assert some.code == 0
    with xarray.open_dataset("out/made.nc", engine="h5netcdf") as found:
        assert set(found.data_vars) == {"eta"}
        np.testing.assert_array_equal(found.eta, [store.read(i)[:, 1] for i in (3, 1)])
        np.testing.assert_array_equal(found.mobility, [4.0, 2.0])
    assert [path.name for path in Path("out").iterdir()] == ["made.nc"]


@pytest.mark.slow
def test_paraview_gets_a_series_of_images_with_times_and_spacing(store, tmp_path):
    pytest.importorskip("vtkmodules", reason="VTK comes with the extra `vtk`")
    pyvista = pytest.importorskip("pyvista", reason="pyvista reads the files as ParaView does")
    folder = convert(str(store.path), str(tmp_path / "made.vti"), trajectories=[1, 2])
    assert sorted(path.name for path in folder.glob("*.pvd")) == ["trajectory-0001.pvd", "trajectory-0002.pvd"]
    reader = pyvista.get_reader(folder / "trajectory-0001.pvd")
    assert reader.time_values == [10.0, 12.0, 14.0, 16.0, 18.0, 20.0]
    reader.set_active_time_value(12.0)
    (image,) = reader.read()
    assert image.spacing == (0.5, 0.5, 0.5)
    assert image.origin == (0.25, 0.25, 0.0)
    frame = store.read(1)[1]
    for c, name in enumerate(store.fields):
        np.testing.assert_array_equal(image.point_data[name].reshape(4, 5), frame[c])
    again = import_frames(
        folder, tmp_path / "again.zarr", fields=["c", "eta"], splits={"train": 1.0, "val": 0, "test": 0}
    )
    np.testing.assert_array_equal(again.read(0), store.read(1))


def test_one_trajectory_is_in_memory_at_a_time(store, tmp_path, monkeypatch):
    pytest.importorskip("h5netcdf", reason="h5netcdf comes with the extra `netcdf`")
    sizes, read = [], TrajectoryStore.read

    def counted(self, *args, **options):
        frames = read(self, *args, **options)
        sizes.append(frames.nbytes)
        return frames

    monkeypatch.setattr(TrajectoryStore, "read", counted)
    convert(str(store.path), str(tmp_path / "made.nc"))
    assert sizes == [6 * 2 * 4 * 5 * 4] * 4


def test_what_cannot_be_converted_is_refused_and_leaves_nothing(cli, store, monkeypatch):
    Path("there.vti").mkdir()
    Path("there.vti/keep").touch()
    given = ["convert", "--input", store.path]
    for words, args in {
        "must end in .nc (NetCDF) or .vti": ["--output=made.txt"],
        "has the fields c, eta, not d": ["--output=made.nc", "--fields=[d]"],
        "has the trajectories 0 to 3, not 4": ["--output=made.nc", "--trajectories=[4]"],
        "each must occur once": ["--output=made.nc", "--trajectories=[1,1]"],
        "not a folder of VTK image data that may be replaced": ["--output=there.vti", "--overwrite"],
    }.items():
        cli(*given, *args).refusal(words, code=1)
    cli("convert", "--input=nope.zarr", "--output=made.nc").refusal("no trajectory store at nope.zarr", code=1)
    for package, suffix, extra in (("h5netcdf", "nc", "netcdf"), ("vtkmodules.util.numpy_support", "vti", "vtk")):
        monkeypatch.setitem(sys.modules, package, None)
        cli(*given, f"--output=made.{suffix}").refusal("not installed", f"microevo[{extra}]", code=1)
    assert not list(Path().glob("made.n*")) + list(Path().glob("made.v*")) + list(Path().glob(".made*"))
