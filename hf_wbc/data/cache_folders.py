"""Where libraries keep their caches if the home folder cannot be written, as in many containers.

Without a writable home, the Hub's client and `datasets` fail on their first file, matplotlib warns
at every start, and numba, which draws the maps of `audit`, fails on import. Here they get folders
below the temporary one instead, unless the user has set their variables.
"""

import os
import stat
import tempfile
from collections.abc import Mapping, MutableMapping
from pathlib import Path

__all__ = ["CACHES", "cache_problems", "is_temporary_cache", "use_writable_caches"]

_VARIABLES = {
    "HF_HOME": ".cache/huggingface",
    "MPLCONFIGDIR": ".config/matplotlib",
    "NUMBA_CACHE_DIR": ".cache/numba",
    "TORCH_HOME": ".cache/torch",
    "XDG_CACHE_HOME": ".cache",
}
"""Variables of cache folders, and their defaults relative to the home folder."""
_WITHIN_HF_HOME = ("HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_XET_CACHE")
CACHES = ("HF_HOME", "MPLCONFIGDIR", "NUMBA_CACHE_DIR", "TORCH_HOME")
"""Variables of the caches that need a folder to write to."""
_TEMPORARY = "hf_wbc_caches_"
"""Beginning of the names of temporary cache folders."""


def use_writable_caches(environ: MutableMapping[str, str]) -> str:
    """Move the caches to a temporary folder if the home folder cannot be written.

    Variables that the user has set stay.

    Args:
        environ: The environment to complete, such as `os.environ`, before any library reads it.

    Returns:
        What was done, for the user; empty if the home folder can be written.
    """
    if not _is_known_user():
        environ.setdefault("USER", f"uid{os.getuid()}")  # torch and getpass look it up
    home = _home(environ)
    if home is not None and all(is_writable(home / place) for place in _VARIABLES.values()):
        return ""
    missing = [name for name in CACHES if name not in environ and not _default_works(home, name)]
    if not missing:
        return ""
    root = private_temporary_folder()
    if home is None or not home.is_dir():
        environ["HOME"] = str(root)
    elif "HF_HOME" in missing and (token := home / ".cache/huggingface/token").is_file():
        environ.setdefault("HF_TOKEN_PATH", str(token))
    for name in missing:
        environ[name] = str(root / _VARIABLES[name])
        Path(environ[name]).mkdir(parents=True, exist_ok=True)
    environ.setdefault("XDG_CACHE_HOME", str(root / ".cache"))
    where = "there is no home folder" if home is None else f"{home} cannot be written"
    return (
        f"{where}, so caches are kept in {root}; set {missing[0]} to a folder that can be written "
        "to keep them elsewhere"
    )


def cache_problems(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the folders of caches that cannot be written, by the variable to set."""
    home = _home(environ)
    places = {name: environ.get(name) or (home and home / _VARIABLES[name]) for name in CACHES}
    places |= {name: environ[name] for name in _WITHIN_HF_HOME if name in environ}
    return {
        name: str(place or "a home folder, and there is none")
        for name, place in places.items()
        if place is None or not is_writable(Path(place))
    }


def is_temporary_cache(place: str) -> bool:
    """Return whether `use_writable_caches` has chosen a place."""
    return any(part.startswith(_TEMPORARY) for part in Path(place).parts)


def is_writable(place: Path) -> bool:
    """Return whether a folder can be written, or created below one that can.

    A file is really written: access rights do not show read-only and remote file systems.
    """
    try:
        while not place.exists() and place.parent != place:
            place = place.parent
        with tempfile.TemporaryFile(dir=place):
            return True
    except OSError:
        return False


def private_temporary_folder() -> Path:
    """Return this user's folder below the temporary one, which nobody else can have prepared."""
    place = Path(tempfile.gettempdir()) / f"{_TEMPORARY}{os.getuid()}"
    try:
        place.mkdir(mode=0o700, exist_ok=True)
        found = place.lstat()
        is_own = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
        if is_own and not found.st_mode & 0o022:
            return place
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix=_TEMPORARY))


def _default_works(home: Path | None, name: str) -> bool:
    return home is not None and is_writable(home / _VARIABLES[name])


def _home(environ: Mapping[str, str]) -> Path | None:
    """Return the home folder that libraries use; None if nothing names one."""
    if home := environ.get("HOME"):
        return Path(home)
    import pwd

    try:
        return Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return None


def _is_known_user() -> bool:
    import pwd

    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    return True
