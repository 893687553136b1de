"""A trained Keras model or a model file becomes a version folder that TensorFlow Serving loads.

TensorFlow is imported when the first model is exported, not before.
"""

from .pipeline import ExportedVersion, export_model

__all__ = ["ExportedVersion", "export_model"]
