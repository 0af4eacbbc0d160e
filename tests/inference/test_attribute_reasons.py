"""The page's reasons come from reliable attributes of a head that belongs to the model."""

import shutil
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pytest
import torch

from hf_wbc.data.preprocessing import ImagePreprocessing, preprocess
from hf_wbc.inference.attribute_reasons import (
    attribute_record,
    cell_reasons,
    find_reasons,
    read_attribute_head,
)
from hf_wbc.inference.gallery import head_digest
from hf_wbc.models import load_trained
from hf_wbc.models.attribute_head import AttributeHead
from hf_wbc.models.stage_features import stage_features
from hf_wbc.shipped import shipped
from hf_wbc.taxonomy import class_id

VALUES = {"granule_colour": ("nil", "red"), "cell_size": ("big", "small")}
EOSINOPHIL, MONOCYTE = class_id("eosinophil"), class_id("monocyte")


def head(num_features: int = 2, **facts: Any) -> AttributeHead:
    """Return a head that reads red from the first feature, and small from the second."""
    weight = torch.zeros(4, num_features)
    weight[1, 0] = weight[3, 1] = 1.0
    typical = {"eosinophil": {"granule_colour": {"red": 0.9, "nil": 0.1}}}
    known = {"reliable": ["granule_colour"], "typical": typical, "data": "lab"}
    return AttributeHead(VALUES, weight, torch.zeros(4), {**known, **facts})


def test_only_sure_values_of_reliable_attributes_and_known_classes_are_reasons() -> None:
    features = np.array([[9, 9], [-9, 9], [0.1, 9], [9, 9]], np.float32)
    labels = [EOSINOPHIL, EOSINOPHIL, EOSINOPHIL, MONOCYTE]
    red, nil, unsure, unknown = find_reasons(head(), features, labels)
    assert [(each.attribute, each.value, each.is_typical) for each in red] == [
        ("granule_colour", "red", True)
    ]
    assert [(each.value, each.is_typical) for each in nil] == [("nil", False)]
    assert unsure == () and unknown == ()


def test_head_of_all_stages_reads_them_from_the_crops_of_a_few_cells() -> None:
    model = str(shipped("spaces/wbc/model"))
    pretrained = load_trained(model)
    classifier = pretrained.classifier.eval()
    found = read_attribute_head(model, pretrained)
    assert found is not None and found.has_stages
    crops = np.random.default_rng(0).integers(0, 256, (65, 32, 32, 3), np.uint8)
    how = ImagePreprocessing((0.5,) * 3, (0.5,) * 3)
    logits = np.eye(11, dtype=np.float32)[[EOSINOPHIL] * 65]
    features = np.zeros((65, 1280), np.float32)
    few = cell_reasons(found, classifier, Lock(), crops[:2], how, features[:2], logits[:2])
    stages = stage_features(classifier, preprocess(torch.from_numpy(crops[:2]), how)).numpy()
    assert few == find_reasons(found, stages, [EOSINOPHIL] * 2) and all(few)
    many = cell_reasons(found, classifier, Lock(), crops, how, features, logits)
    assert many == [()] * 65


def test_head_is_found_beside_its_own_model_only(tmp_path: Path) -> None:
    toy = shipped("spaces/wbc/toy_model")
    model = Path(shutil.copytree(toy, tmp_path / "model"))
    pretrained = load_trained(str(model))
    assert read_attribute_head(str(model), pretrained) is None
    assert attribute_record(str(model)) is None
    width = pretrained.classifier.num_features
    head(width, head_sha256="0").save(model)
    with pytest.raises(ValueError, match="other weights"):
        read_attribute_head(str(model), pretrained)
    head(width, head_sha256=head_digest(pretrained.classifier), f1={"cell_size": 0.5}).save(model)
    found = read_attribute_head(str(model), pretrained)
    assert found is not None and found.reliable == ("granule_colour",)
    record = attribute_record(str(model))
    assert record is not None and record["kind"] == "attributes"
    assert record["model"]["revision"] == pretrained.revision and record["f1"] == {"cell_size": 0.5}
