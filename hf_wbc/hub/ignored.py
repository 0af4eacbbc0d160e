"""A .gitignore in a repository keeps files out of a commit, and the client says nothing of it.

So the server, which applies it, is asked before anything is sent.
"""

from base64 import b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from hf_wbc.hub.asking import ask, post
from hf_wbc.hub.publication import bytes_of, size_of
from hf_wbc.hub.remote import Remote
from hf_wbc.text import some

IGNORING = ".gitignore"
_AT_ONCE = 256
_SAMPLE_BYTES = 512


def refuse_ignored(remote: Remote, branch: str, files: Mapping[str, Path | bytes]) -> None:
    """ValueError that names the files that would not arrive on that branch."""
    if not any(PurePosixPath(path).name == IGNORING for path in remote.paths):
        return
    if ignored := list(_ignored(remote, branch, files)):
        raise ValueError(
            f"the {IGNORING} of {remote.name} keeps out {some(ignored)}; take it away there, or "
            "its lines that name them"
        )


def _ignored(remote: Remote, branch: str, files: Mapping[str, Path | bytes]) -> Iterator[str]:
    repo, names = remote.repo, sorted(files)
    place = f"{repo.repo_type}s/{repo.repo_id}/preupload/{quote(branch, safe='')}"
    for start in range(0, len(names), _AT_ONCE):
        asked = [
            {
                "path": name,
                "sample": b64encode(bytes_of(files[name], _SAMPLE_BYTES)).decode(),
                "size": size_of(files[name]),
            }
            for name in names[start : start + _AT_ONCE]
        ]

        def answer(asked: list[dict[str, object]] = asked) -> list[dict[str, object]]:
            found = post(f"{remote.api.endpoint}/api/{place}", {"files": asked})
            return list(found["files"])

        for each in ask("asking what is ignored", answer, repo.repo_id, remote.report):
            if each.get("shouldIgnore"):
                yield str(each["path"])
