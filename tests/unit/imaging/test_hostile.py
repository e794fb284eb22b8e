"""Files not made in good faith cost little and end in an error of ours that says what to do."""

import subprocess
import sys
import textwrap

import pytest
from PIL import Image

from chalicelib.errors import (
    CorruptImage,
    DimensionsOutOfRange,
    EmptyFile,
    PermanentError,
    TooLarge,
    TooManyPixels,
    UnsupportedFormat,
)
from chalicelib.imaging import inspect, render
from chalicelib.model import Limits
from tests.pictures import (
    gif_of_frames,
    heic,
    jpeg_of_scans,
    marked,
    photo,
    png_chunk,
    png_claiming,
    saved,
    tiff_of,
)
from tests.unit.imaging.opened import spec

PNG = saved(marked(), "PNG")
JPEG = saved(photo(300, 200))


def refusal(file: bytes, limits: Limits | None = None) -> PermanentError:
    """The error that both functions raise for a file."""
    with pytest.raises(PermanentError) as inspected:
        inspect(file, limits or Limits())
    with pytest.raises(PermanentError) as rendered:
        render(file, [spec()], limits or Limits())
    assert str(inspected.value) == str(rendered.value)
    assert type(inspected.value) is type(rendered.value)
    return inspected.value


def test_names_the_value_and_the_limit() -> None:
    """Each message says what is too much, how much is not, and what can be done."""
    small = Limits(max_bytes=1000, max_pixels=1_000_000, max_side=2_000)
    assert isinstance(refusal(b""), EmptyFile)
    assert isinstance(refusal(bytes(1001), small), TooLarge)
    assert str(refusal(bytes(1001), small)) == (
        "1,001 bytes are over the limit of 1,000: make the file smaller or raise MAX_BYTES"
    )
    assert isinstance(refusal(png_claiming(1500, 1000), small), TooManyPixels)
    assert str(refusal(png_claiming(1500, 1000), small)) == (
        "1.5 MP is over the limit of 1 MP: make the picture smaller or raise MAX_PIXELS"
    )
    assert isinstance(refusal(png_claiming(3000, 10), small), DimensionsOutOfRange)
    assert str(refusal(png_claiming(3000, 10), small)) == (
        "3000×10: a side of 3,000 pixels is over the limit of 2,000: "
        "make the picture smaller or raise MAX_SIDE"
    )


def test_counts_the_pixels_of_all_frames() -> None:
    error = refusal(gif_of_frames(5000, 5000, 10))
    assert isinstance(error, TooManyPixels)
    assert "250 MP in 10 frames is over the limit of 100 MP" in str(error)


def webp_claiming(width: int, height: int) -> bytes:
    canvas = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBPVP8X" + (10).to_bytes(4, "little") + bytes(4) + canvas
    return b"RIFF" + len(body).to_bytes(4, "little") + body


@pytest.mark.parametrize(
    "bomb",
    [png_claiming(15_000, 15_000), gif_of_frames(15_000, 15_000, 1)],
    ids=["PNG", "GIF"],
)
def test_refuses_bombs_from_their_header(bomb: bytes) -> None:
    assert len(bomb) < 200
    assert "225 MP is over the limit of 100 MP" in str(refusal(bomb))


def test_refuses_frames_larger_than_their_canvas() -> None:
    """Pillow would fill 8 GB for these 44 bytes before anybody asked for a pixel."""
    file = bytearray(gif_of_frames(10, 10, 1))
    frame = file.index(b"\x2c")
    file[frame + 1 : frame + 9] = b"\xff" * 8
    assert isinstance(refusal(bytes(file)), DimensionsOutOfRange)
    file.insert(frame, 0)  # a stray byte, which Pillow skips and the walk stops at
    assert isinstance(refusal(bytes(file)), TooManyPixels)


def test_refuses_tiles_larger_than_any_picture() -> None:
    """For LZW libtiff takes the memory of a whole tile before it decodes the pixels that count."""
    grey = {256: 64, 257: 64, 258: 8, 259: 5, 262: 1, 277: 1}
    file = tiff_of(grey | {322: 19_984, 323: 19_984, 324: 8, 325: 64})
    assert "is over the limit of 100 MP" in str(refusal(file))


def test_holds_formats_with_hungry_decoders_to_less() -> None:
    """Pillow's WebP decoder takes three times the memory per pixel that its PNG decoder does."""
    assert "49 MP is over the limit of 33 MP for WEBP" in str(refusal(webp_claiming(7_000, 7_000)))


def bmp_claiming(width: int, height: int) -> bytes:
    file = bytearray(saved(marked(), "BMP"))
    file[18:26] = width.to_bytes(4, "little") + height.to_bytes(4, "little")
    return bytes(file)


@pytest.mark.parametrize(
    "empty", [png_claiming(0, 10), bmp_claiming(0, 64), webp_claiming(1, 1), gif_of_frames(0, 9, 0)]
)
def test_refuses_pictures_without_pixels(empty: bytes) -> None:
    assert isinstance(refusal(empty), CorruptImage)


def test_refuses_more_scans_than_any_encoder_writes() -> None:
    """Each scan of a progressive JPEG is a pass over all pixels, and may have a few bytes."""
    assert inspect(jpeg_of_scans(64, 64, 20), Limits()).format == "JPEG"
    assert "scans are over the limit of 100" in str(refusal(jpeg_of_scans(64, 64, 200)))


@pytest.mark.parametrize(
    "file",
    [
        JPEG[:2] + b"\xff\xe5\x00\x02" * 100_001 + JPEG[2:],
        JPEG[:2] + b"\xff\xe5\x00\x02" + bytes(100_001) + JPEG[2:],
        PNG[:33] + png_chunk(b"vpAg", b"") * 100_001 + PNG[33:],
    ],
    ids=["JPEG segments", "JPEG rubbish", "PNG chunks"],
)
def test_refuses_more_parts_than_any_encoder_writes(file: bytes) -> None:
    assert "more than 100,000 parts" in str(refusal(file))


def test_follows_a_circle_of_tiff_pages_once() -> None:
    file = bytearray(saved(marked(), "TIFF"))
    start = int.from_bytes(file[4:8], "little")
    link = start + 2 + 12 * int.from_bytes(file[start : start + 2], "little")
    file[link : link + 4] = file[4:8]
    assert inspect(bytes(file), Limits()).frames == 1


def test_refuses_a_book_of_empty_tiff_pages() -> None:
    pages = b"".join(
        b"\0\0" + (8 + 6 * (page + 1)).to_bytes(4, "little") for page in range(100_002)
    )
    error = refusal(b"II*\0" + (8).to_bytes(4, "little") + pages)
    assert "more than 100,000 parts" in str(error)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "HEIF", "AVIF"])
@pytest.mark.parametrize("part", [0.02, 0.3, 0.9])
def test_a_truncated_file_is_a_corrupt_image(name: str, part: float) -> None:
    picture = photo(200, 150)
    file = heic(picture) if name == "HEIF" else saved(picture, name)
    with pytest.raises(CorruptImage) as caught:
        render(file[: max(24, int(len(file) * part))], [spec()], Limits())
    assert caught.value.code == "corrupt_image"
    assert "0x" not in str(caught.value)


def test_what_a_file_is_decides() -> None:
    """A JPEG that goes on as a ZIP or a script is a JPEG, and its rendition only that."""
    tail = b"PK\3\4<script>alert(1)</script>"
    made = render(JPEG + tail, [spec()], Limits())
    assert tail not in made.renditions[0].body
    with pytest.raises(UnsupportedFormat):
        inspect(tail + JPEG, Limits())


def test_want_of_memory_is_an_error_a_person_can_act_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoders raise MemoryError for what they cannot allocate."""

    def exhausted(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", exhausted)
    with pytest.raises(TooManyPixels, match="not enough memory"):
        render(JPEG, [spec()], Limits())


MEMORY = """
    import re, resource, sys
    from pathlib import Path
    from chalicelib.config import DEFAULT_RENDITIONS, parse_renditions
    from chalicelib.imaging import render
    from chalicelib.model import Limits
    original = open(sys.argv[1], "rb").read()
    render(original, parse_renditions(DEFAULT_RENDITIONS), Limits())
    status = Path("/proc/self/status")
    if status.exists():  # maxrss counts what the parent had before exec
        print(int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) / 2**10)
    else:
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


@pytest.mark.parametrize(
    ("size", "options", "most_mb"),
    [((8660, 5774), {}, 250), ((8660, 5774), {"progressive": True}, 250)],
    ids=["baseline", "progressive"],
)
def test_50_megapixels_take_250_mb_at_most(
    tmp_path: object, size: tuple[int, int], options: dict[str, bool], most_mb: int
) -> None:
    """The peak of a fresh process, interpreter and libraries and all."""
    path = f"{tmp_path}/large.jpg"
    photo(866, 577).resize(size, Image.Resampling.NEAREST).save(path, quality=90, **options)
    command = [sys.executable, "-c", textwrap.dedent(MEMORY), path]
    peak_mb = float(subprocess.run(command, check=True, capture_output=True).stdout)
    assert peak_mb <= most_mb
