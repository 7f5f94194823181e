"""Train, score and export the networks that come with microevo, whose names `load_model` and `predict` know.

    make pretrained NAME=spinodal

A training takes about an hour of one core, on the store of `make results`. An interrupted one resumes with the same command. The
model card has the scores on the test trajectories, and what `notes/<process>.md` says of its use and its limits.
"""

import argparse
import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "studies"))

from study import command, make_stores, read, weights  # noqa: E402  (a script beside this one)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("process", choices=sorted(path.stem for path in (HERE / "notes").glob("*.md")))
    parser.add_argument("--runs", type=Path, default=Path("runs/pretrained"), help="folder of the trainings")
    parser.add_argument("--output", type=Path, default=Path("microevo/pretrained"), help="folder of the model folders")
    args = parser.parse_args()
    study, run = read(HERE / f"{args.process}.yaml"), args.runs / args.process
    make_stores(study)
    command(
        "fit", "--config", f"experiments/{args.process}-local.yaml", "--run_dir", str(run), "--ckpt_path", "last",
        "--data.init_args.store", study.store, "--trainer.logger", "false",
    )  # fmt: skip
    command(
        "benchmark", "--protocols", json.dumps({"10->90": {"store": study.store, "horizon": 90}}),
        "--checkpoints", json.dumps({"LocalNet": str(weights(run))}), "--repeats", "0", "--physics", "none",
        "--reference_solver", "false",
        "--fields", json.dumps([study.forecast_field]), "--output", str(run / "benchmark"),
    )  # fmt: skip
    command(
        "export", "--ckpt_path", str(weights(run)), "--output", str(args.output / args.process),
        "--scores", str(run / "benchmark"), "--notes", str(HERE / "notes" / f"{args.process}.md"), "--overwrite",
    )  # fmt: skip


if __name__ == "__main__":
    main()
