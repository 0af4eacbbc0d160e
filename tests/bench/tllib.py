"""DANN in our loop against the reference library's own step and loader.

    git clone https://github.com/thuml/Transfer-Learning-Library tllib
    pip install prettytable
    python tests/bench/tllib.py --tllib tllib [--images FOLDER] [--model vit-tiny]
        [--image-size 112] [--batch-size 8] [--pairs 10] [--steps 2] [--workers 0 2] [--bf16]
        [--clock cpu]

Both take turns in one process on copies of one randomly initialized network: the same backbone,
head, and discriminator, and AdamW (fused) with the same parameter groups. Our step also clips
gradients, warms up, seeds its draws, and accumulates its loss terms; tllib measures accuracies and
synchronizes on three values per step. A second row uses the network of tllib's example on its side:
a bottleneck with BatchNorm, a discriminator with BatchNorm, and SGD with momentum; our side stays
the same.

--images takes JPEG files in class folders. tllib decodes and transforms them one by one (its train
transform: resize to 256, random crop to 224, flip; for another --image-size only resize and flip,
as tllib crops only to 224), with --workers processes. Our side preprocesses them once (the time in
seconds is printed) and augments whole batches without workers: flips, rotations, shift, scale,
brightness, contrast, saturation, and hue.

Rates count source and target images; a ratio above 1 means that ours is faster.
"""

import argparse
import copy
import itertools
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reference import Files, Loader, Theirs, load_example, loader_turns, own_network, same_network
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from turns import (
    CLOCKS,
    Batches,
    Clock,
    Side,
    Steps,
    drawn_table,
    loop_steps,
    make_method,
    table_batches,
    table_of,
    take_turns,
    timed,
)

from hf_wbc.config import TrainConfig
from hf_wbc.data.batch import Batch
from hf_wbc.data.crop import Geometry, crop_and_resize
from hf_wbc.data.image_io import decode_rgb
from hf_wbc.data.table import Table
from hf_wbc.engine.accelerator import make_accelerator
from hf_wbc.models import Classifier, freeze, load_classifier
from hf_wbc.taxonomy import NUM_CLASSES

NUM_STEPS = 1000
"""Steps over which tllib's reversal strength grows; with a gamma of 1, ours is identical."""
BILINEAR = 2
INPUT_TURN = 10
"""Input-only turns have this many times the steps, to limit the effect of prefetching."""


@dataclass(frozen=True)
class Contest:
    """The settings shared by both sides."""

    example: Any
    classifier: Classifier
    batch_size: int
    size: int
    pairs: int
    num_steps: int
    """Number of steps per turn."""
    halves: tuple[Files, Files] | None
    """Image files for the source and the target, if any."""
    workers: list[int]
    clock: Clock

    def run(self, precision: str) -> None:
        """Print the losses of both and a table, ours in `precision` and tllib's in fp32."""
        config = TrainConfig(
            sources=("source",),
            target=("target",),
            method="dann",
            method_options={"gamma": 1.0},
            batch_size=self.batch_size,
            steps=NUM_STEPS,
            mixed_precision=precision,
        )
        accelerator = make_accelerator(precision)
        device = accelerator.device
        method = make_method(copy.deepcopy(self.classifier), config).to(device)

        def ours(batches: Batches) -> Side:
            classifier = copy.deepcopy(self.classifier)
            steps = loop_steps(classifier, config, batches, accelerator, method.state_dict())
            return timed(steps, self.num_steps, self.clock)

        def fixed(step: int, micro: int) -> Batch:
            return replace(batch, progress=step / NUM_STEPS)

        drawn = drawn_table(self.size), drawn_table(self.size, name="target")
        batch = table_batches(config, *drawn, device)(0, 0)
        same = same_network(self.example, method, config, device)
        if precision == "fp32":
            compare_losses(method, same, batch)
        print("\n| task | theirs, images/s | ours, images/s | ratio | lowest..highest |")
        print("|---|--:|--:|--:|--:|")
        own = own_network(self.example, self.classifier, device)
        for name, theirs in (("the same network", same), ("their network, SGD", own)):
            steps = theirs.steps(*in_memory(batch), self.num_steps)
            self.row(f"step, {name}, ours {precision}", timed(steps, 1, self.clock), ours(fixed))
        if self.halves is None:
            return
        start = time.perf_counter()
        batches = table_batches(config, *map(self.table, ("source", "target"), self.halves), device)
        took = time.perf_counter() - start
        for workers in self.workers:
            words = f"their workers {workers}"
            if precision == "fp32":
                num = INPUT_TURN * self.num_steps
                theirs = self.loaded(workers, partial(draw, num))
                ours_alone = timed(draw_ours(batches), num, self.clock)
                self.row(f"input alone, {words}", theirs, ours_alone, num)
            theirs = self.loaded(workers, lambda s, t: same.steps(s, t, self.num_steps))
            self.row(f"input + step, {words}, ours {precision}", theirs, ours(batches))
        print(f"\nonce, not in these rates: {took:.1f} s to harmonise the images")

    def loaded(self, workers: int, steps_of: Callable[[Loader, Loader], Steps]) -> Side:
        """Yield tllib turns that read the files."""
        assert self.halves
        shape = self.size, self.batch_size, workers
        return loader_turns(self.example, self.halves, *shape, steps_of, self.clock)

    def row(self, name: str, theirs: Side, ours: Side, num_steps: int = 0) -> None:
        """Run both sides in turns of the default or `num_steps` steps, and print rates."""
        pairs = take_turns(ours, theirs, self.pairs)
        num = 2 * self.batch_size * (num_steps or self.num_steps)
        ours_s, theirs_s = pairs.medians
        print(
            f"| {name} | {num / theirs_s:.1f} | {num / ours_s:.1f} | {pairs.ratio:.2f} "
            f"| {pairs.ratios[0]:.2f}..{pairs.ratios[-1]:.2f} |",
            flush=True,
        )

    def table(self, name: str, files: Files) -> Table:
        """Return the pixels of the whole frames."""
        pixels = [
            crop_and_resize(
                decode_rgb(path.read_bytes(), path.name), None, Geometry(self.size, BILINEAR)
            )
            for path, _ in files
        ]
        return table_of(np.stack(pixels), np.array([label for _, label in files]), name)


def compare_losses(method: Any, theirs: Theirs, batch: Batch) -> None:
    """Print losses and gradient norms of both on one batch, halfway through the reversal ramp."""
    assert batch.target is not None
    ours, model, adversary = copy.deepcopy((method, theirs.model, theirs.adversary))
    torch.manual_seed(0)
    terms = ours.train()(replace(batch, progress=0.5))
    terms["loss"].backward()
    torch.manual_seed(0)
    adversary.train().grl.iter_num = NUM_STEPS // 2
    logits, features = model.train()(torch.cat([batch.source.inputs, batch.target.inputs]))
    on_labels = cross_entropy(logits.chunk(2)[0], batch.source.labels)
    on_domains = adversary(*features.chunk(2))
    (on_labels + on_domains).backward()
    for name, values in {
        "ours": (terms["supervised"], terms["domain"], gradient_norm(ours)),
        "theirs": (on_labels, on_domains, gradient_norm(nn.ModuleList([model, adversary]))),
    }.items():
        supervised, domain, norm = (value.item() for value in values)
        print(
            f"{name} on one batch, fp32: supervised {supervised:.6f}, domain {domain:.6f}, "
            f"gradient norm {norm:.5f}"
        )


def gradient_norm(module: nn.Module) -> Tensor:
    return nn.utils.get_total_norm([w.grad for w in module.parameters() if w.grad is not None])


def in_memory(batch: Batch) -> tuple[Loader, Loader]:
    """Yield the same batch repeatedly, in the format of tllib's loaders."""
    assert batch.target is not None
    source = itertools.repeat((batch.source.inputs, batch.source.labels))
    return source, itertools.repeat((batch.target.inputs,))


def draw(num: int, source: Loader, target: Loader) -> Steps:
    """Run only tllib's input, `num` batches per `next`."""
    while True:
        for _ in range(num):
            next(source), next(target)
        yield


def draw_ours(batches: Batches) -> Steps:
    """Run only our input."""
    for step in itertools.count():
        batches(step % NUM_STEPS, 0)
        yield


def find_images(folder: Path, num: int) -> tuple[Files, Files]:
    """Return some of the JPEG files in class folders, half of them per side."""
    paths = sorted(path for path in folder.rglob("*.jpg") if not path.name.startswith("."))
    if len(paths) < num:
        raise SystemExit(f"{folder} holds {len(paths)} .jpg files; give --num-images at most that")
    names = sorted({path.parent.name for path in paths})
    drawn = np.random.default_rng(0).choice(len(paths), num, replace=False)
    files = [(paths[i], names.index(paths[i].parent.name) % NUM_CLASSES) for i in drawn]
    return files[: num // 2], files[num // 2 :]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tllib", type=Path, help="a checkout of the reference library")
    parser.add_argument("--images", type=Path, help="a folder of class folders of JPEG files")
    parser.add_argument("--num-images", type=int, default=2000)
    parser.add_argument("--model", default="vit-tiny")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--batch-size", type=int, default=8, help="source images, and target ones")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--steps", type=int, default=2, help="in a turn")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2], help="of theirs")
    parser.add_argument("--bf16", action="store_true", help="ours in bf16 too, theirs in fp32")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    options = parser.parse_args()
    if options.clock == "cpu" and any(options.workers):
        parser.error("--clock cpu does not see what workers do; give --workers 0")
    if options.tllib is None:
        print(
            "skipped: no checkout of the reference library; clone "
            "https://github.com/thuml/Transfer-Learning-Library and give it with --tllib"
        )
        return
    example = load_example(options.tllib)
    torch.backends.cudnn.benchmark = True  # as in tllib's example, for both
    loaded = load_classifier(options.model, fresh=True, image_size=options.image_size)
    freeze(loaded.classifier)
    size, num = loaded.preprocessing.size, options.batch_size
    print(
        f"{options.model}, {size} px, {num} + {num} images a step, "
        f"{torch.get_num_threads()} thread(s), {options.pairs} pairs of {options.steps} steps, "
        f"{options.clock} time"
    )
    halves = find_images(options.images, options.num_images) if options.images else None
    clock = CLOCKS[options.clock]
    counts = options.pairs, options.steps
    contest = Contest(
        example, loaded.classifier, num, size, *counts, halves, options.workers, clock
    )
    for precision in ("fp32", "bf16") if options.bf16 else ("fp32",):
        contest.run(precision)


if __name__ == "__main__":
    main()
