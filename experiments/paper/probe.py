"""Windows per second of training steps: which batch, number format and memory layout a device takes best.

    python experiments/paper/probe.py --models '{"FCN": {"class_path": ..., "init_args": ...}}' --output probe.json

Layout and precision are chosen with the first model, then the batch of each: doubled while that gains 5 % or more.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

import microevo.models
from microevo.models import Forecaster

FRAMES = 10  # past and future, each
GAIN = 1.05


class Setting(NamedTuple):
    """How to train."""

    precision: str
    channels_last: bool
    batch: int


def build(model: dict[str, Any]) -> Forecaster:
    """The network of a config."""
    settings = {name: value for name, value in model["init_args"].items() if name != "lr"}
    torch.manual_seed(0)
    return getattr(microevo.models, model["class_path"].rsplit(".", 1)[-1])(n_past=FRAMES, horizon=FRAMES, **settings)


def windows_per_second(
    model: dict[str, Any], setting: Setting, pixels: int, device: torch.device, seconds: float
) -> float:
    """Windows of so many pixels along a side that are trained on in a second; 0 where memory does not suffice."""
    try:
        network = build(model).to(device)
        if setting.channels_last:
            network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        optimiser = torch.optim.AdamW(network.parameters(), lr=1e-5)
        past, future = torch.rand(2, setting.batch, FRAMES, 1, pixels, pixels, device=device)

        def step() -> None:
            with torch.autocast(device.type, torch.bfloat16, enabled=setting.precision == "bf16-mixed"):
                loss = network.loss(past, future)
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()

        for _ in range(2):
            step()
        _finish(device)
        begin, steps = time.perf_counter(), 0
        while time.perf_counter() - begin < seconds:
            step()
            steps += 1
            _finish(device)
        return steps * setting.batch / (time.perf_counter() - begin)
    except torch.OutOfMemoryError:
        return 0.0


def probe(
    models: dict[str, Any], precisions: list[str], batches: list[int], pixels: int, device: torch.device, seconds: float
) -> dict[str, Any]:
    """The best setting of each model, and all that was measured."""
    rates: dict[tuple[str, Setting], float] = {}

    def measure(name: str, setting: Setting) -> float:
        if (name, setting) not in rates:
            rates[name, setting] = windows_per_second(models[name], setting, pixels, device, seconds)
            print(f"{name}, {setting}: {rates[name, setting]:.1f} windows/s", flush=True)
        return rates[name, setting]

    first = next(iter(models))
    formats = [Setting(precision, layout, batches[0]) for precision in precisions for layout in (True, False)]
    best = max(formats, key=lambda setting: measure(first, setting))
    choice = {}
    for name in models:
        chosen = best
        for batch in batches[1:]:
            larger = best._replace(batch=batch)
            if measure(name, larger) < GAIN * measure(name, chosen):
                break
            chosen = larger
        choice[name] = {**chosen._asdict(), "windows_per_second": measure(name, chosen)}
    measured = [
        {"model": name, **setting._asdict(), "windows_per_second": rate} for (name, setting), rate in rates.items()
    ]
    return {"choice": choice, "measured": measured, "device": str(device)}


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=json.loads, required=True, help="configs of the networks by name, as JSON")
    parser.add_argument("--precisions", type=json.loads, default=["bf16-mixed", "32-true"])
    parser.add_argument("--batches", type=json.loads, default=[32, 64, 128])
    parser.add_argument("--pixels", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=1.5, help="time of each measurement")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    torch.set_float32_matmul_precision("high")  # TF32 where a GPU has it, as in training
    torch.set_flush_denormal(True)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = probe(args.models, args.precisions, args.batches, args.pixels, device, args.seconds)
    args.output.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
