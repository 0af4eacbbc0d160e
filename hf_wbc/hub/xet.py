"""Whether the server speaks xet, the Hub's newer way to store large files.

The client sends xet wherever hf_xet is installed, asks nobody, and knows no way back: with a server
that has none, an upload ends in an error after the repository was made.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING
from urllib.parse import quote

from hf_wbc.hub.asking import Report, ask, get
from hf_wbc.hub.destination import HubRepo

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def uses_xet() -> bool:
    """Whether the client would send large files by xet."""
    from huggingface_hub import constants

    return not constants.HF_HUB_DISABLE_XET and find_spec("hf_xet") is not None


def speaks_xet(api: "HfApi", repo: HubRepo, revision: str, report: Report) -> bool:
    """Whether the server hands out what an upload by xet needs; it is asked, not guessed."""
    url = (
        f"{api.endpoint}/api/{repo.repo_type}s/{repo.repo_id}/xet-write-token/"
        f"{quote(revision, safe='')}"
    )

    def asked() -> bool:
        status, body = get(url, fine=(400, 401, 403, 404, 405, 501))
        return status == 200 and b"casUrl" in body

    return ask("asking for xet", asked, repo.repo_id, report)


def choose_transfer(api: "HfApi", repo: HubRepo, revision: str, report: Report) -> None:
    """Turn xet off for this process where the server has none."""
    from huggingface_hub import constants

    if uses_xet() and not speaks_xet(api, repo, revision, report):
        report(f"{api.endpoint} does not speak xet; files go by LFS")
        constants.HF_HUB_DISABLE_XET = True
