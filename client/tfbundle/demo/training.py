"""The user's part of the demo: train a small CNN on handwritten digits and save it as .h5.

Run as a process of its own, as a user's training script would be; nothing of tfbundle is used here.

    python -m tfbundle.demo.training FOLDER [--epochs 8] [--resume FOLDER/digits.h5]

Writes into FOLDER: digits.h5, test_images.npy (?, 8, 8, 1), test_labels.npy (?,) and test_probabilities.npy (?, 10),
the trained model's own predictions, which is what the served answers are held against.
"""

from __future__ import annotations

import argparse
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

SEED = 7
TEST_SHARE = 0.3


def load_digits() -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Load scikit-learn's 1,797 scanned digits, scaled to 0..1, split into training and test."""
    from sklearn import datasets, model_selection

    digits = datasets.load_digits()
    images = (digits.images / 16.0).astype(np.float32)[..., np.newaxis]
    split = model_selection.train_test_split(
        images, digits.target, test_size=TEST_SHARE, random_state=SEED, stratify=digits.target
    )
    train_images, test_images, train_labels, test_labels = split
    return train_images, train_labels, test_images, test_labels


def build_model() -> Any:
    """Build the untrained CNN."""
    import keras

    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dropout(0.25),
            layers.Dense(64, activation="relu"),
            layers.Dense(10, activation="softmax", name="probabilities"),
        ],
        name="digits",
    )


def main() -> None:
    """Train, or train on, and save."""
    parser = argparse.ArgumentParser(description="Train the demo's model.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--resume", type=Path)
    options = parser.parse_args()

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    import keras

    train_images, train_labels, test_images, test_labels = load_digits()
    keras.utils.set_random_seed(SEED)
    # Keras cannot go on with the optimizer of an .h5, so the training goes on with a new one.
    model = keras.models.load_model(options.resume, compile=False) if options.resume else build_model()
    model.compile(optimizer="adam", loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(train_images, train_labels, batch_size=32, epochs=options.epochs, verbose=0)
    probabilities = model.predict(test_images, batch_size=len(test_images), verbose=0)

    options.folder.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Keras advises against .h5; people save it all the same
        model.save(options.folder / "digits.h5")
    np.save(options.folder / "test_images.npy", test_images)
    np.save(options.folder / "test_labels.npy", test_labels)
    np.save(options.folder / "test_probabilities.npy", probabilities)
    accuracy = float(np.mean(probabilities.argmax(axis=1) == test_labels))
    print(f"{len(train_images)} training images, {options.epochs} epochs, test accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
