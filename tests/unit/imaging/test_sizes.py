"""How large renditions come out, and which part of the original they show."""

import pytest
from PIL import Image, ImageChops, ImageStat

from chalicelib.imaging import render
from chalicelib.model import BoundingBox, Limits, OutputFormat, ResizeMode
from tests.pictures import marked, photo, saved
from tests.unit.imaging.opened import near, opened, rendition, spec

JPEG = OutputFormat.JPEG


@pytest.mark.parametrize(
    ("original", "box", "expected"),
    [
        ((400, 300), (100, 100), (100, 75)),
        ((300, 400), (100, 100), (75, 100)),
        ((400, 300), (1000, 90), (120, 90)),
        ((1000, 10), (100, 100), (100, 1)),
        ((3000, 2), (100, 100), (100, 1)),
        ((50, 40), (100, 100), (50, 40)),
        ((1, 1), (100, 100), (1, 1)),
    ],
)
def test_fit_keeps_proportions_and_never_enlarges(
    original: tuple[int, int], box: tuple[int, int], expected: tuple[int, int]
) -> None:
    for name in ("PNG", "JPEG"):
        made = rendition(saved(photo(*original), name), spec(*box, OutputFormat.PNG))
        assert (made.width, made.height) == expected
        assert opened(made.body).size == expected


@pytest.mark.parametrize(
    ("original", "box", "expected"),
    [
        ((400, 300), (100, 100), (100, 100)),
        ((300, 400), (100, 50), (100, 50)),
        ((300, 50), (100, 100), (100, 50)),
        ((50, 300), (100, 100), (50, 100)),
        ((50, 40), (100, 100), (50, 40)),
        ((1, 900), (100, 100), (1, 100)),
    ],
)
def test_cover_fills_the_box_and_never_enlarges(
    original: tuple[int, int], box: tuple[int, int], expected: tuple[int, int]
) -> None:
    for name in ("PNG", "JPEG"):
        wish = spec(*box, OutputFormat.PNG, ResizeMode.COVER)
        made = rendition(saved(photo(*original), name), wish)
        assert opened(made.body).size == (made.width, made.height) == expected


def test_cover_shows_the_middle() -> None:
    wide = Image.new("RGB", (900, 300), "red")
    wide.paste("lime", (300, 0, 600, 300))
    image = opened(rendition(saved(wide, "PNG"), spec(90, 90, mode=ResizeMode.COVER)).body)
    assert image.crop((3, 0, 87, 90)).getextrema() == ((0, 0), (255, 255), (0, 0))


@pytest.mark.parametrize(
    ("left", "expected"), [(0.9, (0, 0, 255)), (0.0, (255, 0, 0)), (0.45, (0, 255, 0))]
)
def test_attention_keeps_the_focus_in_view(left: float, expected: tuple[int, ...]) -> None:
    """A face at the edge is as near the middle as the edge allows."""
    wide = Image.new("RGB", (900, 300), "red")
    wide.paste("lime", (300, 0, 600, 300))
    wide.paste("blue", (600, 0, 900, 300))
    face = BoundingBox(left=left, top=0.4, width=0.1, height=0.2)
    wish = spec(90, 90, mode=ResizeMode.ATTENTION)
    made = render(saved(wide, "PNG"), [wish], Limits(), focus=face)
    assert opened(made.renditions[0].body).getpixel((45, 45)) == expected


@pytest.mark.parametrize("left", [20, 700])
def test_attention_finds_the_strongest_detail(left: int) -> None:
    """A chessboard on a plain wall is what the crop shows, wherever it hangs."""
    wall = Image.new("RGB", (900, 300), (120, 130, 140))
    for square in range(0, 180, 20):
        for row in range(60, 240, 20):
            shade = "white" if (square + row) % 40 else "black"
            wall.paste(shade, (left + square, row, left + square + 20, row + 20))
    wish = spec(150, 150, mode=ResizeMode.ATTENTION)
    made = render(saved(wall, "PNG"), [wish], Limits()).renditions[0]
    light_and_dark = opened(made.body).convert("L").histogram()
    assert sum(light_and_dark[:40]) + sum(light_and_dark[215:]) > 0.3 * 150 * 150


def test_without_any_detail_the_middle_is_shown() -> None:
    plain = saved(Image.new("RGB", (900, 300), "olive"), "PNG")
    attentive, middle = (
        render(plain, [spec(150, 150, mode=mode)], Limits()).renditions[0].body
        for mode in (ResizeMode.ATTENTION, ResizeMode.COVER)
    )
    assert attentive == middle


def test_an_at_most_rendition_takes_the_decoders_own_scale() -> None:
    """Half of 2000 is within 10 % of a box of 1024, half of 1800 is not."""
    taken = rendition(saved(photo(2000, 1500)), spec(1024, 1024, JPEG))
    assert (taken.width, taken.height) == (1000, 750)
    resized = rendition(saved(photo(1800, 1350)), spec(1024, 1024, JPEG))
    assert (resized.width, resized.height) == (1024, 768)


def test_a_covered_box_is_always_filled() -> None:
    made = rendition(saved(photo(2000, 1500)), spec(1024, 750, JPEG, ResizeMode.COVER))
    assert (made.width, made.height) == (1024, 750)


@pytest.mark.parametrize("size", [(1001, 667), (997, 751), (2003, 1507)])
def test_odd_sizes_lose_nothing_to_the_decoders_scale(size: tuple[int, int]) -> None:
    """Edges are within 4 levels on average of the same rendition made by one Lanczos step."""
    file = saved(photo(*size), quality=95)
    made = opened(rendition(file, spec(260, 260, JPEG, quality=95)).body)
    reference = opened(file).convert("RGB").resize(made.size, Image.Resampling.LANCZOS)
    for edge in ((0, 0, 8, made.height), (made.width - 8, 0, *made.size)):
        difference = ImageChops.difference(made.crop(edge), reference.crop(edge)).convert("L")
        assert ImageStat.Stat(difference).mean[0] <= 4


def test_renditions_come_in_the_order_of_the_specs() -> None:
    specs = [spec(30, 30), spec(200, 200, JPEG), spec(60, 60, mode=ResizeMode.COVER)]
    made = render(saved(photo(400, 300)), specs, Limits()).renditions
    assert [each.spec for each in made] == specs


@pytest.mark.parametrize("name", ["JPEG", "PNG"])
def test_small_renditions_look_like_the_original_shrunk_at_once(name: str) -> None:
    """A cascade of shrinking ends within 3 levels on average of one Lanczos step, encoded alike."""
    picture = photo(1600, 1200)
    specs = [spec(side, side, JPEG, quality=95) for side in (800, 400, 200, 100)]
    for made in render(saved(picture, name), specs, Limits()).renditions:
        reference = picture.resize((made.width, made.height), Image.Resampling.LANCZOS)
        encoded = opened(saved(reference, quality=95))
        difference = ImageChops.difference(opened(made.body), encoded).convert("L")
        assert ImageStat.Stat(difference).mean[0] <= 3, made.spec.name


def test_one_picture_of_the_same_scale_is_not_resampled() -> None:
    """A PNG that fits its box comes out with the very pixels it came in with."""
    picture = photo(120, 90)
    image = opened(rendition(saved(picture, "PNG")).body)
    assert ImageChops.difference(image, picture).getbbox() is None


def test_webp_is_held_to_the_side_it_can_have() -> None:
    """16,383 pixels (RFC 9649, 2.7), however large the box."""
    tall = saved(Image.new("L", (4, 17_000), 99), "PNG")
    assert rendition(tall, spec(20_000, 20_000, OutputFormat.WEBP)).height == 16_383


def test_the_quarters_of_a_cover_are_where_they_were() -> None:
    image = opened(rendition(saved(marked(640, 480)), spec(96, 96, mode=ResizeMode.COVER)).body)
    corners = [image.getpixel(place) for place in ((4, 4), (91, 4), (4, 91), (91, 91))]
    expected = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255))
    assert all(near(a, b, 12) for a, b in zip(corners, expected, strict=True))  # type: ignore[arg-type]
