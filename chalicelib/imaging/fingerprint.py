"""What stands for a picture: a perceptual hash, a placeholder and its colours."""

import math
from base64 import b64encode
from functools import cache
from operator import mul
from statistics import median
from typing import Any

from PIL import Image
from thash import rgba_to_thumb_hash_pure

from chalicelib.imaging.picture import ground_of
from chalicelib.model import Fingerprint

_SIDE = 32
_THUMB = 24  # a ThumbHash keeps 7 waves a side at most, and costs time by the pixel
_COLORS = 5
_OPAQUE = 128
_FAINTEST = 1.0  # what one level in one pixel of the luma may make at most


def fingerprint(image: Image.Image) -> Fingerprint:
    """All three from one small picture of the whole original (RGB or RGBA, any size)."""
    hashed = perceptual_hash(image)
    image.thumbnail((_THUMB, _THUMB), Image.Resampling.BOX)
    seen = image.convert("RGBA")
    placeholder = bytes(rgba_to_thumb_hash_pure(*seen.size, seen.tobytes()))
    return Fingerprint(hashed, b64encode(placeholder).decode(), dominant_colors(seen))


def perceptual_hash(image: Image.Image) -> str:
    """64 bits as 16 hex digits: which low frequencies of the luma are above their median.

    The cosine transform of a 32×32 luma without its first row and column, so that brightness,
    contrast and proportions do not matter (C. Zauner, Implementation and Benchmarking of Perceptual
    Image Hash Functions, 2010, 3.2.1). What is see-through is hashed on what it stands out from. Of
    one colour, or of stripes, nothing is left but rounding, whose bits would say nothing: 0.
    """
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, ground_of(image)), image)
    luma = image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX).tobytes()
    waves = _waves()
    rows = [luma[start : start + _SIDE] for start in range(0, _SIDE * _SIDE, _SIDE)]
    across = [[_product(wave, row) for row in rows] for wave in waves]
    terms = [_product(wave, column) for column in across for wave in waves]
    if max(map(abs, terms)) < _FAINTEST:
        return "0" * 16
    middle = median(terms)
    bits = "".join("1" if term > middle else "0" for term in terms)
    return f"{int(bits, 2):016x}"


def distance(one: str, other: str) -> int:
    """How many of 64 bits two perceptual hashes differ in. Up to about 10 is the same picture."""
    return (int(one, 16) ^ int(other, 16)).bit_count()


@cache
def _waves() -> tuple[tuple[float, ...], ...]:
    return tuple(
        tuple(math.cos(math.pi * (place + 0.5) * frequency / _SIDE) for place in range(_SIDE))
        for frequency in range(1, 9)
    )


def _product(wave: tuple[float, ...], samples: bytes | list[float]) -> float:
    return float(sum(map(mul, wave, samples)))


def dominant_colors(image: Image.Image) -> tuple[str, ...]:
    """Up to five colours as ``#rrggbb``, the one that covers most first; see-through parts out."""
    pixels = image.tobytes()
    solid = b"".join(
        pixels[at : at + 3] for at in range(0, len(pixels), 4) if pixels[at + 3] >= _OPAQUE
    )
    if not solid:
        return ()
    strip = Image.frombytes("RGB", (len(solid) // 3, 1), solid)
    reduced = strip.quantize(_COLORS, Image.Quantize.MEDIANCUT).convert("RGB")
    counted: Any = reduced.getcolors()
    return tuple(f"#{bytes(color).hex()}" for _, color in sorted(counted, reverse=True))
