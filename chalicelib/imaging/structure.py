"""What the containers say of themselves, read without Pillow.

Pillow finds frames by parsing each one in full, and looks for EXIF behind a PNG's pixels by
decoding them. These walks cost microseconds and stop at a bound, so a header can be trusted to be
cheap. Truncated files end a walk early; whether they are usable is the decoder's to say.
"""

import struct
from collections.abc import Iterator

from chalicelib.errors import CorruptImage

_MAX_TIFF_PAGES = 10_000


def gif_frames(original: bytes) -> int:
    """Frames of a GIF (GIF89a specification, appendix B)."""
    frames = 0
    for introducer, _ in _gif_blocks(original):
        frames += introducer == 0x2C  # noqa: PLR2004 - image descriptor
    return frames


def _gif_blocks(original: bytes) -> Iterator[tuple[int, int]]:
    try:
        position = 13 + _gif_palette_bytes(original[10])
        while (introducer := original[position]) in (0x21, 0x2C):
            yield introducer, position
            if introducer == 0x21:  # noqa: PLR2004 - extension: a label, then blocks
                position += 2
            else:  # image: 9 bytes, palette, code size, then blocks
                position += 11 + _gif_palette_bytes(original[position + 9])
            while size := original[position]:
                position += size + 1
            position += 1
    except IndexError:
        return


def _gif_palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


def tiff_pages(original: bytes) -> int:
    """Pages of a TIFF or BigTIFF: the length of its chain of directories (TIFF 6.0, section 2)."""
    order = "<" if original[:2] == b"II" else ">"
    big = original[2:4] in (b"+\x00", b"\x00+")
    count_format, offset_format, entry = ("Q", "Q", 20) if big else ("H", "I", 12)
    count_bytes = struct.calcsize(count_format)
    seen: set[int] = set()
    try:
        (offset,) = struct.unpack_from(order + offset_format, original, 8 if big else 4)
        while offset and offset not in seen:
            seen.add(offset)
            if len(seen) > _MAX_TIFF_PAGES:
                raise CorruptImage(f"this TIFF has more than {_MAX_TIFF_PAGES} pages")
            (entries,) = struct.unpack_from(order + count_format, original, offset)
            link = offset + count_bytes + entries * entry
            (offset,) = struct.unpack_from(order + offset_format, original, link)
    except (struct.error, OverflowError):
        pass
    return max(1, len(seen))


def png_exif(original: bytes) -> bytes | None:
    """The eXIf chunk of a PNG, wherever it stands (PNG 3rd edition, 11.3.4.2)."""
    position = 8
    while position + 8 <= len(original):
        (size,) = struct.unpack_from(">I", original, position)
        if original[position + 4 : position + 8] == b"eXIf":
            return original[position + 8 : position + 8 + size]
        position += size + 12
    return None


def webp_canvas(original: bytes) -> tuple[int, int] | None:
    """Width and height of a WebP (RFC 9649, 2.5–2.7); None where the header tells none.

    Pillow's decoder takes the memory of the whole canvas as soon as it opens a file.
    """
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
