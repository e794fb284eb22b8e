"""List prices of us-east-1, in USD for 1,000 images. docs/costs.md has them one by one."""

from collections.abc import Iterable

RECOGNITION_USD = {
    "labels": 1.00,
    "properties": 0.75,
    "moderation": 1.00,
    "faces": 1.00,
    "text": 1.00,
    "celebrities": 1.00,
}
"""What each feature of Rekognition costs; labels and properties are one call, and two prices."""

REST_USD = 0.066
"""S3, DynamoDB, SQS, SNS and EventBridge together, with the default settings."""


def cost_usd(images: int, features: Iterable[str], *, recognized: bool = True) -> float:
    """What processing so many images costs in calls, with Rekognition's where it answered."""
    recognition = sum(RECOGNITION_USD[feature] for feature in features) if recognized else 0
    return images / 1000 * (REST_USD + recognition)
