"""The EXIF worth having, read as warily as cameras write it."""

from typing import Any

import pytest
from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from chalicelib.imaging import inspect
from chalicelib.imaging.exif import read_exif
from chalicelib.model import Exif, Limits
from tests.pictures import exif, heic, marked, saved

FULL = Exif(
    make="Maker",
    model="Model 7",
    lens="35mm",
    taken_at="2026-01-31T09:15:00+01:00",
    orientation=1,
    exposure_s=0.008,
    f_number=2.8,
    iso=200,
    focal_length_mm=35.0,
)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "AVIF", "HEIF"])
def test_reads_what_the_camera_wrote(name: str) -> None:
    tags = exif(orientation=1).tobytes()
    file = heic(marked(), exif=tags) if name == "HEIF" else saved(marked(), name, exif=tags)
    found = inspect(file, Limits()).exif
    # AVIF keeps the orientation in a box of its own, and has none where it is 1.
    assert found in (FULL, Exif(**{**_fields(FULL), "orientation": None}))


def _fields(tags: Exif) -> dict[str, Any]:
    return {name: getattr(tags, name) for name in Exif.__slots__}


def with_tags(detail: dict[int, Any] | None = None, place: dict[int, Any] | None = None) -> Exif:
    tags = Image.Exif()
    tags._ifds[IFD.Exif] = detail or {}  # noqa: SLF001 - Pillow has no public way
    tags._ifds[IFD.GPSInfo] = place or {}  # noqa: SLF001
    return read_exif(tags, keep_gps=True)


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ("2026:01:31 09:15:00", "2026-01-31T09:15:00"),
        ("2026:01:31 09:15:00\0\0", "2026-01-31T09:15:00"),
        ("0000:00:00 00:00:00", None),
        ("    :  :     :  :  ", None),
        ("yesterday", None),
        (7, None),
    ],
)
def test_moments_without_a_zone_get_none(written: Any, read: str | None) -> None:
    assert with_tags({Base.DateTimeOriginal: written}).taken_at == read


def test_a_broken_zone_does_not_cost_the_moment() -> None:
    tags = {Base.DateTimeOriginal: "2026:01:31 09:15:00", Base.OffsetTimeOriginal: "CET"}
    assert with_tags(tags).taken_at == "2026-01-31T09:15:00"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -1.0, 0, "wide", (), None])
def test_numbers_that_make_no_sense_are_left_out(number: Any) -> None:
    """DynamoDB and JSON have no place for NaN, and no lens is 0 mm long."""
    assert with_tags({Base.FocalLength: number}).focal_length_mm is None


def test_iso_may_come_as_a_pair() -> None:
    assert with_tags({Base.ISOSpeedRatings: (400, 0)}).iso == 400


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        (((33.0, 51.0, 31.0), "S", (151.0, 12.0, 50.0), "W"), (-33.858611, -151.213889)),
        (((91.0, 0.0, 0.0), "N", (13.0, 0.0, 0.0), "E"), (None, None)),
        (((float("nan"), 0.0, 0.0), "N", (13.0, 0.0, 0.0), "E"), (None, None)),
        ((5, "N", (13.0, 0.0, 0.0), "E"), (None, None)),
        ((("x", 0.0, 0.0), "N", (13.0, 0.0, 0.0), "E"), (None, None)),
    ],
)
def test_places_are_degrees_or_nothing(place: Any, expected: Any) -> None:
    keys = GPS.GPSLatitude, GPS.GPSLatitudeRef, GPS.GPSLongitude, GPS.GPSLongitudeRef
    found = with_tags(place=dict(zip(keys, place, strict=True)))
    assert (found.latitude, found.longitude) == expected


def test_texts_are_cleaned_and_cut() -> None:
    assert with_tags({Base.LensModel: b"50mm\x07 f/1.4\0rubbish"}).lens == "50mm f/1.4"
    assert with_tags({Base.LensModel: "x" * 500}).lens == "x" * 128
    assert with_tags({Base.LensModel: "  \0"}).lens is None


def test_directories_that_cannot_be_read_are_noted_and_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: object) -> None:
        raise IndexError

    monkeypatch.setattr(Image.Exif, "get_ifd", broken)
    description = inspect(saved(marked(), exif=exif(orientation=6).tobytes()), Limits())
    assert description.exif == Exif(orientation=6)
    assert "EXIF cannot be read" in description.notes[0]


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("rubbish", [b"Exif\0\0II*\0\xff\xff", b"Exif\0\0XXXXXXXX"])
def test_exif_that_cannot_be_read_is_left_out(name: str, rubbish: bytes) -> None:
    """With a note, unless Pillow has passed over it before us, as it does in JPEG."""
    description = inspect(saved(marked(), name, exif=rubbish), Limits())
    assert description.exif == Exif()
    assert description.width == 96
    noted = ("its EXIF cannot be read and is left out",)
    assert description.notes == (() if name == "JPEG" else noted)
