"""Pictures for tests, made in code: deterministic, of any size, format and oddity."""

import random
from io import BytesIO
from typing import Any

from PIL import Image, ImageDraw

_COLORFUL = 64


def photo(width: int, height: int, seed: int = 1) -> Image.Image:
    """An RGB picture with the spectrum of a photo: soft light, texture at every scale, hard edges.

    The same for the same seed and size, and the same scene (up to texture) at every size.
    """
    dice = random.Random(seed)  # noqa: S311 - pictures need no secrets
    picture = Image.new("RGB", (width, height), (128, 118, 104))
    side, strength = 4, 0.5
    while side < max(width, height):
        # Like most scenes: colour changes slowly, texture is light and shade.
        mode, size = ("RGB" if side < _COLORFUL else "L"), (side, side * 3 // 4)
        bytes_a_pixel = len(mode)
        grain = Image.frombytes(mode, size, dice.randbytes(size[0] * size[1] * bytes_a_pixel))
        grain = grain.resize((width, height), Image.Resampling.BICUBIC).convert("RGB")
        picture = Image.blend(picture, grain, strength)
        side, strength = side * 2, strength * 0.78
    dice = random.Random(seed)  # noqa: S311 - afresh, so that the scene is the same at every size
    draw = ImageDraw.Draw(picture)
    for _ in range(24):
        x, y = dice.uniform(0, width), dice.uniform(0, height)
        reach = dice.uniform(0.02, 0.16) * min(width, height)
        color = tuple(dice.randrange(256) for _ in range(3))
        shape = dice.choice((draw.ellipse, draw.rectangle))
        shape((x, y, x + reach, y + reach * dice.uniform(0.3, 1.5)), fill=color)
    return picture


def saved(picture: Image.Image, format: str = "JPEG", **options: Any) -> bytes:  # noqa: A002
    """A picture as the bytes of a file."""
    buffer = BytesIO()
    picture.save(buffer, format, **options)
    return buffer.getvalue()
