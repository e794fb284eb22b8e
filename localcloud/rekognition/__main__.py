"""``python -m localcloud.rekognition --port N``: prints its URL and answers until it is ended.

``python -m localcloud.rekognition hash FILE…`` prints perceptual hashes, for moderation rules.
"""

import argparse
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

from localcloud.rekognition.errors import ServiceError
from localcloud.rekognition.faults import Faults
from localcloud.rekognition.moderation import BrokenRules, seen_hash
from localcloud.rekognition.picture import view
from localcloud.rekognition.server import FAULTS_PATH, Server


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m localcloud.rekognition",
        description="Amazon Rekognition on a laptop.",
        epilog=f"The faults can be changed while it runs: PUT {FAULTS_PATH}, as JSON.",
    )
    parser.add_argument("--port", type=int, default=0, help="0, the default: any that is free")
    parser.add_argument(
        "--error", default="ThrottlingException", help="what failing calls fail with"
    )
    parser.add_argument("--next-calls", type=int, default=0, help="so many calls fail first")
    parser.add_argument("--rate", type=float, default=0, help="share of calls that fail, 0 to 1")
    parser.add_argument("--latency-ms", type=float, default=0, help="every call waits so long")
    parser.add_argument("--operation", default="", help="whose calls fail and wait; default: all")
    parser.add_argument(
        "--moderation-rules", type=Path, help="JSON of perceptual hashes and their labels"
    )
    commands = parser.add_subparsers(dest="command")
    hashing = commands.add_parser("hash", help="print the perceptual hashes of pictures instead")
    hashing.add_argument("files", nargs="+", type=Path, help="JPEG or PNG")
    options = parser.parse_args()
    if options.command == "hash":
        return print_hashes(options.files)
    try:
        faults = Faults(
            options.error,
            options.next_calls,
            options.rate,
            options.latency_ms,
            options.operation,
        )
        server = Server(options.port, faults, options.moderation_rules)
    except (ValueError, BrokenRules) as error:
        parser.error(str(error))
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, lambda *_: sys.exit(0))
    with server:
        print(server.url, flush=True)
        server.serve_forever()
    return 0


def print_hashes(files: Iterable[Path]) -> int:
    """A line for each picture, as the server sees it; 1 if one cannot be read."""
    failed = 0
    for file in files:
        try:
            print(f"{seen_hash(view(file.read_bytes()))}  {file}")
        except (OSError, ServiceError) as error:
            print(f"{file}: {error}", file=sys.stderr)
            failed = 1
    return failed


if __name__ == "__main__":
    sys.exit(main())
