"""Predictions of a table, with and without mirrored images."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from torch import Tensor, nn

from hf_wbc.data.preprocessing import ImagePreprocessing, normalize
from hf_wbc.data.table import Table
from hf_wbc.engine.forward import Runtime, forward_batches, predict
from hf_wbc.models import Output
from hf_wbc.taxonomy import NUM_CLASSES

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.3, 0.4)
SIDE = 4


class Linear(nn.Module):
    """A classifier that is sensitive to pixel positions."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Linear(3 * SIDE * SIDE, 5)
        self.head = nn.Linear(5, NUM_CLASSES)

    def forward(self, inputs: Tensor) -> Output:
        features = self.body(inputs.flatten(1)).relu()
        return Output(features, self.head(features))


@pytest.fixture
def table() -> Table:
    rng = np.random.default_rng(0)
    return Table(
        chunks=(rng.integers(0, 256, (10, SIDE, SIDE, 3), dtype=np.uint8),),
        labels=np.zeros(10, dtype=np.int64),
        domains=np.zeros(10, dtype=np.int64),
        image_ids=[str(row) for row in range(10)],
        domain_names=("a",),
    )


def plain(model: nn.Module, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compute logits and features of pixels (N, H, H, 3)."""
    with torch.no_grad():
        output = model(normalize(torch.from_numpy(pixels.copy()), MEAN, STD))
    return output.logits.numpy(), output.features.numpy()


@pytest.mark.parametrize("batch_size", [3, 64])
def test_flips_average_both_mirrors_and_half_turn(table: Table, batch_size: int) -> None:
    model, pixels = Linear(), table.chunks[0]
    how = ImagePreprocessing(MEAN, STD, flips=True)
    found = predict(model, table, how, Accelerator(cpu=True), batch_size)
    views = [pixels, pixels[:, ::-1], pixels[:, :, ::-1], np.rot90(pixels, 2, (1, 2))]
    logits, features = zip(*(plain(model, view) for view in views), strict=True)
    np.testing.assert_allclose(found.logits, np.mean(logits, axis=0), atol=1e-5)
    np.testing.assert_allclose(found.features, np.mean(features, axis=0), atol=1e-5)


def test_images_are_not_flipped_by_default(table: Table) -> None:
    model = Linear()
    found = predict(model, table, ImagePreprocessing(MEAN, STD), Accelerator(cpu=True))
    logits, features = plain(model, table.chunks[0])
    np.testing.assert_allclose(found.logits, logits, atol=1e-5)
    np.testing.assert_allclose(found.features, features, atol=1e-5)


def test_mirrored_table_gets_same_predictions_with_flips(table: Table) -> None:
    model, how = Linear(), ImagePreprocessing(MEAN, STD, flips=True)
    mirrored = Table(
        (table.chunks[0][:, :, ::-1].copy(),), table.labels, table.domains, table.image_ids, ("a",)
    )
    found = [predict(model, side, how, Accelerator(cpu=True)) for side in (table, mirrored)]
    np.testing.assert_allclose(found[0].logits, found[1].logits, atol=1e-5)


def test_runtime_uses_its_own_batches_and_torch_computes_head(table: Table) -> None:
    model, seen = Linear(), []

    def features(inputs: Tensor) -> Tensor:
        seen.append(len(inputs))
        found: Tensor = model.body(inputs.flatten(1)).relu()
        return found

    runtime, how = Runtime("other", "fp32", features, "1", 4), ImagePreprocessing(MEAN, STD)
    found = predict(model, table, how, Accelerator(cpu=True), 64, runtime=runtime)
    logits, expected = plain(model, table.chunks[0])
    assert seen == [4, 4, 2]
    np.testing.assert_allclose(found.logits, logits, atol=1e-6)
    np.testing.assert_allclose(found.features, expected, atol=1e-6)


def test_network_inputs_are_neither_preprocessed_nor_flipped() -> None:
    how, inputs = ImagePreprocessing(MEAN, STD, flips=True), torch.randn(3, 5)
    ((doubled,),) = forward_batches(lambda x: (2 * x,), [inputs], how, torch.device("cpu"))
    torch.testing.assert_close(doubled, 2 * inputs, rtol=0, atol=0)
