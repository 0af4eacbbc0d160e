"""Gradients of every method, whole or as one process's share; run by `test_losses_gather.py`.

Usage: python -m support.method_gradients RENDEZVOUS RANK WORLD
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import torch
from support.small_methods import Convolutional, Small, default_info, draw_batch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from hf_wbc.adaptation import load_method, method_names
from hf_wbc.data.batch import Batch, DomainView, TargetBatch

WITHOUT_DRAWS = {"mic": {"ratio": 0.0}, "mixstyle": {"p": 0.0}}
"""Options that disable random draws, which each process makes only for its own samples."""


def all_gradients(rank: int = 0, world: int = 1) -> dict[str, Tensor]:
    """Compute the gradients of every method, on images for the methods that need them."""
    return {
        key: value for name in method_names() for key, value in phase_gradients(name, rank, world)
    }


def phase_gradients(name: str, rank: int, world: int) -> Iterator[tuple[str, Tensor]]:
    """Return each phase's gradients after two batches, and its loss averaged over processes."""
    found = load_method(name)
    if found.closed_form:
        return
    torch.manual_seed(0)
    classifier = Convolutional() if found.needs.images else Small()
    for norm in classifier.modules():
        if isinstance(norm, nn.modules.batchnorm._BatchNorm):
            norm.eval()
            norm.train = lambda mode=True, norm=norm: norm  # each process has its own statistics
    method = found(classifier, found.parse(WITHOUT_DRAWS.get(name, {})))
    method.setup(default_info())
    method.train()
    for phase in range(1 + (found.adapt_passes > 0)):
        if phase:
            method.start_adapting()
        if not any(parameter.requires_grad for parameter in method.parameters()):
            continue
        wrapped = DistributedDataParallel(method) if world > 1 else method
        for seed in (0, 1):
            labels, images = (0, 3, 8, 9, 10, 8, 8, 3), found.needs.images
            batch = draw_batch(labels, seed=seed, images=images)
            target = share(batch.target, rank, world)
            part: Batch | TargetBatch = TargetBatch(target=target, progress=0.5, epochs=5.0)
            if not phase:
                source = share(batch.source, rank, world)
                seen = target if found.needs.target else None
                part = Batch(source=source, target=seen, progress=0.5)
            method.zero_grad()
            terms = wrapped(part)
            terms["loss"].backward()
            method.after_step()
        for key, parameter in method.named_parameters():
            if parameter.grad is not None:
                yield f"{name}/{phase}/{key}", parameter.grad.clone()
        loss = terms["loss"].detach().clone()
        if world > 1:
            dist.all_reduce(loss)
        yield f"{name}/{phase}/loss", loss / world


def share(view: DomainView, rank: int, world: int) -> DomainView:
    """Return the samples of one process."""
    held = {key: value for key, value in vars(view).items() if value is not None}
    return replace(view, **{key: value.chunk(world)[rank] for key, value in held.items()})


@contextmanager
def process_group(rendezvous: Path | str, rank: int, world: int) -> Iterator[None]:
    """Join the processes that meet at a file."""
    start = f"file://{rendezvous}"
    patience = timedelta(seconds=300)
    dist.init_process_group("gloo", start, patience, rank=rank, world_size=world)
    try:
        yield
        dist.barrier()
    finally:
        dist.destroy_process_group()


if __name__ == "__main__":
    torch.set_num_threads(1)
    rank, world = int(sys.argv[2]), int(sys.argv[3])
    with process_group(sys.argv[1], rank, world):
        all_gradients(rank, world)
