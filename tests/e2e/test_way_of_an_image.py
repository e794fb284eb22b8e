"""Through the running local cloud, each triggered function under its own role."""

import json
from io import BytesIO
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest
from PIL import Image

from chalicelib.model import image_id_of
from localcloud.cloud import INBOX, LocalCloud
from tests.pictures import photo, saved
from tests.waiting import TIMEOUT_S, eventually


@pytest.fixture
def bucket(cloud: LocalCloud) -> str:
    return cloud.outputs["UploadsBucket"]


class Api:
    """The REST API as a client sees it: (status, JSON) of every request."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[int, Any]:
        request = Request(self.url + path, body, headers, method=method)
        try:
            with urlopen(request, timeout=TIMEOUT_S) as answer:
                return answer.status, json.load(answer)
        except HTTPError as error:
            return error.code, json.load(error)


@pytest.fixture
def api(cloud: LocalCloud) -> Api:
    return Api(cloud.api_url)


def final(api: Api, key: str) -> Any:
    """The image of a key once it is COMPLETED or FAILED and announced."""

    def is_final() -> Any:
        status, image = api("GET", f"/images/{image_id_of(key)}")
        return image if status == 200 and image["status"] in {"COMPLETED", "FAILED"} else None

    return eventually(is_final)


class Inbox:
    """What is announced, read from a queue that is subscribed to the topic."""

    def __init__(self, cloud: LocalCloud) -> None:
        self._sqs = cloud.client("sqs")
        self._url = self._sqs.get_queue_url(QueueName=INBOX)["QueueUrl"]
        self._announced: list[dict[str, Any]] = []

    def of(self, key: str, status: str) -> list[dict[str, Any]]:
        while messages := self._sqs.receive_message(QueueUrl=self._url, MaxNumberOfMessages=10).get(
            "Messages"
        ):
            for message in messages:
                self._sqs.delete_message(QueueUrl=self._url, ReceiptHandle=message["ReceiptHandle"])
                self._announced.append(json.loads(message["Body"]))
        wanted = {"key": key, "status": status}
        return [
            envelope
            for envelope in self._announced
            if wanted.items()
            <= {
                name: attribute["Value"]
                for name, attribute in envelope["MessageAttributes"].items()
            }.items()
        ]


@pytest.fixture(scope="module")
def inbox(cloud: LocalCloud) -> Inbox:
    return Inbox(cloud)


def jpeg(width: int = 1600, height: int = 1200, seed: int = 1) -> bytes:
    return saved(photo(width, height, seed))


def rotated_jpeg() -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x0110] = 6, "Maker", "Camera 1"
    return saved(photo(800, 600), exif=exif)


def test_upload_over_s3_becomes_a_described_image_with_renditions(
    cloud: LocalCloud, api: Api, bucket: str
) -> None:
    """A photo put into the bucket is rendered, described, stored and shown, upright."""
    key = "uploads/e2e/rotated.jpg"
    cloud.client("s3").put_object(Bucket=bucket, Key=key, Body=rotated_jpeg())

    image = final(api, key)

    assert image["status"] == "COMPLETED", image
    assert (image["width"], image["height"], image["format"]) == (600, 800, "JPEG")
    assert image["exif"] == {"make": "Maker", "model": "Camera 1", "orientation": 6}
    sizes = {row["name"]: (row["width"], row["height"]) for row in image["renditions"]}
    assert sizes == {
        "thumbnail": (100, 100),
        "small": (360, 480),
        "large": (600, 800),
        "optimized": (600, 800),
    }
    for row in image["renditions"]:
        with urlopen(row["url"], timeout=TIMEOUT_S) as answer:
            picture = Image.open(BytesIO(answer.read()))
        assert picture.size == (row["width"], row["height"])
        assert not picture.getexif()


def test_rendition_carries_its_origin_as_metadata_and_tags(
    cloud: LocalCloud, api: Api, bucket: str
) -> None:
    """Each rendition says whose it is; thumbnails and processed copies lie apart."""
    key = "uploads/e2e/origin of it.jpg"
    s3 = cloud.client("s3")
    s3.put_object(Bucket=bucket, Key=key, Body=jpeg())

    renditions = {row["name"]: row["key"] for row in final(api, key)["renditions"]}

    assert renditions["thumbnail"].startswith("thumbnails/")
    assert renditions["optimized"].startswith("processed/")
    where = {"Bucket": cloud.outputs["RenditionsBucket"], "Key": renditions["optimized"]}
    metadata = s3.head_object(**where)["Metadata"]
    tags = {tag["Key"]: tag["Value"] for tag in s3.get_object_tagging(**where)["TagSet"]}
    assert metadata["source-key"] == "uploads/e2e/origin%20of%20it.jpg"
    assert tags["source-key"] == key
    for facts in (metadata, tags):
        assert facts["status"] == "COMPLETED"
        assert facts["pipeline-version"]
        assert facts["processed-at"].endswith("Z")


@pytest.mark.parametrize(
    ("name", "body", "code"),
    [
        ("text.jpg", b"This is no picture.", "unsupported_format"),
        ("empty.png", b"", "empty_file"),
        ("truncated.jpg", jpeg()[:20_000], "corrupt_image"),
        ("bomb.png", None, "too_many_pixels"),
    ],
)
def test_bad_image_fails_with_a_reason_and_blocks_nothing(  # noqa: PLR0917
    cloud: LocalCloud, api: Api, inbox: Inbox, name: str, body: bytes | None, code: str
) -> None:
    """A file that is no picture ends FAILED with a stable code, is announced, and is consumed."""
    if body is None:
        body = saved(Image.new("1", (30_000, 30_000)), "PNG")
    key = f"uploads/e2e/bad/{name}"
    bucket = cloud.outputs["UploadsBucket"]
    cloud.client("s3").put_object(Bucket=bucket, Key=key, Body=body)

    image = final(api, key)

    assert (image["status"], image["error"]["code"]) == ("FAILED", code)
    assert len(image["error"]["message"]) > 20
    assert image["renditions"] == []
    announced = eventually(lambda: inbox.of(key, "FAILED"))
    assert [envelope["Subject"] for envelope in announced] == [f"Image failed: {name}"]
    assert queue_is_empty(cloud, cloud.outputs["WorkQueueUrl"])


def queue_is_empty(cloud: LocalCloud, url: str) -> bool:
    def counts() -> bool:
        attributes = cloud.client("sqs").get_queue_attributes(QueueUrl=url, AttributeNames=["All"])[
            "Attributes"
        ]
        return (
            attributes["ApproximateNumberOfMessages"] == "0"
            and attributes["ApproximateNumberOfMessagesNotVisible"] == "0"
        )

    return bool(eventually(counts))


@pytest.mark.parametrize(
    "name", ["two words.jpg", "a+b.jpg", "100%25.jpg", "é ü 東京.jpg", "🦊.jpg", "..%2F.jpg"]
)
def test_any_name_keeps_its_image(cloud: LocalCloud, api: Api, bucket: str, name: str) -> None:
    """A key with spaces, +, %, letters of any script or emoji is found again by its file name."""
    key = f"uploads/{name}"
    cloud.client("s3").put_object(Bucket=bucket, Key=key, Body=jpeg(seed=len(name)))

    image = final(api, key)

    assert (image["status"], image["key"]) == ("COMPLETED", key)
    status, found = api("GET", f"/images/uploads/{quote(name, safe='')}/status")
    assert (status, found["image_id"]) == (200, image["image_id"])


def test_second_upload_replaces_the_first(cloud: LocalCloud, api: Api, bucket: str) -> None:
    """The same key uploaded twice is one image: the newer, with its renditions and no others."""
    key, s3 = "uploads/e2e/twice.jpg", cloud.client("s3")
    s3.put_object(Bucket=bucket, Key=key, Body=jpeg(800, 600))
    version = s3.put_object(Bucket=bucket, Key=key, Body=jpeg(400, 300))["VersionId"]

    def is_newer() -> Any:
        image = final(api, key)
        return image if image["version_id"] == version else None

    image = eventually(is_newer)

    assert (image["width"], image["height"]) == (400, 300)
    expected = {row["key"] for row in image["renditions"]}
    eventually(lambda: stored_renditions(cloud, image["image_id"]) == expected)


def stored_renditions(cloud: LocalCloud, image_id: str) -> set[str]:
    listing = cloud.client("s3").list_objects_v2(Bucket=cloud.outputs["RenditionsBucket"])
    return {row["Key"] for row in listing.get("Contents", ()) if image_id in row["Key"]}


def test_deletion_takes_everything_derived(
    cloud: LocalCloud, api: Api, bucket: str, inbox: Inbox
) -> None:
    """Deleted in S3, an image is gone from the API and from the bucket of renditions."""
    key = "uploads/e2e/deleted.jpg"
    s3 = cloud.client("s3")
    s3.put_object(Bucket=bucket, Key=key, Body=jpeg())
    image_id = final(api, key)["image_id"]
    assert stored_renditions(cloud, image_id)

    s3.delete_object(Bucket=bucket, Key=key)

    eventually(lambda: api("GET", f"/images/{image_id}")[0] == 404)
    eventually(lambda: not stored_renditions(cloud, image_id))
    assert len(eventually(lambda: inbox.of(key, "DELETED"))) == 1


def test_life_of_an_image_over_rest(api: Api) -> None:
    """Uploaded, asked for, clashed with, listed and deleted, all over the API."""
    body = jpeg()
    status, accepted = api("POST", "/images?name=over%20rest.jpg", body)
    assert (status, accepted["key"]) == (202, "uploads/over rest.jpg")
    status, waiting = api("GET", accepted["links"]["status"])
    assert (status, waiting["image_id"]) == (200, accepted["image_id"])

    image = final(api, "uploads/over rest.jpg")

    assert image["status"] == "COMPLETED"
    assert api("POST", "/images?name=over%20rest.jpg", body)[0] == 409
    assert image["image_id"] in [row["image_id"] for row in api("GET", "/images")[1]["images"]]
    assert api("DELETE", image["links"]["self"])[0] == 202
    eventually(lambda: api("GET", image["links"]["self"])[0] == 404)


def test_picture_behind_a_url_is_fetched(cloud: LocalCloud, api: Api, bucket: str) -> None:
    """A URL is fetched and goes the same way as an upload."""
    s3 = cloud.client("s3")
    s3.put_object(Bucket=bucket, Key="elsewhere/source.jpg", Body=jpeg())
    url = s3.generate_presigned_url(
        "get_object", Params={"Bucket": bucket, "Key": "elsewhere/source.jpg"}
    )
    wish = json.dumps({"url": url, "name": "fetched.jpg"}).encode()

    status, accepted = api("POST", "/images", wish, **{"Content-Type": "application/json"})

    assert status == 202, accepted
    assert final(api, "uploads/fetched.jpg")["status"] == "COMPLETED"


def test_unknown_image_is_not_found(api: Api) -> None:
    """An image that nobody uploaded is a 404 that says so."""
    status, problem = api("GET", "/images/uploads/nobody.jpg/status")
    assert status == 404
    assert problem["message"] == "Image details not found for the given image identifier."


def test_nothing_was_denied_and_nothing_is_dead(cloud: LocalCloud) -> None:
    """After all of the above no role was too narrow and no message was given up."""
    logs = cloud.client("logs")
    for group in logs.describe_log_groups(logGroupNamePrefix="/aws/lambda/")["logGroups"]:
        for event in logs.filter_log_events(logGroupName=group["logGroupName"])["events"]:
            assert "AccessDenied" not in event["message"]
    dead = cloud.outputs["WorkQueueUrl"].replace("-work", "-dead-letters")
    assert queue_is_empty(cloud, dead)
