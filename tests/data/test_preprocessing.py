"""A domain's preprocessing follows from a rule and its images, and round-trips through JSON."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from hf_wbc.data.image_statistics import sharpness, spectrum
from hf_wbc.data.preprocessing import (
    ImagePreprocessing,
    PreprocessingRule,
    common_sharpness,
    normalize,
    pool_preprocessing,
    preprocess,
)
from hf_wbc.data.table import Table

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SIDE, UM = 48, 25.0


def lab(name: str, seed: int, width: float) -> Table:
    """Draw random images of a laboratory whose lens blurs by `width` pixels."""
    rng = np.random.default_rng(seed)
    planes = gaussian_filter(rng.normal(size=(12, SIDE, SIDE, 3)), (0, width, width, 0))
    pixels = 120 + 10 * seed + 30 * planes / planes.std()
    return Table(
        chunks=(pixels.clip(0, 255).astype(np.uint8),),
        labels=np.full(12, -1),
        domains=np.zeros(12, dtype=np.int64),
        image_ids=[str(row) for row in range(12)],
        domain_names=(name,),
    )


SHARP, BLURRY = lab("sharp", 0, 0.8), lab("blurry", 1, 2.0)


def test_plain_rule_uses_checkpoint_normalization_without_images() -> None:
    rule = PreprocessingRule()
    assert rule.is_plain and not rule.needs_images
    assert rule.fit(None, MEAN, STD) == ImagePreprocessing(MEAN, STD)
    pixels = SHARP.batch(np.arange(4))
    assert torch.equal(
        preprocess(pixels, ImagePreprocessing(MEAN, STD)), normalize(pixels, MEAN, STD)
    )


def test_normalize_by_domain_gives_zero_mean_and_unit_std() -> None:
    rule = PreprocessingRule(normalize_by="domain")
    for table in (SHARP, BLURRY):
        images = preprocess(table.batch(np.arange(len(table))), rule.fit(table, MEAN, STD))
        torch.testing.assert_close(images.mean((0, 2, 3)), torch.zeros(3), atol=1e-4, rtol=0)
        std = images.std((0, 2, 3), correction=0)
        torch.testing.assert_close(std, torch.ones(3), atol=1e-4, rtol=0)


def test_common_sharpness_is_that_of_the_blurriest_domain() -> None:
    level = common_sharpness([SHARP, BLURRY])
    assert level == sharpness(spectrum(BLURRY))
    rule = PreprocessingRule(sharpness_per_um=level)
    assert rule.fit(BLURRY, MEAN, STD).blur_um == 0.0
    treatment = rule.fit(SHARP, (0.0,) * 3, (1.0,) * 3)
    images = preprocess(SHARP.batch(np.arange(len(SHARP))), treatment)
    pixels = (255 * images).round().byte().permute(0, 2, 3, 1).numpy()
    found = sharpness(spectrum(replace(SHARP, chunks=(pixels,))))
    assert found == pytest.approx(level, rel=0.05)
    assert sharpness(spectrum(SHARP)) > 1.2 * level


def test_common_blur_adds_in_variance() -> None:
    level = common_sharpness([SHARP, BLURRY])
    own = PreprocessingRule(sharpness_per_um=level).fit(SHARP, MEAN, STD).blur_um
    both = PreprocessingRule(sharpness_per_um=level, blur_um=0.4).fit(SHARP, MEAN, STD).blur_um
    assert both == pytest.approx((own**2 + 0.4**2) ** 0.5)
    assert PreprocessingRule(blur_um=0.4).fit(None, MEAN, STD).blur_um == 0.4


def test_preprocess_blurs_in_um_then_normalizes() -> None:
    pixels = SHARP.batch(np.arange(2))
    images = preprocess(pixels, ImagePreprocessing(MEAN, STD, blur_um=0.8), um=UM)
    width = 0.8 * SIDE / UM
    blurred = gaussian_filter(pixels.double().numpy(), (0, width, width, 0), mode="reflect")
    expected = (blurred / 255 - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(images.permute(0, 2, 3, 1).numpy(), expected, atol=2e-3)


def test_pooled_statistics_weight_domains_equally() -> None:
    rule = PreprocessingRule(normalize_by="domain")
    found = pool_preprocessing([rule.fit(table, MEAN, STD) for table in (SHARP, BLURRY)])
    colors = np.concatenate([table.chunks[0].reshape(-1, 3) for table in (SHARP, BLURRY)]) / 255
    np.testing.assert_allclose(found.mean, colors.mean(0), atol=1e-9)
    np.testing.assert_allclose(found.std, colors.std(0), atol=1e-9)
    same = pool_preprocessing([ImagePreprocessing(MEAN, STD, 0.3)] * 2)
    np.testing.assert_allclose(same.mean + same.std, MEAN + STD)
    assert same.blur_um == 0.0


def test_rule_round_trips_through_json_and_foreign_one_is_refused() -> None:
    rule = PreprocessingRule("domain", 0.61, 0.2)
    assert PreprocessingRule.from_dict(json.loads(json.dumps(rule.to_dict()))) == rule
    with pytest.raises(ValueError, match="use the hf_wbc that wrote the model"):
        PreprocessingRule.from_dict({"sharpening": 3})
