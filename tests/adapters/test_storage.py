"""The two buckets, as S3 keeps them."""

import io
import re
import threading
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any
from urllib.parse import quote, unquote
from urllib.request import urlopen

import pytest
from botocore.awsrequest import AWSResponse
from botocore.exceptions import BotoCoreError, ClientError, FlexibleChecksumError
from botocore.httpsession import URLLib3Session
from urllib3 import HTTPHeaderDict, HTTPResponse
from urllib3.exceptions import HTTPError

from chalicelib.aws import storage
from chalicelib.aws.storage import Renditions, Uploads
from chalicelib.errors import KeyInUse, KeyTaken, OriginalGone, PipelineError, TooLarge
from chalicelib.model import (
    BoundingBox,
    Image,
    ImageStatus,
    Original,
    OutputFormat,
    RenderedImage,
    Rendition,
    RenditionSpec,
)
from localcloud.cloud import LocalCloud
from tests.adapters.conftest import Operations, error_of
from tests.waiting import TIMEOUT_S

NUMBERS = count(1)
NOW = "2026-01-31T09:15:00.000Z"
SMALL = RenditionSpec("small", 640, 480)
COPY = RenditionSpec("copy", 640, 480, prefix="processed")

AWKWARD_KEYS = [
    "uploads/two words.jpg",
    "uploads/a+b.jpg",
    "uploads/100%25.jpg",
    "uploads/é ü 東京.jpg",
    "uploads/e\u0301.jpg",
    "uploads/🦊.jpg",
    "uploads/<a>&'b'\"c\"?#{d}|\\^~`[e]*!.jpg",
    "uploads/tab\tbell\x07line\nbreak.jpg",
    "uploads/..",
    "uploads/" + "x" * 1016,
    "uploads/" + " " * 1016,
    "uploads/" + "é" * 508,
    "uploads/" + "🦊" * 254,
]


@pytest.fixture
def uploads(cloud: LocalCloud, client_of: Callable[[str], Any]) -> Uploads:
    return Uploads(client_of("s3"), cloud.outputs["UploadsBucket"])


@pytest.fixture
def renditions(cloud: LocalCloud, client_of: Callable[[str], Any]) -> Renditions:
    return Renditions(client_of("s3"), cloud.outputs["RenditionsBucket"])


@pytest.fixture
def operations(client_of: Callable[[str], Any]) -> Iterator[Operations]:
    """What is asked of S3."""
    with Operations(client_of("s3")) as operations:
        yield operations


def new_key(name: str = "cat.jpg") -> str:
    """A key of the test's own, outside of what triggers functions."""
    return f"adapters/{next(NUMBERS)}/{name}"


def put(uploads: Uploads, key: str, body: bytes = b"picture") -> Original:
    version_id, etag = uploads.put(key, body, "image/jpeg", "cat.jpg")
    return Original(key, version_id, etag, len(body), "", NOW)


def original_of(key: str) -> Original:
    """One version of an object, that need not be there."""
    return Original(key, f"version-{next(NUMBERS)}", "etag", 1, "", NOW)


# ── originals ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["cat.jpg", "two words + é 100%25.jpg", "🦊?#&.jpg"])
def test_original_comes_back_as_it_was_put(uploads: Uploads, name: str) -> None:
    """Body, type and the client's own name for it, under any key."""
    key = new_key(name)

    version_id, etag = uploads.put(key, b"picture", "image/webp", name)

    original = Original(key, version_id, etag, 7, "", NOW)
    assert uploads.get(original, 7) == b"picture"
    head = uploads.client.head_object(Bucket=uploads.bucket, Key=key)
    assert (head["ContentType"], head["VersionId"]) == ("image/webp", version_id)
    assert unquote(head["Metadata"]["filename"]) == name
    assert '"' not in etag


def test_put_never_overwrites(uploads: Uploads) -> None:
    """A key that is in use is refused, and keeps what it has."""
    original = put(uploads, new_key())

    with pytest.raises(KeyTaken, match=re.escape(original.key)):
        uploads.put(original.key, b"other", "image/jpeg", "cat.jpg")

    current = uploads.current(original.key)
    assert current is not None
    assert current.version_id == original.version_id
    assert uploads.get(current, 100) == b"picture"


def test_key_can_be_used_again_after_a_removal(uploads: Uploads) -> None:
    """A delete marker is no object; what is put over it is another version."""
    first = put(uploads, new_key())
    uploads.delete(first.key)

    second = put(uploads, first.key, b"other")

    assert second.version_id != first.version_id
    assert uploads.get(second, 100) == b"other"
    assert uploads.get(first, 100) == b"picture"


def test_of_two_that_put_at_once_one_wins(uploads: Uploads) -> None:
    """S3 decides who was first, and the other is told."""
    for _ in range(5):
        key, start = new_key(), threading.Barrier(2, timeout=TIMEOUT_S)
        with ThreadPoolExecutor() as pool:
            outcomes = list(pool.map(partial(outcome_of_put, uploads, key, start), ("one", "two")))

        [winner] = {"one", "two"} & set(outcomes)
        assert sorted(outcomes) == sorted([winner, "taken"])
        current = uploads.current(key)
        assert current is not None
        assert uploads.get(current, 100) == winner.encode()


def outcome_of_put(uploads: Uploads, key: str, start: threading.Barrier, text: str) -> str:
    start.wait()
    try:
        put(uploads, key, text.encode())
    except KeyTaken:
        return "taken"
    return text


def test_conflict_with_a_write_under_way_is_tried_again(
    uploads: Uploads, operations: Operations
) -> None:
    """S3 answers 409 while another write to the key is not decided yet, and asks to repeat."""
    key = new_key()
    operations.before("s3.PutObject", *[error_of("ConditionalRequestConflict")] * 2)

    put(uploads, key)

    assert uploads.current(key) is not None
    assert operations.made == ["PutObject"] * 3 + ["HeadObject"]


def test_conflict_that_does_not_end_is_told_as_such(
    uploads: Uploads, operations: Operations
) -> None:
    """Another name would not help: the key may be free in a moment."""
    operations.before("s3.PutObject", *[error_of("ConditionalRequestConflict")] * 9)

    with pytest.raises(KeyInUse, match="try again"):
        put(uploads, new_key())


def test_upload_whose_answer_is_lost_is_no_clash_with_itself(
    uploads: Uploads, operations: Operations
) -> None:
    """The SDK sends it again, and finds the key taken: by what it has sent before."""
    key = new_key()
    sent = []

    def lose_the_first_answer(request: Any, **_: object) -> AWSResponse | None:
        sent.append(request)
        if len(sent) > 1:
            return None
        URLLib3Session().send(request)
        return AWSResponse(request.url, 503, HTTPHeaderDict(), HTTPResponse(io.BytesIO()))

    uploads.client.meta.events.register("before-send.s3.PutObject", lose_the_first_answer)
    try:
        stored = put(uploads, key)
    finally:
        uploads.client.meta.events.unregister("before-send.s3.PutObject", lose_the_first_answer)

    held = uploads.current(key)
    assert held is not None
    assert (stored.version_id, stored.etag) == (held.version_id, held.etag)
    assert len(sent) == 2
    assert operations.made[:2] == ["PutObject", "HeadObject"]


@pytest.mark.parametrize("code", ["SlowDown", "AccessDenied", "NoSuchBucket"])
def test_trouble_of_s3_goes_through_as_it_is(uploads: Uploads, code: str) -> None:
    """What is no answer to the question is for others to handle."""
    for operation, call in (
        ("PutObject", lambda: put(uploads, new_key())),
        ("GetObject", lambda: uploads.get(original_of(new_key()), 100)),
        ("HeadObject", lambda: uploads.current(new_key())),
    ):
        error = ClientError({"Error": {"Code": code, "Message": ""}}, operation)
        with (
            Failing(uploads.client, operation, error),
            pytest.raises(ClientError, match=code),
        ):
            call()


class Failing:
    """Lets an operation of a client fail, while it lasts."""

    def __init__(self, client: Any, operation: str, error: Exception) -> None:
        self._events = client.meta.events
        self._event = f"before-call.s3.{operation}"
        self._error = error

    def _fail(self, **_: object) -> None:
        raise self._error

    def __enter__(self) -> None:
        self._events.register(self._event, self._fail)

    def __exit__(self, *_: object) -> None:
        self._events.unregister(self._event, self._fail)


def test_version_that_is_meant_is_read(uploads: Uploads) -> None:
    """A newer version under the same key changes nothing for who asks for the older."""
    first = put(uploads, new_key())
    uploads.client.put_object(Bucket=uploads.bucket, Key=first.key, Body=b"newer")

    assert uploads.get(first, 100) == b"picture"
    assert uploads.get(replace(first, version_id=""), 100) == b"newer"


def test_too_large_original_is_refused_unread(uploads: Uploads, operations: Operations) -> None:
    """The size is known before the body: not a byte of it is read."""
    original = put(uploads, new_key(), bytes(1001))
    bodies: list[Any] = []
    operations.change_answer("s3.GetObject", lambda answer: bodies.append(answer["Body"]))

    with pytest.raises(TooLarge, match=r"1,001 bytes is over the limit of 1,000 bytes.*MAX_BYTES"):
        uploads.get(original, 1000)

    [body] = bodies
    assert body.tell() == 0
    assert len(uploads.get(original, 1001)) == 1001


def test_empty_original_is_read(uploads: Uploads) -> None:
    """An empty file is a matter of the pipeline, not of the storage."""
    assert uploads.get(put(uploads, new_key(), b""), 100) == b""


def answer_of_s3(body: bytes, **headers: str) -> AWSResponse:
    """S3's answer to GetObject with that body and those headers."""
    raw = HTTPResponse(io.BytesIO(body), preload_content=False)
    length = {"Content-Length": str(len(body)), "ETag": '"etag"'}
    return AWSResponse("", 200, HTTPHeaderDict(length | headers), raw)


def checksum_of(body: bytes) -> dict[str, str]:
    """The header with which S3 vouches for a body."""
    return {"x-amz-checksum-crc32": b64encode(zlib.crc32(body).to_bytes(4)).decode()}


def test_body_is_checked_against_the_checksum_of_s3(
    uploads: Uploads, operations: Operations
) -> None:
    """Bytes that are changed on the way are an error that passes, and not a corrupt image."""
    answers = iter([b"piCture", b"", b"picture"])
    operations.answer(
        "s3.GetObject", lambda: answer_of_s3(next(answers), **checksum_of(b"picture"))
    )
    original = original_of(new_key())

    for _ in range(2):
        with pytest.raises(FlexibleChecksumError) as raised:
            uploads.get(original, 100)
        assert not isinstance(raised.value, PipelineError)
    assert uploads.get(original, 100) == b"picture"


def test_body_that_ends_early_is_an_error_that_passes(
    uploads: Uploads, operations: Operations
) -> None:
    """The connection broke; what has come is no picture and not a corrupt one."""
    operations.answer("s3.GetObject", lambda: answer_of_s3(b"pict", **{"Content-Length": "7"}))

    with pytest.raises((BotoCoreError, HTTPError)):
        uploads.get(original_of(new_key()), 100)


def test_body_without_a_checksum_is_read(uploads: Uploads, operations: Operations) -> None:
    """What was uploaded by an old client, or in parts, may have none that botocore can check."""
    operations.answer("s3.GetObject", lambda: answer_of_s3(b"picture"))

    assert uploads.get(original_of(new_key()), 100) == b"picture"


@pytest.mark.parametrize("max_bytes", [7, 6])
def test_body_is_closed_read_or_unread(
    uploads: Uploads, operations: Operations, max_bytes: int
) -> None:
    """A connection that is not given back is missing to the next."""
    answer = answer_of_s3(b"picture", **checksum_of(b"picture"))
    operations.answer("s3.GetObject", lambda: answer)

    with nullcontext() if max_bytes == 7 else pytest.raises(TooLarge):
        uploads.get(original_of(new_key()), max_bytes)

    assert answer.raw.closed


def test_original_that_is_gone_is_told(uploads: Uploads) -> None:
    """No such key, no such version any more, or a delete marker in its place."""
    removed = put(uploads, new_key())
    uploads.delete(removed.key)
    destroyed = put(uploads, new_key())
    uploads.client.delete_object(
        Bucket=uploads.bucket, Key=destroyed.key, VersionId=destroyed.version_id
    )
    marker = uploads.client.list_object_versions(Bucket=uploads.bucket, Prefix=removed.key)[
        "DeleteMarkers"
    ][0]

    for gone in (
        replace(removed, version_id=""),
        replace(removed, version_id=marker["VersionId"]),
        destroyed,
        replace(removed, key=new_key(), version_id=""),
    ):
        with pytest.raises(OriginalGone, match=re.escape(gone.key)):
            uploads.get(gone, 100)


def test_current_is_what_the_key_holds_now(uploads: Uploads) -> None:
    """The newest version with its facts; nothing after a removal, and the one below after that."""
    key = new_key("é +.jpg")
    assert uploads.current(key) is None

    first = put(uploads, key)
    current = uploads.current(key)
    assert current is not None
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", current.uploaded_at)
    assert replace(current, uploaded_at=NOW) == first

    uploads.delete(key)
    assert uploads.current(key) is None

    second = put(uploads, key, b"other")
    uploads.client.delete_object(Bucket=uploads.bucket, Key=key, VersionId=second.version_id)
    assert uploads.current(key) is None  # the marker again


def test_delete_of_what_is_not_there_is_no_error(uploads: Uploads) -> None:
    """Deleting twice is like deleting once."""
    key = new_key()

    uploads.delete(key)
    uploads.delete(key)

    assert uploads.current(key) is None


def listed(uploads: Uploads, prefix: str, after: str = "") -> list[str]:
    return [original.key for page in uploads.listing(prefix, after) for original in page]


def test_listing_tells_what_is_there(uploads: Uploads) -> None:
    """What the key holds now, as S3 tells it in a listing: no version and no sequencer."""
    key = new_key("é.jpg")
    put(uploads, key)
    removed = put(uploads, new_key())
    uploads.delete(removed.key)
    uploads.client.put_object(Bucket=uploads.bucket, Key=key, Body=b"newer, and longer")
    current = uploads.current(key)
    assert current is not None

    [[original]] = uploads.listing(key)
    assert replace(original, uploaded_at="") == replace(current, version_id="", uploaded_at="")
    seconds = slice(len("2026-01-31T09:15:00"))  # S3 tells no more of a time
    assert original.uploaded_at[seconds] == current.uploaded_at[seconds]
    assert listed(uploads, removed.key) == []


def test_listing_comes_in_pages(uploads: Uploads, operations: Operations) -> None:
    """As they are asked for, so that whoever has no more time can stop between two."""
    prefix = new_key("")
    keys = [f"{prefix}{number}.jpg" for number in range(5)]
    for key in keys:
        put(uploads, key)
    operations.add_parameters("s3.ListObjectsV2", MaxKeys=2)
    operations.clear()

    pages = uploads.listing(prefix)
    assert [original.key for original in next(pages)] == keys[:2]
    assert operations.made == ["ListObjectsV2"]
    assert [[original.key for original in page] for page in pages] == [keys[2:4], keys[4:]]


def test_listing_goes_on_after_a_key(uploads: Uploads, operations: Operations) -> None:
    """Not with the key itself, in the order of keys, whether it is still there or not."""
    prefix = new_key("")
    keys = [f"{prefix}{name}" for name in ("a b.jpg", "a+b.jpg", "b%20.jpg", "c\n.jpg", "é 🦊.jpg")]
    for key in keys:
        put(uploads, key)
    operations.add_parameters("s3.ListObjectsV2", MaxKeys=2)

    for number, key in enumerate(keys):
        assert listed(uploads, prefix, after=key) == keys[number + 1 :]
    assert listed(uploads, prefix, after=f"{prefix}b") == keys[2:]
    assert listed(uploads, prefix) == keys


def test_folders_of_the_console_are_left_out(uploads: Uploads) -> None:
    """An empty object whose name ends in a slash is no upload; anything else is, however odd."""
    prefix = new_key("")
    empty, odd = f"{prefix}empty.jpg", f"{prefix}odd/"
    for key, body in ((f"{prefix}folder/", b""), (odd, b"picture"), (empty, b"")):
        put(uploads, key, body)

    assert listed(uploads, prefix) == [empty, odd]


def test_page_of_folders_does_not_end_a_listing(uploads: Uploads, operations: Operations) -> None:
    """A page may be empty though more follow."""
    prefix = new_key("")
    for key, body in ((f"{prefix}a/", b""), (f"{prefix}b/", b""), (f"{prefix}c.jpg", b"picture")):
        put(uploads, key, body)
    operations.add_parameters("s3.ListObjectsV2", MaxKeys=2)

    assert [len(page) for page in uploads.listing(prefix)] == [0, 1]


# ── renditions ───────────────────────────────────────────────────────────────────────────────────


def image_of(original: Original, attempt: int = 1, **members: Any) -> Image:
    """The record of an original as it is when its renditions are stored."""
    image = Image(original, ImageStatus.QUEUED, NOW, attempt=attempt)
    return replace(image, **{"processed_at": NOW, "pipeline_version": "1-abc", **members})


def new_image(attempt: int = 1, **members: Any) -> Image:
    return image_of(original_of(new_key()), attempt, **members)


def store(
    renditions: Renditions,
    image: Image,
    spec: RenditionSpec = SMALL,
    body: bytes = b"rendition",
) -> Rendition:
    rendered = RenderedImage(spec, OutputFormat.WEBP, 640, 480, body)
    return renditions.put(image, rendered, "image/webp", "webp")


def stored(renditions: Renditions, image: Image) -> set[str]:
    """Keys of what lies in the bucket of one image, in whatever folder."""
    pages = renditions.client.get_paginator("list_objects_v2")
    return {
        entry["Key"]
        for page in pages.paginate(Bucket=renditions.bucket)
        for entry in page.get("Contents", ())
        if image.image_id in entry["Key"]
    }


def test_rendition_lies_under_image_attempt_and_name(renditions: Renditions) -> None:
    """The key is computed, safe in a URL, and that of no other attempt."""
    image = image_of(original_of(new_key("é.jpg")), attempt=12)

    first = store(renditions, image)
    again = store(renditions, image, body=b"another time")
    copy = store(renditions, image, COPY)
    other = store(renditions, replace(image, attempt=13))

    assert first.key == f"thumbnails/{image.image_id}/12/small.webp"
    assert copy.key == f"processed/{image.image_id}/12/copy.webp"
    assert other.key == f"thumbnails/{image.image_id}/13/small.webp"
    assert again == replace(first, size_bytes=12)
    assert (first.name, first.format, first.width, first.height) == ("small", "webp", 640, 480)
    assert stored(renditions, image) == {first.key, copy.key, other.key}


def test_rendition_that_is_gone_or_forbidden_is_none(
    renditions: Renditions, operations: Operations
) -> None:
    """S3 says the one to who may list the bucket, the other to who may not."""
    made = store(renditions, new_image())
    assert renditions.get(made.key) == b"rendition"
    assert renditions.get(f"{made.key}.gone") is None

    operations.before("s3.GetObject", error_of("AccessDenied"), error_of("NoSuchBucket"))
    assert renditions.get(made.key) is None
    with pytest.raises(ClientError, match="NoSuchBucket"):
        renditions.get(made.key)


def test_withheld_rendition_lies_apart(renditions: Renditions) -> None:
    """In one folder, whatever its own is, and its tag says why: policies can go by either."""
    image = new_image(attempt=2, withheld_for=("Violence",))

    made = [store(renditions, image), store(renditions, image, COPY)]

    assert {each.key for each in made} == stored(renditions, image)
    assert {each.key for each in made} == {
        f"quarantine/{image.image_id}/2/{name}.webp" for name in ("small", "copy")
    }
    for each in made:
        where = {"Bucket": renditions.bucket, "Key": each.key}
        tags = renditions.client.get_object_tagging(**where)["TagSet"]
        assert {"Key": "status", "Value": "QUARANTINED"} in tags
        assert renditions.client.head_object(**where)["Metadata"]["status"] == "QUARANTINED"


@pytest.mark.parametrize("window", [None, BoundingBox(0.25, 0, 0.5, 1)])
def test_rendition_keeps_which_part_it_shows(
    renditions: Renditions, window: BoundingBox | None
) -> None:
    """None where that is all."""
    rendered = RenderedImage(SMALL, OutputFormat.WEBP, 640, 480, b"rendition", window)

    made = renditions.put(new_image(), rendered, "image/webp", "webp")

    assert made.window == window


@pytest.mark.parametrize("key", AWKWARD_KEYS, ids=range(len(AWKWARD_KEYS)))
def test_rendition_says_whose_it_is(renditions: Renditions, key: str) -> None:
    """Metadata and tags within S3's limits, whatever the original is called."""
    image = image_of(original_of(key))

    rendition = store(renditions, image)

    where = {"Bucket": renditions.bucket, "Key": rendition.key}
    head = renditions.client.head_object(**where)
    tags = {
        tag["Key"]: tag["Value"] for tag in renditions.client.get_object_tagging(**where)["TagSet"]
    }
    for facts in (head["Metadata"], tags):
        assert facts["image-id"] == image.image_id
        assert facts["status"] == "COMPLETED"
        assert facts["processed-at"] == NOW
        assert facts["pipeline-version"] == "1-abc"
    assert head["ContentType"] == "image/webp"
    assert "immutable" in head["CacheControl"]
    if len(quote(key)) <= 1536:
        assert unquote(head["Metadata"]["source-key"]) == key
    else:
        assert "source-key" not in head["Metadata"]
    assert sum(len(name) + len(value) for name, value in head["Metadata"].items()) <= 2048
    assert len(tags) <= 10
    assert tags["source-key"].startswith("uploads/")
    for value in tags.values():  # S3: letters, digits, spaces and + - = . _ : / @
        assert re.fullmatch(r"[\w +\-=.:/@]{1,256}", value)


def test_tag_keeps_what_is_allowed(renditions: Renditions) -> None:
    """A name in any script can be read in the tag; only signs are replaced."""
    rendition = store(renditions, image_of(original_of("uploads/é 東京 (1)+2.jpg")))

    tags = renditions.client.get_object_tagging(Bucket=renditions.bucket, Key=rendition.key)

    assert {"Key": "source-key", "Value": "uploads/é 東京 _1_+2.jpg"} in tags["TagSet"]


@pytest.mark.parametrize("before", range(4))
def test_tag_is_cut_as_s3_counts(renditions: Renditions, before: int) -> None:
    """By UTF-16 units: a letter beyond the first plane is two, and is never cut in half."""
    key = "uploads/" + "x" * before + "\U00020000" * 200
    rendition = store(renditions, image_of(original_of(key)))

    tags = renditions.client.get_object_tagging(Bucket=renditions.bucket, Key=rendition.key)

    [source] = [tag["Value"] for tag in tags["TagSet"] if tag["Key"] == "source-key"]
    assert key.startswith(source)
    assert 255 <= len(source.encode("utf-16-le")) / 2 <= 256


def test_keys_are_deleted_in_batches(
    renditions: Renditions, operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are, and whether each is there or not."""
    monkeypatch.setattr(storage, "DELETE_BATCH", 2)
    image = new_image()
    specs = [replace(SMALL, name=f"size-{number}") for number in range(4)]
    keys = [store(renditions, image, spec).key for spec in specs]
    operations.clear()

    renditions.delete(key for key in ["thumbnails/nothing/there.jpg", *keys])
    renditions.delete([])

    assert stored(renditions, image) == set()
    assert operations.made.count("DeleteObjects") == 3


def test_key_that_s3_does_not_delete_is_an_error(
    renditions: Renditions, operations: Operations
) -> None:
    """S3 answers 200 even if some keys stay; what stays must not be forgotten."""
    refusal = {"Key": "thumbnails/x", "Code": "InternalError", "Message": "try again"}
    operations.change_answer(
        "s3.DeleteObjects", lambda answer: answer.update({"Errors": [refusal]})
    )

    with pytest.raises(OSError, match="InternalError"):
        renditions.delete(["thumbnails/x"])


def test_bucket_is_listed_in_pages(renditions: Renditions, operations: Operations) -> None:
    """Every key under a prefix, in order, over every page of S3's listing; nobody else's."""
    one, other = new_image(), new_image()
    expected = [store(renditions, replace(one, attempt=number)).key for number in range(1, 6)]
    for unwanted in (store(renditions, one, COPY), store(renditions, other)):
        assert unwanted.key not in expected
    operations.add_parameters("s3.ListObjectsV2", MaxKeys=2)
    operations.clear()

    assert list(renditions.listing(f"thumbnails/{one.image_id}/")) == expected
    assert operations.made.count("ListObjectsV2") == 3
    assert list(renditions.listing("thumbnails/unknown/")) == []


# ── what is left over ────────────────────────────────────────────────────────────────────────────


def attempts(renditions: Renditions, image: Image, count: int) -> list[Image]:
    """As many attempts at an image, each of which has stored what it is to store."""
    made = []
    for number in range(1, count + 1):
        attempt = replace(image, attempt=number)
        both = (store(renditions, attempt), store(renditions, attempt, COPY))
        made.append(replace(attempt, renditions=both))
    return made


def keys_of(*images: Image) -> set[str]:
    """The keys that these records name."""
    return {rendition.key for image in images for rendition in image.renditions}


def test_what_a_record_names_stays_and_the_rest_goes(renditions: Renditions) -> None:
    """Of a completed image: what earlier attempts have left, and what its own has not named."""
    first, second, third = attempts(renditions, new_image(), 3)
    left = store(renditions, third, replace(SMALL, name="unnamed"))
    assert left.key in stored(renditions, third)

    renditions.tidy(replace(third, status=ImageStatus.COMPLETED))

    assert stored(renditions, third) == keys_of(third)
    assert keys_of(first, second).isdisjoint(stored(renditions, third))


def test_what_is_served_stays_while_the_new_is_made(renditions: Renditions) -> None:
    """A record names what an earlier attempt has stored until a later one has succeeded."""
    first, _, third = attempts(renditions, new_image(), 3)

    renditions.tidy(replace(third, status=ImageStatus.FAILED, renditions=first.renditions))

    assert stored(renditions, third) == keys_of(first)


@pytest.mark.parametrize("status", [ImageStatus.COMPLETED, ImageStatus.FAILED, ImageStatus.DELETED])
def test_what_a_later_attempt_has_stored_stays(renditions: Renditions, status: ImageStatus) -> None:
    """It began after the record was read, and is somebody else's; ten is later than nine."""
    made = attempts(renditions, new_image(), 11)

    renditions.tidy(replace(made[8], status=status, renditions=()))

    assert stored(renditions, made[0]) == keys_of(made[9], made[10])


def test_what_is_under_way_stays(renditions: Renditions) -> None:
    """The attempt of a record that is PROCESSING has named nothing yet; those before are over."""
    first, second, third = attempts(renditions, new_image(), 3)
    processing = replace(third, status=ImageStatus.PROCESSING, renditions=first.renditions)

    renditions.tidy(processing)
    assert stored(renditions, third) == keys_of(first, third)

    renditions.tidy(replace(second, status=ImageStatus.PROCESSING, renditions=()))
    assert stored(renditions, third) == keys_of(third)


@pytest.mark.parametrize("was_withheld", [True, False])
def test_what_lay_elsewhere_before_goes(renditions: Renditions, *, was_withheld: bool) -> None:
    """Of what was served and is withheld now, and of what was withheld and is released."""
    reasons = {True: ("Violence",), False: ()}
    before = new_image(withheld_for=reasons[was_withheld])
    [first] = attempts(renditions, before, 1)
    after = replace(before, attempt=2, withheld_for=reasons[not was_withheld])
    both = (store(renditions, after), store(renditions, after, COPY))
    assert len(stored(renditions, after)) == 4

    renditions.tidy(replace(after, status=ImageStatus.COMPLETED, renditions=both))

    assert stored(renditions, after) == {each.key for each in both}
    assert keys_of(first).isdisjoint(stored(renditions, after))


def test_nothing_is_left_of_a_deleted_image(renditions: Renditions) -> None:
    """Every folder and every attempt; doing so again is no error, nor where nothing ever was."""
    made = attempts(renditions, new_image(), 2)
    tombstone = replace(made[1], status=ImageStatus.DELETED, renditions=())

    renditions.tidy(tombstone)
    renditions.tidy(tombstone)
    renditions.tidy(new_image(0, status=ImageStatus.DELETED))

    assert stored(renditions, tombstone) == set()


def test_folder_that_no_rendition_goes_to_any_more_is_tidied(renditions: Renditions) -> None:
    """What was stored there before the settings changed goes with the rest, whoever has done it."""
    [image] = attempts(renditions, new_image(), 1)
    former = store(renditions, image, replace(SMALL, prefix="former"))

    try:
        renditions.tidy(replace(image, attempt=2, status=ImageStatus.FAILED))
        assert stored(renditions, image) == keys_of(image)
        assert list(renditions.listing("former/")) == []
    finally:
        renditions.delete([former.key])


def test_more_folders_than_s3_lists_at_once_are_tidied(
    renditions: Renditions, operations: Operations
) -> None:
    """A bucket may have had many prefixes over the years."""
    specs = [replace(SMALL, prefix=f"former-{number}") for number in range(5)]
    image = new_image()
    for spec in specs:
        store(renditions, image, spec)
    operations.add_parameters("s3.ListObjectsV2", MaxKeys=2)

    renditions.tidy(replace(image, status=ImageStatus.DELETED))

    assert stored(renditions, image) == set()


def test_tidying_leaves_other_images_alone(renditions: Renditions) -> None:
    """Whatever their attempts; only keys of the image itself are listed."""
    [other] = attempts(renditions, new_image(), 1)
    [one] = attempts(renditions, new_image(), 1)

    renditions.tidy(replace(one, attempt=9, status=ImageStatus.DELETED, renditions=()))

    assert stored(renditions, one) == set()
    assert stored(renditions, other) == keys_of(other)


def test_tidying_keeps_up_with_long_listings(
    renditions: Renditions, operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than S3 lists or deletes at once: what goes meanwhile shifts nothing."""
    monkeypatch.setattr(storage, "DELETE_BATCH", 3)
    operations.add_parameters("s3.ListObjectsV2", MaxKeys=2)
    made = attempts(renditions, new_image(), 6)

    renditions.tidy(replace(made[5], status=ImageStatus.COMPLETED))

    assert set(renditions.listing(f"thumbnails/{made[0].image_id}/")) | set(
        renditions.listing(f"processed/{made[0].image_id}/")
    ) == keys_of(made[5])


@pytest.mark.parametrize("folder", ["kzg6y2xqz3k7c4h2m5n7p3r5t6", "notes"])
def test_object_of_no_attempt_hinders_nothing(renditions: Renditions, folder: str) -> None:
    """Under an image there may be what an earlier pipeline stored, by version, or a person."""
    [image] = attempts(renditions, new_image(), 1)
    foreign = f"thumbnails/{image.image_id}/{folder}/small.webp"
    renditions.client.put_object(Bucket=renditions.bucket, Key=foreign, Body=b"")

    try:
        renditions.tidy(replace(image, status=ImageStatus.DELETED, renditions=()))

        assert keys_of(image).isdisjoint(stored(renditions, image))
    finally:
        renditions.delete([foreign])


# ── links ────────────────────────────────────────────────────────────────────────────────────────


def test_link_works_for_whoever_holds_it(renditions: Renditions) -> None:
    """A plain GET, without credentials, gives the rendition and its type."""
    rendition = store(renditions, image_of(original_of(new_key("é +%.jpg"))), body=b"bytes of it")

    url = renditions.url(rendition, 60)

    with urlopen(url, timeout=TIMEOUT_S) as answer:
        assert answer.read() == b"bytes of it"
        assert answer.headers["Content-Type"] == "image/webp"
    assert "Expires=" in url
