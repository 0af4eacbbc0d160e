"""Publish in processes that a test can kill: `python -m support.hub_publish_process`.

The libraries are imported once; each publication runs in a fork of this process. Waiting between
retries takes no time. Each input line is one JSON object with `folder` (the files to publish),
`to`, `kind`, `tag`, `log` (the file that receives the output), and `kill_at`: the number of the
file system operation before which the fork kills itself. Each publication prints two lines: the
process id, then the exit status and the number of file system operations.
"""

import importlib
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from hf_wbc.cli.main import describe
from hf_wbc.hub.publication import Publication, parse_destination
from hf_wbc.hub.publish import publish

PRELOADED = (
    "filelock", "PIL.Image", "yaml", "hf_xet", "huggingface_hub.hf_api", "huggingface_hub.lfs",
    "huggingface_hub._commit_api", "huggingface_hub.repocard", "hf_wbc.hub.folder_publisher",
    "hf_wbc.hub.hub_publisher", "hf_wbc.models.load",
)  # fmt: skip
"""Imported before forking so that no fork needs to."""
STEPS = ("open", "os.rename", "os.link", "os.mkdir", "os.remove", "os.rmdir", "os.chmod",
         "shutil.rmtree", "shutil.copyfile", "ctypes.dlopen", "ctypes.dlsym")  # fmt: skip
_sleep = time.sleep


def main() -> None:
    for name in PRELOADED:
        importlib.import_module(name)
    for line in sys.stdin:
        asked = json.loads(line)
        counter = Path(asked["log"]).with_suffix(".steps")
        pid = os.fork()
        if pid == 0:
            _child(asked, counter)
        print(json.dumps({"pid": pid}), flush=True)
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        steps = int(counter.read_text()) if counter.exists() else 0
        print(json.dumps({"status": status, "steps": steps}), flush=True)


def _child(asked: dict[str, Any], counter: Path) -> None:
    """Publish, then exit without flushing the parent's open files."""
    time.sleep = lambda seconds: _sleep(min(seconds, 0.01))
    with Path(asked["log"]).open("w", encoding="utf-8") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    status = 0
    num_steps = _count_steps(Path(asked["to"]).parent, asked.get("kill_at"))
    try:
        folder = Path(asked["folder"])
        files = {
            path.relative_to(folder).as_posix(): path
            for path in folder.rglob("*")
            if path.is_file()
        }
        publication = Publication(asked["kind"], files, False, "Publish", asked.get("tag"))
        destination = parse_destination(asked["to"], asked["kind"])
        print(publish(publication, destination, on_event=lambda line: print(line, flush=True)))
    except (ValueError, OSError) as error:
        print(f"hf-wbc: {describe(error)}")
        status = 1
    sys.stdout.flush()
    counter.write_text(str(num_steps[0]), encoding="utf-8")
    os._exit(status)


def _count_steps(root: Path, kill_at: int | None) -> list[int]:
    """Count file system operations under `root`; kill this process before operation `kill_at`."""
    count = [0]

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event not in STEPS:
            return
        if not event.startswith("ctypes") and not any(str(root) in str(a) for a in arguments):
            return
        if count[0] == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        count[0] += 1

    sys.addaudithook(hook)
    return count


if __name__ == "__main__":
    main()
