"""Looking at what came out."""

from io import BytesIO

from PIL import Image

from chalicelib.imaging import render
from chalicelib.model import Limits, OutputFormat, RenderedImage, RenditionSpec, ResizeMode

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
