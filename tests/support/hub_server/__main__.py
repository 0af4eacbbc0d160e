"""Serve a folder manually until Ctrl-C: `python -m support.hub_server FOLDER`."""

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
