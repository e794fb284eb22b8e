"""What schemathesis does not find out by itself: files' names, and images that there are."""

import json
import os
from typing import Any
from urllib.request import urlopen

import schemathesis
from hypothesis import strategies as st

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
    """Half of the time an image that there is, for an id."""
    if path_parameters and "image_id" in path_parameters:
        number = sum(str(path_parameters["image_id"]).encode())
        with urlopen(f"{API}/images?limit=20") as answer:
            ids = [image["image_id"] for image in json.load(answer)["images"]]
        if ids and number % 2:
            path_parameters["image_id"] = ids[number % len(ids)]
    return path_parameters
