"""DetectModerationLabels: nothing is judged here, a file says which pictures are flagged as what.

It is JSON, a picture's perceptual hash with the labels it gets, as the service words them::

    {"b1a6c3d2e5f40718": [
      {"Name": "Weapon Violence", "ParentName": "Violence", "TaxonomyLevel": 2, "Confidence": 98.2},
      {"Name": "Violence", "ParentName": "", "TaxonomyLevel": 1, "Confidence": 98.2}]}

The API shows the hash as ``fingerprint.phash``; ``python -m localcloud.rekognition hash FILE…``
prints that of a JPEG or PNG.
"""

import json
import logging
import re
from pathlib import Path
from threading import Lock
from typing import Any

from PIL import Image

from chalicelib.imaging.fingerprint import distance, perceptual_hash
from localcloud.rekognition import protocol
from localcloud.rekognition.errors import ServiceError
from localcloud.rekognition.picture import Pixels

MODEL_VERSION = "7.0"
DEFAULT_MIN_CONFIDENCE = 50.0

MAX_DISTANCE = 6
"""Bits; what Rekognition is shown of an original was scaled and encoded anew.

That moves photographs by 4 bits at most, a page of text by 6, and a chessboard, which has next to
no low frequencies, by 22. Two views of one motorcycle are 8 apart, other pictures 20 and more.
"""

_log = logging.getLogger(__name__)


class BrokenRules(Exception):
    """The file of rules cannot be used; the message names it and what is wrong."""


class Rules:
    """The rules of a file, read anew once it has changed. No file, or no path: no rules.

    Raises BrokenRules for a file that is broken from the start. One that gets broken later is told
    on stderr (``logs/rekognition.log`` in the state of a local cloud) once, and the last good rules
    hold: who edits a file may save it half done.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lock = Lock()
        self._seen: tuple[int, ...] | None = None
        self._rules: dict[str, list[dict[str, Any]]] = {}
        self._refresh()

    def labels_of(self, phash: str) -> list[dict[str, Any]]:
        """The labels of the rule with the nearest hash, if that is within MAX_DISTANCE."""
        with self._lock:
            try:
                self._refresh()
            except BrokenRules as error:
                _log.warning("%s. The rules that were read before hold.", error)
            rules = self._rules
        nearest = min(rules, key=lambda other: distance(other, phash), default=None)
        if nearest is None or distance(nearest, phash) > MAX_DISTANCE:
            return []
        return rules[nearest]

    def _refresh(self) -> None:
        now = _stamp(self._path) if self._path else None
        if now != self._seen:
            self._seen = now
            self._rules = _read(self._path) if self._path and now else {}


def seen_hash(pixels: Pixels) -> str:
    """The perceptual hash of a view, as the API shows that of its original, within some bits."""
    return perceptual_hash(Image.fromarray(pixels))


def detect_moderation_labels(
    rules: Rules, request: dict[str, Any], pixels: Pixels
) -> dict[str, Any]:
    """The answer to a checked request for this view of its picture.

    Raises ResourceNotFoundException for adapters and human reviews: there are none here.
    """
    if request.keys() & {"ProjectVersion", "HumanLoopConfig"}:
        raise ServiceError("ResourceNotFoundException")
    floor = request.get("MinConfidence", DEFAULT_MIN_CONFIDENCE)
    return {
        "ModerationLabels": [
            label for label in rules.labels_of(seen_hash(pixels)) if label["Confidence"] >= floor
        ],
        "ModerationModelVersion": MODEL_VERSION,
        "ContentTypes": [],
    }


def _stamp(path: Path) -> tuple[int, ...] | None:
    """What changes with a file, or None where there is none."""
    try:
        stat = path.stat()
    except FileNotFoundError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def _read(path: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        rules = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise BrokenRules(f"{path} cannot be read: {error}") from error
    if not isinstance(rules, dict):
        raise BrokenRules(f"{path} is no object of hashes with their labels")
    return {phash: _labels(path, phash, labels) for phash, labels in rules.items()}


def _labels(path: Path, phash: str, labels: Any) -> list[dict[str, Any]]:
    if not re.fullmatch("[0-9a-f]{16}", phash):
        raise BrokenRules(f"{path}: {phash!r} is no perceptual hash, 16 digits of 0-9 and a-f")
    shape: Any = protocol.service().shape_for("ModerationLabels")
    try:
        checked: list[dict[str, Any]] = protocol.checked(shape, labels)
    except ServiceError as error:
        raise BrokenRules(f"{path}: the labels of {phash}: {error.message}") from error
    for label in checked:
        if missing := shape.member.members.keys() - label.keys():
            raise BrokenRules(f"{path}: a label of {phash} is without {', '.join(sorted(missing))}")
    return checked
