"""A Hub on loopback, for the real clients: commits, LFS, tags, branches, rights, and faults.

    with LoopbackHub(folder) as hub:
        subprocess.run(command, env={**os.environ, **hub.env("alice", home=folder / "home")})

Everything lies in files under `folder` (see `store`), so that what a killed server or publisher has
left can be looked at, and served again by another LoopbackHub on the same folder. `python -m
hub_server FOLDER`, with tests/ as the working directory, serves one by hand.
"""

from hub_server.faults import Faults, Gate
from hub_server.people import TOKENS
from hub_server.server import LoopbackHub
from hub_server.store import Repo, Store

__all__ = ["TOKENS", "Faults", "Gate", "LoopbackHub", "Repo", "Store"]
