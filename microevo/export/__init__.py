"""Trained networks for other tools: model folders, programs of PyTorch and ONNX, and the Hugging Face Hub."""

from microevo.export.run import export

__all__ = ["export"]
