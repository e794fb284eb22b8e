"""Faces and cats, found by the Haar cascades that OpenCV 4 ships (OpenCV 5 ships none).

A cascade slides a window over the picture at many scales. Around a real object many overlapping
windows agree; their number is the *votes* of a detection, and what it is judged by.

Faces: ``frontalface_alt2`` on the whole view.

Cats: ``frontalcatface`` looks for ears, eyes and nose, and a close-up often cuts the ears off or
tilts the head. So the picture is continued at its edges and looked at in four small turns, and a
find counts only if ``frontalcatface_extended``, trained on other cats, sees a cat in the same
place. The votes are those of both.

The thresholds come from 80 variations each of pictures with a face and of one close-up of a cat
(cropped, mirrored, turned, blurred, brighter, darker) against 500 pictures without: scenes,
textures, drawings, text, microscopy, flowers. All but two of the faces and nine in ten cats got 8
votes or more; none of the others got over 5.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import cv2
import numpy as np

from localcloud.rekognition.boxes import Box
from localcloud.rekognition.picture import Pixels

MIN_VOTES = 7
_VOTES_SCALE = 5
_SCALE_STEP = 1.15

_FACE_SIDE = 24
"""The smallest face is a tenth of the picture's longer side."""

_CAT_VIEW_SIDE = 72
_CAT_SIDE = 24
"""The smallest cat's face is a third of the picture's longer side."""

_CAT_BORDER = 14
_CAT_TURNS_DEGREES = (-15, -5, 5, 15)
_CAT_FIRST_VOTES = 2

_MODELS = Path(cv2.__file__).parent / "data"


@dataclass(frozen=True, slots=True)
class Detection:
    name: str
    votes: int
    box: Box

    @property
    def confidence(self) -> float:
        """0 to 100, growing with the votes: 100 · (1 − e^(−votes/5)).

        7 votes are 75 %, 12 are 91 %, 20 are 98 %. It orders finds; it is no probability.
        """
        return 100 * (1 - math.exp(-self.votes / _VOTES_SCALE))


class Detectors:
    """The cascades, loaded once. Safe to share: one picture is looked at at a time."""

    def __init__(self) -> None:
        cv2.setNumThreads(1)  # the cores belong to the pipeline
        self._face = _cascade("frontalface_alt2")
        self._cat = _cascade("frontalcatface")
        self._other_cat = _cascade("frontalcatface_extended")
        self._lock = Lock()

    def find(self, pixels: Pixels) -> list[Detection]:
        """Faces and cats, most votes first, none of a kind over another."""
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        with self._lock:
            found = [*self._faces(grey), *self._cats(grey)]
        return _without_overlaps(found)

    def faces(self, pixels: Pixels) -> list[Detection]:
        """The faces that ``find`` finds, without what looking for cats costs."""
        grey = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
        with self._lock:
            found = list(self._faces(grey))
        return _without_overlaps(found)

    def _faces(self, grey: cv2.typing.MatLike) -> Iterator[Detection]:
        height, width = grey.shape
        boxes, votes = self._face.detectMultiScale2(
            grey, _SCALE_STEP, minNeighbors=MIN_VOTES - 1, minSize=(_FACE_SIDE, _FACE_SIDE)
        )
        for (x, y, w, h), count in zip(boxes, votes, strict=True):
            yield Detection("Face", int(count), Box.clipped((x, y, x + w, y + h), width, height))

    def _cats(self, grey: cv2.typing.MatLike) -> Iterator[Detection]:
        scale = min(1.0, _CAT_VIEW_SIDE / max(grey.shape))
        small = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        height, width = small.shape
        edge = _CAT_BORDER
        wide = cv2.copyMakeBorder(small, edge, edge, edge, edge, cv2.BORDER_REPLICATE)
        size = (wide.shape[1], wide.shape[0])
        for degrees in _CAT_TURNS_DEGREES:
            turn = cv2.getRotationMatrix2D((size[0] / 2, size[1] / 2), degrees, 1)
            turned = cv2.warpAffine(wide, turn, size, borderMode=cv2.BORDER_REPLICATE)
            boxes, votes = self._cat.detectMultiScale2(
                turned,
                _SCALE_STEP,
                minNeighbors=_CAT_FIRST_VOTES - 1,
                minSize=(_CAT_SIDE, _CAT_SIDE),
                maxSize=(_CAT_VIEW_SIDE, _CAT_VIEW_SIDE),
            )
            for (x, y, w, h), count in zip(boxes, votes, strict=True):
                seconded = self._second(turned, x, y, w)
                if not seconded or count + seconded < MIN_VOTES:
                    continue
                centre = np.array([x + w / 2, y + h / 2, 1])
                cx, cy = cv2.invertAffineTransform(turn) @ centre - edge
                corners = (cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2)
                yield Detection("Cat", int(count + seconded), Box.clipped(corners, width, height))

    def _second(self, turned: cv2.typing.MatLike, x: int, y: int, side: int) -> int:
        """Votes of the other cascade for a cat of about this size, here."""
        around = side // 4
        region = turned[
            max(0, y - around) : y + side + around, max(0, x - around) : x + side + around
        ]
        smallest, largest = int(side * 0.75), int(side * 1.33)
        _, votes = self._other_cat.detectMultiScale2(
            region, _SCALE_STEP, 1, minSize=(smallest, smallest), maxSize=(largest, largest)
        )
        return max(votes, default=0)


def _cascade(name: str) -> cv2.CascadeClassifier:
    return cv2.CascadeClassifier(str(_MODELS / f"haarcascade_{name}.xml"))


def _without_overlaps(found: list[Detection]) -> list[Detection]:
    kept: list[Detection] = []
    for detection in sorted(found, key=lambda each: -each.votes):
        if not any(
            other.name == detection.name and other.box.overlap(detection.box) > 0.3  # noqa: PLR2004
            for other in kept
        ):
            kept.append(detection)
    return kept
