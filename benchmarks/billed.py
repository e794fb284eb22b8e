"""``python -m benchmarks.billed``: what Lambda would bill an image, beside the CPU time it takes.

Lambda bills the time from an invocation's start to its end, waiting included. Here the worker has
one core to itself, as a function of 1,769 MB has, and the local cloud the others; every call of S3
takes 30 ms more, and Rekognition answers after 600 ms. Batches of 1, 5 and 10 photos of
12 megapixels go through ``worker.process_batch``; a plain loop that does one thing after the other
is beside them.
"""

import argparse
import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from datetime import timedelta
from functools import partial
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import Request, urlopen

import pytest

from benchmarks.throughput import make_photos
from chalicelib import pipeline, worker
from chalicelib.aws import batches
from chalicelib.bootstrap import Services
from chalicelib.config import read_settings
from chalicelib.messages import WorkMessage, encode_work
from chalicelib.model import Original
from localcloud.cloud import LocalCloud
from localcloud.rekognition.server import FAULTS_PATH

S3_LATENCY_S = 0.030
REKOGNITION_LATENCY_MS = 600
TIME_LEFT = timedelta(seconds=300)


def upload(cloud: LocalCloud, paths: Sequence[Path], folder: str) -> list[Original]:
    """Where no event tells of them, so that nobody else processes them."""
    s3, bucket = cloud.client("s3"), cloud.outputs["UploadsBucket"]
    originals = []
    for path in paths:
        key, body = f"billed/{folder}/{path.name}", path.read_bytes()
        answer = s3.put_object(Bucket=bucket, Key=key, Body=body)
        version, etag = answer["VersionId"], answer["ETag"].strip('"')
        originals.append(Original(key, version, etag, len(body), "", "2026-01-31T09:15:00.000Z"))
    return originals


def services_of(variables: Mapping[str, str], in_flight: int) -> Services:
    """Services of the app, whose calls of S3 take longer by the way to it and back."""
    settings = read_settings({**variables, "IMAGES_IN_FLIGHT": str(in_flight)})
    services = Services(settings)
    services.uploads.client.meta.events.register(
        "before-send.s3", lambda **_: time.sleep(S3_LATENCY_S)
    )
    return services


def slow_down_rekognition(cloud: LocalCloud) -> None:
    faults = json.dumps({"latency_ms": REKOGNITION_LATENCY_MS}).encode()
    url = cloud.rekognition_url + FAULTS_PATH
    urlopen(Request(url, faults, method="PUT")).close()  # noqa: S310 - it is ours


def one_after_the_other(originals: Sequence[Original], services: Services) -> None:
    """What one would write first: no call begins before the last has ended."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "ThreadPoolExecutor", lambda **_: ThreadPoolExecutor(1))
        in_batches(1, originals, services)


def in_batches(size: int, originals: Sequence[Original], services: Services) -> None:
    for batch in batches(originals, size):
        messages = [
            WorkMessage(original.key, original.key, encode_work(original), receive_count=1)
            for original in batch
        ]
        with redirect_stdout(StringIO()):  # the metrics of each image
            worker.process_batch(messages, TIME_LEFT, services)


def measured(work: Callable[[], None], images: int) -> tuple[float, float]:
    """Wall and CPU milliseconds an image."""
    wall, cpu = time.monotonic(), time.process_time()
    work()
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    return 1000 * wall / images, 1000 * cpu / images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=40, help="of each way")
    parser.add_argument("--in-flight", type=int, default=2)
    options = parser.parse_args()
    logging.disable(logging.INFO)
    own, others = {0}, set(range(1, os.cpu_count() or 1))
    with TemporaryDirectory() as folder:
        paths = make_photos(Path(folder), options.photos)
        os.sched_setaffinity(0, others or own)  # the cloud's processes inherit it
        with LocalCloud() as cloud:
            os.sched_setaffinity(0, own)
            os.environ.update(cloud.client_environ)
            services = services_of(cloud.variables, options.in_flight)
            in_batches(5, upload(cloud, paths[:10], "warm"), services)
            slow_down_rekognition(cloud)
            ways: dict[str, Callable[[Sequence[Original], Services], None]] = {
                "one after the other": one_after_the_other,
                **{f"batches of {size}": partial(in_batches, size) for size in (1, 5, 10)},
            }
            print(f"{len(paths)} photos of 12 megapixels each way, one core for the worker")
            for name, way in ways.items():
                originals = upload(cloud, paths, name)
                wall, cpu = measured(partial(way, originals, services), len(paths))
                print(f"{name:<22} {wall:5.0f} ms billed  {cpu:4.0f} ms CPU  {wall / cpu:5.2f}")


if __name__ == "__main__":
    main()
