"""``python -m benchmarks.proxy``: what Rekognition says of an original, and of its proxy.

Each picture is sent twice to DetectLabels of whatever endpoint boto3 is configured for, which on
AWS costs two calls a picture; ``--local`` starts the local Rekognition instead. The pictures are
photographs of scikit-image, unless files are named. What Rekognition does not take itself, for its
format or its size, is sent as its proxy alone.

``--sizes`` sends nothing: it prints what a proxy takes for several recipes, for labels and for
faces and text, and how many words of 14 points (in a picture of 1920×1440) Tesseract reads on
pictures of several sizes, where it is installed.
"""

import argparse
import re
import shutil
import statistics
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Self

import boto3
from PIL import Image, ImageDraw, ImageFont

from chalicelib.aws.recognition import Recognizer
from chalicelib.config import DEFAULT_RENDITIONS, parse_recognition, parse_renditions
from chalicelib.errors import RecognitionRefused
from chalicelib.imaging import prepare, render
from chalicelib.model import BoundingBox, Feature, Label, Limits, OutputFormat, RenditionSpec
from tests.pictures import photo, saved

if TYPE_CHECKING:
    from mypy_boto3_rekognition import RekognitionClient

LABELS = "labels 50 55%"
RENDITIONS = parse_renditions(DEFAULT_RENDITIONS)


@dataclass(frozen=True, slots=True)
class Comparison:
    """How two answers differ; ``worst_iou`` is 1 where neither has a box.

    ``confidence_apart`` is in percent, the mean of the labels that both have.
    """

    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    confidence_apart: float
    worst_iou: float

    @classmethod
    def of(cls, first: Sequence[Label], second: Sequence[Label]) -> Self:
        one, other = ({label.name: label for label in labels} for labels in (first, second))
        both = sorted(one.keys() & other.keys())
        apart = [abs(one[name].confidence - other[name].confidence) for name in both]
        return cls(
            only_first=tuple(sorted(one.keys() - other.keys())),
            only_second=tuple(sorted(other.keys() - one.keys())),
            confidence_apart=statistics.fmean(apart) if apart else 0.0,
            worst_iou=min((_worst(one[name].boxes, other[name].boxes) for name in both), default=1),
        )


def _worst(first: Sequence[BoundingBox], second: Sequence[BoundingBox]) -> float:
    """Of every box to the one of the other answer that is most like it; 0 where there is none."""
    likes = [
        max((overlap(box, other) for other in others), default=0.0)
        for boxes, others in ((first, second), (second, first))
        for box in boxes
    ]
    return min(likes, default=1.0)


def overlap(one: BoundingBox, other: BoundingBox) -> float:
    """Intersection over union."""
    across = min(one.left + one.width, other.left + other.width) - max(one.left, other.left)
    down = min(one.top + one.height, other.top + other.height) - max(one.top, other.top)
    common = max(across, 0.0) * max(down, 0.0)
    return common / (one.width * one.height + other.width * other.height - common)


def proxy_of(original: bytes, recognition: str = LABELS) -> bytes:
    """What the pipeline would send, with the renditions that it makes by default."""
    features = [spec.feature for spec in parse_recognition(recognition)]
    return prepare(original, RENDITIONS, Limits(), features=features).proxy


def row(path: Path, recognizer: Recognizer, recognition: str) -> str:
    original = path.read_bytes()
    proxy = proxy_of(original, recognition)
    seen = recognizer.recognize(proxy).labels
    try:
        answer = recognizer.recognize(original).labels
    except RecognitionRefused:
        cells = ["refused", f"{len(seen)} labels", "", ""]
    else:
        found = Comparison.of(answer, seen)
        cells = [
            ", ".join(found.only_first) or "—",
            ", ".join(found.only_second) or "—",
            f"{found.confidence_apart:.1f} of {len(answer)}" if answer else "no labels",
            f"{found.worst_iou:.2f}" if any(label.boxes for label in answer) else "—",
        ]
    sizes = [f"{len(file) / 1000:,.0f}" for file in (original, proxy)]
    return f"| {' | '.join([path.name, *cells, *sizes])} |"


@contextmanager
def local_client() -> Iterator["RekognitionClient"]:
    """A client of a local Rekognition that ends with it."""
    from localcloud.rekognition.server import Server  # noqa: PLC0415 - OpenCV takes a while

    with Server() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield boto3.client(
            "rekognition",
            endpoint_url=server.url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",  # noqa: S106 - no secret
        )
        server.shutdown()


def photographs() -> list[Path]:
    """Scikit-image's, of a side that Rekognition takes."""
    import skimage.data  # noqa: PLC0415 - takes a while

    folder = Path(skimage.data.__file__).parent
    return [path for path in sorted(folder.iterdir()) if path.suffix in (".jpg", ".png")]


RECIPES = {
    "the default": DEFAULT_RENDITIONS,
    "1280 pixels": "large 1280x1280",
    "640 pixels": "small 640x640",
    "1280 pixels, WebP": "large 1280x1280 webp",
    "a cropped thumbnail": "thumbnail 100x100 cover",
}
WORDS = re.findall(
    "[a-z]+",
    "photo river garden station market winter orange silver bridge window number tunnel harbor "
    "forest ticket museum hotel police summer coffee planet rocket village castle yellow dinner "
    "letter butter camera street",
)
WIDTH, HEIGHT = 4000, 3000


def report_costs(rounds: int = 7) -> None:
    """CPU time until the proxy is there, medians of the two in turns."""
    original = saved(photo(WIDTH, HEIGHT), quality=88)
    print("| recipe | for labels: CPU ms | KB | for faces and text: CPU ms | KB |")
    print("|---|--:|--:|--:|--:|")
    for name, recipe in RECIPES.items():
        specs = parse_renditions(recipe)
        asked: dict[Feature, tuple[list[float], list[float]]] = {
            feature: ([], []) for feature in (Feature.LABELS, Feature.TEXT)
        }
        for turn in range(rounds + 1):
            for feature, (spent_ms, sizes) in asked.items():
                begin = time.process_time()
                proxy = prepare(original, specs, Limits(), features=[feature]).proxy
                if turn:
                    spent_ms.append(1000 * (time.process_time() - begin))
                    sizes.append(len(proxy) / 1000)
        cells = [f"{statistics.median(part):.0f}" for pair in asked.values() for part in pair]
        print(f"| {' | '.join([name, *cells])} |", flush=True)


def report_words(tesseract: str, points: Sequence[int] = (14, 12, 10)) -> None:
    """Of renditions as the pipeline makes them; a point is one in a picture 1920 pixels wide."""
    print(f"\n| longer side | {' | '.join(f'{size} points' for size in points)} |")
    print("|--:" * (len(points) + 1) + "|")
    pages = [saved(page(size), quality=92) for size in points]
    for side in (640, 960, 1280, 1600, 1920, 2560):
        spec = RenditionSpec("page", side, side, format=OutputFormat.JPEG, quality=85)
        read = [words_in(render(each, [spec], Limits()).proxy, tesseract) for each in pages]
        print(f"| {side} | {' | '.join(f'{words} of {len(WORDS)}' for words in read)} |")


def page(points: int) -> Image.Image:
    picture = photo(WIDTH, HEIGHT)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((50, 50, WIDTH - 50, HEIGHT // 2), fill="white")
    font = ImageFont.load_default(round(points * 96 / 72 * WIDTH / 1920))
    for number, word in enumerate(WORDS):
        place = 100 + number % 5 * 780, 100 + number // 5 * 220
        draw.text(place, word, fill=(40, 40, 40), font=font)
    return picture


def words_in(body: bytes, tesseract: str) -> int:
    command = [tesseract, "-", "-", "--psm", "6"]
    answer = subprocess.run(command, input=body, capture_output=True, check=True)
    return len(set(WORDS) & set(answer.stdout.decode().lower().split()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--local", action="store_true", help="the local Rekognition, not AWS's")
    parser.add_argument(
        "--recognition", default=LABELS, help="as the setting; faces and text take a larger proxy"
    )
    parser.add_argument("--sizes", action="store_true", help="what larger proxies cost and show")
    options = parser.parse_args()
    if options.sizes:
        report_costs()
        if tesseract := shutil.which("tesseract"):
            report_words(tesseract)
        return
    print(
        "| picture | only on the original | only on the proxy | confidence apart, mean % | ", end=""
    )
    print("worst IoU | original, KB | proxy, KB |\n|---|---|---|--:|--:|--:|--:|")

    def compare(client: "RekognitionClient") -> None:
        recognizer = Recognizer(client, parse_recognition(options.recognition))
        for path in options.files or photographs():
            print(row(path, recognizer, options.recognition), flush=True)

    if options.local:
        with local_client() as client:
            compare(client)
    else:
        compare(boto3.client("rekognition"))


if __name__ == "__main__":
    main()
