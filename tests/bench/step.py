"""A training-loop step (including input, augmentation, and clipping) against bare torch.

    python tests/bench/step.py [--model vit-tiny] [--image-size 112] [--batch-size 16] [--pairs 20]
        [--precision bf16] [--clock cpu]

Both take turns in one process on copies of one model, on the GPU if there is one; the bare step is
the forward pass, backward pass, and optimizer step on a batch already on the device. The table
lists medians, images/s, and the median ratio.
"""

import argparse
import copy

import torch
from torch.nn.functional import cross_entropy
from turns import CLOCKS, Steps, drawn_table, loop_steps, table_batches, take_turns, timed

from hf_wbc.config import TrainConfig
from hf_wbc.engine.accelerator import make_accelerator
from hf_wbc.models import freeze, load_classifier
from hf_wbc.taxonomy import NUM_CLASSES


def bare_steps(
    classifier: torch.nn.Module, config: TrainConfig, size: int, device: torch.device
) -> Steps:
    """Run forward, backward, and optimizer step on a batch in memory."""
    classifier.to(device).train()
    optimizer = torch.optim.AdamW(
        classifier.parameters(), lr=config.optim.learning_rate, fused=True
    )
    images = torch.randn(config.optim.batch_size, 3, size, size, device=device)
    labels = torch.arange(config.optim.batch_size, device=device) % NUM_CLASSES
    while True:
        with torch.autocast(
            device.type, torch.bfloat16, enabled=config.optim.mixed_precision == "bf16"
        ):
            logits = classifier(images).logits
        cross_entropy(logits.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="vit-tiny")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    options = parser.parse_args()
    clock = CLOCKS[options.clock]
    config = TrainConfig(
        sources=("source",),
        batch_size=options.batch_size,
        steps=10**5,
        mixed_precision=options.precision,
    )
    accelerator = make_accelerator(config.optim.mixed_precision)
    loaded = load_classifier(options.model, fresh=True, image_size=options.image_size)
    freeze(loaded.classifier)
    size, device = loaded.preprocessing.size, accelerator.device
    bare = bare_steps(copy.deepcopy(loaded.classifier), config, size, device)
    batches = table_batches(config, drawn_table(size), None, device)
    loop = loop_steps(loaded.classifier, config, batches, accelerator)
    pairs = take_turns(timed(bare, 1, clock), timed(loop, 1, clock), options.pairs)
    what = f"{options.model}, {size} px, batch {options.batch_size}, {options.precision}"
    print(f"| step of {what} | median ms | images/s | ratio |")
    print("|---|--:|--:|--:|")
    for name, median, ratio in zip(
        ("bare", "loop"), pairs.medians, (1.0, pairs.ratio), strict=True
    ):
        per_s = options.batch_size / median
        print(f"| {name} | {1000 * median:.1f} | {per_s:.1f} | {ratio:.3f} |")


if __name__ == "__main__":
    main()
