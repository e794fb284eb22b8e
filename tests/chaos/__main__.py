"""``make chaos``: many schedules, each from a seed, and a burst; what fails is printed whole."""

import argparse
import logging
import sys
import time
from collections import Counter

import tests.conftest  # noqa: F401 - variables before ``app`` is imported
from localcloud.cloud import LocalCloud
from tests.chaos import burst
from tests.chaos.world import Clients, flagged_person, in_turns, run_schedule


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--schedules", type=int, default=1000)
    parser.add_argument("--burst", type=int, default=500, help="images of the burst; 0 for none")
    options = parser.parse_args()
    logging.disable()  # what fails is told whole, and the rest is thousands of lines
    failed = run_schedules(range(options.seed, options.seed + options.schedules))
    if options.burst:
        run_burst(options.burst, options.seed)
    return bool(failed)


def run_schedules(seeds: range) -> list[int]:
    """The seeds of schedules that failed."""
    failed, faults, began = [], Counter[str](), time.monotonic()
    with LocalCloud() as cloud, flagged_person(cloud), in_turns():
        clients = Clients(cloud)
        for seed in seeds:
            try:
                world = run_schedule(seed, clients)
            except AssertionError as error:
                failed.append(seed)
                print(error, flush=True)
                continue
            faults.update(fault.partition(":")[0] for fault in world.faults.injected)
            if seed % 50 == 0:
                print(f"seed {seed}: {len(failed)} failed so far", flush=True)
    print(
        f"{len(seeds)} schedules from seed {seeds.start}, {time.monotonic() - began:.0f} s: "
        f"{faults.total()} faults {dict(faults)}, failed: {failed or 'none'}"
    )
    return failed


def run_burst(images: int, seed: int) -> None:
    with LocalCloud() as cloud:
        result = burst.burst(cloud, images, seed)
    burst.check(result, images)
    doubled = result.announced.total() - images
    print(
        f"{images} images in a burst, {result.kills} workers killed, {result.seconds:.0f} s: "
        f"all completed, {doubled} announced twice, counts {result.counts}"
    )


if __name__ == "__main__":
    sys.exit(main())
