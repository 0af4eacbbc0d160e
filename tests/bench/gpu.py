"""Training on a GPU: speed, memory, input, DANN, compilation, resumption, two processes.

    python tests/bench/gpu.py [--out gpu.md]            # under eight minutes on one card
    python tests/bench/gpu.py --tiny                    # on a CPU at a toy size, not compiled

Networks are fresh from their configuration and pixels are random and in memory; steps include input
and augmentation, as in training. The rate of a card is its dense bf16 rate from the data sheet, and
operations are counted in matrix products and convolutions, forward and backward. "Input" is the
share of a step that disappears when every step gets the same finished batch.
"""

import argparse
import copy
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from turns import Batches, Steps, drawn_table, loop_steps, table_batches

from hf_wbc.config import TrainConfig
from hf_wbc.engine.accelerator import make_accelerator
from hf_wbc.models import Classifier, freeze, load_classifier

PEAK = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "L4": 121e12}
"""Dense bf16 operations per second, from the vendor's data sheets."""
NETWORKS = {"vit-base": 224, "convnextv2-tiny": 224}
WARM_UP, STEPS, BATCH = 5, 20, 128


def make_config(batch_size: int, method: str = "source_only") -> TrainConfig:
    return TrainConfig(
        sources=("source",),
        batch_size=batch_size,
        steps=10**5,
        mixed_precision="bf16",
        method=method,
    )


def seconds_per_step(steps: Steps, num: int) -> float:
    """Return the median time of a step after a warm-up, in seconds."""
    for _ in range(WARM_UP):
        next(steps)
    times = []
    for _ in range(num):
        _wait()
        start = time.perf_counter()
        next(steps)
        _wait()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def training_steps(
    classifier: Classifier,
    config: TrainConfig,
    size: int,
    accelerator: Any,
    *,
    is_fixed: bool = False,
    is_compiled: bool = False,
) -> Steps:
    """Return the steps of the training loop on a copy of a network.

    Args:
        is_fixed: Repeat the first batch, without input.
        is_compiled: Compile the network with `torch.compile`.
    """
    own = copy.deepcopy(classifier)
    if is_compiled:
        own.model.compile()
    needs_target = config.adapt.method != "source_only"
    target = drawn_table(size, name="target") if needs_target else None
    batches = table_batches(config, drawn_table(size), target, accelerator.device)
    if is_fixed:
        batches = _repeated(batches)
    return loop_steps(own, config, batches, accelerator)


def _repeated(batches: Batches) -> Batches:
    first = batches(0, 0)
    return lambda step, micro: first


def operations_per_image(classifier: Classifier, size: int) -> float:
    """Count the operations of a forward and backward pass, two for a multiply-add."""
    from torch.utils.flop_counter import FlopCounterMode

    network = copy.deepcopy(classifier).train()
    images = torch.randn(2, 3, size, size, device=network.head.weight.device)
    with FlopCounterMode(display=False) as counter:
        network(images).logits.sum().backward()
    return counter.get_total_flops() / 2


def network_rows(options: argparse.Namespace) -> Iterator[str]:
    """Measure every network with and without compilation."""
    yield "| network | px | batch | compiled | images/s | of the bf16 rate | memory, GiB | input |"
    yield "|---|--:|--:|---|--:|--:|--:|--:|"
    accelerator = make_accelerator("bf16")
    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    peak = next((rate for card, rate in PEAK.items() if card in name), None)
    for network, size in options.networks.items():
        loaded = load_classifier(network, fresh=True, image_size=size).classifier
        freeze(loaded)
        loaded.to(accelerator.device)
        operations = operations_per_image(loaded, size)
        for is_compiled in (False,) if options.tiny else (False, True):
            if torch.cuda.is_available():
                torch.cuda.reset_peak_memory_stats()
            config = make_config(options.batch_size)
            try:
                step_s, fixed_s = (
                    seconds_per_step(
                        training_steps(
                            loaded,
                            config,
                            size,
                            accelerator,
                            is_fixed=is_fixed,
                            is_compiled=is_compiled,
                        ),
                        options.steps,
                    )
                    for is_fixed in (False, True)
                )
            except Exception as error:  # compilation fails in many ways; the row says how
                yield f"| {network} | {size} | | {is_compiled} | {type(error).__name__} | | | |"
                continue
            per_s = options.batch_size / step_s
            share = f"{per_s * operations / peak:.1%}" if peak else "unknown"
            memory = torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0
            yield (
                f"| {network} | {size} | {options.batch_size} | {is_compiled} | {per_s:.1f} "
                f"| {share} | {memory:.1f} | {max(0.0, 1 - fixed_s / step_s):.1%} |"
            )


def dann_rows(options: argparse.Namespace) -> Iterator[str]:
    """Compare a step of DANN with one of source_only on as many images."""
    network, size = next(iter(options.networks.items()))
    accelerator = make_accelerator("bf16")
    loaded = load_classifier(network, fresh=True, image_size=size).classifier
    freeze(loaded)
    loaded.to(accelerator.device)
    plain, dann = (
        seconds_per_step(training_steps(loaded, config, size, accelerator), options.steps)
        for config in (
            make_config(options.batch_size),
            make_config(options.batch_size // 2, "dann"),
        )
    )
    yield f"DANN's step takes {dann / plain:.3f} of source_only's on as many images of {network}."


def resumption_rows(folder: Path) -> Iterator[str]:
    """Compare the weights of an interrupted and resumed run with those of an undisturbed one."""
    from safetensors.torch import load_file

    from hf_wbc.engine.run import run

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from conftest import write_domain

    write_domain(folder / "home", name="home", seed=1)
    config = TrainConfig(
        sources=(str(folder / "home"),),
        model="vit-tiny",
        from_scratch=True,
        image_size=64,
        steps=20,
        batch_size=22,
        eval_steps=5,
        mixed_precision="bf16",
    )

    def stop(row: Any) -> None:
        if row["step"] == 12:
            raise KeyboardInterrupt

    cache = folder / "cache"
    with suppress(KeyboardInterrupt):
        run(config, folder / "stopped", cache, on_progress=stop)
    found = [run(config, folder / name, cache).model for name in ("stopped", "whole")]
    resumed, whole = (load_file(model / "model.safetensors") for model in found)
    difference = max((resumed[name] - whole[name]).abs().max().item() for name in whole)
    yield f"Resumed against uninterrupted weights, 20 steps: largest difference {difference:g}."


def sharing_rows(options: argparse.Namespace) -> Iterator[str]:
    """Train in one process, then in two at once on the same card."""
    words = [sys.executable, __file__, "--part", "rate", *(["--tiny"] if options.tiny else [])]
    rates = []
    for num in (1, 2):
        processes = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(num)]
        rates.append(sum(float(each.communicate()[0].split()[-1]) for each in processes))
    yield (
        f"Two independent processes on one card: {rates[1]:.1f} images/s together, {rates[0]:.1f} "
        f"for one ({rates[1] / rates[0]:.2f} x)."
    )


def rate(options: argparse.Namespace) -> float:
    """Return the images/s of the first network in this process."""
    network, size = next(iter(options.networks.items()))
    accelerator = make_accelerator("bf16")
    loaded = load_classifier(network, fresh=True, image_size=size).classifier
    freeze(loaded)
    loaded.to(accelerator.device)
    config = make_config(options.batch_size)
    steps = training_steps(loaded, config, size, accelerator)
    return options.batch_size / seconds_per_step(steps, options.steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--tiny", action="store_true", help="a toy size, for a CPU")
    parser.add_argument("--part", choices=["all", "rate"], default="all")
    options = parser.parse_args()
    options.networks = {"vit-tiny": 32, "convnextv2-atto": 32} if options.tiny else NETWORKS
    options.batch_size, options.steps = (8, 3) if options.tiny else (BATCH, STEPS)
    if options.part == "rate":
        print(rate(options))
        return
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor()
    rows = [f"{time.strftime('%Y-%m-%d')}, {device}, torch {torch.__version__}", ""]
    with tempfile.TemporaryDirectory() as folder:
        for part in (
            network_rows(options), dann_rows(options), resumption_rows(Path(folder)),
            sharing_rows(options),
        ):  # fmt: skip
            for row in part:
                print(row, flush=True)
                rows.append(row)
            rows.append("")
    if options.out:
        options.out.write_text("\n".join(rows))


if __name__ == "__main__":
    main()
