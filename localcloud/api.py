"""``python -m localcloud.api``: the REST API, on the server that ``chalice local`` uses."""

import json
import logging
import sys
from pathlib import Path

from localcloud.functions import STAGE, LocalFactory


def serve(outputs: dict[str, str], port: int) -> None:
    logging.basicConfig(stream=sys.stdout, level=logging.INFO, format="%(message)s")
    factory = LocalFactory(outputs)
    config = factory.create_config_obj(STAGE)
    factory.create_local_server(config.chalice_app, config, "127.0.0.1", port).serve_forever()


if __name__ == "__main__":
    state_folder = Path(sys.argv[1])
    serve(json.loads((state_folder / "outputs.json").read_text()), int(sys.argv[2]))
