"""``python -m tests.chaos``: many schedules, each from a seed; what fails is printed whole."""

import argparse
import sys
import time
from collections import Counter

import tests.conftest  # noqa: F401 - variables before ``app`` is imported
from localcloud.cloud import LocalCloud
from tests.chaos.world import Clients, in_turns, run_schedule


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=1, help="the first seed")
    parser.add_argument("--schedules", type=int, default=1000)
    parser.add_argument("--verbose", action="store_true", help="print what happens")
    options = parser.parse_args()
    failed, faults, began = [], Counter[str](), time.monotonic()
    seeds = range(options.seed, options.seed + options.schedules)
    with LocalCloud() as cloud, in_turns():
        clients = Clients(cloud)
        for seed in seeds:
            try:
                world = run_schedule(seed, clients)
            except AssertionError as error:
                failed.append(seed)
                print(error, flush=True)
                continue
            faults.update(fault.partition(":")[0] for fault in world.faults.injected)
            if options.verbose:
                print("\n".join(world.log))
            if seed % 50 == 0:
                print(f"seed {seed}: {len(failed)} failed so far", flush=True)
    print(
        f"{len(seeds)} schedules, seeds {seeds[0]}–{seeds[-1]}, {time.monotonic() - began:.0f} s: "
        f"{faults.total()} faults injected ({dict(faults)}), {len(failed)} failed {failed}"
    )
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
