"""How long the page takes for fields of view: 640 x 480 px, 12 megapixels, and ten fields at once.

    python tests/bench/page_fields.py MODEL FIELDS [--turns 5]

FIELDS is a folder of fields of 640 x 480 px; the large field shows forty of them side by side, cut
to 4000 x 3000 px. Decodes (in the page's worker process), measures the red cells, finds, classifies
and renders, as a drop on the page does. Prints the best wall time and the CPU seconds of that turn,
because other work may share the machine.
"""

import argparse
import io
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from hf_wbc.app.field_view import slide_fields_html
from hf_wbc.app.limits import LIMITS
from hf_wbc.app.service import PageModel, Service
from hf_wbc.app.slide_html import review_html
from hf_wbc.app.slide_state import Slide
from hf_wbc.app.uploads import UploadedFile, read_uploads, start_workers
from hf_wbc.inference.predictor import Predictor

WIDTH, HEIGHT = 4000, 3000


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
        "12 megapixels": {"large.jpg": large_field(files)},
        "ten fields": {path.name: path.read_bytes() for path in files[:10]},
    }
    drop_files(service, drops["640 x 480 px"])  # warm up
    print("| drop | cells | seconds | CPU seconds |\n|---|--:|--:|--:|")
    for name, data in drops.items():
        turns = [measured(lambda data=data: drop_files(service, data)) for _ in range(given.turns)]
        wall, cpu, cells = min(turns)
        print(f"| {name} | {cells} | {wall:.2f} | {cpu:.2f} |")


def large_field(files: list[Path]) -> bytes:
    """Tile fields to one of 12 megapixels."""
    columns, rows = -(-WIDTH // 640), -(-HEIGHT // 480)
    pixels = [np.asarray(Image.open(path)) for path in files[: columns * rows]]
    tiled = np.concatenate(
        [np.concatenate(pixels[r * columns : (r + 1) * columns], 1) for r in range(rows)], 0
    )
    data = io.BytesIO()
    Image.fromarray(tiled[:HEIGHT, :WIDTH]).save(data, "JPEG", quality=92)
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
