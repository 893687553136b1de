"""TensorFlow Serving's text configuration files as frozen dataclasses."""
