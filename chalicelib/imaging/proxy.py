"""The picture that Amazon Rekognition sees.

Rekognition reads JPEG and PNG only, with 80 pixels a side or more and 5 MB or less when passed as
bytes (before base64); an upright sRGB JPEG made here lets every format and size through. Its boxes
are fractions of the sides, so they fit every rendition that shows the whole, however each was
scaled. What is see-through is shown on white, black or grey, whichever least of it is lost on.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from chalicelib.imaging.encoding import chosen_format, encode, encoded
from chalicelib.imaging.picture import Picture
from chalicelib.imaging.plan import Size, Target, scaled
from chalicelib.model import Feature, OutputFormat, RenderedImage, RenditionSpec, ResizeMode

_SHORTEST, _LONGEST, _MAX_BYTES = 80, 4096, 5 * 1024 * 1024
_GOOD_ENOUGH = 70
_QUALITIES = 85, 60, 35
"""Of a JPEG that is made for Rekognition, the next where one is over 5 MB.

2048×2048 pixels of noise, black or white at random, are 4.0 MB at 85.
"""


@dataclass(frozen=True, slots=True)
class Sight:
    """How much Rekognition has to be shown, by the longer side in pixels.

    A rendition of ``least_px`` will do, of ``ample_px`` shows all that can be told; ``made_px`` has
    what is made where no rendition will do.
    """

    least_px: int
    ample_px: int
    made_px: int

    def target(self, original: Size) -> Target:
        """What is decoded where no rendition will do.

        It leaves 80 pixels of a side that has them. No rendition can have its name.
        """
        spec = RenditionSpec("the proxy", self.made_px, self.made_px, format=OutputFormat.JPEG)
        scale = min(1.0, max(self.made_px / max(original), _SHORTEST / min(original)))
        return Target(spec, scaled(original, scale), scale)

    def is_served_by(self, target: Target, original: Size) -> bool:
        """Whether what is decoded for a rendition is enough for Rekognition as well."""
        long_enough = max(target.size) >= self._least(original)
        wide_enough = min(target.size) >= min(_SHORTEST, *original)
        return target.is_whole and long_enough and wide_enough

    def takes(self, spec: RenditionSpec, picture: Picture, whole: Size) -> bool:
        """Whether a rendition may be shown to Rekognition as it is."""
        output = chosen_format(spec.format, picture.size, alpha=picture.has_alpha)
        return (
            output is OutputFormat.JPEG
            and not picture.has_alpha  # as a JPEG it stands on any background
            and spec.mode is ResizeMode.FIT
            and spec.quality >= _GOOD_ENOUGH
            and min(picture.size) >= _SHORTEST
            and self._least(whole) <= max(picture.size) <= _LONGEST
        )

    def _least(self, whole: Size) -> float:
        return min(self.least_px, _NEARLY * max(whole))


_NEARLY = 0.9
"""A rendition that is a tenth smaller than the original stands in for it."""

COARSE = Sight(least_px=640, ample_px=1280, made_px=1280)
"""For labels, which are of things that take a good part of the picture."""

FINE = Sight(least_px=1728, ample_px=1728, made_px=2048)
"""For faces and text. Rekognition finds faces of 40 pixels and text of 14 points in a picture of
1920×1080, and in larger ones what is larger in proportion ("Guidelines and quotas", "Detecting
text"). So 1920 pixels show all that it can tell, and 1728 are what the decoder's own scale may
leave of them. Of 30 words of 14 points Tesseract reads none at 960 pixels, 19 at 1280 and 29 at
1920 (``python -m benchmarks.proxy --sizes``).

Half of a photo of 4000 pixels fits a box of 2048 as the decoder makes it, and has to be resized to
fit one of 1920: 56 ms instead of 82, for 480 KB instead of 430. With 1280 it was 62 ms and 210 KB.
"""

_FINE_FEATURES = {Feature.FACES, Feature.TEXT, Feature.CELEBRITIES}


def sight_for(features: Collection[Feature]) -> Sight:
    """How much has to be shown to whoever is asked for these."""
    return FINE if _FINE_FEATURES & set(features) else COARSE


def proxy_of(
    pictures: Iterable[tuple[RenditionSpec, Picture]],
    whole: Picture,
    background: str,
    sight: Sight,
) -> tuple[bytes, RenderedImage | None]:
    """What Rekognition is shown, and the rendition that was encoded to find out, if any.

    That is the smallest rendition that is ample, or the largest that will do: more pixels are more
    bytes on the way and tell no more. Where there is none, a JPEG is made for it; likewise where
    the rendition is over 5 MB. Then the size goes down before the quality does: 4096 pixels of
    quality 75 take four times the time that 2048 of 85 take, and noise is still over 5 MB.

    In what is made, sides under 80 pixels are stretched to 80 and longer ones shrunk, each by
    itself: boxes are fractions of the sides, so even a picture of 20000×10 gets boxes that fit.
    """
    fitting = [pair for pair in pictures if sight.takes(*pair, whole.size)]
    stand_in = None
    if fitting:
        by_size = sorted(fitting, key=lambda pair: max(pair[1].size))
        ample = (pair for pair in by_size if max(pair[1].size) >= sight.ample_px)
        spec, picture = next(ample, by_size[-1])
        stand_in = encoded(picture, spec, background)
        if len(stand_in.body) <= _MAX_BYTES:
            return stand_in.body, stand_in
    return _made(whole.flattened(), sight.made_px), stand_in


def _made(whole: Picture, longest: int) -> bytes:
    scale = min(1.0, longest / max(whole.size))
    width, height = (max(_SHORTEST, round(side * scale)) for side in whole.size)
    image = whole.resized((width, height)).image()
    bodies = (encode(image, OutputFormat.JPEG, quality) for quality in _QUALITIES)
    small = (body for body in bodies if len(body) <= _MAX_BYTES)
    return next(small, None) or _made(whole, longest // 2)
