"""``python -m localcloud demo`` and ``python -m localcloud run``: what the Makefile calls."""

import argparse
import os
import signal
import sys
from pathlib import Path
from types import FrameType

from infrastructure.stage import PROJECT
from localcloud import demo, run
from localcloud.cloud import Ports
from localcloud.emulator import CloudFailed
from localcloud.processes import PortTaken


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m localcloud", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    demos = commands.add_parser("demo", help="process pictures and show what became of them")
    demos.add_argument("images", nargs="*", type=Path, help="files and folders; default: samples")
    demos.add_argument("--json", type=Path, help="file to write the results to, for programs")
    demos.add_argument("--out", type=Path, default=Path("demo-output"), help="renditions' folder")
    runs = commands.add_parser("run", help="keep the cloud up until Ctrl-C")
    runs.add_argument("--api-port", type=int, default=run.DEFAULT_PORTS.api)
    runs.add_argument("--cloud-port", type=int, default=run.DEFAULT_PORTS.cloud)
    runs.add_argument("--state", type=Path, default=PROJECT / ".localcloud")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)  # a shell has it ignored in what it runs behind
    try:
        if options.command == "demo":
            images = options.images or demo.split_paths(os.environ.get("IMAGES", ""))
            return demo.run(images, options.json, options.out)
        return run.run(Ports(options.api_port, options.cloud_port), options.state.resolve())
    except (PortTaken, CloudFailed, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped.", file=sys.stderr)
        return 130


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
