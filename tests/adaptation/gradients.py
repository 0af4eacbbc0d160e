"""Run by torchrun in `test_gather.py`: gradients of every method, each process with its share.

python -m torch.distributed.run --nproc-per-node N gradients.py OUT
"""

import importlib.util
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from torch import distributed as dist
from torch.nn.parallel import DistributedDataParallel

from hf_wbc.adaptation import load_method, method_names
from hf_wbc.data.batch import Batch, TargetBatch, View

spec = importlib.util.spec_from_file_location("shared", Path(__file__).with_name("conftest.py"))
assert spec and spec.loader
shared = importlib.util.module_from_spec(spec)
spec.loader.exec_module(shared)


def share(view: View, rank: int, world: int) -> View:
    """The samples of one process."""
    held = {key: value for key, value in vars(view).items() if value is not None}
    return replace(view, **{key: value.chunk(world)[rank] for key, value in held.items()})


def phase_gradients(name: str, rank: int, world: int) -> Iterator[tuple[str, Tensor]]:
    """The gradients of each phase after two batches, and the terms' mean over processes."""
    found = load_method(name)
    torch.manual_seed(0)
    classifier = shared.Small()
    classifier.norm.eval()
    classifier.norm.train = lambda mode=True: classifier.norm  # each process has its own statistics
    method = found(classifier, found.parse({}))
    method.setup(shared.default_setting())
    method.train()
    for phase in range(1 + (found.adapt_passes > 0)):
        if phase:
            method.start_adapting()
        if not any(parameter.requires_grad for parameter in method.parameters()):
            continue
        wrapped = DistributedDataParallel(method)
        for seed in (0, 1):
            batch = shared.draw_batch((0, 3, 8, 9, 10, 8, 8, 3), seed=seed)
            target = share(batch.target, rank, world)
            part: Batch | TargetBatch = TargetBatch(target=target, progress=0.5)
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
        dist.all_reduce(loss)
        yield f"{name}/{phase}/loss", loss / world


if __name__ == "__main__":
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.set_num_threads(1)
    gathered: dict[str, Tensor] = {}
    for name in method_names():
        if not load_method(name).needs.images:
            gathered |= dict(phase_gradients(name, rank, world))
    if rank == 0:
        save_file(gathered, sys.argv[1])
    dist.barrier()
    dist.destroy_process_group()
