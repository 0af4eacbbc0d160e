"""Input throughput in images/s against the approach of the libraries' own example.

    python tests/bench/input.py [--data build/acevedo_20] [--rounds 7]

The example decodes each image and resizes and augments it in Pillow, sample by sample
(`set_transform`, a DataLoader without workers). Our loader reads cached pixels and augments whole
batches. Both run in one process on one CPU thread and take turns; a ratio is the median over the
rounds.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchvision.transforms import v2

sys.path.append(str(Path(__file__).resolve().parents[1]))

from conftest import write_domain

from hf_wbc.config import AUGMENTATIONS
from hf_wbc.data.crop import Geometry
from hf_wbc.data.dataset import DomainSplit, load_split
from hf_wbc.data.loader import BatchLoader, LoaderConfig
from hf_wbc.data.pixel_cache import cache_pixels
from hf_wbc.data.preprocessing import ImagePreprocessing

BATCH, SIZE, BILINEAR = 64, 224, 2
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
STRENGTH = AUGMENTATIONS["light"]
Batches = Iterator[Any]


class QuarterTurn:
    """Rotate by 0, 90, 180, or 270 degrees without interpolation."""

    def __call__(self, image: Any) -> Any:
        turns = int(torch.randint(4, ()))
        return image.rotate(90 * turns) if turns else image


def same_changes() -> v2.Compose:
    """Return the transforms of the light augmentation for single Pillow images."""
    return v2.Compose(
        [
            v2.Resize((SIZE, SIZE), v2.InterpolationMode.BILINEAR),
            v2.RandomHorizontalFlip(),
            v2.RandomVerticalFlip(),
            QuarterTurn(),
            v2.RandomAffine(
                degrees=STRENGTH.rotation_deg,
                translate=(STRENGTH.shift_um / 25, STRENGTH.shift_um / 25),
                scale=(1 - STRENGTH.scale_um / 25, 1 + STRENGTH.scale_um / 25),
                interpolation=v2.InterpolationMode.BILINEAR,
            ),
            v2.ColorJitter(
                STRENGTH.brightness, STRENGTH.contrast, STRENGTH.saturation, STRENGTH.hue
            ),
            *to_normalized(),
        ]
    )


def crop_and_flip() -> v2.Compose:
    """Return the training transform of transformers' run_image_classification.py."""
    return v2.Compose([v2.RandomResizedCrop(SIZE), v2.RandomHorizontalFlip(), *to_normalized()])


def to_normalized() -> list[Callable[[Any], Any]]:
    return [v2.ToImage(), v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]


def example(domain: DomainSplit, transform: v2.Compose) -> Batches:
    """Yield batches of the example endlessly."""

    def change(rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        images = [transform(image.convert("RGB")) for image in rows["image"]]
        return {"pixel_values": images, "label": rows["label"]}

    changed = domain.dataset.select_columns(["image", "label"]).with_transform(change)
    loader = DataLoader(changed, batch_size=BATCH, shuffle=True, drop_last=True)  # type: ignore[arg-type]
    while True:
        yield from loader


def ours(stream: BatchLoader) -> Batches:
    """Yield our batches endlessly."""
    step = 0
    while True:
        yield stream.batch(step)
        step += 1


def uint8_only(domain: DomainSplit) -> Iterator[Tensor]:
    """Yield uint8 pixels endlessly, with augmentation left to the device."""
    table = cache_pixels(domain, Geometry(SIZE, BILINEAR))
    rng = np.random.default_rng(0)
    while True:
        yield table.batch(rng.integers(0, len(table), BATCH))


def rate(batches: Batches, num: int) -> float:
    """Return images/s over `num` batches."""
    start = time.perf_counter()
    for _ in range(num):
        next(batches)
    return num * BATCH / (time.perf_counter() - start)


def compare(name: str, slow: Batches, fast: Batches, rounds: int, num_fast: int) -> None:
    """Print both medians and the median ratio, after a warm-up round."""
    rate(slow, 1), rate(fast, num_fast)
    pairs = [(rate(slow, 2), rate(fast, num_fast)) for _ in range(rounds)]
    ratios = sorted(fast / slow for slow, fast in pairs)
    medians = [statistics.median(side) for side in zip(*pairs, strict=True)]
    print(
        f"| {name} | {medians[0]:,.0f} | {medians[1]:,.0f} | {statistics.median(ratios):.1f} "
        f"| {ratios[0]:.1f}..{ratios[-1]:.1f} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="a prepared folder; none draws 512 images")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.data
        if folder is None:
            folder = write_domain(
                Path(scratch) / "drawn", "drawn", {"train": 48, "validation": 1, "test": 1}, 0.1
            )
        domain = load_split(str(folder), "train")
        table = cache_pixels(domain, Geometry(SIZE, BILINEAR))
        stream = BatchLoader(
            table,
            None,
            LoaderConfig(batch_size=BATCH, num_steps=1, augmentation=STRENGTH),
            preprocessing={domain.name: ImagePreprocessing(MEAN, STD)},
        )
        print(f"{len(domain)} images of {domain.name}, batches of {BATCH}, {SIZE} px, one thread")
        print("| task | example, images/s | ours, images/s | ratio | lowest..highest |")
        print("|---|---|---|---|---|")
        slow = example(domain, same_changes())
        compare("all changes, normalized", slow, ours(stream), arguments.rounds, 8)
        slow = example(domain, crop_and_flip())
        compare("uint8 against crop and flip", slow, uint8_only(domain), arguments.rounds, 64)


if __name__ == "__main__":
    datasets.disable_progress_bars()
    main()
