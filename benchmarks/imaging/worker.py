"""``worker.py``: every Python way of making renditions, driven by lines of JSON.

Each line names a ``way``, a ``file`` and ``boxes`` ([width, height, cover]); the answer holds the
CPU and wall time in milliseconds, the bytes of each rendition, and the peak memory of the process
in MB. ``threads`` images are made at once when more than 1. With ``into``, what the encoders were
given is written there as PNG, and nothing is measured.
"""

import json
import re
import resource
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from PIL import Image, ImageOps

from chalicelib.imaging import encoding, plan, rendering
from chalicelib.model import Limits, OutputFormat, RenditionSpec, ResizeMode

LANCZOS = Image.Resampling.LANCZOS
QUALITY = 80
Boxes = list[tuple[int, int, bool]]
Encode = Callable[[Image.Image], bytes]


def encoded(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY)
    return buffer.getvalue()


def opened(original: bytes) -> Image.Image:
    if original[4:8] == b"ftyp":
        from pillow_heif import register_heif_opener  # noqa: PLC0415

        register_heif_opener()
    return Image.open(BytesIO(original))


def ours(original: bytes, boxes: Boxes, _: Encode) -> list[bytes]:
    """The project's own package; what it does beside renditions is counted as well."""
    modes = ResizeMode.FIT, ResizeMode.COVER
    specs = [
        RenditionSpec(f"{width}", width, height, modes[cover], OutputFormat.JPEG, QUALITY)
        for width, height, cover in boxes
    ]
    return [each.body for each in rendering.render(original, specs, Limits()).renditions]


def ours_exact(original: bytes, boxes: Boxes, encode: Encode) -> list[bytes]:
    """The same, held to the exact size where an "at most" rendition would take the decoder's."""
    tolerance, plan._TOLERANCE = plan._TOLERANCE, 1.0  # noqa: SLF001
    try:
        return ours(original, boxes, encode)
    finally:
        plan._TOLERANCE = tolerance  # noqa: SLF001


def naive(original: bytes, boxes: Boxes, encode: Encode) -> list[bytes]:
    """Decode in full, and resize with Lanczos for each rendition."""
    image = ImageOps.exif_transpose(opened(original)).convert("RGB")
    return [encode(_shrunk(image, box)) for box in boxes]


def _shrunk(image: Image.Image, box: tuple[int, int, bool]) -> Image.Image:
    width, height, cover = box
    if cover:
        return ImageOps.fit(image, (width, height), LANCZOS)
    return ImageOps.contain(image, (min(width, image.width), min(height, image.height)), LANCZOS)


def thumbnail(original: bytes, boxes: Boxes, encode: Encode) -> list[bytes]:
    """Pillow's ``thumbnail``, from the file for each rendition."""
    made = []
    for width, height, cover in boxes:
        image = opened(original)
        if cover:
            image.draft("RGB", (width * 2, height * 2))
            made.append(encode(ImageOps.fit(image.convert("RGB"), (width, height), LANCZOS)))
        else:
            image.thumbnail((width, height), LANCZOS)
            made.append(encode(image.convert("RGB")))
    return made


def floor(original: bytes, boxes: Boxes, encode: Encode) -> list[bytes]:
    """Decode at the scale the decoder has, and encode pictures of the sizes wanted: no resizing."""
    image = opened(original)
    largest = max(width for width, _, _ in boxes)
    image.draft("YCbCr", (largest * 9 // 10, largest * 9 // 10 * image.height // image.width))
    image.load()
    return [encode(each) for each in _of_sizes(image, boxes)]


_ready: dict[tuple[Any, ...], list[Image.Image]] = {}


def _of_sizes(image: Image.Image, boxes: Boxes) -> list[Image.Image]:
    key = (image.size, image.mode, *boxes)
    if key not in _ready:
        plain = image if image.mode in ("YCbCr", "RGB") else image.convert("RGB")
        _ready[key] = [_shrunk(plain, box) for box in boxes]
    return _ready[key]


def vips(original: bytes, boxes: Boxes, _: Encode) -> list[bytes]:
    """The ``thumbnail`` of pyvips as its documentation shows it, from the file each time."""
    return [_vips_saved(_vips_thumbnail(original, box)) for box in boxes]


def vips_cascade(original: bytes, boxes: Boxes, _: Encode) -> list[bytes]:
    """pyvips, each rendition from the one before."""
    made, image = [], None
    for width, height, cover in boxes:
        crop = {"crop": "centre"} if cover else {}
        if image is None:
            smaller = _vips_thumbnail(original, (width, height, cover)).copy_memory()
        else:
            smaller = image.thumbnail_image(width, height=height, size="down", **crop).copy_memory()
        made.append(_vips_saved(smaller))
        image = image if cover else smaller
    return made


def _vips_thumbnail(original: bytes, box: tuple[int, int, bool]) -> Any:
    import pyvips  # noqa: PLC0415

    width, height, cover = box
    crop = {"crop": "centre"} if cover else {}
    return pyvips.Image.thumbnail_buffer(original, width, height=height, size="down", **crop)


def _vips_saved(image: Any) -> bytes:
    made: bytes = image.jpegsave_buffer(Q=QUALITY)
    return made


WAYS: dict[str, Callable[[bytes, Boxes, Encode], list[bytes]]] = {
    "ours": ours,
    "ours_exact": ours_exact,
    "naive": naive,
    "thumbnail": thumbnail,
    "floor": floor,
    "vips": vips,
    "vips_cascade": vips_cascade,
}


def measured(way: str, original: bytes, boxes: Boxes, threads: int) -> dict[str, Any]:
    def once(_: int) -> list[bytes]:
        return WAYS[way](original, boxes, encoded)

    cpu, wall = time.process_time(), time.perf_counter()
    if threads > 1:
        with ThreadPoolExecutor(threads) as pool:
            made = list(pool.map(once, range(threads)))[-1]
    else:
        made = once(0)
    return {
        "cpu_ms": (time.process_time() - cpu) * 1e3 / threads,
        "wall_ms": (time.perf_counter() - wall) * 1e3 / threads,
        "bytes": [len(body) for body in made],
        "peak_mb": peak_mb(),
    }


def peak_mb() -> float:
    status = Path("/proc/self/status")
    if status.exists() and (found := re.search(r"VmHWM:\s+(\d+)", status.read_text())):
        return int(found[1]) / 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def shown(way: str, original: bytes, boxes: Boxes, into: Path) -> dict[str, Any]:
    """What the encoders of a way are given, as PNG files named by their width."""
    given: list[Any] = []
    if way in ("ours", "ours_exact"):
        kept = encoding.encode
        encoding.encode = lambda image, *_: (given.append(image.convert("RGB")), b"")[1]
        try:
            WAYS[way](original, boxes, encoded)
        finally:
            encoding.encode = kept
    elif way.startswith("vips"):
        global _vips_saved  # noqa: PLW0603
        kept_saved = _vips_saved
        _vips_saved = lambda image: (given.append(_pillow(image)), b"")[1]  # noqa: E731
        try:
            WAYS[way](original, boxes, encoded)
        finally:
            _vips_saved = kept_saved
    else:
        WAYS[way](original, boxes, lambda image: (given.append(image.copy()), b"")[1])
    for image in given:
        image.save(into / f"{way}-{image.width}x{image.height}.png", compress_level=1)
    return {"sizes": [image.size for image in given]}


def _pillow(image: Any) -> Image.Image:
    return Image.frombytes("RGB", (image.width, image.height), image.write_to_memory())


def likeness(original: Path, image: Path) -> dict[str, Any]:
    """SSIM with one Lanczos step from the full original: of luma, and of RGB stored as 4:2:0.

    Every way here ends in JPEGs that keep chroma at half size, so both pictures are compared so.
    """
    import numpy as np  # noqa: PLC0415
    from skimage.metrics import structural_similarity  # noqa: PLC0415

    candidate = Image.open(image).convert("RGB")
    full = opened(original.read_bytes()).convert("RGB")
    reference = full.resize(candidate.size, LANCZOS, _shown(full.size, candidate.size))
    luma = [np.asarray(each.convert("L")) for each in (reference, candidate)]
    color = [np.asarray(_subsampled(each)) for each in (reference, candidate)]
    return {
        "luma": float(structural_similarity(*luma)),
        "rgb": float(structural_similarity(*color, channel_axis=2)),
    }


def _shown(full: tuple[int, int], size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The part a rendition shows: where a JPEG decoder's scale leaves a fraction, it is cut off."""
    for scale in (2, 4, 8):
        part = size[0] * scale, size[1] * scale
        if all(0 <= whole - kept < scale for whole, kept in zip(full, part, strict=True)):
            return (0, 0, *part)
    return (0, 0, *full)


def _subsampled(image: Image.Image) -> Image.Image:
    luma, *chroma = image.convert("YCbCr").split()
    halves = [
        plane.reduce(2).resize(
            plane.size, Image.Resampling.NEAREST, (0, 0, plane.width / 2, plane.height / 2)
        )
        for plane in chroma
    ]
    return Image.merge("YCbCr", (luma, *halves)).convert("RGB")


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        path = Path(asked["file"])
        boxes = [tuple(box) for box in asked.get("boxes", [])]
        try:
            if asked["way"] == "likeness":
                answer = likeness(path, Path(asked["image"]))
            elif "into" in asked:
                answer = shown(asked["way"], path.read_bytes(), boxes, Path(asked["into"]))
            else:
                answer = measured(asked["way"], path.read_bytes(), boxes, asked.get("threads", 1))
        except Exception as error:  # noqa: BLE001 - a peer that cannot is a dash in the table
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
