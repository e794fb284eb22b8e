"""``python -m benchmarks.imaging``: the imaging package beside sharp, pyvips and plain Pillow.

Installs the peers under ``.bench/`` (Node.js needed for sharp, libjpeg-dev and zlib1g-dev for
pillow-simd; what is missing is left out), then makes the same renditions of the same pictures in
turns, so that every ratio is of one run. CPU time counts, for other work on the machine moves wall
time; both are printed, as medians.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.imaging import environment

FOLDER = Path(__file__).parent
Boxes = list[tuple[int, int, bool]]

DEFAULT: Boxes = [(2048, 2048, False), (1280, 1280, False), (640, 480, False), (100, 100, True)]
HD: Boxes = [(1920, 1920, False), *DEFAULT[1:]]
HEADLINE: Boxes = [(720, 588, False)]

PILLOW = ("ours", "naive", "thumbnail", "floor")
VIPS = ("vips", "vips_cascade")
SHARP = ("sharp_cascade", "sharp_cascade_baseline", "sharp_docs")
CASES: dict[str, tuple[str, Boxes, Sequence[str]]] = {
    "JPEG 12 MP, largest box 2048 (the defaults)": ("jpeg-12mp", DEFAULT, (*SHARP, *VIPS, *PILLOW)),
    "JPEG 12 MP, largest box 1920": ("jpeg-12mp", HD, (*SHARP, *VIPS, *PILLOW)),
    "JPEG 24 MP, largest box 2048": ("jpeg-24mp", DEFAULT, (*SHARP, *VIPS, *PILLOW)),
    "sharp's headline: 2725×2225 to 720×588": (
        "headline",
        HEADLINE,
        ("sharp_headline", "sharp_docs", *VIPS[:1], "ours_exact", *PILLOW),
    ),
    "PNG 12 MP": ("png-12mp", DEFAULT, (*SHARP, *VIPS, *PILLOW)),
    "WebP 12 MP": ("webp-12mp", DEFAULT, (*SHARP, *VIPS, *PILLOW)),
    "HEIC 12 MP": ("heic-12mp", DEFAULT, (*SHARP, *VIPS, *PILLOW)),
}
NAMES = {
    "ours": "**this project**",
    "ours_simd": "this project on pillow-simd",
    "ours_exact": "**this project**, held to the exact size",
    "naive": "Pillow: full decode, Lanczos for each",
    "thumbnail": "Pillow: `thumbnail()` for each",
    "floor": "floor: decode at scale and encode, no resize",
    "vips": "pyvips: `thumbnail` for each",
    "vips_cascade": "pyvips: cascade",
    "sharp_docs": "sharp: as its docs show it",
    "sharp_cascade": "sharp: best cascade",
    "sharp_cascade_baseline": "sharp: best cascade, Huffman not optimised",
    "sharp_headline": "sharp: `fastShrinkOnLoad: false`",
}


class Worker:
    """A process that answers lines of JSON."""

    def __init__(self, command: Sequence[object]) -> None:
        self.command = [str(word) for word in command]
        self._process = subprocess.Popen(
            self.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, **question: Any) -> dict[str, Any]:
        stdin, stdout = self._process.stdin, self._process.stdout
        if stdin is None or stdout is None:
            raise RuntimeError("the worker has no pipes")
        print(json.dumps(question), file=stdin, flush=True)
        answer: dict[str, Any] = json.loads(stdout.readline())
        return answer

    def close(self) -> None:
        self._process.communicate()

    def peak_mb(self, **question: Any) -> float:
        """What one image takes in a fresh process, interpreter and libraries and all."""
        fresh = Worker(self.command)
        peak: float = fresh.ask(**question).get("peak_mb", 0)
        fresh.close()
        return peak


@dataclass
class Row:
    way: str
    cpu_ms: list[float] = field(default_factory=list)
    wall_ms: list[float] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    peak_mb: float = 0
    luma: list[float] = field(default_factory=list)
    rgb: list[float] = field(default_factory=list)


def workers() -> dict[str, Worker]:
    """One a way that can be had here."""
    pillow = Worker([environment.python(), FOLDER / "worker.py"])
    found = dict.fromkeys((*PILLOW, *VIPS, "ours_exact"), pillow)
    if simd := environment.simd_python():
        found["ours_simd"] = Worker([simd, FOLDER / "worker.py"])
    if environment.node_modules():
        sharp = Worker(["node", FOLDER / "worker.cjs"])
        found |= dict.fromkeys((*SHARP, "sharp_headline"), sharp)
    return found


def race(
    file: Path, boxes: Boxes, ways: Sequence[str], by: dict[str, Worker], rounds: int
) -> list[Row]:
    """Every way in turn, ``rounds`` times after one to warm up; then memory and likeness."""
    rows = [Row(way) for way in ways if way in by]
    for turn in range(rounds + 1):
        for row in list(rows):
            name = row.way.removesuffix("_simd")
            answer = by[row.way].ask(way=name, file=str(file), boxes=boxes)
            if "error" in answer:
                rows.remove(row)
            elif turn:
                row.cpu_ms.append(answer["cpu_ms"])
                row.wall_ms.append(answer["wall_ms"])
                row.sizes = answer["bytes"]
    with TemporaryDirectory() as into:
        for row in rows:
            name = row.way.removesuffix("_simd")
            question = {"way": name, "file": str(file), "boxes": boxes}
            row.peak_mb = by[row.way].peak_mb(**question)
            if name in ("floor", "sharp_docs"):
                continue
            for width, height in by[row.way].ask(**question, into=into).get("sizes", []):
                image = f"{into}/{name}-{width}x{height}.png"
                if width > boxes[-1][0] or len(boxes) == 1:  # the cropped one is another picture
                    like = by["naive"].ask(way="likeness", file=str(file), image=image)
                    row.luma.append(like["luma"])
                    row.rgb.append(like["rgb"])
    return rows


def table(title: str, rows: list[Row]) -> str:
    base = statistics.median(rows[0].cpu_ms)
    lines = [
        f"### {title}",
        "",
        "| way | CPU ms | wall ms | CPU ratio | KB out | peak MB | least SSIM: luma, 4:2:0 |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        cpu, wall = statistics.median(row.cpu_ms), statistics.median(row.wall_ms)
        like = f"{min(row.luma):.4f}, {min(row.rgb):.4f}" if row.luma else "—"
        lines.append(
            f"| {NAMES[row.way]} | {cpu:.0f} | {wall:.0f} | {cpu / base:.2f} "
            f"| {sum(row.sizes) / 1000:.0f} | {row.peak_mb:.0f} | {like} |"
        )
    return "\n".join(lines)


def scaling(by: dict[str, Worker], file: Path, rounds: int) -> str:
    """Images a second with two threads, as a multiple of one."""
    lines = ["### Two images at once on two cores", "", "| way | times one |", "|---|--:|"]
    for way in ("ours", "sharp_cascade", "vips_cascade", "naive"):
        if way not in by:
            continue
        ratios = []
        for _ in range(rounds):
            one, two = (
                by[way].ask(way=way, file=str(file), boxes=DEFAULT, threads=threads)["wall_ms"]
                for threads in (1, 2)
            )
            ratios.append(one / two)
        lines.append(f"| {NAMES[way]} | {statistics.median(ratios):.2f} |")
    return "\n".join(lines)


def versions() -> str:
    show = (
        "import PIL, pyvips, pillow_heif as h; from PIL import features as f; print(PIL.__version__"
    )
    show += ", f.version('libjpeg_turbo'), h.__version__, pyvips.__version__, '.'.join("
    show += "str(pyvips.version(part)) for part in range(3)))"
    answer = subprocess.run(
        [environment.python(), "-c", show], check=True, capture_output=True, text=True
    )
    pillow, turbo, heif, pyvips, libvips = answer.stdout.split()
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, Python {platform.python_version()}, Pillow {pillow} "
        f"(libjpeg-turbo {turbo}), pillow-heif {heif}, pyvips {pyvips} (libvips {libvips}), "
        f"{environment.SHARP}, {environment.SIMD[0]}, {platform.machine()}"
    )


def main() -> None:
    reader = argparse.ArgumentParser(prog="python -m benchmarks.imaging", description=__doc__)
    reader.add_argument("--rounds", type=int, default=15, help="measurements of each (15)")
    reader.add_argument("--only", default="", help="cases whose title contains this")
    asked = reader.parse_args()
    files, by = environment.originals(), workers()
    print(f"{versions()}\n`{' '.join(['python -m benchmarks.imaging', *sys.argv[1:]])}`\n")
    for title, (name, boxes, ways) in CASES.items():
        if asked.only in title:
            rows = race(files[name], boxes, [*ways, "ours_simd"], by, asked.rounds)
            print(table(title, rows), end="\n\n", flush=True)
    if asked.only in "threads":
        print(scaling(by, files["jpeg-12mp"], asked.rounds), end="\n\n")
    if asked.only in "memory":
        peak = by["ours"].peak_mb(way="ours", file=str(files["jpeg-50mp"]), boxes=DEFAULT)
        print(f"A 50 MP JPEG takes a fresh process to {peak:.0f} MB at its peak.")
    for worker in set(by.values()):
        worker.close()


if __name__ == "__main__":
    main()
