"""A step of the training loop (input, augmentation, clipping and all) against bare torch.

    python tests/bench/step.py [--model vit-tiny] [--batch-size 16] [--pairs 20] [--precision bf16]

Both take turns in one process on copies of one model, on the GPU if there is one; the bare step is
forward, backward and optimizer step on a batch that lies on the device. The table gives medians,
images/s and the median ratio.
"""

import argparse
import copy
import statistics
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from hf_wbc.adaptation import Setting, load_method
from hf_wbc.config import TrainConfig
from hf_wbc.data.stream import BatchStream
from hf_wbc.data.table import Table
from hf_wbc.engine.accelerator import make_accelerator
from hf_wbc.engine.loop import optimise
from hf_wbc.engine.trainer import Window
from hf_wbc.models import freeze, load_classifier, param_groups
from hf_wbc.taxonomy import NUM_CLASSES

if TYPE_CHECKING:
    from accelerate import Accelerator


def drawn_table(num: int, size: int) -> Table:
    """Random pixels: what is in the images does not change the time."""
    rng = np.random.default_rng(0)
    return Table(
        chunks=(rng.integers(0, 256, (num, size, size, 3), dtype=np.uint8),),
        labels=np.arange(num) % NUM_CLASSES,
        domains=np.zeros(num, np.int64),
        image_ids=[str(index) for index in range(num)],
        domain_names=("drawn",),
    )


def bare_steps(
    classifier: torch.nn.Module, config: TrainConfig, size: int, device: torch.device
) -> Iterator[None]:
    """Forward, backward, step on a batch in memory."""
    classifier.to(device).train()
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=config.lr, fused=True)
    images = torch.randn(config.batch_size, 3, size, size, device=device)
    labels = torch.arange(config.batch_size, device=device) % NUM_CLASSES
    while True:
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            logits = classifier(images).logits
        cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield


def loop_steps(
    classifier: torch.nn.Module, config: TrainConfig, size: int, accelerator: "Accelerator"
) -> Iterator[None]:
    """What `hf-wbc train` does between two evaluations."""
    method_class = load_method(config.method)
    method = method_class(classifier, method_class.parse({}))
    table = drawn_table(512, size)
    counts = torch.bincount(torch.from_numpy(table.labels), minlength=NUM_CLASSES)[None]
    method.setup(Setting(config.steps, ("drawn",), counts, 0))
    method.to(accelerator.device)
    optimizer = torch.optim.AdamW(param_groups(method, config.lr, config.weight_decay), fused=True)
    for group in optimizer.param_groups:
        group["peak_lr"] = group["lr"]
    method, optimizer = accelerator.prepare(method, optimizer)
    stream = BatchStream(
        table,
        batch_size=config.batch_size,
        num_steps=config.steps,
        augmentation=config.augmentation,
        device=accelerator.device,
    )
    window = Window(accelerator)
    for _, terms in optimise(method, optimizer, stream, None, config, accelerator):
        window.add(terms)
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="vit-tiny")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    options = parser.parse_args()
    config = TrainConfig(
        sources=("drawn",),
        batch_size=options.batch_size,
        steps=10**6,
        precision=options.precision,
    )
    accelerator = make_accelerator(config.precision)
    loaded = load_classifier(options.model, fresh=True)
    freeze(loaded.classifier)
    size = loaded.preprocessing.size
    bare = bare_steps(copy.deepcopy(loaded.classifier), config, size, accelerator.device)
    loop = loop_steps(loaded.classifier, config, size, accelerator)
    times: dict[str, list[float]] = {"bare": [], "loop": []}
    for pair in range(options.pairs + 3):
        for name, steps in (("bare", bare), ("loop", loop)):
            start = time.perf_counter()
            next(steps)
            if accelerator.device.type == "cuda":
                torch.cuda.synchronize()
            if pair >= 3:
                times[name].append(time.perf_counter() - start)
    ratio = statistics.median(b / a for a, b in zip(times["bare"], times["loop"], strict=True))
    what = f"{options.model}, batch {options.batch_size}, {options.precision}"
    print(f"| step of {what} | median ms | images/s | ratio |")
    print("|---|---|---|---|")
    for name, against in (("bare", 1.0), ("loop", ratio)):
        median = statistics.median(times[name])
        per_s = options.batch_size / median
        print(f"| {name} | {1000 * median:.1f} | {per_s:.0f} | {against:.3f} |")


if __name__ == "__main__":
    main()
