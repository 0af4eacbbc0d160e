"""AdaBN: BatchNorm holds the target statistics after one pass (Li et al. 2016)."""

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from hf_wbc.adaptation import Method, TrainingInfo, load_method, norm_layers
from hf_wbc.data.batch import TargetBatch, TargetView
from hf_wbc.models import Classifier, freeze


def target_batch(inputs: torch.Tensor, progress: float = 0.0) -> TargetBatch:
    index = torch.arange(len(inputs))
    view = TargetView(inputs=inputs, domains=torch.zeros_like(index), index=index)
    return TargetBatch(target=view, progress=progress)


@pytest.fixture(scope="module")
def resnet() -> nn.Module:
    """Build a tiny ResNet from a seed."""
    from transformers import ResNetConfig, ResNetForImageClassification

    torch.manual_seed(0)
    sizes = {"embedding_size": 4, "hidden_sizes": [4, 8], "depths": [1, 1]}
    config = ResNetConfig(**sizes, layer_type="basic", num_labels=11)
    return ResNetForImageClassification(config)


@pytest.fixture
def vit() -> nn.Module:
    """Build a tiny ViT without BatchNorm."""
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = ViTConfig(**sizes, intermediate_size=8, image_size=8, patch_size=4, num_labels=11)
    return ViTForImageClassification(config)


def set_up(classifier: nn.Module, info: TrainingInfo) -> Method:
    found = load_method("adabn")
    method = found(classifier, found.parse({}))  # type: ignore[arg-type]
    method.setup(info)
    return method.train()


def test_one_pass_yields_target_mean_and_variance(
    small: Any, make_method: Callable[..., Method]
) -> None:
    rng = np.random.default_rng(0)
    batches = [rng.normal(3, 2, (8, 6)), rng.normal(3, 2, (8, 6)), rng.normal(3, 2, (8, 6))]
    small.norm.running_mean += 100  # left by the source
    method = make_method("adabn", small)
    method.start_adapting()
    for inputs in batches:
        assert not method(target_batch(torch.tensor(inputs).float()))["loss"].requires_grad
    mean = np.mean([inputs.mean(0) for inputs in batches], axis=0)
    var = np.mean([inputs.var(0, ddof=1) for inputs in batches], axis=0)
    np.testing.assert_allclose(small.norm.running_mean.numpy(), mean, rtol=1e-5)
    np.testing.assert_allclose(small.norm.running_var.numpy(), var, rtol=1e-5)


def test_no_weight_is_trained_or_moved(small: Any, make_method: Callable[..., Method]) -> None:
    before = {name: p.clone() for name, p in small.named_parameters()}
    method = make_method("adabn", small)
    method.start_adapting()
    method(target_batch(torch.randn(8, 6)))
    assert not any(p.requires_grad for p in method.parameters())
    assert all(torch.equal(p, before[name]) for name, p in small.named_parameters())


def test_affinely_shifted_target_is_classified_as_before(
    small: Any, make_method: Callable[..., Method]
) -> None:
    """Check the paper's claim in its ideal case: an affine change of every input channel."""
    inputs = torch.randn(64, 6)
    small.norm.momentum = None
    small(inputs)
    home = small.eval()(inputs).logits
    method = make_method("adabn", small)
    method.start_adapting()
    method(target_batch(5 * inputs - 7))
    away = small.eval()(5 * inputs - 7).logits
    torch.testing.assert_close(away, home, rtol=1e-3, atol=1e-3)


def test_restart_with_saved_state_continues_bit_exactly(
    small: Any, make_method: Callable[..., Method]
) -> None:
    batches = [target_batch(torch.randn(8, 6)) for _ in range(3)]
    method = make_method("adabn", small)
    resumed = make_method("adabn", deepcopy(small))
    method.start_adapting()
    for number, batch in enumerate(batches):
        if number == 2:
            resumed.start_adapting()
            resumed.load_state_dict(deepcopy(method.state_dict()))
            resumed(batch)
        method(batch)
    state = resumed.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in method.state_dict().items())


@pytest.mark.parametrize("frozen", [{"trainable": "frozen"}, {"batch_norm": "frozen"}])
def test_frozen_layers_are_reestimated_too(
    frozen: dict[str, Any], resnet: nn.Module, make_info: Callable[..., TrainingInfo]
) -> None:
    classifier = Classifier(deepcopy(resnet))
    freeze(classifier, **frozen)
    method = set_up(classifier, make_info())
    method.start_adapting()
    before = [norm.running_mean.clone() for norm in norm_layers.batch_norms(classifier)]
    method(target_batch(torch.randn(4, 3, 32, 32)))
    after = [norm.running_mean for norm in norm_layers.batch_norms(classifier)]
    assert len(after) > 4
    assert not any(torch.equal(a, b) for a, b in zip(after, before, strict=True))


def test_feature_inputs_leave_backbone_statistics_unchanged(
    resnet: nn.Module, make_info: Callable[..., TrainingInfo]
) -> None:
    classifier = Classifier(deepcopy(resnet))
    classifier.add_bottleneck(4, seed=0)
    method = set_up(classifier, make_info(is_features=True))
    for norm in norm_layers.batch_norms(classifier):
        norm.running_mean.add_(1)
    method.start_adapting()
    method(target_batch(torch.randn(16, 8)))
    for norm in norm_layers.batch_norms(classifier.model):
        assert torch.equal(norm.running_mean, torch.ones_like(norm.running_mean))
    assert classifier.bottleneck is not None
    assert classifier.bottleneck.norm.running_mean.mean() < 0.5


def test_features_without_batch_norm_are_refused(
    resnet: nn.Module, make_info: Callable[..., TrainingInfo]
) -> None:
    classifier = Classifier(deepcopy(resnet))
    with pytest.raises(ValueError, match="--bottleneck 256, or omit --inputs features"):
        set_up(classifier, make_info(is_features=True))
    classifier.add_bottleneck(4, seed=0)
    set_up(classifier, make_info(is_features=True))


def test_vit_is_refused_without_bottleneck(
    vit: nn.Module, make_info: Callable[..., TrainingInfo]
) -> None:
    classifier = Classifier(vit)
    with pytest.raises(ValueError, match="--bottleneck 256"):
        set_up(classifier, make_info())
    classifier.add_bottleneck(4, seed=0)
    set_up(classifier, make_info())


def test_processes_average_their_statistics(
    small: Any, make_method: Callable[..., Method], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process sees inputs whose means and variances are 2 higher."""
    method = make_method("adabn", small)
    method.start_adapting()
    inputs = torch.randn(8, 6)
    monkeypatch.setattr(norm_layers, "all_gather_batch", lambda held: torch.cat([held, held + 2]))
    method(target_batch(inputs))
    torch.testing.assert_close(small.norm.running_mean, inputs.mean(0) + 1)
    torch.testing.assert_close(small.norm.running_var, inputs.var(0) + 1)
