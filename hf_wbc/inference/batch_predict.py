"""What a trained model says of images that nobody has labelled: a folder, or a prepared dataset.

Answers to very many images, block by block, so that a kill costs one block.

Each block's answers are a file; whoever starts again finds those that are there. Several processes
take turns, and go in step, so that none waits for long at the end.

What bf16 costs on some cells: how many answers it turns, and macro-F1 where labels are known."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hf_wbc.data.image_blocks import BLOCK, ImageBlock, num_blocks
from hf_wbc.data.parallel import prefetch
from hf_wbc.data.preprocessing import ImagePreprocessing
from hf_wbc.data.schema import SPLITS
from hf_wbc.engine.calibrate import fit_run_abstention
from hf_wbc.engine.features import fixed_rows
from hf_wbc.engine.forward import Report, without_progress_bars
from hf_wbc.evaluation.metrics import score
from hf_wbc.inference.image_source import (
    ImageSource,
    dataset_source,
    find_image_folder,
    folder_source,
)
from hf_wbc.inference.runtime import Runtime, apply_head, run_runtime
from hf_wbc.inference.runtimes import eager_runtime
from hf_wbc.inference.select_runtime import RuntimeChoice, choose_runtime
from hf_wbc.models import PretrainedModel, load_trained
from hf_wbc.records import atomic_replace, digest
from hf_wbc.taxonomy import NAMES, NUM_CLASSES, UNLABELED
from hf_wbc.text import shorten_list

if TYPE_CHECKING:
    from accelerate import Accelerator


LogitsFunction = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""From squares (B, S, S, 3) to logits (B, 11)."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """The answers to the images of a block that are whole, and what is wrong with the others."""

    image_ids: tuple[str, ...]
    logits: NDArray[np.float32]
    """(B, 11)."""
    faults: tuple[str, ...]


def predict_chunks(
    shelf: ImageSource,
    answer: LogitsFunction,
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
    blocks = prefetch(shelf.read(mine))
    for turn in range(-(-len(todo) // world)):
        if turn < len(mine):
            block = next(blocks)
            is_bad = is_bad or bool(block.faults and not skip_bad)
            write_chunk(_path(folder, mine[turn]), block, None if is_bad else answer)
        now = todo[turn * world : (turn + 1) * world]
        done += sum(_size(shelf, number) for number in now)
        accelerator.wait_for_everyone()
        report(done, shelf.num_images)
    for _ in blocks:  # none: it lets the reader end
        raise AssertionError


def write_chunk(path: Path, block: ImageBlock, answer: LogitsFunction | None) -> None:
    """Answer a block and keep it; without `answer` only its faults are kept."""
    names = block.names if answer else ()
    logits = answer(block.pixels) if answer and names else np.empty((0, NUM_CLASSES), np.float32)
    table = pa.table({"image_id": pa.array(names, pa.string()), "logits": fixed_rows(logits)})
    facts = {"faults": list(block.faults), "answered": answer is not None}
    with atomic_replace(path) as temporary:
        pq.write_table(table.replace_schema_metadata({"part": json.dumps(facts)}), temporary)


def read_chunks(shelf: ImageSource, folder: Path) -> Iterator[Chunk]:
    """All parts of a shelf, in order."""
    for number in range(num_blocks(shelf.num_images)):
        table = pq.read_table(_path(folder, number)).combine_chunks()
        facts = json.loads(table.schema.metadata[b"part"])
        ids = tuple(table["image_id"].to_pylist())
        logits = table["logits"].combine_chunks().flatten().to_numpy()
        yield Chunk(ids, logits.reshape(len(ids), NUM_CLASSES), tuple(facts["faults"]))


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:07}.parquet"


def _size(shelf: ImageSource, number: int) -> int:
    return min(BLOCK, shelf.num_images - number * BLOCK)


def _is_answered(path: Path) -> bool:
    return path.exists() and bool(json.loads(pq.read_schema(path).metadata[b"part"])["answered"])


SAMPLE = 1000
"""Cells that it is measured on, at most."""


def bf16_degradation(
    exact: LogitsFunction, fast: LogitsFunction, squares: NDArray[np.uint8], labels: NDArray[np.int64] | None
) -> dict[str, Any]:
    """Of answers `fast` against `exact` on squares (N, S, S, 3); plain JSON values.

    macro-F1 is of the labelled cells (N,) alone, None where there are none.
    """
    found = [answer(squares).argmax(1) for answer in (exact, fast)]
    cost: dict[str, Any] = {
        "num_cells": len(squares),
        "turned": float((found[0] != found[1]).mean()),
        "macro_f1_fp32": None,
        "macro_f1_bf16": None,
    }
    if labels is not None and (known := labels != UNLABELED).any():
        for name, classes in zip(("macro_f1_fp32", "macro_f1_bf16"), found, strict=True):
            cost[name] = score(labels[known], classes[known])["macro_f1"]
    return cost


def describe_degradation(cost: dict[str, Any]) -> str:
    """In a sentence."""
    text = f"bf16 turned {cost['turned']:.2%} of the answers on {cost['num_cells']:,} cells"
    if cost["macro_f1_fp32"] is None:
        return f"{text}; none of them has a label, so what that costs is not known"
    return f"{text}; macro-F1 {cost['macro_f1_bf16']:.4f} against {cost['macro_f1_fp32']:.4f}"


Logits = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class BatchPredictions:
    """A model's answers to N images."""

    image_ids: tuple[str, ...]
    """Paths within the folder, or a dataset's own ids, in their order."""
    logits: Logits
    """(N, 11)."""
    sets: Flags | None
    """Whether each class is in the conformal set of each image (N, 11); None without sets."""
    rejected: Flags | None
    """Whether each image (N,) is like none of the model's cells; None where nothing tells."""
    bad: tuple[str, ...]
    """What is wrong with the images that were left out, naming them."""
    passed_over: tuple[str, ...]
    """Files of the folder that are no images."""
    facts: dict[str, Any]
    """Model, engine, data and treatment of the images; plain JSON values."""

    @property
    def counts(self) -> dict[str, int]:
        """How many images were taken for each class, without those of which there are none."""
        found = Counter(self.logits.argmax(1).tolist())
        return {NAMES[i]: found[i] for i in sorted(found)}


def predict_images(
    model: str,
    ref: str,
    work: Path,
    accelerator: "Accelerator",
    *,
    um_per_px: float | None = None,
    cell_fills_frame: bool = False,
    skip_bad: bool = False,
    splits: Sequence[str] = SPLITS,
    num_proc: int | None = None,
    engine: str = "auto",
    precision: str = "fp32",
    report: Report = without_progress_bars,
) -> BatchPredictions:
    """Answers of a run's model folder or a Hub model, for every image in the order of its names.

    `ref` is a folder of images, which needs a scale or `cell_fills_frame`; a prepared folder or a
    Hub dataset, which has its own, of which `splits` are taken. What is done lies in `work`, from
    where the same call goes on after a kill. Every process of `accelerator` gets all answers.

    ValueError for a model of other classes, no images, no scale or two, an engine that is refused,
    and for bad images, which it names, unless `skip_bad`.
    """
    images = find_image_folder(ref, um_per_px, cell_fills_frame)
    loaded, num_proc = load_trained(model), _workers(num_proc, accelerator)
    loaded.classifier.to(accelerator.device).eval()
    if images is None:
        shelf = dataset_source(loaded, ref, splits, cell_fills_frame, num_proc)
    else:
        shelf = folder_source(loaded, images, num_proc)
    key = loaded.revision
    chosen = choose_runtime(loaded.classifier, loaded.preprocessing, engine, precision, key)
    answer = partial(_answer, loaded, chosen.engine, shelf.how)
    used = chosen.engine
    plan = {"engine": [used.name, used.version, used.precision], "listing": shelf.listing}
    folder = work / digest({**plan, "revision": loaded.revision, **shelf.facts})
    facts = {
        "model": _model(model, loaded),
        "engine": {**chosen.facts(), "cost": _cost(loaded, chosen, shelf)},
        **shelf.facts,
    }
    predict_chunks(shelf, answer, folder, accelerator, skip_bad, report)
    parts = list(read_chunks(shelf, folder))
    ids = tuple(image_id for part in parts for image_id in part.image_ids)
    bad = tuple(fault for part in parts for fault in part.faults)
    if bad and (not skip_bad or not ids):
        raise ValueError(
            f"{len(bad)} of {shelf.num_images} images cannot be used: {shorten_list(bad, 10)}. "
            + ("Give others" if skip_bad else "Mend them, or go on without them with --skip-bad")
        )
    logits = np.concatenate([part.logits for part in parts])
    facts["data"] |= {"num_images": len(ids), "num_bad": len(bad)}
    abstention = fit_run_abstention(loaded)
    sets = None if abstention is None else abstention.within_class.sets(logits)
    rejected = None if abstention is None else abstention.rejection.rejects(logits)
    return BatchPredictions(ids, logits, sets, rejected, bad, shelf.passed_over, facts)


def _answer(
    loaded: PretrainedModel,
    engine: Runtime,
    how: ImagePreprocessing,
    squares: npt.NDArray[np.uint8],
) -> Logits:
    device = loaded.classifier.head.weight.device
    return apply_head(loaded.classifier, run_runtime(engine, squares, how, device))


def _cost(
    loaded: PretrainedModel, chosen: RuntimeChoice, shelf: ImageSource
) -> dict[str, Any] | None:
    """Of bf16, on the first images; None for fp32, which costs nothing."""
    if chosen.engine.precision == "fp32":
        return None
    blocks: Iterator[ImageBlock] = shelf.read(range(num_blocks(min(shelf.num_images, SAMPLE))))
    some_blocks = list(blocks)
    squares = np.concatenate([block.pixels for block in some_blocks])[:SAMPLE]
    labels = None if shelf.labels is None else shelf.labels[: len(squares)]
    exact = partial(_answer, loaded, eager_runtime(loaded.classifier, shelf.size), shelf.how)
    fast = partial(_answer, loaded, chosen.engine, shelf.how)
    return bf16_degradation(exact, fast, squares, labels)


def _model(name: str, loaded: PretrainedModel) -> dict[str, Any]:
    seen = {"exposure": loaded.exposure, "exposed_to": list(loaded.exposed_to)}
    return {"name": name, "revision": loaded.revision, **seen}


def _workers(num_proc: int | None, accelerator: "Accelerator") -> int | None:
    """Processes that decode, for each of those that answer."""
    if num_proc is None and accelerator.num_processes > 1:
        return 1
    return num_proc
