"""What a trained model says of images that nobody has labelled: a folder, or a prepared dataset."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hf_wbc.data.image_blocks import Block, num_blocks
from hf_wbc.data.preprocessing import Treatment
from hf_wbc.data.schema import SPLITS
from hf_wbc.engine.bf16_cost import SAMPLE, bf16_cost
from hf_wbc.engine.calibrate import abstention_of
from hf_wbc.engine.engines.choose import Chosen, choose_engine
from hf_wbc.engine.engines.contract import Engine
from hf_wbc.engine.engines.run import apply_head, run_engine
from hf_wbc.engine.engines.torch_engines import eager
from hf_wbc.engine.forward import Report, silent
from hf_wbc.engine.parts import answer_all, read_parts
from hf_wbc.engine.shelves import Shelf, dataset_shelf, find_folder, folder_shelf
from hf_wbc.models import Loaded, load_trained
from hf_wbc.records import digest
from hf_wbc.taxonomy import NAMES
from hf_wbc.text import some

if TYPE_CHECKING:
    from accelerate import Accelerator

Logits = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Answers:
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
    report: Report = silent,
) -> Answers:
    """Answers of a run's model folder or a Hub model, for every image in the order of its names.

    `ref` is a folder of images, which needs a scale or `cell_fills_frame`; a prepared folder or a
    Hub dataset, which has its own, of which `splits` are taken. What is done lies in `work`, from
    where the same call goes on after a kill. Every process of `accelerator` gets all answers.

    ValueError for a model of other classes, no images, no scale or two, an engine that is refused,
    and for bad images, which it names, unless `skip_bad`.
    """
    images = find_folder(ref, um_per_px, cell_fills_frame)
    loaded, num_proc = load_trained(model), _workers(num_proc, accelerator)
    loaded.classifier.to(accelerator.device).eval()
    if images is None:
        shelf = dataset_shelf(loaded, ref, splits, cell_fills_frame, num_proc)
    else:
        shelf = folder_shelf(loaded, images, num_proc)
    key = loaded.revision
    chosen = choose_engine(loaded.classifier, loaded.preprocessing, engine, precision, key)
    answer = partial(_answer, loaded, chosen.engine, shelf.how)
    used = chosen.engine
    plan = {"engine": [used.name, used.version, used.precision], "listing": shelf.listing}
    folder = work / digest({**plan, "revision": loaded.revision, **shelf.facts})
    facts = {
        "model": _model(model, loaded),
        "engine": {**chosen.facts(), "cost": _cost(loaded, chosen, shelf)},
        **shelf.facts,
    }
    answer_all(shelf, answer, folder, accelerator, skip_bad, report)
    parts = list(read_parts(shelf, folder))
    ids = tuple(image_id for part in parts for image_id in part.image_ids)
    bad = tuple(fault for part in parts for fault in part.faults)
    if bad and (not skip_bad or not ids):
        raise ValueError(
            f"{len(bad)} of {shelf.num_images} images cannot be used: {some(bad, 10)}. "
            + ("Give others" if skip_bad else "Mend them, or go on without them with --skip-bad")
        )
    logits = np.concatenate([part.logits for part in parts])
    facts["data"] |= {"num_images": len(ids), "num_bad": len(bad)}
    abstention = abstention_of(loaded)
    sets = None if abstention is None else abstention.within_class.sets(logits)
    rejected = None if abstention is None else abstention.rejection.rejects(logits)
    return Answers(ids, logits, sets, rejected, bad, shelf.passed_over, facts)


def _answer(
    loaded: Loaded, engine: Engine, how: Treatment, squares: npt.NDArray[np.uint8]
) -> Logits:
    device = loaded.classifier.head.weight.device
    return apply_head(loaded.classifier, run_engine(engine, squares, how, device))


def _cost(loaded: Loaded, chosen: Chosen, shelf: Shelf) -> dict[str, Any] | None:
    """Of bf16, on the first images; None for fp32, which costs nothing."""
    if chosen.engine.precision == "fp32":
        return None
    blocks: Iterator[Block] = shelf.read(range(num_blocks(min(shelf.num_images, SAMPLE))))
    some_blocks = list(blocks)
    squares = np.concatenate([block.pixels for block in some_blocks])[:SAMPLE]
    labels = None if shelf.labels is None else shelf.labels[: len(squares)]
    exact = partial(_answer, loaded, eager(loaded.classifier, shelf.size), shelf.how)
    fast = partial(_answer, loaded, chosen.engine, shelf.how)
    return bf16_cost(exact, fast, squares, labels)


def _model(name: str, loaded: Loaded) -> dict[str, Any]:
    seen = {"exposure": loaded.exposure, "exposed_to": list(loaded.exposed_to)}
    return {"name": name, "revision": loaded.revision, **seen}


def _workers(num_proc: int | None, accelerator: "Accelerator") -> int | None:
    """Processes that decode, for each of those that answer."""
    if num_proc is None and accelerator.num_processes > 1:
        return 1
    return num_proc
