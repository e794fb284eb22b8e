"""Where to look when a picture has to be cropped and nobody says what matters in it."""

from itertools import accumulate

from PIL import Image, ImageFilter

from chalicelib.imaging.picture import Picture
from chalicelib.imaging.plan import scaled
from chalicelib.model import BoundingBox

_SIDE = 64


def strongest_detail(picture: Picture) -> BoundingBox:
    """The point with as much edge to its left as to its right, and above as below.

    A box without extent. The middle, where there is no edge at all.
    """
    small = picture.resized(scaled(picture.size, min(1.0, _SIDE / max(picture.size)))).image()
    edges = small.convert("L").filter(ImageFilter.FIND_EDGES)
    across, down = edges.width, edges.height
    edges = edges.crop((1, 1, max(2, across - 1), max(2, down - 1)))  # a frame is no detail
    columns = edges.resize((edges.width, 1), Image.Resampling.BOX).tobytes()
    rows = edges.resize((1, edges.height), Image.Resampling.BOX).tobytes()
    return BoundingBox(left=_median(columns), top=_median(rows), width=0, height=0)


def _median(weights: bytes) -> float:
    """Where the half of all weight is reached, 0–1."""
    if not any(weights):
        return 0.5
    sums = list(accumulate(weights))
    place = next(index for index, total in enumerate(sums) if total * 2 >= sums[-1])
    return (place + 0.5) / len(weights)
