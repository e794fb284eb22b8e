"""What Rekognition sees is within its limits, whatever the original is."""

from collections.abc import Sequence
from io import BytesIO

import pytest
from PIL import Image, ImageChops, ImageCms, ImageColor, ImageDraw, ImageStat

from chalicelib.imaging import proxy as proxies
from chalicelib.imaging import render
from chalicelib.model import (
    BoundingBox,
    Feature,
    Limits,
    OutputFormat,
    Rendered,
    RenditionSpec,
    ResizeMode,
)
from tests.pictures import KINDS, TURNING, heic, noise, photo, profile, saved, spotted, stored
from tests.unit.imaging.opened import apart_px, mark_in, near, opened, spec

JPEG, WEBP, PNG = OutputFormat.JPEG, OutputFormat.WEBP, OutputFormat.PNG
FINE = (Feature.LABELS, Feature.FACES)
MAX_BYTES = 5_242_880

RECIPES: dict[str, Sequence[RenditionSpec]] = {
    "none": (),
    "tiny": (spec(50, 40, JPEG), spec(30, 30, JPEG, ResizeMode.COVER)),
    "WebP only": (spec(1_500, 1_500, WEBP),),
    "a giant PNG": (spec(20_000, 20_000, PNG),),
    "a giant JPEG": (spec(20_000, 20_000, JPEG, quality=100),),
    "many": [spec(side, side, JPEG) for side in (2_048, 1_280, 640, 100)],
}
SIZES = [
    (1, 1),
    (1, 90),
    (200, 1),
    (79, 79),
    (80, 80),
    (81, 79),
    (79, 500),
    (700, 30),
    (900, 700),
]
EXTREMES = [(20_000, 10), (10, 20_000), (5_000, 100), (16_000, 120), (4_097, 300), (4_200, 4_100)]


def assert_rekognition_takes(proxy: bytes) -> Image.Image:
    """Its limits for images passed as bytes, of which base64 is not counted."""
    image = opened(proxy)
    assert image.format == "JPEG"
    assert image.mode in ("L", "RGB")
    assert not image.info.get("icc_profile")
    assert not image.getexif()
    assert all(80 <= side <= 4096 for side in image.size)
    assert len(proxy) <= MAX_BYTES
    return image


def assert_boxes_fit(made: Rendered, mark: BoundingBox, size: tuple[int, int]) -> None:
    """A box found on the proxy is that of the original, and of every rendition of the whole.

    Within a pixel of the proxy and half a pixel of the original, which a mark in a small picture,
    enlarged, has on each side as a slope.
    """
    image = assert_rekognition_takes(made.proxy)
    if min(size) < 8:
        return  # no room for a mark
    found = mark_in(image)
    for apart, side, shown in zip(apart_px(found, mark, (1, 1)), size, image.size, strict=True):
        assert apart <= 1 / shown + 0.5 / side
    for rendition in made.renditions:
        shown = rendition.width, rendition.height
        if rendition.spec.mode is ResizeMode.FIT and min(shown) >= 8:
            assert rendition.window is None
            on_it = mark_in(opened(rendition.body))
            for apart, one, other, side in zip(
                apart_px(on_it, found, (1, 1)), shown, image.size, size, strict=True
            ):
                assert apart <= 1 / one + 1 / other + 0.5 / side


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_every_size_is_shown_within_the_limits(
    kind: str, size: tuple[int, int]
) -> None:
    """Tiny pictures are enlarged for it, which nothing else is."""
    picture, mark = spotted(*size)
    file = stored(picture, kind)
    for number, recipe in enumerate(RECIPES.values()):
        features = FINE if number % 2 else ()
        made = render(file, recipe, Limits(), background="#202020", features=features)
        assert_boxes_fit(made, mark, size)


@pytest.mark.parametrize("orientation", range(2, 9))
@pytest.mark.parametrize("kind", TURNING)
def test_every_orientation_is_shown_upright(kind: str, orientation: int) -> None:
    """The mark is neither in the middle nor on a diagonal, so each wrong turn would move it."""
    for size in ((641, 403), (30, 90)):
        picture, mark = spotted(*size)
        file = stored(picture, kind, orientation)
        for recipe in (RECIPES["none"], RECIPES["many"]):
            assert_boxes_fit(render(file, recipe, Limits()), mark, size)


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("size", EXTREMES, ids=str)
def test_extreme_sizes_are_shown_within_the_limits(size: tuple[int, int], recipe: str) -> None:
    """A long side is shrunk without a short one being lost: ten rows still hold the mark."""
    picture, mark = spotted(*size)
    for kind in ("JPEG",) if min(size) > 4_096 else ("JPEG", "palette PNG"):
        made = render(stored(picture, kind), RECIPES[recipe], Limits(), features=FINE)
        assert_boxes_fit(made, mark, size)


@pytest.mark.parametrize("recipe", [(), (spec(4_096, 4_096, JPEG, quality=100),)])
def test_noise_is_shown_within_the_limits(recipe: Sequence[RenditionSpec]) -> None:
    """4096 pixels of it are 30 MB at quality 100; a smaller picture is shown instead."""
    made = render(saved(noise(4_096, 2_400), quality=90), recipe, Limits(), features=FINE)
    image = assert_rekognition_takes(made.proxy)
    assert max(image.size) == 2048
    if recipe:
        assert len(made.renditions[0].body) > MAX_BYTES


def test_what_is_over_the_limit_is_lowered_in_quality_and_then_in_size(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No picture reaches 5 MB in what is made; here the limit is less."""
    file = saved(noise(900, 700))
    sizes = {}
    for most in (5_000_000, 600_000, 400_000, 100_000):
        monkeypatch.setattr(proxies, "_MAX_BYTES", most)
        proxy = render(file, [], Limits()).proxy
        assert len(proxy) <= most
        sizes[most] = opened(proxy).width
    assert sizes == {5_000_000: 900, 600_000: 900, 400_000: 900, 100_000: 320}


def test_rendition_over_the_limit_is_not_encoded_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no proxy, but it is what was asked for."""
    monkeypatch.setattr(proxies, "_MAX_BYTES", 400_000)
    made = render(saved(noise(900, 700)), [spec(900, 900, JPEG)], Limits())
    assert len(made.renditions[0].body) > 400_000 >= len(made.proxy)
    assert opened(made.renditions[0].body).size == (900, 700)


def test_colors_are_srgb() -> None:
    """Of wide colours and of ink, in what is made for it and in a rendition that stands in."""
    red = Image.new("RGB", (700, 500), (200, 60, 40))
    icc = profile("p3")
    conversion = ImageCms.profileToProfile(
        red, ImageCms.getOpenProfile(BytesIO(icc)), ImageCms.createProfile("sRGB")
    )
    expected = conversion.getpixel((9, 9))  # type: ignore[union-attr]
    assert not near(expected, (200, 60, 40), 12)  # type: ignore[arg-type]
    files = {
        saved(red, icc_profile=icc, quality=95): expected,
        saved(red, "PNG", icc_profile=icc): expected,
        heic(red, icc_profile=icc, quality=95): expected,
        saved(red.convert("CMYK"), quality=95): (200, 60, 40),
    }
    for file, color in files.items():
        for recipe in (RECIPES["none"], RECIPES["many"]):
            image = assert_rekognition_takes(render(file, recipe, Limits()).proxy)
            assert near(image.getpixel((350, 250)), color, 6)  # type: ignore[arg-type]


def test_is_the_smallest_rendition_that_shows_enough() -> None:
    """For labels the one of 1280 pixels, else the largest; nothing is encoded twice."""
    specs = [spec(side, side, JPEG) for side in (1600, 1280, 1000, 100)]
    original = saved(photo(2000, 1500))
    made = render(original, specs, Limits())
    assert made.proxy is made.renditions[1].body
    made = render(original, specs[2:], Limits())
    assert made.proxy is made.renditions[0].body


@pytest.mark.parametrize("feature", [Feature.FACES, Feature.TEXT, Feature.CELEBRITIES])
def test_faces_and_text_are_shown_larger(feature: Feature) -> None:
    """By the smallest rendition of nearly 1920 pixels; a smaller one does not stand in."""
    specs = [spec(side, side, JPEG) for side in (2500, 2048, 1280)]
    original = saved(spotted(3000, 2000)[0])
    features = (Feature.LABELS, feature)
    made = render(original, specs, Limits(), features=features)
    assert made.proxy is made.renditions[1].body
    made = render(original, specs[2:], Limits(), features=features)
    assert opened(made.proxy).size == (2048, 1365)


def test_faces_of_a_smaller_original_are_shown_in_its_own_size() -> None:
    """Or in a tenth less, by a rendition that is there anyway."""
    original = saved(spotted(1300, 900)[0])
    made = render(original, [spec(1280, 1280, JPEG)], Limits(), features=FINE)
    assert made.proxy is made.renditions[0].body
    made = render(original, [spec(1100, 1100, JPEG)], Limits(), features=FINE)
    assert opened(made.proxy).size == (1300, 900)


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
def test_is_made_where_no_rendition_will_do(wish: RenditionSpec) -> None:
    made = render(saved(photo(1500, 1000)), [wish], Limits())
    assert made.proxy != made.renditions[0].body
    image = opened(made.proxy)
    assert max(image.size) >= 640
    assert abs(image.width / image.height - 1.5) < 0.01


def written(color: str, mode: str = "RGBA", opacity: int = 255) -> bytes:
    """Words on nothing, as PNG."""
    words = Image.new("L", (900, 300))
    ImageDraw.Draw(words).text((60, 60), "ACME", fill=opacity, font_size=180)
    if mode == "P":
        picture = words.point(lambda level: level >= 128).convert("P")
        picture.putpalette([0x30, 0x60, 0x90, *ImageColor.getrgb(color)])
        return saved(picture, "PNG", transparency=0)
    picture = Image.new("RGBA", words.size, color)
    picture.putalpha(words)
    return saved(picture.convert(mode), "PNG")


def contrast_of(proxy: bytes) -> int:
    darkest, brightest = assert_rekognition_takes(proxy).convert("L").getextrema()
    return int(brightest - darkest)  # type: ignore[operator]


def apart(one: Image.Image, other: Image.Image) -> float:
    """The mean difference in levels of 255."""
    return ImageStat.Stat(ImageChops.difference(one.convert("L"), other.convert("L"))).mean[0]


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("background", ["#ffffff", "#000000"])
@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_stands_on_nothing_is_seen(mode: str, background: str, recipe: str) -> None:
    """White is shown on black as black is on white, whatever renditions are shown on."""
    white, black = (
        opened(render(written(color, mode), RECIPES[recipe], Limits(), background=background).proxy)
        for color in ("white", "black")
    )
    assert near(white.convert("RGB").getpixel((5, 5)), (0, 0, 0), 2)  # type: ignore[arg-type]
    assert near(black.convert("RGB").getpixel((5, 5)), (255, 255, 255), 2)  # type: ignore[arg-type]
    assert apart(white, ImageChops.invert(black)) < 2


@pytest.mark.parametrize("color", ["white", "#ffffd0", "#909090", "#707070", "navy", "black"])
@pytest.mark.parametrize("opacity", [255, 128, 40])
def test_what_stands_on_nothing_has_contrast(color: str, opacity: int) -> None:
    """At least half of what it could have at all."""
    assert contrast_of(render(written(color, opacity=opacity), [], Limits()).proxy) > opacity * 0.45


@pytest.mark.parametrize("color", ["white", "black"])
def test_photo_that_is_in_its_alpha_alone_is_seen(color: str) -> None:
    """White ink where it is light, or black where it is dark, looks like the photo."""
    picture = photo(700, 500).convert("L")
    ink = Image.new("RGBA", picture.size, color)
    ink.putalpha(picture if color == "white" else ImageChops.invert(picture))
    shown = opened(render(saved(ink, "PNG"), RECIPES["many"], Limits()).proxy)
    assert apart(shown, picture) < 3


def test_photo_that_is_half_see_through_is_seen() -> None:
    """Its own picture, with half of the contrast, on one ground."""
    picture = photo(700, 500).convert("L")
    faint = Image.merge("LA", (picture, Image.new("L", picture.size, 128)))
    shown = opened(render(saved(faint, "PNG"), [], Limits()).proxy)
    grounds = [Image.new("L", picture.size, level) for level in (0, 128, 255)]
    assert min(apart(shown, Image.blend(ground, picture, 0.5)) for ground in grounds) < 3


def test_light_and_dark_are_seen_beside_each_other() -> None:
    """A word in each: neither hides the other, however little of one there is."""
    both = Image.new("RGBA", (600, 300))
    for color, top, size in (("white", 20, 110), ("black", 200, 40)):
        ImageDraw.Draw(both).text((20, top), "ACME", fill=color, font_size=size)
    shown = opened(render(saved(both, "PNG"), [], Limits()).proxy)
    for part in ((0, 0, 600, 180), (0, 180, 600, 300)):
        darkest, brightest = shown.convert("L").crop(part).getextrema()
        assert brightest - darkest > 110  # type: ignore[operator]


def test_rendition_on_the_background_is_no_proxy_of_what_is_see_through() -> None:
    """Of what hides nothing it is."""
    [wish] = recipe = [spec(900, 900, JPEG)]
    made = render(written("white"), recipe, Limits())
    assert made.proxy is not made.renditions[0].body
    assert contrast_of(made.renditions[0].body) == 0
    made = render(saved(photo(900, 300).convert("RGBA"), "PNG"), [wish], Limits())
    assert made.proxy is made.renditions[0].body


def test_works_for_formats_rekognition_does_not_read() -> None:
    assert opened(render(heic(photo(700, 500)), [spec()], Limits()).proxy).size == (700, 500)
