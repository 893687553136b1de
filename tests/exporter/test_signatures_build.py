"""All signatures of a version together: which, in which order and under which names."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.exporter.small_source import Version, call_of, source, spec
from tfbundle_exporter.models.source_model import SourceModel
from tfbundle_exporter.settings import SignatureSettings
from tfbundle_exporter.signatures.build import build_endpoints
from tfbundle_exporter.signatures.classify_regress import Classify, Regress
from tfbundle_exporter.signatures.example import Example
from tfbundle_exporter.signatures.image import Image
from tfbundle_exporter.signatures.raw import Raw
from tfbundle_exporter.signatures.ready_made import parse_ready_made
from tfbundle_exporter.signatures.top_k import Labels
from tfbundle_serving.apis.comparison import compare
from tfbundle_serving.apis.errors import ExportError


def model() -> SourceModel:
    """Make a model with variables, two outputs and two further signatures, one of them with names that are illegal."""
    import tensorflow as tf

    kernel = tf.Variable(np.arange(36, dtype="f4").reshape(12, 3) / 36, name="kernel")
    bias = tf.Variable([0.5, -1, 2], name="bias")

    def scores(x: Any) -> list[Any]:
        logits = tf.matmul(tf.reshape(x, [-1, 12]), kernel) + bias
        return [tf.nn.softmax(logits), tf.cast(logits[:, :1], tf.bfloat16)]

    x = {"x": spec("float32", 2, 2, 3)}
    return source(
        x,
        ("p", "half"),
        scores,
        variables=(kernel, bias),
        others={
            "logits_only": call_of(x, ("half",), lambda x: scores(x)[1]),
            "old": call_of({"a b": spec("float32", 2), "_x_": spec("float32", 2)}, ("sum:0",), lambda a, b: a + b),
        },
    )


READY = (
    Image(),
    Example(),
    Classify(scores="p"),
    Regress(output="half"),
    Raw(),
    Labels(labels=("a", "b", "c"), output="p"),
)


def test_all_kinds_in_order(tmp_path: Path) -> None:
    """The main signature is first, then the source's others, ready-made ones, the user's; all are in the version."""
    import tensorflow as tf

    settings = SignatureSettings(ready=READY, functions={"mine": (lambda x: -x, [tf.TensorSpec((None, 2), name="x")])})
    version = Version(tmp_path / "1", model(), settings)
    assert list(version.endpoints) == ["serving_default", "logits_only", "old", *READY_NAMES, "mine"]
    for name, endpoint in version.endpoints.items():
        assert set(version.ask(name, inputs_for(version, name))) == set(endpoint.outputs)


READY_NAMES = ("image", "example", "classify", "regress", "raw", "top_k")


def inputs_for(version: Version, name: str) -> dict[str, Any]:
    """Draw three rows for a signature."""
    random = np.random.default_rng(0)
    if name in READY_NAMES:
        return version.examples(name, {"x": random.normal(size=(3, 2, 2, 3)).astype("f4")})
    shapes = {key: [size or 3 for size in given.shape or ()] for key, given in version.endpoints[name].inputs.items()}
    return {key: random.normal(size=shape).astype("f4") for key, shape in shapes.items()}


@pytest.mark.parametrize("name", READY_NAMES)
def test_rows_are_independent(written: Version, name: str) -> None:
    """In every ready-made signature a row alone is answered like the same row among others."""
    inputs = inputs_for(written, name)
    whole = written.ask(name, inputs)
    for row in range(3):
        alone = written.ask(name, {key: array[row : row + 1] for key, array in inputs.items()})
        for key, answers in whole.items():
            assert compare(answers[row : row + 1], alone[key]).equal


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Version:
    """A version with every ready-made signature."""
    return Version(tmp_path_factory.mktemp("built") / "1", model(), SignatureSettings(ready=READY))


def test_names_of_other_signatures_mend_themselves(caplog: pytest.LogCaptureFixture) -> None:
    """--input and --output are about the main signature, so illegal names elsewhere become the nearest legal ones."""
    with caplog.at_level("INFO"):
        endpoints = {each.signature: each for each in build_endpoints(model(), SignatureSettings())}
    assert list(endpoints["old"].inputs) == ["a_b", "x"]
    assert endpoints["old"].outputs == ("sum_0",)
    assert "signature old: 'a b' is called 'a_b'" in caplog.text


def test_names_that_the_source_gave_its_signatures(caplog: pytest.LogCaptureFixture) -> None:
    """An illegal name of a further signature becomes the nearest legal one, as those of its inputs do."""
    whole = model()
    with caplog.at_level("INFO"):
        endpoints = build_endpoints(replace(whole, others={"2nd/é": whole.others["logits_only"]}), SignatureSettings())
    assert [each.signature for each in endpoints] == ["serving_default", "x_2nd_e"]
    assert "signature '2nd/é' is called 'x_2nd_e'" in caplog.text


def test_the_main_signature_under_its_own_name() -> None:
    """A SavedModel's only signature may be asked for by the name that it has, and is then there once."""
    whole = replace(model(), others={"predict_images": (main := model().main)}, main=main)
    asked = [each.signature for each in build_endpoints(whole, SignatureSettings(name="predict_images"))]
    assert asked == ["predict_images"]
    assert len(build_endpoints(whole, SignatureSettings())) == 2


def test_a_signature_without_outputs() -> None:
    """A call that returns an empty dict serves nothing."""
    x = {"x": spec("float32", 2)}
    with pytest.raises(ExportError, match="signature 'serving_default' returns no tensor"):
        build_endpoints(source(x, (), lambda x: []), SignatureSettings())  # noqa: ARG005


def test_names_of_the_main_signature() -> None:
    """The user's names come before those that are handed in, and these before the source's own."""
    own_names = (["input_1"], ["dense", "dense_1"])
    settings = SignatureSettings(name="predict", output_names={"score": "dense"})
    main, *_ = build_endpoints(model(), settings, own_names=own_names)
    assert (main.signature, list(main.inputs), main.outputs) == ("predict", ["input_1"], ("score", "dense_1"))


def test_two_signatures_of_one_name() -> None:
    """Names among all kinds of signatures differ."""
    with pytest.raises(
        ExportError, match=r"two signatures are called 'old'.*there are serving_default, logits_only, old"
    ):
        build_endpoints(model(), SignatureSettings(ready=(Raw(signature="old"),)))


@pytest.mark.parametrize("cast", [False, True])
def test_half_precision_outputs(tmp_path: Path, cast: bool) -> None:
    """bfloat16 stays as it is, or becomes float32 where that is asked for; float32 is left alone."""
    version = Version(tmp_path / "1", model(), SignatureSettings(cast_outputs=cast))
    answer = version.ask("serving_default", {"x": np.ones((2, 2, 2, 3), "f4")})
    assert (answer["p"].dtype.name, answer["half"].dtype.name) == ("float32", "float32" if cast else "bfloat16")
    np.testing.assert_array_equal(
        answer["half"].astype("f4"),
        version.endpoints["serving_default"].predict({"x": np.ones((2, 2, 2, 3), "f4")})["half"].astype("f4"),
    )


@pytest.mark.parametrize(
    ("text", "made"),
    [
        ("image", Image()),
        ("image:low=-1,high=1,resize=bicubic,antialias", Image(low=-1, high=1, resize="bicubic", antialias=True)),
        ("image:size=24x32,mean=1/2.5/3,std=2,bgr=true", Image(size=(24, 32), mean=(1, 2.5, 3), std=(2,), bgr=True)),
        ("classify:scores=p,signature=c", Classify(scores="p", signature="c")),
        ("top_k:labels=a/b.txt,top_k=3,around=image", Labels(labels="a/b.txt", top_k=3, around="image")),
        ("raw:around=old", Raw(around="old")),
    ],
)
def test_ready_made_signatures_as_text(text: str, made: Any) -> None:
    """A line of text says what Python says."""
    assert parse_ready_made(text) == made


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("picture", "there is no ready-made signature 'picture'; there are image, example, classify"),
        ("raw:size=2", "raw has no setting 'size'; it has signature, around"),
        ("image:size=24", "image: size cannot be '24'; write height x width, such as 224x224"),
        ("image:low=a", "image: low cannot be 'a'; write a number"),
        ("image:bgr=maybe", "image: bgr cannot be 'maybe'; write true or false"),
        ("top_k", "missing 1 required keyword-only argument: 'labels'"),
    ],
)
def test_text_that_says_nothing(text: str, expected: str) -> None:
    """The error says what there is."""
    with pytest.raises(ExportError) as caught:
        parse_ready_made(text)
    assert expected in str(caught.value)
