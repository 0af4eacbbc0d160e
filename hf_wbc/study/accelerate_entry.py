"""Entry point that `accelerate launch` runs in each process of a study's run."""

import json
import os
import sys
from pathlib import Path
from threading import Thread


def main() -> None:
    """Train the run described by the only argument, in JSON; exit with the parent process."""
    Thread(target=_end_with_standard_input, daemon=True).start()
    from hf_wbc.config import TrainConfig
    from hf_wbc.engine.run import run

    request = json.loads(sys.argv[1])
    config = TrainConfig.from_dict(request["config"])
    run(config, Path(request["root"]), Path(request["cache"]))


def _end_with_standard_input() -> None:
    """Exit when standard input closes, which happens when the parent dies."""
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    main()
