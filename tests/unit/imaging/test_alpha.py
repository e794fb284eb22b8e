"""Transparency is kept where a format has it, shows the background where not, and never fringes."""

import pytest
from PIL import Image, ImageDraw

from chalicelib.imaging import inspect, render
from chalicelib.model import Limits, OutputFormat
from tests.pictures import marked, saved
from tests.unit.imaging.opened import near, opened, rendition, spec


def disc(size: int = 400) -> Image.Image:
    """A white disc; around it, as editors leave it, fully transparent black."""
    image = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    ImageDraw.Draw(image).ellipse((size // 8, size // 8, size * 7 // 8, size * 7 // 8), "white")
    return image


@pytest.mark.parametrize("size", [300, 100, 30])
def test_no_dark_fringes(size: int) -> None:
    """Every pixel of a white disc that can be seen stays white, however much it is shrunk."""
    image = opened(rendition(saved(disc(), "PNG"), spec(size, size)).body)
    raw = image.tobytes()
    seen = [raw[at : at + 3] for at in range(0, len(raw), 4) if raw[at + 3] > 16]
    assert seen
    assert all(min(pixel) >= 250 for pixel in seen)


@pytest.mark.parametrize("output", [OutputFormat.PNG, OutputFormat.WEBP, OutputFormat.AVIF])
def test_keeps_alpha_where_the_format_has_it(output: OutputFormat) -> None:
    image = opened(rendition(saved(disc(), "PNG"), spec(200, 200, output)).body)
    assert image.mode == "RGBA"
    assert near((image.getpixel((2, 2))[3], image.getpixel((100, 100))[3]), (0, 255), 4)  # type: ignore[index]


@pytest.mark.parametrize("background", ["#ffffff", "#2040c0"])
def test_shows_the_background_where_the_format_has_none(background: str) -> None:
    made = render(
        saved(disc(), "PNG"),
        [spec(200, 200, OutputFormat.JPEG)],
        Limits(),
        background=background,
    )
    expected = tuple(bytes.fromhex(background[1:]))
    assert near(opened(made.renditions[0].body).getpixel((4, 4)), expected, 6)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("picture", "side", "expected"),
    [
        (disc(), 200, OutputFormat.PNG),
        (disc(), 300, OutputFormat.WEBP),
        (marked(400, 300), 200, OutputFormat.JPEG),
        (marked(400, 300).convert("RGBA"), 200, OutputFormat.JPEG),
        (marked(400, 300).convert("L"), 200, OutputFormat.JPEG),
    ],
    ids=["small and see-through", "large and see-through", "opaque", "opaque alpha", "grey"],
)
def test_auto_chooses_by_alpha_and_size(
    picture: Image.Image, side: int, expected: OutputFormat
) -> None:
    """An alpha channel that hides nothing is none."""
    made = rendition(saved(picture, "PNG"), spec(side, side, OutputFormat.AUTO))
    assert made.format is expected


def test_faint_colours_survive_where_nothing_is_resampled() -> None:
    """Premultiplying and back would leave 3 levels of 255 at an alpha of 3."""
    faint = Image.new("RGBA", (64, 64), (10, 120, 250, 3))
    assert opened(rendition(saved(faint, "PNG")).body).getpixel((9, 9)) == (10, 120, 250, 3)


def test_transparency_of_palettes_and_colour_keys_is_alpha() -> None:
    palette = Image.new("P", (64, 64))
    palette.putpalette([255, 0, 0, 0, 255, 0])
    ImageDraw.Draw(palette).rectangle((0, 0, 31, 63), fill=1)
    for name in ("PNG", "GIF"):
        file = saved(palette, name, transparency=0)
        assert inspect(file, Limits()).has_alpha
        image = opened(rendition(file).body)
        assert image.getpixel((8, 8)) == (0, 255, 0, 255)
        assert image.getpixel((56, 8))[3] == 0  # type: ignore[index]


@pytest.mark.parametrize("mode", ["P", "LA", "RGBA"])
def test_shrinks_large_ones_in_bands_without_seams(mode: str) -> None:
    """More rows than a band holds, averaged twofold: a flat half-transparent grey stays flat."""
    large = Image.new("RGBA", (3000, 2500), (128, 128, 128, 128))
    if mode == "P":
        large = Image.new("P", large.size, 1)
        large.putpalette([0, 0, 0, 128, 128, 128])
        file = saved(large, "PNG", transparency=b"\xff\x80")
    else:
        file = saved(large.convert(mode), "PNG", compress_level=1)
    image = opened(rendition(file, spec(640, 640)).body).convert("RGBA")
    assert image.size == (640, 533)
    assert all(near(low_high, (128, 128), 1) for low_high in image.getextrema())  # type: ignore[arg-type]
