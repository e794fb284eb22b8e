"""List prices of us-east-1, in USD for 1,000 images. README.md, "Costs", has them one by one."""

RECOGNITION_USD = 1.00
"""Rekognition DetectLabels, general labels."""

REST_USD = 0.070
"""S3, DynamoDB, SQS and SNS together, with the default settings."""


def cost_usd(images: int, *, image_properties: bool, recognized: bool = True) -> float:
    """What processing so many images costs in calls; IMAGE_PROPERTIES is billed as a second one."""
    recognition = RECOGNITION_USD * (2 if image_properties else 1) if recognized else 0
    return images / 1000 * (recognition + REST_USD)
