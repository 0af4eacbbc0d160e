"""Statistics of the whole batch, whatever the number of processes that share it.

A covariance, a kernel mean or a class marginal of half a batch is not half of that of the whole.
`whole` gives every process all samples, so that each computes the same loss as one process with
the doubled batch would, value and gradient.
"""

import torch
from torch import Tensor
from torch import distributed as dist


def whole(values: Tensor) -> Tensor:
    """Samples (B, ...) of this process to those of all (world * B, ...), in order of rank.

    Gradients reach this process's own samples, times the number of processes: the mean over
    processes that DistributedDataParallel takes of them is then the gradient of the loss.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return values
    world, rank = dist.get_world_size(), dist.get_rank()
    fixed = values.detach().contiguous()
    parts = [torch.empty_like(fixed) for _ in range(world)]
    dist.all_gather(parts, fixed)
    if values.requires_grad:
        parts[rank] = fixed + world * (values - fixed)
    return torch.cat(parts)
