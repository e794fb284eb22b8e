"""The picture that Amazon Rekognition sees.

Rekognition reads JPEG and PNG only, with 80 pixels a side or more and 5 MB or less when passed as
bytes; an upright sRGB JPEG made here lets every format and size through. Its boxes are fractions,
so they fit every rendition.
"""

from collections.abc import Iterable

from chalicelib.imaging.encoding import chosen_format, encode, encoded
from chalicelib.imaging.picture import Picture
from chalicelib.imaging.plan import Size, Target
from chalicelib.model import OutputFormat, RenderedImage, RenditionSpec, ResizeMode

PROXY = RenditionSpec("proxy", 1280, 1280, format=OutputFormat.JPEG, quality=85)
"""What is made where no rendition can stand in."""

_SHORTEST, _LONGEST, _MAX_BYTES = 80, 4096, 5 * 1024 * 1024
_LONG_ENOUGH, _GOOD_ENOUGH = 640, 70


def serves_as_proxy(target: Target, original: Size) -> bool:
    """Whether a rendition shows enough, all of the original at 640 pixels or at its own size."""
    long_enough = max(target.size) >= min(_LONG_ENOUGH, max(original))
    return target.is_whole and long_enough and target.spec.quality >= _GOOD_ENOUGH


def proxy_of(
    pictures: Iterable[tuple[RenditionSpec, Picture]], whole: Picture, background: str
) -> tuple[bytes, RenderedImage | None]:
    """The rendition that shows Rekognition enough, and it; else a JPEG made for it, and None.

    That is the smallest of 1280 pixels or more a side, or the largest there is: more pixels are
    more bytes on the way and tell no more labels.

    Sides under 80 pixels are stretched to 80 and sides over 1280 shrunk to it, each by itself:
    boxes are fractions of the sides, so even a picture of 20000×10 gets boxes that fit.
    """
    fitting = [pair for pair in pictures if _is_taken(*pair, whole.size)]
    if fitting:
        by_size = sorted(fitting, key=lambda pair: pair[1].size)
        spec, picture = next((pair for pair in by_size if _reaches(pair[1])), by_size[-1])
        stand_in = encoded(picture, spec, background)
        if len(stand_in.body) <= _MAX_BYTES:
            return stand_in.body, stand_in
    scale = min(1.0, PROXY.width / max(whole.size))
    width, height = (max(_SHORTEST, round(side * scale)) for side in whole.size)
    image = whole.flattened(background).resized((width, height)).image()
    return encode(image, OutputFormat.JPEG, PROXY.quality), None


def _reaches(picture: Picture) -> bool:
    return max(picture.size) >= PROXY.width


def _is_taken(spec: RenditionSpec, picture: Picture, whole: Size) -> bool:
    output = chosen_format(spec.format, picture.size, alpha=picture.has_alpha)
    return (
        output is OutputFormat.JPEG
        and spec.mode is ResizeMode.FIT
        and spec.quality >= _GOOD_ENOUGH
        and min(picture.size) >= _SHORTEST
        and min(_LONG_ENOUGH, max(whole)) <= max(picture.size) <= _LONGEST
    )
