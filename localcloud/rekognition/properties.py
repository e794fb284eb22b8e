"""Colours and quality of a picture or of a part of it (Rekognition's IMAGE_PROPERTIES)."""

import math
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import ImageColor

from localcloud.rekognition.picture import Pixels

DEFAULT_COLORS = 10
MIN_SHARE_PERCENT = 5.0
"""A colour on fewer pixels dominates nothing; the first one is always told."""

Mask = npt.NDArray[np.bool_]
"""True where a pixel counts; of the view's rows and columns."""

_SAMPLE_SIDE = 48
_SHARPNESS_SCALE = 20

_FAMILIES = {
    "black": "black",
    "grey": "darkslategrey dimgrey slategrey gray lightslategrey darkgrey silver lightgrey "
    "gainsboro",
    "white": "mistyrose antiquewhite linen beige whitesmoke lavenderblush oldlace aliceblue "
    "seashell ghostwhite honeydew floralwhite azure mintcream snow ivory white",
    "pink": "mediumvioletred deeppink palevioletred hotpink lightpink pink",
    "red": "darkred red firebrick crimson indianred lightcoral salmon darksalmon lightsalmon",
    "orange": "orangered tomato darkorange coral orange",
    "yellow": "darkkhaki gold khaki peachpuff yellow palegoldenrod moccasin papayawhip "
    "lightgoldenrodyellow lemonchiffon lightyellow",
    "brown": "maroon brown saddlebrown sienna chocolate darkgoldenrod peru rosybrown goldenrod "
    "sandybrown tan burlywood wheat navajowhite bisque blanchedalmond cornsilk",
    "green": "darkgreen green darkolivegreen forestgreen seagreen olive olivedrab mediumseagreen "
    "limegreen lime springgreen mediumspringgreen darkseagreen mediumaquamarine yellowgreen "
    "lawngreen chartreuse lightgreen greenyellow palegreen",
    "cyan": "teal darkcyan lightseagreen cadetblue darkturquoise mediumturquoise turquoise cyan "
    "aquamarine paleturquoise lightcyan",
    "blue": "midnightblue navy darkblue mediumblue blue royalblue steelblue dodgerblue "
    "deepskyblue cornflowerblue skyblue lightskyblue lightsteelblue lightblue powderblue",
    "purple": "indigo purple darkmagenta darkviolet darkslateblue blueviolet darkorchid magenta "
    "slateblue mediumslateblue mediumorchid mediumpurple orchid violet plum thistle lavender",
}
"""The colours of CSS by the family they belong to; Rekognition knows 12 families."""

_CSS = [
    (name, family, ImageColor.getrgb(name)[:3])
    for family, names in _FAMILIES.items()
    for name in names.split()
]


def _lab(rgb: cv2.typing.MatLike) -> npt.NDArray[np.float32]:
    """Rows of L*a*b*, where distances are about as large as they look."""
    lab = cv2.cvtColor(rgb.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    return lab.reshape(-1, 3).astype(np.float32)


_CSS_LAB = _lab(np.array([[rgb for _, _, rgb in _CSS]], dtype=np.uint8))


def dominant_colors(
    pixels: Pixels, limit: int = DEFAULT_COLORS, mask: Mask | None = None
) -> list[dict[str, Any]]:
    """The CSS colours most pixels are nearest to, with their share, largest first.

    Of the whole view or where the mask is true. As the service does, a colour is told by the CSS
    colour it is near to, not by its own value.
    """
    size = (min(_SAMPLE_SIDE, pixels.shape[1]), min(_SAMPLE_SIDE, pixels.shape[0]))
    sample = _lab(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA))
    if mask is not None:
        where = cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0
        sample = sample[where.ravel()]
    if not len(sample):
        return []
    # |a − b|² without |a|², which is the same for every b; einsum starts no threads of BLAS.
    distances = (_CSS_LAB**2).sum(axis=1) - 2 * np.einsum("ik,jk->ij", sample, _CSS_LAB)
    counts = np.bincount(distances.argmin(axis=1), minlength=len(_CSS))
    percents = 100 * counts / len(sample)
    order = np.argsort(-percents, kind="stable")[:limit]
    return [
        _color(int(index), float(percents[index]))
        for rank, index in enumerate(order)
        if rank == 0 or percents[index] >= MIN_SHARE_PERCENT
    ]


def _color(index: int, percent: float) -> dict[str, Any]:
    name, family, (red, green, blue) = _CSS[index]
    return {
        "Red": red,
        "Green": green,
        "Blue": blue,
        "HexCode": f"#{red:02x}{green:02x}{blue:02x}",
        "CSSColor": name,
        "SimplifiedColor": family,
        "PixelPercent": percent,
    }


def quality(pixels: Pixels, mask: Mask | None = None) -> dict[str, float]:
    """Brightness, sharpness and contrast, 0 to 100, of the whole view or where the mask is true.

    Brightness: mean luma. Contrast: its standard deviation, of the 127.5 it can be at most.
    Sharpness: 100 · (1 − e^(−σ/20)), σ the standard deviation of the Laplacian; blur that is not
    seen at the size of the view is not seen.
    """
    grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    edges = cv2.Laplacian(grey, cv2.CV_32F)
    where = np.ones(grey.shape, dtype=np.bool_) if mask is None else mask
    luma = grey[where].astype(np.float32)
    return {
        "Brightness": float(luma.mean()) / 2.55,
        "Sharpness": 100 * (1 - math.exp(-float(edges[where].std()) / _SHARPNESS_SCALE)),
        "Contrast": float(luma.std()) / 1.275,
    }
