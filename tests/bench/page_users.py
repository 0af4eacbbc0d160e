"""Time of `/count` for one user and for several at once, on the same server in turns.

    python tests/bench/page_users.py MODEL FOLDER [--users 5] [--cells 20] [--turns 5]

Each user sends images of a folder by plain HTTP, so that clients cost little of the time. Prints
the seconds until the last answer, their ratio, and the server's processor time for one answer.
"""

import argparse
import json
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil

COMMAND = "import sys; from hf_wbc.cli.main import main; sys.exit(main())"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("folder", type=Path)
    for name, default in (("users", 5), ("cells", 20), ("turns", 5)):
        parser.add_argument(f"--{name}", type=int, default=default)
    arguments = parser.parse_args()
    images = sorted(path for path in arguments.folder.iterdir() if path.is_file())
    images = images[: arguments.cells]
    server = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "demo", "--model", arguments.model, "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        url = next(m[1] for line in server.stdout if (m := re.search(r"open (http\S+)", line)))
        for _ in range(2):
            ask(url, images)  # loads the model and starts the workers
        turns = [
            [at_once(url, images, num, server.pid) for num in (1, arguments.users)]
            for _ in range(arguments.turns)
        ]
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()
    one, several = (statistics.median(turn[k][0] for turn in turns) for k in (0, 1))
    ratios = sorted(several[0] / one[0] for one, several in turns)
    print(f"{len(images)} cells: {one:.2f} s for one user, {several:.2f} s for {arguments.users}")
    print(f"ratio {statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})")
    print(f"server: {statistics.median(t[0][1] for t in turns):.2f} s of CPU time per answer")


def at_once(url: str, images: Sequence[Path], num: int, pid: int) -> tuple[float, float]:
    """Return the seconds until all users are answered, and the server's CPU seconds."""
    before, start = cpu_seconds(pid), time.perf_counter()
    with ThreadPoolExecutor(num) as pool:
        for found in pool.map(lambda _: ask(url, images), range(num)):
            assert len(found["cells"]) == len(images), found
    return time.perf_counter() - start, cpu_seconds(pid) - before


def ask(url: str, images: Sequence[Path]) -> dict[str, list[object]]:
    """Upload the images, ask for their count, and wait for it."""
    with httpx.Client(base_url=f"{url.rstrip('/')}/gradio_api", timeout=600) as client:
        files = [("files", (path.name, path.read_bytes())) for path in images]
        places = client.post("/upload", files=files).raise_for_status().json()
        given = [
            {"path": place, "orig_name": path.name, "meta": {"_type": "gradio.FileData"}}
            for place, path in zip(places, images, strict=True)
        ]
        sent = client.post("/call/count", json={"data": [given, ""]}).raise_for_status()
        answer = client.get(f"/call/count/{sent.json()['event_id']}").raise_for_status().text
    event, data = re.findall(r"event: (\w+)\ndata: (.*)", answer)[-1]
    assert event == "complete", answer
    found: dict[str, list[object]] = json.loads(data)[0]
    return found


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process and its running children."""
    process = psutil.Process(pid)
    times = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return sum(each.user + each.system for each in times)


if __name__ == "__main__":
    main()
