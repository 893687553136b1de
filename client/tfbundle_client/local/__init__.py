"""The way to no server: version folders run in this process, where TensorFlow is installed."""
