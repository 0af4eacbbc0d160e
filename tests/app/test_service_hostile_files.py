"""A hostile file among good ones does not prevent their prediction."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import app_files as files

NUM_GOOD, NUM_SCANS = 100, 4000


def many_scans() -> bytes:
    """Repeat the last scan of a progressive JPEG, so that decoding takes long."""
    whole = files.encoded("JPEG", side=1200, progressive=True, quality=30)
    place = whole.rindex(b"\xff\xda")
    return whole[:place] + whole[place:-2] * NUM_SCANS + whole[-2:]


def many_directories() -> bytes:
    """Chain a million-byte TIFF of directories, which is slow to count naively."""
    start = b"II*\0" + struct.pack("<I", 8)
    directories = (struct.pack("<HI", 0, 14 + 6 * number) for number in range(200_000))
    return start + b"".join(directories)


HOSTILE: dict[str, Callable[[], bytes]] = {
    "scans.jpg": many_scans,
    "chain.tif": many_directories,
    "dds.png": lambda: b"DDS \x7c\0\0\0" + bytes(122),
    "huge.png": lambda: files.png_header(60_000, 60_000),
    "bomb.zip": lambda: files.bomb(3, 4000),
}


@pytest.fixture(scope="module")
def count(served: Any, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Any]:
    """Return a function that sends files by name to /count as a separate user."""
    from gradio_client import Client, handle_file

    def counted(given: dict[str, bytes]) -> Any:
        folder: Path = tmp_path_factory.mktemp("given")
        for name, data in given.items():
            (folder / name).write_bytes(data)
        client = Client(served.url, verbose=False, httpx_kwargs={"timeout": 600})
        sent = [handle_file(str(folder / name)) for name in given]
        return client.predict(sent, "0.42", api_name="/count")

    return counted


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_only_the_hostile_file_is_refused(count: Callable[..., Any], name: str) -> None:
    good = {f"{number:03d}.png": files.encoded(seed=number) for number in range(NUM_GOOD)}
    shuffled = dict(sorted({**good, name: HOSTILE[name]()}.items(), key=lambda each: each[0][-6:]))
    found = count(shuffled)
    assert {cell["image"] for cell in found["cells"]} == set(good)
    refused = {one["image"].partition("/")[0] for one in found["refused"]}
    assert refused == {name}, found["refused"]
    assert found["num_left"] == 0
