"""Mutated files and settings are read or refused in bounded time and memory, and never crash.

A few hundred inputs are tried by default, 20,000 with `-m slow`; the seed is fixed.
"""

import io
import json
import random
import resource
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
from PIL import Image
from support import app_files
from support.fuzz import mutated, mutated_json

from hf_wbc.app.uploads import UploadedFile, read_uploads
from hf_wbc.comparison.collect import collect
from hf_wbc.data.archive import open_archive
from hf_wbc.data.image_io import ImageFault, decode_rgb
from hf_wbc.models.config_checks import check_config

CPU_SECONDS, MEMORY_KB = 10, 2**20
NUM_QUICK, NUM_SLOW = 150, 4000
"""Inputs of each kind; there are five kinds."""


def images() -> list[bytes]:
    """Return a small image of each format, with metadata."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "text"
    options = {"exif": exif}
    found = [app_files.encoded(kind, side=24) for kind in ("BMP", "GIF", "PNG")]
    found += [app_files.encoded(kind, side=24, **options) for kind in ("JPEG", "PNG", "WEBP")]
    found.append(app_files.encoded("JPEG", side=24, progressive=True))
    found += [
        app_files.encoded("TIFF", mode, side=24, compression=kind)
        for kind in ("raw", "tiff_lzw", "jpeg", "tiff_adobe_deflate")
        for mode in ("RGB", *(["RGBA"] if kind != "jpeg" else []))
    ]
    return [*found, app_files.pages("RGB", "RGB", "I;16")]


def archives() -> list[bytes]:
    """Return small zips and tars of each kind of compression."""
    members = {"a/1.png": app_files.encoded(side=8), "b/2.png": app_files.encoded(side=9)}
    found = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as file:
            for name, data in members.items():
                file.writestr(name, data)
        found.append(buffer.getvalue())
    for mode in ("w:", "w:gz", "w:bz2", "w:xz"):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode=mode) as tar:
            for name, data in {**members, "c" * 120 + "/3.png": b"x"}.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
        found.append(buffer.getvalue())
    return found


def read_image(data: bytes, _: Path) -> None:
    try:
        pixels = decode_rgb(data, "x")
    except ImageFault:
        return
    assert pixels.ndim == 3 and pixels.shape[2] == 3


def read_archive(data: bytes, folder: Path) -> None:
    path = folder / "archive"
    path.write_bytes(data)
    try:
        archive = open_archive(path, folder / "scratch")
    except ValueError:
        return
    for name in archive.names:
        try:
            archive.read(name)
        except ValueError:
            continue


def upload(data: bytes, folder: Path) -> None:
    (folder / "good").write_bytes(app_files.encoded())
    (folder / "bad").write_bytes(data)
    given = [UploadedFile("b.png", folder / "bad"), UploadedFile("c.png", folder / "good")]
    found = read_uploads([UploadedFile("a.png", folder / "good"), *given])
    names = [picture.name for picture in found.pictures]
    assert "a.png" in names and "c.png" in names
    assert not any("/tmp" in one.why or "0x" in one.why for one in found.refused)


def read_config(data: bytes, folder: Path) -> None:
    (folder / "config.json").write_bytes(data)
    try:
        check_config(folder / "config.json")
    except ValueError:
        return


def read_record(data: bytes, folder: Path) -> None:
    run = folder / "runs" / "0123456789ab"
    run.mkdir(parents=True, exist_ok=True)
    (run / "record.json").write_bytes(data)
    try:
        collect([folder / "runs"])
    except ValueError:
        return


def json_inputs(path: Path, rng: random.Random) -> Iterator[bytes]:
    facts = json.loads(path.read_text(encoding="utf-8"))
    while True:
        text = json.dumps(mutated_json(facts, rng)).encode()
        yield mutated(text, rng) if rng.random() < 0.3 else text


def byte_inputs(samples: list[bytes], rng: random.Random) -> Iterator[bytes]:
    while True:
        yield mutated(rng.choice(samples), rng)


ROOT = Path(__file__).resolve().parents[1]
KINDS: dict[str, tuple[Callable[[random.Random], Iterator[bytes]], Callable[[bytes, Path], None]]]
KINDS = {
    "images": (lambda rng: byte_inputs(images(), rng), read_image),
    "archives": (lambda rng: byte_inputs(archives(), rng), read_archive),
    "uploads": (lambda rng: byte_inputs([*images(), *archives()[:4]], rng), upload),
    "configs": (
        lambda rng: json_inputs(ROOT / "spaces/wbc/toy_model/config.json", rng),
        read_config,
    ),
    "records": (
        lambda rng: json_inputs(ROOT / "tests/support/card_inputs/record.json", rng),
        read_record,
    ),
}


def peak_memory(kind: str, num: int, folder: Path) -> int:
    """Read `num` inputs of a kind; return the largest memory of this process's workers in KiB."""
    make, read = KINDS[kind]
    inputs = make(random.Random(0))
    for number in range(num):
        data = next(inputs)
        before = time.process_time()
        try:
            read(data, folder)
        except Exception as error:
            (folder / "input").write_bytes(data)
            raise AssertionError(f"input {number} ({folder / 'input'}): {error!r}") from error
        assert time.process_time() - before < CPU_SECONDS, number
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


@pytest.fixture(scope="module")
def process() -> Iterator[ProcessPoolExecutor]:
    """A process that has had no children, because the peak memory of children is never reset."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        yield pool


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("num", [NUM_QUICK, pytest.param(NUM_SLOW, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_no_input_crashes_or_exceeds_its_limits(
    kind: str, num: int, process: ProcessPoolExecutor, tmp_path: Path
) -> None:
    assert process.submit(peak_memory, kind, num, tmp_path).result() < 2 * MEMORY_KB
