"""``python -m benchmarks.memory``: what an image costs at several memory settings of Lambda.

A function has a share of a core for its memory, a whole one for 1,769 MB, and stands still for the
rest of each 20 ms once it has used its share up. Here a watcher stops the worker so, which goes
through the batches of 10 photos that ``benchmarks.billed`` measures; the settings take turns.
``--peaks`` measures instead the memory that the largest pictures take which the limits admit.
"""

import argparse
import logging
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from PIL import Image
from pillow_heif import register_heif_opener

from benchmarks.billed import in_batches, measured, services_of, slow_down_rekognition, upload
from benchmarks.cold_start import VARIABLES
from benchmarks.throughput import make_photos
from infrastructure.stage import PROJECT
from localcloud.cloud import LocalCloud

MEMORY_MB = (1024, 1769, 2048, 3008)
CORE_MB = 1769
PERIOD_S = 0.020
USD_PER_GB_S = {"x86_64": 0.0000166667, "arm64": 0.0000133334}
"""List prices of us-east-1."""

BATCH = 10


class Watcher(threading.Thread):
    """Stops a process whenever it has used its share of a period up, until the next one."""

    def __init__(self, pid: int, cores: float) -> None:
        super().__init__(daemon=True)
        self.pid, self.cores = pid, cores

    def run(self) -> None:
        clock = (~self.pid << 3) | 2  # the CPU time of that process (clock_getcpuclockid)
        allowed, used = 0.0, time.clock_gettime(clock)
        with suppress(OSError):  # once it has ended
            while True:
                end = time.monotonic() + PERIOD_S
                allowed = min(0.0, allowed) + self.cores * PERIOD_S  # what it overdraws, it owes
                while time.monotonic() < end:
                    before, used = used, time.clock_gettime(clock)
                    allowed -= used - before
                    if allowed <= 0:
                        os.kill(self.pid, signal.SIGSTOP)
                        time.sleep(max(0.0, end - time.monotonic()))
                        os.kill(self.pid, signal.SIGCONT)
                    else:
                        time.sleep(0.001)


def work(parent: Connection, variables: Mapping[str, str], cores: set[int]) -> None:
    """A worker that processes what it is sent, and answers with the wall and CPU ms an image."""
    os.sched_setaffinity(0, cores)
    logging.disable(logging.INFO)
    services = services_of(variables, in_flight=2)
    while originals := parent.recv():
        parent.send(measured(partial(in_batches, BATCH, originals, services), len(originals)))


def run_of(cloud: LocalCloud, memory_mb: int, paths: list[Path], name: str) -> tuple[float, float]:
    """Wall and CPU milliseconds of an image at a memory setting, the worker warm."""
    here, there = multiprocessing.Pipe()
    # No more cores than it has shares of; the cloud is on the last one.
    cores = set(range(-(-memory_mb // CORE_MB)))
    start = multiprocessing.get_context("spawn")
    worker = start.Process(target=work, args=(there, cloud.variables, cores), daemon=True)
    worker.start()
    here.send(upload(cloud, paths[:BATCH], f"{name}/warm"))
    here.recv()
    originals = upload(cloud, paths, name)
    Watcher(worker.pid or 0, memory_mb / CORE_MB).start()
    here.send(originals)
    taken: tuple[float, float] = here.recv()
    here.send([])
    worker.join()
    return taken


def show_costs(photos: int, rounds: int) -> None:
    runs = defaultdict(list)
    last_core = {(os.cpu_count() or 1) - 1}
    with TemporaryDirectory() as folder:
        paths = make_photos(Path(folder), photos)
        os.sched_setaffinity(0, last_core)  # the cloud's processes inherit it
        with LocalCloud() as cloud:
            os.environ.update(cloud.client_environ)
            slow_down_rekognition(cloud)
            for turn in range(rounds):
                for memory_mb in MEMORY_MB:
                    runs[memory_mb].append(run_of(cloud, memory_mb, paths, f"{memory_mb}/{turn}"))
    print(f"medians of {rounds} runs of {photos} photos of 12 megapixels, in batches of {BATCH}")
    print("   MB  cores  billed ms   CPU ms   USD per million: x86_64    arm64, if as fast")
    for memory_mb, taken in runs.items():
        wall, cpu = (median(times) for times in zip(*taken, strict=True))
        usd = [wall * 1000 * memory_mb / 1024 * price for price in USD_PER_GB_S.values()]
        print(
            f"{memory_mb:5}  {memory_mb / CORE_MB:5.2f}  {wall:9.0f}  {cpu:7.0f}"
            f"  {usd[0]:23.2f}  {usd[1]:19.2f}"
        )


# ── how much memory it takes ─────────────────────────────────────────────────────────────────────

LARGEST: Mapping[str, tuple[int, str, dict[str, object]]] = {
    "JPEG": (100, "RGB", {"format": "JPEG"}),
    "JPEG, progressive 4:2:0": (100, "RGB", {"format": "JPEG", "progressive": True}),
    "JPEG, progressive 4:4:4": (
        100,
        "RGB",
        {"format": "JPEG", "progressive": True, "subsampling": 0},
    ),
    "PNG RGBA": (100, "RGBA", {"format": "PNG", "compress_level": 1}),
    "HEIC": (100, "RGB", {"format": "HEIF"}),
    "AVIF": (50, "RGB", {"format": "AVIF", "speed": 10}),
    "WebP": (33, "RGB", {"format": "WEBP", "method": 0}),
}
"""Megapixels that the default limits admit, mode, and how it is saved."""

RENDERING = """
import re, sys
from concurrent.futures import ThreadPoolExecutor
import app
from chalicelib import imaging
from chalicelib.bootstrap import services, settings
from chalicelib.model import Limits

ready = services()
ready.catalog, ready.uploads, ready.queue, ready.topic, ready.recognizer

def render(path):
    imaging.render(open(path, "rb").read(), settings().renditions, Limits())

with ThreadPoolExecutor() as pool:
    list(pool.map(render, sys.argv[1:]))
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""


def peak_mib(files: Sequence[Path]) -> float:
    """Peak of a fresh process that has the app, its clients, and these pictures side by side."""
    printed = subprocess.run(
        [sys.executable, "-c", RENDERING, *files],
        cwd=PROJECT,
        env=os.environ | VARIABLES,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(printed.stdout) / 1024


def show_peaks() -> None:
    register_heif_opener()
    print(f"{'':<24}     MP   one, MiB   two, MiB")
    with TemporaryDirectory() as folder:
        path = Path(folder, "picture")
        print(f"{'the app alone':<24} {'':6} {peak_mib([]):10.0f}")
        for name, (megapixels, mode, options) in LARGEST.items():
            side = math.isqrt(megapixels * 10**6)
            Image.linear_gradient("L").resize((side, side)).convert(mode).save(path, **options)
            one, two = peak_mib([path]), peak_mib([path, path])
            print(f"{name:<24} {megapixels:6} {one:10.0f} {two:10.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=int, default=20, help="of each run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peaks", action="store_true")
    options = parser.parse_args()
    if options.peaks:
        show_peaks()
    else:
        show_costs(options.photos, options.rounds)


if __name__ == "__main__":
    main()
