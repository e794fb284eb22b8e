"""``python -m tests.schemas``: the JSON Schema of events that the documentation shows."""

import json
from pathlib import Path
from typing import Any

from msgspec.json import schema_components

from chalicelib.announcements import EVENT_VERSION, announcements_of
from chalicelib.web.schema import Event
from tests.unit.test_announcements import COMPLETED, FAILED

FILE = Path(__file__).parents[1] / "docs" / "events" / f"image.v{EVENT_VERSION}.json"


def event_schema() -> dict[str, Any]:
    """What announcements are as JSON, by JSON Schema 2020-12."""
    _, definitions = schema_components([Event])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:image-pipeline:event:image:v{EVENT_VERSION}",
        **definitions.pop("Event"),
        "title": "Event of an image",
        "examples": [announcements_of(image)[0].details for image in (COMPLETED, FAILED)],
        "$defs": definitions,
    }


def text() -> str:
    """The file as it is to be."""
    return json.dumps(event_schema(), indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    FILE.write_text(text())
