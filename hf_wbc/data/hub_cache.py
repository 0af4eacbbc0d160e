"""Download the files of one commit of a Hub repository into the local cache.

By default, the Hub client silently falls back to cached files when it cannot reach the Hub. Here,
the cache alone is used only if HF_HUB_OFFLINE is set, so that a branch that has moved or a mistyped
endpoint does not go unnoticed.
"""

import errno
import json
import os
import re
from collections.abc import Sequence
from pathlib import Path

from hf_wbc.data.proxies import proxy_variables, require_access

OWN_AUTHORITY = "set SSL_CERT_FILE to the certificate of your own authority"
"""Remedy for an untrusted certificate."""
NOT_OF_A_HUB = (json.JSONDecodeError, LookupError, TypeError, AttributeError)
"""What the Hub's client raises for a response that is not JSON, or of another shape."""
_FULL = (errno.ENOSPC, errno.EDQUOT)
_COMMIT = re.compile(r"[0-9a-f]{40}")


def not_a_hub(error: Exception) -> str:
    """Return the error message for a response that no Hub sends, with a remedy."""
    from huggingface_hub import constants

    detail = " ".join(str(error).split())[:100]
    return (
        f"{constants.ENDPOINT} is not a Hub ({type(error).__name__}: {detail}); a "
        "login page of the network or a proxy may answer instead: open it in a browser, and check "
        "HF_ENDPOINT"
    )


def fetch_snapshot(
    repo: str, repo_type: str, revision: str | None, patterns: Sequence[str]
) -> Path:
    """Download the matching files of one commit and return their folder.

    Args:
        repo: Repository as `org/name`.
        repo_type: "dataset", "model" or "space".
        revision: Branch, tag or commit; None for the default branch.
        patterns: Glob patterns of the files to download.

    Returns:
        Folder in the cache, named after the commit.

    Raises:
        ValueError: If the files cannot be fetched. The message refers to the repository as "it" and
            says what is wrong (name, revision, token, network, offline cache, or disk) and what to
            do.
    """
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # its own client

    if not constants.HF_HUB_OFFLINE:
        require_access()
    try:
        if not (constants.HF_HUB_OFFLINE or _COMMIT.fullmatch(revision or "")):
            found = HfApi().repo_info(repo, repo_type=repo_type, revision=revision).sha
            if not _COMMIT.fullmatch(found or ""):  # it becomes the name of a folder
                raise LookupError(f"it names the commit {found}")
        folder = snapshot_download(
            repo, repo_type=repo_type, revision=revision, allow_patterns=list(patterns)
        )
    except (HfHubHTTPError, HFValidationError, OSError, httpx.HTTPError) as error:
        raise ValueError(_why(error, revision)) from error
    except (*NOT_OF_A_HUB, ValueError) as error:  # ValueError: of a date, for example
        raise ValueError(not_a_hub(error)) from error
    return Path(folder)


def _why(error: Exception, revision: str | None) -> str:
    from huggingface_hub import constants, errors

    detail, endpoint = " ".join(str(error).split()), constants.ENDPOINT
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, OSError) and (error.errno in _FULL or error.filename):  # of the disk
        remedy = "free some space there" if error.errno in _FULL else "allow writing there"
        return (
            f"the cache {constants.HF_HUB_CACHE} cannot be written ({error.strerror}); {remedy}, "
            "or set HF_HOME to another folder"
        )
    if isinstance(error, errors.HFValidationError):
        return f"the name is not valid ({detail}); give org/name or org/name@revision"
    if constants.HF_HUB_OFFLINE:
        return (
            "it is not in the local cache, and HF_HUB_OFFLINE is set; check its name and revision, "
            "unset HF_HUB_OFFLINE, or give a folder"
        )
    if isinstance(error, errors.GatedRepoError):
        return f"it is gated; request access at {endpoint}, then `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"it has no revision {revision}; check its tags and branches"
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"it does not exist at {endpoint}, or is private and your token has no access; check "
            "its name and `hf auth login`"
        )
    if status == 401:
        return f"{endpoint} rejects the token; log in again with `hf auth login`, or unset HF_TOKEN"
    if status is not None:
        return f"{endpoint} answers {status} ({detail}); try again later"
    remedy = "check the network and HF_ENDPOINT, or set HF_HUB_OFFLINE=1 to use what was fetched"
    if proxies := proxy_variables(os.environ):
        remedy = f"check the proxy ({', '.join(sorted(set(proxies.values())))}), or {remedy}"
    if "CERTIFICATE" in detail:
        remedy = OWN_AUTHORITY
    return f"{endpoint} cannot be reached ({type(error).__name__}: {detail}); {remedy}"
