"""DetectFaces and RecognizeCelebrities: the faces that DetectLabels tells of, and nobody known.

What no detector here can know is left out, whatever ``Attributes`` asks for: landmarks, pose, age,
gender, emotions. So are smiles and open eyes, although OpenCV ships cascades for them. In 40
variations each of five portraits the votes for a smile of somebody who speaks (up to 65) came up to
those of a laughing astronaut (from 70), and of shut eyes there was no picture to judge by.
"""

from typing import Any

from localcloud.rekognition.detectors import Detection, Detectors
from localcloud.rekognition.picture import Pixels
from localcloud.rekognition.properties import quality

MAX_FACES = 100
MAX_CELEBRITIES = 64
"""Of the largest faces; limits of the service."""


def detect_faces(detectors: Detectors, pixels: Pixels) -> dict[str, Any]:
    """The answer to a DetectFaces request for this view of its picture."""
    return {"FaceDetails": _largest(detectors, pixels, MAX_FACES)}


def recognize_celebrities(detectors: Detectors, pixels: Pixels) -> dict[str, Any]:
    """The answer to a RecognizeCelebrities request for this view of its picture."""
    return {
        "CelebrityFaces": [],
        "UnrecognizedFaces": _largest(detectors, pixels, MAX_CELEBRITIES),
    }


def _largest(detectors: Detectors, pixels: Pixels, limit: int) -> list[dict[str, Any]]:
    faces = sorted(detectors.faces(pixels), key=lambda face: -face.box.area)
    return [_details(face, pixels) for face in faces[:limit]]


def _details(face: Detection, pixels: Pixels) -> dict[str, Any]:
    measured = quality(pixels[face.box.slices(pixels)])
    return {
        "BoundingBox": face.box.as_bounding_box,
        "Confidence": face.confidence,
        "Quality": {name: measured[name] for name in ("Brightness", "Sharpness")},
    }
