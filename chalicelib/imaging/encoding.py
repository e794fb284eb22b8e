"""From a picture to the bytes of a file, with nothing in it but the picture."""

import os
from io import BytesIO
from typing import Any

from PIL import Image

from chalicelib.imaging.formats import load_plugin
from chalicelib.imaging.picture import Picture
from chalicelib.model import BoundingBox, OutputFormat, RenderedImage, RenditionSpec

LONGEST_SIDE = {
    OutputFormat.JPEG: 65_500,
    OutputFormat.PNG: 65_500,
    OutputFormat.WEBP: 16_383,
    OutputFormat.AVIF: 65_500,
}
"""Most pixels a side that a format (or its encoder) can hold."""

_SMALL = 256 * 256


def chosen_format(wish: OutputFormat, size: tuple[int, int], *, alpha: bool) -> OutputFormat:
    """What AUTO becomes: JPEG; with alpha PNG while that is small, WebP beyond.

    Up to 65,536 pixels a lossless PNG costs little and is read by everything; beyond, WebP with
    alpha takes a fraction of the bytes.
    """
    if wish is not OutputFormat.AUTO:
        return wish
    if not alpha:
        return OutputFormat.JPEG
    return OutputFormat.PNG if size[0] * size[1] <= _SMALL else OutputFormat.WEBP


def encode(image: Image.Image, output: OutputFormat, quality: int) -> bytes:
    """The file's bytes. ``quality`` is 1–100 (PNG is lossless and has none).

    JPEG and AVIF take L, RGB and YCbCr; JPEG holds no alpha. Chroma is stored at half size (4:2:0).
    """
    load_plugin(output.value.upper())
    options = _options(output, quality, image)
    if image.mode == "YCbCr" and output is not OutputFormat.JPEG:
        image = image.convert("RGB")
    if output is not OutputFormat.JPEG or not hasattr(os, "memfd_create"):
        buffer = BytesIO()
        image.save(buffer, output.value, **options)
        return buffer.getvalue()
    # Into a real file Pillow's JPEG encoder writes without the interpreter's lock, so that images
    # in other threads go on meanwhile; a memfd (Linux) is one that never touches a disk.
    with os.fdopen(os.memfd_create("rendition"), "w+b") as file:
        image.save(file, output.value, **options)
        file.seek(0)
        return file.read()


def encoded(
    picture: Picture, spec: RenditionSpec, background: str, window: BoundingBox | None = None
) -> RenderedImage:
    """A picture as its spec wants it; ``window`` is what it shows of the original."""
    output = chosen_format(spec.format, picture.size, alpha=picture.has_alpha)
    if output is OutputFormat.JPEG:
        picture = picture.flattened(background)
    body = encode(picture.image(), output, spec.quality)
    return RenderedImage(spec, output, *picture.size, body, window)


def _options(output: OutputFormat, quality: int, image: Image.Image) -> dict[str, Any]:
    if output is OutputFormat.JPEG:
        return {
            "quality": quality,
            "subsampling": "4:2:0",
            # Huffman tables of its own save a thumbnail a tenth of its bytes, a large rendition
            # 2 %, for twice the time; progressive scans save 5 % for five times the time.
            "optimize": image.width * image.height <= _SMALL,
            # A comment would be carried over from the original unless an empty one is given.
            "comment": b"",
        }
    if output is OutputFormat.WEBP:
        return {"quality": quality, "method": 4}
    if output is OutputFormat.AVIF:
        return {"quality": quality, "speed": 8}
    return {"compress_level": 6}
