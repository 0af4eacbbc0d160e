"""`python -m support.hub_server FOLDER`: serve a folder by hand, until Ctrl-C."""

import sys
import threading
from contextlib import suppress
from pathlib import Path

from support.hub_server.server import LoopbackHub

with LoopbackHub(Path(sys.argv[1])) as hub:
    for name, value in hub.env(home=Path(sys.argv[1]) / "home").items():
        print(f"export {name}={value}", flush=True)
    with suppress(KeyboardInterrupt):
        threading.Event().wait()
