"""DetectText: what Tesseract reads, where it is installed; else no text is seen.

Measured at the service's default of 80 %, sparse text (``--psm 11``) at 1280 pixels: it reads every
word of a page from 16 pixels on, two thirds of receipts (prices fall apart at their point), and two
in five words painted over photographs. In photographs without text it takes nothing for words but
single marks, so a word has a letter or a digit here. One block (``6``) reads receipts better, and
more than twice as much where nothing is; enlarged pictures cost double and tell no more.
"""

import csv
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from io import StringIO
from itertools import groupby
from operator import attrgetter, itemgetter
from statistics import fmean
from threading import BoundedSemaphore
from typing import Any

import cv2
import numpy as np

from localcloud.rekognition.boxes import Box
from localcloud.rekognition.errors import ServiceError
from localcloud.rekognition.picture import Pixels
from localcloud.rekognition.properties import Mask

MODEL_VERSION = "3.0"
DEFAULT_MIN_CONFIDENCE = 80.0
MAX_WORDS = 100
CORNERS = range(3, 11)
"""How many points a polygon may have."""

TIMEOUT_S = 6
"""Less than the app waits for an answer; a page of text takes a second."""

_WORD_LEVEL = "5"


@dataclass(frozen=True, slots=True)
class Word:
    text: str
    line: int
    confidence: float
    box: Box


class Reader:
    """Tesseract, as it is found now. Safe to share: it reads as many pictures as there are cores.

    Raises subprocess.SubprocessError when it fails or takes longer than TIMEOUT_S.
    """

    def __init__(self) -> None:
        self._command = shutil.which("tesseract")
        self._turns = BoundedSemaphore(os.cpu_count() or 1)

    def words(self, pixels: Pixels) -> list[Word]:
        """Line by line, from the top; ``line`` numbers them."""
        if self._command is None:
            return []
        height, width = pixels.shape[:2]
        table = csv.DictReader(
            StringIO(self._table(self._command, pixels)), delimiter="\t", quoting=csv.QUOTE_NONE
        )
        rows = [row for row in table if row["level"] == _WORD_LEVEL and _is_word(row["text"])]
        lines = [list(line) for _, line in groupby(rows, itemgetter(*_LINE))]
        lines.sort(key=lambda line: min(int(row["top"]) for row in line))
        return [
            Word(row["text"], number, float(row["conf"]), _box(row, width, height))
            for number, line in enumerate(lines)
            for row in line
        ]

    def _table(self, command: str, pixels: Pixels) -> str:
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        height, width = grey.shape
        with self._turns:
            try:
                return subprocess.run(
                    [command, "stdin", "stdout", "--psm", "11", "tsv"],
                    input=b"P5 %d %d 255\n" % (width, height) + grey.tobytes(),
                    capture_output=True,
                    check=True,
                    timeout=TIMEOUT_S,
                    env=os.environ | {"OMP_THREAD_LIMIT": "1"},
                ).stdout.decode()
            except subprocess.CalledProcessError as error:
                error.add_note(error.stderr.decode(errors="replace"))
                raise


_LINE = ("block_num", "par_num", "line_num")


def _is_word(text: str) -> bool:
    return any(map(str.isalnum, text))


def _box(row: dict[str, str], width: int, height: int) -> Box:
    left, top = int(row["left"]), int(row["top"])
    corners = (left, top, left + int(row["width"]), top + int(row["height"]))
    return Box.clipped(corners, width, height)


@dataclass(frozen=True, slots=True)
class Filters:
    """``Filters``: how sure and how large words are, and the regions that hold most of them."""

    min_confidence: float
    min_width: float
    min_height: float
    regions: tuple[Mask, ...]

    @classmethod
    def of(cls, filters: dict[str, Any], pixels: Pixels) -> "Filters":
        """Raises InvalidParameterException for a region that is none."""
        words, regions = filters.get("WordFilter", {}), filters.get("RegionsOfInterest", [])
        return cls(
            words.get("MinConfidence", DEFAULT_MIN_CONFIDENCE),
            words.get("MinBoundingBoxWidth", 0),
            words.get("MinBoundingBoxHeight", 0),
            tuple(_mask(region, pixels) for region in regions),
        )

    def let_pass(self, word: Word) -> bool:
        return (
            word.confidence >= self.min_confidence
            and word.box.width >= self.min_width
            and word.box.height >= self.min_height
            and (not self.regions or any(_is_in(word.box, region) for region in self.regions))
        )


def _is_in(box: Box, region: Mask) -> bool:
    return bool(region[box.slices(region)].mean() > 0.5)  # noqa: PLR2004 more than half


def _mask(region: dict[str, Any], pixels: Pixels) -> Mask:
    height, width = pixels.shape[:2]
    match region:
        case {"Polygon": list(points), **other} if not other:
            pass
        case {"BoundingBox": dict(box), **other} if not other and len(box) == 4:  # noqa: PLR2004
            points = Box(box["Left"], box["Top"], box["Width"], box["Height"]).as_polygon
        case _:
            raise ServiceError("InvalidParameterException")
    if len(points) not in CORNERS or any(len(point) < 2 for point in points):  # noqa: PLR2004
        raise ServiceError("InvalidParameterException")
    shares = np.clip([(point["X"], point["Y"]) for point in points], 0, 1)
    corners = (shares * (width, height)).round().astype(np.int32)
    mask = np.zeros((height, width), dtype=np.uint8)
    cv2.fillPoly(mask, [corners], 1)
    return mask > 0


def detect_text(reader: Reader, request: dict[str, Any], pixels: Pixels) -> dict[str, Any]:
    """The answer to a checked DetectText request for this view of its picture.

    A line is what the filters leave of its words, as sure as they are on average. Boxes are
    upright, and polygons no finer than they.
    """
    filters = Filters.of(request.get("Filters", {}), pixels)
    words = [word for word in reader.words(pixels) if filters.let_pass(word)][:MAX_WORDS]
    return {
        "TextDetections": [
            detection | {"Id": number} for number, detection in enumerate(_detections(words))
        ],
        "TextModelVersion": MODEL_VERSION,
    }


def _detections(words: list[Word]) -> Iterator[dict[str, Any]]:
    """First the lines, then the words; a line's place is the ``ParentId`` of its words."""
    lines = [list(line) for _, line in groupby(words, attrgetter("line"))]
    for line in lines:
        text = " ".join(word.text for word in line)
        confidence = fmean(word.confidence for word in line)
        yield _detection("LINE", text, confidence, Box.around(word.box for word in line))
    for parent, line in enumerate(lines):
        for word in line:
            yield {
                **_detection("WORD", word.text, word.confidence, word.box),
                "ParentId": parent,
            }


def _detection(kind: str, text: str, confidence: float, box: Box) -> dict[str, Any]:
    return {
        "DetectedText": text,
        "Type": kind,
        "Confidence": confidence,
        "Geometry": {"BoundingBox": box.as_bounding_box, "Polygon": box.as_polygon},
    }
