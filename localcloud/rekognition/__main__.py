"""``python -m localcloud.rekognition --port N``: prints its URL and answers until it is ended."""

import argparse
import signal
import sys

from localcloud.rekognition.faults import Faults
from localcloud.rekognition.server import FAULTS_PATH, Server


def main() -> None:
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
    options = parser.parse_args()
    try:
        faults = Faults(options.error, options.next_calls, options.rate, options.latency_ms)
    except ValueError as error:
        parser.error(str(error))
    for ending in (signal.SIGTERM, signal.SIGINT):
        signal.signal(ending, lambda *_: sys.exit(0))
    with Server(options.port, faults) as server:
        print(server.url, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
