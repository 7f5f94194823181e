"""A forecaster as a program of PyTorch (torch.export) or ONNX, which runs without microevo."""

import contextlib
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from microevo.export.check import disagreement, example
from microevo.models import Forecaster, LocalNet

LARGEST = 2**14  # of a size that may vary


class Program(nn.Module):
    """A forecaster over a fixed horizon: a function of tensors alone, as the exporters need it."""

    def __init__(self, model: Forecaster, horizon: int):
        super().__init__()
        self.model, self.horizon = model, horizon

    def forward(
        self, past: Float[Tensor, "B n_past C H W"], parameters: Float[Tensor, "B P"] | None = None
    ) -> Float[Tensor, "B {self.horizon} C H W"]:
        """The forecast."""
        return self.model(past, self.horizon, *(() if parameters is None else (parameters,)))


class Sizes(NamedTuple):
    """What may vary in the input of a program: the number of samples, and the image size."""

    batch: bool
    image: bool


def write_program(
    model: Forecaster, path: Path, format: str, horizon: int, image_size: tuple[int, int]
) -> tuple[float, str]:
    """Write a program and compare its forecast with the original.

    Sizes vary as far as the network and the format allow it: batch and image size, else the batch, else nothing.

    Args:
        model: The original, on the CPU.
        path: File to write.
        format: `torch-export` or `onnx`.
        horizon: Number of frames forecast.
        image_size: Height and width that the program is traced with [px].

    Returns:
        The largest difference, in units of the largest value where that is above 1; and what the program is, in words.

    Raises:
        ValueError: A setting is not possible, a package is missing, or the network cannot be exported.
    """
    # A LocalNet takes any size, but continues frames to this unit, which a program must not decide anew for each size.
    unit = math.lcm(model.unit, model.net.unit if isinstance(model, LocalNet) else 1)
    if horizon < 1:
        raise ValueError(f"horizon must be at least 1, but it is {horizon}")
    if min(image_size) < 2 * unit or any(size % unit for size in image_size):
        raise ValueError(
            f"image_size is {list(image_size)}, but a program of this {type(model).__name__} is traced with a height and width "
            f"divisible by {unit}, at least {2 * unit}; change image_size"
        )
    write = _write_onnx if format == "onnx" else _write_torch
    run = None
    for sizes in (Sizes(batch=True, image=True), Sizes(batch=True, image=False), Sizes(batch=False, image=False)):
        try:
            with _quiet():
                run = write(model, path, horizon, image_size, unit, sizes)
                larger = (image_size[0] + unit, image_size[1] + 2 * unit) if sizes.image else image_size
                past, parameters = example(model, larger, samples=3 if sizes.batch else 2)
                error = disagreement(model, run, past, parameters, horizon)
            break
        except ImportError as missing:
            raise ValueError(
                f'{format} needs the package {missing.name}, which is not installed; pip install "microevo[export]"'
            ) from missing
        except Exception as failed:  # the exporters have no error of their own: whatever stops them, less may vary
            problem = failed
    else:
        raise ValueError(
            f"this {type(model).__name__} cannot be exported as {format}: {' '.join(str(problem).split())[:200]}"
        ) from problem
    fixed = [] if sizes.batch else ["the number of samples is fixed to 2"]
    if sizes.image:
        fixed.append(f"heights and widths are any that {unit} divides" if unit > 1 else "frames have any size")
    else:
        fixed.append(
            f"frames have {image_size[0]} x {image_size[1]} pixels, since this network fixes them in a program"
        )
    inputs = f"past (B, {model.n_past}, {model.channels}, H, W)"
    if model.parameter_names:
        inputs += f" and parameters (B, {len(model.parameter_names)}: {', '.join(model.parameter_names)})"
    return error, f"a program from {inputs} to forecast (B, {horizon}, {model.channels}, H, W); {'; '.join(fixed)}"


def _trace(
    model: Forecaster, horizon: int, image_size: tuple[int, int], unit: int, sizes: Sizes
) -> tuple[ExportedProgram, dict[str, Any]]:
    """The program of a forecaster, and the axes of its inputs that vary."""
    program = Program(model, horizon).eval()
    past, parameters = example(model, image_size, samples=2)
    inputs = (past,) if parameters is None else (past, parameters)
    # Named by their purpose; an image size is a multiple of the network's unit.
    batch = {0: Dim("batch", max=LARGEST)} if sizes.batch else {}
    rows, columns = (Dim(name, max=LARGEST) for name in ("rows", "columns"))
    image = {3: unit * rows if unit > 1 else rows, 4: unit * columns if unit > 1 else columns} if sizes.image else {}
    shapes: dict[str, Any] = {"past": batch | image} | ({} if parameters is None else {"parameters": batch})
    with torch.no_grad():
        program(*inputs)  # what a network sets up on its first call is no part of the program
        return torch.export.export(program, inputs, dynamic_shapes=shapes, strict=False), shapes


def _write_torch(model: Forecaster, path: Path, *traced: Any) -> Callable[..., Tensor]:
    """Write a program of PyTorch, and return what reads and runs it."""
    program, _ = _trace(model, *traced)
    torch.export.save(program, path)
    loaded = torch.export.load(path).module()
    return lambda past, _, *parameters: loaded(past, *parameters)


def _write_onnx(model: Forecaster, path: Path, *traced: Any) -> Callable[..., Tensor]:
    """Write an ONNX file, and return what runs it in ONNX Runtime."""
    import onnxruntime
    import onnxscript  # noqa: F401  (of which PyTorch's own message says less)

    program, shapes = _trace(model, *traced)
    names = list(shapes)
    converted = torch.onnx.export(
        program,
        dynamo=True,
        verbose=False,
        external_data=False,
        input_names=names,
        output_names=["forecast"],
        dynamic_shapes=shapes,
    )
    assert converted is not None
    converted.save(path, external_data=False)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def run(past: Tensor, _: int, *parameters: Tensor) -> Tensor:
        arrays = [tensor.numpy() for tensor in (past, *parameters)]
        (forecast,) = session.run(None, dict(zip(names, arrays, strict=True)))
        return torch.from_numpy(forecast)

    return run


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' notes on packages that they could also use, and on what will be deprecated in them."""
    notes = logging.getLogger("torch.onnx")
    level = notes.level
    notes.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        notes.setLevel(level)
