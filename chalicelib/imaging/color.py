"""From the colours a file is in to sRGB.

Pictures are resampled in the colours they come in (``normal``: grey, RGB, RGBA, CMYK or LAB at 8
bits) and converted afterwards, on a fraction of the pixels. A file without a profile is taken to be
sRGB already.
"""

from collections.abc import Callable
from functools import partial
from io import BytesIO
from typing import Any

from PIL import Image, ImageChops

Conversion = Callable[[Image.Image], Image.Image]

_SPACES = {"L": "GRAY", "RGB": "RGB ", "RGBA": "RGB ", "CMYK": "CMYK", "LAB": "Lab "}
"""Which ICC colour space fits a picture of which mode (ICC.1:2022, table 19)."""

_INDISTINGUISHABLE = 2
"""Levels of 255 a profile may move a colour and still count as sRGB; rounding alone makes 1."""


def normal(image: Image.Image) -> Image.Image:
    """The same picture in a mode that can be resampled: L, RGB, RGBA, CMYK or LAB, 8 bits a band.

    Deeper greys are scaled, not clipped; palettes and colour keys become RGB, or RGBA where they
    hold transparency.
    """
    mode = image.mode
    if mode.startswith("I") or mode == "F":
        return _scaled_grey(image)
    if image.has_transparency_data:
        return image if mode == "RGBA" else _with_alpha(image)
    if mode in ("L", "RGB", "CMYK", "LAB"):
        return image
    return image.convert("L" if mode == "1" else "RGB")


def _with_alpha(image: Image.Image) -> Image.Image:
    key = image.info.get("transparency")
    if image.mode in ("L", "RGB") and key is not None:
        # 16-bit PNG keys its transparent colour with 16 bits, its pixels come with the upper 8.
        keys = key if isinstance(key, tuple) else (key,)
        if max(keys) > 255:  # noqa: PLR2004
            keys = tuple(value >> 8 for value in keys)
        image.info["transparency"] = keys if image.mode == "RGB" else keys[0]
    return image.convert("RGBA")


def _scaled_grey(image: Image.Image) -> Image.Image:
    bits = _bits(image)
    low, high = 0.0, float(2**bits - 1)
    if image.mode in ("I", "F"):
        # 32 bits say nothing of white. Whole numbers of a 16-bit range and fractions of 0–1 are
        # customary; anything else is stretched from its darkest to its brightest pixel.
        extrema: Any = image.getextrema()
        darkest, brightest = extrema
        white = 1.0 if image.mode == "F" else 65535.0
        low, high = (0.0, white) if 0 <= darkest <= brightest <= white else (darkest, brightest)
    else:
        image = image.convert("I")
    scale = 255 / (high - low) if high > low else 0.0
    return image.point(lambda value: value * scale - low * scale).convert("L")


def _bits(image: Image.Image) -> int:
    tags: Any = getattr(image, "tag_v2", {})
    return int(tags.get(258, (16,))[0])  # BitsPerSample (TIFF 6.0): 12 in some scanners' files


def to_srgb(image: Image.Image, notes: list[str]) -> Conversion | None:
    """How to get from the colours of this file to sRGB; None when they are sRGB already.

    The conversion takes what ``normal`` makes and gives RGB, or RGBA for RGBA. Profiles are applied
    by relative colorimetric intent with black-point compensation. A broken profile, or one for
    other colours than the picture's, is passed over and noted.
    """
    mode = "L" if image.mode == "LA" else _normal_mode(image)
    profile = image.info.get("icc_profile")
    if profile:
        try:
            return _conversion(profile, mode)
        except Exception as error:  # noqa: BLE001 - whatever LittleCMS makes of hostile bytes
            notes.append(f"its colour profile is left out: {error}")
    if mode == "LAB":
        return _conversion(None, mode)
    return (lambda picture: picture.convert("RGB")) if mode == "CMYK" else None


def _normal_mode(image: Image.Image) -> str:
    """The mode ``normal`` gives, told before the pixels are there."""
    if image.mode.startswith("I") or image.mode in ("F", "1", "L"):
        return "RGBA" if image.mode in ("1", "L") and image.has_transparency_data else "L"
    if image.has_transparency_data:
        return "RGBA"
    return image.mode if image.mode in ("CMYK", "LAB") else "RGB"


def _conversion(profile: bytes | None, mode: str) -> Conversion | None:
    """The transform for pictures of a mode; for LA the one of L."""
    from PIL import ImageCms  # noqa: PLC0415 - most pictures need none

    if profile is None:
        found = ImageCms.createProfile("LAB")
    else:
        found = ImageCms.ImageCmsProfile(BytesIO(profile)).profile
        if found.xcolor_space != _SPACES[mode]:
            raise ValueError(f"it is for {found.xcolor_space.strip()}, the picture is {mode}")
    target = "RGBA" if mode == "RGBA" else "RGB"
    transform = ImageCms.buildTransform(
        ImageCms.ImageCmsProfile(found),
        ImageCms.createProfile("sRGB"),
        mode,
        target,
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    if mode in ("L", "RGB", "RGBA") and _changes_nothing(transform.apply, mode):
        return None
    if found.xcolor_space == "GRAY":
        return partial(_grey_converted, transform.apply)
    return transform.apply


def _grey_converted(conversion: Conversion, image: Image.Image) -> Image.Image:
    """Grey stays one channel, alpha goes around the conversion."""
    grey = conversion(image.getchannel(0)).getchannel(0)
    if image.mode == "L":
        return grey
    return Image.merge("RGBA", (grey, grey, grey, image.getchannel("A")))


def _changes_nothing(conversion: Conversion, mode: str) -> bool:
    """Whether a conversion leaves 216 colours of the cube, or all greys, as they are."""
    if mode == "L":
        probe = Image.frombytes("L", (256, 1), bytes(range(256)))
    else:
        steps = range(0, 256, 51)
        cube = bytes(level for r in steps for g in steps for b in steps for level in (r, g, b))
        probe = Image.frombytes("RGB", (216, 1), cube).convert(mode)
    moved = ImageChops.difference(conversion(probe).convert("RGB"), probe.convert("RGB"))
    extrema: Any = moved.getextrema()
    return all(most <= _INDISTINGUISHABLE for _, most in extrema)
