"""Collect the wheels that a machine without a network lacks.

Run it in an environment that has microevo: the versions collected are those of this environment.

    make wheelhouse PYTHON=3.12 HAVE=node.txt

`node.txt` is what `python -m pip list` or `pip freeze` prints on the other machine, or just names, one on each line.
PyTorch is never collected: a machine with a GPU brings the build that fits its driver.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.markers import Environment, default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
BROUGHT = "torch"
OLDEST_GLIBC = (5, 17, 24, 26, 27, 28, 31, 34, 35)  # minor versions of the manylinux tags in use


def read_list(path: Path) -> dict[str, str]:
    """Names and versions of a list of packages; a version that is not given is empty."""
    have = {}
    for line in path.read_text().splitlines():
        found = re.match(r"\s*([A-Za-z0-9][\w.-]*)\s*(?:==|\s)?\s*([0-9][\w.+!-]*)?", line.split("#")[0])
        if found and not re.match(r"\s*(-+|Package\s+Version)", line):
            have[canonicalize_name(found[1])] = found[2] or ""
    return have


def needs(name: str, extras: frozenset[str], python: str) -> Iterator[Requirement]:
    """What a package of this environment needs on another version of Python."""
    environment = {**default_environment(), "python_version": python, "python_full_version": f"{python}.0"}
    for text in distribution(name).requires or ():
        requirement = Requirement(text)
        marked = [Environment(**environment, extra=extra) for extra in (extras or {""})]  # type: ignore[typeddict-item]
        if requirement.marker is None or any(requirement.marker.evaluate(dict(environment)) for environment in marked):
            yield requirement


def missing(
    have: Mapping[str, str], without: frozenset[str], python: str, extras: frozenset[str] = frozenset()
) -> tuple[dict[str, str], list[str]]:
    """Name and version of each package to collect, and what there is to say about versions that do not fit.

    Raises:
        ValueError: A package is not in this environment, or the other machine's PyTorch is too old.
    """
    found: dict[str, str] = {}
    remarks: list[str] = []
    waiting = [("microevo", extras)]
    seen = set(waiting)
    while waiting:
        for requirement in needs(*waiting.pop(), python):
            name, its_extras = canonicalize_name(requirement.name), frozenset(requirement.extras)
            version = have.get(name, "")
            fits = not version or requirement.specifier.contains(version, prereleases=True)
            if name == BROUGHT and not fits:
                raise ValueError(
                    f"microevo needs {requirement}, but the machine has {version}; install a newer PyTorch there"
                )
            if name == BROUGHT or name in without or (name in have and fits):
                continue
            if not fits:
                remarks.append(f"{requirement} is needed, but the machine has {version}: a newer one is collected")
            try:
                found[name] = distribution(name).version
            except PackageNotFoundError:
                raise ValueError(f"{requirement} is not in this environment; run `make install` first") from None
            if (name, its_extras) not in seen:
                seen.add((name, its_extras))
                waiting.append((name, its_extras))
    return found, remarks


def collect(packages: Mapping[str, str], output: Path, python: str, machine: str, glibc: int) -> list[Path]:
    """Download the wheels and build that of microevo; `output` appears when all are there."""
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in OLDEST_GLIBC if minor <= glibc]
    platforms += [f"manylinux2014_{machine}", f"manylinux2010_{machine}", f"manylinux1_{machine}"]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        wheels = Path(scratch) / "wheels"
        wheels.mkdir(mode=0o755)
        chosen = ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}"]
        chosen += [f"--platform={platform}" for platform in platforms]
        pinned = [f"{name}=={version}" for name, version in sorted(packages.items())]
        if pinned:
            subprocess.run([*pip, "download", "--quiet", "--no-deps", *chosen, f"--dest={wheels}", *pinned], check=True)
        subprocess.run([*pip, "wheel", "--quiet", "--no-deps", f"--wheel-dir={wheels}", str(ROOT)], check=True)
        shutil.rmtree(output, ignore_errors=True)
        wheels.rename(output)
    return sorted(output.glob("*.whl"))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--python", default=f"{sys.version_info.major}.{sys.version_info.minor}", help="Python of the machine"
    )
    parser.add_argument("--have", type=Path, help="list of the packages that the machine has")
    parser.add_argument("--without", default="", help="packages to leave out, with commas between them, such as wandb")
    parser.add_argument(
        "--extras", default="", help="optional parts of microevo, with commas between them, such as sweep"
    )
    parser.add_argument("--machine", default="x86_64", help="its processor: x86_64 or aarch64")
    parser.add_argument("--glibc", type=int, default=28, help="its C library: 28 for 2.28, which `ldd --version` tells")
    parser.add_argument("--output", type=Path, default=Path("wheelhouse"), help="folder of the wheels, made anew")
    args = parser.parse_args()
    if args.output.exists() and any(path.suffix != ".whl" for path in args.output.iterdir()):
        sys.exit(f"{args.output} holds more than wheels and would be replaced; choose another --output")
    if args.have and not args.have.is_file():
        sys.exit(f"there is no list of packages at {args.have}; write one there with `python -m pip list`")
    try:
        have = read_list(args.have) if args.have else {}
        extras = frozenset(filter(None, args.extras.split(",")))
        packages, remarks = missing(have, frozenset(args.without.split(",")), args.python, extras)
    except ValueError as error:
        sys.exit(str(error))
    print("\n".join(remarks), end="\n" * bool(remarks))
    try:
        wheels = collect(packages, args.output, args.python, args.machine, args.glibc)
    except subprocess.CalledProcessError as error:
        sys.exit(f"pip could not collect the wheels (exit code {error.returncode}); what it says is above")
    sizes = {wheel.name: wheel.stat().st_size / 1e6 for wheel in wheels}
    largest = ", ".join(
        f"{name.split('-')[0]} {sizes[name]:.0f}" for name in sorted(sizes, key=lambda n: -sizes[n])[:4]
    )
    print(f"{args.output}: {len(wheels)} wheels, {sum(sizes.values()):.1f} MB (largest: {largest} MB)")
    print(f"there: python -m pip install --no-index --no-deps {args.output}/*.whl")


if __name__ == "__main__":
    main()
