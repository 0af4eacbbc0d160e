"""SHOT (Liang et al. 2020): information maximization and centroid labels under a frozen head."""

import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from scipy.stats import entropy as scipy_entropy

from hf_wbc.adaptation import Method, load_method
from hf_wbc.adaptation.losses import entropy, prior_divergence
from hf_wbc.adaptation.methods.shot import pseudo_labels
from hf_wbc.data.batch import Batch, TargetBatch, TargetView
from hf_wbc.models import Classifier, freeze
from hf_wbc.taxonomy import NUM_CLASSES


def target_of(batch: Batch, passes: float = 5.0) -> TargetBatch:
    assert batch.target is not None
    return TargetBatch(target=batch.target, progress=passes / 16, epochs=passes)


@pytest.mark.parametrize("shape", [(1, 2), (5, 3), (8, NUM_CLASSES)])
@pytest.mark.parametrize("uniform", [True, False])
def test_information_maximization_matches_paper(
    shape: tuple[int, int], uniform: bool, assert_loss_is: Callable[..., None]
) -> None:
    rng = np.random.default_rng(0)
    num_classes = shape[1]
    prior = np.full(num_classes, 1 / num_classes)
    if not uniform:
        prior = rng.dirichlet(np.ones(num_classes))

    def reference(z: np.ndarray) -> float:
        p = softmax(z, axis=1)
        divergence = scipy_entropy(p.mean(0), prior)  # Kullback-Leibler
        return float(scipy_entropy(p, axis=1).mean() + divergence - np.log(num_classes))

    assert_loss_is(
        lambda z: entropy(z).mean() + prior_divergence(z.softmax(1), torch.from_numpy(prior)),
        reference,
        rng.normal(size=shape),
    )


def test_balanced_certainty_is_minus_ln_c_and_uniform_is_zero() -> None:
    prior = torch.full((NUM_CLASSES,), 1 / NUM_CLASSES)
    for logits, expected in (
        (100 * torch.eye(NUM_CLASSES), -math.log(NUM_CLASSES)),
        (torch.zeros(3, NUM_CLASSES), 0.0),
    ):
        found = entropy(logits).mean() + prior_divergence(logits.softmax(1), prior)
        assert found.item() == pytest.approx(expected, abs=1e-5)


def test_concentration_is_minimal_at_the_prior() -> None:
    prior = torch.tensor([0.7, 0.2, 0.1])
    least = prior_divergence(prior[None], prior)
    for mean in ([1 / 3, 1 / 3, 1 / 3], [0.75, 0.15, 0.1], [0.65, 0.25, 0.1]):
        assert prior_divergence(torch.tensor([mean]), prior) > least


def test_head_is_frozen_and_the_rest_trains(
    small: Any, make_batch: Callable[..., Batch], make_method: Callable[..., Method]
) -> None:
    method = make_method("shot", small)
    for _ in range(2):
        method.start_adapting()
        assert {n.split(".")[1] for n, p in method.named_parameters() if p.requires_grad} == {
            "norm", "project",
        }  # fmt: skip
    method(target_of(make_batch()))["loss"].backward()
    assert small.project.weight.grad.abs().sum() > 0
    assert small.head.weight.grad is None


def test_loss_is_the_sum_of_its_terms(
    small: Any, make_batch: Callable[..., Batch], make_method: Callable[..., Method]
) -> None:
    method = make_method("shot", small, beta=0.7, diversity=0.5)
    method.start_adapting()
    batch = target_of(make_batch((8,) * 12))
    terms = method(batch)
    output = small(batch.target.inputs)
    z, f = output.logits.detach().double().numpy(), output.features.detach().double().numpy()
    p = torch.from_numpy(softmax(z, axis=1))
    labels = pseudo_labels(torch.from_numpy(f), p).numpy()
    expected = {
        "entropy": scipy_entropy(softmax(z, axis=1), axis=1).mean(),
        "concentration": -scipy_entropy(softmax(z, axis=1).mean(0)),
        "pseudo": -log_softmax(z, axis=1)[np.arange(12), labels].mean(),
    }
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-4), name
    total = expected["entropy"] + 0.5 * expected["concentration"] + 0.7 * expected["pseudo"]
    assert terms["loss"].item() == pytest.approx(total, rel=1e-4)


def test_memory_stores_each_sample_by_its_row(
    small: Any, make_batch: Callable[..., Batch], make_method: Callable[..., Method]
) -> None:
    method = make_method("shot", small)
    method.start_adapting()
    batch = target_of(make_batch())
    rows = torch.tensor([99, 3, 50, 7, 20, 1])
    batch = replace(batch, target=replace(batch.target, index=rows))
    method(batch)
    output = small(batch.target.inputs)
    state = method.state_dict()
    torch.testing.assert_close(state["features"][rows], output.features)
    torch.testing.assert_close(state["predictions"][rows], output.logits.softmax(1))
    assert (state["predictions"].sum(1) > 0).sum() == 6


def test_first_pass_only_estimates_the_prior(
    small: Any, make_batch: Callable[..., Batch], make_method: Callable[..., Method]
) -> None:
    method = make_method("shot", small, prior="estimated")
    method.start_adapting()
    first = target_of(make_batch(), passes=0.0)
    terms = method(first)
    terms["loss"].backward()
    assert terms["loss"].item() == 0
    assert small.project.weight.grad.abs().max() == 0
    p = small(first.target.inputs).logits.detach().softmax(1)
    prior = method.state_dict()["prior"].clone()
    torch.testing.assert_close(prior, (p.sum(0) + 1) / (6 + NUM_CLASSES))
    assert method(target_of(make_batch(seed=1), passes=1.0))["loss"].item() != 0
    assert torch.equal(method.state_dict()["prior"], prior)


def test_uniform_prior_stays_uniform(
    small: Any, make_batch: Callable[..., Batch], make_method: Callable[..., Method]
) -> None:
    method = make_method("shot", small)
    method.start_adapting()
    method(target_of(make_batch(), passes=0.0))
    assert (method.state_dict()["prior"] == 1 / NUM_CLASSES).all()


def test_resumed_memory_gives_same_loss(
    small: Any, make_batch: Callable[..., Batch], make_method: Callable[..., Method]
) -> None:
    method = make_method("shot", small)
    method.start_adapting()
    method(target_of(make_batch(seed=1), passes=0.0))
    again = make_method("shot", deepcopy(small))
    again.start_adapting()
    again.load_state_dict(deepcopy(method.state_dict()))
    batch = target_of(make_batch())
    assert torch.equal(method(batch)["loss"], again(batch)["loss"])


def test_estimated_prior_preserves_proportions_under_label_shift(
    make_method: Callable[..., Method], small: Any
) -> None:
    """Two well-separated classes, 95 to 5, and a model that distinguishes them."""
    torch.manual_seed(0)
    true = (torch.arange(100) >= 95).long()
    inputs = 0.5 * torch.randn(100, 6)
    inputs[:, 0] += 4.0 * true - 2
    with torch.no_grad():
        for layer in (small.project, small.head):
            layer.weight.zero_()
            layer.bias.zero_()
        small.project.weight[0, 0] = 1
        small.project.bias[0] = inputs[:, 0].mean() / inputs[:, 0].std()
        small.head.bias[2:] = -20
        small.head.weight[0, 0], small.head.weight[1, 0] = -1, 1
    rows = torch.arange(100)
    view = TargetView(inputs=inputs, index=rows, domains=torch.zeros_like(rows))
    accuracy = {}
    for prior in ("uniform", "estimated"):
        network = deepcopy(small)
        method = make_method("shot", network, prior=prior)
        method.start_adapting()
        learning = [p for p in method.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(learning, lr=0.05)
        for step in range(150):
            method(TargetBatch(target=view, epochs=float(step)))["loss"].backward()
            optimizer.step()
            optimizer.zero_grad()
        found = network.eval()(inputs).logits.argmax(1)
        accuracy[prior] = (found == true).float().mean().item()
    assert accuracy["estimated"] > 0.95
    assert accuracy["uniform"] < 0.75


def test_bottleneck_is_trained_under_frozen_head(make_info: Callable[..., Any]) -> None:
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = ViTConfig(**sizes, intermediate_size=8, image_size=8, patch_size=4, num_labels=11)
    classifier = Classifier(ViTForImageClassification(config))
    freeze(classifier, "frozen")
    classifier.add_bottleneck(4, seed=0)
    found = load_method("shot")
    method = found(classifier, found.parse({}))
    method.setup(make_info())
    method.start_adapting()
    learning = {name for name, p in classifier.named_parameters() if p.requires_grad}
    assert learning == {f"bottleneck.{part}.{kind}" for part in ("norm", "project")
                        for kind in ("weight", "bias")}  # fmt: skip


@pytest.mark.parametrize(
    ("passes", "message"),
    [(0.0, "gives 0 passes .* after the first one; omit it for 16 passes"),
     (0.4, "gives 0.4 passes .* use 40 times as many steps, or omit it"),
     (1.0, "use 16 times as many steps")],
)  # fmt: skip
def test_second_phase_without_training_steps_is_refused(
    passes: float, message: str, small: Any, make_method: Any, make_info: Callable[..., Any]
) -> None:
    with pytest.raises(ValueError, match=message):
        make_method("shot", small, info=make_info(adapt_passes=passes))


def test_memory_exists_only_in_second_phase(small: Any, make_method: Callable[..., Method]) -> None:
    method = make_method("shot", small)
    before = {name: value.numel() for name, value in method.state_dict().items()}
    method.start_adapting()
    after = {name: value.numel() for name, value in method.state_dict().items()}
    assert {name: after[name] for name in after if name not in before} == {
        "features": 100 * 4, "predictions": 100 * NUM_CLASSES,
    }  # fmt: skip


def test_warm_up_depends_on_passes_and_not_on_progress(
    small: Any, make_batch: Callable[..., Batch], make_method: Callable[..., Method]
) -> None:
    method = make_method("shot", small)
    method.start_adapting()
    batch = target_of(make_batch())
    for progress, passes, learns in ((0.9, 0.99, False), (0.0, 1.0, True)):
        loss = method(replace(batch, progress=progress, epochs=passes))["loss"]
        assert (loss.item() != 0) == learns


def test_class_missing_from_sources_is_in_no_memory_or_prior(
    small: Any, make_batch: Callable[..., Batch], make_method: Any, make_info: Callable[..., Any]
) -> None:
    counts = make_info().class_counts
    counts[:, 4] = 0
    method = make_method("shot", small, info=make_info(class_counts=counts))
    method.start_adapting()
    method(target_of(make_batch()))
    assert method.predictions.shape == (100, NUM_CLASSES - 1)
    torch.testing.assert_close(method.prior, torch.full((10,), 0.1))


@pytest.mark.parametrize(
    ("option", "message"),
    [({"beta": -1}, "beta is -1"), ({"diversity": -1}, "diversity is -1"),
     ({"prior": "nope"}, "choose from uniform, estimated")],
)  # fmt: skip
def test_option_out_of_range_is_refused(option: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_method("shot").parse(option)
