"""Everything that can go wrong and that this project has a name for.

::

    PipelineError
    ├── PermanentError          trying again gives the same: recorded FAILED, announced, consumed
    │   ├── EmptyFile               empty_file
    │   ├── TooLarge                too_large
    │   ├── UnsupportedFormat       unsupported_format
    │   ├── CorruptImage            corrupt_image
    │   ├── TooManyPixels           too_many_pixels
    │   ├── DimensionsOutOfRange    dimensions_out_of_range
    │   └── RecognitionRefused      recognition_refused
    ├── RequestError            what a client asked for cannot be done; knows its HTTP status
    │   ├── InvalidRequest          invalid_request · 400
    │   ├── SignInRequired          sign_in_required · 401
    │   ├── CrossSiteRequest        cross_site_request · 403
    │   ├── ReviewersOnly           reviewers_only · 403
    │   ├── ImageQuarantined        image_quarantined · 403
    │   ├── ImageNotFound           image_not_found · 404
    │   ├── RenditionNotFound       rendition_not_found · 404
    │   ├── FileNotFound            file_not_found · 404
    │   ├── DestinationNotFound     webhook_not_found · 404
    │   ├── DeliveryNotFound        delivery_not_found · 404
    │   ├── MethodNotAllowed        method_not_allowed · 405
    │   ├── KeyTaken                key_taken · 409
    │   ├── KeyInUse                key_in_use · 409
    │   ├── NotQuarantined          not_quarantined · 409
    │   ├── VersionReplaced         version_replaced · 409
    │   ├── TooManyDestinations     too_many_webhooks · 409
    │   ├── TooManyRotations        too_many_rotations · 409
    │   ├── DestinationIsConfigured webhook_is_configured · 409
    │   ├── PayloadTooLarge         payload_too_large · 413
    │   ├── UnsupportedMediaType    unsupported_media_type · 415
    │   ├── UnfetchableUrl          unfetchable_url · 422
    │   ├── IdempotencyKeyReused    idempotency_key_reused · 422
    │   ├── Busy                    busy · 503
    │   └── Unhealthy               unhealthy · 503
    ├── StaleRevision           the record has changed since it was read
    ├── NotNow                  nothing is wrong with the image; the message has to come back
    │   ├── LeaseHeld               another worker is at this version
    │   ├── OutOfTime               the invocation ends before the image would be done
    │   └── Throttled               Rekognition or the catalog takes no more calls for now
    ├── TookTooLong             one invocation is too short for the image
    ├── OriginalGone            the object is no longer in the uploads bucket
    ├── Unreachable             the host of a URL cannot be called, or must not be
    │   ├── NotPublic               not_public
    │   ├── Inadmissible            inadmissible
    │   ├── NoConnection            no_connection
    │   ├── TimedOut                timed_out
    │   ├── BadCertificate          bad_certificate
    │   ├── BrokenOff               broken_off
    │   └── AnswerTooLong           answer_too_long
    ├── NotMailed               a mail could not be handed over
    ├── NotDelivered            a webhook was not taken; its message comes back
    ├── MalformedMessage        a queue brought something that this pipeline did not write
    ├── SettingsError           the environment is incomplete or contradictory
    └── BatchFailed             some messages of a batch have to come back

Anything else (an outage, a broken connection, a bug) is left as it is: the message comes back after
a growing delay and, after enough receives, goes to the dead-letter queue.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar


class PipelineError(Exception):
    """Base of the tree. ``code`` is stable and for programs, ``str(error)`` is for people."""

    code: ClassVar[str] = "pipeline_error"


class PermanentError(PipelineError):
    """The image itself is at fault: trying again gives the same."""


class EmptyFile(PermanentError):
    code = "empty_file"


class TooLarge(PermanentError):
    code = "too_large"


class UnsupportedFormat(PermanentError):
    code = "unsupported_format"


class CorruptImage(PermanentError):
    code = "corrupt_image"


class TooManyPixels(PermanentError):
    code = "too_many_pixels"


class DimensionsOutOfRange(PermanentError):
    code = "dimensions_out_of_range"


class RecognitionRefused(PermanentError):
    """Rekognition refused the proxy for what it is, not for how busy the service was."""

    code = "recognition_refused"


class RequestError(PipelineError):
    """What a client asked for cannot be done. ``status`` is the HTTP status that says so."""

    status: ClassVar[int] = 400


class InvalidRequest(RequestError):
    """``parameters`` tells what is wrong with each, by name, where it is theirs."""

    code = "invalid_request"

    def __init__(self, message: str, parameters: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.parameters = dict(parameters or {})


class SignInRequired(RequestError):
    code = "sign_in_required"
    status = 401


class CrossSiteRequest(RequestError):
    code = "cross_site_request"
    status = 403


class ReviewersOnly(RequestError):
    code = "reviewers_only"
    status = 403


class ImageQuarantined(RequestError):
    code = "image_quarantined"
    status = 403


class ImageNotFound(RequestError):
    code = "image_not_found"
    status = 404

    def __init__(
        self, message: str = "Image details not found for the given image identifier."
    ) -> None:
        super().__init__(message)


class RenditionNotFound(RequestError):
    code = "rendition_not_found"
    status = 404


class FileNotFound(RequestError):
    code = "file_not_found"
    status = 404


class DestinationNotFound(RequestError):
    code = "webhook_not_found"
    status = 404

    def __init__(self) -> None:
        super().__init__("There is no webhook with this id.")


class DeliveryNotFound(RequestError):
    code = "delivery_not_found"
    status = 404

    def __init__(self) -> None:
        super().__init__("The webhook was told of no such event within the last 30 days.")


class MethodNotAllowed(RequestError):
    code = "method_not_allowed"
    status = 405


class KeyTaken(RequestError):
    code = "key_taken"
    status = 409

    def __init__(self, key: str) -> None:
        super().__init__(
            f"There is an image named {key!r} already: choose another name, or delete it."
        )


class KeyInUse(RequestError):
    code = "key_in_use"
    status = 409

    def __init__(self, key: str) -> None:
        super().__init__(
            f"Another upload to {key!r}, or its deletion, is under way: try again in a moment."
        )


class NotQuarantined(RequestError):
    code = "not_quarantined"
    status = 409


class VersionReplaced(RequestError):
    """What was looked at is no longer what the key holds."""

    code = "version_replaced"
    status = 409


class TooManyDestinations(RequestError):
    code = "too_many_webhooks"
    status = 409


class TooManyRotations(RequestError):
    """Another one would take a secret away that was promised for longer."""

    code = "too_many_rotations"
    status = 409


class DestinationIsConfigured(RequestError):
    code = "webhook_is_configured"
    status = 409

    def __init__(self) -> None:
        super().__init__("This webhook comes from the settings: change WEBHOOKS there.")


class PayloadTooLarge(RequestError):
    code = "payload_too_large"
    status = 413


class UnsupportedMediaType(RequestError):
    code = "unsupported_media_type"
    status = 415


class UnfetchableUrl(RequestError):
    code = "unfetchable_url"
    status = 422


class IdempotencyKeyReused(RequestError):
    code = "idempotency_key_reused"
    status = 422


class Busy(RequestError):
    code = "busy"
    status = 503


class Unhealthy(RequestError):
    code = "unhealthy"
    status = 503


class StaleRevision(PipelineError):
    """The record has changed since it was read: another worker, version or removal was faster."""

    code = "stale_revision"


class NotNow(PipelineError):
    """It is not the image's fault, so however often this happens, it is not given up."""

    code = "not_now"


class LeaseHeld(NotNow):
    """``until`` is when the lease ends, and the time to come back."""

    code = "lease_held"

    def __init__(self, message: str, until: str) -> None:
        super().__init__(message)
        self.until = until


class OutOfTime(NotNow):
    code = "out_of_time"


class Throttled(NotNow):
    code = "throttled"


class TookTooLong(PipelineError):
    code = "took_too_long"


class OriginalGone(PipelineError):
    code = "original_gone"


class Unreachable(PipelineError):
    """What it says gives away no address, and ends without a full stop: who asked adds advice."""

    code = "unreachable"


class NotPublic(Unreachable):
    """A name that there is not, and one with a private address, are told apart by nobody."""

    code = "not_public"


class Inadmissible(Unreachable):
    """A port or scheme that only hosts within an allowed network are called by."""

    code = "inadmissible"


class NoConnection(Unreachable):
    code = "no_connection"


class TimedOut(Unreachable):
    code = "timed_out"


class BadCertificate(Unreachable):
    code = "bad_certificate"


class BrokenOff(Unreachable):
    code = "broken_off"


class AnswerTooLong(Unreachable):
    code = "answer_too_long"


class NotMailed(PipelineError):
    code = "not_mailed"


class NotDelivered(PipelineError):
    """``delay_s``: seconds until it is to be tried again.

    ``starts_over``: by a message that has not been received yet, since this one has been too often.
    """

    code = "not_delivered"

    def __init__(self, message: str, delay_s: int, *, starts_over: bool = False) -> None:
        super().__init__(message)
        self.delay_s = delay_s
        self.starts_over = starts_over


class MalformedMessage(PipelineError):
    code = "malformed_message"


class SettingsError(PipelineError):
    code = "settings_error"


class BatchFailed(PipelineError):
    """Raised once a whole batch has been seen to, so that the failed messages come back."""

    code = "batch_failed"

    def __init__(self, failures: Sequence[BaseException], total: int) -> None:
        reasons = "; ".join(f"{type(failure).__name__}: {failure}" for failure in failures)
        super().__init__(f"{len(failures)} of {total} messages failed: {reasons}")
        self.failures = tuple(failures)


def reason_of(error: BaseException) -> str:
    """What went wrong in a few words that may be shown to anybody.

    An AWS error's own message may hold ARNs, bucket names and URLs, so only its code and the
    operation are told; the log has the rest.
    """
    if isinstance(error, PipelineError):
        return str(error)
    answer = getattr(error, "response", None)
    if isinstance(answer, dict) and "Error" in answer:
        operation = getattr(error, "operation_name", "a call")
        return f"{operation} was answered with {answer['Error'].get('Code', 'an error')}"
    return type(error).__name__
