"""DetectLabels: what the detectors found, in Rekognition's words and shapes."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from localcloud.rekognition.boxes import Box
from localcloud.rekognition.detectors import Detection, Detectors
from localcloud.rekognition.picture import Pixels
from localcloud.rekognition.properties import DEFAULT_COLORS, dominant_colors, quality

MODEL_VERSION = "3.0"
DEFAULT_MIN_CONFIDENCE = 55.0
MAX_LABELS = 1000


@dataclass(frozen=True, slots=True)
class Term:
    """A label of Rekognition's taxonomy (model 3.0)."""

    category: str
    parents: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    found_as: tuple[str, ...] = ()
    """The detections whose boxes are its instances."""


_TERMS = {
    "Animal": Term("Animals and Pets"),
    "Cat": Term("Animals and Pets", ("Animal", "Mammal", "Pet"), found_as=("Cat",)),
    "Face": Term("Person Description", ("Head", "Person"), found_as=("Face",)),
    "Head": Term("Person Description", ("Person",)),
    "Mammal": Term("Animals and Pets", ("Animal",)),
    "Person": Term("Person Description", aliases=("Human",), found_as=("Face",)),
    "Pet": Term("Animals and Pets", ("Animal",)),
}
"""A person's box is that of the face: nothing else of them was detected."""


@dataclass(frozen=True, slots=True)
class Filters:
    """``Settings.GeneralLabels``: by label and by category; what is excluded wins."""

    labels: frozenset[str]
    categories: frozenset[str]
    excluded_labels: frozenset[str]
    excluded_categories: frozenset[str]

    @classmethod
    def of(cls, settings: dict[str, list[str]]) -> "Filters":
        return cls(
            frozenset(settings.get("LabelInclusionFilters", ())),
            frozenset(settings.get("LabelCategoryInclusionFilters", ())),
            frozenset(settings.get("LabelExclusionFilters", ())),
            frozenset(settings.get("LabelCategoryExclusionFilters", ())),
        )

    def let_pass(self, name: str) -> bool:
        category = _TERMS[name].category
        included = name in self.labels or category in self.categories
        excluded = name in self.excluded_labels or category in self.excluded_categories
        return (included or not (self.labels or self.categories)) and not excluded


def detect_labels(detectors: Detectors, request: dict[str, Any], pixels: Pixels) -> dict[str, Any]:
    """The answer to a checked DetectLabels request for this view of its picture."""
    features = request.get("Features") or ["GENERAL_LABELS"]
    settings = request.get("Settings", {})
    with_properties = "IMAGE_PROPERTIES" in features
    floor = request.get("MinConfidence", DEFAULT_MIN_CONFIDENCE)
    found = [each for each in detectors.find(pixels) if each.confidence >= floor]
    answer: dict[str, Any] = {"Labels": [], "LabelModelVersion": MODEL_VERSION}
    if "GENERAL_LABELS" in features:
        filters = Filters.of(settings.get("GeneralLabels", {}))
        labels = [
            label
            for label in _labels(found, pixels if with_properties else None)
            if filters.let_pass(label["Name"])
        ]
        labels.sort(key=lambda label: (-label["Confidence"], label["Name"]))
        answer["Labels"] = labels[: request.get("MaxLabels", MAX_LABELS)]
    if with_properties:
        limit = settings.get("ImageProperties", {}).get("MaxDominantColors", DEFAULT_COLORS)
        answer["ImageProperties"] = _properties(pixels, [each.box for each in found], limit)
    return answer


def _labels(found: list[Detection], pixels: Pixels | None) -> Iterable[dict[str, Any]]:
    """Each label that a detection stands for, its ancestors included, as sure as the surest."""
    confidences: dict[str, float] = {}
    for detection in found:
        for name in (detection.name, *_TERMS[detection.name].parents):
            confidences[name] = max(confidences.get(name, 0), detection.confidence)
    for name, confidence in confidences.items():
        term = _TERMS[name]
        yield {
            "Name": name,
            "Confidence": confidence,
            "Instances": [_instance(each, pixels) for each in found if each.name in term.found_as],
            "Parents": [{"Name": parent} for parent in term.parents],
            "Aliases": [{"Name": alias} for alias in term.aliases],
            "Categories": [{"Name": term.category}],
        }


def _instance(detection: Detection, pixels: Pixels | None) -> dict[str, Any]:
    instance: dict[str, Any] = {
        "BoundingBox": detection.box.as_bounding_box,
        "Confidence": detection.confidence,
    }
    if pixels is not None:
        instance["DominantColors"] = dominant_colors(pixels[detection.box.slices(pixels)])
    return instance


def _properties(pixels: Pixels, boxes: list[Box], limit: int) -> dict[str, Any]:
    """Of the whole picture; of fore- and background only where something was found to be it."""
    answer: dict[str, Any] = {
        "Quality": quality(pixels),
        "DominantColors": dominant_colors(pixels, limit),
    }
    inside = np.zeros(pixels.shape[:2], dtype=np.bool_)
    for box in boxes:
        inside[box.slices(pixels)] = True
    if inside.any() and not inside.all():
        for part, mask in (("Foreground", inside), ("Background", ~inside)):
            answer[part] = {
                "Quality": quality(pixels, mask),
                "DominantColors": dominant_colors(pixels, limit, mask),
            }
    return answer
