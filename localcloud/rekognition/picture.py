"""A picture as it is looked at: small, upright, RGB."""

import struct
from io import BytesIO

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image

from localcloud.rekognition.errors import ServiceError

Pixels = npt.NDArray[np.uint8]
"""Rows, columns, red-green-blue."""

VIEW_SIDE = 240
"""Longer side of what the detectors look at, pixels: a compromise with what a call costs."""

TEXT_VIEW_SIDE = 1280
"""Longer side of what is read, pixels: that of what the pipeline sends."""

MIN_SIDE, MAX_SIDE = 80, 10_000
"""Pixels; Rekognition's guidelines and quotas."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def view(file: bytes, side: int = VIEW_SIDE) -> Pixels:
    """The picture, no side over ``side``, turned as its EXIF says (JPEG only, as the service).

    A JPEG is decoded at the scale it is needed at. Raises InvalidImageFormatException for what is
    no whole JPEG or PNG, ImageTooLargeException and InvalidParameterException for its dimensions.
    """
    try:
        with Image.open(BytesIO(file), formats=("JPEG", "PNG")) as image:
            _check_dimensions(image.width, image.height)
            image.draft("RGB", (side, side))
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            is_jpeg = image.format != "PNG"
            small = _eight_bits(image)
            small.thumbnail((side, side), reducing_gap=2.0)
    except Image.DecompressionBombError:
        raise ServiceError(
            "ImageTooLargeException",
            "Image dimensions: null x null pixels exceed the maximum limit.",
        ) from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error):
        raise ServiceError("InvalidImageFormatException") from None
    if is_jpeg and orientation in _TURNS:
        small = small.transpose(_TURNS[orientation])
    return np.asarray(small)


def _check_dimensions(width: int, height: int) -> None:
    if max(width, height) > MAX_SIDE:
        raise ServiceError(
            "ImageTooLargeException",
            f"Input image dimensions {width} x {height} exceed maximum dimension size of "
            f"{MAX_SIDE} pixels",
        )
    if min(width, height) < MIN_SIDE:
        raise ServiceError("InvalidParameterException")


def _eight_bits(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # a PNG of 16-bit greys, which convert() would clip
        pixels = np.asarray(image).astype(np.float32) / 257
        image = Image.fromarray(pixels.round().astype(np.uint8))
    return image.convert("RGB")
