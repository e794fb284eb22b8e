"""The two buckets, as S3 keeps them."""

import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any
from urllib.parse import quote, unquote
from urllib.request import urlopen

import pytest
from botocore.exceptions import ClientError

from chalicelib.aws import storage
from chalicelib.aws.storage import Renditions, Uploads
from chalicelib.errors import KeyTaken, OriginalGone, TooLarge
from chalicelib.model import Original, OutputFormat, RenderedImage, Rendition, RenditionSpec
from localcloud.cloud import LocalCloud
from tests.adapters.conftest import Operations

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
    return Renditions(
        client_of("s3"), cloud.outputs["RenditionsBucket"], ("thumbnails", "processed")
    )


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
        key, start = new_key(), threading.Barrier(2, timeout=10)
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


def test_conflict_of_two_uploads_under_way_is_a_clash_too(uploads: Uploads) -> None:
    """S3 answers 409 while another conditional write to the same key is not decided yet."""
    error = ClientError(
        {"Error": {"Code": "ConditionalRequestConflict", "Message": ""}}, "PutObject"
    )

    with Failing(uploads.client, "PutObject", error), pytest.raises(KeyTaken):
        put(uploads, new_key())


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


# ── renditions ───────────────────────────────────────────────────────────────────────────────────


def store(
    renditions: Renditions,
    original: Original,
    spec: RenditionSpec = SMALL,
    body: bytes = b"rendition",
) -> Rendition:
    rendered = RenderedImage(spec, OutputFormat.WEBP, 640, 480, body)
    return renditions.put(original, rendered, "image/webp", "webp", NOW)


def stored(renditions: Renditions, original: Original) -> list[str]:
    """Keys of what lies in the bucket of one image."""
    pages = renditions.client.get_paginator("list_objects_v2")
    return [
        entry["Key"]
        for page in pages.paginate(Bucket=renditions.bucket)
        for entry in page.get("Contents", ())
        if original.image_id in entry["Key"]
    ]


def test_rendition_lies_under_image_version_and_name(renditions: Renditions) -> None:
    """The key is computed, safe in a URL, and the same for a retry, which overwrites."""
    original = original_of(new_key("é.jpg"))

    first = store(renditions, original)
    again = store(renditions, original, body=b"another time")
    copy = store(renditions, original, COPY)

    folder, name = first.key.rsplit("/", 1)
    assert re.fullmatch(rf"thumbnails/{original.image_id}/[a-z2-7]{{26}}", folder)
    assert name == "small.webp"
    assert copy.key == f"processed/{folder.removeprefix('thumbnails/')}/copy.webp"
    assert again == replace(first, size_bytes=12)
    assert (first.name, first.format, first.width, first.height) == ("small", "webp", 640, 480)
    assert sorted(stored(renditions, original)) == sorted([first.key, copy.key])
    other = store(renditions, replace(original, version_id="other"))
    assert other.key != first.key


@pytest.mark.parametrize("key", AWKWARD_KEYS, ids=range(len(AWKWARD_KEYS)))
def test_rendition_says_whose_it_is(renditions: Renditions, key: str) -> None:
    """Metadata and tags within S3's limits, whatever the original is called."""
    original = original_of(key)

    rendition = store(renditions, original)

    where = {"Bucket": renditions.bucket, "Key": rendition.key}
    head = renditions.client.head_object(**where)
    tags = {
        tag["Key"]: tag["Value"] for tag in renditions.client.get_object_tagging(**where)["TagSet"]
    }
    for facts in (head["Metadata"], tags):
        assert facts["image-id"] == original.image_id
        assert facts["status"] == "COMPLETED"
        assert facts["processed-at"] == NOW
        assert facts["pipeline-version"] == "1"
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
    rendition = store(renditions, original_of("uploads/é 東京 (1)+2.jpg"))

    tags = renditions.client.get_object_tagging(Bucket=renditions.bucket, Key=rendition.key)

    assert {"Key": "source-key", "Value": "uploads/é 東京 _1_+2.jpg"} in tags["TagSet"]


def test_keys_are_deleted_in_batches(
    renditions: Renditions, operations: Operations, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many there are, and whether each is there or not."""
    monkeypatch.setattr(storage, "DELETE_BATCH", 2)
    original = original_of(new_key())
    specs = [replace(SMALL, name=f"size-{number}") for number in range(4)]
    keys = [store(renditions, original, spec).key for spec in specs]
    operations.clear()

    renditions.delete(["thumbnails/nothing/there.jpg", *keys])
    renditions.delete([])

    assert stored(renditions, original) == []
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


def test_version_is_deleted_as_a_whole(renditions: Renditions) -> None:
    """All renditions of it in every folder, recorded or not; those of other versions stay."""
    first = original_of(new_key())
    second = replace(first, version_id="newer")
    for original in (first, second):
        store(renditions, original)
        store(renditions, original, COPY)
    kept = set(renditions.all_of(first.image_id)) - set(folder_of(renditions, first))

    renditions.delete_version(first)

    assert len(kept) == 2
    assert set(stored(renditions, first)) == kept


def folder_of(renditions: Renditions, original: Original) -> list[str]:
    folder = store(renditions, original).key.removeprefix("thumbnails/").rpartition("/")[0]
    return [key for key in renditions.all_of(original.image_id) if folder in key]


def test_all_of_an_image_is_found(renditions: Renditions, operations: Operations) -> None:
    """Every version, every folder and every page of the listing; nobody else's."""
    one, other = original_of(new_key()), original_of(new_key())
    expected = [
        store(renditions, replace(one, version_id=version), spec).key
        for version in ("1", "2", "3")
        for spec in (SMALL, COPY)
    ]
    store(renditions, other)
    operations.add_parameters("s3.ListObjectsV2", MaxKeys=2)
    operations.clear()

    assert sorted(renditions.all_of(one.image_id)) == sorted(expected)
    assert operations.made.count("ListObjectsV2") == 4
    assert renditions.all_of("unknown") == []


def test_link_works_for_whoever_holds_it(renditions: Renditions) -> None:
    """A plain GET, without credentials, gives the rendition and its type."""
    rendition = store(renditions, original_of(new_key("é +%.jpg")), body=b"bytes of it")

    url = renditions.url(rendition, 60)

    with urlopen(url, timeout=10) as answer:
        assert answer.read() == b"bytes of it"
        assert answer.headers["Content-Type"] == "image/webp"
    assert "Expires=" in url
