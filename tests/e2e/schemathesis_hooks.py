"""What schemathesis does not find out by itself: files' names, and what there is by its id."""

import json
import os
from collections.abc import Callable
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import urlopen

import schemathesis
from hypothesis import strategies as st

from chalicelib.model import EventKind
from chalicelib.web.operations import LABEL, MIN_CONFIDENCE, URL_TEXT, WEBHOOK_URL

API = os.environ["API_URL"]

names = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1).map(
    lambda stem: f"{stem.replace('/', '').replace(chr(92), '')[:50]}.jpg"
)
schemathesis.openapi.format("filename", names)
schemathesis.openapi.format("uri", st.integers(0, 99).map(lambda n: f"{API}/static/{n}.jpg"))


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: dict[str, Any]) -> None:  # noqa: ARG001
    """Nothing that is not documented may be in an answer."""
    for component in raw_schema["components"]["schemas"].values():
        if "properties" in component:
            component["additionalProperties"] = False


@schemathesis.hook
def map_path_parameters(context: Any, path_parameters: Any) -> Any:  # noqa: ARG001
    """Half of the time something that there is, for an id."""
    for name, listed in LISTS.items():
        if path_parameters and name in path_parameters:
            number = sum(str(path_parameters[name]).encode())
            ids = [each[name] for each in listed(path_parameters)] if number % 2 else []
            if ids:
                path_parameters[name] = ids[number % len(ids)]
    return path_parameters


def shown(path: str, kind: str) -> Any:
    try:
        with urlopen(API + path) as answer:
            return json.load(answer)[kind]
    except HTTPError:
        return []


LISTS: dict[str, Callable[[Any], Any]] = {
    "image_id": lambda _: shown("/images?limit=20", "images"),
    "webhook_id": lambda _: shown("/webhooks", "webhooks"),
    "event_id": lambda given: shown(
        f"/webhooks/{quote(str(given['webhook_id']), safe='')}/deliveries", "deliveries"
    ),
}


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:  # noqa: ARG001
    """Webhooks go to where somebody is, and are for what does not happen here.

    Else all of them were told of every image. And a parameter comes with one that it qualifies,
    which OpenAPI cannot say.
    """
    query = case.query or {}
    if MIN_CONFIDENCE.name in query and query.keys().isdisjoint(MIN_CONFIDENCE.qualifies):
        query[LABEL.name] = LABEL.example
    body = case.body
    if case.operation.path.startswith("/webhooks") and isinstance(body, dict):
        statuses = body.get("statuses", [])
        if isinstance(statuses, list) and all(each in [*EventKind] for each in statuses):
            body["statuses"] = ["DUPLICATE" for _ in statuses or "1"]
        if body.get("url") in (WEBHOOK_URL.example, URL_TEXT.example):
            body["url"] = f"{API}/static/1.jpg"
