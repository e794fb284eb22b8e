"""Uploads that go straight to S3, those of a request that comes again, and what a key has held."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from urllib.error import HTTPError
from urllib.parse import unquote
from urllib.request import Request, urlopen
from uuid import uuid4

import pytest

from chalicelib.aws import storage
from chalicelib.aws.storage import Uploads
from chalicelib.errors import InvalidRequest, KeyTaken
from chalicelib.messages import timestamp
from chalicelib.model import DirectUpload
from localcloud.cloud import LocalCloud
from tests.adapters.conftest import Operations, error_of

NUMBERS = count(1)
AWKWARD_NAMES = ["two words.jpg", "a+b.jpg", "100%25.jpg", "é ü 東京.jpg", "🦊.jpg", "<a>&\"b'.jpg"]


@pytest.fixture
def uploads(cloud: LocalCloud, client_of: Callable[[str], Any]) -> Uploads:
    return Uploads(client_of("s3"), cloud.outputs["UploadsBucket"])


def fresh() -> str:
    return f"direct/{next(NUMBERS)}.jpg"  # where nothing is triggered


def sent(offer: DirectUpload, body: bytes, without: str = "", **changes: str) -> tuple[int, str]:
    """What S3 answers to the form as a browser sends it, its fields changed."""
    boundary = uuid4().hex
    fields = {name: value for name, value in offer.fields.items() if name != without} | {
        name.replace("_", "-"): value for name, value in changes.items()
    }
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    file = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="x"\r\n\r\n'
    form = b"".join([*parts, file.encode(), body, f"\r\n--{boundary}--\r\n".encode()])
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    try:
        with urlopen(Request(offer.url, form, headers)) as answer:
            return answer.status, ""
    except HTTPError as error:
        return error.code, error.read().decode()


@pytest.mark.parametrize("name", AWKWARD_NAMES)
def test_a_form_stores_the_file_under_its_key(uploads: Uploads, name: str) -> None:
    """Bytes, content type and the client's own name, whatever that is made of."""
    key = f"direct/{next(NUMBERS)} {name}"
    before = timestamp(datetime.now(UTC) + timedelta(seconds=59))

    offer = uploads.form(key, "image/jpeg", name, 1_000, 60)

    assert sent(offer, b"x" * 1_000) == (204, "")
    held = uploads.client.get_object(Bucket=uploads.bucket, Key=key)
    assert held["Body"].read() == b"x" * 1_000
    assert held["ContentType"] == "image/jpeg"
    assert unquote(held["Metadata"]["filename"]) == name
    assert before <= offer.expires_at <= timestamp(datetime.now(UTC) + timedelta(seconds=60))


@pytest.mark.parametrize(
    ("body", "changes"),
    [
        (b"", {}),
        (b"x" * 1_001, {}),
        (b"x", {"key": "direct/another.jpg"}),
        (b"x", {"Content_Type": "text/html"}),
        (b"x", {"x_amz_meta_filename": "another"}),
        (b"x", {"without": "policy"}),
        (b"x", {"x_amz_signature": "0" * 64}),
    ],
    ids=["empty", "too large", "key", "type", "name", "no policy", "signature"],
)
def test_a_form_stores_nothing_else(uploads: Uploads, body: bytes, changes: dict[str, str]) -> None:
    """S3 refuses another size, key, content type or fact, and a form that was not signed."""
    key = fresh()
    offer = uploads.form(key, "image/jpeg", "cat.jpg", 1_000, 60)

    status, _ = sent(offer, body, **changes)

    assert 400 <= status < 500
    assert uploads.current(key) is uploads.current("direct/another.jpg") is None


def test_a_form_that_is_over_stores_nothing(uploads: Uploads) -> None:
    """The policy tells S3 until when."""
    key = fresh()
    offer = uploads.form(key, "image/jpeg", "cat.jpg", 1_000, -1)

    status, _ = sent(offer, b"x")

    assert status == 403
    assert uploads.current(key) is None


@pytest.mark.parametrize("key", ["direct/${filename}", "direct/a${filename}b.jpg"])
def test_a_name_that_s3_would_replace_is_refused(uploads: Uploads, key: str) -> None:
    """Else the form would store under a name that nobody has looked at."""
    with pytest.raises(InvalidRequest, match="choose another"):
        uploads.form(key, "image/jpeg", "cat.jpg", 1_000, 60)


# ── the same request again ───────────────────────────────────────────────────────────────────────


def test_what_a_request_has_stored_is_not_stored_again(uploads: Uploads) -> None:
    """It is answered as the first time; the bucket holds one version."""
    key = fresh()

    first = uploads.put(key, b"cat", "image/jpeg", "cat.jpg", "request")
    again = uploads.put(key, b"cat", "image/jpeg", "cat.jpg", "request")

    assert first == again
    assert len(uploads.history(key)) == 1


@pytest.mark.parametrize(("stored", "sent"), [("one", "two"), ("", "two"), ("one", "")])
def test_what_another_request_has_stored_is_a_clash(
    uploads: Uploads, stored: str, sent: str
) -> None:
    """Also where one of the two has no key."""
    key = fresh()
    uploads.put(key, b"cat", "image/jpeg", "cat.jpg", stored)

    with pytest.raises(KeyTaken, match=key):
        uploads.put(key, b"cat", "image/jpeg", "cat.jpg", sent)


def test_a_clash_with_what_is_gone_by_then_is_one(
    uploads: Uploads, client_of: Callable[[str], Any]
) -> None:
    """Another upload was under way, or a removal has come between: nobody's is taken for ours."""
    key = fresh()
    uploads.put(key, b"cat", "image/jpeg", "cat.jpg", "request")
    with Operations(client_of("s3")) as operations:
        operations.before("s3.HeadObject", error_of("404"))
        with pytest.raises(KeyTaken):
            uploads.put(key, b"cat", "image/jpeg", "cat.jpg", "request")


@pytest.mark.parametrize("name", ["é" * 1_024, "🦊" * 1_024, "a" * 1_024])
def test_of_a_very_long_name_the_beginning_is_kept(uploads: Uploads, name: str) -> None:
    """In whole letters: S3 takes 2 KB of facts about an object."""
    key = fresh()
    uploads.put(key, b"cat", "image/jpeg", name)

    kept = uploads.filename(key)

    assert kept is not None
    assert name.startswith(kept)
    assert len(kept) >= 128


def test_a_name_that_nobody_gave_is_none(uploads: Uploads) -> None:
    """As of what somebody has put into the bucket; nor has what is not there one."""
    key = fresh()
    assert uploads.filename(key) is None
    uploads.client.put_object(Bucket=uploads.bucket, Key=key, Body=b"one")
    assert uploads.filename(key) is None


# ── versions ─────────────────────────────────────────────────────────────────────────────────────


def test_a_key_tells_what_it_has_held(uploads: Uploads) -> None:
    """Newest first, marks of deletion included; longer keys that begin alike are others."""
    key = fresh()
    client, bucket = uploads.client, uploads.bucket
    first = client.put_object(Bucket=bucket, Key=key, Body=b"one")["VersionId"]
    client.delete_object(Bucket=bucket, Key=key)
    last = client.put_object(Bucket=bucket, Key=key, Body=b"three")["VersionId"]
    client.put_object(Bucket=bucket, Key=f"{key}.bak", Body=b"another")

    history = uploads.history(key)

    assert [each.version_id for each in history][::2] == [last, first]
    assert [each.size_bytes for each in history] == [5, 0, 3]
    assert [each.is_current for each in history] == [True, False, False]
    assert [each.is_deleted for each in history] == [False, True, False]
    assert all(each.uploaded_at <= timestamp(datetime.now(UTC)) for each in history)


def test_a_key_that_has_held_nothing_tells_nothing(uploads: Uploads) -> None:
    """Not even what longer keys hold."""
    key = fresh()
    uploads.client.put_object(Bucket=uploads.bucket, Key=f"{key}.bak", Body=b"another")

    assert uploads.history(key) == []


def test_of_many_versions_the_newest_are_told(
    uploads: Uploads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One call of S3, however many there are."""
    monkeypatch.setattr(storage, "MAX_VERSIONS", 2)
    key = fresh()
    stored = [
        uploads.client.put_object(Bucket=uploads.bucket, Key=key, Body=b"x" * length)["VersionId"]
        for length in (1, 2, 3)
    ]

    assert [each.version_id for each in uploads.history(key)] == stored[:0:-1]
