"""Which formats come in and go out, and how they are told apart.

What a file is decides, never its name or Content-Type. Only formats listed here reach a decoder,
so that Pillow's rarer ones (EPS, PDF, FLI, …) cannot be attacked through an upload.
"""

from importlib import import_module
from types import MappingProxyType

from chalicelib.errors import UnsupportedFormat
from chalicelib.model import OutputFormat

PLUGINS = MappingProxyType(
    {
        "JPEG": "PIL.JpegImagePlugin",
        "PNG": "PIL.PngImagePlugin",
        "WEBP": "PIL.WebPImagePlugin",
        "GIF": "PIL.GifImagePlugin",
        "TIFF": "PIL.TiffImagePlugin",
        "BMP": "PIL.BmpImagePlugin",
        "HEIF": "pillow_heif.as_plugin",
        "AVIF": "PIL.AvifImagePlugin",
    }
)
"""The formats that come in, by Pillow's names, and the module that reads each."""

_SIGNATURES = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF87a", "GIF"),
    (b"GIF89a", "GIF"),
    (b"II*\x00", "TIFF"),
    (b"MM\x00*", "TIFF"),
    (b"II+\x00", "TIFF"),  # BigTIFF
    (b"MM\x00+", "TIFF"),
    (b"BM", "BMP"),
)

_REFUSED = (
    (b"%PDF", "a PDF document"),
    (b"%!PS", "a PostScript file"),
    (b"\xc5\xd0\xd3\xc6", "a PostScript file"),
    (b"8BPS", "a Photoshop file"),
    (b"PK\x03\x04", "a ZIP archive"),
    (b"<?xml", "an XML or SVG file"),
    (b"<svg", "an SVG file"),
    (b"\x00\x00\x00\x0cjP  ", "a JPEG 2000 picture"),
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\x00\x00\x01\x00", "an icon"),
)

_AVIF_BRANDS = {b"avif", b"avis"}
_HEIF_BRANDS = {b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs", b"mif1"}


def input_format(original: bytes) -> str:
    """Pillow's name of the format that the first bytes tell.

    Raises UnsupportedFormat for all that is not in the list.
    """
    for signature, name in _SIGNATURES:
        if original.startswith(signature):
            return name
    if original[:4] == b"RIFF" and original[8:12] == b"WEBP":
        return "WEBP"
    if original[4:8] == b"ftyp":
        brands = _brands(original)
        if brands & _AVIF_BRANDS:
            return "AVIF"
        if brands & _HEIF_BRANDS:
            return "HEIF"
    found = next((name for start, name in _REFUSED if original.startswith(start)), None)
    raise UnsupportedFormat(
        f"this is {found or 'no picture of a known format'}: "
        "upload a JPEG, PNG, WebP, GIF, TIFF, BMP, HEIC or AVIF file"
    )


def _brands(original: bytes) -> set[bytes]:
    """Major and compatible brands of an ISO base media file (ISO/IEC 14496-12, 4.3)."""
    end = min(int.from_bytes(original[:4], "big"), 256)
    return {original[8:12]} | {original[at : at + 4] for at in range(16, end - 3, 4)}


def load_plugin(name: str) -> None:
    """Makes Pillow able to read ``name``, importing that one plugin and no other."""
    if name == "HEIF":
        # Thumbnails and auxiliary pictures are off: only the primary picture is decoded.
        from pillow_heif import register_heif_opener  # noqa: PLC0415 - 27 MB of libraries

        register_heif_opener(thumbnails=False, depth_images=False, aux_images=False)
    else:
        import_module(PLUGINS[name])


def content_type(output: OutputFormat) -> str:
    """The media type of a rendition. AUTO has none: a rendition always tells what it became."""
    _not_auto(output)
    return f"image/{output.value}"


def extension(output: OutputFormat) -> str:
    """The file extension of a rendition, without a dot: ``jpg``, ``png``, ``webp``, ``avif``."""
    _not_auto(output)
    return "jpg" if output is OutputFormat.JPEG else output.value


def _not_auto(output: OutputFormat) -> None:
    if output is OutputFormat.AUTO:
        raise ValueError("AUTO is a wish, not a format: ask the rendition what it became")
