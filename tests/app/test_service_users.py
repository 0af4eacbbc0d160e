"""Fifty concurrent users, twenty requests each: correct answers, none lost, constant memory."""

import threading
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image
from support import app_files as files

NUM_USERS, NUM_REQUESTS, NUM_IMAGES = 50, 20, 25
FLAT_BYTES = 64 * 2**20


@pytest.mark.slow
def test_fifty_concurrent_users_get_correct_answers(served: Any, tmp_path: Path) -> None:
    from gradio_client import Client, handle_file

    from hf_wbc.inference.predictor import Predictor
    from hf_wbc.shipped import shipped
    from hf_wbc.taxonomy import NAMES

    for seed in range(NUM_IMAGES):
        Image.fromarray(files.cell(seed)).save(tmp_path / f"{seed}.png")
    toy = Predictor.load(str(shipped("spaces/wbc/toy_model")))
    truths = toy.predict([files.cell(seed) for seed in range(NUM_IMAGES)], 0.42)
    patience = {"timeout": 300}  # for the test's own clients, which share two cores with the server
    clients = [Client(served.url, verbose=False, httpx_kwargs=patience) for _ in range(NUM_USERS)]
    wrong: list[Any] = []
    done: list[float] = []

    def ask(client: Any, user: int, num: int) -> None:
        for number in range(num):
            seed = (user * 7 + number) % NUM_IMAGES
            try:
                prediction = client.predict(
                    handle_file(str(tmp_path / f"{seed}.png")), "0.42", api_name="/classify"
                )
            except Exception as error:
                wrong.append(repr(error))
                continue
            done.append(time.monotonic())
            p = truths[seed].probabilities
            if any(
                abs(prediction["probabilities"][n] - v) > 1e-3
                for n, v in zip(NAMES, p, strict=True)
            ):
                wrong.append(prediction)

    def everyone(num: int) -> None:
        threads = [
            threading.Thread(target=ask, args=(client, user, num))
            for user, client in enumerate(clients)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    everyone(3)  # warm up one-time allocations
    process = psutil.Process(served.process.pid)
    before, start = process.memory_info().rss, time.monotonic()
    everyone(NUM_REQUESTS)
    grown = process.memory_info().rss - before
    rate = NUM_USERS * NUM_REQUESTS / (time.monotonic() - start)
    print(f"{rate:.1f} answers/s, memory grew {grown / 2**20:.1f} MiB from {before / 2**20:.0f}")
    assert wrong == []
    assert len(done) == NUM_USERS * (NUM_REQUESTS + 3)
    assert grown < FLAT_BYTES
    assert served.left_behind() == []
