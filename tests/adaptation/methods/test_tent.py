"""TENT (Wang et al. 2021): minimize target entropy through normalization scales and shifts only."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import softmax
from scipy.stats import entropy as scipy_entropy
from torch import nn

from hf_wbc.adaptation import Method, TrainingInfo, load_method, norm_layers
from hf_wbc.adaptation.losses import entropy
from hf_wbc.data.batch import Batch, TargetBatch
from hf_wbc.models import Classifier, freeze
from hf_wbc.taxonomy import NUM_CLASSES


def target_of(batch: Batch) -> TargetBatch:
    assert batch.target is not None
    return TargetBatch(target=batch.target)


@pytest.mark.parametrize("shape", [(1, 2), (4, 3), (6, NUM_CLASSES)])
def test_entropy_and_gradient_match_scipy(
    shape: tuple[int, int], assert_loss_is: Callable[..., None]
) -> None:
    assert_loss_is(
        lambda z: entropy(z).mean(),
        lambda z: float(scipy_entropy(softmax(z, axis=1), axis=1).mean()),
        np.random.default_rng(0).normal(size=shape),
    )


def test_entropy_is_ln_c_if_uniform_and_zero_if_certain() -> None:
    assert entropy(torch.zeros(1, NUM_CLASSES)).item() == pytest.approx(np.log(NUM_CLASSES))
    assert entropy(1e4 * torch.eye(3)).abs().max() < 1e-6


def test_only_norm_scale_and_shift_are_trained(
    small: Any, make_batch: Callable[..., Batch], make_method: Callable[..., Method]
) -> None:
    method = make_method("tent", small)
    for _ in range(2):  # twice, as when a run is resumed
        method.start_adapting()
        learning = [name for name, p in method.named_parameters() if p.requires_grad]
        assert learning == ["classifier.norm.weight", "classifier.norm.bias"]
    method(target_of(make_batch()))["loss"].backward()
    assert small.norm.weight.grad.abs().sum() > 0
    assert small.head.weight.grad is None


def test_loss_is_entropy_under_batch_statistics(
    small: Any, make_batch: Callable[..., Batch], make_method: Callable[..., Method]
) -> None:
    batch = target_of(make_batch())
    inputs = batch.target.inputs.double().numpy()
    small.norm.running_mean += 100
    method = make_method("tent", small)
    method.start_adapting()
    x = (inputs - inputs.mean(0)) / np.sqrt(inputs.var(0) + small.norm.eps)
    for layer in (small.project, small.head):
        x = x @ layer.weight.detach().double().numpy().T + layer.bias.detach().double().numpy()
    expected = scipy_entropy(softmax(x, axis=1), axis=1).mean()
    assert method(batch)["loss"].item() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(small.norm.running_mean, batch.target.inputs.mean(0))


def test_steps_lower_the_entropy(
    small: Any, make_batch: Callable[..., Batch], make_method: Callable[..., Method]
) -> None:
    method = make_method("tent", small)
    method.start_adapting()
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=0.1)
    found = []
    for _ in range(20):
        loss = method(target_of(make_batch()))["loss"]
        found.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        method.after_step()
    assert found[-1] < 0.9 * found[0]


def test_adaptation_disables_dropout(
    small: Any, make_batch: Callable[..., Batch], make_method: Callable[..., Method]
) -> None:
    class Dropping(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner, self.dropout = inner, nn.Dropout(0.5)

        def forward(self, inputs: torch.Tensor) -> Any:
            return self.inner(self.dropout(inputs))

    method = make_method("tent", Dropping(small))
    method.start_adapting()
    batch = target_of(make_batch())
    assert torch.equal(method(batch)["loss"], method(batch)["loss"])


def test_statistics_are_shared_only_in_second_phase(
    small: Any, make_method: Callable[..., Method], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(norm_layers, "all_gather_batch", lambda held: torch.cat([held, held + 2]))
    method = make_method("tent", small)
    method.after_step()
    assert torch.equal(small.norm.running_mean, torch.zeros(6))
    method.start_adapting()
    method.after_step()
    assert torch.equal(small.norm.running_mean, torch.ones(6))


@pytest.mark.parametrize("name", ["tent", "eata"])
def test_frozen_vit_is_refused_without_bottleneck(
    name: str, make_info: Callable[..., TrainingInfo]
) -> None:
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = ViTConfig(**sizes, intermediate_size=8, image_size=8, patch_size=4, num_labels=11)
    classifier = Classifier(ViTForImageClassification(config))
    found = load_method(name)
    freeze(classifier, "full")
    method = found(classifier, found.parse({}))
    method.setup(make_info())
    method.start_adapting()
    learning = {n.split(".")[-2] for n, p in method.named_parameters() if p.requires_grad}
    assert learning == {"layernorm", "layernorm_before", "layernorm_after"}
    freeze(classifier, "frozen")
    with pytest.raises(ValueError, match=f"{name} trains scale and shift .*--bottleneck 256"):
        found(classifier, found.parse({})).setup(make_info())
