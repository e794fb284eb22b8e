"""The pipeline's own tools: set a stage up, look after it, mend it."""

import argparse
import sys

from botocore.exceptions import BotoCoreError, ClientError

from chalicelib.errors import PipelineError
from infrastructure import (
    backfill,
    check,
    configuration,
    dead_letters,
    deploy,
    destroy,
    diff,
    logs,
    status,
    template,
)

COMMANDS = {
    "deploy": deploy,
    "diff": diff,
    "status": status,
    "logs": logs,
    "destroy": destroy,
    "configure": configuration,
    "template": template,
    "dlq": dead_letters,
    "check": check,
    "backfill": backfill,
}
"""Each module says what its command is (its docstring), what it takes, and runs it."""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m infrastructure", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").splitlines()[0]
        command = commands.add_parser(name, help=summary, description=module.__doc__)
        command.add_argument("--stage", required=True, help="dev, prod or another stage of yours")
        module.add_arguments(command)
    options = parser.parse_args()
    try:
        return int(COMMANDS[options.command].run(options))
    except (BotoCoreError, ClientError, PipelineError, OSError) as error:
        print(f"{options.command} stopped: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. Run it again to go on.", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
