"""Answers to very many images, block by block, so that a kill costs one block.

Each block's answers are a file; whoever starts again finds those that are there. Several processes
take turns, and go in step, so that none waits for long at the end.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hf_wbc.data.image_blocks import BLOCK, Block, num_blocks
from hf_wbc.data.parallel import ahead
from hf_wbc.engine.features import fixed_rows
from hf_wbc.engine.forward import Report
from hf_wbc.engine.shelves import Shelf
from hf_wbc.records import replacing
from hf_wbc.taxonomy import NUM_CLASSES

if TYPE_CHECKING:
    from accelerate import Accelerator

Answer = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""From squares (B, S, S, 3) to logits (B, 11)."""


@dataclass(frozen=True, eq=False)
class Part:
    """The answers to the images of a block that are whole, and what is wrong with the others."""

    image_ids: tuple[str, ...]
    logits: NDArray[np.float32]
    """(B, 11)."""
    faults: tuple[str, ...]


def answer_all(
    shelf: Shelf,
    answer: Answer,
    folder: Path,
    accelerator: "Accelerator",
    skip_bad: bool,
    report: Report,
) -> None:
    """Make every part of a shelf in `folder`, as far as it is not there yet.

    Unless `skip_bad`, nothing is answered any more once a process has met a bad image: the rest is
    only read, to name all that are bad.
    """
    folder.mkdir(parents=True, exist_ok=True)
    accelerator.wait_for_everyone()
    todo = [n for n in range(num_blocks(shelf.num_images)) if not _is_answered(_path(folder, n))]
    accelerator.wait_for_everyone()  # nobody begins before all have looked
    world, rank = accelerator.num_processes, accelerator.process_index
    mine = todo[rank::world]
    left = sum(_size(shelf, number) for number in todo)
    done, is_bad = shelf.num_images - left, False
    blocks = ahead(shelf.read(mine))
    for turn in range(-(-len(todo) // world)):
        if turn < len(mine):
            block = next(blocks)
            is_bad = is_bad or bool(block.faults and not skip_bad)
            write_part(_path(folder, mine[turn]), block, None if is_bad else answer)
        now = todo[turn * world : (turn + 1) * world]
        done += sum(_size(shelf, number) for number in now)
        accelerator.wait_for_everyone()
        report(done, shelf.num_images)
    for _ in blocks:  # none: it lets the reader end
        raise AssertionError


def write_part(path: Path, block: Block, answer: Answer | None) -> None:
    """Answer a block and keep it; without `answer` only its faults are kept."""
    names = block.names if answer else ()
    logits = answer(block.pixels) if answer and names else np.empty((0, NUM_CLASSES), np.float32)
    table = pa.table({"image_id": pa.array(names, pa.string()), "logits": fixed_rows(logits)})
    facts = {"faults": list(block.faults), "answered": answer is not None}
    with replacing(path) as temporary:
        pq.write_table(table.replace_schema_metadata({"part": json.dumps(facts)}), temporary)


def read_parts(shelf: Shelf, folder: Path) -> Iterator[Part]:
    """All parts of a shelf, in order."""
    for number in range(num_blocks(shelf.num_images)):
        table = pq.read_table(_path(folder, number)).combine_chunks()
        facts = json.loads(table.schema.metadata[b"part"])
        ids = tuple(table["image_id"].to_pylist())
        logits = table["logits"].combine_chunks().flatten().to_numpy()
        yield Part(ids, logits.reshape(len(ids), NUM_CLASSES), tuple(facts["faults"]))


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:07}.parquet"


def _size(shelf: Shelf, number: int) -> int:
    return min(BLOCK, shelf.num_images - number * BLOCK)


def _is_answered(path: Path) -> bool:
    return path.exists() and bool(json.loads(pq.read_schema(path).metadata[b"part"])["answered"])
