"""Startup time of `hf-wbc demo`: to the first response, to a usable page, and to a prediction.

    python tests/bench/page.py MODEL [--turns 3]

Seconds from the command to the first reply, to the upload box in a browser that waits for it, and
to the answer to a drawn cell that is asked for at once, when the model is still loading.
"""

import argparse
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
from typing import Any

from playwright.sync_api import sync_playwright

COMMAND = "import sys; from hf_wbc.cli.main import main; sys.exit(main())"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    with sync_playwright() as running:
        chromium = running.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--headless", "--no-sandbox"]
        )
        found = [measure(chromium, arguments.model) for _ in range(arguments.turns)]
        chromium.close()
    for name in found[0]:
        seconds = [one[name] for one in found]
        print(f"{name}: {statistics.median(seconds):.1f} s ({seconds})")


def measure(chromium: Any, model: str) -> dict[str, float]:
    start = time.perf_counter()

    def passed() -> float:
        return round(time.perf_counter() - start, 1)

    server = subprocess.Popen(
        [sys.executable, "-c", COMMAND, "demo", "--model", model, "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
    )
    found = {}
    try:
        assert server.stdout is not None
        url = next(m[1] for line in server.stdout if (m := re.search(r"open (http\S+)", line)))
        found["open"] = passed()
        page = chromium.new_page()
        page.goto(url)
        page.wait_for_selector("#one-drop")
        found["seen"] = passed()
        page.get_by_role("button", name="eosinophil").click()
        page.wait_for_selector("#one-result article", timeout=120_000)
        found["first answer"] = passed()
        page.close()
    finally:
        server.send_signal(signal.SIGINT)
        server.wait()
    return found


if __name__ == "__main__":
    main()
