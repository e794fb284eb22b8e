"""``python -m benchmarks.orchestration``: the same photos by the worker and by the state machine.

First what Lambda would bill, as in ``benchmarks.billed``: one core, 30 ms more for every call of
S3, 600 ms for Rekognition; with the calls of AWS that each way makes. Then both ways on a whole
local cloud, one photo after the other: from upload to announcement, and what the execution's
history shows. At last what a million such images cost.
"""

import argparse
import json
import logging
import os
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.billed import in_batches, services_of, slow_down_rekognition, upload
from benchmarks.throughput import make_photos
from chalicelib import stages
from chalicelib.bootstrap import Services
from chalicelib.config import UPLOADS_PREFIX
from chalicelib.messages import encode_work, timestamp
from chalicelib.model import Original
from localcloud.cloud import INBOX, LocalCloud

SETTINGS = {"RECOGNITION": "labels 20 70%", "QUARANTINE": ""}
"""The defaults of a stage on AWS."""

CORE_MB, LARGE_MB, SMALL_MB = 1769, 2048, 512
STAGES: dict[str, tuple[Callable[[Any, Services], Any], int]] = {
    "validate": (stages.validate, LARGE_MB),
    "recognise": (stages.recognise, SMALL_MB),
    "render": (stages.render, LARGE_MB),
    "store": (stages.store, SMALL_MB),
    "announce": (stages.announce, SMALL_MB),
}
"""Each with the memory that .chalice/config.json gives it."""

GB_S_USD, REQUEST_USD, TRANSITION_USD = 16.67e-6, 0.2e-6, 25e-6
S3_USD = {"PutObject": 5e-6, "ListObjectsV2": 5e-6, "GetObject": 0.4e-6, "HeadObject": 0.4e-6}
STARTED_S = 0.01
"""Of the worker for each execution that it starts, in batches: assumed."""


@dataclass
class Usage:
    """What images took: wall and CPU seconds by stage, and calls of AWS."""

    images: int
    seconds: dict[str, tuple[float, float]] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)

    def billed_s(self, stage: str, memory_mb: int) -> float:
        """An image's share, where less memory than one core's is a smaller part of a core."""
        wall, cpu = self.seconds[stage]
        return (wall - cpu + cpu * max(1.0, CORE_MB / memory_mb)) / self.images

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        wall, cpu = time.monotonic(), time.process_time()
        yield
        before = self.seconds.get(stage, (0.0, 0.0))
        spent = time.monotonic() - wall, time.process_time() - cpu
        self.seconds[stage] = before[0] + spent[0], before[1] + spent[1]

    def s3_usd(self) -> float:
        return sum(self.calls[call] * usd for call, usd in S3_USD.items()) / self.images


def counted(services: Services, usage: Usage) -> Services:
    """Services whose calls are counted."""
    clients = (services.uploads.client, services.catalog.client, services.recognizer.client)
    for client in clients:
        client.meta.events.register(
            "before-send", lambda event_name, **_: usage.calls.update([event_name.split(".")[2]])
        )
    return services


def by_stages(originals: Sequence[Original], services: Services, usage: Usage) -> None:
    """What the state machine does for each, without it."""
    for original in originals:
        event: Any = {
            "work": json.loads(encode_work(original)),
            "execution": original.key,
            "started_at": timestamp(services.clock()),
        }
        for name, (stage, _) in STAGES.items():
            with usage.timed(name), redirect_stdout(StringIO()):  # the metrics of each image
                event = stage(event, services)


def billed(paths: Sequence[Path]) -> tuple[dict[int, Usage], Usage]:
    """The worker's usage by the size of its batches, and that of the stages."""
    own, others = {0}, set(range(1, os.cpu_count() or 1))
    os.sched_setaffinity(0, others or own)  # the cloud's processes inherit it
    with LocalCloud(settings=SETTINGS) as cloud:
        os.sched_setaffinity(0, own)
        os.environ.update(cloud.client_environ)
        # A state machine's ARN makes settling tidy up, as it does where there is one.
        staged = cloud.variables | {"ORCHESTRATION": "stepfunctions", "STATE_MACHINE_ARN": "none"}
        in_batches(5, upload(cloud, paths[:5], "warm"), services_of(cloud.variables, 2))
        slow_down_rekognition(cloud)
        inline = {}
        for size in (1, 10):
            inline[size] = usage = Usage(len(paths))
            services = counted(services_of(cloud.variables, 2), usage)
            originals = upload(cloud, paths, f"batches of {size}")
            with usage.timed("worker"):
                in_batches(size, originals, services)
        usage = Usage(len(paths))
        services = counted(services_of(staged, 2), usage)
        by_stages(upload(cloud, paths, "stages"), services, usage)
    os.sched_setaffinity(0, own | others)
    return inline, usage


def latency_s(cloud: LocalCloud, paths: Sequence[Path]) -> float:
    """Median from upload to announcement, one photo after the other."""
    s3, sqs = cloud.client("s3"), cloud.client("sqs")
    inbox = sqs.get_queue_url(QueueName=INBOX)["QueueUrl"]
    bucket, took_s = cloud.outputs["UploadsBucket"], []
    for path in paths:
        key, body, told = UPLOADS_PREFIX + path.name, path.read_bytes(), set[str]()
        began = time.monotonic()
        s3.put_object(Bucket=bucket, Key=key, Body=body)
        while key not in told:  # others may be told of as duplicates
            answer = sqs.receive_message(QueueUrl=inbox, WaitTimeSeconds=20)
            for message in answer["Messages"]:
                told.add(json.loads(json.loads(message["Body"])["Message"])["key"])
                sqs.delete_message(QueueUrl=inbox, ReceiptHandle=message["ReceiptHandle"])
        took_s.append(time.monotonic() - began)
    return statistics.median(took_s)


def history(cloud: LocalCloud) -> tuple[float, float]:
    """States and functions entered by an execution, on the average."""
    client, events = cloud.client("stepfunctions"), Counter[str]()
    machine = cloud.outputs["StateMachineArn"]
    ran = client.list_executions(stateMachineArn=machine)["executions"]
    for each in ran:
        arn = each["executionArn"]
        answer = client.get_execution_history(executionArn=arn, maxResults=1000)
        events.update(event["type"] for event in answer["events"])
    entered = sum(number for kind, number in events.items() if kind.endswith("StateEntered"))
    return entered / len(ran), events["TaskScheduled"] / len(ran)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=20)
    options = parser.parse_args()
    logging.disable(logging.INFO)
    with TemporaryDirectory() as folder:
        *paths, one, two = make_photos(Path(folder), options.photos + 2)
        warm = [one, two]
        inline, staged = billed(paths)
        medians, shown = {}, (0.0, 0.0)
        for orchestration in ("inline", "stepfunctions"):
            settings = SETTINGS | {"ORCHESTRATION": orchestration}
            with LocalCloud(settings=settings) as cloud:
                slow_down_rekognition(cloud)
                latency_s(cloud, warm)
                medians[orchestration] = latency_s(cloud, paths)
                if orchestration == "stepfunctions":
                    shown = history(cloud)
    report(inline, staged, medians, shown)


def report(
    inline: dict[int, Usage],
    staged: Usage,
    medians: dict[str, float],
    shown: tuple[float, float],
) -> None:
    print(f"{staged.images} photos of 12 megapixels each way")
    print("\nfrom upload to announcement on the local cloud, one after the other")
    for name, seconds in medians.items():
        print(f"  {name:<22} {1000 * seconds:6.0f} ms")
    print("\nbilled with one core, and CPU, in ms an image")
    rows = {f"worker, batches of {size}": (each, "worker") for size, each in inline.items()}
    for name, (usage, stage) in (rows | {stage: (staged, stage) for stage in STAGES}).items():
        wall, cpu = (1000 * each / usage.images for each in usage.seconds[stage])
        print(f"  {name:<22} {wall:6.0f} {cpu:6.0f}")
    print("\ncalls of AWS an image")
    for name in sorted({*inline[10].calls, *staged.calls}):
        by_worker, by_stage = (each.calls[name] / each.images for each in (inline[10], staged))
        print(f"  {name:<22} {by_worker:6.1f} {by_stage:6.1f}")
    transitions, invocations = shown[0] + 1, shown[1]
    print(f"\n{transitions:.0f} transitions, the start included, and {invocations:.0f} invocations")
    print("\nUSD for a million images, without what is the same")
    for size, usage in inline.items():
        lambda_usd = usage.billed_s("worker", LARGE_MB) * LARGE_MB / 1024 * GB_S_USD
        told(f"worker, batches of {size}", lambda_usd, REQUEST_USD / size, usage.s3_usd(), 0)
    lambda_usd = sum(
        staged.billed_s(name, memory_mb) * memory_mb / 1024
        for name, (_, memory_mb) in STAGES.items()
    )
    lambda_usd = (lambda_usd + STARTED_S * LARGE_MB / 1024) * GB_S_USD
    requests_usd = (invocations + 1 / 10) * REQUEST_USD
    told("stages", lambda_usd, requests_usd, staged.s3_usd(), transitions * TRANSITION_USD)


def told(name: str, time_usd: float, requests_usd: float, s3_usd: float, way_usd: float) -> None:
    parts = {"time": time_usd, "requests": requests_usd, "S3": s3_usd, "transitions": way_usd}
    shown = "  ".join(f"{part} {1e6 * usd:6.2f}" for part, usd in parts.items())
    print(f"  {name:<22} {shown}  in all {1e6 * sum(parts.values()):6.2f}")


if __name__ == "__main__":
    main()
