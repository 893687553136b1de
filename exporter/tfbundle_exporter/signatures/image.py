"""The `image` signature: encoded images in, decoded, resized and scaled in the graph.

{"instances": [{"image_bytes": {"b64": "/9j/4AAQ..."}}]}
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from tfbundle_serving.apis.errors import ExportError
from tfbundle_serving.apis.signatures import TensorSpec

from ..models.source_model import SourceModel
from ..runtime import import_tensorflow
from .choice import join_inputs, rows_of_bytes
from .endpoint import Arrays, Endpoint

Resize = Literal["bilinear", "nearest", "bicubic", "area", "pad"]

#: REST takes {"b64": ...} for every string input, and clients know by the ending to send it.
IMAGE_BYTES = "image_bytes"
#: What PNG and TensorFlow's decoder have in common.
_CHANNELS = (1, 3, 4)
#: Example images with fewer grey levels would prove little; rows that were drawn mostly lie between -1 and 1.
_FEW_LEVELS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """Take JPEG, PNG, BMP or GIF (its first frame) in the place of an image input.

    A pixel p, 0 to 255, becomes low + p * (high - low) / 255, and then (value - mean) / std. An EXIF orientation is
    not looked at. The model's other inputs stay as they are.

    Attributes:
        signature: Its name.
        around: The signature it is built around; "" is the main one.
        input: The image input; "" is the only one of rank 4, or of rank 3 (grey images without a channel axis) where
            none has rank 4.
        size: Height and width, where the input leaves them free.
        low: What black becomes.
        high: What white becomes.
        mean: Taken off each channel, in the model's order; one number for all, or none.
        std: What each channel is divided by afterwards; one number for all, or none.
        bgr: Give the model blue first, as some of the oldest image networks want it.
        resize: How images of another size are resized; "pad" keeps the aspect ratio, with black around.
        antialias: Smooth before shrinking; for "bilinear" and "bicubic".
    """

    signature: str = "image"
    around: str = ""
    input: str = ""
    size: tuple[int, int] | None = None
    low: float = 0.0
    high: float = 255.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    bgr: bool = False
    resize: Resize = "bilinear"
    antialias: bool = False

    def __post_init__(self) -> None:
        """Refuse settings that mean nothing."""
        if self.resize not in get_args(Resize):
            raise ExportError(f"image: resize is one of {', '.join(get_args(Resize))}; got {self.resize!r}")
        if self.antialias and self.resize not in ("bilinear", "bicubic"):
            raise ExportError(f"image: antialias goes with bilinear and bicubic; got resize={self.resize}")
        if self.low == self.high or 0 in self.std:
            raise ExportError(
                f"image: low and high must differ and std must not be 0; got {self.low}, {self.high}, {self.std}"
            )
        if self.size is not None and (len(self.size) != 2 or min(self.size) < 1):
            raise ExportError(f"image: size is height and width, both at least 1; got {self.size}")

    def build(self, main: Endpoint, model: SourceModel) -> Endpoint:  # noqa: ARG002  # as each ready-made one
        """Build it.

        Raises:
            ExportError: No input, or more than one, takes images, or its size is free and not given.
        """
        name = self._choose_input(main)
        frame = self._frame_of(name, main.inputs[name])

        def function(tensors: Mapping[str, Any]) -> Mapping[str, Any]:
            return main.call({**tensors, name: frame.decode(tensors[IMAGE_BYTES])})

        def examples(arrays: Arrays) -> dict[str, NDArray[Any]]:
            return {
                IMAGE_BYTES if each == name else each: frame.encode(array) if each == name else array
                for each, array in arrays.items()
            }

        return Endpoint(
            signature=self.signature,
            inputs=join_inputs(
                self.signature,
                (
                    (IMAGE_BYTES, rows_of_bytes(main)) if each == name else (each, spec)
                    for each, spec in main.inputs.items()
                ),
            ),
            outputs=main.outputs,
            function=function,
            examples=examples,
            around=main.signature,
        )

    def _choose_input(self, main: Endpoint) -> str:
        if self.input:
            if self.input in main.inputs:
                return self.input
            raise ExportError(f"image: there is no input {self.input!r}; the inputs are {', '.join(main.inputs)}")
        by_rank = {
            rank: [name for name, spec in main.inputs.items() if spec.shape is not None and len(spec.shape) == rank]
            for rank in (4, 3)
        }
        found = by_rank[4] or by_rank[3]
        if len(found) == 1:
            return found[0]
        there = ", ".join(f"{name} {spec}" for name, spec in main.inputs.items())
        which = "say which takes the image: input=NAME" if found else "none is (batch, height, width, channels)"
        raise ExportError(f"image: signature {main.signature!r} takes {there}; {which}")

    def _frame_of(self, name: str, spec: TensorSpec) -> _Frame:
        rank = 0 if spec.shape is None else len(spec.shape)
        if spec.shape is None or rank not in (3, 4) or spec.dtype.is_string:
            raise ExportError(
                f"image: input {name!r} is {spec}; expected numbers (batch, height, width, channels) or "
                "(batch, height, width)"
            )
        channels = spec.shape[3] if rank == 4 else 1
        if channels not in _CHANNELS:
            raise ExportError(f"image: input {name!r} is {spec}; the last axis must be 1, 3 or 4 channels")
        for what, values in (("mean", self.mean), ("std", self.std)):
            if len(values) not in (0, 1, channels):
                raise ExportError(f"image: {what} has {len(values)} numbers; input {name!r} has {channels} channels")
        if self.bgr and channels != 3:
            raise ExportError(f"image: bgr needs 3 channels; input {name!r} is {spec}")
        height, width = spec.shape[1:3]
        if self.size is not None and (height not in (None, self.size[0]) or width not in (None, self.size[1])):
            raise ExportError(f"image: size is {self.size}, but input {name!r} is {spec}")
        height, width = self.size or (height, width)
        if height is None or width is None:
            raise ExportError(
                f"image: input {name!r} is {spec}; say to which height and width images are resized: size=224x224"
            )
        return _Frame(settings=self, height=height, width=width, channels=channels, has_channels=rank == 4, spec=spec)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """An image input: from bytes to its values in the graph, and from its values to bytes for examples."""

    settings: Image
    height: int
    width: int
    channels: int
    has_channels: bool
    spec: TensorSpec

    def decode(self, encoded: Any) -> Any:
        """Turn strings (n,) into the input's values."""
        tf = import_tensorflow()
        resize = _RESIZE[self.settings.resize]

        def decode_one(data: Any) -> Any:
            image = tf.io.decode_image(data, channels=self.channels, expand_animations=False)
            image.set_shape((None, None, self.channels))
            pixels = resize(tf, image, (self.height, self.width), self.settings.antialias)
            return tf.ensure_shape(tf.cast(pixels, tf.float32), (self.height, self.width, self.channels))

        # Row by row: the images of a batch may have different sizes.
        element = tf.TensorSpec((self.height, self.width, self.channels), tf.float32)
        pixels = tf.map_fn(decode_one, encoded, fn_output_signature=element)
        values = self._scale(tf.reverse(pixels, [3]) if self.settings.bgr else pixels)
        dtype = tf.as_dtype(self.spec.dtype.number)
        values = tf.saturate_cast(tf.round(values), dtype) if dtype.is_integer else tf.cast(values, dtype)
        return values if self.has_channels else tf.squeeze(values, 3)

    def _scale(self, values: Any) -> Any:
        settings = self.settings
        if (settings.low, settings.high) != (0.0, 255.0):
            values = values * np.float32((settings.high - settings.low) / 255.0) + np.float32(settings.low)
        if settings.mean:
            values = values - np.array(settings.mean, np.float32)
        if settings.std:
            values = values / np.array(settings.std, np.float32)
        return values

    def encode(self, values: NDArray[Any]) -> NDArray[Any]:
        """Turn the input's values into PNG files: the images that they may have come from."""
        tf = import_tensorflow()
        settings = self.settings
        images = values.astype(np.float64) if self.has_channels else values.astype(np.float64)[..., None]
        if settings.std:
            images = images * np.array(settings.std)
        if settings.mean:
            images = images + np.array(settings.mean)
        pixels = (images - settings.low) * (255.0 / (settings.high - settings.low))
        levels = _to_levels(pixels)
        if len(np.unique(levels)) < _FEW_LEVELS and np.ptp(pixels) > 0:
            levels = _to_levels((pixels - np.min(pixels)) * (255.0 / np.ptp(pixels)))
        if settings.bgr:
            levels = levels[..., ::-1]
        encoded = np.empty(len(levels), object)
        for place, image in enumerate(levels):
            encoded[place] = tf.io.encode_png(np.ascontiguousarray(image)).numpy()
        return encoded


def _to_levels(pixels: NDArray[np.float64]) -> NDArray[np.uint8]:
    return np.clip(np.rint(np.nan_to_num(pixels)), 0, 255).astype(np.uint8)


def _resize_by(method: str) -> Callable[..., Any]:
    def resize(tf: Any, image: Any, size: tuple[int, int], antialias: bool) -> Any:
        # Bicubic overshoots at edges; no pixel is blacker than black.
        return tf.clip_by_value(
            tf.cast(tf.image.resize(image, size, method=method, antialias=antialias), tf.float32), 0.0, 255.0
        )

    return resize


def _resize_with_pad(tf: Any, image: Any, size: tuple[int, int], antialias: bool) -> Any:  # noqa: ARG001
    """Fit the image into the frame and centre it.

    In whole numbers: tf.image.resize_with_pad divides twice in floats and loses a column of 31 x 17 to 6 x 8.
    """
    height, width = tf.shape(image)[0], tf.shape(image)[1]
    is_tall = height * size[1] >= width * size[0]
    fitted_height = tf.where(is_tall, size[0], tf.maximum(1, height * size[1] // width))
    fitted_width = tf.where(is_tall, tf.maximum(1, width * size[0] // height), size[1])
    fitted = tf.image.resize(image, tf.stack([fitted_height, fitted_width]))
    top, left = (size[0] - fitted_height) // 2, (size[1] - fitted_width) // 2
    return tf.image.pad_to_bounding_box(fitted, top, left, *size)


_RESIZE: dict[str, Callable[..., Any]] = {
    **{method: _resize_by(method) for method in ("bilinear", "nearest", "bicubic", "area")},
    "pad": _resize_with_pad,
}
