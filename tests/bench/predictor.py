"""The predictor against the transformers pipeline, on the same model and images.

    python tests/bench/predictor.py MODEL DATASET [--runtime auto] [--num-images 200] [--turns 5]
        [--pipeline-batch 1] [--labeled 1000] [--agreement 10000] [--bf16] [--clock cpu]

Bulk: images/s from encoded bytes to predictions, including decoding on both sides; the pipeline
gets the 25 um crops that it requires. Latency: one crop, warm. Agreement: the default runtime
against torch in fp32 on up to --agreement cells, as top-1 agreement and the largest difference in
probability. With --bf16, also its speed, and macro-F1 of both on labeled cells; if no runtime has
hardware support for bf16, its speed is meaningless, and torch measures the accuracy loss. The sides
take turns; a ratio is the median over pairs of turns, and --turns 0 skips them.
"""

import argparse
import io
import statistics
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from scipy.special import softmax
from transformers import pipeline
from turns import CLOCKS, Clock

from hf_wbc.data.crop import crop_and_resize
from hf_wbc.data.dataset import DomainSplit, load_split
from hf_wbc.data.image_io import decode_rgb
from hf_wbc.data.schema import SPLITS
from hf_wbc.engine.forward import Runtime
from hf_wbc.inference.batch_predict import bf16_degradation, describe_degradation
from hf_wbc.inference.predictor import Predictor
from hf_wbc.inference.runtime import apply_head, run_runtime
from hf_wbc.inference.select_runtime import choose_runtime

Turn = Callable[[], object]


def main() -> None:
    arguments = parse()
    predictor, clock = Predictor.load(arguments.model, arguments.runtime), CLOCKS[arguments.clock]
    pipe = pipeline("image-classification", arguments.model, device="cpu")
    domain = load_split(arguments.dataset, "test")
    data = encoded(domain, np.linspace(0, len(domain) - 1, arguments.num_images).astype(int))
    print(f"{predictor.runtime_choice.to_dict()}\n{torch.get_num_threads()} threads")

    def piped() -> None:
        images = [Image.open(io.BytesIO(each)).convert("RGB") for each in data]
        pipe(images, top_k=11, batch_size=arguments.pipeline_batch)

    sides = {"bulk, fp32": lambda: bulk(predictor, predictor.runtime_choice.runtime, domain, data)}
    if arguments.bf16:
        fast, is_fast = bf16_runtime(predictor)
        if is_fast:
            sides["bulk, bf16"] = lambda: bulk(predictor, fast, domain, data)
    for name, turn in sides.items():
        compare(name, piped, turn, arguments.turns, len(data), clock)
    one = Image.open(io.BytesIO(data[0])).convert("RGB")
    compare(
        "one cell, with all that the page says",
        lambda: pipe(one, top_k=11),
        lambda: predictor.predict([one], domain.um_per_px),
        4 * arguments.turns,
        1,
        clock,
    )
    agreement(predictor, arguments.dataset, arguments.agreement)
    if arguments.bf16:
        known = np.flatnonzero(domain.labels >= 0)
        rows = known[:: max(1, len(known) // arguments.labeled)][: arguments.labeled]
        cost = bf16_degradation(
            lambda s: answer(predictor, predictor.runtime_choice.runtime, s),
            lambda s: answer(predictor, fast, s),
            crops_of(predictor, domain, encoded(domain, rows)),
            domain.labels[rows],
        )
        print(f"{fast.name} {fast.version}: {describe_degradation(cost)}")


def bulk(predictor: Predictor, runtime: Runtime, domain: DomainSplit, data: list[bytes]) -> None:
    """Predict logits from bytes, as `hf-wbc predict` does."""
    answer(predictor, runtime, crops_of(predictor, domain, data))


def crops_of(predictor: Predictor, domain: DomainSplit, data: list[bytes]) -> np.ndarray:
    return np.stack(
        [
            crop_and_resize(decode_rgb(each, ""), domain.um_per_px, predictor.geometry)
            for each in data
        ]
    )


def answer(predictor: Predictor, runtime: Runtime, crops: np.ndarray) -> np.ndarray:
    """Return logits (N, 11)."""
    how, _ = predictor.preprocessing_for(crops)
    classifier = predictor.pretrained.classifier
    return apply_head(classifier, run_runtime(runtime, crops, how, torch.device("cpu")))


def bf16_runtime(predictor: Predictor) -> tuple[Runtime, bool]:
    """Return the bf16 runtime, and whether the hardware supports bf16."""
    pretrained = predictor.pretrained
    try:
        return choose_runtime(
            pretrained.classifier, pretrained.preprocessing, "auto", "bf16"
        ).runtime, True
    except ValueError as error:
        print(f"bf16: {error}", flush=True)
    return choose_runtime(
        pretrained.classifier, pretrained.preprocessing, "torch", "bf16"
    ).runtime, False


def agreement(predictor: Predictor, dataset: str, at_most: int) -> None:
    """Compare the runtime with torch in fp32 on cells of all splits."""
    pretrained = predictor.pretrained
    exact = choose_runtime(pretrained.classifier, pretrained.preprocessing, "torch").runtime
    same, num, worst = 0, 0, 0.0
    for split in SPLITS:
        domain = load_split(dataset, split)
        for start in range(0, len(domain), 256):
            rows = np.arange(start, min(start + 256, len(domain)))[: at_most - num]
            if not len(rows):
                break
            crops = crops_of(predictor, domain, encoded(domain, rows))
            found = [answer(predictor, e, crops) for e in (exact, predictor.runtime_choice.runtime)]
            a, b = (softmax(logits.astype(np.float64), axis=1) for logits in found)
            same += int((a.argmax(1) == b.argmax(1)).sum())
            worst, num = max(worst, float(np.abs(a - b).max())), num + len(rows)
    print(f"agreement on {num:,} cells: top-1 {same / max(num, 1):.4%}, probabilities {worst:.2g}")


def encoded(domain: DomainSplit, rows: np.ndarray) -> list[bytes]:
    images = domain.dataset.with_format("arrow")[rows.tolist()]["image"].to_pylist()
    return [image["bytes"] for image in images]


def compare(name: str, base: Turn, other: Turn, turns: int, num_images: int, clock: Clock) -> None:
    """Take turns after a warm-up turn of each; the starting side alternates."""
    if not turns:
        return
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(turns + 1):
        for side in (0, 1) if turn % 2 else (1, 0):
            start = clock()
            (base, other)[side]()
            if turn:
                seconds[side].append(clock() - start)
    ratios = sorted(a / b for a, b in zip(*seconds, strict=True))
    rates = [num_images / statistics.median(side) for side in seconds]
    print(
        f"{name}: pipeline {rates[0]:.1f}/s, here {rates[1]:.1f}/s, ratio "
        f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})",
        flush=True,
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("dataset")
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--num-images", type=int, default=200)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--pipeline-batch", type=int, default=1)
    parser.add_argument("--labeled", type=int, default=1000)
    parser.add_argument("--agreement", type=int, default=10_000)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    return parser.parse_args()


if __name__ == "__main__":
    main()
