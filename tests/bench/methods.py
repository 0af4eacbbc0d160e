"""Training-step time of adaptation methods relative to source_only with as many images.

    python tests/bench/methods.py [--methods dann cdan ...] [--model vit-tiny] [--image-size 112]
        [--batch-size 8] [--pairs 10] [--precision bf16] [--clock cpu]

source_only uses 2B source images, a method B source and B target images. Both use the full training
loop, including input, augmentation, and clipping, and take turns in one process on copies of one
model; a ratio is the median over the pairs. Pixels are random.
"""

import argparse
import copy

from turns import CLOCKS, drawn_table, loop_steps, table_batches, take_turns, timed

from hf_wbc.adaptation import load_method
from hf_wbc.config import TrainConfig
from hf_wbc.engine.accelerator import make_accelerator
from hf_wbc.models import freeze, load_classifier

METHODS = ("dann", "cdan", "mcc", "coral", "dan", "jan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("--model", default="vit-tiny")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--batch-size", type=int, default=8, help="B")
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--clock", choices=list(CLOCKS), default="wall")
    options = parser.parse_args()
    clock = CLOCKS[options.clock]
    num = 2 * options.batch_size
    plain = TrainConfig(
        sources=("source",),
        batch_size=num,
        steps=10**5,
        mixed_precision=options.precision,
    )
    accelerator = make_accelerator(options.precision)
    loaded = load_classifier(options.model, fresh=True, image_size=options.image_size)
    freeze(loaded.classifier)
    size, device = loaded.preprocessing.size, accelerator.device
    source, target = drawn_table(size), drawn_table(size, name="target")
    base = loop_steps(
        copy.deepcopy(loaded.classifier),
        plain,
        table_batches(plain, source, None, device),
        accelerator,
    )
    print(
        f"{options.model}, {size} px, {num} images a step, {options.precision}, {device.type}, "
        f"{options.pairs} pairs, {options.clock} time\n\n"
        "| method | source_only, median ms | method, median ms | ratio | lowest..highest |\n"
        "|---|--:|--:|--:|--:|"
    )
    for name in options.methods:
        config = plain.replace(method=name, batch_size=options.batch_size)
        batches = table_batches(
            config, source, target if load_method(name).needs.target else None, device
        )
        steps = loop_steps(copy.deepcopy(loaded.classifier), config, batches, accelerator)
        pairs = take_turns(timed(base, 1, clock), timed(steps, 1, clock), options.pairs)
        base_s, method_s = pairs.medians
        print(
            f"| `{name}` | {1000 * base_s:.1f} | {1000 * method_s:.1f} | {pairs.ratio:.3f} "
            f"| {pairs.ratios[0]:.3f}..{pairs.ratios[-1]:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
