"""A crop tells which part of the upright original it shows, so that boxes can be drawn on it."""

import pytest

from chalicelib.imaging import render
from chalicelib.model import BoundingBox, Limits, OutputFormat, RenderedImage, ResizeMode
from tests.pictures import KINDS, TURNING, photo, saved, spotted, stored
from tests.unit.imaging.opened import apart_px, mark_in, opened, spec

JPEG, COVER, ATTENTION = OutputFormat.JPEG, ResizeMode.COVER, ResizeMode.ATTENTION
TOLERANCE_PX = 1.0
"""Of a rendition: half of one to which side of an edge it belongs, half to how it was scaled."""

CROPS = [
    spec(200, 200, JPEG, COVER, 95),
    spec(64, 48, OutputFormat.WEBP, COVER, 95),
    spec(150, 300, OutputFormat.PNG, COVER),
    spec(90, 300, JPEG, ATTENTION, 95),
    spec(300, 90, OutputFormat.AVIF, ATTENTION, 95),
    spec(500, 100, OutputFormat.PNG, ATTENTION),
]


def within(made: RenderedImage, box: BoundingBox) -> BoundingBox:
    """What a rendition shows of a box of the original, by its window."""
    window = made.window or BoundingBox(0, 0, 1, 1)
    left = max(0.0, (box.left - window.left) / window.width)
    top = max(0.0, (box.top - window.top) / window.height)
    right = min(1.0, (box.left + box.width - window.left) / window.width)
    bottom = min(1.0, (box.top + box.height - window.top) / window.height)
    return BoundingBox(left, top, right - left, bottom - top)


def assert_mark_is_where_the_window_says(made: RenderedImage, mark: BoundingBox) -> None:
    size = made.width, made.height
    apart = apart_px(mark_in(opened(made.body)), within(made, mark), size)
    assert max(apart) <= TOLERANCE_PX, (made.spec.name, made.window, apart)


@pytest.mark.parametrize(
    ("kind", "orientation"),
    [*((kind, turn) for kind in TURNING for turn in range(1, 9)), *((kind, 1) for kind in KINDS)],
)
def test_box_of_the_original_lies_in_the_crop_where_the_window_says(
    kind: str, orientation: int
) -> None:
    """Crops around the middle and around a focus, made at once, from a picture of odd sides."""
    picture, mark = spotted(1001, 667)
    file = stored(picture, kind, orientation)
    made = render(file, CROPS, Limits(), background="#202020", focus=mark)
    for rendition in made.renditions:
        assert rendition.window
        assert_mark_is_where_the_window_says(rendition, mark)


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("size", [(2803, 2000), (2001, 1507), (3205, 1999)])
def test_window_holds_at_the_scale_of_a_jpegs_decoder(
    size: tuple[int, int], orientation: int
) -> None:
    """Whose picture is a fraction of a pixel smaller where the scale does not divide a side."""
    picture, mark = spotted(*size)
    specs = [spec(720, 720, JPEG), *CROPS, spec(700, 500, JPEG, ATTENTION)]
    file = stored(picture, "JPEG", orientation)
    for focus in (mark, BoundingBox(0.1, 0.5, 0.5, 0.1)):
        for rendition in render(file, specs, Limits(), focus=focus).renditions:
            assert_mark_is_where_the_window_says(rendition, mark)


@pytest.mark.parametrize("left", [0.0, 0.95])
def test_focus_at_the_edge_gives_a_window_up_to_it(left: float) -> None:
    """The picture of 2803×2000 is decoded to 700.75 pixels, of which 700 are taken."""
    focus = BoundingBox(left, left, 0.05, 0.05)
    wishes = [spec(720, 720, JPEG), spec(700, 500, JPEG, ATTENTION), spec(90, 90, JPEG, ATTENTION)]
    made = render(saved(spotted(2803, 2000)[0]), wishes, Limits(), focus=focus)
    nearly_whole, corner = (rendition.window for rendition in made.renditions[1:])
    assert (made.renditions[1].width, made.renditions[1].height) == (700, 500)
    assert nearly_whole is None
    assert corner
    edge = corner.left if left == 0 else corner.left + corner.width
    assert edge == pytest.approx(round(left), abs=1e-6)


def test_what_shows_all_has_no_window() -> None:
    """Neither what fits its box, nor a crop whose box has the proportions of the original."""
    wishes = [
        spec(100, 100),
        spec(90, 60, JPEG, COVER),
        spec(60, 40, JPEG, ATTENTION),
        spec(900, 900, mode=COVER),
    ]
    made = render(saved(photo(300, 200), "PNG"), wishes, Limits()).renditions
    assert [rendition.window for rendition in made] == [None] * 4


def test_window_of_what_draws_the_eye_is_told_too() -> None:
    """Without a focus, the crop is around the strongest detail: here the mark."""
    picture, mark = spotted(900, 300)
    wish = spec(120, 120, JPEG, ATTENTION, 95)
    (made,) = render(saved(picture, "PNG"), [wish], Limits()).renditions
    assert made.window
    assert made.window.left < mark.left < mark.left + mark.width < made.window.left + 0.34
    assert_mark_is_where_the_window_says(made, mark)


def test_window_is_inside_the_original() -> None:
    """However its fractions are rounded, to a millionth."""
    for width in (333, 997, 1001):
        focus = BoundingBox(0.99, 0.99, 0.01, 0.01)
        wish = spec(70, 71, mode=ATTENTION)
        made = render(saved(photo(width, 301), "PNG"), [wish], Limits(), focus=focus)
        window = made.renditions[0].window
        assert window
        assert window.left + window.width == pytest.approx(1, abs=1e-9)
        assert 0 <= window.left < 1
        assert window.top + window.height == pytest.approx(1, abs=1e-9)
