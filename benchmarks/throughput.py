"""``python -m benchmarks.throughput``: the whole local cloud beside its imaging step alone.

Both make the same renditions of the same photographs on the same cores, one after the other in
one run: first ``imaging`` alone in two processes, then every photo from its upload to its
announcement through S3, Lambda, SQS, Rekognition, DynamoDB and SNS, all of which share those
cores. Prints both rates, their ratio, and the peak memory of the Lambda workers.
"""

import argparse
import json
import os
import re
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image, ImageChops

from chalicelib import imaging
from chalicelib.config import DEFAULT_RENDITIONS, UPLOADS_PREFIX, parse_renditions
from chalicelib.model import Limits
from localcloud.cloud import INBOX, LocalCloud
from localcloud.demo import sample_photos

SIZE = (4000, 3000)
TIMEOUT_S = 300
WARM_UP = 12
PROCESS = re.compile(r"lambda-image-pipeline-local-(\w+)-|-m (ministack|localcloud\.\w+)")


def make_photos(folder: Path, count: int) -> list[Path]:
    """12-megapixel JPEGs of 4:2:0 at quality 90 from the sample photographs, no two the same.

    Enlarged photographs have too little detail for their size, so noise of a sensor is added.
    """
    noise = Image.effect_noise(SIZE, 24).convert("RGB")
    sources = [Image.open(path).convert("RGB").resize(SIZE, 3) for path in sample_photos()]
    paths = []
    for number in range(count):
        source = sources[number % len(sources)]
        grain = ImageChops.offset(noise, number * 37, number * 91)
        path = folder / f"photo-{number:03}.jpg"
        ImageChops.add(source, grain, scale=1.0, offset=-128).save(path, quality=90)
        paths.append(path)
    return paths


def render(path: Path) -> float:
    """CPU seconds of the imaging step for one file."""
    original = path.read_bytes()
    before = time.process_time()
    imaging.inspect(original, Limits())
    imaging.render(original, parse_renditions(DEFAULT_RENDITIONS), Limits())
    return time.process_time() - before


def imaging_alone(paths: Sequence[Path], processes: int) -> tuple[float, float]:
    """Photos a second, and CPU seconds a photo, with the imports paid before."""
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(render, paths[:processes]))
        began = time.monotonic()
        cpu = list(pool.map(render, paths))
        return len(paths) / (time.monotonic() - began), sum(cpu) / len(cpu)


def whole_cloud(cloud: LocalCloud, paths: Sequence[Path]) -> tuple[float, int]:
    """Photos a second from the first upload to the last announcement, and how many completed."""
    s3, sqs = cloud.client("s3"), cloud.client("sqs")
    inbox = sqs.get_queue_url(QueueName=INBOX)["QueueUrl"]
    bucket = cloud.outputs["UploadsBucket"]

    def upload(path: Path) -> None:
        s3.put_object(Bucket=bucket, Key=UPLOADS_PREFIX + path.name, Body=path.read_bytes())

    seen: dict[str, str] = {}
    began = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        uploads = [pool.submit(upload, path) for path in paths]
        while len(seen) < len(paths) and time.monotonic() - began < TIMEOUT_S:
            answer = sqs.receive_message(QueueUrl=inbox, MaxNumberOfMessages=10, WaitTimeSeconds=2)
            for message in answer.get("Messages", ()):
                details = json.loads(json.loads(message["Body"])["Message"])
                seen[details["key"]] = details["status"]
        for result in uploads:
            result.result()
    rate = len(seen) / (time.monotonic() - began)
    return rate, sum(status == "COMPLETED" for status in seen.values())


@dataclass
class Usage:
    """What the processes of one name have used: CPU time, and resident memory at its peak."""

    processes: int = 0
    cpu_s: float = 0
    peak_mb: float = 0


def cloud_usage() -> defaultdict[str, Usage]:
    """By name, every process of the local cloud (Linux: /proc); workers go by their function."""
    tick = os.sysconf("SC_CLK_TCK")
    usage: defaultdict[str, Usage] = defaultdict(Usage)
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text().replace("\0", " ")
            status = (process / "status").read_text()
            clocks = (process / "stat").read_text().rpartition(")")[2].split()[11:13]
        except OSError:
            continue
        name = PROCESS.search(command)
        peak = re.search(r"VmHWM:\s+(\d+) kB", status)
        if name and peak:
            group = usage[name[1] or name[2]]
            group.processes += 1
            group.cpu_s += sum(map(int, clocks)) / tick
            group.peak_mb = max(group.peak_mb, int(peak[1]) / 1024)
    return usage


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=100)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=None)
    parser.add_argument("--in-flight", type=int, default=None)
    options = parser.parse_args()
    settings = {"MAXIMUM_CONCURRENCY": str(options.workers)}
    if options.batch:
        settings["BATCH_SIZE"] = str(options.batch)
    if options.in_flight:
        settings["IMAGES_IN_FLIGHT"] = str(options.in_flight)
    with TemporaryDirectory() as folder:
        paths = make_photos(Path(folder), options.photos)
        warm_up = [path.with_name(f"warm-{path.name}") for path in paths[:WARM_UP]]
        for path, copy in zip(paths, warm_up, strict=False):
            copy.hardlink_to(path)
        size = sum(path.stat().st_size for path in paths) / len(paths) / 1e6
        print(f"{len(paths)} photos of {SIZE[0]}×{SIZE[1]}, {size:.1f} MB, {os.cpu_count()} cores")
        alone, cpu = imaging_alone(paths, options.workers)
        print(f"imaging alone: {alone:.2f} photos/s, {cpu:.3f} CPU seconds each")
        with LocalCloud(settings=settings) as cloud:
            whole_cloud(cloud, warm_up)  # the imports of a burst's workers are paid before, too
            before, client = cloud_usage(), time.process_time()
            whole, completed = whole_cloud(cloud, paths)
            client, after = time.process_time() - client, cloud_usage()
    print(f"whole local cloud: {whole:.2f} photos/s, {completed} of {len(paths)} completed")
    print(f"ratio: {whole / alone:.2f} of the imaging step alone")
    print("CPU milliseconds a photo, processes, and the largest peak of memory:")
    for name in sorted(after):
        cpu_ms = 1000 * (after[name].cpu_s - before[name].cpu_s) / len(paths)
        print(
            f"  {name:<24} {cpu_ms:6.0f} ms  {after[name].processes:3} processes  "
            f"{after[name].peak_mb:5.0f} MB"
        )
    print(f"  {'(this uploader)':<24} {1000 * client / len(paths):6.0f} ms")


if __name__ == "__main__":
    main()
