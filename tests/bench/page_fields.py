"""How long the page takes for fields of view of 640 x 480 px, 12 and 100 megapixels, and for ten.

    python tests/bench/page_fields.py MODEL FIELDS [--turns 5]

FIELDS is a folder of fields of 640 x 480 px; large fields show many of them side by side. Decodes
(in the page's worker process), measures the red cells, finds, classifies and renders, as a drop on
the page does. Prints the best wall time and the CPU seconds of that turn, because other work may
share the machine, and the highest memory of the page's process so far, of which mapped pixels of
large fields are a part.
"""

import argparse
import io
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from hf_wbc.app.field_view import slide_fields_html
from hf_wbc.app.limits import LIMITS
from hf_wbc.app.service import PageModel, Service
from hf_wbc.app.slide_html import review_html
from hf_wbc.app.slide_state import Slide
from hf_wbc.app.uploads import UploadedFile, read_uploads, start_workers
from hf_wbc.inference.predictor import Predictor

SIZES = {"12 megapixels": (4000, 3000), "100 megapixels": (11544, 8662)}
"""Width and height in pixels."""


def main() -> None:
    """Print a row for each drop."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("fields", type=Path)
    parser.add_argument("--turns", type=int, default=5)
    given = parser.parse_args()
    files = sorted(given.fields.glob("*.jpg"))
    service = Service(PageModel.loaded(given.model, Predictor.load(given.model)))
    start_workers()
    drops = {
        "640 x 480 px": {files[0].name: files[0].read_bytes()},
        "ten fields": {path.name: path.read_bytes() for path in files[:10]},
        **{name: {"large.jpg": large_field(files, *size)} for name, size in SIZES.items()},
    }
    drop_files(service, drops["640 x 480 px"])  # warm up
    print("| drop | cells | seconds | CPU seconds | peak MB |\n|---|--:|--:|--:|--:|")
    for name, data in drops.items():
        turns = [measured(lambda data=data: drop_files(service, data)) for _ in range(given.turns)]
        wall, cpu, cells = min(turns)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
        print(f"| {name} | {cells} | {wall:.2f} | {cpu:.2f} | {peak} |", flush=True)


def large_field(files: list[Path], width: int, height: int) -> bytes:
    """Tile fields to a large one, as a JPEG."""
    tiled = Image.new("RGB", (width, height))
    columns, rows = -(-width // 640), -(-height // 480)
    for number in range(columns * rows):
        row, column = divmod(number, columns)
        tiled.paste(Image.open(files[number % len(files)]), (640 * column, 480 * row))
    data = io.BytesIO()
    tiled.save(data, "JPEG", quality=92)
    return data.getvalue()


def drop_files(service: Service, data: dict[str, bytes]) -> int:
    """Read and classify what was dropped and render it; returns the number of cells."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for name, each in data.items():
            path = Path(folder) / name
            path.write_bytes(each)
            files.append(UploadedFile(name, path))
        slide = Slide().added(read_uploads(files), LIMITS)
    slide = slide.answered(service.read(slide, None))
    slide_fields_html(slide)
    review_html(service, slide, 1)
    return len(slide.cases)


def measured(call: Callable[[], int]) -> tuple[float, float, int]:
    """Return wall and CPU seconds of a call, and its result."""
    start, before = time.perf_counter(), cpu_seconds()
    result = call()
    return time.perf_counter() - start, cpu_seconds() - before, result


def cpu_seconds() -> float:
    """CPU time of this process, without its decoding workers."""
    times = os.times()
    return times.user + times.system


if __name__ == "__main__":
    main()
