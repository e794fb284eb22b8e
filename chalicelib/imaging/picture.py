"""A picture on its way from the decoder to the encoders."""

from __future__ import annotations

from dataclasses import dataclass
from operator import mul
from typing import TYPE_CHECKING, Any

from PIL import Image

from chalicelib.imaging.color import normal

if TYPE_CHECKING:
    from chalicelib.imaging.color import Conversion
    from chalicelib.imaging.plan import Box, Size

_LARGE = 500_000
"""Pixels of a result from which bicubic is sharp enough for luma.

Lanczos costs a third more. Small pictures, where every pixel counts, get it; large ones come within
0.003 of its SSIM without. The benchmark prints what each rendition has.
"""

_GAP = 2.0
"""Shrinking goes by box averages down to this multiple of the aim, and by a filter from there."""

_BAND_PIXELS = 2_000_000

_GROUNDS = (255, 0, 128)
"""What a see-through picture is shown on, in luma."""

_STANDS_OUT = 48
"""How far in luma something is from its ground at least, to be seen on it."""

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What brings each EXIF orientation upright (EXIF 2.32, tag 0x0112)."""


@dataclass(frozen=True, slots=True)
class Picture:
    """Planes that are resampled each on a grid of its own.

    Either one plane (L, RGB, CMYK, LAB, RGBA, or RGBa: premultiplied by alpha, as resampling makes
    it so that no fringe bleeds in), or three: luma, and two of chroma, which come out of every
    resampling with half the width and height. JPEG, WebP and AVIF store chroma at half size anyway
    (4:2:0); resampling it at full size is work that their encoders throw away.
    """

    planes: tuple[Image.Image, ...]

    @classmethod
    def of(cls, image: Image.Image, size: Size, box: Box, *, subsampled: bool) -> Picture:
        """``box`` of a decoded image of any mode, at another size.

        The YCbCr of a JPEG is split into its planes, as is RGB if ``subsampled``; everything else
        becomes one plane.
        """
        if image.mode == "YCbCr" and image.format in ("JPEG", "MPO"):
            return cls(image.split()).resized(size, box)
        if subsampled and image.mode == "RGB" and not image.has_transparency_data:
            _, blue, red = image.reduce(2).convert("YCbCr").split()
            return cls((image.convert("L"), blue, red)).resized(size, box)
        factor = int(min(box[2] / size[0], box[3] / size[1]) / _GAP)
        if factor > 1:
            box = (0.0, 0.0, box[2] / factor, box[3] / factor)
            return cls((_averaged(image, factor),)).resized(size, box)
        picture = cls((normal(image),)).resized(size, box)
        # A copy where nothing was changed: the pixels alone, without the file they came from.
        return cls((image.copy(),)) if picture.planes[0] is image else picture

    @property
    def size(self) -> Size:
        return self.planes[0].size

    @property
    def has_alpha(self) -> bool:
        return self.planes[0].mode in ("RGBA", "RGBa")

    @property
    def is_see_through(self) -> bool:
        """Whether any pixel of its alpha lets a background through."""
        extrema: Any = self.planes[0].getextrema()
        return bool(extrema[3][0] < 255)  # noqa: PLR2004

    def flattened(self, background: str | None = None) -> Picture:
        """Without alpha, on a background of one colour (``#rrggbb``), or on its ground."""
        if not self.has_alpha:
            return self
        image = self.image()
        ground = Image.new("RGB", image.size, background or ground_of(image))
        ground.paste(image, mask=image.getchannel("A"))
        return Picture((ground,))

    def subsampled(self) -> Picture:
        """The same in planes of luma and chroma; greys and what has alpha are left as they are."""
        if len(self.planes) > 1 or self.planes[0].mode != "RGB":
            return self
        return Picture(self.planes[0].convert("YCbCr").split())

    def resized(self, size: Size, box: Box | None = None) -> Picture:
        """``box`` of the picture, in its own pixels, at another size."""
        width, height = self.size
        left, top, right, bottom = box or (0.0, 0.0, float(width), float(height))
        if self.size == size and (right - left, bottom - top) == size:
            return self
        left, top, right, bottom = taken((left, top, right, bottom), size, self.size)
        planes: list[Image.Image] = []
        for plane in self.planes:
            across, down = plane.width / width, plane.height / height
            part = (left * across, top * down, right * across, bottom * down)
            if planes:  # chroma: encoders keep less of it than a cheaper filter does
                planes.append(plane.resize(_half(size), Image.Resampling.HAMMING, part, 1.0))
            else:
                planes.append(_premultiplied(plane).resize(size, _filter(size), part, _GAP))
        return Picture(tuple(planes))

    def turned(self, orientation: int) -> Picture:
        """Upright, from an EXIF orientation of 1–8."""
        turn = _TURNS.get(orientation)
        if turn is None:
            return self
        return Picture(tuple(plane.transpose(turn) for plane in self.planes))

    def converted(self, conversion: Conversion | None) -> Picture:
        """In the colours that a conversion of one image gives."""
        if conversion is None:
            return self
        image = self.image()
        return Picture((conversion(image.convert("RGB") if image.mode == "YCbCr" else image),))

    def image(self) -> Image.Image:
        """One image an encoder takes: L, RGB, RGBA or YCbCr, with no metadata."""
        if len(self.planes) == 1:
            plane = self.planes[0]
            image = plane.convert("RGBA") if plane.mode == "RGBa" else plane
        else:
            size = self.size
            image = Image.merge("YCbCr", [_enlarged(plane, size) for plane in self.planes])
        image.info = {}
        return image


def ground_of(image: Image.Image) -> str:
    """What least of a see-through picture (RGBA) is lost on: white, black or grey.

    Every pixel counts as much as its alpha shows of it: what cannot be seen may be of any colour.
    """
    luma, alpha = image.convert("L"), image.getchannel("A")
    shown = [0] * 256
    for bit in (1 << place for place in range(8)):
        having = alpha.point([255 if level & bit else 0 for level in range(256)])
        counts = luma.histogram(having)
        shown = [known + bit * count for known, count in zip(shown, counts, strict=True)]

    def loss(ground: int) -> tuple[int, int]:
        apart = [abs(level - ground) for level in range(256)]
        lost = sum(shown[level] for level in range(256) if apart[level] < _STANDS_OUT)
        return lost, -sum(map(mul, shown, apart))

    return "#" + 3 * f"{min(_GROUNDS, key=loss):02x}"


def taken(box: Box, size: Size, parent: Size) -> Box:
    """What is taken of a parent picture where ``box`` of it shall become ``size``.

    A fraction of a pixel is no reason to blur the whole picture: it is cut off.
    """
    left, top, right, bottom = box
    if abs(right - left - size[0]) >= 1 or abs(bottom - top - size[1]) >= 1:
        return box
    left = float(min(round(left), parent[0] - size[0]))
    top = float(min(round(top), parent[1] - size[1]))
    return left, top, left + size[0], top + size[1]


def _averaged(image: Image.Image, factor: int) -> Image.Image:
    """An image a whole number of times smaller, taken through its conversions in bands of rows.

    A palette or alpha picture of 100 megapixels would need 400 MB more to be converted at once.
    """
    if image.mode.startswith("I") or image.mode == "F":
        image = normal(image)  # may look for the darkest and the brightest pixel of all
    rows = max(1, _BAND_PIXELS // image.width // factor) * factor
    whole: Image.Image | None = None
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(image.height, top + rows)))
        reduced = _premultiplied(normal(band)).reduce(factor)
        if whole is None:
            height = -(-image.height // factor)
            whole = Image.new(reduced.mode, (reduced.width, height))
        whole.paste(reduced, (0, top // factor))
    return whole or image


def _premultiplied(image: Image.Image) -> Image.Image:
    return image.convert("RGBa") if image.mode == "RGBA" else image


def _filter(size: Size) -> Image.Resampling:
    large = size[0] * size[1] > _LARGE
    return Image.Resampling.BICUBIC if large else Image.Resampling.LANCZOS


def _half(size: Size) -> Size:
    return (size[0] + 1) // 2, (size[1] + 1) // 2


def _enlarged(plane: Image.Image, size: Size) -> Image.Image:
    """Each sample four times: the encoder's 2×2 average gives it back unchanged."""
    if plane.size == size:
        return plane
    doubled = plane.resize((plane.width * 2, plane.height * 2), Image.Resampling.NEAREST)
    return doubled if doubled.size == size else doubled.crop((0, 0, *size))
