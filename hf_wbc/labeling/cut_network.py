"""A network cut before its last block, so that the block trains without computing the rest again.

Each block before the last one is replaced by a stub that returns what it returned for an empty
image, and a hook gives the last block what it received for the cells. Everything after the block is
the network's own code, so this works for every family; the cut is compared with the whole network
before it is used. Blocks are those of `hf_wbc.models.param_groups`.

Shapes: n cells, V views (mirrored images, if the model averages over them), d features.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call

from hf_wbc.data.preprocessing import preprocess
from hf_wbc.engine.forward import FLIPS, batch_size_for
from hf_wbc.inference.runtime import backbone_module
from hf_wbc.labeling.pool import CellImages
from hf_wbc.models import PretrainedModel
from hf_wbc.models.param_groups import block_depths, block_paths

__all__ = ["CutNetwork"]

KEPT_BYTES = 2**29
"""Memory of inputs that are kept: 40,000 cells of an EfficientNet-lite0 at 128 px, 900 of a ViT-B
at 224 px."""
TOLERANCE = 1e-3
"""Relative difference of features that the cut may make."""


class CutNetwork:
    """The last block of a network, and what it receives for the cells of a pool.

    Attributes:
        start: The weights of the last block and of the layers between it and the head, by their
            name in the classifier.
    """

    def __init__(self, pretrained: PretrainedModel, images: CellImages) -> None:
        """Cut a network.

        Raises:
            ValueError: If the network has no blocks, or cannot be cut before the last one.
        """
        classifier = pretrained.classifier
        paths = block_paths(classifier)
        self._name = type(classifier.model).__name__
        if not paths:
            raise self._uncut("it has no blocks")
        self._images, self._device = images, classifier.head.weight.device
        self._whole, self._tail = backbone_module(classifier), backbone_module(classifier)
        head = f"model.{classifier.head_name}."
        last = {name for name, depth in block_depths(classifier).items() if not depth}
        self.start: Mapping[str, Tensor] = {
            name: parameter.detach()
            for name, parameter in classifier.named_parameters()
            if name in last and not name.startswith(head)
        }
        self._path, self._kept, self._num_bytes = paths[-1], dict[str, Tensor](), 0
        self._given: Tensor | None = None
        size = pretrained.preprocessing.size
        self._empty = torch.zeros(1, 3, size, size, device=self._device)
        self._stub(paths)
        self._tail.get_submodule(self._path).register_forward_pre_hook(
            lambda _, args, kwargs: _with_input(args, kwargs, self._given), with_kwargs=True
        )

    def features(self, weights: Mapping[str, Tensor], inputs: Tensor) -> Tensor:
        """Compute features (n, d), means over the views.

        Args:
            weights: Weights in place of `start`.
            inputs: What the last block receives (n, V, ...).
        """
        self._given = inputs.flatten(0, 1).to(self._device)
        found: Tensor = functional_call(self._tail, dict(weights), (self._empty,))
        return found.view(*inputs.shape[:2], -1).mean(1)

    def inputs(self, image_ids: Sequence[str]) -> Tensor:
        """Return what the last block receives for cells (n, V, ...), computed once where it fits.

        Raises:
            ValueError: If the network cannot be cut before its last block.
        """
        missing = [each for each in image_ids if each not in self._kept]
        found = dict(zip(missing, self._computed(missing), strict=True))
        for image_id, value in found.items():
            if self._num_bytes + value.nbytes <= KEPT_BYTES:
                self._kept[image_id] = value
                self._num_bytes += value.nbytes
        return torch.stack([
            found[each] if each in found else self._kept[each] for each in image_ids
        ])  # fmt: skip

    @torch.no_grad()
    def _computed(self, image_ids: Sequence[str]) -> Iterator[Tensor]:
        """Yield what the last block receives for each cell (V, ...)."""
        if not image_ids:
            return
        squares = self._images.read(image_ids)
        pixels = np.stack([squares[each] for each in image_ids])
        step = batch_size_for(pixels.shape[1:], self._device)
        for start in range(0, len(pixels), step):
            inputs, features = self._seen(pixels[start : start + step])
            if not self._kept and not start:
                self._check(inputs, features)
            yield from inputs.cpu()

    def _seen(self, pixels: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        """Return what the last block receives for squares (n, V, ...), and features (n, d)."""
        preprocessing, caught = self._images.preprocessing, list[Tensor]()
        images = preprocess(torch.from_numpy(pixels).to(self._device), preprocessing)
        block = self._whole.get_submodule(self._path)
        hook = block.register_forward_pre_hook(
            lambda _, args, kwargs: caught.append(_input(args, kwargs)), with_kwargs=True
        )
        try:
            flips = FLIPS if preprocessing.flips else FLIPS[:1]
            features = torch.stack([self._whole(images.flip(axes)) for axes in flips])
        finally:
            hook.remove()
        if len(caught) != len(flips):
            raise self._uncut("it computes the block more than once for an image")
        return torch.stack(caught, 1), features.mean(0)

    def _check(self, inputs: Tensor, features: Tensor) -> None:
        """Raise ValueError unless the cut network gives the features of the whole one."""
        try:
            found = self.features(self.start, inputs)
        except (RuntimeError, IndexError) as error:  # a later layer needs more than the block
            raise self._uncut(f"layers after it fail: {error}") from error
        if found.shape != features.shape:
            raise self._uncut("layers after it depend on earlier blocks")
        gap = float((found - features).abs().max() / features.abs().max().clamp_min(1e-6))
        if gap > TOLERANCE:
            raise self._uncut(f"its features differ by {gap:.2g} then")

    @torch.no_grad()
    def _stub(self, paths: Sequence[str]) -> None:
        """Replace the outermost blocks before the last one by what they return."""
        stubbed: list[str] = []
        for path in paths[:-1]:
            is_inside = any(path.startswith(f"{each}.") for each in stubbed)
            if not is_inside and not self._path.startswith(f"{path}."):
                stubbed.append(path)
        outputs: dict[str, Any] = {}

        def keep(path: str) -> Any:
            return lambda module, args, output: outputs.update({path: output})

        hooks = [
            self._whole.get_submodule(path).register_forward_hook(keep(path)) for path in stubbed
        ]
        try:
            self._whole(self._empty)
        finally:
            for hook in hooks:
                hook.remove()
        for path, output in outputs.items():
            self._tail.set_submodule(path, _Stub(output))

    def _uncut(self, why: str) -> ValueError:
        return ValueError(
            f"{self._name} cannot be cut before its last block: {why}; take another head, such as "
            "logistic"
        )


class _Stub(nn.Module):
    """Returns the same output for every input."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.output


def _input(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
    """Return the first tensor that a block is given."""
    return next(each for each in (*args, *kwargs.values()) if isinstance(each, Tensor))


def _with_input(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], given: Tensor | None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a block with another first tensor."""
    old = _input(args, kwargs)
    return (
        tuple(given if each is old else each for each in args),
        {name: given if each is old else each for name, each in kwargs.items()},
    )
