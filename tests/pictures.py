"""Pictures for tests, made in code: deterministic, of any size, format and oddity."""

import random
import struct
import zlib
from collections.abc import Callable
from io import BytesIO
from typing import Any

from PIL import Image, ImageDraw
from PIL.ExifTags import GPS, IFD, Base

from chalicelib.model import BoundingBox

_COLORFUL = 64


def photo(width: int, height: int, seed: int = 1) -> Image.Image:
    """An RGB picture with the spectrum of a photo: soft light, texture at every scale, hard edges.

    The same for the same seed and size, and the same scene (up to texture) at every size.
    """
    dice = random.Random(seed)  # noqa: S311 - pictures need no secrets
    picture = Image.new("RGB", (width, height), (128, 118, 104))
    side, strength = 4, 0.5
    while side < max(width, height):
        # Like most scenes: colour changes slowly, texture is light and shade.
        mode, size = ("RGB" if side < _COLORFUL else "L"), (side, side * 3 // 4)
        bytes_a_pixel = len(mode)
        grain = Image.frombytes(mode, size, dice.randbytes(size[0] * size[1] * bytes_a_pixel))
        grain = grain.resize((width, height), Image.Resampling.BICUBIC).convert("RGB")
        picture = Image.blend(picture, grain, strength)
        side, strength = side * 2, strength * 0.78
    dice = random.Random(seed)  # noqa: S311 - afresh, so that the scene is the same at every size
    draw = ImageDraw.Draw(picture)
    for _ in range(24):
        x, y = dice.uniform(0, width), dice.uniform(0, height)
        reach = dice.uniform(0.02, 0.16) * min(width, height)
        color = tuple(dice.randrange(256) for _ in range(3))
        shape = dice.choice((draw.ellipse, draw.rectangle))
        shape((x, y, x + reach, y + reach * dice.uniform(0.3, 1.5)), fill=color)
    return picture


def saved(picture: Image.Image, format: str = "JPEG", **options: Any) -> bytes:  # noqa: A002
    """A picture as the bytes of a file."""
    buffer = BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()


def marked(width: int = 96, height: int = 64) -> Image.Image:
    """Four quarters, red, green, blue and white from top left to bottom right: which way is up."""
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    middle, half = width // 2, height // 2
    draw.rectangle((0, 0, middle - 1, half - 1), fill="red")
    draw.rectangle((middle, 0, width, half - 1), fill="lime")
    draw.rectangle((0, half, middle - 1, height), fill="blue")
    return picture


def lying(upright: Image.Image, orientation: int) -> Image.Image:
    """The pixels a camera stores with an EXIF orientation, so that a viewer shows ``upright``."""
    turn = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    return upright if orientation == 1 else upright.transpose(turn[orientation])


def exif(**tags: Any) -> Image.Exif:
    """EXIF of a camera; ``orientation`` and ``gps`` (True for a place in Berlin) as asked for."""
    made = Image.Exif()
    made[Base.Make] = "Maker"
    made[Base.Model] = "Model 7"
    if "orientation" in tags:
        made[Base.Orientation] = tags["orientation"]
    made._ifds[IFD.Exif] = {  # noqa: SLF001 - Pillow has no public way to add a directory
        Base.DateTimeOriginal: "2026:01:31 09:15:00",
        Base.OffsetTimeOriginal: "+01:00",
        Base.ExposureTime: 0.008,
        Base.FNumber: 2.8,
        Base.ISOSpeedRatings: 200,
        Base.FocalLength: 35.0,
        Base.LensModel: "35mm",
    }
    if tags.get("gps"):
        made._ifds[IFD.GPSInfo] = {  # noqa: SLF001
            GPS.GPSLatitudeRef: "N",
            GPS.GPSLatitude: (52.0, 31.0, 12.0),
            GPS.GPSLongitudeRef: "E",
            GPS.GPSLongitude: (13.0, 24.0, 18.0),
        }
    return made


def heic(picture: Image.Image, **options: Any) -> bytes:
    """A picture as the bytes of a HEIC file."""
    import pillow_heif  # noqa: PLC0415 - most tests need none

    pillow_heif.register_heif_opener()
    return saved(picture, "HEIF", **options)


def spotted(width: int, height: int) -> tuple[Image.Image, BoundingBox]:
    """A dark picture with a light mark left of the middle and above it, and where that is.

    The mark takes whole pixels; a side of less than 8 has none that could be told apart.
    """
    left, top, right, bottom = (
        round(width * 0.43),
        round(height * 0.2),
        round(width * 0.55),
        round(height * 0.55),
    )
    picture = Image.new("RGB", (width, height), (40, 40, 40))
    picture.paste((225, 225, 225), (left, top, right, bottom))
    across, down = (right - left) / width, (bottom - top) / height
    return picture, BoundingBox(left / width, top / height, across, down)


TURNING = (
    "JPEG",
    "progressive JPEG",
    "CMYK JPEG",
    "grey JPEG",
    "PNG",
    "WEBP",
    "TIFF",
    "AVIF",
    "HEIF",
)
"""Kinds of files that have an orientation."""

KINDS = (*TURNING, "alpha PNG", "16-bit PNG", "16-bit grey PNG", "palette PNG", "GIF", "BMP")


def stored(upright: Image.Image, kind: str, orientation: int = 1) -> bytes:
    """An RGB picture as a file of one of KINDS; what is dark in ``alpha PNG`` is see-through."""
    picture = lying(upright, orientation)
    name = kind.rpartition(" ")[2]
    options: dict[str, Any] = {"exif": exif(orientation=orientation).tobytes()}
    if kind not in TURNING:
        options = {}
    elif name not in ("PNG", "TIFF"):
        options |= {"quality": 95, "progressive": kind == "progressive JPEG"}
    if name == "HEIF":
        return heic(picture, **options)
    if kind == "16-bit PNG":
        return _png_of_16_bits(picture)
    return saved(_AS[kind](picture) if kind in _AS else picture, name, **options)


def _see_through(picture: Image.Image) -> Image.Image:
    picture = picture.copy()
    picture.putalpha(picture.convert("L").point(lambda level: 0 if level < 128 else 255))
    return picture


def _deep(picture: Image.Image) -> Image.Image:
    return picture.convert("I").point(lambda level: level * 257 + 0).convert("I;16")


_AS: dict[str, Callable[[Image.Image], Image.Image]] = {
    "CMYK JPEG": lambda picture: picture.convert("CMYK"),
    "grey JPEG": lambda picture: picture.convert("L"),
    "alpha PNG": _see_through,
    "16-bit grey PNG": lambda picture: _deep(picture.convert("L")),
    "palette PNG": lambda picture: picture.quantize(64),
    "GIF": lambda picture: picture.quantize(64),
}


def _png_of_16_bits(picture: Image.Image) -> bytes:
    """RGB of 16 bits a channel, which Pillow reads and does not write."""
    twice = bytearray(2 * len(picture.tobytes()))
    twice[0::2] = twice[1::2] = picture.tobytes()
    row = 6 * picture.width
    rows = b"".join(b"\0" + twice[at : at + row] for at in range(0, len(twice), row))
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", *picture.size, 16, 2, 0, 0, 0))
        + png_chunk(b"IDAT", zlib.compress(rows, 1))
        + png_chunk(b"IEND", b"")
    )


def noise(width: int, height: int) -> Image.Image:
    """Each sample black or white at random, which no encoder can make small."""
    dice = random.Random(1)  # noqa: S311 - pictures need no secrets
    bits = Image.frombytes("L", (width * 3, height), dice.randbytes(width * 3 * height))
    levels = bits.point(lambda level: 0 if level < 128 else 255).tobytes()
    return Image.frombytes("RGB", (width, height), levels)


def gradient(mode: str, size: tuple[int, int] = (256, 64)) -> Image.Image:
    """Black on the left to white on the right, in a grey mode: L, I;16, I (16-bit range) or F."""
    ramp = Image.linear_gradient("L").rotate(90).resize(size)
    if mode == "L":
        return ramp
    if mode == "F":
        return ramp.convert("F").point(lambda level: level * (1 / 255) + 0)
    deep = ramp.convert("I").point(lambda level: level * 257 + 0)
    return deep if mode == "I" else deep.convert("I;16")


# --- Colour profiles (ICC.1:2022), as small as they can be


def profile(space: str) -> bytes:
    """An ICC profile: ``p3`` (Display P3), ``adobe`` (Adobe RGB), ``grey`` (gamma 1.0), ``cmyk``.

    The CMYK one is for an ink whose cyan is full: all the colours of a real one would be a book.
    """
    if space == "grey":
        tags = {b"kTRC": _curve(1.0), b"wtpt": _xyz(*_D50)}
        return _icc(b"GRAY", b"mntr", b"XYZ ", tags)
    if space == "cmyk":
        return _icc(b"CMYK", b"prtr", b"Lab ", {b"A2B0": _cmyk_table(), b"wtpt": _xyz(*_D50)})
    red, green, blue, gamma = _PRIMARIES[space]
    tags = {b"rXYZ": _xyz(*red), b"gXYZ": _xyz(*green), b"bXYZ": _xyz(*blue), b"wtpt": _xyz(*_D50)}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(gamma))
    return _icc(b"RGB ", b"mntr", b"XYZ ", tags)


_D50 = (0.9642, 1.0, 0.8249)
_PRIMARIES = {  # adapted to D50
    "p3": ((0.5151, 0.2412, -0.0011), (0.292, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841), 2.2),
    "adobe": ((0.6097, 0.3111, 0.0195), (0.2053, 0.6257, 0.0609), (0.1492, 0.0632, 0.7446), 2.2),
}


def _icc(space: bytes, kind: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    text = b"made for a test"
    tags = {b"desc": b"desc" + struct.pack(">III", 0, len(text) + 1, 0)[:8] + text + bytes(80)} | {
        b"cprt": b"text" + bytes(4) + text + b"\0",
        **tags,
    }
    at, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, tag in tags.items():
        padded = tag + bytes(-len(tag) % 4)
        table += name + struct.pack(">II", at + len(body), len(tag))
        body += padded
    size = at + len(body)
    header = struct.pack(">I4xI", size, 0x02400000) + kind + space + connection
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    header += b"".join(_fixed(value) for value in _D50)
    return header + bytes(128 - len(header)) + struct.pack(">I", len(tags)) + table + body


def _fixed(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def _xyz(*values: float) -> bytes:
    return b"XYZ " + bytes(4) + b"".join(_fixed(value) for value in values)


def _curve(gamma: float) -> bytes:
    return b"curv" + struct.pack(">4xIH", 1, round(gamma * 256))


def _cmyk_table() -> bytes:
    """A lut8 (ICC.1:2022, 10.11) with two steps an ink: paper white, blue cyan, black the rest."""
    head = b"mft1" + bytes(4) + bytes((4, 3, 2, 0))
    head += b"".join(_fixed(float(row == column)) for row in range(3) for column in range(3))
    ramp = bytes(range(256))
    lab = {(0, 0, 0, 0): (255, 128, 128), (1, 0, 0, 0): (120, 128, 60)}
    steps = [(c, m, y, k) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    grid = b"".join(bytes(lab.get(step, (40, 128, 128))) for step in steps)
    return head + ramp * 4 + grid + ramp * 3


# --- Files that were not made in good faith


def png_claiming(width: int, height: int) -> bytes:
    """A PNG of a few bytes whose header claims any size."""
    return (
        b"\x89PNG\r\n\x1a\n"
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
        + png_chunk(b"IDAT", zlib.compress(bytes(64)))
        + png_chunk(b"IEND", b"")
    )


def png_chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def gif_of_frames(width: int, height: int, frames: int) -> bytes:
    """A GIF of a large canvas and any number of one-pixel frames."""
    frame = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\x02\x02\x44\x01\x00"
    header = b"GIF89a" + struct.pack("<HHBBB", width, height, 0x80, 0, 0) + b"\0\0\0\xff\xff\xff"
    return header + frame * frames + b";"


def jpeg_of_scans(width: int, height: int, scans: int) -> bytes:
    """A progressive JPEG whose last scan comes over and over, each as long to decode as any."""
    file = saved(Image.new("L", (width, height), 128), progressive=True)
    last = file.rindex(b"\xff\xda")
    return file[:last] + file[last:-2] * scans + file[-2:]


def tiff_of(tags: dict[int, int]) -> bytes:
    """A TIFF of one directory with these tags, each a LONG (TIFF 6.0, section 2), and no pixels."""
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, tags[tag]) for tag in sorted(tags))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4)
