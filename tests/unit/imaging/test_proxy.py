"""What Rekognition sees is within its limits, whatever the original is."""

import pytest
from PIL import Image

from chalicelib.imaging import render
from chalicelib.model import Limits, OutputFormat, ResizeMode
from tests.pictures import heic, photo, saved
from tests.unit.imaging.opened import opened, spec

JPEG = OutputFormat.JPEG


@pytest.mark.parametrize(
    "size", [(1, 1), (79, 500), (20, 10), (20_000, 10), (3, 9_000), (800, 600), (5_000, 4_000)]
)
def test_is_an_rgb_jpeg_of_80_to_4096_pixels_a_side(size: tuple[int, int]) -> None:
    """Tiny pictures are enlarged for it, which nothing else is."""
    file = saved(Image.new("RGB", size, "navy"), "PNG")
    for wish in (spec(6_000, 6_000, JPEG), spec(100, 100, JPEG, ResizeMode.COVER)):
        proxy = render(file, [wish], Limits()).proxy
        image = opened(proxy)
        assert image.format == "JPEG"
        assert all(80 <= side <= 4096 for side in image.size)
        assert len(proxy) <= 5 * 1024 * 1024


def test_is_the_smallest_rendition_that_shows_enough() -> None:
    """Of several the one of 1280 pixels, else the largest; nothing is encoded twice."""
    specs = [spec(side, side, JPEG) for side in (1600, 1280, 1000, 100)]
    original = saved(photo(2000, 1500))
    made = render(original, specs, Limits())
    assert made.proxy is made.renditions[1].body
    made = render(original, specs[2:], Limits())
    assert made.proxy is made.renditions[0].body


@pytest.mark.parametrize(
    "wish",
    [
        spec(1000, 1000, OutputFormat.WEBP),
        spec(1000, 1000, JPEG, ResizeMode.COVER),
        spec(200, 200, JPEG),
        spec(1000, 1000, JPEG, quality=20),
    ],
    ids=["no JPEG", "cropped", "too small", "too coarse"],
)
def test_is_made_where_no_rendition_will_do(wish: object) -> None:
    made = render(saved(photo(1500, 1000)), [wish], Limits())  # type: ignore[list-item]
    assert made.proxy != made.renditions[0].body
    image = opened(made.proxy)
    assert max(image.size) >= 640
    assert abs(image.width / image.height - 1.5) < 0.01


def test_works_for_formats_rekognition_does_not_read() -> None:
    assert opened(render(heic(photo(700, 500)), [spec()], Limits()).proxy).size == (700, 500)
