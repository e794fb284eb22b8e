"""The picture that Amazon Rekognition sees.

Rekognition reads JPEG and PNG only, with 80 pixels a side or more and 5 MB or less when passed as
bytes; an upright sRGB JPEG made here lets every format and size through. Its boxes are fractions,
so they fit every rendition.
"""

from collections.abc import Sequence

from chalicelib.imaging.encoding import encode
from chalicelib.imaging.picture import Picture
from chalicelib.model import OutputFormat, RenderedImage, RenditionSpec

PROXY = RenditionSpec("proxy", 1280, 1280, format=OutputFormat.JPEG, quality=85)
"""What is made where no rendition can stand in."""

PROXY_SIDE_ENOUGH = 640
_SHORTEST, _LONGEST, _MAX_BYTES = 80, 4096, 5 * 1024 * 1024


def proxy_of(whole: Sequence[RenderedImage], largest: Picture, background: str) -> bytes:
    """The largest JPEG rendition of the whole picture if it will do, else one made for it.

    Sides under 80 pixels are stretched to 80 and sides over 1280 shrunk to it, each by itself:
    boxes are fractions of the sides, so even a picture of 20000×10 gets boxes that fit.
    """
    for rendition in whole:
        if (
            rendition.format is OutputFormat.JPEG
            and min(rendition.width, rendition.height) >= _SHORTEST
            and PROXY_SIDE_ENOUGH <= max(rendition.width, rendition.height) <= _LONGEST
            and len(rendition.body) <= _MAX_BYTES
        ):
            return rendition.body
    width, height = largest.size
    scale = min(1.0, PROXY.width / max(width, height))
    size = max(_SHORTEST, round(width * scale)), max(_SHORTEST, round(height * scale))
    image = largest.flattened(background).resized(size).image()
    return encode(image, OutputFormat.JPEG, PROXY.quality)
