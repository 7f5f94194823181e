"""The commands, a line each; without imports, so that it comes at once."""

COMMANDS = {
    "simulate": "simulate trajectories with a phase-field solver into a zarr store",
    "import": "turn frames made by others (.npy, .npz, HDF5, PNG, TIFF) into a zarr store",
    "compare": "hold simulated trajectories against a published sample: statistics, bands, a picture",
    "fit": "train a model on a store",
    "validate": "evaluate a checkpoint on the validation split",
    "test": "evaluate a checkpoint on the test split: a long CSV and a curve of error against lead",
    "predict": "write forecasts beside the truth: a zarr store, filmstrips, animations",
    "benchmark": "score forecasts against persistence and known physics: accuracy, physics, cost, one page",
}


def overview() -> str:
    """What `python -m microevo --help` prints."""
    width = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    return (
        "usage: python -m microevo <command> [options]\n\n"
        "Simulate, learn and benchmark microstructure evolution.\n\n"
        f"commands:\n{lines}\n\n"
        "`python -m microevo <command> --help` lists its options. `--debug` (or MICROEVO_DEBUG=1) shows the traceback of\n"
        "an error."
    )
