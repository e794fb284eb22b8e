"""S3: the bucket of originals and the bucket of renditions."""

import random
import time
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, urlencode
from uuid import uuid4

from botocore.exceptions import ClientError

from chalicelib.aws import batches
from chalicelib.errors import InvalidRequest, KeyInUse, KeyTaken, OriginalGone, TooLarge
from chalicelib.messages import timestamp
from chalicelib.model import (
    QUARANTINE_PREFIX,
    DirectUpload,
    Image,
    ImageStatus,
    Original,
    RenderedImage,
    Rendition,
    Version,
)

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectRequestTypeDef, HeadObjectOutputTypeDef

MAX_SOURCE_KEY_BYTES = 1536
"""S3 takes 2 KB of user metadata in all; a longer quoted key is left out, the image id never."""

CONFLICTS = 4
"""Tries of a PUT that meets another, or a deletion: S3 says to repeat it."""

MAX_VERSIONS = 100
"""Of one key, that are shown."""

DELETE_BATCH = 1000
"""DeleteObjects takes at most 1,000 keys."""

ORIGINAL_GONE = ("NoSuchKey", "NoSuchVersion", "404", "MethodNotAllowed")
"""How S3 says that a version is no longer there; MethodNotAllowed is its word for a marker."""


@dataclass(frozen=True, slots=True)
class Uploads:
    """The bucket of originals. It is versioned, so that a version read is the version meant."""

    client: "S3Client"
    bucket: str

    def get(self, original: Original, max_bytes: int) -> bytes:
        """The bytes of that version.

        Raises TooLarge before reading a body over ``max_bytes``, OriginalGone when the version
        is not there any more.
        """
        version: GetObjectRequestTypeDef = {"Bucket": self.bucket, "Key": original.key}
        if original.version_id:
            version["VersionId"] = original.version_id
        try:
            answer = self.client.get_object(**version)
        except ClientError as error:
            if error.response["Error"]["Code"] in ORIGINAL_GONE:
                raise OriginalGone(f"{original.key} has been removed.") from error
            raise
        # Not ``with body``, which gives the bare stream and so skips the checksum.
        with closing(answer["Body"]) as body:
            if answer["ContentLength"] > max_bytes:
                raise TooLarge(
                    f"{answer['ContentLength']:,} bytes is over the limit of {max_bytes:,} bytes: "
                    "upload a smaller file, or raise MAX_BYTES."
                )
            return body.read()

    def current(self, key: str) -> Original | None:
        """The version that the key holds now, without a sequencer, or None."""
        answer = self._held(key)
        if answer is None:
            return None
        return Original(
            key=key,
            version_id=answer.get("VersionId", ""),
            etag=answer["ETag"].strip('"'),
            size_bytes=answer["ContentLength"],
            sequencer="",
            uploaded_at=timestamp(answer["LastModified"]),
        )

    def put(
        self, key: str, body: bytes, content_type: str, filename: str, request: str = ""
    ) -> tuple[str, str]:
        """Store a new original and give its version id and ETag. Never overwrites: KeyTaken.

        What the same ``request`` has stored already, whose answer may have been lost, is not stored
        again. ``filename`` is kept as the client gave it, percent-encoded, since S3 metadata is
        ASCII. Raises KeyInUse while another upload or a deletion of the key does not end.
        """
        request = request or uuid4().hex
        for attempt in range(CONFLICTS):
            time.sleep(random.uniform(0, 0.1 * 2**attempt) if attempt else 0)  # noqa: S311
            try:
                answer = self.client.put_object(
                    Bucket=self.bucket,
                    Key=key,
                    Body=body,
                    ContentType=content_type,
                    Metadata={"filename": _as_metadata(filename), "request": request},
                    IfNoneMatch="*",
                )
            except ClientError as error:
                code = error.response["Error"]["Code"]
                if code == "PreconditionFailed":
                    if stored := self._stored_by(request, key):
                        return stored
                    raise KeyTaken(key) from error
                if code != "ConditionalRequestConflict":
                    raise
            else:
                return answer.get("VersionId", ""), answer["ETag"].strip('"')
        raise KeyInUse(key)

    def _stored_by(self, request: str, key: str) -> tuple[str, str] | None:
        """The version and ETag of what the key holds, where that request has stored it."""
        held = self._held(key)
        if held is None or held["Metadata"].get("request") != request:
            return None
        return held.get("VersionId", ""), held["ETag"].strip('"')

    def form(
        self, key: str, content_type: str, filename: str, max_bytes: int, expires_s: int
    ) -> DirectUpload:
        """A form that stores one original of 1 to ``max_bytes`` bytes (POST Object).

        S3 takes no other key, content type or size. It does overwrite, as any upload to S3 itself
        does: the bucket keeps the version before. Raises InvalidRequest for a key in which S3
        would put the name of the file (``${filename}``), and so store another.
        """
        if "${filename}" in key:
            raise InvalidRequest("S3 would replace ${filename} in the name: choose another one.")
        fields = {"Content-Type": content_type, "x-amz-meta-filename": _as_metadata(filename)}
        form = self.client.generate_presigned_post(
            Bucket=self.bucket,
            Key=key,
            Fields=dict(fields),
            Conditions=[
                ["content-length-range", 1, max_bytes],
                *({name: value} for name, value in fields.items()),
            ],
            ExpiresIn=expires_s,
        )
        expires_at = timestamp(datetime.now(UTC) + timedelta(seconds=expires_s))
        return DirectUpload(form["url"], form["fields"], expires_at)

    def filename(self, key: str) -> str | None:
        """What the client has called what the key holds; None for an upload that did not say."""
        held = self._held(key)
        return unquote(held["Metadata"].get("filename", "")) or None if held else None

    def _held(self, key: str) -> "HeadObjectOutputTypeDef | None":
        """What S3 says of what the key holds now, or None."""
        try:
            return self.client.head_object(Bucket=self.bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in ORIGINAL_GONE:
                return None
            raise

    def history(self, key: str) -> list[Version]:
        """What the bucket still holds of the key, newest first, up to ``MAX_VERSIONS``."""
        answer = self.client.list_object_versions(
            Bucket=self.bucket, Prefix=key, MaxKeys=MAX_VERSIONS
        )
        stored = [
            Version(
                version_id=each["VersionId"],
                uploaded_at=timestamp(each["LastModified"]),
                size_bytes=each["Size"],
                is_current=each["IsLatest"],
            )
            for each in answer.get("Versions", ())
            if each["Key"] == key  # and not a longer one that begins with it
        ]
        marks = [
            Version(
                version_id=each["VersionId"],
                uploaded_at=timestamp(each["LastModified"]),
                size_bytes=0,
                is_current=each["IsLatest"],
                is_deleted=True,
            )
            for each in answer.get("DeleteMarkers", ())
            if each["Key"] == key
        ]
        return sorted(
            [*stored, *marks], key=lambda each: (each.is_current, each.uploaded_at), reverse=True
        )

    def delete(self, key: str) -> None:
        """Put a delete marker on the key; older versions stay until the lifecycle removes them."""
        self.client.delete_object(Bucket=self.bucket, Key=key)

    def listing(self, prefix: str, after: str = "") -> Iterator[list[Original]]:
        """What is in the bucket under a prefix, by key, a page of up to 1,000 at a time.

        It begins after the key ``after``. Version ids and sequencers are not told there, and
        folders as the S3 console makes them are left out.
        """
        pages = self.client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self.bucket, Prefix=prefix, StartAfter=after):
            yield [
                Original(
                    key=stored["Key"],
                    version_id="",
                    etag=stored["ETag"].strip('"'),
                    size_bytes=stored["Size"],
                    sequencer="",
                    uploaded_at=timestamp(stored["LastModified"]),
                )
                for stored in page.get("Contents", ())
                if stored["Size"] or not stored["Key"].endswith("/")
            ]


@dataclass(frozen=True, slots=True)
class Renditions:
    """The bucket of renditions. No function is triggered by it, so nothing can loop.

    A key is ``<prefix>/<image id>/<attempt>/<name>.<extension>``, never that of another attempt, so
    that a worker that comes late neither overwrites nor deletes what is served. What is withheld
    has a prefix of its own.
    """

    client: "S3Client"
    bucket: str

    def put(
        self, image: Image, rendered: RenderedImage, content_type: str, extension: str
    ) -> Rendition:
        """Store a rendition of this attempt at the image. The source key is percent-encoded."""
        spec = rendered.spec
        prefix = QUARANTINE_PREFIX if image.is_withheld else spec.prefix
        key = f"{prefix}/{image.image_id}/{image.attempt}/{spec.name}.{extension}"
        is_withheld = image.is_withheld
        facts = {
            "image-id": image.image_id,
            "processed-at": image.processed_at or "",
            "status": str(ImageStatus.QUARANTINED if is_withheld else ImageStatus.COMPLETED),
            "pipeline-version": image.pipeline_version or "",
        }
        source_key = quote(image.original.key)
        metadata = {"source-key": source_key} if len(source_key) <= MAX_SOURCE_KEY_BYTES else {}
        self.client.put_object(
            Bucket=self.bucket,
            Key=key,
            Body=rendered.body,
            ContentType=content_type,
            CacheControl="private, max-age=31536000, immutable",
            Metadata=facts | metadata,
            Tagging=urlencode(facts | _as_tag("source-key", image.original.key)),
        )
        return Rendition(
            name=spec.name,
            key=key,
            format=rendered.format,
            width=rendered.width,
            height=rendered.height,
            size_bytes=len(rendered.body),
            window=rendered.window,
        )

    def get(self, key: str) -> bytes | None:
        """The bytes of a rendition; None where it is gone, or withheld by now.

        S3 forbids who may not list the bucket what is not there.
        """
        try:
            answer = self.client.get_object(Bucket=self.bucket, Key=key)
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "AccessDenied"):
                return None
            raise
        with closing(answer["Body"]) as body:
            return body.read()

    def keep(self, image_id: str, attempt: int, name: str, body: bytes) -> None:
        """Put down something of an attempt for its next stage, where nobody is given anything."""
        self.client.put_object(
            Bucket=self.bucket, Key=_working_key(image_id, attempt, name), Body=body
        )

    def kept(self, image_id: str, attempt: int, name: str) -> bytes | None:
        """What an attempt has put down under a name, if it is there."""
        try:
            answer = self.client.get_object(
                Bucket=self.bucket, Key=_working_key(image_id, attempt, name)
            )
        except self.client.exceptions.NoSuchKey:
            return None
        with closing(answer["Body"]) as body:
            return body.read()

    def tidy(self, image: Image) -> None:
        """Delete what attempts at this image have stored and its record does not name.

        An attempt that is under way, or that began after the record was read, is left alone.
        """
        over = image.attempt - (image.status is ImageStatus.PROCESSING)
        named = {rendition.key for rendition in image.renditions}
        self.delete(
            key
            for prefix in self._prefixes()
            for key in self.listing(f"{prefix}{image.image_id}/")
            if key not in named and attempt_of(key) in range(1, over + 1)
        )

    def delete(self, keys: Iterable[str]) -> None:
        """Delete these objects; one that is not there is no error."""
        for batch in batches(keys, DELETE_BATCH):
            answer = self.client.delete_objects(
                Bucket=self.bucket,
                Delete={"Objects": [{"Key": key} for key in batch], "Quiet": True},
            )
            if answer.get("Errors"):
                raise OSError(f"S3 did not delete all: {answer['Errors']!r:.500}")

    def _prefixes(self) -> list[str]:
        """Every folder there is, those included that no rendition goes to any more."""
        pages = self.client.get_paginator("list_objects_v2")
        return [
            folder["Prefix"]
            for page in pages.paginate(Bucket=self.bucket, Delimiter="/")
            for folder in page.get("CommonPrefixes", ())
        ]

    def listing(self, prefix: str) -> Iterator[str]:
        """Every key in the bucket under a prefix, in the order of keys."""
        pages = self.client.get_paginator("list_objects_v2")
        for page in pages.paginate(Bucket=self.bucket, Prefix=prefix):
            yield from (stored["Key"] for stored in page.get("Contents", ()))

    def url(self, rendition: Rendition, expires_s: int) -> str:
        """A link to the rendition that works for ``expires_s`` seconds, for whoever holds it."""
        return self.client.generate_presigned_url(
            "get_object",
            Params={"Bucket": self.bucket, "Key": rendition.key},
            ExpiresIn=expires_s,
        )


def _working_key(image_id: str, attempt: int, name: str) -> str:
    return f"{QUARANTINE_PREFIX}/{image_id}/{attempt}/{name}"


def attempt_of(key: str) -> int:
    """The attempt that stored a rendition; 0 where it is none of ours."""
    attempt = key.split("/")[2]
    return int(attempt) if attempt.isdecimal() else 0


def _as_metadata(filename: str) -> str:
    """The name as ASCII; of a very long one the beginning."""
    quoted = quote(filename)
    most = MAX_SOURCE_KEY_BYTES // len("%F0%9F%A6%8A")
    return quoted if len(quoted) <= MAX_SOURCE_KEY_BYTES else quote(filename[:most])


def _as_tag(name: str, value: str) -> dict[str, Any]:
    """The tag, its value cut to what S3 allows: 256 letters, digits, spaces and ``+-=._:/@``."""
    allowed = "".join(char if char.isalnum() or char in " +-=._:/@" else "_" for char in value)
    return {name: allowed.encode("utf-16-le")[:512].decode("utf-16-le", "ignore")}
