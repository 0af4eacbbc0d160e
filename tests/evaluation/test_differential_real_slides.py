"""Differential counts of simulated slides of real cells with known shares."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

import dataset_scripts
from hf_wbc.data.crop import Geometry
from hf_wbc.data.image_blocks import list_images, read_blocks
from hf_wbc.data.preprocessing import ImagePreprocessing, preprocess
from hf_wbc.evaluation.slide import HeldOut
from hf_wbc.models import load_classifier
from hf_wbc.taxonomy import NAMES, NUM_CLASSES, class_id

from .test_differential import BLOOD, holds, naive_holds, shares_of, smear

SIZE, DRAWS, CELLS = 96, 100, 500


def embed(folder: Path, weights: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return features (N, d) and labels (N,) of the archive's cells in the eleven classes."""
    source = dataset_scripts.load("acevedo_20")
    loaded = load_classifier(str(weights), image_size=SIZE)
    how = ImagePreprocessing(loaded.preprocessing.mean, loaded.preprocessing.std)
    features, labels = [], []
    for block in read_blocks(list_images(folder, source.um_per_px), Geometry(SIZE, 3), 1):
        codes = [name.rpartition("/")[2].rpartition("_")[0] for name in block.names]
        named = [source.labels.get(code) for code in codes]
        keep = [row for row, name in enumerate(named) if name in NAMES]
        for start in range(0, len(keep), 16):
            rows = keep[start : start + 16]
            with torch.inference_mode():
                out = loaded.classifier(preprocess(torch.from_numpy(block.pixels[rows]), how))
            features.append(out.features.numpy())
            labels += [class_id(str(named[row])) for row in rows]
    return np.concatenate(features), np.array(labels)


@pytest.mark.slow
def test_real_slides_are_covered_where_counting_fails(shared: Path) -> None:
    archive = shared / "data" / "pbc_barcelona_a" / "PBC_dataset_normal_DIB"
    features, labels = embed(archive, shared / "weights" / "mobilenet_v2_1.0_224_imagenet")
    rng = np.random.default_rng(0)
    third = rng.integers(0, 3, len(labels))
    taught = third == 0
    head = LogisticRegression(C=0.01, max_iter=300).fit(features[taught], labels[taught])
    logits = np.full((len(labels), NUM_CLASSES), -1e4)
    logits[:, head.classes_] = head.decision_function(features)
    held = HeldOut(logits[third == 1], labels[third == 1])
    shares, good, naive = shares_of(**BLOOD), 0, 0
    for _ in range(DRAWS):
        drawn = smear(shares, rng, CELLS)
        rows = [rng.choice(np.flatnonzero((third == 2) & (labels == label))) for label in drawn]
        probabilities = np.exp(logits[rows] - logits[rows].max(1, keepdims=True))
        probabilities /= probabilities.sum(1, keepdims=True)
        good += holds(probabilities, held, shares)
        naive += naive_holds(logits[rows].argmax(1), shares)
    assert good >= 0.9 * DRAWS, f"{good} of {DRAWS} slides were covered"
    assert naive < 0.5 * DRAWS, f"{naive} of {DRAWS} were covered by counting"
