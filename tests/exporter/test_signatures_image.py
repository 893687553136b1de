"""The image signature against the plain one, which gets pixels that were decoded, resized and scaled outside."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.exporter.small_source import Version, source, spec
from tfbundle_exporter.settings import SignatureSettings
from tfbundle_exporter.signatures.build import build_endpoints
from tfbundle_exporter.signatures.image import Image
from tfbundle_exporter.signatures.ready_made import parse_ready_made
from tfbundle_serving.apis.errors import ExportError

CAFFE = (103.939, 116.779, 123.68)


def photo(height: int, width: int, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    """Draw a picture with soft shapes, so that JPEG has something to do."""
    coarse = np.random.default_rng(seed).uniform(0, 255, (4, 4, channels))
    picture = coarse.repeat(-(-height // 4), 0).repeat(-(-width // 4), 1)
    return picture[:height, :width].astype(np.uint8)


def png(*pictures: NDArray[np.uint8]) -> NDArray[Any]:
    """Write pictures as PNG files."""
    import tensorflow as tf

    return np.array([tf.io.encode_png(picture).numpy() for picture in pictures], object)


def pixels_of(function: Any = None, **inputs: Any) -> Any:
    """Make a source that gives back the pixels it is given, or what a function makes of its inputs."""
    return source(inputs, ("seen",), function or (lambda *tensors: tensors[0]))


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Version:
    """A model on 8 x 6 colour images, with an image signature of each kind of scaling and resizing."""
    ready = (
        Image(),
        Image(signature="signed", low=-1, high=1, resize="nearest"),
        Image(signature="unit", low=0, high=1, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.5), resize="area"),
        Image(signature="caffe", mean=CAFFE, bgr=True, resize="bicubic", antialias=True),
        Image(signature="padded", resize="pad"),
    )
    model = pixels_of(picture=spec("float32", 8, 6, 3))
    return Version(tmp_path_factory.mktemp("image") / "1", model, SignatureSettings(ready=ready))


def outside(name: str, picture: NDArray[np.uint8]) -> NDArray[Any]:
    """Do what a signature is told to do, by other means."""
    import tensorflow as tf

    size = (8, 6)
    if name == "padded":
        height, width = picture.shape[:2]
        scale = min(Fraction(8, height), Fraction(6, width))
        fitted = np.asarray(tf.image.resize(picture, (int(height * scale), int(width * scale))))
        framed = np.zeros((*size, 3))
        top, left = (8 - len(fitted)) // 2, (6 - len(fitted[0])) // 2
        framed[top : top + len(fitted), left : left + len(fitted[0])] = fitted
        return framed
    method = {"signed": "nearest", "unit": "area", "caffe": "bicubic"}.get(name, "bilinear")
    resized = np.asarray(tf.image.resize(picture, size, method, antialias=name == "caffe"), np.float64)
    scaled: dict[str, NDArray[Any]] = {
        "image": resized,
        "signed": resized / 127.5 - 1,
        "unit": (resized / 255 - np.array([0.5, 0.4, 0.3])) / np.array([0.2, 0.25, 0.5]),
        "caffe": np.clip(resized, 0, 255)[..., ::-1] - np.array(CAFFE),
    }
    return scaled[name]


@pytest.mark.parametrize("name", ["image", "signed", "unit", "caffe", "padded"])
def test_pixels_are_resized_and_scaled_as_told(version: Version, name: str) -> None:
    """Images of several sizes in one batch reach the model as a preprocessing outside would give them."""
    pictures = [photo(8, 6), photo(17, 31, seed=1), photo(5, 3, seed=2)]
    seen = version.ask(name, {"image_bytes": png(*pictures)})["seen"]
    plain = version.ask(
        "serving_default", {"picture": np.stack([outside(name, each) for each in pictures]).astype("f4")}
    )
    np.testing.assert_allclose(seen, plain["seen"], atol=1e-4)


def test_other_formats(version: Version) -> None:
    """JPEG, GIF and PNG of grey levels are decoded to the channels of the model; of a GIF the first frame."""
    import tensorflow as tf

    picture = photo(8, 6)
    jpeg = tf.io.encode_jpeg(picture, quality=95).numpy()
    gif = (
        b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\x00\x00\x00\xff\x00"
        b",\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02L\x01\x00;"
    )
    grey = tf.io.encode_png(picture[..., :1]).numpy()
    seen = version.ask("image", {"image_bytes": np.array([jpeg, gif, grey], object)})["seen"]
    np.testing.assert_allclose(seen[0], tf.io.decode_jpeg(jpeg), atol=1e-4)
    np.testing.assert_array_equal(seen[1], np.broadcast_to([255, 0, 0], (8, 6, 3)))
    np.testing.assert_array_equal(seen[2], picture[..., :1].repeat(3, -1))


def test_rows_are_independent(version: Version) -> None:
    """An image alone is answered like the same image among others."""
    files = png(photo(8, 6), photo(20, 9), photo(3, 3))
    together = version.ask("image", {"image_bytes": files})["seen"]
    for row in range(3):
        np.testing.assert_array_equal(
            version.ask("image", {"image_bytes": files[row : row + 1]})["seen"][0], together[row]
        )


@pytest.mark.parametrize("damaged", [b"", b"no image", png(photo(8, 6))[0][:40]])
def test_undecodable_bytes(version: Version, damaged: bytes) -> None:
    """What is no image is an invalid argument, for the caller to mend."""
    import tensorflow as tf

    with pytest.raises(tf.errors.InvalidArgumentError):
        version.ask("image", {"image_bytes": np.array([damaged], object)})


@pytest.mark.parametrize("name", ["image", "signed", "unit", "caffe"])
def test_examples_are_the_images_that_the_rows_came_from(version: Version, name: str) -> None:
    """Reference rows that are scaled pixels come back from their PNG files, scaling undone and done again."""
    rows = np.stack([outside(name, photo(8, 6, seed=seed)) for seed in range(3)]).astype("f4")
    seen = version.ask(name, version.examples(name, {"picture": rows}))["seen"]
    # Half a grey level is lost by rounding: in the widest of these scalings, 0.02 / 0.2 at most.
    np.testing.assert_allclose(seen, rows, atol=0.51 if name in ("image", "caffe") else 0.011)


def test_rows_without_contrast_are_stretched(version: Version) -> None:
    """Rows drawn between -1 and 1, for a model that takes 0 to 255, become images that are more than black."""
    rows = np.random.default_rng(0).normal(size=(4, 8, 6, 3)).astype("f4")
    seen = version.ask("image", version.examples("image", {"picture": rows}))["seen"]
    assert (np.min(seen), np.max(seen)) == (0, 255)
    assert np.corrcoef(seen.ravel(), rows.ravel())[0, 1] > 0.999


@pytest.mark.parametrize(
    ("inputs", "seen"),
    [
        ({"grey": spec("float32", 4, 4)}, photo(4, 4, 1)[..., 0]),
        ({"grey": spec("uint8", 4, 4, 1)}, photo(4, 4, 1)),
        ({"alpha": spec("int32", 4, 4, 4)}, photo(4, 4, 4)),
        ({"half": spec("float16", 4, 4, 3)}, photo(4, 4, 3)),
    ],
)
def test_other_kinds_of_input(tmp_path: Path, inputs: Any, seen: NDArray[np.uint8]) -> None:
    """Grey images without a channel axis, transparency, and whole numbers are served, too."""
    version = Version(tmp_path / "1", pixels_of(**inputs), SignatureSettings(ready=(Image(),)))
    found = version.ask("image", {"image_bytes": png(seen if seen.ndim == 3 else seen[..., None])})["seen"]
    np.testing.assert_array_equal(found[0], seen)
    assert found.dtype.name == next(iter(inputs.values())).dtype.numpy_name


def test_other_inputs_stay(tmp_path: Path) -> None:
    """Only the image input is replaced; what else the model takes is taken as before."""
    model = pixels_of(
        lambda weight, image: image * weight[:, None, None, None], weight=spec("float32"), im=spec("float32", 4, 4, 1)
    )
    version = Version(tmp_path / "1", model, SignatureSettings(ready=(Image(),)))
    inputs = {"weight": np.array([2, 3], "f4"), "image_bytes": png(photo(4, 4, 1), photo(4, 4, 1))}
    seen = version.ask("image", inputs)["seen"]
    np.testing.assert_array_equal(seen[1], photo(4, 4, 1) * np.float32(3))
    assert list(version.endpoints["image"].inputs) == ["weight", "image_bytes"]


@pytest.mark.parametrize(
    ("inputs", "ready", "expected"),
    [
        ({"x": spec("float32", 4)}, Image, "none is (batch, height, width, channels)"),
        (
            {"a": spec("float32", 4, 4, 3), "b": spec("float32", 4, 4, 3)},
            Image,
            "say which takes the image: input=NAME",
        ),
        ({"a": spec("float32", 4, 4, 3)}, lambda: Image(input="c"), "there is no input 'c'; the inputs are a"),
        (
            {"a": spec("float32", None, None, 3)},
            Image,
            "input 'a' is float32 (?, ?, ?, 3); say to which height and width",
        ),
        ({"a": spec("float32", 3, 5, 5)}, Image, "last axis must be 1, 3 or 4 channels"),
        ({"a": spec("float32", 4, 4, 3)}, lambda: Image(size=(5, 5)), "size is (5, 5), but input 'a' is"),
        ({"a": spec("float32", 4, 4, 3)}, lambda: Image(mean=(1, 2)), "mean has 2 numbers; input 'a' has 3 channels"),
        ({"a": spec("float32", 4, 4, 1)}, lambda: Image(bgr=True), "bgr needs 3 channels"),
        ({"a": spec("string", 4, 4, 1)}, Image, "expected numbers"),
        ({"a": spec("float32", 4, 4, 3), "image_bytes": spec("string")}, Image, "two inputs 'image_bytes'"),
        ({}, lambda: parse_ready_made("image:resize=lanczos"), "resize is one of bilinear, nearest"),
        ({}, lambda: Image(low=1, high=1), "low and high must differ"),
        ({}, lambda: Image(resize="area", antialias=True), "antialias goes with bilinear and bicubic"),
    ],
)
def test_what_does_not_fit(inputs: Any, ready: Any, expected: str) -> None:
    """A model without such an input, or settings that mean nothing, are refused with what there is."""
    with pytest.raises(ExportError) as caught:
        build_endpoints(pixels_of(**inputs), SignatureSettings(ready=(ready(),)))
    assert expected in str(caught.value)


def test_a_free_size_can_be_given(tmp_path: Path) -> None:
    """A fully convolutional model takes images at the size that is asked for."""
    model = pixels_of(x=spec("float32", None, None, 3))
    version = Version(tmp_path / "1", model, SignatureSettings(ready=(Image(size=(2, 3)),)))
    assert version.ask("image", {"image_bytes": png(photo(8, 6), photo(4, 4))})["seen"].shape == (2, 2, 3, 3)
