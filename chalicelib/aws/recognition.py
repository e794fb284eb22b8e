"""Rekognition: what is in a picture.

Each feature is an operation of its own, but labels and properties, which share one. What is asked
for is asked side by side, so that a picture waits for the slowest answer only.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from chalicelib.errors import RecognitionRefused, Throttled
from chalicelib.logs import carried
from chalicelib.model import (
    BoundingBox,
    Celebrity,
    DominantColor,
    Face,
    FaceAttribute,
    Feature,
    FeatureSpec,
    ImageProperties,
    Label,
    ModerationLabel,
    Recognition,
    TextLine,
)

if TYPE_CHECKING:
    from mypy_boto3_rekognition import RekognitionClient
    from mypy_boto3_rekognition.literals import DetectLabelsFeatureNameType
    from mypy_boto3_rekognition.type_defs import (
        BoundingBoxTypeDef,
        CelebrityTypeDef,
        DetectLabelsImagePropertiesTypeDef,
        DetectLabelsRequestTypeDef,
        FaceDetailTypeDef,
        ImageTypeDef,
        LabelTypeDef,
        ModerationLabelTypeDef,
        TextDetectionTypeDef,
    )

Wanted = Mapping[Feature, FeatureSpec]
Ask = Callable[["RekognitionClient", "ImageTypeDef", Wanted], Recognition]

logger = logging.getLogger("image-pipeline")

REFUSALS = (
    "InvalidImageFormatException",
    "ImageTooLargeException",
    "InvalidParameterException",
    "ValidationException",  # what it really says of more than 5 MB in the request
)
"""Errors that say the picture is at fault; any other (throttling, outage) may pass by itself."""

NO_FACE = "InvalidParameterException"
"""What operations about faces may say of a picture that shows none, as CompareFaces does.

Whatever else this error stands for cannot be: the picture is ours, and the settings are checked.
"""

ABOUT_FACES = ("DetectFaces", "RecognizeCelebrities")

OVER_QUOTA = (
    "ThrottlingException",
    "ProvisionedThroughputExceededException",
    "LimitExceededException",
    "TooManyRequestsException",
)
"""Errors that say the account asks for more at once than its quota allows."""

CALLS_AT_ONCE = 50
"""Ten images of a batch, each in all five operations."""


@dataclass(frozen=True, slots=True)
class Recognizer:
    client: "RekognitionClient"
    features: tuple[FeatureSpec, ...]
    longest_call_s: float | None = None
    """A call that takes longer waits for its turn: adaptive retries hold it back without limit."""
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(CALLS_AT_ONCE))
    """One for all images, so that calls nobody waits for any more are never more than it has."""

    def recognize(self, proxy: bytes) -> Recognition:
        """What the features give: of each the surest so many, and none that is less sure.

        ``proxy``: JPEG or PNG of at least 80 pixels a side and at most 5 MB, sent as bytes, so
        that neither the original's format nor its size matters. Raises RecognitionRefused for the
        picture, and Throttled when calls over the quota were not taken however often repeated, or
        have not had their turn by ``longest_call_s``.
        """
        wanted = {spec.feature: spec for spec in self.features}
        return _joined(
            _side_by_side(
                [
                    partial(_told, ask, self.client, {"Bytes": proxy}, wanted)
                    for features, ask in OPERATIONS.items()
                    if not wanted.keys().isdisjoint(features)
                ],
                self.pool,
                self.longest_call_s,
            )
        )


def _side_by_side(
    calls: Sequence[Callable[[], Recognition]], pool: ThreadPoolExecutor, longest_s: float | None
) -> list[Recognition]:
    """What all of the calls give. Of several errors one is raised, the others are logged.

    That is a refusal, since trying again would be paid for in vain; or else throttling, which is
    no reason to give an image up, and without which the rest may be well the next time.
    """
    answers = [pool.submit(carried(call)) for call in calls]
    _, late = wait(answers, longest_s)
    errors = [error for answer in answers if answer not in late and (error := answer.exception())]
    if late:
        # What has begun cannot be stopped: it goes on in its thread, and may be paid for once.
        for answer in late:
            answer.cancel()
        errors.append(Throttled("Calls of Rekognition still wait for their turn."))
    if errors:
        first, *others = sorted(errors, key=_rank)
        for error in others:
            logger.warning("Rekognition failed in more than one way", exc_info=error)
        raise first
    return [answer.result() for answer in answers]


def _rank(error: BaseException) -> int:
    if isinstance(error, RecognitionRefused):
        return 0
    return 1 if isinstance(error, Throttled) else 2


def _joined(parts: Sequence[Recognition]) -> Recognition:
    """One of them all: no two of them are about the same feature."""
    return Recognition(
        labels=tuple(chain.from_iterable(part.labels for part in parts)),
        properties=next((part.properties for part in parts if part.properties), None),
        moderation=tuple(chain.from_iterable(part.moderation for part in parts)),
        faces=tuple(chain.from_iterable(part.faces for part in parts)),
        text=tuple(chain.from_iterable(part.text for part in parts)),
        celebrities=tuple(chain.from_iterable(part.celebrities for part in parts)),
    )


# ── the operations ───────────────────────────────────────────────────────────────────────────────


def _told(
    ask: Ask, client: "RekognitionClient", image: "ImageTypeDef", wanted: Wanted
) -> Recognition:
    """The answer, or its error in this project's words."""
    try:
        return ask(client, image, wanted)
    except ClientError as error:
        code, message = error.response["Error"]["Code"], error.response["Error"]["Message"]
        if code == NO_FACE and error.operation_name in ABOUT_FACES:
            logger.info("%s sees no face: %s", error.operation_name, message)
            return Recognition()
        if code in OVER_QUOTA:
            raise Throttled("Rekognition takes no more calls for now.") from error
        if code in REFUSALS:
            raise RecognitionRefused(f"Rekognition refused the picture: {message}") from error
        raise


def _detect_labels(
    client: "RekognitionClient", image: "ImageTypeDef", wanted: Wanted
) -> Recognition:
    features: list[DetectLabelsFeatureNameType] = []
    request: DetectLabelsRequestTypeDef = {"Image": image, "Features": features}
    if spec := wanted.get(Feature.LABELS):
        features.append("GENERAL_LABELS")
        request["MaxLabels"] = spec.max_count
        request["MinConfidence"] = spec.min_confidence
    if Feature.PROPERTIES in wanted:
        features.append("IMAGE_PROPERTIES")
    answer = client.detect_labels(**request)
    properties = answer.get("ImageProperties")
    return Recognition(
        labels=_labels(answer["Labels"], spec) if spec else (),
        properties=_properties(properties) if properties else None,
    )


def _detect_moderation_labels(
    client: "RekognitionClient", image: "ImageTypeDef", wanted: Wanted
) -> Recognition:
    spec = wanted[Feature.MODERATION]
    answer = client.detect_moderation_labels(Image=image, MinConfidence=spec.min_confidence)
    return Recognition(moderation=_moderation(answer["ModerationLabels"], spec))


def _detect_faces(
    client: "RekognitionClient", image: "ImageTypeDef", wanted: Wanted
) -> Recognition:
    spec = wanted[Feature.FACES]
    attributes: Any = list(spec.attributes or ("DEFAULT",))
    answer = client.detect_faces(Image=image, Attributes=attributes)
    return Recognition(faces=_faces(answer["FaceDetails"], spec))


def _detect_text(client: "RekognitionClient", image: "ImageTypeDef", wanted: Wanted) -> Recognition:
    spec = wanted[Feature.TEXT]
    answer = client.detect_text(
        Image=image, Filters={"WordFilter": {"MinConfidence": spec.min_confidence}}
    )
    return Recognition(text=_text(answer["TextDetections"], spec))


def _recognize_celebrities(
    client: "RekognitionClient", image: "ImageTypeDef", wanted: Wanted
) -> Recognition:
    answer = client.recognize_celebrities(Image=image)
    return Recognition(
        celebrities=_celebrities(answer["CelebrityFaces"], wanted[Feature.CELEBRITIES])
    )


OPERATIONS: Mapping[tuple[Feature, ...], Ask] = {
    (Feature.LABELS, Feature.PROPERTIES): _detect_labels,
    (Feature.MODERATION,): _detect_moderation_labels,
    (Feature.FACES,): _detect_faces,
    (Feature.TEXT,): _detect_text,
    (Feature.CELEBRITIES,): _recognize_celebrities,
}
"""Which operation answers what."""


# ── their answers ────────────────────────────────────────────────────────────────────────────────


def _labels(answers: Sequence["LabelTypeDef"], spec: FeatureSpec) -> tuple[Label, ...]:
    labels = [
        Label(
            name=answer["Name"],
            confidence=round(answer["Confidence"], 2),
            parents=tuple(parent["Name"] for parent in answer.get("Parents", ())),
            categories=tuple(category["Name"] for category in answer.get("Categories", ())),
            boxes=tuple(_box(instance["BoundingBox"]) for instance in answer.get("Instances", ())),
        )
        for answer in answers
        if answer["Confidence"] >= spec.min_confidence
    ]
    labels.sort(key=lambda label: (-label.confidence, label.name))
    return tuple(labels[: spec.max_count])


def _moderation(
    answers: Sequence["ModerationLabelTypeDef"], spec: FeatureSpec
) -> tuple[ModerationLabel, ...]:
    # Parents before what is below them and as sure: without them nobody knows what it belongs to.
    by_level = sorted(answers, key=lambda answer: answer.get("TaxonomyLevel", 0))
    labels = [
        ModerationLabel(
            name=answer["Name"],
            confidence=round(answer["Confidence"], 2),
            parent=answer.get("ParentName", ""),
        )
        for answer in by_level
        if answer["Confidence"] >= spec.min_confidence
    ]
    labels.sort(key=lambda label: -label.confidence)
    return tuple(labels[: spec.max_count])


def _faces(answers: Sequence["FaceDetailTypeDef"], spec: FeatureSpec) -> tuple[Face, ...]:
    faces = [
        Face(
            box=_box(answer["BoundingBox"]),
            confidence=round(answer["Confidence"], 2),
            attributes=_attributes(answer, spec),
        )
        for answer in answers
        if answer["Confidence"] >= spec.min_confidence
    ]
    faces.sort(key=lambda face: -face.confidence)  # of those as sure, the largest comes first
    return tuple(faces[: spec.max_count])


def _attributes(face: Mapping[str, Any], spec: FeatureSpec) -> tuple[FaceAttribute, ...]:
    asked = ATTRIBUTES if "ALL" in spec.attributes else spec.attributes
    attributes = (ATTRIBUTES[name](name.lower(), face) for name in asked)
    return tuple(attribute for attribute in attributes if attribute)


def _simple(name: str, face: Mapping[str, Any]) -> FaceAttribute | None:
    """Something that is so or not, or has one of few names; ``eyes_open`` is ``EyesOpen``."""
    answer = face.get(name.title().replace("_", ""))
    if answer is None:
        return None
    return FaceAttribute(name, str(answer["Value"]).lower(), round(answer["Confidence"], 2))


def _age_range(name: str, face: Mapping[str, Any]) -> FaceAttribute | None:
    ages = face.get("AgeRange")
    return FaceAttribute(name, f"{ages['Low']}–{ages['High']}") if ages else None


def _emotions(name: str, face: Mapping[str, Any]) -> FaceAttribute | None:
    emotions = face.get("Emotions")
    if not emotions:
        return None
    surest = max(emotions, key=lambda emotion: emotion["Confidence"])
    return FaceAttribute(name, surest["Type"].lower(), round(surest["Confidence"], 2))


def _eye_direction(name: str, face: Mapping[str, Any]) -> FaceAttribute | None:
    eyes = face.get("EyeDirection")
    if eyes is None:
        return None
    yaw, pitch = (round(eyes[axis], 1) + 0 for axis in ("Yaw", "Pitch"))  # + 0: there is no -0.0
    return FaceAttribute(name, f"{yaw}, {pitch}", round(eyes["Confidence"], 2))


ATTRIBUTES: Mapping[str, Callable[[str, Mapping[str, Any]], FaceAttribute | None]] = {
    "AGE_RANGE": _age_range,
    "BEARD": _simple,
    "EMOTIONS": _emotions,
    "EYEGLASSES": _simple,
    "EYES_OPEN": _simple,
    "EYE_DIRECTION": _eye_direction,
    "FACE_OCCLUDED": _simple,
    "GENDER": _simple,
    "MOUTH_OPEN": _simple,
    "MUSTACHE": _simple,
    "SMILE": _simple,
    "SUNGLASSES": _simple,
}
"""How each attribute of a face is read. A face may lack any that was asked for."""


def _text(answers: Sequence["TextDetectionTypeDef"], spec: FeatureSpec) -> tuple[TextLine, ...]:
    """The surest lines, in the order of reading; the words of each are in the answer again."""
    lines = [
        answer
        for answer in answers
        if answer["Type"] == "LINE" and answer["Confidence"] >= spec.min_confidence
    ]
    surest = sorted(range(len(lines)), key=lambda place: -lines[place]["Confidence"])
    return tuple(
        TextLine(
            text=lines[place]["DetectedText"],
            confidence=round(lines[place]["Confidence"], 2),
            box=_box(lines[place]["Geometry"]["BoundingBox"]),
        )
        for place in sorted(surest[: spec.max_count])
    )


def _celebrities(answers: Sequence["CelebrityTypeDef"], spec: FeatureSpec) -> tuple[Celebrity, ...]:
    celebrities = [
        Celebrity(
            name=answer["Name"],
            confidence=round(answer["MatchConfidence"], 2),
            box=_box(answer["Face"]["BoundingBox"]),
            urls=tuple(answer.get("Urls", ())),
        )
        for answer in answers
        if answer["MatchConfidence"] >= spec.min_confidence
    ]
    celebrities.sort(key=lambda celebrity: (-celebrity.confidence, celebrity.name))
    return tuple(celebrities[: spec.max_count])


def _box(box: "BoundingBoxTypeDef") -> BoundingBox:
    """Cut off at the picture's edges, over which Rekognition's go where something is cut off."""
    left, right = _within(box["Left"], box["Left"] + box["Width"])
    top, bottom = _within(box["Top"], box["Top"] + box["Height"])
    return BoundingBox(left, top, round(right - left, 4), round(bottom - top, 4))


def _within(begin: float, end: float) -> tuple[float, float]:
    return round(min(max(begin, 0.0), 1.0), 4), round(min(max(end, 0.0), 1.0), 4)


def _properties(answer: "DetectLabelsImagePropertiesTypeDef") -> ImageProperties:
    quality = answer["Quality"]
    return ImageProperties(
        brightness=round(quality["Brightness"], 2),
        sharpness=round(quality["Sharpness"], 2),
        contrast=round(quality["Contrast"], 2),
        colors=tuple(
            DominantColor(hex=color["HexCode"].lower(), percent=round(color["PixelPercent"], 2))
            for color in answer.get("DominantColors", ())
        ),
    )
