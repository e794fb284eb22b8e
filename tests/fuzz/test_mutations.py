"""Whatever becomes of a file's bytes, it is rendered or refused by an error of this project.

Bounded to a few seconds and always the same in a normal run; ``FUZZ_EXAMPLES=20000 pytest
tests/fuzz`` looks further, at random.
"""

import os
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from chalicelib.errors import PermanentError
from chalicelib.imaging import inspect, render
from chalicelib.model import Limits, OutputFormat, RenditionSpec, ResizeMode
from tests.pictures import exif, gradient, heic, marked, photo, profile, saved

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "40"))
LIMITS = Limits(max_pixels=1_000_000, max_side=5_000)
SPECS = [
    RenditionSpec("jpeg", 40, 40, format=OutputFormat.JPEG),
    RenditionSpec("auto", 20, 20, ResizeMode.COVER),
]
TAGS = exif(orientation=6, gps=True).tobytes()
PICTURE = photo(64, 48)

SEEDS: dict[str, Callable[[], bytes]] = {
    "jpeg": lambda: saved(PICTURE, exif=TAGS, icc_profile=profile("p3"), comment=b"c"),
    "jpeg-progressive": lambda: saved(PICTURE, progressive=True),
    "jpeg-cmyk": lambda: saved(PICTURE.convert("CMYK"), icc_profile=profile("cmyk")),
    "mpo": lambda: saved(PICTURE, "MPO", save_all=True, append_images=[marked()]),
    "png": lambda: saved(PICTURE, "PNG", exif=TAGS, icc_profile=profile("adobe")),
    "png-palette": lambda: saved(PICTURE.quantize(16), "PNG", transparency=3),
    "png-16-bit": lambda: saved(gradient("I;16", (48, 32)), "PNG"),
    "apng": lambda: saved(PICTURE, "PNG", save_all=True, append_images=[marked(64, 48)]),
    "webp": lambda: saved(PICTURE, "WEBP", exif=TAGS),
    "webp-animated": lambda: saved(PICTURE, "WEBP", save_all=True, append_images=[marked(64, 48)]),
    "gif": lambda: saved(PICTURE, "GIF", save_all=True, append_images=[marked(64, 48)]),
    "tiff": lambda: saved(PICTURE, "TIFF", exif=TAGS),
    "tiff-lzw": lambda: saved(PICTURE, "TIFF", compression="tiff_lzw"),
    "tiff-jpeg": lambda: saved(PICTURE, "TIFF", compression="jpeg"),
    "tiff-float": lambda: saved(gradient("F", (48, 32)), "TIFF"),
    "bmp": lambda: saved(PICTURE, "BMP"),
    "heic": lambda: heic(PICTURE, exif=TAGS),
    "avif": lambda: saved(PICTURE, "AVIF", exif=TAGS),
}


@some.composite
def mutated(draw: some.DrawFn, seed: bytes) -> bytes:
    """A file with bytes changed, cut out, doubled or cut off, mostly in its first kilobyte."""
    file = bytearray(seed)
    for _ in range(draw(some.integers(1, 4))):
        reach = len(file) if draw(some.booleans()) else min(len(file), 1024)
        at = draw(some.integers(0, max(0, reach - 1)))
        size = draw(some.sampled_from((1, 1, 2, 4, 16)))
        match draw(some.sampled_from(("change", "change", "number", "cut", "double", "end"))):
            case "change":
                file[at : at + size] = draw(some.binary(min_size=size, max_size=size))
            case "number":
                extreme = (b"\0" * size, b"\xff" * size, b"\x7f" + b"\xff" * (size - 1))
                file[at : at + size] = draw(some.sampled_from(extreme))
            case "cut":
                del file[at : at + size]
            case "double":
                file[at:at] = file[at : at + 8 * size]
            case "end":
                del file[at:]
    return bytes(file)


@pytest.mark.filterwarnings(r"ignore:::PIL\.")
@pytest.mark.parametrize("kind", SEEDS)
def test_is_rendered_or_refused_by_name(kind: str) -> None:
    """No bare Pillow, struct or memory error, no crash, and nothing rendered out of its box."""
    seed = SEEDS[kind]()

    @settings(
        max_examples=EXAMPLES,
        derandomize="FUZZ_EXAMPLES" not in os.environ,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(mutated(seed))
    def holds(file: bytes) -> None:
        with suppress(PermanentError):
            check(file)

    def check(file: bytes) -> None:
        description = inspect(file, LIMITS, keep_gps=True)
        rendered = render(file, SPECS, LIMITS)
        assert description.width * description.height <= LIMITS.max_pixels
        assert all(max(each.width, each.height) <= 40 for each in rendered.renditions)

    render(seed, SPECS, LIMITS)
    holds()
