"""The paper's comparison in the minutes of a borrowed GPU: data, trainings, benchmark and what they cost.

    make paper OUT=folder MINUTES=9              # on a node with a GPU; experiments/paper/README.md has the plan
    make paper OUT=folder SCALE=tiny             # the rehearsal: every part, in under three minutes of a CPU

Parts run in two lanes at once: the cores simulate while the GPU trains on what is there. A part that no longer fits is
skipped with a sentence. What is done is in OUT at once, and the same command resumes from there.
"""

import argparse
import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).parents[2]
NEEDED = ("torch", "lightning", "zarr", "jsonargparse", "safetensors")
# Of all that is run: one thread each, for the cores are shared out.
ENVIRONMENT = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1") | {
    "WANDB_MODE": "disabled"
}
MINUTES = {"full": 9.0, "tiny": 2.8}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of what is to be kept, at most 8 files")
    parser.add_argument("--minutes", type=float, default=None, help="time for all of it; 9, or 2.8 for tiny")
    parser.add_argument("--scale", choices=MINUTES, default="full", help="tiny: the rehearsal on a CPU")
    parser.add_argument("--work", type=Path, default=None, help="folder of stores, runs and results; results/paper")
    args = parser.parse_args()
    if lacking := [name for name in NEEDED if find_spec(name) is None]:
        sys.exit(
            f"this Python lacks {', '.join(lacking)}: run `make install`, or on a machine without a network install the wheels "
            "that `make wheelhouse` collects (experiments/paper/README.md)"
        )
    sys.path.insert(0, str(ROOT))
    from job import Paper  # after the sentence above: it imports them
    from plan import SCALES

    work = args.work or ROOT / "results" / ("paper" if args.scale == "full" else f"paper-{args.scale}")
    work, out = work.resolve(), args.out.resolve()
    os.chdir(ROOT)
    os.environ |= ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    schedule = Paper(SCALES[args.scale], args.minutes or MINUTES[args.scale], work, out).schedule
    try:
        schedule.run()
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command resumes from here")
    undone = [name for name, record in schedule.records.items() if record["status"] != "done"]
    print(f"{args.out}: {', '.join(sorted(path.name for path in out.iterdir()))}")
    print(f"not done: {', '.join(undone)}; the same command resumes" if undone else "all parts are done")


if __name__ == "__main__":
    main()
