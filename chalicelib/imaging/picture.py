"""A picture on its way from the decoder to the encoders."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Sequence

_LARGE = 500_000
"""Pixels of a result from which bicubic is sharp enough for luma.

Lanczos costs a third more. Small pictures, where every pixel counts, get it; large ones come within
0.003 of its SSIM without. The benchmark prints what each rendition has.
"""

_GAP = 2.0
"""Shrinking goes by box averages down to this multiple of the aim, and by a filter from there."""

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

Box = tuple[float, float, float, float]


@dataclass(frozen=True, slots=True)
class Picture:
    """Planes that are resampled each on a grid of its own.

    Either one plane of any mode (alpha premultiplied: ``RGBa``), or three: luma, and two of chroma
    with half the width and height. JPEG, WebP and AVIF store chroma at half size anyway (4:2:0),
    so resampling it at full size is work that the encoder throws away.
    """

    planes: tuple[Image.Image, ...]

    @classmethod
    def of(cls, image: Image.Image) -> Picture:
        """One plane; alpha becomes premultiplied, so that no fringe bleeds in when resampling."""
        return cls((image.convert("RGBa") if image.mode == "RGBA" else image,))

    @property
    def size(self) -> tuple[int, int]:
        return self.planes[0].size

    @property
    def has_alpha(self) -> bool:
        return self.planes[0].mode == "RGBa"

    @property
    def is_see_through(self) -> bool:
        """Whether any pixel lets a background through."""
        if not self.has_alpha:
            return False
        least: Any = self.planes[0].getextrema()
        return bool(least[3][0] < 255)  # noqa: PLR2004

    def flattened(self, background: str) -> Picture:
        """Without alpha, on a background of one colour (``#rrggbb``)."""
        if not self.has_alpha:
            return self
        image = self.image()
        ground = Image.new("RGB", image.size, background)
        ground.paste(image, mask=image.getchannel("A"))
        return Picture((ground,))

    def subsampled(self) -> Picture:
        """The same with chroma at half size; RGB and YCbCr only, others are left as they are."""
        image = self.planes[0]
        if len(self.planes) > 1 or image.mode not in ("RGB", "YCbCr"):
            return self
        luma, blue, red = (image if image.mode == "YCbCr" else image.convert("YCbCr")).split()
        return Picture((luma, blue, red))

    def resized(self, size: tuple[int, int], box: Box | None = None) -> Picture:
        """``box`` of the picture, in its own pixels, at another size."""
        if box is None:
            box = (0, 0, *self.size)
        if self.size == size and box == (0, 0, *size):
            return self
        width, height = self.size
        planes: list[Image.Image] = []
        for plane in self.planes:
            across, down = plane.width / width, plane.height / height
            part = (box[0] * across, box[1] * down, box[2] * across, box[3] * down)
            if planes:  # chroma: its encoder keeps less detail than a cheaper filter does
                planes.append(plane.resize(_half(size), Image.Resampling.HAMMING, part, 1.0))
            else:
                planes.append(plane.resize(size, _filter(size), part, _GAP))
        return Picture(tuple(planes))

    def turned(self, orientation: int) -> Picture:
        """Upright, from an EXIF orientation of 1–8."""
        turn = _TURNS.get(orientation)
        if turn is None:
            return self
        return Picture(tuple(plane.transpose(turn) for plane in self.planes))

    def image(self) -> Image.Image:
        """One image an encoder takes: L, RGB, RGBA or YCbCr, with no metadata."""
        if len(self.planes) == 1:
            image = self.planes[0]
            image = image.convert("RGBA") if image.mode == "RGBa" else image
        else:
            size = self.size
            image = Image.merge("YCbCr", [_enlarged(plane, size) for plane in self.planes])
        image.info = {}
        return image


def _filter(size: tuple[int, int]) -> Image.Resampling:
    large = size[0] * size[1] > _LARGE
    return Image.Resampling.BICUBIC if large else Image.Resampling.LANCZOS


def _half(size: Sequence[int]) -> tuple[int, int]:
    return (size[0] + 1) // 2, (size[1] + 1) // 2


def _enlarged(plane: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Each sample four times: the encoder's 2×2 average gives it back unchanged."""
    if plane.size == size:
        return plane
    doubled = plane.resize((plane.width * 2, plane.height * 2), Image.Resampling.NEAREST)
    return doubled if doubled.size == size else doubled.crop((0, 0, *size))
