"""Forward several views of a batch in a single pass."""

from collections.abc import Callable
from typing import Any

import torch

from hf_wbc.adaptation.losses import forward_together, target_views
from hf_wbc.data.batch import Batch


def test_forward_together_matches_separate_passes(small: Any) -> None:
    small.eval()
    inputs = [torch.randn(number, 6) for number in (2, 1, 4)]
    outputs = forward_together(small, *inputs)
    assert len(outputs) == 3
    for found, each in zip(outputs, inputs, strict=True):
        torch.testing.assert_close(found.features, small(each).features)
        torch.testing.assert_close(found.logits, small(each).logits)


def test_forward_together_updates_running_statistics_once(small: Any) -> None:
    forward_together(small, torch.randn(3, 6), torch.randn(3, 6))
    assert small.norm.num_batches_tracked == 1


def test_target_views_are_weak_and_strong(
    make_batch: Callable[..., Batch],
) -> None:
    batch = make_batch()
    assert batch.target is not None
    weak, strong = target_views(batch)
    assert weak is batch.target.inputs and strong is batch.target.strong
