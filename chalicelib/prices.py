"""List prices of us-east-1, in USD for 1,000 images. README.md, "Costs", has them one by one."""

RECOGNITION_USD = 1.00
"""Rekognition DetectLabels, general labels."""

PROPERTIES_USD = 0.75
"""IMAGE_PROPERTIES, on top of it."""

REST_USD = 0.064
"""S3, DynamoDB, SQS and SNS together, with the default settings."""


def cost_usd(images: int, *, image_properties: bool, recognized: bool = True) -> float:
    """What processing so many images costs in calls, with Rekognition's where it answered."""
    recognition = RECOGNITION_USD + (PROPERTIES_USD if image_properties else 0)
    return images / 1000 * (REST_USD + (recognition if recognized else 0))
