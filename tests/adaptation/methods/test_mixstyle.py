"""MixStyle (Zhou et al. 2021): channel statistics mixed between images."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hf_wbc.adaptation import Method, TrainingInfo, load_method
from hf_wbc.adaptation.methods.mixstyle import early_stages, mix_style
from hf_wbc.data.batch import Batch, SourceView
from hf_wbc.models import Classifier
from hf_wbc.taxonomy import NUM_CLASSES

SIDE = 64


def cnns() -> dict[str, tuple[Callable[[], nn.Module], list[str]]]:
    """Builders of small networks, and the modules after which each should be mixed."""
    import transformers as hf

    def made(family: str, **values: Any) -> Callable[[], nn.Module]:
        def make() -> nn.Module:
            config = getattr(hf, f"{family}Config")(num_labels=NUM_CLASSES, **values)
            return getattr(hf, f"{family}ForImageClassification")(config)

        return make

    def by_timm(name: str) -> Callable[[], nn.Module]:
        def make() -> nn.Module:
            config = hf.TimmWrapperConfig(
                architecture=name, num_labels=NUM_CLASSES, do_pooling=True
            )
            return hf.TimmWrapperForImageClassification(config)

        return make

    sizes = {"hidden_sizes": [8, 8, 8, 8], "depths": [1, 2, 1, 1]}
    return {
        "resnet": (
            made("ResNet", embedding_size=8, layer_type="basic", **sizes),
            ["resnet.encoder.stages.0", "resnet.encoder.stages.1"],
        ),
        "convnextv2": (
            made("ConvNextV2", **sizes),
            ["convnextv2.encoder.stages.0", "convnextv2.encoder.stages.1"],
        ),
        "mobilenetv2": (
            made("MobileNetV2", depth_multiplier=0.35),
            ["mobilenet_v2.layer.1", "mobilenet_v2.layer.4"],
        ),
        "timm resnet": (by_timm("resnet10t"), ["timm_model.layer1", "timm_model.layer2"]),
    }


def vit() -> nn.Module:
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = ViTConfig(**sizes, intermediate_size=8, image_size=8, patch_size=4, num_labels=11)
    return ViTForImageClassification(config)


@pytest.fixture(scope="module")
def resnet() -> Classifier:
    torch.manual_seed(0)
    return Classifier(cnns()["resnet"][0]())


@pytest.fixture
def images() -> Batch:
    rng = torch.Generator().manual_seed(0)
    shades = torch.rand(6, 3, 1, 1, generator=rng)
    inputs = shades + torch.rand(6, 3, SIDE, SIDE, generator=rng)
    rows = torch.arange(6)
    return Batch(source=SourceView(inputs=inputs, domains=rows % 2, index=rows, labels=rows))


@pytest.fixture
def make(make_info: Callable[..., TrainingInfo]) -> Callable[..., Method]:
    def build(classifier: Classifier, **options: float) -> Method:
        found = load_method("mixstyle")
        method = found(classifier, found.parse(options))
        method.setup(make_info())
        return method.train()

    return build


@pytest.mark.parametrize("shape", [(1, 2, 3, 3), (4, 3, 2, 5), (3, 1, 1, 1)])
def test_mixed_maps_and_gradient_match_paper(
    shape: tuple[int, ...], assert_loss_is: Callable[..., None]
) -> None:
    rng = np.random.default_rng(0)
    maps, own = rng.normal(2, 3, shape), rng.uniform(size=shape[0])
    partner, weights = rng.permutation(shape[0]), rng.normal(size=shape)
    mean = maps.mean((2, 3), keepdims=True)
    std = np.sqrt(maps.var((2, 3), keepdims=True) + 1e-6)  # constants: no gradient in the paper
    mix = own[:, None, None, None]
    scale = mix * std + (1 - mix) * std[partner]
    shift = mix * mean + (1 - mix) * mean[partner]

    def loss(x: torch.Tensor) -> torch.Tensor:
        mixed = mix_style(x, torch.from_numpy(partner), torch.from_numpy(own))
        return (mixed * torch.from_numpy(weights)).sum()

    assert_loss_is(
        loss, lambda x: float((weights * (scale * (x - mean) / std + shift)).sum()), maps
    )


def test_weight_1_keeps_the_map_and_0_takes_partner_statistics() -> None:
    maps = torch.randn(5, 3, 8, 8, dtype=torch.float64) * 4 + 1
    order = torch.tensor([1, 2, 3, 4, 0])
    torch.testing.assert_close(mix_style(maps, order, torch.ones(5)), maps)
    mixed = mix_style(maps, order, torch.zeros(5))
    torch.testing.assert_close(mixed.mean((2, 3)), maps[order].mean((2, 3)))
    torch.testing.assert_close(mixed.std((2, 3)), maps[order].std((2, 3)), rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", cnns())
def test_first_half_of_stages_is_found(name: str) -> None:
    make_model, expected = cnns()[name]
    model = make_model()
    assert early_stages(Classifier(model), torch.zeros(1, 3, SIDE, SIDE)) == [
        f"model.{stage}" for stage in expected
    ]


def test_early_stages_changes_nothing(resnet: Classifier) -> None:
    resnet.train()
    before = deepcopy(resnet.state_dict())
    early_stages(resnet, torch.rand(1, 3, SIDE, SIDE))
    assert resnet.training
    assert all(torch.equal(value, before[name]) for name, value in resnet.state_dict().items())
    assert num_hooks(resnet) == 0


def num_hooks(module: nn.Module) -> int:
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())


def test_training_mixes_and_evaluation_does_not(
    resnet: Classifier, images: Batch, make: Callable[..., Method]
) -> None:
    method = make(resnet, p=1.0, alpha=1.0)
    torch.manual_seed(1)
    first, second = method(images)["loss"], method(images)["loss"]
    assert first != second
    method.eval()
    expected = nn.functional.cross_entropy(resnet(images.source.inputs).logits, torch.arange(6))
    torch.testing.assert_close(method(images)["loss"], expected)


def test_probability_zero_is_plain_training(
    resnet: Classifier, images: Batch, make: Callable[..., Method]
) -> None:
    method = make(resnet, p=0.0)
    found = method(images)["loss"]
    expected = nn.functional.cross_entropy(resnet(images.source.inputs).logits, torch.arange(6))
    torch.testing.assert_close(found, expected)


def test_mixing_depends_on_seed(
    resnet: Classifier, images: Batch, make: Callable[..., Method]
) -> None:
    found = []
    for _ in range(2):
        method = make(resnet, p=1.0)
        torch.manual_seed(5)
        found.append(method(images)["loss"].item())
    assert found[0] == found[1]


def test_no_hook_remains_even_after_failure(
    resnet: Classifier, images: Batch, make: Callable[..., Method]
) -> None:
    method = make(resnet)
    method(images)["loss"].backward()
    assert num_hooks(method) == 0
    broken = deepcopy(images.source.inputs)[:, :2]
    with pytest.raises((ValueError, RuntimeError)):
        method(Batch(source=SourceView(**{**vars(images.source), "inputs": broken})))
    assert num_hooks(method) == 0
    deepcopy(method)


def test_single_image_is_its_own_partner(
    resnet: Classifier, images: Batch, make: Callable[..., Method]
) -> None:
    held = {name: v[:1] for name, v in vars(images.source).items() if v is not None}
    for dtype in (torch.float32, torch.bfloat16):
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            loss = make(resnet, p=1.0)(Batch(source=SourceView(**held)))["loss"]
        assert torch.isfinite(loss)


def test_cnn_without_early_stages_is_refused_before_training(
    make: Callable[..., Method],
) -> None:
    """Its first maps are already as small as those of late stages in other networks."""
    stem = nn.Conv2d(3, 4, 32, 32)
    plain = nn.Sequential(stem, nn.Conv2d(4, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    with pytest.raises(ValueError, match="choose a CNN"):
        make(nn.Sequential(plain, nn.Linear(4, NUM_CLASSES)))


@pytest.mark.parametrize("name", cnns())
def test_stages_are_known_before_first_image(name: str, make: Callable[..., Method]) -> None:
    make_model, expected = cnns()[name]
    assert make(Classifier(make_model())).stages == [f"model.{stage}" for stage in expected]


def test_vit_is_refused(make: Callable[..., Method]) -> None:
    with pytest.raises(ValueError, match="choose a CNN"):
        make(Classifier(vit()))


@pytest.mark.parametrize(
    ("option", "message"),
    [({"alpha": 0}, "alpha is 0; it must be positive"),
     ({"p": 2}, r"p is 2; it must be in \[0, 1\]")],
)  # fmt: skip
def test_option_out_of_range_is_refused(option: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_method("mixstyle").parse(option)
