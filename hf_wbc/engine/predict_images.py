"""What a trained model says of images that nobody has labelled: a folder, or a prepared dataset."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from hf_wbc.data.csv_rows import some
from hf_wbc.data.domain import load_domains
from hf_wbc.data.image_folder import ImageFolder, list_images, read_blocks, sample
from hf_wbc.data.schema import DEFAULT_CONFIG, SPLITS
from hf_wbc.engine.accelerator import make_accelerator
from hf_wbc.engine.inputs import geometry_of, load_images
from hf_wbc.engine.predict import Report, predict, silent
from hf_wbc.engine.treatments import treatment_for
from hf_wbc.models import Loaded, load_trained
from hf_wbc.taxonomy import NAMES

if TYPE_CHECKING:
    from accelerate import Accelerator

Logits = npt.NDArray[np.float32]
_HOW = (
    "give --um-per-px, or --source for a known laboratory's, or --cell-fills-frame when each image "
    "is one cell, cut out"
)


@dataclass(frozen=True)
class Answers:
    """A model's answers to N images."""

    image_ids: tuple[str, ...]
    """Paths within the folder, or a dataset's own ids, in their order."""
    logits: Logits
    """(N, 11)."""
    bad: tuple[str, ...]
    """What is wrong with the images that were left out, naming them."""
    passed_over: tuple[str, ...]
    """Files of the folder that are no images."""
    facts: dict[str, Any]
    """Model, data and treatment of the images; plain JSON values."""

    @property
    def counts(self) -> dict[str, int]:
        """How many images were taken for each class, without those of which there are none."""
        found = Counter(self.logits.argmax(1).tolist())
        return {NAMES[i]: found[i] for i in sorted(found)}


def predict_images(
    model: str,
    ref: str,
    *,
    um_per_px: float | None = None,
    cell_fills_frame: bool = False,
    skip_bad: bool = False,
    splits: Sequence[str] = SPLITS,
    num_proc: int | None = None,
    report: Report = silent,
) -> Answers:
    """Answers of a run's model folder or a Hub model, for every image in the order of its names.

    `ref` is a folder of images, which needs a scale or `cell_fills_frame`; a prepared folder or a
    Hub dataset, which has its own, of which `splits` are taken.

    ValueError for a model of other classes, no images, no scale or two, and for bad images, which
    it names, unless `skip_bad`.
    """
    folder = _folder(ref, um_per_px, cell_fills_frame)
    loaded = load_trained(model)
    accelerator = make_accelerator()
    loaded.classifier.to(accelerator.device)
    if folder is None:
        found = _of_dataset(loaded, ref, splits, cell_fills_frame, accelerator, report)
    else:
        found = _of_folder(loaded, folder, skip_bad, num_proc, accelerator, report)
    seen = {"exposure": loaded.exposure, "exposed_to": list(loaded.exposed_to)}
    facts = {"model": {"name": model, "revision": loaded.revision, **seen}, **found.facts}
    return replace(found, facts=facts)


def _folder(ref: str, um_per_px: float | None, cell_fills_frame: bool) -> ImageFolder | None:
    """The folder of images, or None for a dataset; ValueError for a scale too few or too many."""
    if um_per_px is not None and cell_fills_frame:
        raise ValueError(
            f"um_per_px is {um_per_px} and the cell is said to fill the frame; choose one"
        )
    path = Path(ref)
    if not path.is_dir() or any((path / DEFAULT_CONFIG).glob("*.parquet")):
        if um_per_px is not None:
            raise ValueError(f"{ref} is a dataset and has its own scale; leave out um_per_px")
        return None
    if um_per_px is None and not cell_fills_frame:
        raise ValueError(f"nothing says how many um a pixel of {ref} is; {_HOW}")
    return list_images(path, um_per_px)


def _of_folder(
    loaded: Loaded,
    folder: ImageFolder,
    skip_bad: bool,
    num_proc: int | None,
    accelerator: "Accelerator",
    report: Report,
) -> Answers:
    """A folder's colours are measured on its own images where the model's rule asks for it."""
    geometry, rule, preprocessing = geometry_of(loaded), loaded.rule, loaded.preprocessing
    measured = sample(folder, geometry) if rule.measures else None
    how = rule.treat(measured, preprocessing.mean, preprocessing.std)
    names: list[str] = []
    logits: list[Logits] = []
    bad: list[str] = []
    done, total = 0, len(folder.names)
    for block in read_blocks(folder, geometry, num_proc):
        bad += block.faults
        done += len(block.names) + len(block.faults)
        if block.names and (skip_bad or not bad):
            table = block.table(folder.path.name)
            names += block.names
            logits.append(predict(loaded.classifier, table, how, accelerator).logits)
        report(done, total)
    if bad and (not skip_bad or not names):
        raise ValueError(
            f"{len(bad)} of {total} images cannot be used: {some(bad, 10)}. "
            + ("Give others" if skip_bad else "Mend them, or go on without them with --skip-bad")
        )
    facts: dict[str, Any] = {
        "data": {"um_per_px": folder.um_per_px, "num_images": len(names), "num_bad": len(bad)},
        "images": {"rule": rule.to_dict(), "treatment": how.to_dict()},
    }
    if measured is not None:
        facts["images"]["measured_on"] = {"num_images": len(measured)}
    return Answers(tuple(names), np.concatenate(logits), tuple(bad), folder.others, facts)


def _of_dataset(
    loaded: Loaded,
    ref: str,
    splits: Sequence[str],
    cell_fills_frame: bool,
    accelerator: "Accelerator",
    report: Report,
) -> Answers:
    if not splits or len(set(splits)) < len(splits):
        raise ValueError(f"splits are {', '.join(splits) or 'none'}; name each once with --splits")
    domains = load_domains(ref, splits)
    if domains[0].um_per_px is None and not cell_fills_frame:
        raise ValueError(
            f"{ref} has no scale (um_per_px is null): its cells fill the frame; "
            "pass --cell-fills-frame to use it all the same"
        )
    how, images = treatment_for(loaded, ref)
    total, done = sum(map(len, domains)), 0
    logits = []
    for domain in domains:

        def show(num: int, _: int, before: int = done) -> None:
            report(before + num, total)

        table = load_images(loaded, domain)
        logits.append(predict(loaded.classifier, table, how, accelerator, report=show).logits)
        done += len(domain)
    first = domains[0]
    facts = {
        "data": {
            "name": first.name,
            "revision": first.revision,
            "um_per_px": first.um_per_px,
            "num_images": total,
            **{domain.split: domain.fingerprint for domain in domains},
        },
        "images": images,
    }
    image_ids = tuple(image_id for domain in domains for image_id in domain.image_ids)
    return Answers(image_ids, np.concatenate(logits), (), (), facts)
