"""What stands for a picture stays the same when it is resized, recompressed or converted."""

from base64 import b64decode

import pytest
import thash
from PIL import Image, ImageDraw

from chalicelib.imaging import render
from chalicelib.imaging.fingerprint import distance, perceptual_hash
from chalicelib.model import Fingerprint, Limits
from tests.pictures import heic, photo, saved, stored
from tests.unit.imaging.opened import near, spec


def fingerprint_of(file: bytes) -> Fingerprint:
    return render(file, [spec(100, 100), spec(640, 480)], Limits()).fingerprint


PICTURE = photo(1600, 1200)
ORIGINAL = fingerprint_of(saved(PICTURE, quality=95))

VARIANTS = {
    "recompressed at 30": saved(PICTURE, quality=30),
    "PNG": saved(PICTURE, "PNG", compress_level=1),
    "WebP": saved(PICTURE, "WEBP", quality=60),
    "HEIC": heic(PICTURE, quality=60),
    "half as large": saved(PICTURE.resize((800, 600))),
    "a tenth": saved(PICTURE.resize((160, 120))),
    "squeezed": saved(PICTURE.resize((900, 900))),
    "darker": saved(Image.eval(PICTURE, lambda level: level * 7 // 10)),
    "grey": saved(PICTURE.convert("L")),
}


@pytest.mark.parametrize("change", VARIANTS)
def test_the_same_picture_is_within_6_bits(change: str) -> None:
    assert distance(ORIGINAL.phash, fingerprint_of(VARIANTS[change]).phash) <= 6


def test_other_pictures_are_over_16_bits_away() -> None:
    """Hashes of unrelated pictures differ in 32 bits on average, with a deviation of 4."""
    hashes = [fingerprint_of(saved(photo(400, 300, seed))).phash for seed in range(2, 10)]
    assert min(distance(ORIGINAL.phash, each) for each in hashes) > 16


def logo(word: str, color: str, ground: str | None = None) -> Image.Image:
    """A word on one colour, or on nothing."""
    image = Image.new("RGBA", (400, 200), ground or (0, 0, 0, 0))
    ImageDraw.Draw(image).text((20, 40), word, fill=color, font_size=110)
    return image


@pytest.mark.parametrize("color", ["white", "black", "#ffe9a0", "#102080"])
def test_words_on_nothing_are_told_apart(color: str) -> None:
    """Beyond the distance that near duplicates have at most, which is 7."""
    one, other = (
        fingerprint_of(saved(logo(word, color), "PNG")).phash for word in ("ACME", "Zebra")
    )
    assert distance(one, other) > 7


@pytest.mark.parametrize(("color", "ground"), [("white", "black"), ("black", "white")])
def test_what_stands_on_nothing_is_hashed_on_what_it_stands_out_from(
    color: str, ground: str
) -> None:
    bare, standing = (
        fingerprint_of(saved(logo("ACME", color, below), "PNG")).phash for below in (None, ground)
    )
    assert distance(bare, standing) <= 3


def test_hashes_are_16_hex_digits() -> None:
    """As they have been ever since, of what is opaque."""
    assert ORIGINAL.phash == "37cdd8b2e249c94c"
    assert perceptual_hash(PICTURE.convert("RGBA")) == perceptual_hash(PICTURE)


@pytest.mark.parametrize("kind", ["JPEG", "CMYK JPEG", "PNG", "WEBP", "AVIF", "HEIF", "GIF"])
@pytest.mark.parametrize("color", ["teal", "white", "black", "#f8f0e3"])
def test_one_colour_has_the_hash_of_nothing(color: str, kind: str) -> None:
    """Rounding would make the bits, and the same ones for every colour."""
    flat = Image.new("RGB", (500, 351), color)
    assert fingerprint_of(stored(flat, kind)).phash == "0" * 16


@pytest.mark.parametrize(
    "nothing",
    [
        Image.new("RGBA", (40, 40)),
        Image.new("RGBA", (40, 40), (255, 255, 255, 128)),
        Image.linear_gradient("L"),
        Image.linear_gradient("L").rotate(90),
    ],
    ids=["see-through", "half see-through", "gradient down", "gradient across"],
)
def test_what_the_hash_does_not_look_at_has_the_hash_of_nothing(nothing: Image.Image) -> None:
    """Nor are stripes and gradients, which change in one direction only, told apart by it."""
    assert fingerprint_of(saved(nothing, "PNG")).phash == "0" * 16


def test_faint_pictures_have_hashes() -> None:
    """A fiftieth of the contrast: within the bits of the same picture."""
    faint = Image.eval(PICTURE, lambda level: 120 + level // 50)
    assert distance(ORIGINAL.phash, fingerprint_of(saved(faint, "PNG")).phash) <= 10


def test_colours_of_one_colour_are_that() -> None:
    assert fingerprint_of(saved(Image.new("RGB", (50, 50), "teal"), "PNG")).colors == ("#008080",)


def test_the_placeholder_shows_the_picture_again() -> None:
    """Decoded, a ThumbHash has the average colour of the picture within 16 levels of 255."""
    placeholder = b64decode(ORIGINAL.placeholder)
    assert len(placeholder) <= 25
    shown = thash.thumb_hash_to_average_rgba(list(placeholder))
    assert shown is not None
    average = PICTURE.resize((1, 1), Image.Resampling.BOX).getpixel((0, 0))
    assert near(tuple(round(255 * part) for part in shown[:3]), average, 16)  # type: ignore[arg-type]


def test_the_placeholder_knows_transparency() -> None:
    see_through = Image.new("RGBA", (60, 60), (200, 0, 0, 60))
    placeholder = b64decode(fingerprint_of(saved(see_through, "PNG")).placeholder)
    shown = thash.thumb_hash_to_average_rgba(list(placeholder))
    assert shown is not None
    assert abs(shown[3] * 255 - 60) <= 16


def test_colours_come_by_the_area_they_cover() -> None:
    flag = Image.new("RGB", (400, 300), "#102080")
    flag.paste("#f0c010", (0, 0, 400, 90))
    flag.paste("#ffffff", (0, 90, 400, 120))
    colors = fingerprint_of(saved(flag, "PNG")).colors
    named = [tuple(bytes.fromhex(color[1:])) for color in colors]
    assert near(named[0], (0x10, 0x20, 0x80), 8)
    assert near(named[1], (0xF0, 0xC0, 0x10), 24)


def test_what_is_fully_transparent_has_no_colour() -> None:
    assert fingerprint_of(saved(Image.new("RGBA", (40, 40)), "PNG")).colors == ()
