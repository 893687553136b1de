"""A trained model or a model file becomes a version folder that TensorFlow Serving loads.

TensorFlow is imported when the first model is exported, not before.
"""

from .callback import ExportCallback
from .pipeline import ExportedVersion, export_model
from .signatures.classify_regress import Classify, Regress
from .signatures.example import Example
from .signatures.image import Image
from .signatures.raw import Raw
from .signatures.top_k import Labels

__all__ = [
    "Classify",
    "Example",
    "ExportCallback",
    "ExportedVersion",
    "Image",
    "Labels",
    "Raw",
    "Regress",
    "export_model",
]
