"""Files that are no Keras model, told by their first bytes, and what can be done with each."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

#: As much of a file as the rules below look at: a tar file names itself at byte 257.
HEAD_BYTES = 512


@dataclass(frozen=True, slots=True)
class _Rule:
    """How a file begins, what it then is, and what to do."""

    pattern: re.Pattern[bytes]
    what: str
    advice: str


def _rule(pattern: bytes, what: str, advice: str) -> _Rule:
    return _Rule(re.compile(pattern, re.DOTALL), what, advice)


_UNPACK = "unpack it first and give the model inside"
_PICKLED = (
    "it runs code when it is read, so it never is; load it where you trust it and give the live model, "
    "or save that with model.save('model.keras')"
)

_RULES = (
    _rule(rb"\x1f\x8b", "a gzip file", _UNPACK),
    _rule(rb"BZh[1-9]", "a bzip2 file", _UNPACK),
    _rule(rb"\xfd7zXZ\x00", "an xz file", _UNPACK),
    _rule(rb"\x28\xb5\x2f\xfd", "a zstd file", _UNPACK),
    _rule(rb"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    _rule(rb"Rar!\x1a\x07", "a rar archive", _UNPACK),
    _rule(rb".{257}ustar", "a tar archive", _UNPACK),
    _rule(
        rb"version https://git-lfs",
        "a Git LFS pointer, a few lines that stand for the real file",
        "run git lfs pull where it lies",
    ),
    _rule(
        rb"\s*<(!doctype|html|\?xml)|\s*<(!DOCTYPE|HTML)",
        "a web page, perhaps an error page that was saved as the model",
        "download the file again",
    ),
    _rule(rb".{4}TFL3", "a TensorFlow Lite model", "a TFLite model cannot be turned back; give the model it came from"),
    _rule(
        rb"\x08[\x02-\x40](\x12|\x1a|\x3a|B)",
        "an ONNX model",
        "TensorFlow Serving runs none; give the Keras model it came from",
    ),
    _rule(rb"\x08\x01\x12", "the graph of a SavedModel", "give the folder that it lies in"),
    _rule(rb"\n.{1,4}\x1a\x04root", "what Keras 2 noted beside a SavedModel", "give the folder that it lies in"),
    _rule(
        rb"\n.{1,4}\x12.{1,4}\n",
        "the graph of a TensorFlow 1 checkpoint (.meta)",
        "restore it with tf.compat.v1.train.import_meta_graph and save a SavedModel "
        "(tf.compat.v1.saved_model.simple_save), then give that",
    ),
    _rule(
        rb"\n.{1,4}\n.[\w./-]{1,200}\x12.[A-Z]\w+",
        "a frozen TensorFlow graph, without signatures",
        "give the SavedModel or the Keras model it came from",
    ),
    _rule(rb"\x80[\x02-\x05][\x00-\xff]", "a pickle, as joblib and torch.save write it", _PICKLED),
    _rule(rb"ZF[0-9a-fx ]", "a joblib file", _PICKLED),
    _rule(rb"\x93NUMPY", "a numpy array", "give the model, and arrays as --examples FILE (example_inputs=)"),
    _rule(rb".{6}\x00\x00\{\"", "a safetensors file", "give the Keras model; its weights can be set there"),
    _rule(rb"GGUF", "a GGUF file", "TensorFlow Serving runs none"),
    _rule(
        rb'\s*\{.*"(modelTopology|weightsManifest)"',
        "a TensorFlow.js model",
        "turn it back with tensorflowjs_converter --input_format=tfjs_layers_model --output_format=keras",
    ),
    _rule(
        rb'\s*\{.*"weight_map"',
        "the index of weights in several files",
        "save them as one: model.save_weights('model.weights.h5')",
    ),
    _rule(
        rb'\s*\{.*"(class_name|config)"',
        "an architecture as JSON, without weights",
        "give the weights as the source and this file as --architecture FILE (architecture=)",
    ),
    _rule(
        rb"(\w+:.*\n)*?(class_name|config):\s",
        "an architecture as YAML, without weights",
        "give the weights as the source and this file as --architecture FILE (architecture=)",
    ),
)

#: Entries that tell what a zip file is, by the ends of their names.
_ZIP_RULES = (
    (("data.pkl", "constants.pkl"), "a PyTorch model", "give the Keras model; TensorFlow Serving runs no other"),
    ((".npy",), "a file of numpy arrays", "give the model, and arrays as --examples FILE (example_inputs=)"),
    (
        (".keras", ".h5", ".hdf5", "saved_model.pb", "/config.json", ".ckpt.index"),
        "a zip file with a model inside",
        "unpack it and give that",
    ),
)


def describe_foreign(head: bytes) -> str:
    """Say what a file is and what to do; "" where it is unknown.

    Args:
        head: Its first HEAD_BYTES bytes, or all of them.
    """
    return next((f"is {rule.what}: {rule.advice}" for rule in _RULES if rule.pattern.match(head)), "")


def describe_foreign_zip(names: Iterable[str]) -> str:
    """Say what a zip file is that is no .keras archive; "" where it is unknown.

    Args:
        names: Its entries.
    """
    names = sorted(names)
    for endings, what, advice in _ZIP_RULES:
        entry = next((name for name in names if name.endswith(endings)), None)
        if entry is not None:
            return f"is {what} ({entry}): {advice}"
    return ""
