"""A Hub on loopback, for the real clients: commits, LFS, tags, branches, rights, and faults.

    with LoopbackHub(folder) as hub:
        subprocess.run(command, env={**os.environ, **hub.env("alice", home=folder / "home")})

Everything lies in files under `folder` (see `store`), so that what a killed server or publisher has
left can be looked at, and served again by another LoopbackHub on the same folder. `python -m
support.hub_server FOLDER`, with tests/ as the working directory, serves one by hand.
"""

from support.hub_server.faults import Faults, Gate
from support.hub_server.people import TOKENS
from support.hub_server.server import LoopbackHub
from support.hub_server.store import Repo, Store

__all__ = ["TOKENS", "Faults", "Gate", "LoopbackHub", "Repo", "Store"]
