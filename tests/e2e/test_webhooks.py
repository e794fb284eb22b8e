"""From an upload to a receiver, on the whole local cloud, with each function's own rights."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest

from chalicelib.model import image_id_of
from localcloud.cloud import LocalCloud
from tests.pictures import photo, saved
from tests.receiver import Receiver, listening
from tests.waiting import TIMEOUT_S, eventually


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with listening() as receiver:
        yield receiver


class Api:
    """The REST API as a client sees it: (status, JSON or nothing) of every request."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __call__(self, method: str, path: str, body: Any = b"", kind: str = "") -> tuple[int, Any]:
        headers = {"Content-Type": kind or "application/json"}
        sent = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = Request(self.url + path, sent or None, headers, method=method)
        try:
            with urlopen(request, timeout=TIMEOUT_S) as answer:
                said = answer.read()
                return answer.status, json.loads(said) if said else None
        except HTTPError as error:
            return error.code, json.load(error)


@pytest.fixture
def api(cloud: LocalCloud) -> Api:
    return Api(cloud.api_url)


@pytest.fixture
def webhook(api: Api, receiver: Receiver) -> Iterator[dict[str, Any]]:
    """The receiver, registered for what succeeds or is deleted."""
    wish = {"url": receiver.url, "statuses": ["COMPLETED", "DELETED"]}
    status, made = api("POST", "/webhooks", wish)
    assert status == 201, made
    receiver.secrets = [made["secret"]]
    yield made
    api("DELETE", f"/webhooks/{made['webhook_id']}")


def upload(api: Api, name: str) -> str:
    status, image = api("POST", f"/images?name={name}", saved(photo(320, 240)), "image/jpeg")
    assert status == 202, image
    return image_id_of(f"uploads/{name}")


def told(receiver: Receiver, image_id: str) -> list[Any]:
    """What the receiver was told of an image."""
    return [got for got in receiver.received if got.payload["data"].get("image_id") == image_id]


def logged(api: Api, webhook: dict[str, Any], image_id: str, attempts: int) -> Any:
    """The delivery about an image once it is made, with so many attempts."""
    _, page = api("GET", f"/webhooks/{webhook['webhook_id']}/deliveries")
    for each in page["deliveries"]:
        if (each["image_id"], each["state"]) == (image_id, "DELIVERED"):
            return each if len(each["attempts"]) == attempts else None
    return None


def test_image_is_told_of_and_told_again(
    api: Api, receiver: Receiver, webhook: dict[str, Any]
) -> None:
    """Signed, tried again when it fails, logged, replayed; nothing once the webhook is deleted."""
    receiver.answers.append(500)

    image_id = upload(api, "webhooks-1.jpg")

    delivery = eventually(lambda: logged(api, webhook, image_id, attempts=2))
    assert [attempt["status"] for attempt in delivery["attempts"]] == [500, 200]
    assert delivery["event_type"] == "image.completed"
    path = f"/webhooks/{webhook['webhook_id']}"
    replay = f"{path}/deliveries/{delivery['event_id']}/replay"
    assert api("POST", replay) == (202, {"event_id": delivery["event_id"]})
    eventually(lambda: logged(api, webhook, image_id, attempts=3))
    came = told(receiver, image_id)
    assert [got.headers["webhook-id"] for got in came] == [delivery["event_id"]] * 3
    assert len({got.body for got in came}) == 1
    assert came[0].payload["data"]["renditions"]

    _, test = api("POST", f"{path}/test")
    eventually(lambda: receiver.received[-1].headers["webhook-id"] == test["event_id"])
    assert api("GET", path)[1]["state"] == "ACTIVE"

    assert api("DELETE", path) == (204, None)
    assert api("GET", path)[0] == 404
    _, other = api("POST", "/webhooks", {"url": receiver.url})
    receiver.secrets = [other["secret"]]  # what the deleted one is told would be refused
    assert api("DELETE", f"/images/{image_id}")[0] == 202
    eventually(lambda: len(told(receiver, image_id)) == len(came) + 1)
    assert told(receiver, image_id)[-1].payload["type"] == "image.deleted"
    assert receiver.refused == []
    api("DELETE", f"/webhooks/{other['webhook_id']}")


def test_new_secret_signs_what_comes_next(
    api: Api, receiver: Receiver, webhook: dict[str, Any]
) -> None:
    """With the one before beside it, so that a receiver changes over when it likes."""
    _, rotated = api("POST", f"/webhooks/{webhook['webhook_id']}/rotate")
    receiver.secrets.append(rotated["secret"])

    image_id = upload(api, "webhooks-2.jpg")

    eventually(lambda: told(receiver, image_id))
    assert len({*receiver.secrets}) == 2
    assert receiver.refused == []
    api("DELETE", f"/images/{image_id}")
