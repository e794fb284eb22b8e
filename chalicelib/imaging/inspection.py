"""What the header of an original tells."""

from chalicelib.imaging.exif import read_exif
from chalicelib.imaging.source import open_source
from chalicelib.model import Description, Exif, Limits


def inspect(original: bytes, limits: Limits, *, keep_gps: bool = False) -> Description:
    """The header of an original; no pixel is decoded.

    ``keep_gps`` lets the place the photo was taken at into the EXIF. Raises PermanentError
    (EmptyFile, TooLarge, UnsupportedFormat, CorruptImage, DimensionsOutOfRange, TooManyPixels)
    for what is not fit to be rendered.
    """
    source = open_source(original, limits)
    notes = list(source.notes)
    try:
        exif = read_exif(source.tags, keep_gps=keep_gps)
    except Exception:  # noqa: BLE001 - whatever a parser makes of hostile tags
        exif = Exif(orientation=source.orientation)
        notes.append("its EXIF cannot be read and is left out")
    if source.frames > 1:
        notes.append(f"of its {source.frames:,} frames the first is rendered")
    return Description(
        format=source.format,
        width=source.width,
        height=source.height,
        size_bytes=len(original),
        color_mode=source.image.mode,
        frames=source.frames,
        has_alpha=source.image.has_transparency_data,
        exif=exif,
        notes=tuple(notes),
    )
