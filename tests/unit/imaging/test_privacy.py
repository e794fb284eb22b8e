"""No rendition carries anything but the picture, whatever the original carries."""

import struct

import pytest
from PIL import PngImagePlugin

from chalicelib.imaging import inspect, render
from chalicelib.model import Limits, OutputFormat
from tests.pictures import exif, heic, lying, photo, profile, saved
from tests.unit.imaging.opened import spec

SECRET = b"S3CRET"
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/">S3CRET</x:xmpmeta>'
MARKS = (SECRET, b"Exif\0\0", b"EXIF", b"eXIf", b"GPS", b"Maker", b"xmpmeta", b"ns.adobe.com")
MARKS += (b"XMP ", b"8BIM", b"Photoshop", b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"ICCP", b"ICC_PROF")
MARKS += (b"made for a test", b"tIME", b"pHYs")


def laden(name: str) -> bytes:
    """A photo with every kind of metadata its format has; orientation 6, and GPS."""
    tags = exif(orientation=6, gps=True)
    tags[0x010E] = "S3CRET"  # ImageDescription
    picture, icc = lying(photo(320, 240), 6), profile("p3")
    plain: dict[str, object] = {"exif": tags.tobytes(), "icc_profile": icc, "xmp": XMP}
    if name == "JPEG":
        thumbnail = saved(photo(40, 30))
        resources = b"Photoshop 3.0\x008BIM\x04\x04\0\0\0\0\0\x0a\x1c\x02\x78\0\x06S3CRET"
        segments = b"".join(
            marker + struct.pack(">H", len(body) + 2) + body
            for marker, body in ((b"\xff\xed", resources), (b"\xff\xe1", b"S3CRET" + thumbnail))
        )
        return saved(picture, "JPEG", comment=SECRET, extra=segments, **plain)
    if name == "PNG":
        texts = PngImagePlugin.PngInfo()
        texts.add_text("Comment", "S3CRET")
        texts.add_text("Author", "S3CRET", zip=True)
        texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
        return saved(picture, "PNG", pnginfo=texts, dpi=(300, 300), **plain)
    if name == "GIF":
        return saved(picture, "GIF", comment=SECRET)
    if name == "BMP":
        return saved(picture, "BMP", dpi=(300, 300))
    if name == "TIFF":
        more = {270: "S3CRET", 315: "S3CRET", 700: XMP, 33723: b"\x1c\x02\x78\0\x06S3CRET"}
        return saved(picture, "TIFF", tiffinfo=more, icc_profile=icc)
    return heic(picture, **plain) if name == "HEIF" else saved(picture, name, **plain)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "HEIF", "AVIF"])
def test_nothing_of_the_original_but_its_pixels_comes_out(name: str) -> None:
    """A scan of the bytes, of every input format to every output format and the proxy."""
    original = laden(name)
    assert SECRET in original or name == "BMP"
    outputs = [each for each in OutputFormat if each is not OutputFormat.AUTO]
    made = render(original, [spec(100, 100, output) for output in outputs], Limits())
    for body in (*(each.body for each in made.renditions), made.proxy):
        assert not [mark for mark in MARKS if mark in body]


@pytest.mark.parametrize("name", ["JPEG", "PNG"])
def test_an_original_that_is_not_resized_is_cleaned_as_well(name: str) -> None:
    """The pixels go through as they are; the file they came in does not."""
    outputs = [each for each in OutputFormat if each is not OutputFormat.AUTO]
    made = render(laden(name), [spec(999, 999, output) for output in outputs], Limits())
    for body in (*(each.body for each in made.renditions), made.proxy):
        assert not [mark for mark in MARKS if mark in body]


def test_a_jpeg_rendition_has_no_segment_it_does_not_need() -> None:
    """JFIF, tables, frame and scan (T.81, table B.1): no APP1–15, no comment, no second picture."""
    made = render(laden("JPEG"), [spec(100, 100, OutputFormat.JPEG)], Limits())
    body, position, markers = made.renditions[0].body, 2, []
    while body[position + 1] != 0xDA:
        markers.append(body[position + 1])
        position += 2 + int.from_bytes(body[position + 2 : position + 4], "big")
    assert set(markers) <= {0xE0, 0xDB, 0xC0, 0xC2, 0xC4}
    assert body.count(b"\xff\xd8") == 1


def test_the_place_is_left_out_unless_asked_for() -> None:
    file = laden("JPEG")
    assert inspect(file, Limits()).exif.latitude is None
    kept = inspect(file, Limits(), keep_gps=True).exif
    assert (kept.latitude, kept.longitude) == (52.52, 13.405)
