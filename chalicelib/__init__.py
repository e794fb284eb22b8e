"""The image pipeline: what runs inside the Lambda functions."""
