"""What `accelerate launch` runs in each of its processes for one run of a study."""

import json
import os
import sys
from pathlib import Path
from threading import Thread


def main() -> None:
    """Train what the only argument asks for, in JSON; end when who asked has ended."""
    Thread(target=_end_with_standard_input, daemon=True).start()
    from hf_wbc.config import TrainConfig
    from hf_wbc.engine.run import run

    request = json.loads(sys.argv[1])
    config = TrainConfig.from_dict(request["config"])
    run(config, Path(request["root"]), Path(request["cache"]))


def _end_with_standard_input() -> None:
    """Nothing is ever written there, and it closes when the process that holds it dies."""
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    main()
