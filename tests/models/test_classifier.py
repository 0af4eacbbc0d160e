"""Features and logits of every family."""

import copy
import gc
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from hf_wbc.models import Classifier, load_classifier

Draw = Callable[[str], Tensor]


@pytest.fixture
def vit(checkpoint: Callable[[str], Path]) -> Classifier:
    return load_classifier(str(checkpoint("vit"))).classifier


def test_logits_match_plain_model(classifier: Classifier, images: Tensor) -> None:
    torch.testing.assert_close(classifier(images).logits, classifier.model(images).logits)


@pytest.mark.parametrize("mode", [True, False])
def test_head_of_features_gives_logits(classifier: Classifier, images: Tensor, mode: bool) -> None:
    features, logits = classifier.train(mode)(images)
    assert features.shape == (2, classifier.num_features)
    assert logits.shape == (2, 11)
    assert features.std() > 0.01
    torch.testing.assert_close(classifier.head(features), logits)


def test_features_pass_through_the_head_alone(classifier: Classifier, images: Tensor) -> None:
    features, logits = classifier(images)
    again = classifier(features)
    torch.testing.assert_close(again.logits, logits)
    assert again.features is features


def test_loss_on_features_reaches_first_layer(classifier: Classifier, images: Tensor) -> None:
    classifier(images).features.square().sum().backward()
    first = next(p for p in classifier.parameters() if p.requires_grad)
    assert first.grad is not None and first.grad.abs().sum() > 0
    assert classifier.head.weight.grad is None


def test_every_trainable_weight_gets_a_gradient(classifier: Classifier, images: Tensor) -> None:
    classifier.train()(images).logits.square().sum().backward()
    assert [n for n, p in classifier.named_parameters() if p.requires_grad and p.grad is None] == []


def test_nothing_is_retained_after_forward(vit: Classifier, draw_images: Draw) -> None:
    output = vit(draw_images("vit"))
    features = weakref.ref(output.features)
    del output
    gc.collect()
    assert features() is None
    assert not vit.head._forward_pre_hooks


def test_no_hook_remains_after_failed_forward(vit: Classifier) -> None:
    with pytest.raises(ValueError, match="size"):
        vit(torch.zeros(1, 3, 8, 8))
    assert not vit.head._forward_pre_hooks


def test_deep_copy_computes_its_own_features(vit: Classifier, draw_images: Draw) -> None:
    teacher = copy.deepcopy(vit)
    with torch.no_grad():
        teacher.model.vit.layernorm.bias.add_(1)
    before = vit(draw_images("vit")).features
    after = teacher(draw_images("vit")).features
    torch.testing.assert_close(after, before + 1)


def test_autocast_runs_head_in_half_precision(vit: Classifier, draw_images: Draw) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features, logits = vit(draw_images("vit"))
        again = vit(features.bfloat16()).logits
    exact = vit(draw_images("vit")).logits
    assert logits.dtype == again.dtype == torch.bfloat16
    torch.testing.assert_close(logits.float(), exact, atol=2e-2, rtol=0)
    torch.testing.assert_close(again.float(), exact, atol=2e-2, rtol=0)


def test_mobilenet_training_features_include_dropout(
    checkpoint: Callable[[str], Path], draw_images: Draw
) -> None:
    classifier = load_classifier(str(checkpoint("mobilenet_v2"))).classifier
    kept = classifier(draw_images("mobilenet_v2")).features
    torch.manual_seed(0)
    dropped = classifier.train()(draw_images("mobilenet_v2")).features
    assert (kept == 0).float().mean() < 0.6
    assert (dropped == 0).float().mean() > 0.7


@pytest.mark.slow
@pytest.mark.ci
def test_compiled_classifier_gives_same_output(vit: Classifier, draw_images: Draw) -> None:
    images = draw_images("vit")
    with torch.no_grad():
        expected = vit(images)
        compiled = torch.compile(vit, backend="eager")(images)
    torch.testing.assert_close(compiled.features, expected.features)
    torch.testing.assert_close(compiled.logits, expected.logits)


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


def _two_steps(model: nn.Module, images: Tensor) -> None:
    for _ in range(2):
        model(images).logits.sum().backward()


@pytest.mark.parametrize("name", ["vit", "dinov2", "dinov2_with_registers"])
@pytest.mark.usefixtures("one_process")
def test_ddp_finds_no_unused_weight(
    name: str, checkpoint: Callable[[str], Path], draw_images: Draw
) -> None:
    classifier = load_classifier(str(checkpoint(name))).classifier
    _two_steps(DistributedDataParallel(classifier), draw_images(name))


@pytest.mark.usefixtures("one_process")
def test_ddp_would_fail_with_trainable_mask_token(
    checkpoint: Callable[[str], Path], draw_images: Draw
) -> None:
    classifier = load_classifier(str(checkpoint("dinov2"))).classifier
    classifier.model.dinov2.embeddings.mask_token.requires_grad_(True)
    with pytest.raises(RuntimeError, match="not used in producing loss"):
        _two_steps(DistributedDataParallel(classifier), draw_images("dinov2"))


def test_inputs_of_wrong_shape_are_refused(vit: Classifier) -> None:
    with pytest.raises(ValueError, match=r"\(3, 32, 32\); give images \(B, 3, H, W\)"):
        vit(torch.zeros(3, 32, 32))


def test_model_without_linear_head_is_refused() -> None:
    from transformers import ViTConfig, ViTForImageClassification

    config = ViTConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, image_size=16)
    model = ViTForImageClassification(config)
    model.classifier = nn.Identity()
    with pytest.raises(ValueError, match="does not end in a linear layer with 2 outputs"):
        Classifier(model)


def test_masked_class_is_never_predicted_and_gets_no_gradient(tiny_model: str) -> None:
    classifier = load_classifier(tiny_model).classifier
    present = torch.ones(11, dtype=torch.bool)
    present[3] = False
    classifier.mask_absent_classes(present)
    logits = classifier(torch.randn(5, 3, 28, 28)).logits
    assert (logits.softmax(1)[:, 3] == 0).all()
    torch.nn.functional.cross_entropy(logits, torch.tensor([0, 1, 2, 4, 5])).backward()
    head = classifier.head
    assert head.weight.grad is not None and head.bias.grad is not None
    assert (head.weight.grad[3] == 0).all() and head.bias.grad[3] == 0
    assert (head.weight.grad[4] != 0).any()


def test_unmasked_class_is_reset(tiny_model: str) -> None:
    classifier = load_classifier(tiny_model).classifier
    present = torch.ones(11, dtype=torch.bool)
    present[3] = False
    classifier.mask_absent_classes(present)
    others = classifier.head.weight[:3].clone()
    classifier.apply_logit_affine(0.25, torch.zeros(11))  # a temperature was merged in between
    classifier.mask_absent_classes(torch.ones(11, dtype=torch.bool))
    assert (classifier.head.weight[3] == 0).all() and classifier.head.bias[3] == 0
    torch.testing.assert_close(classifier.head.weight[:3], others / 4)
