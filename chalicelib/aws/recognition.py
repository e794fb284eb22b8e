"""Rekognition: what is in a picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import ClientError

from chalicelib.errors import RecognitionRefused, Throttled
from chalicelib.model import BoundingBox, DominantColor, ImageProperties, Label, Recognition

if TYPE_CHECKING:
    from mypy_boto3_rekognition import RekognitionClient
    from mypy_boto3_rekognition.literals import DetectLabelsFeatureNameType
    from mypy_boto3_rekognition.type_defs import (
        BoundingBoxTypeDef,
        DetectLabelsImagePropertiesTypeDef,
        LabelTypeDef,
    )

REFUSALS = (
    "InvalidImageFormatException",
    "ImageTooLargeException",
    "InvalidParameterException",
    "ValidationException",  # what it really says of more than 5 MB in the request
)
"""Errors that say the picture is at fault; any other (throttling, outage) may pass by itself."""

OVER_QUOTA = (
    "ThrottlingException",
    "ProvisionedThroughputExceededException",
    "LimitExceededException",
    "TooManyRequestsException",
)
"""Errors that say the account asks for more at once than its quota allows."""


@dataclass(frozen=True, slots=True)
class Recognizer:
    client: "RekognitionClient"
    max_labels: int
    min_confidence: float
    image_properties: bool

    def recognize(self, proxy: bytes) -> Recognition:
        """Labels, surest first, and image properties where they are switched on.

        ``proxy``: JPEG or PNG of at least 80 pixels a side and at most 5 MB, sent as bytes, so
        that neither the original's format nor its size matters. Raises RecognitionRefused for the
        picture, and Throttled when calls over the quota were not taken however often repeated.
        """
        features: list[DetectLabelsFeatureNameType] = ["GENERAL_LABELS"]
        if self.image_properties:
            features.append("IMAGE_PROPERTIES")
        try:
            answer = self.client.detect_labels(
                Image={"Bytes": proxy},
                MaxLabels=self.max_labels,
                MinConfidence=self.min_confidence,
                Features=features,
            )
        except ClientError as error:
            if error.response["Error"]["Code"] in OVER_QUOTA:
                raise Throttled("Rekognition takes no more calls for now.") from error
            if error.response["Error"]["Code"] in REFUSALS:
                raise RecognitionRefused(
                    f"Rekognition refused the picture: {error.response['Error']['Message']}"
                ) from error
            raise
        properties = answer.get("ImageProperties")
        return Recognition(
            labels=tuple(
                sorted(_labels(answer["Labels"]), key=lambda label: (-label.confidence, label.name))
            ),
            properties=_properties(properties) if properties else None,
        )


def _labels(answers: Sequence["LabelTypeDef"]) -> list[Label]:
    return [
        Label(
            name=answer["Name"],
            confidence=round(answer["Confidence"], 2),
            parents=tuple(parent["Name"] for parent in answer.get("Parents", ())),
            categories=tuple(category["Name"] for category in answer.get("Categories", ())),
            boxes=tuple(_box(instance["BoundingBox"]) for instance in answer.get("Instances", ())),
        )
        for answer in answers
    ]


def _box(box: "BoundingBoxTypeDef") -> BoundingBox:
    return BoundingBox(
        left=round(box["Left"], 4),
        top=round(box["Top"], 4),
        width=round(box["Width"], 4),
        height=round(box["Height"], 4),
    )


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
