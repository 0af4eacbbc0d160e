"""Properties of every method: finite, differentiable, and independent of the sample order.

Each method runs on images and, where possible, on embedded features. If no source has a class,
its row of the head is masked, and the results equal those of a head without that class.
"""

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hf_wbc.adaptation import Method, load_method, method_names
from hf_wbc.data.batch import Batch, DomainView, TargetBatch
from hf_wbc.models import Classifier, param_groups
from hf_wbc.taxonomy import NUM_CLASSES

CASES = [
    (name, kind)
    for name in method_names()
    for kind in ("features", "images")
    if not load_method(name).closed_form  # see test_closed_form.py
    if kind == "images" or not load_method(name).needs.images
]
BATCHES = {
    "one sample": {"labels": (3,)},
    "one class": {"labels": (8,) * 6},
    "an absent class": {"labels": (0, 1, 2, 8, 9, 10)},
    "one target sample": {"num_target": 1},
}
OPTIONS = {"mic": {"ratio": 0.0}, "eata": {"threshold": 1.0, "margin": 1.0}}
"""Options under which results do not depend on batch positions and no sample is left out."""
CLOSED = 5


@pytest.fixture
def make_network(small: nn.Module, convolutional: nn.Module) -> Callable[..., Any]:
    """Build a network for one kind of inputs, always with the same weights."""

    def make(kind: str) -> Any:
        return copy.deepcopy(small if kind == "features" else convolutional)

    return make


def phases(method: Method, batch: Batch) -> list[Batch | TargetBatch]:
    """Return a batch for each phase of the method."""
    assert batch.target is not None
    found: list[Batch | TargetBatch] = [batch if method.needs.target else only_source(batch)]
    if method.adapt_passes:
        found.append(TargetBatch(target=batch.target, progress=batch.progress, epochs=5.0))
    return found


def only_source(batch: Batch) -> Batch:
    """Return the batch without the target for methods that do not use one."""
    return replace(batch, target=None)


def losses(method: Method, batch: Batch) -> list[Tensor]:
    """Return the loss of each phase, with backward if weights are trained."""
    found = []
    for number, part in enumerate(phases(method, batch)):
        if number:
            method.start_adapting()
        terms = method(part)
        assert all(term.ndim == 0 for term in terms.values()), "terms are scalars"
        if terms["loss"].requires_grad:
            method.zero_grad()
            terms["loss"].backward()
        found.append(terms["loss"].detach())
        method.after_step()
    return found


def still(network: nn.Module) -> nn.Module:
    """Fix the BatchNorm statistics so that a single sample suffices."""
    for norm in network.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            norm.running_mean += 0.1
            norm.eval()
            norm.train = lambda mode=True, norm=norm: norm  # one sample has no variance
    return network


@pytest.mark.parametrize(("name", "kind"), CASES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loss_and_gradients_are_finite(
    name: str, kind: str, dtype: torch.dtype, make_network: Callable[..., Any],
    make_batch: Callable[..., Batch], make_method: Callable[..., Method],
) -> None:  # fmt: skip
    for what, values in BATCHES.items():
        method = make_method(name, still(make_network(kind)))
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            for loss in losses(method, make_batch(**values, images=kind == "images")):
                assert torch.isfinite(loss), f"{what}: {loss}"
        for parameter in method.parameters():
            assert parameter.grad is None or torch.isfinite(parameter.grad).all(), what


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_every_phase_is_independent_of_batch_order(
    name: str, kind: str, make_network: Callable[..., Any], make_batch: Callable[..., Batch],
    make_method: Callable[..., Method],
) -> None:  # fmt: skip
    batch = make_batch(images=kind == "images")
    found = []
    for order in (range(6), (3, 1, 5, 0, 2, 4)):
        torch.manual_seed(3)
        method = make_method(name, make_network(kind), **OPTIONS.get(name, {}))
        method.eval()
        found.append((losses(method, reordered(batch, order)), gradients(method), state(method)))
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(found[1], found[0], **close)
    assert len(found[0][0]) == 1 + (method.adapt_passes > 0)


def gradients(method: Method) -> dict[str, Tensor]:
    return {name: p.grad for name, p in method.named_parameters() if p.grad is not None}


def state(method: Method) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in method.state_dict().items()}


def reordered(batch: Batch, order: Sequence[int]) -> Batch:
    """Return the same samples in another order."""
    rows = torch.tensor(order)

    def moved(view: DomainView) -> DomainView:
        held = {key: value[rows] for key, value in vars(view).items() if value is not None}
        return replace(view, **held)

    assert batch.target is not None
    return replace(batch, source=moved(batch.source), target=moved(batch.target))


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_every_trainable_weight_gets_a_gradient(
    name: str, kind: str, make_network: Callable[..., Any], make_batch: Callable[..., Batch],
    make_method: Callable[..., Method],
) -> None:  # fmt: skip
    """DistributedDataParallel waits for the gradient of each trainable weight."""
    method = make_method(name, make_network(kind))
    for number, part in enumerate(phases(method, make_batch(images=kind == "images"))):
        if number:
            method.start_adapting()
        learning = {n: p for n, p in method.named_parameters() if p.requires_grad}
        terms = method(part)
        if not learning:
            assert number and not terms["loss"].requires_grad
            continue
        terms["loss"].backward()
        lacking = [n for n, p in learning.items() if p.grad is None]
        assert not lacking, f"{name}: {lacking}"
        method.zero_grad()


@pytest.fixture
def closed_setting(make_info: Callable[..., Any]) -> Any:
    """Build training info in which no source has the class CLOSED."""
    counts = make_info().class_counts
    counts[:, CLOSED] = 0
    return make_info(class_counts=counts)


def close(network: Any) -> Any:
    """Mask the row of CLOSED in the head, as the trainer does."""
    present = torch.arange(NUM_CLASSES) != CLOSED
    Classifier.mask_absent_classes(network, present)
    return network


def cut(network: Any) -> Any:
    """Remove that row from the head."""
    rows = [row for row in range(NUM_CLASSES) if row != CLOSED]
    for parameter in (network.head.weight, network.head.bias):
        parameter.data = parameter.data[rows]
    network.head.out_features = len(rows)
    return network


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_masked_class_behaves_as_if_it_did_not_exist(
    name: str, kind: str, make_network: Callable[..., Any], make_batch: Callable[..., Batch],
    make_method: Callable[..., Method], closed_setting: Any,
) -> None:  # fmt: skip
    """Losses match those of a head without that row, step by step."""
    batch = make_batch(progress=0.9, images=kind == "images")
    fewer = replace(
        batch.source, labels=batch.source.labels - (batch.source.labels > CLOSED).long()
    )
    counts = closed_setting.class_counts
    counts = torch.cat([counts[:, :CLOSED], counts[:, CLOSED + 1 :]], dim=1)
    found = []
    for network, setting, given in (
        (close(make_network(kind)), closed_setting, batch),
        (cut(make_network(kind)), replace(closed_setting, class_counts=counts),
         replace(batch, source=fewer)),
    ):  # fmt: skip
        method = make_method(name, network, info=setting, **OPTIONS.get(name, {}))
        found.append([])
        for seed in (3, 4):
            torch.manual_seed(seed)
            found[-1].append(method(phases(method, given)[0])["loss"])
            train_step(method, found[-1][-1])
        torch.manual_seed(5)
        found[-1] += losses(method, given)
    torch.testing.assert_close(found[0], found[1], rtol=1e-4, atol=1e-5)


def train_step(method: Method, loss: Tensor) -> None:
    """Take an optimizer step as the loop does, with a noticeable weight decay."""
    optimizer = torch.optim.AdamW(param_groups(method, 0.05, 0.5), eps=1e-3)
    loss.backward()
    optimizer.step()
    method.zero_grad()
    method.after_step()


@pytest.mark.parametrize(("name", "kind"), CASES)
@pytest.mark.parametrize(
    "dtype",
    [
        torch.float32,
        torch.bfloat16,
        pytest.param(torch.float16, marks=(pytest.mark.slow, pytest.mark.ci)),
    ],
)
def test_masked_class_never_changes(
    name: str, kind: str, dtype: torch.dtype, make_network: Callable[..., Any],
    make_batch: Callable[..., Batch], make_method: Callable[..., Method], closed_setting: Any,
) -> None:  # fmt: skip
    """The gradient is exactly 0: optimizers that normalize gradients amplify a tiny one."""
    network = close(make_network(kind))
    row = network.head.weight[CLOSED].clone(), network.head.bias[CLOSED].clone()
    method = make_method(name, network, info=replace(closed_setting, lineage=0.5))
    for number, part in enumerate(phases(method, make_batch(images=kind == "images"))):
        if number:
            method.start_adapting()
        with torch.autocast("cpu", dtype=dtype, enabled=dtype != torch.float32):
            terms = method(part)
        assert all(torch.isfinite(term) for term in terms.values()), terms
        if terms["loss"].requires_grad:
            terms["loss"].backward()
            for parameter in network.head.parameters():
                assert parameter.grad is None or not parameter.grad[CLOSED].any()
            learning = [p for p in method.parameters() if p.requires_grad]
            assert all(torch.isfinite(p.grad).all() for p in learning)
            torch.optim.AdamW(param_groups(method, 0.05, 0.5), eps=1e-15).step()
            method.zero_grad()
        method.after_step()
    for kept in {network, method.eval_model}:
        assert torch.equal(kept.head.weight[CLOSED], row[0])
        assert torch.equal(kept.head.bias[CLOSED], row[1])
    with torch.no_grad():
        p = method.eval_model(make_batch(images=kind == "images").target.inputs).logits.softmax(1)
    assert not p[:, CLOSED].any()


@pytest.mark.parametrize(("name", "kind"), CASES)
def test_labeled_target_samples_join_the_loss_of_every_phase(
    name: str, kind: str, make_network: Callable[..., Any], make_batch: Callable[..., Batch],
    make_method: Callable[..., Method],
) -> None:  # fmt: skip
    """The loss grows by the weighted cross-entropy of the labeled samples, and nothing else."""
    batch = make_batch(images=kind == "images")
    found = []
    for labeled in (None, batch.source):
        torch.manual_seed(3)
        method = make_method(name, still(make_network(kind)), **OPTIONS.get(name, {}))
        method.target_label_weight = 0.5
        method.eval()
        first, *_ = (replace(part, labeled=labeled) for part in phases(method, batch))
        found.append(method(first))
    logits = make_network_logits(still(make_network(kind)), batch.source)
    expected = nn.functional.cross_entropy(logits, batch.source.labels)
    torch.testing.assert_close(
        found[1]["loss"] - found[0]["loss"], 0.5 * expected, rtol=1e-3, atol=1e-4
    )
    torch.testing.assert_close(found[1]["target_labels"], expected.detach(), rtol=1e-3, atol=1e-4)


def make_network_logits(network: nn.Module, view: DomainView) -> Tensor:
    logits: Tensor = network.eval()(view.inputs).logits
    return logits
