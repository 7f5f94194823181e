"""A sweep whose trials take no time: a program of a few lines that measures a parabola."""

import json
import sys
from pathlib import Path

PROGRAM = """
import json, pathlib, sys, time
options = dict(word[2:].split("=", 1) for word in sys.argv[1:] if word.startswith("--") and "=" in word)
folder = pathlib.Path(options["run_dir"])
value = (float(options["x"]) - 3) ** 2 + float(options.get("y", 0))
for step in range(int(options.get("steps", 2))):
    with (folder / "validation.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, "val/mse": value + 1 / (1 + step)}) + "\\n")
    time.sleep(float(options.get("pause", 0)))
"""


def fast_sweep(path: Path, parameters: dict, method: str = "random", program: str = PROGRAM, **more) -> Path:
    """Write a sweep file."""
    (path / "program.py").write_text(program)
    command = [sys.executable, "-S", "-E", "${program}", "${args}"]
    content = {
        "program": str(path / "program.py"),
        "method": method,
        "metric": {"name": "val/mse", "goal": "minimize"},
        "parameters": parameters,
        "command": command,
    }
    file = path / "parabola.yaml"
    file.write_text(json.dumps(content | more))
    return file
