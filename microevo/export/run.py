"""export: a trained network in a form that other tools read, checked against the original before it is put in place."""

from pathlib import Path
from typing import Literal

from microevo.data.output import whole_output
from microevo.export.card import benchmark_scores, model_card
from microevo.export.check import disagreement, example
from microevo.models import load_model
from microevo.models.checkpoint import read_checkpoint
from microevo.models.folder import is_model_folder, write_folder
from microevo.provenance import check_replaceable, read_text, write_file

TOLERANCE = 1e-5  # of the largest value of a forecast, or absolute below 1
Format = Literal["safetensors", "torch-export", "onnx"]
SUFFIX = {"torch-export": ".pt2", "onnx": ".onnx"}


def export(
    ckpt_path: str,
    output: str,
    *,
    format: Format = "safetensors",
    horizon: int | None = None,
    image_size: tuple[int, int] = (64, 64),
    scores: str | None = None,
    notes: str | None = None,
    overwrite: bool = False,
) -> str:
    """Write a trained network for other tools.

    What is written is read again, forecasts random frames, and must agree with the original to 1e-5 of the largest value; only
    then it is put in place.

    Args:
        ckpt_path: Checkpoint that `fit` wrote, or a model folder.
        output: What to write: a folder for `safetensors`, a file ending in .pt2 for `torch-export` or in .onnx for `onnx`.
        format: `safetensors` is a model folder with weights, config and a model card, which `microevo.load_model` opens.
            `torch-export` is a program that `torch.export.load` runs without microevo. `onnx` is one for ONNX Runtime.
        horizon: Number of frames that the program forecasts, which is fixed in it. Unless given, it is the number that one call
            of the network predicts, which can be fed back in for the next ones; for a network that carries a state along, such as
            a recurrent one, its horizon. A program is unrolled: a long one takes minutes to export. Not for `safetensors`.
        image_size: Height and width of the frames that the program is traced with [px]. It takes others too, where the
            network allows it.
        scores: Folder that `benchmark` wrote, whose scores of this checkpoint go into the model card. For `safetensors`.
        notes: File in Markdown that goes into the model card, such as what the network is for and where it fails. For
            `safetensors`.
        overwrite: Whether to replace an existing output of the same kind.

    Returns:
        What was written, in words.

    Raises:
        FileNotFoundError: There is no such checkpoint, benchmark or file of notes.
        FileExistsError: `output` exists.
        ValueError: A setting does not fit the format, the network cannot be exported, or what was written disagrees with it.
    """
    checkpoint, model = read_checkpoint(ckpt_path), load_model(ckpt_path)
    target = check_output(output, format, overwrite)
    if format == "safetensors":
        if horizon is not None:
            raise ValueError(
                "horizon is for the formats torch-export and onnx; a model folder forecasts any number of frames"
            )
        section = "" if notes is None else read_text(Path(notes)).strip()
        text = model_card(checkpoint, "" if scores is None else benchmark_scores(scores, ckpt_path), section)
    elif scores is not None or notes is not None:
        raise ValueError(f"scores and notes go into the model card of a model folder; leave them out for {format}")
    with whole_output(target, overwrite) as made:
        if format == "safetensors":
            made.mkdir()
            write_folder(checkpoint, made)
            write_file(made / "README.md", text)
            past, parameters = example(model, image_size, samples=2)
            error = disagreement(model, load_model(made), past, parameters, min(model.horizon, 3))
            what = f"a model folder; open it with microevo.load_model({str(target)!r})"
        else:
            from microevo.export.program import write_program  # which imports what the other format does not need

            frames = (model.block_length or model.horizon) if horizon is None else horizon
            error, what = write_program(model, made, format, frames, image_size)
        if not error <= TOLERANCE:
            raise ValueError(
                f"what was written for {format} differs from the {type(model).__name__} by {error:.1e} of the largest value, "
                f"more than {TOLERANCE:g}, and was not put in place; a shorter horizon amplifies rounding less"
            )
    return f"{target}: {what}; the largest difference from the original forecast is {error:.1e}"


def check_output(output: str, format: Format, overwrite: bool) -> Path:
    """Check that a network can be written to `output`.

    Raises:
        FileExistsError: Something is there that may not be replaced.
        ValueError: The name does not fit the format.
    """
    target, suffix = Path(output), SUFFIX.get(format, "")
    if suffix and target.suffix != suffix:
        raise ValueError(f"output is {output}, but a file of the format {format} ends in {suffix}; rename it")
    if not suffix and (meant := next((name for name, other in SUFFIX.items() if other == target.suffix), None)):
        raise ValueError(
            f"output is {output}, but the format safetensors writes a folder; give --format {meant} or another name"
        )
    check_replaceable(
        target, overwrite, "file" if suffix else "model folder", Path.is_file if suffix else is_model_folder
    )
    return target
