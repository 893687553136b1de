"""The embedded server: TensorFlow Serving's flags, files and wire contract in one Python process."""
