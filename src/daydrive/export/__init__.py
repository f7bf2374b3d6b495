"""Export: models as ONNX, as programs of PyTorch, and as web pages, compared with PyTorch."""

from daydrive.export.pipeline import ExportConfig, export

__all__ = ["ExportConfig", "export"]
