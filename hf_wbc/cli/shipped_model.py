r"""Train the model that ships with the page: EfficientNet-Lite0 on Acevedo_20, robustly augmented.

    OMP_NUM_THREADS=1 python -m hf_wbc.cli.shipped_model build/acevedo_20 spaces/wbc \
        --judge build/tecom_jiangxi build/bccd_crops build/cellavision_blog \
        --platelets PBC_dataset_normal_DIB/platelet

The command writes `model/` (weights in half precision, processor, reference set, card, scores) and
`cells/` (example cells of the test split with their attribution). It takes about an hour of one
core. Training is deterministic on one type of machine with the same number of threads: a test makes
a tiny network in 20 steps twice, in two processes, and compares bytes. All 3000 steps have not been
repeated. The laboratories after `--judge` are only scored: they decide nothing about the weights.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from hf_wbc.config import TrainConfig
from hf_wbc.study.protocols import BANDS_MERGED, COMMON_CLASSES
from hf_wbc.taxonomy import NAMES

STEPS, BATCH_SIZE, PEAK_LR, IMAGE_SIZE = 3000, 32, 5e-4, 128
LABEL_SMOOTHING = 0.1
REFERENCE_PER_CLASS = 16
NUM_EXAMPLES = 12


def make_shipped_model(
    data: Annotated[str, tyro.conf.Positional],
    out: Annotated[Path, tyro.conf.Positional],
    model: str = "efficientnet-lite0",
    weights_license: str | None = None,
    judge: tuple[str, ...] = (),
    platelets: Path | None = None,
    work: Path = Path("build/shipped_model"),
) -> None:
    """Train, round to half precision, score and write the model and its example cells.

    Args:
        data: The prepared source; its license has to allow redistribution.
        out: The Space's folder, in which `model` and `cells` are replaced.
        model: A backbone's short name, or a folder with pre-trained weights.
        weights_license: License of the weights in a folder.
        judge: Prepared laboratories to score the model on, all splits together.
        platelets: Folder of the source archive's platelets, which the page then recognizes.
        work: Folder for the run, features and evaluations; an interrupted run resumes.

    Raises:
        ValueError: If the license of the data or of the weights is unknown or forbids shipping.
    """
    from hf_wbc.cli.display import train_in
    from hf_wbc.records import atomic_replace, write_json

    facts = require_licenses(data, model, weights_license)
    config = TrainConfig(
        sources=(data,),
        model=model,
        image_size=IMAGE_SIZE,
        steps=STEPS,
        batch_size=BATCH_SIZE,
        learning_rate=PEAK_LR,
        label_smoothing=LABEL_SMOOTHING,
        selection="last",
        eval_steps=500,
    )
    finished = train_in(config, work)
    half = work / "model"
    with atomic_replace(half) as partial:
        shutil.copytree(finished.model, partial)
        round_to_half(partial)
    outliers = add_reference_set(half, data, platelets)
    scores = _scores(half, data, judge, work)
    write_json(half / "scores.json", {**facts, "outliers": outliers, "scores": scores})
    scores = json.loads((half / "scores.json").read_text(encoding="utf-8"))
    (half / "README.md").write_text(card(scores), encoding="utf-8")
    with atomic_replace(out / "model") as partial:
        shutil.copytree(half, partial)
    with atomic_replace(out / "cells") as partial:
        write_example_cells(data, partial)


def add_reference_set(model: Path, data: str, platelets: Path | None) -> dict[str, Any]:
    """Write the model's reference set, and return what it recognizes as outliers."""
    from hf_wbc.data.dataset import load_split
    from hf_wbc.inference.build_gallery import build_reference_set
    from hf_wbc.inference.gallery import read_reference_set
    from hf_wbc.models import load_trained

    build_reference_set(
        model,
        (data,),
        per_class=REFERENCE_PER_CLASS,
        outliers={"platelet": platelets} if platelets else {},
        outlier_um_per_px=load_split(data, "train").um_per_px,
    )
    kinds = read_reference_set(str(model), load_trained(str(model))).outliers
    return {kind.name: {"num_images": kind.num_images, "recall": kind.recall} for kind in kinds}


def require_licenses(data: str, model: str, weights_license: str | None) -> dict[str, str]:
    """Return the licenses of data and weights.

    Raises:
        ValueError: If either is unknown, or the images must not be redistributed.
    """
    import dataset_scripts
    from hf_wbc.data.dataset import load_split
    from hf_wbc.models.backbones import find_backbone

    name = load_split(data, "train").name
    source = dataset_scripts.known().get(name)
    if source is None or not source.redistributable:
        raise ValueError(
            f"{data} is {name}, whose license does not allow redistribution of its images; a "
            "shipped model shows some of them, so train it on other sources"
        )
    ready = find_backbone(model)
    license = weights_license or (ready.license if ready else "")
    if not license:
        raise ValueError(
            f"the license of the weights in {model} is unknown, so they cannot be shipped; name "
            "it with --weights-license"
        )
    return {"source": name, "data_license": source.license, "weights_license": license}


def round_to_half(folder: Path) -> None:
    """Store the weights of a saved model in half precision.

    Raises:
        ValueError: If a weight exceeds the range of half precision.
    """
    import torch
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    halved = {n: t.half() if t.is_floating_point() else t for n, t in tensors.items()}
    if any(not t.isfinite().all() for t in halved.values() if t.dtype == torch.float16):
        raise ValueError(f"{path} has weights beyond the range of half precision")
    save_file(halved, path, metadata={"format": "pt"})
    path.chmod(0o644)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    config["dtype"] = "float16"
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")


def _scores(model: Path, data: str, judge: Sequence[str], work: Path) -> dict[str, Any]:
    """Return macro-F1 with its interval for the source's test split and each laboratory."""
    import hf_wbc

    found = {}
    for ref in (data, *judge):
        name = Path(ref).name
        is_home = ref == data
        record = hf_wbc.evaluate(
            model,
            ref,
            work / "evaluations",
            splits=("test",) if is_home else ("train", "validation", "test"),
            merge=() if is_home else BANDS_MERGED,
            classes=() if is_home else COMMON_CLASSES,
            allow_unscaled=True,
        )
        scores = record["scores"]
        found[name] = {
            "macro_f1": round(scores["macro_f1"], 4),
            "interval": [round(each, 4) for each in scores["intervals"]["macro_f1"]],
            "accuracy": round(scores["accuracy"], 4),
            "num_images": scores["num_images"],
            "splits": "test" if is_home else "all",
        }
    return found


def card(facts: Mapping[str, Any]) -> str:
    """Render the model card from `scores.json`."""
    rows = "\n".join(
        f"| {name} | {each['splits']} | {each['num_images']:,} | {each['macro_f1']:.3f} "
        f"({each['interval'][0]:.3f} to {each['interval'][1]:.3f}) | {each['accuracy']:.3f} |"
        for name, each in facts["scores"].items()
    )
    return f"""---
license: {facts["weights_license"]}
library_name: transformers
pipeline_tag: image-classification
tags:
  - hematology
---
# EfficientNet-Lite0 for white blood cells, robustly augmented

The model behind the page of hf_wbc. It names ten classes of white blood cells and their precursors
in crops of 25 um. It has never seen a myeloblast: its source has none, and it never predicts one.
For research use only; not a medical device.

## Training

EfficientNet-Lite0 with ImageNet weights ({facts["weights_license"]}), fine-tuned on the training
split of {facts["source"]} with the robust augmentation: {STEPS} steps of {BATCH_SIZE} images,
balanced over classes, {IMAGE_SIZE} px, AdamW with a peak learning rate of {PEAK_LR}, and label
smoothing of {LABEL_SMOOTHING}. The last weights are kept and stored in half precision.

    OMP_NUM_THREADS=1 python -m hf_wbc.cli.shipped_model build/acevedo_20 spaces/wbc \\
        --judge build/tecom_jiangxi build/bccd_crops build/cellavision_blog \\
        --platelets PBC_dataset_normal_DIB/platelet

## Scores

Macro-F1 with its 95 % bootstrap interval. {facts["source"]} is scored on its test split. The other
laboratories played no part in training or in the choice of these weights, but two augmentations
were compared on them (docs/experiments.md). They are scored on all their cells, in four classes:
they do not tell bands from segmented neutrophils, and have three basophils or fewer.

| laboratory | split | cells | macro-F1 | accuracy |
|---|---|--:|--:|--:|
{rows}
{_outlier_text(facts)}
## Attributes

`attributes.safetensors` reads eleven attributes, such as granules and the shape of the nucleus,
from the features of all stages of this network. It was trained with the WBCAtt table (MIT license)
by `hf-wbc attributes`, and never changes the class; the page names those that are reliable
(docs/stress.md has the scores).

## Data

Cells, thumbnails and examples: Acevedo A., Merino A., Alferez S., Molina A., Boldu L., Rodellar J.,
"A dataset of microscopic peripheral blood cell images for development of automatic recognition
systems", Data in Brief 30 (2020) 105474, {facts["data_license"]}. The crops are of people without
infection, hematologic or oncologic disease; the archive has no patient identifiers, so scores on
its own test split are optimistic.
"""


def _outlier_text(facts: Mapping[str, Any]) -> str:
    """Return the card's section about outliers; empty without any."""
    from hf_wbc.inference.outliers import FALSE_ALARMS

    if not facts.get("outliers"):
        return ""
    found = "\n".join(
        f"- {name}: {each['recall']:.1%} of the images that played no part are recognized"
        for name, each in facts["outliers"].items()
    )
    return f"""
## What is none of the eleven classes

The page leaves out, and names, what it recognizes as an outlier. The detectors were fitted on
images of {facts["source"]}'s own archive, with {FALSE_ALARMS:.1%} false alarms among its validation
cells; how well they do in another laboratory is not known.

{found}
"""


def write_example_cells(data: str, folder: Path) -> None:
    """Write the first test cells of each class, as they are in the archive, and a table of them."""
    import numpy as np

    from hf_wbc.data.dataset import load_split
    from hf_wbc.escape import write_csv

    folder.mkdir()
    test = load_split(data, "test", "original")
    present = [label for label in range(len(NAMES)) if (test.labels == label).any()]
    rows = []
    for number in range(NUM_EXAMPLES):
        label = present[number % len(present)]
        row = np.flatnonzero(test.labels == label)[number // len(present)]
        cell = test.dataset.with_format("arrow")[int(row)].to_pylist()[0]
        file = f"cell_{number + 1:02d}.jpg"
        (folder / file).write_bytes(cell["image"]["bytes"])
        rows.append((file, NAMES[label], f"{cell['um_per_px']:g}", cell["image_id"]))
    with (folder / "cells.csv").open("w", encoding="utf-8", newline="") as table:
        write_csv(table, ("file", "class", "um_per_px", "image_id"), rows)
    (folder / "ATTRIBUTION.md").write_text(
        "These cells are unchanged images of PBC_dataset_normal_DIB (Acevedo_20), CC BY 4.0: "
        'Acevedo A., Merino A., Alferez S., Molina A., Boldu L., Rodellar J., "A dataset of '
        "microscopic peripheral blood cell images for development of automatic recognition "
        'systems", Data in Brief 30 (2020) 105474. They belong to the test split: the shipped '
        "model was not trained on them.\n",
        encoding="utf-8",
    )


if __name__ == "__main__":
    tyro.cli(make_shipped_model, config=(tyro.conf.OmitArgPrefixes,))
