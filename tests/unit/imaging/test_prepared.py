"""Decoding and encoding apart: in between, Rekognition looks and others may begin."""

from collections import Counter
from typing import Any

import pytest
from PIL import Image

from chalicelib.errors import CorruptImage
from chalicelib.imaging import encoding, prepare, proxy, render
from chalicelib.model import BoundingBox, Limits, OutputFormat, RenditionSpec, ResizeMode
from tests.pictures import exif, gradient, heic, lying, photo, profile, saved
from tests.unit.imaging.opened import spec

JPEG = OutputFormat.JPEG
SPECS = [
    spec(700, 700, JPEG),
    spec(300, 200, OutputFormat.AUTO, ResizeMode.COVER),
    spec(200, 200, OutputFormat.WEBP, ResizeMode.ATTENTION),
    spec(90, 90),
]


def see_through(picture: Image.Image) -> Image.Image:
    """The same, more and more transparent from one side to the other."""
    picture.putalpha(gradient("L", picture.size))
    return picture


FILES = {
    "JPEG": saved(lying(photo(900, 600, 1), 6), exif=exif(orientation=6).tobytes()),
    "P3": saved(photo(800, 600, 2), icc_profile=profile("p3")),
    "CMYK": saved(photo(700, 500, 3).convert("CMYK")),
    "alpha": saved(see_through(photo(500, 400, 4)), "PNG"),
    "HEIC": heic(photo(400, 300, 5)),
    "tiny": saved(photo(7, 5, 6), "PNG"),
}


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> Counter[tuple[int, int]]:
    """How often a picture of each size has been encoded."""
    sizes: Counter[tuple[int, int]] = Counter()
    encode = encoding.encode

    def counted(image: Any, *arguments: Any) -> bytes:
        sizes[image.size] += 1
        return encode(image, *arguments)

    for module in (encoding, proxy):
        monkeypatch.setattr(module, "encode", counted)
    return sizes


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("count", [1, len(SPECS)])
def test_both_halves_give_what_rendering_at_once_gives(name: str, count: int) -> None:
    """The same bytes, proxy, fingerprint and notes, with every option."""
    focus = BoundingBox(0.6, 0.1, 0.2, 0.2)
    for options in ({}, {"background": "#ff8000", "focus": focus}):
        prepared = prepare(FILES[name], SPECS[-count:], Limits(), **options)  # type: ignore[arg-type]
        made = render(FILES[name], SPECS[-count:], Limits(), **options)  # type: ignore[arg-type]
        assert prepared.render() == made
        assert prepared.proxy == made.proxy


def test_pixels_are_those_of_the_renditions() -> None:
    """What is kept in memory has their sizes, whatever the original has."""
    specs = [spec(300, 300, JPEG), spec(50, 40, JPEG, ResizeMode.COVER), spec(9_000, 9_000)]

    assert prepare(saved(photo(600, 400)), specs[:1], Limits()).pixels == 300 * 200
    assert prepare(saved(photo(1200, 800)), specs[:2], Limits()).pixels == 300 * 200 + 50 * 40
    assert (
        prepare(saved(photo(600, 400)), specs, Limits()).pixels == 300 * 200 + 50 * 40 + 600 * 400
    )


def test_rendition_that_serves_as_proxy_is_encoded_once(encoded: Counter[tuple[int, int]]) -> None:
    """By ``prepare``; ``render`` takes it as it is, and encodes the others."""
    prepared = prepare(saved(photo(900, 600)), SPECS, Limits())
    assert encoded == {(700, 467): 1}

    made = prepared.render()

    assert made.renditions[0].body is prepared.proxy is made.proxy
    assert encoded == {(700, 467): 1, (300, 200): 1, (200, 200): 1, (90, 60): 1}


@pytest.mark.parametrize(
    "wish",
    [
        spec(700, 700, OutputFormat.WEBP),
        spec(700, 700, JPEG, ResizeMode.COVER),
        spec(200, 200, JPEG),
        spec(700, 700, JPEG, quality=20),
    ],
    ids=["no JPEG", "cropped", "too small", "too coarse"],
)
def test_proxy_that_is_no_rendition_is_encoded_besides(
    encoded: Counter[tuple[int, int]], wish: RenditionSpec
) -> None:
    """Once, before the renditions, which are all still to be encoded."""
    prepared = prepare(saved(photo(900, 600)), [wish], Limits())
    assert (prepared.encoded, encoded.total()) == ((), 1)

    made = prepared.render()

    assert made.renditions[0].body != prepared.proxy
    assert encoded.total() == 2


def test_what_is_broken_is_found_before_rekognition_is_asked() -> None:
    """A file that ends too soon is refused by ``prepare``, and never by ``render``."""
    file = saved(photo(900, 600))

    with pytest.raises(CorruptImage):
        prepare(file[: len(file) // 2], SPECS, Limits())
