"""The few EXIF tags worth having (EXIF 2.32, JEITA CP-3451E), read as warily as they are written.

Cameras, phones and editors leave zero denominators, texts padded with NULs and dates of zeros; a
tag that makes no sense is left out, and never fails a picture.
"""

import math
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from PIL import Image
from PIL.ExifTags import GPS, IFD, Base

from chalicelib.model import Exif

_LONGEST_TEXT = 128


def read_exif(tags: Image.Exif, *, keep_gps: bool = False) -> Exif:
    """The tags as found; the place only if asked for, in degrees, north and east positive."""
    details = tags.get_ifd(IFD.Exif)
    latitude, longitude = _place(tags.get_ifd(IFD.GPSInfo)) if keep_gps else (None, None)
    return Exif(
        make=_text(tags.get(Base.Make)),
        model=_text(tags.get(Base.Model)),
        lens=_text(details.get(Base.LensModel)),
        taken_at=_moment(details.get(Base.DateTimeOriginal), details.get(Base.OffsetTimeOriginal)),
        orientation=orientation_of(tags),
        exposure_s=_number(details.get(Base.ExposureTime)),
        f_number=_number(details.get(Base.FNumber)),
        iso=_whole(details.get(Base.ISOSpeedRatings)),
        focal_length_mm=_number(details.get(Base.FocalLength)),
        latitude=latitude,
        longitude=longitude,
    )


def orientation_of(tags: Image.Exif) -> int | None:
    """The orientation tag, 1–8; None where there is none or another value."""
    value = tags.get(Base.Orientation)
    return value if isinstance(value, int) and 1 <= value <= 8 else None  # noqa: PLR2004


def _text(value: Any) -> str | None:
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    if not isinstance(value, str):
        return None
    readable = "".join(letter for letter in value.split("\x00")[0] if letter.isprintable())
    return readable.strip()[:_LONGEST_TEXT] or None


def _number(value: Any) -> float | None:
    value = value[0] if isinstance(value, tuple) and value else value
    try:
        number = float(value)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return round(number, 6) if math.isfinite(number) and number > 0 else None


def _whole(value: Any) -> int | None:
    number = _number(value)
    return None if number is None else round(number)


def _moment(value: Any, offset: Any) -> str | None:
    """ISO 8601 from ``2026:01:31 09:15:00`` and, where the camera wrote one, ``+02:00``."""
    text, zone = _text(value), _text(offset)
    if text is None:
        return None
    for moment, pattern in ((f"{text}{zone}", "%Y:%m:%d %H:%M:%S%z"), (text, "%Y:%m:%d %H:%M:%S")):
        try:
            return datetime.strptime(moment, pattern).isoformat()  # noqa: DTZ007 - often none
        except ValueError:
            continue
    return None


def _place(tags: dict[int, Any]) -> tuple[float | None, float | None]:
    latitude = _degrees(tags.get(GPS.GPSLatitude), tags.get(GPS.GPSLatitudeRef), "S", 90)
    longitude = _degrees(tags.get(GPS.GPSLongitude), tags.get(GPS.GPSLongitudeRef), "W", 180)
    return (None, None) if latitude is None or longitude is None else (latitude, longitude)


def _degrees(parts: Any, reference: Any, negative: str, most: int) -> float | None:
    if not isinstance(parts, Iterable) or isinstance(parts, str | bytes):
        return None
    try:
        degrees: float = sum(float(part) / 60.0**power for power, part in enumerate(parts))
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    if not 0 <= degrees <= most:
        return None
    return round(-degrees if _text(reference) == negative else degrees, 6)
