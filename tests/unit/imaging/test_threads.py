"""Several images of a batch are rendered side by side in one process."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from chalicelib.imaging import render
from chalicelib.model import Limits, OutputFormat, Rendered
from tests.pictures import exif, heic, lying, photo, profile, saved
from tests.unit.imaging.opened import spec

SPECS = [spec(400, 400, OutputFormat.JPEG), spec(90, 90), spec(200, 200, OutputFormat.WEBP)]


def test_threads_give_what_one_thread_gives() -> None:
    files = [
        saved(lying(photo(900, 600, 1), 6), exif=exif(orientation=6).tobytes()),
        saved(photo(800, 600, 2), icc_profile=profile("p3")),
        saved(photo(500, 400, 3).convert("RGBA"), "PNG"),
        heic(photo(400, 300, 4)),
        saved(photo(700, 300, 5), "TIFF"),
        saved(photo(600, 300, 6), "AVIF"),
    ] * 3

    def made(file: bytes) -> Rendered:
        return render(file, SPECS, Limits())

    one_by_one = [made(file) for file in files]
    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(made, files)) == one_by_one


def test_systems_without_memfd_encode_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only Linux has it; elsewhere the encoder holds the interpreter's lock, and that is all."""
    file = saved(photo(300, 200))
    expected = render(file, SPECS, Limits())
    monkeypatch.delattr("os.memfd_create", raising=False)
    assert render(file, SPECS, Limits()) == expected
