"""A trained Keras model or a model file becomes a version folder that TensorFlow Serving loads."""
