"""An original, opened and found fit to be decoded."""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

from PIL import Image, ImageFile, UnidentifiedImageError

from chalicelib.errors import (
    CorruptImage,
    DimensionsOutOfRange,
    EmptyFile,
    PipelineError,
    TooLarge,
    TooManyPixels,
)
from chalicelib.imaging import structure
from chalicelib.imaging.exif import orientation_of
from chalicelib.imaging.formats import input_format, load_plugin
from chalicelib.model import Limits

warnings.filterwarnings("ignore", module=r"PIL\.")  # oddities of files are no news to a log

_TILE_WIDTH, _TILE_LENGTH = 322, 323  # TIFF 6.0, section 15

_SELF_TURNING = {"TIFF", "HEIF"}
"""Formats whose decoder turns the pixels upright by itself."""


_HEAVY = {"WEBP": 3, "AVIF": 2}
"""Formats whose decoder takes so many times the memory per pixel that PNG takes (16 and 10 bytes,
5.5 of PNG), and which may have so many times fewer pixels a frame."""


_TOO_MANY = "{} MP{} is over the limit of {} MP{}: make the picture smaller or raise MAX_PIXELS"


@dataclass(frozen=True, slots=True)
class Source:
    """An original whose header has been read and whose pixels have not.

    ``width`` and ``height`` are upright; ``turn`` is the EXIF orientation still to be applied to
    the decoded pixels, 1 for none.
    """

    image: Image.Image
    format: str
    width: int
    height: int
    frames: int
    tags: Image.Exif
    orientation: int | None
    turn: int
    notes: tuple[str, ...]


def open_source(original: bytes, limits: Limits) -> Source:
    """The original's header, within the limits.

    Raises EmptyFile, TooLarge, UnsupportedFormat, CorruptImage, DimensionsOutOfRange or
    TooManyPixels, all before a pixel is decoded.
    """
    if not original:
        raise EmptyFile("the file is empty: the upload may have been cut off, so send it again")
    if len(original) > limits.max_bytes:
        raise TooLarge(
            f"{len(original):,} bytes are over the limit of {limits.max_bytes:,}: "
            "make the file smaller or raise MAX_BYTES"
        )
    name = input_format(original)
    structure.check_parts(name, original)
    if canvas := structure.canvas(name, original):
        _check_size(name, *canvas, limits)
    with decoding(f"this {name} file cannot be read"):
        load_plugin(name)
        image = _opened(original, name, limits)
        image.decodermaxblock = len(original)  # else Pillow hands the decoder 64 KB at a time
        _check_size(name, *image.size, limits)
        frames = _frames(image, name, original)
        if image.info.get("progressive"):
            structure.check_scans(original)
        if name == "TIFF" and (tile := getattr(image, "tag_v2", {})).get(_TILE_WIDTH):
            # libtiff takes the memory of a whole tile, however small the picture.
            _check_size(name, tile[_TILE_WIDTH], tile.get(_TILE_LENGTH, 1), limits)
    if image.format != "MPO":  # whose other views are pictures of their own, not to be decoded
        _check_frames(*image.size, frames, limits)
    return _source(image, name, frames, original)


def _opened(original: bytes, name: str, limits: Limits) -> ImageFile.ImageFile:
    # Pillow's own guard, which raises at twice this number, stays for what it alone understands.
    Image.MAX_IMAGE_PIXELS = max(Image.MAX_IMAGE_PIXELS or 0, limits.max_pixels // 2)
    try:
        return Image.open(BytesIO(original), formats=[name])
    except Image.DecompressionBombError as error:
        claimed = re.search(r"\d+", str(error))  # "Image size (225000000 pixels) exceeds …"
        pixels = _mega(int(claimed[0])) if claimed else "more"
        raise TooManyPixels(_TOO_MANY.format(pixels, "", _mega(limits.max_pixels), "")) from error


def _source(image: Image.Image, name: str, frames: int, original: bytes) -> Source:
    notes = []
    if name == "PNG" and "exif" not in image.info and (found := structure.png_exif(original)):
        image.info["exif"] = b"Exif\x00\x00" + found
    try:
        # Not image.getexif(): that of PNG decodes all pixels to look behind them.
        tags = Image.Image.getexif(image)
        orientation = orientation_of(tags)
    except Exception:  # noqa: BLE001 - whatever a parser makes of hostile tags
        tags, orientation = Image.Exif(), None
        notes.append("its EXIF cannot be read and is left out")
    turn = 1 if name in _SELF_TURNING else orientation or 1
    if name == "HEIF":
        orientation = image.info.get("original_orientation") or orientation
    width, height = image.size if turn < 5 else image.size[::-1]  # noqa: PLR2004 - 5–8 lie down
    return Source(image, name, width, height, frames, tags, orientation, turn, tuple(notes))


def _frames(image: Image.Image, name: str, original: bytes) -> int:
    if name == "GIF":
        return structure.gif_frames(original)[0]
    if name == "TIFF":
        return structure.tiff_pages(original)
    return int(getattr(image, "n_frames", 1))


def _check_size(name: str, width: int, height: int, limits: Limits) -> None:
    if width < 1 or height < 1:
        raise CorruptImage(f"its header says {width}×{height} pixels")
    if max(width, height) > limits.max_side:
        raise DimensionsOutOfRange(
            f"{width}×{height}: a side of {max(width, height):,} pixels is over the limit of "
            f"{limits.max_side:,}: make the picture smaller or raise MAX_SIDE"
        )
    most = limits.max_pixels // _HEAVY.get(name, 1)
    if width * height > most:
        kind = f" for {name}" if name in _HEAVY else ""
        raise TooManyPixels(_TOO_MANY.format(_mega(width * height), "", _mega(most), kind))


def _check_frames(width: int, height: int, frames: int, limits: Limits) -> None:
    pixels = width * height * frames
    if pixels > limits.max_pixels:
        many, most = f" in {frames:,} frames", _mega(limits.max_pixels)
        raise TooManyPixels(_TOO_MANY.format(_mega(pixels), many, most, ""))


def _mega(pixels: int) -> str:
    return f"{pixels / 1e6:.4g}" if pixels < 1e7 else f"{pixels / 1e6:,.0f}"  # noqa: PLR2004


_CURE = "it may have been cut off: save or export it anew and upload it again"


@contextmanager
def decoding(trouble: str) -> Iterator[None]:
    """Turns whatever a decoder raises into CorruptImage, and want of memory into TooManyPixels.

    Decoders fail on hostile bytes with errors of every kind: OSError, SyntaxError, struct.error,
    ValueError, KeyError, OverflowError. All of them speak of the file.
    """
    try:
        yield
    except PipelineError:
        raise
    except MemoryError as error:
        raise TooManyPixels(
            "there is not enough memory to decode it: make the picture smaller, or give the "
            "function more memory"
        ) from error
    except UnidentifiedImageError as error:
        raise CorruptImage(f"{trouble}, {_CURE} (its header is broken)") from error
    except Exception as error:
        raise CorruptImage(f"{trouble}, {_CURE} ({error})") from error
