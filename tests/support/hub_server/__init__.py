"""A loopback Hub for the real clients: commits, LFS, tags, branches, permissions, and faults.

    with LoopbackHub(folder) as hub:
        subprocess.run(command, env={**os.environ, **hub.env("alice", home=folder / "home")})

All state is stored in files under `folder` (see `store`), so that tests can inspect what a killed
server or publisher left behind, and another LoopbackHub can serve the same folder again. To serve a
folder manually, run `python -m support.hub_server FOLDER` in tests/.
"""

from support.hub_server.faults import Faults, Gate
from support.hub_server.people import TOKENS
from support.hub_server.server import LoopbackHub
from support.hub_server.store import Repo, Store

__all__ = ["TOKENS", "Faults", "Gate", "LoopbackHub", "Repo", "Store"]
