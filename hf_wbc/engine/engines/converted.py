"""Networks that were converted for an engine, kept: a conversion takes longer than all the rest.

They lie in datasets' cache, as pixels do, under the digest of all that decides them, and whatever
is found there is held against torch before it answers, like a new one.
"""

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from hf_wbc.records import replacing


def converted(facts: dict[str, object] | None, convert: Callable[[Path], None]) -> Path | None:
    """The folder that `convert` fills, made at the first call; None without `facts` to name it by.

    None, too, where nothing can be written: an engine is then converted anew each time.
    """
    if facts is None:
        return None
    from huggingface_hub.constants import HF_HOME

    key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
    home = os.environ.get("HF_DATASETS_CACHE") or str(Path(HF_HOME) / "datasets")
    folder = Path(home) / "hf_wbc" / "engines" / key
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with replacing(folder) as part:
            part.mkdir()
            convert(part)
    except OSError:
        return None
    return folder
