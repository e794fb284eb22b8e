"""``backfill`` and ``check`` as a person runs them, on images of the running local cloud."""

import os
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from chalicelib.aws.catalog import Catalog
from chalicelib.aws.storage import Renditions
from chalicelib.model import Image, image_id_of
from infrastructure.stage import PROJECT
from localcloud.cloud import LocalCloud
from tests.waiting import TIMEOUT_S, eventually

PREFIX = "uploads/backfill/"
KEYS = [f"{PREFIX}{number}.png" for number in range(3)]


@pytest.fixture(scope="module")
def catalog(cloud: LocalCloud) -> Catalog:
    return Catalog(cloud.client("dynamodb"), cloud.outputs["TableName"])


@pytest.fixture(scope="module")
def infrastructure(cloud: LocalCloud) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs ``python -m infrastructure`` on the local stage, whatever its exit status."""

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "infrastructure", words[0], "--stage", "local", *words[1:]],
            cwd=PROJECT,
            env=os.environ | cloud.client_environ | cloud.variables,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )

    return run


def settled(catalog: Catalog, is_so: Callable[[Image], Any] = bool) -> list[Image]:
    """The images of this test, once nothing is left to do for any and all are as they should."""

    def found() -> list[Image] | None:
        images = [catalog.get(image_id_of(key)) for key in KEYS]
        done = [image for image in images if image and image.is_settled and is_so(image)]
        return done if len(done) == len(KEYS) else None

    images: list[Image] = eventually(found)
    return images


def stored(cloud: LocalCloud, images: list[Image]) -> set[str]:
    """The keys of these images in the bucket of renditions."""
    bucket = cloud.outputs["RenditionsBucket"]
    renditions = Renditions(cloud.client("s3"), bucket)
    ids = {image.image_id for image in images}
    return {key for key in renditions.listing("") if key.split("/")[1] in ids}


def named(images: list[Image]) -> set[str]:
    """The keys of the renditions that their records name."""
    return {rendition.key for image in images for rendition in image.renditions}


@pytest.fixture(scope="module")
def outdated(cloud: LocalCloud, catalog: Catalog) -> list[Image]:
    """Three images of a cat that an older pipeline has processed."""
    skimage = find_spec("skimage")
    assert skimage is not None
    assert skimage.origin is not None
    cat = (Path(skimage.origin).parent / "data" / "chelsea.png").read_bytes()
    s3 = cloud.client("s3")
    for key in KEYS:
        s3.put_object(Bucket=cloud.outputs["UploadsBucket"], Key=key, Body=cat)
    for image in settled(catalog):
        catalog.client.update_item(
            TableName=catalog.table,
            Key={"pk": {"S": f"IMAGE#{image.image_id}"}, "sk": {"S": "RECORD"}},
            UpdateExpression="SET pipeline_version = :older",
            ExpressionAttributeValues={":older": {"S": "0-older"}},
        )
    return settled(catalog, lambda image: image.pipeline_version == "0-older")


def test_backfill_processes_what_is_outdated(
    cloud: LocalCloud,
    catalog: Catalog,
    infrastructure: Callable[..., subprocess.CompletedProcess[str]],
    outdated: list[Image],
) -> None:
    """Counted by a dry run, processed anew on request, and current ever after."""
    counted = infrastructure("backfill", "--prefix", PREFIX, "--dry-run")
    assert counted.returncode == 0, counted.stderr
    assert "3  of an older version or other settings\n" in counted.stdout
    assert settled(catalog) == outdated

    ran = infrastructure("backfill", "--prefix", PREFIX, "--yes")
    assert ran.returncode == 0, ran.stderr
    assert "\n3 enqueued." in ran.stdout

    current = settled(catalog, lambda image: image.pipeline_version != "0-older")
    assert len(named(current)) == 12
    assert named(current).isdisjoint(named(outdated))
    assert stored(cloud, current) == named(current)

    again = infrastructure("backfill", "--prefix", PREFIX)
    assert again.returncode == 0, again.stderr
    assert "3  current\n" in again.stdout
    assert "0 to process" in again.stdout


def test_check_finds_a_lost_label_and_brings_it_back(
    catalog: Catalog,
    infrastructure: Callable[..., subprocess.CompletedProcess[str]],
    outdated: list[Image],
) -> None:
    """Of images that just went their way nothing else is said."""
    image, label = outdated[0], "cat"
    assert not said_of(outdated, infrastructure("check"))
    found = entries(catalog, label, image)
    assert len(found) == 1
    catalog.client.delete_item(TableName=catalog.table, Key=found[0])

    said = infrastructure("check")
    assert (said.returncode, said.stderr) == (1, "")
    assert f"{label} of {image.original.key}" in said.stdout
    assert entries(catalog, label, image) == []

    said = infrastructure("check", "--repair")
    assert (said.returncode, said.stderr) == (0, "")
    assert entries(catalog, label, image) == found
    assert not said_of(outdated, infrastructure("check"))


def said_of(images: list[Image], ran: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines of a report that name one of these images."""
    names = [name for image in images for name in (image.image_id, image.original.key)]
    assert not ran.stderr
    return [line for line in ran.stdout.splitlines() if any(name in line for name in names)]


def entries(catalog: Catalog, label: str, image: Image) -> list[dict[str, Any]]:
    """The keys of an image's entry under a label, in whatever shard."""
    position = f"{image.original.uploaded_at}#{image.image_id}"
    keys = [{"pk": {"S": f"LABEL#{label}#{shard}"}, "sk": {"S": position}} for shard in range(8)]
    return [
        key
        for key in keys
        if "Item" in catalog.client.get_item(TableName=catalog.table, Key=key, ConsistentRead=True)
    ]
