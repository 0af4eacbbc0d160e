"""Files of one commit of a repository on the Hub, brought to the local cache.

The Hub's client falls back on what the cache holds when it cannot reach the Hub; here that happens
only where HF_HUB_OFFLINE asks for it, so that a moved branch or a mistyped endpoint is noticed.
"""

import re
from collections.abc import Sequence
from pathlib import Path

OWN_AUTHORITY = "set SSL_CERT_FILE to the certificate of your own authority"
"""What to do about a certificate that is not trusted."""
_COMMIT = re.compile(r"[0-9a-f]{40}")


def fetch_snapshot(
    repo: str, repo_type: str, revision: str | None, patterns: Sequence[str]
) -> Path:
    """The folder of the files that match, all of one commit, which is its name.

    ValueError says of the repository, as "it", what is wrong and what to do: the name, the
    revision, the token, the network, or a cache that does not have it while offline.
    """
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError
    from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # its own client

    try:
        if not (constants.HF_HUB_OFFLINE or _COMMIT.fullmatch(revision or "")):
            HfApi().repo_info(repo, repo_type=repo_type, revision=revision)  # an error, no fallback
        folder = snapshot_download(
            repo, repo_type=repo_type, revision=revision, allow_patterns=list(patterns)
        )
    except (HfHubHTTPError, HFValidationError, OSError, httpx.HTTPError) as error:
        raise ValueError(_why(error, revision)) from error
    return Path(folder)


def _why(error: Exception, revision: str | None) -> str:
    from huggingface_hub import constants, errors

    said, endpoint = " ".join(str(error).split()), constants.ENDPOINT
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, errors.HFValidationError):
        return f"no repository has such a name ({said}); give org/name or org/name@revision"
    if constants.HF_HUB_OFFLINE:
        return (
            "it is not in the local cache, and HF_HUB_OFFLINE forbids to ask for it; check its "
            "name and revision, unset HF_HUB_OFFLINE once, or give a folder"
        )
    if isinstance(error, errors.GatedRepoError):
        return f"it is gated; ask for access at {endpoint}, then `hf auth login`"
    if isinstance(error, errors.RevisionNotFoundError):
        return f"it has no revision {revision}; check its tags and branches"
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            f"it is not at {endpoint}, or is private and no token of yours reaches it; check its "
            "name and `hf auth login`"
        )
    if status == 401:
        return f"{endpoint} refuses the token; `hf auth login` again, or unset HF_TOKEN"
    if status is not None:
        return f"{endpoint} answers {status} ({said}); try again later"
    remedy = "check the network and HF_ENDPOINT, or set HF_HUB_OFFLINE=1 to use what was fetched"
    if "CERTIFICATE" in said:
        remedy = OWN_AUTHORITY
    return f"{endpoint} cannot be reached ({type(error).__name__}: {said}); {remedy}"
