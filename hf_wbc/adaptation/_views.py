"""Several views of a batch in one pass through the classifier, for methods with a strong view."""

import torch
from torch import Tensor

from hf_wbc.data.batch import Batch
from hf_wbc.models import Classifier, Output


def target_views(batch: Batch) -> tuple[Tensor, Tensor]:
    """The target's weak and strong view (B, ...)."""
    assert batch.target is not None and batch.target.strong is not None
    return batch.target.inputs, batch.target.strong


def in_one_pass(classifier: Classifier, *inputs: Tensor) -> list[Output]:
    """The classifier's output for each of the inputs (B_i, ...), which share BatchNorm's batch."""
    output = classifier(torch.cat(inputs))
    sizes = [len(each) for each in inputs]
    parts = zip(output.features.split(sizes), output.logits.split(sizes), strict=True)
    return [Output(features, logits) for features, logits in parts]
