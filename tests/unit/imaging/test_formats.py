"""Every format that may come in does, whatever it is called; everything else is refused by name."""

import struct
import zlib
from collections.abc import Callable

import pytest
from PIL import Image

from chalicelib.errors import UnsupportedFormat
from chalicelib.imaging import content_type, extension, inspect, render
from chalicelib.model import Limits, OutputFormat
from tests.pictures import gif_of_frames, gradient, heic, marked, photo, png_chunk, saved
from tests.unit.imaging.opened import near, opened, pixels, rendition, spec

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
QUARTERS = (10, 10), (85, 10), (10, 55), (85, 55)


def cmyk() -> Image.Image:
    return marked().convert("CMYK")


def without_adobe_marker(jpeg: bytes) -> bytes:
    """A CMYK JPEG as other encoders write it: not inverted, no marker that says so."""
    start = jpeg.index(b"\xff\xee")
    return jpeg[:start] + jpeg[start + 2 + int.from_bytes(jpeg[start + 2 : start + 4], "big") :]


def mpo() -> bytes:
    return saved(marked(), "MPO", save_all=True, append_images=[marked()], quality=95)


COLORFUL: dict[str, Callable[[], bytes]] = {
    "JPEG baseline": lambda: saved(marked(), quality=95),
    "JPEG progressive": lambda: saved(marked(), quality=95, progressive=True),
    "JPEG 4:4:4": lambda: saved(marked(), quality=95, subsampling=0),
    "JPEG 4:2:2": lambda: saved(marked(), quality=95, subsampling=1),
    "JPEG stored as RGB": lambda: saved(marked(), quality=95, keep_rgb=True),
    "JPEG CMYK, inverted by Adobe": lambda: saved(cmyk(), quality=95),
    "JPEG CMYK, not inverted": lambda: without_adobe_marker(
        saved(Image.eval(cmyk(), lambda level: 255 - level), quality=95)
    ),
    "MPO": mpo,
    "PNG": lambda: saved(marked(), "PNG"),
    "PNG palette": lambda: saved(marked().quantize(8), "PNG"),
    "PNG alpha": lambda: saved(marked().convert("RGBA"), "PNG"),
    "WebP": lambda: saved(marked(), "WEBP", quality=95),
    "WebP lossless": lambda: saved(marked(), "WEBP", lossless=True),
    "WebP animated": lambda: saved(
        marked(), "WEBP", save_all=True, append_images=[photo(96, 64)], quality=95
    ),
    "GIF": lambda: saved(marked(), "GIF"),
    "GIF animated": lambda: saved(marked(), "GIF", save_all=True, append_images=[photo(96, 64)]),
    "TIFF": lambda: saved(marked(), "TIFF"),
    "TIFF LZW": lambda: saved(marked(), "TIFF", compression="tiff_lzw"),
    "TIFF JPEG": lambda: saved(marked(), "TIFF", compression="jpeg", quality=95),
    "TIFF CMYK": lambda: saved(cmyk(), "TIFF"),
    "TIFF pages": lambda: saved(marked(), "TIFF", save_all=True, append_images=[photo(96, 64)]),
    "BigTIFF": lambda: saved(marked(), "TIFF", big_tiff=True),
    "BMP": lambda: saved(marked(), "BMP"),
    "BMP palette": lambda: saved(marked().quantize(8), "BMP"),
    "HEIC": lambda: heic(marked(), quality=95),
    "AVIF": lambda: saved(marked(), "AVIF", quality=95),
}


@pytest.mark.parametrize("kind", COLORFUL)
def test_shows_the_picture_whatever_it_is_stored_as(kind: str) -> None:
    """Colours come within 12 levels: the lossy ones among these move them by up to 8."""
    found = pixels(COLORFUL[kind](), *QUARTERS)
    for pixel, expected in zip(found, (RED, GREEN, BLUE, WHITE), strict=True):
        assert near(pixel[:3], expected, 12), kind


GREY: dict[str, Callable[[], bytes]] = {
    "JPEG": lambda: saved(gradient("L"), quality=95),
    "PNG 8 bit": lambda: saved(gradient("L"), "PNG"),
    "PNG 16 bit": lambda: saved(gradient("I;16"), "PNG"),
    "PNG with alpha": lambda: saved(gradient("L").convert("LA"), "PNG"),
    "TIFF 16 bit": lambda: saved(gradient("I;16"), "TIFF"),
    "TIFF 32 bit": lambda: saved(gradient("I"), "TIFF"),
    "TIFF float": lambda: saved(gradient("F"), "TIFF"),
}


@pytest.mark.parametrize("kind", GREY)
def test_scales_deep_greys_instead_of_clipping_them(kind: str) -> None:
    """A ramp from black to white stays one, within 3 levels of 255."""
    image = opened(rendition(GREY[kind](), spec(256, 256)).body).convert("L")
    for place in (0, 64, 128, 192, 255):
        assert near((image.getpixel((place, 32)),), (place,), 3), kind  # type: ignore[arg-type]


def test_scales_deep_greys_before_averaging_them() -> None:
    """White is looked for in the whole picture, not in each band of it."""
    for mode in ("I;16", "F"):
        file = saved(gradient(mode, (3000, 1500)), "TIFF")
        image = opened(rendition(file, spec(640, 640)).body)
        assert near((image.getpixel((2, 9)), image.getpixel((637, 9))), (0, 255), 3)  # type: ignore[arg-type]


def test_reads_one_bit_pictures_as_grey() -> None:
    half = Image.new("1", (64, 64))
    half.paste(1, (32, 0, 64, 64))
    assert pixels(saved(half, "PNG"), (8, 8), (56, 8)) == [0, 255]


def test_keys_16_bit_colours_out() -> None:
    """A 16-bit PNG names its transparent colour with 16 bits, of which Pillow keeps 8."""
    plain = saved(Image.new("RGB", (32, 32), (255, 0, 0)), "PNG")
    keyed = plain[:33] + png_chunk(b"tRNS", b"\xff\xff\0\0\0\0") + plain[33:]
    assert inspect(keyed, Limits()).has_alpha
    assert pixels(keyed, (8, 8))[0][3] == 0


def test_interlaced_png() -> None:
    """Made by hand: Pillow does not write Adam7. One pixel is one pass of one row."""
    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 1)
    body = png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(b"\0\xff\x80\0"))
    file = b"\x89PNG\r\n\x1a\n" + body + png_chunk(b"IEND", b"")
    assert pixels(file, (0, 0)) == [(255, 128, 0)]


@pytest.mark.parametrize(
    ("file", "name", "frames"),
    [
        (saved(marked()), "JPEG", 1),
        (mpo(), "JPEG", 2),
        (COLORFUL["GIF animated"](), "GIF", 2),
        (gif_of_frames(10, 10, 300), "GIF", 300),
        (COLORFUL["WebP animated"](), "WEBP", 2),
        (COLORFUL["TIFF pages"](), "TIFF", 2),
        (saved(marked(), "PNG", save_all=True, append_images=[photo(96, 64)] * 2), "PNG", 3),
        (saved(marked(), "AVIF", save_all=True, append_images=[photo(96, 64)]), "AVIF", 2),
    ],
)
def test_counts_frames_and_renders_the_first(file: bytes, name: str, frames: int) -> None:
    description = inspect(file, Limits())
    assert (description.format, description.frames) == (name, frames)
    if frames > 1:
        assert description.notes == (f"of its {frames} frames the first is rendered",)


def test_describes_what_the_header_tells() -> None:
    file = saved(photo(120, 80), "PNG")
    description = inspect(file, Limits())
    assert (description.width, description.height) == (120, 80)
    assert (description.size_bytes, description.color_mode) == (len(file), "RGB")
    assert not description.has_alpha


REFUSED = {
    "a PostScript file": b"%!PS-Adobe-3.0 EPSF-3.0\n",
    "a PDF document": b"%PDF-1.7\n",
    "an SVG file": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "a Photoshop file": b"8BPS\0\1",
    "a ZIP archive": b"PK\3\4",
    "no picture of a known": b"\0\0\0\x18ftypisom\0\0\2\0isommp42",
    "a JPEG 2000 picture": b"\0\0\0\x0cjP  \r\n\x87\n",
    "no picture of a known format": b"\0\0\0\0 whatever",
}


@pytest.mark.parametrize("what", REFUSED)
def test_refuses_other_formats_by_their_name(what: str) -> None:
    for call in (inspect, lambda file, limits: render(file, [spec()], limits)):
        with pytest.raises(UnsupportedFormat, match=what):
            call(REFUSED[what] + bytes(64), Limits())


@pytest.mark.parametrize("name", ["PPM", "ICO", "TGA", "SGI", "PCX", "JPEG2000"])
def test_refuses_formats_that_pillow_could_read(name: str) -> None:
    """The list is of what is allowed, not of what is known to be bad."""
    with pytest.raises(UnsupportedFormat, match="upload a JPEG, PNG"):
        inspect(saved(marked(64, 64), name), Limits())


def test_says_what_each_output_is_served_as() -> None:
    kinds = [each for each in OutputFormat if each is not OutputFormat.AUTO]
    assert [content_type(each) for each in kinds] == [
        "image/jpeg",
        "image/png",
        "image/webp",
        "image/avif",
    ]
    assert [extension(each) for each in kinds] == ["jpg", "png", "webp", "avif"]
    for question in (content_type, extension):
        with pytest.raises(ValueError, match="AUTO"):
            question(OutputFormat.AUTO)


@pytest.mark.parametrize("output", [each for each in OutputFormat if each != "auto"])
@pytest.mark.parametrize("kind", ["JPEG baseline", "PNG alpha", "JPEG CMYK, inverted by Adobe"])
def test_encodes_what_was_asked_for(kind: str, output: OutputFormat) -> None:
    made = rendition(COLORFUL[kind](), spec(output=output))
    assert made.format is output
    image = opened(made.body)
    assert image.format == output.value.upper()
    assert near(image.convert("RGB").getpixel((85, 55)), WHITE, 12)  # type: ignore[arg-type]


def test_jpeg_renditions_store_chroma_at_half_size() -> None:
    """4:2:0: luma in 2×2 blocks for each of chroma (T.81, B.2.2)."""
    image = opened(rendition(COLORFUL["PNG"](), spec(output=OutputFormat.JPEG)).body)
    assert [(across, down) for _, across, down, _ in image.layer] == [(2, 2), (1, 1), (1, 1)]  # type: ignore[attr-defined]
