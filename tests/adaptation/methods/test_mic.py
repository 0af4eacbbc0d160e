"""MIC (Hoyer et al. 2022): predictions on masked images match those on whole images."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import logsumexp, softmax
from torch import Tensor, nn

from hf_wbc.adaptation import Method
from hf_wbc.adaptation.methods.mic import mask_blocks, mic_loss
from hf_wbc.data.batch import Batch, SourceView, TargetView
from hf_wbc.models import Output
from hf_wbc.taxonomy import NUM_CLASSES


class Convolutional(nn.Module):
    """A `Classifier` stand-in for images."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, NUM_CLASSES)

    def forward(self, inputs: Tensor) -> Output:
        features = self.norm(self.conv(inputs)).relu().mean((2, 3))
        return Output(features, self.head(features))


@pytest.fixture
def network() -> Convolutional:
    torch.manual_seed(0)
    return Convolutional()


def image_batch(num: int = 5, seed: int = 0) -> Batch:
    rng = torch.Generator().manual_seed(seed)

    def view() -> dict[str, Tensor]:
        images = torch.randn(num, 3, 16, 16, generator=rng)
        zeros = torch.zeros(num, dtype=torch.int64)
        return {"inputs": images, "domains": zeros, "index": torch.arange(num)}

    labels = torch.randint(NUM_CLASSES, (num,), generator=rng)
    return Batch(source=SourceView(**view(), labels=labels), target=TargetView(**view()))


def reference(z: np.ndarray, guide: np.ndarray) -> float:
    total = 0.0
    for row, by in zip(z, guide, strict=True):
        p = softmax(by)
        total += p.max() * (logsumexp(row) - row[p.argmax()])
    return float(total / len(z))


@pytest.mark.parametrize("shape", [(1, 11), (5, 3), (16, 11)])
def test_loss_and_gradient_match_paper(
    shape: tuple[int, int], assert_loss_is: Callable[..., None]
) -> None:
    z, guide = np.random.default_rng(0).normal(size=(2, *shape), scale=2)
    fixed = torch.tensor(guide, requires_grad=True)
    assert_loss_is(lambda z: mic_loss(z, fixed), lambda z: reference(z, guide), z)
    loss = mic_loss(torch.tensor(z), fixed)
    assert not loss.requires_grad


def test_certain_teacher_gives_plain_cross_entropy() -> None:
    z, labels = torch.randn(6, 11), torch.tensor([0, 3, 3, 10, 1, 7])
    guide = 1e3 * nn.functional.one_hot(labels, 11).float()
    plain = nn.functional.cross_entropy(z, labels)
    torch.testing.assert_close(mic_loss(z, guide), plain)


@pytest.mark.parametrize("size", [(224, 224), (128, 192)])
def test_mask_hides_whole_blocks_of_all_channels(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    found = mask_blocks(torch.ones(50, 3, *size), 32, 0.7)
    grid = size[0] // 32, size[1] // 32
    blocks = found.unflatten(2, (grid[0], 32)).unflatten(4, (grid[1], 32))
    assert torch.equal(blocks, blocks[:, :1, :, :1, :, :1].expand_as(blocks))
    assert set(found.unique().tolist()) == {0.0, 1.0}
    assert found.mean().item() == pytest.approx(0.3, abs=0.05)
    assert not torch.equal(found[0], found[1])


def test_unmasked_pixels_are_unchanged() -> None:
    images = torch.randn(4, 3, 56, 56) + 10
    found = mask_blocks(images, 14, 0.5)
    assert torch.equal(found[found != 0], images[found != 0])


def test_ratio_0_masks_nothing_and_ratio_1_everything() -> None:
    images = torch.randn(2, 3, 224, 224)
    assert torch.equal(mask_blocks(images, 64, 0.0), images)
    assert not mask_blocks(images, 64, 1.0).any()


def test_small_image_has_two_blocks_per_side() -> None:
    torch.manual_seed(0)
    found = mask_blocks(torch.ones(200, 3, 28, 28), 64, 0.5)[:, 0]
    means = found.mean((1, 2))
    assert set(means.tolist()) == {0.0, 0.25, 0.5, 0.75, 1.0}


def test_masked_student_is_compared_with_teacher_on_whole_image(
    network: Convolutional, make_method: Callable[..., Method]
) -> None:
    batch = image_batch()
    method = make_method("mic", network, weight=2.0, block=4)
    with torch.no_grad():
        method.teacher.classifier.head.weight.neg_()
    torch.manual_seed(5)
    terms = method(batch)
    torch.manual_seed(5)
    hidden = mask_blocks(batch.target.inputs, 4, 0.7)
    z = network(torch.cat([batch.source.inputs, hidden])).logits[5:].detach().numpy()
    expected = reference(z, method.teacher.classifier(batch.target.inputs).logits.numpy())
    assert (terms["loss"] - terms["supervised"]).item() == pytest.approx(2 * expected, rel=1e-4)
    before = method.teacher.classifier.conv.weight.clone()
    with torch.no_grad():
        network.conv.weight += 1
    method.after_step()
    assert not torch.equal(method.teacher.classifier.conv.weight, before)
    assert method.eval_model is network


@pytest.mark.parametrize("num", [1, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_trainable_weight_gets_a_finite_gradient(
    num: int, dtype: torch.dtype, network: Convolutional, make_method: Callable[..., Method]
) -> None:
    method = make_method("mic", network)
    with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
        method(image_batch(num))["loss"].backward()
    for name, parameter in method.named_parameters():
        if parameter.requires_grad:
            assert torch.isfinite(parameter.grad).all(), name


@pytest.mark.parametrize("options", [{"weight": -1}, {"decay": 1.0}, {"block": 0}, {"ratio": 2}])
def test_options_out_of_range_are_refused(options: dict[str, float], make_method: Any) -> None:
    (name,) = options
    with pytest.raises(ValueError, match=f"{name} is"):
        make_method("mic", None, **options)
