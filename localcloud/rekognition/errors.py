"""The errors of the real service, with its words and its HTTP status."""

from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType

MESSAGES: Mapping[str, str] = MappingProxyType(
    {
        "AccessDeniedException": "User is not authorized to perform the operation",
        "ImageTooLargeException": "Image dimensions exceed the maximum limit.",
        "InternalServerError": "Amazon Rekognition experienced a service issue",
        "InvalidImageFormatException": "Request has invalid image format",
        "InvalidParameterException": "Request has invalid parameters",
        "InvalidS3ObjectException": (
            "Unable to get object metadata from S3. "
            "Check object key, region and/or access permissions."
        ),
        "ProvisionedThroughputExceededException": "Provisioned rate exceeded",
        "ResourceNotFoundException": "The specified resource does not exist",
        "SerializationException": "The request could not be read",
        "ThrottlingException": "Rate exceeded",
        "UnknownOperationException": "The operation is not known",
        "ValidationException": "The request breaks a constraint",
    }
)


class ServiceError(Exception):
    """What the service answers instead of a result; ``code`` is one of MESSAGES."""

    def __init__(self, code: str, message: str | None = None) -> None:
        self.code = code
        self.message = message or MESSAGES[code]
        super().__init__(f"{code}: {self.message}")

    @property
    def status(self) -> HTTPStatus:
        internal = self.code == "InternalServerError"
        return HTTPStatus.INTERNAL_SERVER_ERROR if internal else HTTPStatus.BAD_REQUEST

    @property
    def body(self) -> dict[str, str]:
        return {"__type": self.code, "Code": self.code, "Message": self.message}
