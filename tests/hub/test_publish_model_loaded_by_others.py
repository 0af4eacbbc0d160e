"""Published artifacts load with the plain libraries, without hf_wbc, and give equal results."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from hf_wbc.data.dataset import load_split
from hf_wbc.hub.publication import parse_destination
from hf_wbc.hub.publish import publish
from hf_wbc.hub.publish_dataset import dataset_publication
from hf_wbc.hub.publish_model import model_publication
from hf_wbc.preparation.source import ArchiveSpec
from hf_wbc.taxonomy import NAMES

OTHERS = """
import hashlib, json, sys
import numpy as np
import datasets, torch, torchvision, transformers, PIL
from datasets import load_dataset
from transformers import AutoImageProcessor, AutoModelForImageClassification, pipeline

datasets.config.USE_PARQUET_EXPORT = False
for name in ("hf_wbc", "dataset_scripts", "sklearn", "accelerate", "evaluate", "timm", "scipy"):
    try:
        __import__(name)
        raise SystemExit(f"{name} is here, so this proves nothing")
    except ImportError:
        pass
asked = ASKED
said = {"datasets": {}, "models": {}}
for place in asked["datasets"]:
    found = said["datasets"][place] = {}
    for config in ("original", "cropped"):
        for split, rows in load_dataset(place, config, revision="v1").items():
            pixels = [hashlib.sha256(np.asarray(image)).hexdigest() for image in rows["image"]]
            found[f"{config}/{split}"] = [list(rows["image_id"]), pixels, list(rows["label"])]
            assert rows.features["label"].names == asked["names"]
    streamed = load_dataset(place, split="test", streaming=True, revision="v1")
    found["streamed"] = [row["image_id"] for row in streamed]
    found["images"] = [np.asarray(row["image"]).shape for row in streamed]
for place in asked["models"]:
    cells = load_dataset(asked["datasets"][1], "cropped", split="test", revision="v1")
    classify = pipeline("image-classification", model=place, revision="v1", top_k=11)
    answers = [{a["label"]: a["score"] for a in classify(image)} for image in cells["image"]]
    model = AutoModelForImageClassification.from_pretrained(place, revision="v1")
    processor = AutoImageProcessor.from_pretrained(place, revision="v1")
    inputs = processor([image.convert("RGB") for image in cells["image"]], return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits
    said["models"][place] = {
        "ids": list(cells["image_id"]),
        "pipeline": [[a[name] for name in asked["names"]] for a in answers],
        "auto": logits.softmax(1).tolist(),
        "labels": [model.config.id2label[i] for i in range(11)],
    }
print("SAID" + json.dumps(said))
"""


@pytest.fixture
def everything(
    hub: object,
    prepared: Mapping[str, Path],
    labs: Mapping[str, ArchiveSpec],
    runs: Mapping[str, Path],
) -> dict[str, list[str]]:
    """Publish both datasets and both models, private, tagged v1."""
    places: dict[str, list[str]] = {"datasets": [], "models": []}
    for name, folder in prepared.items():
        to = parse_destination(f"lab/{labs[name].repo}", "dataset")
        publish(dataset_publication(folder, labs[name], public=False), to)
        places["datasets"].append(str(to))
    for name, run in runs.items():
        to = parse_destination(f"lab/wbc-{name}", "model")
        publish(model_publication(run, to, labs, public=False), to)
        places["models"].append(str(to))
    return places


@pytest.mark.slow  # runs in a fresh, bare environment
@pytest.mark.ci
def test_plain_libraries_load_datasets_and_models_equally(
    everything: dict[str, list[str]],
    prepared: Mapping[str, Path],
    runs: Mapping[str, Path],
    plain_python: Callable[..., str],
    client_env: Callable[..., dict[str, str]],
    outside: Path,
) -> None:
    asked = {**everything, "names": list(NAMES)}
    code = OTHERS.replace("ASKED", repr(asked))
    printed = plain_python(code, outside, client_env("reader"))
    said = json.loads(printed.partition("SAID")[2])
    for place, folder in zip(everything["datasets"], prepared.values(), strict=True):
        found = said["datasets"][place]
        for config in ("original", "cropped"):
            for split in ("train", "validation", "test"):
                domain = load_split(str(folder), split, config)
                ids, pixels, labels = found[f"{config}/{split}"]
                assert ids == domain.image_ids and labels == domain.labels.tolist()
                assert pixels == list(domain.dataset["pixel_sha256"])
        assert found["streamed"] == load_split(str(folder), "test").image_ids
    for place, run in zip(everything["models"], runs.values(), strict=True):
        found = said["models"][place]
        assert found["labels"] == list(NAMES)
        table = pq.read_table(run / "predictions.parquet").to_pandas()
        ours = table[(table["domain"] == "lab_b") & (table["split"] == "test")]
        assert found["ids"] == ours["image_id"].tolist()
        chances = ours[[f"p_{name}" for name in NAMES]].to_numpy()
        np.testing.assert_allclose(found["pipeline"], chances, atol=1e-5)
        np.testing.assert_allclose(found["auto"], chances, atol=1e-5)
        assert np.argmax(found["pipeline"], 1).tolist() == ours["predicted"].tolist()
        assert np.ptp(chances, axis=0).max() > 1e-5, "a model that says always the same"
