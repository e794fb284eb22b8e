"""Renditions stand upright, in all eight orientations and every format that has them."""

import pytest
from PIL import Image

from chalicelib.imaging import inspect, render
from chalicelib.model import Limits, OutputFormat, ResizeMode
from tests.pictures import exif, heic, lying, marked, photo, png_chunk, saved
from tests.unit.imaging.opened import near, opened, pixels, rendition, spec

QUARTERS = (10, 10), (85, 10), (10, 55), (85, 55)
COLORS = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def stored(name: str, orientation: int, picture: Image.Image | None = None) -> bytes:
    tags = exif(orientation=orientation).tobytes()
    pixels_as_stored = lying(picture or marked(), orientation)
    if name == "HEIF":
        return heic(pixels_as_stored, exif=tags, quality=95)
    return saved(pixels_as_stored, name, exif=tags, **({} if name == "PNG" else {"quality": 95}))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF", "HEIF"])
def test_turns_once_and_drops_the_tag(name: str, orientation: int) -> None:
    """HEIF and TIFF decoders turn by themselves; twice would be as wrong as never."""
    file = stored(name, orientation)
    description = inspect(file, Limits())
    assert (description.width, description.height) == (96, 64)
    made = rendition(file)
    image = opened(made.body)
    assert image.size == (made.width, made.height) == (96, 64)
    for place, color in zip(QUARTERS, COLORS, strict=True):
        assert near(image.getpixel(place), color, 12)  # type: ignore[arg-type]
    assert 0x0112 not in image.getexif()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turns_planes_of_a_jpeg_as_well(orientation: int) -> None:
    """JPEG to JPEG takes another way, with chroma apart, odd sizes and the decoder's own scale."""
    picture = marked(1001, 667)
    file = stored("JPEG", orientation, picture)
    made = rendition(file, spec(250, 250, OutputFormat.JPEG))
    image = opened(made.body)
    assert image.size == (250, 167)
    for place, color in zip(((20, 20), (230, 20), (20, 140), (230, 140)), COLORS, strict=True):
        assert near(image.getpixel(place), color, 12)  # type: ignore[arg-type]


def test_crops_what_stands_upright() -> None:
    """The middle of a portrait, not that of the landscape it is stored as."""
    tall = Image.new("RGB", (100, 300), "red")
    tall.paste("lime", (0, 100, 100, 200))
    file = saved(lying(tall, 6), "PNG", exif=exif(orientation=6).tobytes())
    assert pixels(file, (5, 5), (60, 60), wish=spec(64, 64, mode=ResizeMode.COVER)) == [
        (0, 255, 0),
        (0, 255, 0),
    ]


def test_finds_exif_behind_the_pixels_of_a_png() -> None:
    """An eXIf chunk may stand after IDAT, where Pillow looks only once it has decoded them."""
    plain = saved(lying(marked(), 6), "PNG")
    tags = exif(orientation=6).tobytes().removeprefix(b"Exif\0\0")
    file = plain[:-12] + png_chunk(b"eXIf", tags) + plain[-12:]
    assert (inspect(file, Limits()).width, inspect(file, Limits()).exif.orientation) == (96, 6)
    assert near(pixels(file, (10, 10))[0], (255, 0, 0), 0)


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_ignores_orientations_there_are_not(value: int) -> None:
    file = saved(marked(), exif=exif(orientation=value).tobytes())
    assert inspect(file, Limits()).exif.orientation is None
    assert rendition(file).width == 96


def test_the_proxy_and_the_fingerprint_are_upright_too() -> None:
    picture = photo(800, 600)
    straight = render(saved(picture, quality=95), [spec()], Limits())
    turned = render(stored("JPEG", 8, picture), [spec()], Limits())
    assert opened(turned.proxy).size == opened(straight.proxy).size == (800, 600)
    assert turned.fingerprint.phash == straight.fingerprint.phash
