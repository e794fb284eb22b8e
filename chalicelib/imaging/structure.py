"""What the containers say of themselves, read without Pillow.

Pillow finds frames by parsing each one in full, looks for EXIF behind a PNG's pixels by decoding
them, and takes as many parts as a file has. These walks are cheap and stop at a bound. A truncated
file ends a walk early; whether it is usable is the decoder's to say.
"""

import struct
from collections.abc import Iterable, Iterator
from itertools import islice

from chalicelib.errors import CorruptImage

_MOST_PARTS = 100_000
"""Segments, chunks or pages of a file. Real ones have thousands at most; Pillow takes microseconds
for each, so that 50 MB of empty ones would keep a worker busy for a quarter of a minute."""

_MOST_SCANS = 100
"""Scans of a progressive JPEG. Encoders write about ten; each is a pass over all pixels, however
few bytes it has (libjpeg-turbo's advice on decompression bombs, "Two Issues with the JPEG
Standard", 2015)."""


def check_parts(name: str, original: bytes) -> None:
    """Refuses a JPEG, PNG or TIFF of more parts than any encoder writes. Raises CorruptImage."""
    if name == "JPEG":
        _count(_jpeg_segments(original))
    elif name == "PNG":
        _count(_png_chunks(original))
    elif name == "TIFF":
        _count(_tiff_directories(original))


def check_scans(original: bytes) -> None:
    """Refuses a progressive JPEG of more scans than any encoder writes. Raises CorruptImage."""
    scans = original.count(b"\xff\xda")
    if scans > _MOST_SCANS:
        raise CorruptImage(f"its {scans:,} scans are over the limit of {_MOST_SCANS}")


def _count(parts: Iterable[object]) -> int:
    count = sum(1 for _ in islice(parts, _MOST_PARTS + 1))
    if count > _MOST_PARTS:
        raise CorruptImage(f"it consists of more than {_MOST_PARTS:,} parts")
    return count


def _jpeg_segments(original: bytes) -> Iterator[int]:
    """Where the segments before the first scan start (ITU-T T.81, B.1.1), stray bytes between."""
    position = 2
    while position + 4 <= len(original) and original[position : position + 2] != b"\xff\xda":
        yield position
        stray = original[position] != 0xFF or original[position + 1] in (0x00, 0xFF)  # noqa: PLR2004
        size = int.from_bytes(original[position + 2 : position + 4], "big")
        position += 1 if stray else 2 + size


def _png_chunks(original: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Name, place and size of what each chunk holds (PNG 3rd edition, 5.3)."""
    position = 8
    while position + 8 <= len(original):
        size = int.from_bytes(original[position : position + 4], "big")
        yield original[position + 4 : position + 8], position + 8, size
        position += size + 12


_GIF_EXTENSION, _GIF_IMAGE = 0x21, 0x2C


def gif_frames(original: bytes) -> tuple[int, int, int]:
    """Frames of a GIF, and the width and height that hold all of them (GIF89a, appendix B).

    Pillow enlarges the canvas to what a frame claims, and fills it, when it opens a file.
    """
    frames, width, height = 0, _little(original[6:8]), _little(original[8:10])
    try:
        position = 13 + _gif_palette_bytes(original[10])
        while (introducer := original[position]) in (_GIF_EXTENSION, _GIF_IMAGE):
            if introducer == _GIF_EXTENSION:  # a label, then blocks
                position += 2
            else:  # place, size and flags in 9 bytes, a palette, a code size, then blocks
                left, top, across, down, flags = struct.unpack_from("<4HB", original, position + 1)
                frames, width, height = (
                    frames + 1,
                    max(width, left + across),
                    max(height, top + down),
                )
                position += 11 + _gif_palette_bytes(flags)
            while size := original[position]:
                position += size + 1
            position += 1
    except (IndexError, struct.error):
        pass
    return max(1, frames), width, height


def _gif_palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def tiff_pages(original: bytes) -> int:
    """Pages of a TIFF or BigTIFF: the length of its chain of directories (TIFF 6.0, section 2)."""
    return max(1, _count(_tiff_directories(original)))


def _tiff_directories(original: bytes) -> Iterator[int]:
    order = "<" if original[:2] == b"II" else ">"
    big = original[2:4] in (b"+\x00", b"\x00+")
    count_format, offset_format, entry = ("Q", "Q", 20) if big else ("H", "I", 12)
    count_bytes = struct.calcsize(count_format)
    seen: set[int] = set()
    try:
        (offset,) = struct.unpack_from(order + offset_format, original, 8 if big else 4)
        while offset and offset not in seen:
            seen.add(offset)
            yield offset
            (entries,) = struct.unpack_from(order + count_format, original, offset)
            link = offset + count_bytes + entries * entry
            (offset,) = struct.unpack_from(order + offset_format, original, link)
    except (struct.error, OverflowError):
        return


def png_exif(original: bytes) -> bytes | None:
    """What the eXIf chunk of a PNG holds, wherever it stands (PNG 3rd edition, 11.3.4.2)."""
    for name, start, size in _png_chunks(original):
        if name == b"eXIf":
            return original[start : start + size]
    return None


def canvas(name: str, original: bytes) -> tuple[int, int] | None:
    """Width and height of the canvas whose memory Pillow takes as soon as it opens a file.

    It does for GIF and WebP. None for other formats, and where the header tells none.
    """
    if name == "GIF":
        return gif_frames(original)[1:]
    return _webp_canvas(original) if name == "WEBP" else None


def _webp_canvas(original: bytes) -> tuple[int, int] | None:
    """Three kinds of header tell it (RFC 9649, 2.5–2.7)."""
    kind, header = original[12:16], original[20:30]
    if len(header) < 10:  # noqa: PLR2004 - the longest of the three headers
        return None
    if kind == b"VP8X":
        return _little(header[4:7]) + 1, _little(header[7:10]) + 1
    if kind == b"VP8L":
        bits = _little(header[1:5])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        return _little(header[6:8]) & 0x3FFF, _little(header[8:10]) & 0x3FFF
    return None


def _little(field: bytes) -> int:
    return int.from_bytes(field, "little")
