import subprocess
import sys
from pathlib import Path

import pytest

from microevo.provenance import atomic, fingerprint, free_path, git_commit, versions, write_file


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new folder" / "a.txt"
    write_file(path, "first")

    def fail() -> None:
        with atomic(path) as temporary:
            temporary.write_text("half of the sec")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert path.read_text() == "first"
    write_file(path, b"second")
    assert path.read_text() == "second"
    assert list(path.parent.iterdir()) == [path]  # nothing is left of the attempts


def test_a_new_file_has_the_permissions_of_any_other(tmp_path):
    write_file(tmp_path / "a", "")
    (tmp_path / "b").write_text("")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_two_writers_of_one_file_do_not_mix(tmp_path):
    with atomic(tmp_path / "a") as one, atomic(tmp_path / "a") as other:
        one.write_text("one")
        other.write_text("other")
    assert (tmp_path / "a").read_text() == "one"


def test_fingerprints_are_those_of_sha256sum(tmp_path):
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    path = tmp_path / "empty"
    path.touch()
    assert fingerprint("") == fingerprint(b"") == fingerprint(path) == empty
    assert fingerprint("abc").startswith("ba7816bf")


def test_a_free_path_is_the_first_that_is_not_taken(tmp_path):
    assert free_path(tmp_path / "a.csv") == tmp_path / "a.csv"
    for _ in range(3):
        free_path(tmp_path / "a.csv").touch()
    assert {path.name for path in tmp_path.iterdir()} == {"a.csv", "a-2.csv", "a-3.csv"}


def test_versions_are_those_of_what_computes():
    assert {"python", "microevo", "torch", "lightning", "numpy", "zarr"} <= versions().keys()


def test_the_commit_says_whether_files_were_changed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git_commit() is None
    subprocess.run(["git", "init", "-q"], check=True)
    Path("a").touch()
    subprocess.run(["git", "add", "a"], check=True)
    names = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", *names, "commit", "-qm", "a"], check=True)
    commit = git_commit()
    assert commit is not None
    assert len(commit) == 40
    Path("b").touch()
    assert git_commit() == f"{commit}-changed"


def test_it_needs_none_of_the_heavy_packages():
    words = "import sys, microevo.provenance; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "lightning", "zarr"} & set(loaded)
