"""Looking at what came out."""

from io import BytesIO

from PIL import Image

from chalicelib.imaging import render
from chalicelib.model import (
    BoundingBox,
    Limits,
    OutputFormat,
    RenderedImage,
    RenditionSpec,
    ResizeMode,
)

Pixel = tuple[int, ...]


def opened(body: bytes) -> Image.Image:
    image = Image.open(BytesIO(body))
    image.load()
    return image


def spec(
    width: int = 128,
    height: int = 128,
    output: OutputFormat = OutputFormat.PNG,
    mode: ResizeMode = ResizeMode.FIT,
    quality: int = 90,
) -> RenditionSpec:
    return RenditionSpec(f"{output}-{width}x{height}-{mode}", width, height, mode, output, quality)


def rendition(original: bytes, wish: RenditionSpec | None = None, **options: str) -> RenderedImage:
    """The one rendition of an original; lossless, 128 pixels at most, unless asked otherwise."""
    (made,) = render(original, [wish or spec()], Limits(), **options).renditions
    return made


def pixels(
    original: bytes, *places: tuple[int, int], wish: RenditionSpec | None = None
) -> list[Pixel]:
    """Colours of one rendition at these places."""
    image = opened(rendition(original, wish).body)
    return [image.getpixel(place) for place in places]  # type: ignore[misc]


def near(one: Pixel, other: Pixel, levels: int) -> bool:
    """Whether no channel differs by more than so many levels of 255."""
    return all(abs(a - b) <= levels for a, b in zip(one, other, strict=True))


def mark_in(image: Image.Image) -> BoundingBox:
    """Where the light of a picture is that is dark or see-through otherwise."""
    if image.mode == "RGBA":
        image = Image.alpha_composite(Image.new("RGBA", image.size, "black"), image)
    light = image.convert("L").point(lambda level: 255 if level > 127 else 0).getbbox()
    assert light, "there is no mark"
    left, top, right, bottom = light
    across, down = image.size
    return BoundingBox(left / across, top / down, (right - left) / across, (bottom - top) / down)


def apart_px(one: BoundingBox, other: BoundingBox, size: tuple[int, int]) -> tuple[float, float]:
    """How many pixels of a picture the edges of two boxes are apart at most, across and down."""
    across = one.left - other.left, one.left + one.width - other.left - other.width
    down = one.top - other.top, one.top + one.height - other.top - other.height
    return max(map(abs, across)) * size[0], max(map(abs, down)) * size[1]
