"""TensorFlow and the two Kerases: imported when first needed, and quietly."""

from __future__ import annotations

import logging
import os
import random
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

from tfbundle_serving.apis.errors import ExportError

#: What TensorFlow says of itself on stderr when it is imported, whatever its log level.
_START_UP_TALK = re.compile(rb"(WARNING: All log messages before absl::InitializeLog|[IWE]\d{4} \d\d:\d\d:)")


def import_tensorflow() -> Any:
    """Import TensorFlow.

    Raises:
        ModuleNotFoundError: It is not installed.
    """
    # On a machine without a GPU even level 2 complains of it; what matters comes as an exception anyway.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    if "tensorflow" in sys.modules:
        return sys.modules["tensorflow"]
    with _without_start_up_talk():
        import tensorflow
    return tensorflow


def import_keras() -> Any:
    """Import Keras 3 on TensorFlow.

    Raises:
        ExportError: Keras is here already and runs on another backend.
        ModuleNotFoundError: It is not installed.
    """
    if "keras" not in sys.modules:
        os.environ["KERAS_BACKEND"] = "tensorflow"
    import_tensorflow()
    import keras

    backend = keras.backend.backend()
    if backend != "tensorflow":
        raise ExportError(
            f"Keras runs on {backend} in this process; a SavedModel can be written on TensorFlow only: "
            "set KERAS_BACKEND=tensorflow before keras is imported"
        )
    return keras


def import_tf_keras() -> Any:
    """Import tf_keras, which is Keras 2.

    Raises:
        ModuleNotFoundError: It is not installed.
    """
    import_tensorflow()
    import tf_keras

    return tf_keras


@contextmanager
def _without_start_up_talk() -> Iterator[None]:
    """Drop TensorFlow's start-up lines from stderr; everything else, and all of it after a failure, gets through."""
    try:
        stderr = os.dup(2)
    except OSError:
        yield
        return
    if os.environ["TF_CPP_MIN_LOG_LEVEL"] == "0":
        os.close(stderr)
        yield
        return
    with tempfile.TemporaryFile() as talk, os.fdopen(stderr, "wb", buffering=0) as saved:
        sys.stderr.flush()
        os.dup2(talk.fileno(), 2)
        everything = True
        try:
            yield
            everything = False
        finally:
            sys.stderr.flush()
            os.dup2(saved.fileno(), 2)
            _replay(talk, saved, everything=everything)


def _replay(talk: IO[bytes], to: IO[bytes], *, everything: bool) -> None:
    talk.seek(0)
    for line in talk:
        if everything or not _START_UP_TALK.match(line):
            to.write(line)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the warnings and log lines of TensorFlow and Keras about their own doings from the user."""
    loggers = [logging.getLogger(name) for name in ("tensorflow", "absl")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for logger in loggers:
                logger.setLevel(logging.ERROR)
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)


@contextmanager
def same_chance() -> Iterator[None]:
    """Let both Kerases draw the same seeds for random layers each time, and leave Python's own chance as it was.

    A loaded model gets new seeds that its file does not hold, and an LSTM with recurrent dropout has its seed in the
    graph even where nothing is random: without this no two exports of one file would be alike.
    """
    state = random.getstate()
    random.seed(0)
    try:
        yield
    finally:
        random.setstate(state)
