"""Predict the classes of very many images, block by block.

Each block's predictions are a file, so an interrupted call loses at most one block and the same
call resumes. Several processes take turns on the blocks and advance together, so that none waits
long at the end.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from hf_wbc.arithmetic import with_arithmetic
from hf_wbc.data.image_blocks import BLOCK, ImageBlock, ImageFolder, num_blocks
from hf_wbc.data.parallel import prefetch
from hf_wbc.data.preprocessing import ImagePreprocessing
from hf_wbc.engine.calibrate import fit_run_abstention
from hf_wbc.engine.features import fixed_rows
from hf_wbc.engine.forward import Report, Runtime, without_progress_bars
from hf_wbc.evaluation.metrics import score
from hf_wbc.inference.gallery import read_reference_set
from hf_wbc.inference.image_source import (
    ImageSource,
    dataset_source,
    find_image_folder,
    folder_source,
)
from hf_wbc.inference.neighbor_vote import make_vote
from hf_wbc.inference.options import PredictOptions
from hf_wbc.inference.outliers import OutlierKind, recognize
from hf_wbc.inference.runtime import apply_head, run_runtime
from hf_wbc.inference.runtimes import eager_runtime
from hf_wbc.inference.select_runtime import RuntimeChoice, choose_runtime
from hf_wbc.models import PretrainedModel, load_trained
from hf_wbc.records import atomic_replace, digest
from hf_wbc.taxonomy import NAMES, NUM_CLASSES, UNLABELED
from hf_wbc.text import shorten_list

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = [
    "AnswerFunction",
    "BatchPredictions",
    "Chunk",
    "HeadFunction",
    "LogitsFunction",
    "bf16_degradation",
    "describe_degradation",
    "predict_chunks",
    "predict_images",
]

LogitsFunction = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Maps crops (B, S, S, 3) to logits (B, 11)."""
HeadFunction = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Maps features (B, d) to logits (B, 11)."""
AnswerFunction = Callable[[NDArray[np.uint8]], tuple[NDArray[np.float32], list[str]]]
"""Maps crops (B, S, S, 3) to logits (B, 11) and the kind of outlier of each, "" for cells."""
BF16_SAMPLE = 1000
"""Images on which the effect of bf16 is measured, at most."""


@dataclass(frozen=True)
class BatchPredictions:
    """A model's predictions for N images."""

    image_ids: tuple[str, ...]
    """Paths within the folder, or the dataset's ids, in their order."""
    logits: NDArray[np.float32]
    """Logits (N, 11)."""
    conformal_sets: NDArray[np.bool_] | None
    """Whether each class is in the image's conformal set (N, 11); None without calibration."""
    rejected: NDArray[np.bool_] | None
    """Whether each image (N,) is unlike all training cells, or an outlier that the model was shown;
    None for a model without calibration and without kinds of outliers."""
    outliers: tuple[str, ...]
    """Kind of outlier that each image looks like, such as `platelet`; "" for cells."""
    bad_images: tuple[str, ...]
    """Images that were left out, each with the reason."""
    skipped_files: tuple[str, ...]
    """Files of the folder that are not images."""
    notes: tuple[str, ...]
    """What a summary should say about junk and links in the folder, a line each."""
    metadata: dict[str, Any]
    """Model, runtime, data and preprocessing of the images; plain JSON values."""

    @property
    def counts(self) -> dict[str, int]:
        """Number of images predicted as each class, without classes that have none."""
        found = Counter(self.logits.argmax(1).tolist())
        return {NAMES[i]: found[i] for i in sorted(found)}


def predict_images(
    model: str,
    ref: str,
    work: Path,
    accelerator: "Accelerator",
    options: PredictOptions | None = None,
    *,
    neighbors: int | None = None,
    on_progress: Report = without_progress_bars,
) -> BatchPredictions:
    """Predict every image of a folder or dataset, in the order of the names.

    Args:
        model: A run's model folder, or a Hub model `org/name[@revision]`.
        ref: A folder of images, which needs a scale or `cell_fills_frame`; or a prepared folder or
            Hub dataset, which has its own scale.
        work: Folder of finished blocks, from which the same call resumes after an interruption.
        accelerator: Its processes share the work, and each returns all predictions.
        options: Scale, splits, runtime and so on.
        neighbors: Number of nearest reference cells whose vote names an image, without conformal
            sets and rejection by the model's calibration; None for the head.
        on_progress: Called with the number of images done and the total.

    Raises:
        ValueError: For a model of other classes, missing images, scale or reference cells, a
            rejected runtime, and bad images, which it names, unless `skip_bad`.
    """
    options = options or PredictOptions()
    images = find_image_folder(ref, options)
    pretrained = load_trained(model)
    pretrained.classifier.to(accelerator.device).eval()
    reference_set = read_reference_set(model, pretrained)
    vote = None if neighbors is None else make_vote(model, reference_set, neighbors)
    source = _open_source(pretrained, ref, images, options, accelerator)
    choice = choose_runtime(
        pretrained.classifier, pretrained.preprocessing, options.runtime, options.precision,
        pretrained.revision,
    )  # fmt: skip
    runtime, kinds = choice.runtime, reference_set.outliers
    head = vote.logits if vote else partial(apply_head, pretrained.classifier)
    facts = {**source.metadata, **({"neighbors": vote.to_dict()} if vote else {})}
    identity = {
        "engine": [runtime.name, runtime.version, runtime.precision],
        "listing": source.fingerprint,
        "revision": pretrained.revision,
        "outliers": [kind.to_dict() for kind in kinds],
    }
    folder = work / digest(with_arithmetic({**identity, **facts}))
    degradation = _measure_degradation(pretrained, choice, source, head)
    answer = partial(_answer, pretrained, runtime, source.preprocessing, kinds, head)
    predict_chunks(source, answer, folder, accelerator, options.skip_bad, on_progress)
    chunks = list(read_chunks(source, folder))
    _require_usable(chunks, source.num_images, options.skip_bad)
    metadata = {
        "model": _model_facts(model, pretrained),
        "runtime": {**choice.to_dict(), "degradation": degradation},
        "outliers": {kind.name: kind.recall for kind in kinds},
        **facts,
    }
    return _collect(pretrained, chunks, source, metadata)


def _open_source(
    pretrained: PretrainedModel,
    ref: str,
    images: ImageFolder | None,
    options: PredictOptions,
    accelerator: "Accelerator",
) -> ImageSource:
    """Open a folder of images, or the dataset `ref` if there is none."""
    num_proc, flips = _decoders(options.num_proc, accelerator), options.test_time_flips
    if images is not None:
        return folder_source(pretrained, images, num_proc, flips)
    return dataset_source(
        pretrained, ref, options.splits, options.cell_fills_frame, num_proc, flips
    )


def _model_facts(name: str, pretrained: PretrainedModel) -> dict[str, Any]:
    return {
        "name": name,
        "revision": pretrained.revision,
        "exposure": pretrained.exposure,
        "exposed_to": list(pretrained.exposed_to),
    }


def _require_usable(chunks: list["Chunk"], num_images: int, skip_bad: bool) -> None:
    """ValueError that names the bad images, unless they may be skipped and others are left."""
    bad = tuple(fault for chunk in chunks for fault in chunk.faults)
    if bad and (not skip_bad or not any(chunk.image_ids for chunk in chunks)):
        raise ValueError(
            f"{len(bad)} of {num_images} images cannot be used: {shorten_list(bad, 10)}. "
            + ("Use other images" if skip_bad else "Fix them, or leave them out with --skip-bad")
        )


def _collect(
    pretrained: PretrainedModel,
    chunks: list["Chunk"],
    source: ImageSource,
    metadata: dict[str, Any],
) -> BatchPredictions:
    ids = tuple(image_id for chunk in chunks for image_id in chunk.image_ids)
    bad = tuple(fault for chunk in chunks for fault in chunk.faults)
    logits = np.concatenate([chunk.logits for chunk in chunks])
    data = {**metadata["data"], "num_images": len(ids), "num_bad": len(bad)}
    is_head = "neighbors" not in metadata
    abstention = fit_run_abstention(pretrained) if is_head else None
    sets = None if abstention is None else abstention.within_class.sets(logits)
    rejected = None if abstention is None else abstention.rejection.rejects(logits)
    outliers = tuple(kind for chunk in chunks for kind in chunk.outliers)
    if metadata["outliers"]:
        is_outlier = np.array([bool(kind) for kind in outliers])
        rejected = is_outlier if rejected is None else rejected | is_outlier
    return BatchPredictions(
        ids,
        logits,
        sets,
        rejected,
        outliers,
        bad,
        source.skipped_files,
        source.notes,
        {**metadata, "data": data},
    )


def _answer(
    pretrained: PretrainedModel,
    runtime: Runtime,
    preprocessing: ImagePreprocessing,
    kinds: Sequence[OutlierKind],
    head: HeadFunction,
    crops: NDArray[np.uint8],
) -> tuple[NDArray[np.float32], list[str]]:
    device = pretrained.classifier.head.weight.device
    features = run_runtime(runtime, crops, preprocessing, device)
    return head(features), recognize(kinds, features)


def _decoders(num_proc: int | None, accelerator: "Accelerator") -> int | None:
    """Return how many processes decode images for each process that predicts."""
    if num_proc is None and accelerator.num_processes > 1:
        return 1
    return num_proc


@dataclass(frozen=True, eq=False)
class Chunk:
    """Predictions for the readable images of a block, and what is wrong with the others."""

    image_ids: tuple[str, ...]
    logits: NDArray[np.float32]
    """Logits (B, 11)."""
    outliers: tuple[str, ...]
    """Kind of outlier of each, "" for cells."""
    faults: tuple[str, ...]
    """The images that cannot be used, each with the reason."""


def predict_chunks(
    source: ImageSource,
    answer: AnswerFunction,
    folder: Path,
    accelerator: "Accelerator",
    skip_bad: bool,
    on_progress: Report,
) -> None:
    """Predict every block of a source that `folder` does not have yet.

    Unless `skip_bad`, a process that meets a bad image predicts nothing more: it reads the
    remaining images only to name all bad ones.
    """
    folder.mkdir(parents=True, exist_ok=True)
    accelerator.wait_for_everyone()
    todo = [n for n in range(num_blocks(source.num_images)) if not _is_done(_path(folder, n))]
    accelerator.wait_for_everyone()  # no process writes before all have listed what is missing
    world, rank = accelerator.num_processes, accelerator.process_index
    mine = todo[rank::world]
    remaining = sum(_block_size(source, number) for number in todo)
    done, is_bad = source.num_images - remaining, False
    on_progress(done, source.num_images)
    blocks = prefetch(source.read(mine))
    for turn in range(-(-len(todo) // world)):
        if turn < len(mine):
            block = next(blocks)
            is_bad = is_bad or bool(block.faults and not skip_bad)
            write_chunk(_path(folder, mine[turn]), block, None if is_bad else answer)
        current = todo[turn * world : (turn + 1) * world]
        done += sum(_block_size(source, number) for number in current)
        accelerator.wait_for_everyone()
        on_progress(done, source.num_images)
    for _ in blocks:  # no block is left; exhausting the iterator ends the reader
        raise AssertionError


def write_chunk(path: Path, block: ImageBlock, answer: AnswerFunction | None) -> None:
    """Predict a block and save the result; without `answer`, save its faults only."""
    names = block.names if answer else ()
    logits, outliers = np.empty((0, NUM_CLASSES), np.float32), list[str]()
    if answer and names:
        logits, outliers = answer(block.pixels)
    columns = {
        "image_id": pa.array(names, pa.string()),
        "logits": fixed_rows(logits),
        "outlier": pa.array(outliers, pa.string()),
    }
    table = pa.table(columns)
    facts = {"faults": list(block.faults), "answered": answer is not None}
    with atomic_replace(path) as temporary:
        pq.write_table(table.replace_schema_metadata({"part": json.dumps(facts)}), temporary)


def read_chunks(source: ImageSource, folder: Path) -> Iterator[Chunk]:
    """Read the predictions of all blocks of a source, in order."""
    for number in range(num_blocks(source.num_images)):
        table = pq.read_table(_path(folder, number)).combine_chunks()
        facts = json.loads(table.schema.metadata[b"part"])
        ids = tuple(table["image_id"].to_pylist())
        logits = table["logits"].combine_chunks().flatten().to_numpy()
        outliers = tuple(table["outlier"].to_pylist())
        yield Chunk(ids, logits.reshape(len(ids), NUM_CLASSES), outliers, tuple(facts["faults"]))


def _path(folder: Path, number: int) -> Path:
    return folder / f"{number:07}.parquet"


def _block_size(source: ImageSource, number: int) -> int:
    return min(BLOCK, source.num_images - number * BLOCK)


def _is_done(path: Path) -> bool:
    """Return whether a block was predicted and written completely."""
    try:
        return bool(json.loads(pq.read_schema(path).metadata[b"part"])["answered"])
    except (FileNotFoundError, pa.ArrowInvalid):
        return False


def bf16_degradation(
    exact: LogitsFunction,
    fast: LogitsFunction,
    crops: NDArray[np.uint8],
    labels: NDArray[np.int64] | None,
) -> dict[str, Any]:
    """Measure how bf16 changes predictions.

    Args:
        exact: The model in fp32.
        fast: The model in bf16.
        crops: Images (N, S, S, 3).
        labels: Their labels (N,), -1 where unknown.

    Returns:
        Plain JSON values: the share of changed predictions, and both macro-F1 scores of the
        labeled images, None if there are none.
    """
    predicted = [logits_of(crops).argmax(1) for logits_of in (exact, fast)]
    degradation: dict[str, Any] = {
        "num_cells": len(crops),
        "changed": float((predicted[0] != predicted[1]).mean()),
        "macro_f1_fp32": None,
        "macro_f1_bf16": None,
    }
    if labels is not None and (known := labels != UNLABELED).any():
        for name, classes in zip(("macro_f1_fp32", "macro_f1_bf16"), predicted, strict=True):
            degradation[name] = score(labels[known], classes[known])["macro_f1"]
    return degradation


def describe_degradation(degradation: dict[str, Any]) -> str:
    """Describe the effect of bf16 in one line."""
    changed, num_cells = degradation["changed"], degradation["num_cells"]
    text = f"bf16 changed {changed:.2%} of the predictions on {num_cells:,} cells"
    exact, fast = degradation["macro_f1_fp32"], degradation["macro_f1_bf16"]
    if exact is None:
        return f"{text}; its effect on macro-F1 is unknown, because none of them has a label"
    return f"{text}; macro-F1 {fast:.4f} in bf16, {exact:.4f} in fp32"


def _measure_degradation(
    pretrained: PretrainedModel, choice: RuntimeChoice, source: ImageSource, head: HeadFunction
) -> dict[str, Any] | None:
    """Measure bf16 on the first images; None for fp32."""
    if choice.runtime.precision == "fp32":
        return None
    num_images = min(source.num_images, BF16_SAMPLE)
    blocks = list(source.read(range(num_blocks(num_images))))
    crops = np.concatenate([block.pixels for block in blocks])[:BF16_SAMPLE]
    labels = None if source.labels is None else source.labels[: len(crops)]
    torch_runtime = eager_runtime(pretrained.classifier, source.size)

    def logits_of(runtime: Runtime) -> LogitsFunction:
        return lambda crops: _answer(pretrained, runtime, source.preprocessing, (), head, crops)[0]

    return bf16_degradation(logits_of(torch_runtime), logits_of(choice.runtime), crops, labels)
