"""Renditions are sRGB: what a profile says is done to the pixels, and the profile is left out."""

from io import BytesIO

import pytest
from PIL import Image, ImageCms

from chalicelib.imaging import render
from chalicelib.model import Limits, OutputFormat
from tests.pictures import marked, profile, saved
from tests.unit.imaging.opened import near, opened, pixels, rendition, spec


def by_littlecms(pixel: tuple[int, ...], mode: str, space: str) -> tuple[int, ...]:
    """What LittleCMS itself makes of one colour: relative colorimetric, black point compensated."""
    image = ImageCms.profileToProfile(
        Image.new(mode, (1, 1), pixel if mode != "L" else pixel[0]),
        ImageCms.ImageCmsProfile(BytesIO(profile(space))),
        ImageCms.createProfile("sRGB"),
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        "RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    assert image is not None
    return image.getpixel((0, 0))  # type: ignore[return-value]


CASES = [
    ("p3", "RGB", (200, 60, 50)),
    ("adobe", "RGB", (90, 200, 80)),
    ("grey", "L", (64,)),
    ("cmyk", "CMYK", (255, 0, 0, 0)),
    ("cmyk", "CMYK", (0, 0, 0, 255)),
]


@pytest.mark.parametrize("name", ["JPEG", "TIFF"])
@pytest.mark.parametrize(("space", "mode", "color"), CASES)
def test_converts_embedded_profiles(
    space: str, mode: str, color: tuple[int, ...], name: str
) -> None:
    """Within 4 levels of what LittleCMS gives for the colour: JPEG itself moves it by up to 3."""
    picture = Image.new(mode, (640, 480), color if mode != "L" else color[0])
    file = saved(picture, name, icc_profile=profile(space), quality=98)
    expected = by_littlecms(color, mode, space)
    assert not near(expected, picture.convert("RGB").getpixel((0, 0)), 10)  # type: ignore[arg-type]
    for output in (OutputFormat.PNG, OutputFormat.JPEG):
        made = opened(rendition(file, spec(320, 240, output)).body).convert("RGB")
        assert near(made.getpixel((100, 100)), expected, 4)  # type: ignore[arg-type]
        assert "icc_profile" not in made.info


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_alpha_goes_around_the_conversion(mode: str) -> None:
    space, color = ("grey", (64,)) if mode == "LA" else ("p3", (200, 60, 50))
    picture = Image.new(mode, (64, 64), (*color, 128))
    (pixel,) = pixels(saved(picture, "PNG", icc_profile=profile(space)), (9, 9))
    assert near(pixel[:3], by_littlecms(color, mode[:-1], space), 2)
    assert pixel[3] == 128


def test_no_profile_means_srgb() -> None:
    assert pixels(saved(marked(), "PNG"), (10, 10)) == [(255, 0, 0)]


def test_leaves_the_pixels_alone_where_the_profile_is_srgb() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = Image.new("RGB", (64, 64), (12, 34, 56))
    assert pixels(saved(picture, "PNG", icc_profile=srgb), (9, 9)) == [(12, 34, 56)]


@pytest.mark.parametrize(
    ("broken", "note"),
    [
        (b"no profile at all", "colour profile is left out"),
        (profile("p3")[:200], "colour profile is left out"),
        (profile("cmyk"), "for CMYK, the picture is RGB"),
    ],
)
def test_passes_over_broken_profiles_with_a_note(broken: bytes, note: str) -> None:
    made = render(saved(marked(), "PNG", icc_profile=broken), [spec()], Limits())
    assert note in made.notes[0]
    assert opened(made.renditions[0].body).getpixel((10, 10)) == (255, 0, 0)


def test_lab_needs_no_profile() -> None:
    """L* 53, a* 80, b* 67 is the red of sRGB (CIE 1976), within 12 levels of 8-bit rounding."""
    lab = saved(Image.new("LAB", (64, 64), (136, 208, 195)), "TIFF")
    assert near(pixels(lab, (9, 9))[0], (255, 0, 0), 12)


def test_cmyk_without_profile_is_still_a_picture() -> None:
    assert near(
        pixels(saved(Image.new("CMYK", (64, 64), (0, 255, 255, 0))), (9, 9))[0], (255, 0, 0), 6
    )
