"""Features of all stages are pooled maps followed by the penultimate features."""

import torch

from hf_wbc.models import load_trained
from hf_wbc.models.stage_features import num_stage_features, stage_features
from hf_wbc.shipped import shipped


def test_stages_of_the_shipped_model_end_in_the_features_of_the_class() -> None:
    classifier = load_trained(str(shipped("spaces/wbc/model"))).classifier.eval()
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = stage_features(classifier, images)
    with torch.inference_mode():
        last = classifier(images).features
    assert found.shape == (2, 2816) and num_stage_features(classifier, 64) == 2816
    assert torch.equal(found[:, -1280:], last)
    mean, most = found[:, :24], found[:, 24:48]  # of 24 channels of the second stage
    assert (most > mean).all()
    assert not any(block._forward_hooks for block in classifier.model.timm_model.blocks)


def test_network_without_stages_gives_its_last_features() -> None:
    classifier = load_trained(str(shipped("spaces/wbc/toy_model"))).classifier.eval()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(stage_features(classifier, images), classifier(images).features)
